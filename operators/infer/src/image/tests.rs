//! Images that are what they should be, and files that are not.

use super::{decode::Limits, *};
use serde_json::{Value, json};
use std::io::Write as _;

const LIMITS: Limits = Limits { bytes: 1 << 20, pixels: 1 << 20 };
const COLOUR: &[u8] = include_bytes!("../../tests/images/colour.jpg");
const GREY: &[u8] = include_bytes!("../../tests/images/grey.jpg");
const PROGRESSIVE: &[u8] = include_bytes!("../../tests/images/progressive.jpg");
const CMYK: &[u8] = include_bytes!("../../tests/images/cmyk.jpg");

/// Colour types of PNG.
const GREYS: u8 = 0;
const COLOURS: u8 = 2;
const PALETTE: u8 = 3;
const GREYS_ALPHA: u8 = 4;
const COLOURS_ALPHA: u8 = 6;

/// A PNG: rows of so many bytes, none filtered.
fn png_of((width, height): (u32, u32), kind: u8, depth: u8, data: &[u8], palette: &[u8]) -> Vec<u8> {
    let header = [&width.to_be_bytes()[..], &height.to_be_bytes(), &[depth, kind, 0, 0, 0]].concat();
    let row = (data.len() / height as usize).max(1);
    let rows: Vec<u8> = data.chunks(row).flat_map(|row| [&[0], row].concat()).collect();
    let mut packer = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
    packer.write_all(&rows).unwrap();
    let mut file = b"\x89PNG\r\n\x1a\n".to_vec();
    file.extend(chunk(b"IHDR", &header));
    // An animation and a text, which nobody needs.
    file.extend(chunk(b"acTL", &[0, 0, 0, 1, 0, 0, 0, 0]));
    file.extend(chunk(b"zTXt", b"Comment\0\0no zlib"));
    if !palette.is_empty() {
        file.extend(chunk(b"PLTE", palette));
    }
    file.extend(chunk(b"IDAT", &packer.finish().unwrap()));
    file.extend(chunk(b"IEND", b""));
    file
}

fn chunk(kind: &[u8; 4], content: &[u8]) -> Vec<u8> {
    let mut sum = flate2::Crc::new();
    sum.update(kind);
    sum.update(content);
    [&(content.len() as u32).to_be_bytes()[..], kind, content, &sum.sum().to_be_bytes()].concat()
}

fn grey_png(width: u32, height: u32, data: &[u8]) -> Vec<u8> {
    png_of((width, height), GREYS, 8, data, &[])
}

fn plan(options: Value, dims: &[usize]) -> Result<ImagePlan, Vec<String>> {
    let options: ImageOptions = serde_json::from_value(options).unwrap();
    let mut errors = Vec::new();
    let plan = options.plan("/input/image", ("x f32[n]", dims), (1.0, 0.0), &mut errors);
    plan.ok_or_else(|| errors.into_iter().map(|e| format!("{}: {}", e.pointer, e.message)).collect())
}

fn read(options: Value, dims: &[usize], bytes: &[u8]) -> Result<Vec<f32>, String> {
    let mut out = Vec::new();
    plan(options, dims).unwrap().read(bytes, &mut out).map(|()| out)
}

#[test]
fn every_kind_of_png_becomes_grey_or_three_colours() {
    let of = |kind, depth, data: &[u8], palette: &[u8]| {
        let pixels = decode::decode(&png_of((2, 1), kind, depth, data, palette), LIMITS).unwrap();
        (pixels.channels, pixels.data)
    };
    assert_eq!(of(GREYS, 8, &[1, 200], &[]), (1, vec![1, 200]));
    assert_eq!(of(GREYS, 1, &[0b0100_0000], &[]), (1, vec![0, 255]));
    assert_eq!(of(GREYS, 16, &[1, 9, 200, 9], &[]), (1, vec![1, 200]));
    assert_eq!(of(GREYS_ALPHA, 8, &[1, 0, 200, 255], &[]), (1, vec![1, 200]));
    assert_eq!(of(COLOURS, 8, &[1, 2, 3, 4, 5, 6], &[]), (3, vec![1, 2, 3, 4, 5, 6]));
    assert_eq!(of(COLOURS_ALPHA, 8, &[1, 2, 3, 0, 4, 5, 6, 9], &[]), (3, vec![1, 2, 3, 4, 5, 6]));
    assert_eq!(of(PALETTE, 8, &[1, 0], &[1, 2, 3, 4, 5, 6]), (3, vec![4, 5, 6, 1, 2, 3]));
}

