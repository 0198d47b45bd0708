//! Pixels out of PNG and JPEG files that strangers sent.
//!
//! What a file claims is looked at before anything of its size is reserved: a few hundred bytes can claim gigabytes.

use zune_jpeg::{
    JpegDecoder,
    zune_core::{
        bytestream::ZCursor, colorspace::ColorSpace, options::DecoderOptions, result::DecodingResult,
    },
};
use zune_png::PngDecoder;

/// Passes over a progressive JPEG. Encoders make about ten; a file with thousands only burns time.
const JPEG_SCANS: usize = 64;

/// What a file may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Limits {
    /// Bytes of the file.
    pub bytes: usize,
    /// Pixels once it is decoded.
    pub pixels: usize,
}

/// An image, 8 bits a channel, row by row.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Pixels {
    pub width: usize,
    pub height: usize,
    /// 1: grey. 3: red, green, blue.
    pub channels: usize,
    pub data: Vec<u8>,
}

/// Decode what the bytes turn out to be. The error says what is wrong with them.
pub(crate) fn decode(bytes: &[u8], limits: Limits) -> Result<Pixels, String> {
    if bytes.len() > limits.bytes {
        return Err(format!("the image has {} bytes, and may have {}", bytes.len(), limits.bytes));
    }
    match bytes {
        [0x89, b'P', b'N', b'G', ..] => png(bytes, limits).map_err(|why| format!("broken PNG: {why}")),
        [0xff, 0xd8, 0xff, ..] => jpeg(bytes, limits).map_err(|why| format!("broken JPEG: {why}")),
        _ => Err(format!("neither PNG nor JPEG: {}", stranger(bytes))),
    }?
    .within(limits)
}

/// What a decoder found before it decodes: the pixels, or how large they would be.
enum Found {
    Pixels(Pixels),
    TooLarge(usize, usize),
}

impl Found {
    fn within(self, limits: Limits) -> Result<Pixels, String> {
        match self {
            Self::Pixels(pixels) => Ok(pixels),
            Self::TooLarge(width, height) => {
                Err(format!("the image has {width} x {height} pixels, and may have {} in all", limits.pixels))
            }
        }
    }
}

fn fits(width: usize, height: usize, limits: Limits) -> bool {
    width.checked_mul(height).is_some_and(|pixels| pixels <= limits.pixels)
}

fn stranger(bytes: &[u8]) -> String {
    match bytes {
        [] => "it is empty".into(),
        [b'G', b'I', b'F', b'8', ..] => "it is a GIF".into(),
        [b'R', b'I', b'F', b'F', _, _, _, _, b'W', b'E', b'B', b'P', ..] => "it is a WebP".into(),
        [b'B', b'M', ..] => "it looks like a BMP".into(),
        [b'I', b'I', 42, 0, ..] | [b'M', b'M', 0, 42, ..] => "it is a TIFF".into(),
        _ => {
            let first: Vec<String> = bytes.iter().take(4).map(|byte| format!("{byte:02x}")).collect();
            format!("it begins with the bytes {}", first.join(" "))
        }
    }
}

