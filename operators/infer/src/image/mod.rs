//! From an image file to the numbers of a tensor: decode, colours, resize, normalise, layout.

pub(crate) mod decode;
mod options;

pub(crate) use options::ImageOptions;

use decode::Pixels;
use fast_image_resize::{
    FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer,
    images::{Image, ImageRef},
};
use schemars::JsonSchema;
use serde::Deserialize;
use std::cell::RefCell;

/// How an image is made as large as the model wants it. All but `nearest` blend all pixels that fall into one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Resize {
    /// The nearest pixel.
    Nearest,
    /// A triangle.
    #[default]
    Bilinear,
    /// Catmull-Rom.
    Bicubic,
    /// Lanczos with three lobes.
    Lanczos,
}

/// What happens to an image of another aspect.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Fit {
    /// It is stretched.
    #[default]
    Stretch,
    /// Its middle is taken.
    Crop,
    /// All of it is taken, with black beside it.
    Pad,
}

/// Which colours a pixel has, in the tensor's order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Channels {
    /// Brightness alone.
    Grey,
    /// Red, green, blue.
    Rgb,
    /// Blue, green, red.
    Bgr,
}

impl Channels {
    /// Numbers a pixel has.
    pub fn count(self) -> usize {
        if self == Self::Grey { 1 } else { 3 }
    }
}

/// Which index of the tensor moves fastest.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Layout {
    /// Channel, row, column.
    #[default]
    Nchw,
    /// Row, column, channel.
    Nhwc,
}

/// What becomes of an image, checked against the model.
#[derive(Debug)]
pub(crate) struct ImagePlan {
    pub limits: decode::Limits,
    pub width: usize,
    pub height: usize,
    pub resize: Resize,
    pub fit: Fit,
    pub channels: Channels,
    pub layout: Layout,
    /// For each channel of the tensor, the number that each of the 256 values becomes.
    pub numbers: Vec<[f32; 256]>,
}

thread_local! {
    /// Keeps its tables from image to image.
    static RESIZER: RefCell<Resizer> = RefCell::default();
}

impl ImagePlan {
    /// Append the tensor of an image. The error says what is wrong with its bytes.
    pub fn read(&self, bytes: &[u8], out: &mut Vec<f32>) -> Result<(), String> {
        let pixels = decode::decode(bytes, self.limits)?;
        let pixels = coloured(pixels, self.channels);
        let pixels = self.resized(pixels)?;
        self.lay_out(&pixels, out);
        Ok(())
    }

    fn resized(&self, pixels: Pixels) -> Result<Pixels, String> {
        if (pixels.width, pixels.height) == (self.width, self.height) {
            return Ok(pixels);
        }
        let (width, height) = match self.fit {
            Fit::Pad => inside((pixels.width, pixels.height), (self.width, self.height)),
            Fit::Stretch | Fit::Crop => (self.width, self.height),
        };
        let made = scale(&pixels, width, height, self.resize, self.fit == Fit::Crop)?;
        let made = Pixels { width, height, channels: pixels.channels, data: made };
        Ok(if self.fit == Fit::Pad { padded(&made, self.width, self.height) } else { made })
    }

    fn lay_out(&self, pixels: &Pixels, out: &mut Vec<f32>) {
        // The tensor's channel `c` is the image's `from(c)`.
        let from = |c: usize| if self.channels == Channels::Bgr { 2 - c } else { c };
        match self.layout {
            Layout::Nchw => {
                for (c, numbers) in self.numbers.iter().enumerate() {
                    let plane = pixels.data.iter().skip(from(c)).step_by(pixels.channels);
                    out.extend(plane.map(|value| numbers[usize::from(*value)]));
                }
            }
            Layout::Nhwc => {
                for pixel in pixels.data.chunks_exact(pixels.channels) {
                    let numbers = self.numbers.iter().enumerate();
                    out.extend(numbers.map(|(c, numbers)| numbers[usize::from(pixel[from(c)])]));
                }
            }
        }
    }
}

/// As many colours as are wanted: grey spreads to three, three become their brightness (ITU-R BT.601, as JPEG has it).
fn coloured(pixels: Pixels, wanted: Channels) -> Pixels {
    let Pixels { width, height, channels, data } = pixels;
    let data = match (channels, wanted.count()) {
        (1, 3) => data.iter().flat_map(|value| [*value; 3]).collect(),
        (3, 1) => data.chunks_exact(3).map(brightness).collect(),
        _ => data,
    };
    Pixels { width, height, channels: wanted.count(), data }
}

fn brightness(pixel: &[u8]) -> u8 {
    let weigh = |at: usize, weight: u32| u32::from(pixel[at]) * weight;
    // 0.299, 0.587 and 0.114 in 65536ths, rounded.
    ((weigh(0, 19595) + weigh(1, 38470) + weigh(2, 7471) + (1 << 15)) >> 16) as u8
}

/// The largest size of an aspect within another size.
fn inside((width, height): (usize, usize), (most_wide, most_high): (usize, usize)) -> (usize, usize) {
    let of = |part: usize, whole: usize, of: usize| {
        let scaled = (part as f64 * of as f64 / whole as f64).round() as usize;
        scaled.max(1)
    };
    if width as u64 * most_high as u64 > height as u64 * most_wide as u64 {
        (most_wide, of(height, width, most_wide).min(most_high))
    } else {
        (of(width, height, most_high).min(most_wide), most_high)
    }
}

fn scale(pixels: &Pixels, width: usize, height: usize, how: Resize, crop: bool) -> Result<Vec<u8>, String> {
    let kind = if pixels.channels == 1 { PixelType::U8 } else { PixelType::U8x3 };
    let side = |n: usize| u32::try_from(n).map_err(|_| format!("{n} pixels are more than an image can have"));
    let source = ImageRef::new(side(pixels.width)?, side(pixels.height)?, &pixels.data, kind);
    let source = source.map_err(|e| format!("the image cannot be resized: {e}"))?;
    let mut target = Image::new(side(width)?, side(height)?, kind);
    let options = ResizeOptions::new().resize_alg(match how {
        Resize::Nearest => ResizeAlg::Nearest,
        Resize::Bilinear => ResizeAlg::Convolution(FilterType::Bilinear),
        Resize::Bicubic => ResizeAlg::Convolution(FilterType::CatmullRom),
        Resize::Lanczos => ResizeAlg::Convolution(FilterType::Lanczos3),
    });
    let options = if crop { options.fit_into_destination(Some((0.5, 0.5))) } else { options };
    RESIZER
        .with_borrow_mut(|resizer| resizer.resize(&source, &mut target, &options))
        .map_err(|e| format!("the image cannot be resized: {e}"))?;
    Ok(target.into_vec())
}

/// The image in the middle of a larger black one.
fn padded(pixels: &Pixels, width: usize, height: usize) -> Pixels {
    let Pixels { channels, .. } = *pixels;
    let mut data = vec![0; width * height * channels];
    let (left, top) = ((width - pixels.width) / 2, (height - pixels.height) / 2);
    let row = pixels.width * channels;
    for (y, from) in pixels.data.chunks_exact(row).enumerate() {
        let start = ((top + y) * width + left) * channels;
        data[start..start + row].copy_from_slice(from);
    }
    Pixels { width, height, channels, data }
}

#[cfg(test)]
mod tests;