#[test]
fn jpegs_of_all_colours_are_read_whether_progressive_or_not() {
    let close = |pixel: &[u8], expected: &[u8]| {
        let near = pixel.iter().zip(expected).all(|(a, b)| a.abs_diff(*b) <= 3);
        assert!(near, "{pixel:?} is not {expected:?}");
    };
    for file in [COLOUR, PROGRESSIVE] {
        let pixels = decode::decode(file, LIMITS).unwrap();
        assert_eq!((pixels.width, pixels.height, pixels.channels), (16, 8, 3));
        close(&pixels.data[..3], &[220, 30, 20]);
        close(&pixels.data[45..48], &[20, 40, 200]);
    }
    let grey = decode::decode(GREY, LIMITS).unwrap();
    assert_eq!((grey.width, grey.height, grey.channels), (16, 8, 1));
    close(&[grey.data[0], grey.data[15]], &[50, 200]);
    let print = decode::decode(CMYK, LIMITS).unwrap();
    close(&print.data[..3], &[220, 30, 20]);
}

/// A PNG of a few bytes that says it has so many pixels.
fn claims(width: u32, height: u32) -> Vec<u8> {
    png_of((width, height), COLOURS, 8, &[0; 8], &[])
}

#[test]
fn what_claims_more_than_is_allowed_is_refused_before_it_is_decoded() {
    let refused = |bytes: &[u8]| decode::decode(bytes, LIMITS).unwrap_err();
    assert_eq!(
        refused(&claims(60_000, 60_000)),
        "the image has 60000 x 60000 pixels, and may have 1048576 in all"
    );
    assert!(refused(&claims(4_294_967_000, 4_294_967_000)).starts_with("the image has 4294967000 x "));
    // The pixels that are there decide what is inflated.
    assert!(refused(&png_of((2, 2), GREYS, 8, &[0; 5000], &[])).starts_with("broken PNG: "));
    // Height and width of the frame header.
    let mut bomb = COLOUR.to_vec();
    let at = bomb.windows(2).position(|two| two == [0xff, 0xc0]).unwrap();
    bomb[at + 5..at + 9].copy_from_slice(&[0xff, 0xdc, 0xff, 0xdc]);
    assert_eq!(refused(&bomb), "the image has 65500 x 65500 pixels, and may have 1048576 in all");
    let limits = Limits { bytes: 100, ..LIMITS };
    assert_eq!(decode::decode(COLOUR, limits).unwrap_err(), "the image has 290 bytes, and may have 100");
}

#[test]
fn no_file_that_is_cut_off_or_another_kind_passes() {
    let grey = grey_png(8, 8, &[7; 64]);
    for (file, kind) in
        [(&grey[..], "broken PNG: "), (COLOUR, "broken JPEG: "), (PROGRESSIVE, "broken JPEG: ")]
    {
        for length in 4..file.len() - 20 {
            let cut = decode::decode(&file[..length], LIMITS);
            assert!(cut.as_ref().is_err_and(|why| why.starts_with(kind)), "{length}: {cut:?}");
        }
    }
    for (bytes, why) in [
        (&b""[..], "neither PNG nor JPEG: it is empty"),
        (b"GIF89a", "neither PNG nor JPEG: it is a GIF"),
        (b"RIFF1234WEBPVP8 ", "neither PNG nor JPEG: it is a WebP"),
        (b"{\"a\":1}", "neither PNG nor JPEG: it begins with the bytes 7b 22 61 22"),
    ] {
        assert_eq!(decode::decode(bytes, LIMITS).unwrap_err(), why);
    }
}

const EXPECTED: [(&str, [f32; 6]); 4] = [
    ("nearest", [98.0, 172.0, 246.0, 220.0, 38.0, 112.0]),
    ("bilinear", [70.0, 132.0, 171.0, 150.0, 123.0, 94.0]),
    ("bicubic", [57.0, 135.0, 182.0, 160.0, 122.0, 84.0]),
    ("lanczos", [53.0, 140.0, 184.0, 164.0, 124.0, 84.0]),
];