fn png(bytes: &[u8], limits: Limits) -> Result<Found, String> {
    let needed = needed_chunks(bytes)?;
    let side = |at: usize| {
        // Width and height are the first of the header, which is the first chunk: 8 bytes of mark, 8 of the chunk.
        let four = needed.get(at..at + 4).and_then(|four| four.try_into().ok());
        four.map_or(0, u32::from_be_bytes) as usize
    };
    let (width, height) = (side(16), side(20));
    if !fits(width, height, limits) {
        return Ok(Found::TooLarge(width, height));
    }
    // 16 bits become 8, and a palette becomes colours.
    let options = DecoderOptions::default()
        .set_max_width(usize::MAX)
        .set_max_height(usize::MAX)
        .set_strict_mode(true)
        .png_set_confirm_crc(true)
        .inflate_set_confirm_adler(true)
        .png_set_strip_to_8bit(true);
    let mut decoder = PngDecoder::new_with_options(ZCursor::new(&needed), options);
    decoder.decode_headers().map_err(|e| shown(&e))?;
    let colours = decoder.colorspace().ok_or("it has no header")?;
    let DecodingResult::U8(data) = decoder.decode().map_err(|e| shown(&e))? else {
        return Err("its 16 bits did not become 8".into());
    };
    let (channels, alpha) = match colours {
        ColorSpace::Luma => (1, false),
        ColorSpace::LumaA => (1, true),
        ColorSpace::RGB => (3, false),
        ColorSpace::RGBA => (3, true),
        other => return Err(format!("it has the colours {other:?}")),
    };
    let data = if alpha { without_alpha(&data, channels) } else { data };
    Ok(Found::Pixels(Pixels { width, height, channels, data }))
}

/// The file with its pixels alone. Texts and profiles in other chunks are compressed, so each may be a bomb of its own;
/// frames of an animation are not wanted, and neither is what would add transparency.
fn needed_chunks(file: &[u8]) -> Result<Vec<u8>, String> {
    const MARK: &[u8] = b"\x89PNG\r\n\x1a\n";
    let mut rest = file.strip_prefix(MARK).ok_or("its mark is damaged")?;
    let mut needed = MARK.to_vec();
    loop {
        let cut = || format!("it ends at byte {}", file.len());
        let length = rest.first_chunk::<4>().map(|four| u32::from_be_bytes(*four) as usize);
        // Length, kind, content, checksum.
        let whole = length.and_then(|length| length.checked_add(12)).ok_or_else(cut)?;
        let (chunk, after) = rest.split_at_checked(whole).ok_or_else(cut)?;
        let kind = &chunk[4..8];
        if needed.len() == MARK.len() && (kind != b"IHDR" || whole != 25) {
            return Err("it does not begin with a header".into());
        }
        if matches!(kind, b"IHDR" | b"PLTE" | b"IDAT" | b"IEND") {
            needed.extend_from_slice(chunk);
        }
        if kind == b"IEND" {
            return Ok(needed);
        }
        rest = after;
    }
}

/// What a decoder says, on one line.
fn shown(error: &dyn std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    line.trim_matches('"').to_owned()
}

/// How opaque a pixel is does not matter to a model.
fn without_alpha(data: &[u8], channels: usize) -> Vec<u8> {
    data.chunks_exact(channels + 1).flat_map(|pixel| pixel[..channels].iter().copied()).collect()
}

fn jpeg(bytes: &[u8], limits: Limits) -> Result<Found, String> {
    let options = DecoderOptions::default()
        // The only bound is the number of pixels.
        .set_max_width(usize::from(u16::MAX))
        .set_max_height(usize::from(u16::MAX))
        .jpeg_set_max_scans(JPEG_SCANS)
        // Half an image with grey below must not pass for the whole.
        .set_strict_mode(true)
        .jpeg_set_out_colorspace(ColorSpace::RGB);
    let mut decoder = JpegDecoder::new_with_options(ZCursor::new(bytes), options);
    decoder.decode_headers().map_err(|e| shown(&e))?;
    let info = decoder.info().ok_or("it has no header")?;
    let (width, height) = (usize::from(info.width), usize::from(info.height));
    if !fits(width, height, limits) {
        return Ok(Found::TooLarge(width, height));
    }
    if decoder.input_colorspace() == Some(ColorSpace::Luma) {
        decoder.set_options(options.jpeg_set_out_colorspace(ColorSpace::Luma));
    }
    let data = decoder.decode().map_err(|e| shown(&e))?;
    let channels = match data.len().checked_div(width * height) {
        Some(channels @ (1 | 3)) => channels,
        other => return Err(format!("{} bytes of pixels a pixel", other.unwrap_or_default())),
    };
    Ok(Found::Pixels(Pixels { width, height, channels, data }))
}