/// Six by four pixels; what they become was computed with another library (Pillow 12).
#[test]
fn sizes_change_by_the_method_that_is_named() {
    let data: Vec<u8> = (0..24).map(|i| (i % 6 * 37 + i / 6 * 61) as u8).collect();
    let file = grey_png(6, 4, &data);
    for (method, expected) in EXPECTED {
        let made = read(json!({ "resize": method }), &[1, 2, 3], &file).unwrap();
        let near = made.iter().zip(expected).all(|(a, b)| (a - b).abs() <= 1.0);
        assert!(near, "{method}: {made:?} is not {expected:?}");
    }
}

#[test]
fn another_aspect_is_stretched_cut_or_padded() {
    let file = grey_png(4, 2, &[10, 20, 30, 40, 10, 20, 30, 40]);
    let read = |fit: &str| {
        read(json!({ "fit": fit, "resize": "nearest", "width": 2, "height": 2 }), &[4], &file).unwrap()
    };
    assert_eq!(read("stretch"), [20.0, 40.0, 20.0, 40.0]);
    assert_eq!(read("crop"), [20.0, 30.0, 20.0, 30.0]);
    let pad = read("pad");
    assert_eq!((pad[0] > 0.0, &pad[2..]), (true, &[0.0, 0.0][..]), "{pad:?}");
    assert_eq!(inside((100, 50), (20, 20)), (20, 10));
    assert_eq!(inside((1, 5000), (20, 20)), (1, 20));
    assert_eq!(inside((640, 480), (224, 224)), (224, 168));
}

#[test]
fn a_pixel_is_normalised_and_stands_where_the_layout_says() {
    let data = [1, 2, 3, 4, 5, 6];
    let file = png_of((2, 1), COLOURS, 8, &data, &[]);
    let of = |options: Value, dims: &[usize]| read(options, dims, &file).unwrap();
    assert_eq!(of(json!({}), &[3, 1, 2]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(of(json!({ "layout": "nhwc" }), &[1, 2, 3]), [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    assert_eq!(
        of(json!({ "layout": "nhwc", "channels": "bgr" }), &[1, 2, 3]),
        [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]
    );
    let each = json!({ "mean": [1, 2, 3], "std": [1, 2, 0.5] });
    assert_eq!(of(each, &[3, 1, 2]), [0.0, 3.0, 0.0, 1.5, 0.0, 6.0]);
    // 0.299 * 1 + 0.587 * 2 + 0.114 * 3 = 1.815
    assert_eq!(of(json!({ "mean": 1 }), &[1, 1, 2]), [1.0, 4.0]);
    let grey = grey_png(1, 1, &[9]);
    assert_eq!(read(json!({}), &[3, 1, 1], &grey).unwrap(), [9.0, 9.0, 9.0]);
}

#[test]
fn options_that_do_not_fit_the_tensor_are_named() {
    for (options, dims, expected) in [
        (json!({}), &[64][..], "/input/image: the tensor is flat, so `width` and `height` are needed"),
        (json!({ "width": 9, "height": 8 }), &[64], "/input/image: 9 x 8 pixels do not fit a tensor of [64]"),
        (
            json!({}),
            &[224, 224, 3],
            "/input/image: the tensor of [224, 224, 3] has 224 channels in this layout, where 1 or 3 are an image",
        ),
        (
            json!({ "channels": "rgb" }),
            &[1, 8, 8],
            "/input/image: 3 for each pixel were asked for, the tensor of [1, 8, 8] has 1 in this layout",
        ),
        (
            json!({ "width": 9 }),
            &[1, 8, 8],
            "/input/image: the tensor has 8 x 8 pixels, not what `width` and `height` say",
        ),
        (json!({ "width": 0 }), &[1, 8, 8], "/input/image/width: 0 is not between 1 and 16384"),
        (json!({ "mean": [1, 2] }), &[3, 8, 8], "/input/image/mean: 2 numbers are given for 3 channels"),
        (json!({ "std": 0 }), &[3, 8, 8], "/input/image/std: nothing can be divided by 0"),
        (json!({ "maxPixels": 0 }), &[3, 8, 8], "/input/image/maxPixels: 0 is not between 1 and 268435456"),
        (
            json!({}),
            &[2, 3, 8, 8],
            "/input/image: an image does not fit a tensor of [2, 3, 8, 8] for each record",
        ),
    ] {
        let found = plan(options, dims).unwrap_err();
        assert_eq!(found.first().map(String::as_str), Some(expected), "{dims:?}");
    }
}
