//! What the user says of images.

use super::{Channels, Fit, ImagePlan, Layout, Resize, decode::Limits};
use crate::options::between;
use pelton_sdk::OptionError;
use schemars::JsonSchema;
use serde::Deserialize;

/// An image beyond this is refused by default: 4096 x 4096, 50 MB once it is decoded.
const PIXELS: usize = 1 << 24;
/// And a file beyond this. Queues take a megabyte by default.
const BYTES: usize = 16 << 20;
/// Sides of a tensor; more is a slip of the pen, and would be gigabytes.
const SIDE: usize = 1 << 14;
/// What `maxPixels` may be raised to: 800 MB decoded.
const MOST_PIXELS: usize = 1 << 28;

/// How an image becomes a tensor.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub(crate) struct ImageOptions {
    /// Columns of the tensor; not needed where the model says.
    width: Option<usize>,
    /// Rows of the tensor; not needed where the model says.
    height: Option<usize>,
    /// How the image is made as large as that.
    resize: Resize,
    /// What happens to an image of another aspect.
    fit: Fit,
    /// Which colours; by default as many as the tensor has.
    channels: Option<Channels>,
    /// Order of the tensor's dimensions.
    layout: Layout,
    /// Taken off each number, one for all channels or one for each.
    mean: Option<OneOrEach>,
    /// Then each number is divided by this, one for all channels or one for each.
    std: Option<OneOrEach>,
    /// Images with more pixels are refused.
    max_pixels: Option<usize>,
    /// Files with more bytes are refused.
    max_bytes: Option<usize>,
}

/// One number for all channels, or one for each.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrEach {
    One(f32),
    Each(Vec<f32>),
}

impl ImageOptions {
    /// Fit them to a tensor with these dimensions (of one record) whose name and shape are `tensor`. Each value of a pixel,
    /// 0 to 255, becomes `(value * scale + offset - mean) / std`.
    pub fn plan(
        &self,
        at: &str,
        (tensor, dims): (&str, &[usize]),
        (scale, offset): (f32, f32),
        errors: &mut Vec<OptionError>,
    ) -> Option<ImagePlan> {
        let before = errors.len();
        let given = self.size(at, errors);
        let shape = self.shape(given, dims).map_err(|why| {
            let hint =
                format!("the input is `{tensor}`; set `channels`, `layout`, `width` and `height` to fit it");
            errors.push(OptionError::at(at, why).hint(hint));
        });
        let limits = Limits {
            pixels: bounded(at, "maxPixels", self.max_pixels, PIXELS, MOST_PIXELS, errors),
            bytes: bounded(at, "maxBytes", self.max_bytes, BYTES, 1 << 30, errors),
        };
        let (channels, width, height) = shape.ok()?;
        let each = |name: &str, given: &Option<OneOrEach>, default: f32, errors: &mut Vec<OptionError>| {
            per_channel(&format!("{at}/{name}"), given.as_ref(), default, channels, errors)
        };
        let mean = each("mean", &self.mean, 0.0, errors);
        let std = each("std", &self.std, 1.0, errors);
        if std.contains(&0.0) {
            errors.push(OptionError::at(format!("{at}/std"), "nothing can be divided by 0"));
        }
        let numbers = mean
            .iter()
            .zip(&std)
            .map(|(mean, std)| std::array::from_fn(|value| (value as f32 * scale + offset - mean) / std));
        let (resize, fit, layout) = (self.resize, self.fit, self.layout);
        let plan =
            ImagePlan { limits, width, height, resize, fit, channels, layout, numbers: numbers.collect() };
        let finite = plan.numbers.iter().flatten().all(|number| number.is_finite());
        if errors.len() == before && !finite {
            errors.push(OptionError::at(at, "some value of a pixel becomes no finite 32-bit number"));
        }
        (errors.len() == before).then_some(plan)
    }

    fn size(&self, at: &str, errors: &mut Vec<OptionError>) -> Option<(usize, usize)> {
        for (name, side) in [("width", self.width), ("height", self.height)] {
            if let Some(side) = side {
                between(format!("{at}/{name}"), side, SIDE, errors);
            }
        }
        self.width.zip(self.height)
    }

    /// Channels, columns and rows; the error says how the tensor differs.
    fn shape(
        &self,
        given: Option<(usize, usize)>,
        dims: &[usize],
    ) -> Result<(Channels, usize, usize), String> {
        let by_count = |count: usize| match (count, self.channels) {
            (1, None) => Some(Channels::Grey),
            (3, None) => Some(Channels::Rgb),
            (_, Some(channels)) if channels.count() == count => self.channels,
            _ => None,
        };
        let wrong = || format!("an image does not fit a tensor of {dims:?} for each record");
        let (count, size) = match (dims, self.layout) {
            ([count, height, width], Layout::Nchw) | ([height, width, count], Layout::Nhwc) => {
                (*count, (*width, *height))
            }
            ([height, width], _) => (1, (*width, *height)),
            ([all], _) => {
                let (width, height) =
                    given.ok_or("the tensor is flat, so `width` and `height` are needed")?;
                let sides = width.checked_mul(height).filter(|sides| *sides > 0).ok_or_else(wrong)?;
                if all % sides != 0 {
                    return Err(format!("{width} x {height} pixels do not fit a tensor of {dims:?}"));
                }
                (all / sides, (width, height))
            }
            _ => return Err(wrong()),
        };
        let channels = by_count(count).ok_or_else(|| match self.channels {
            Some(channels) => format!(
                "{} for each pixel were asked for, the tensor of {dims:?} has {count} in this layout",
                channels.count()
            ),
            None => format!(
                "the tensor of {dims:?} has {count} channels in this layout, where 1 or 3 are an image"
            ),
        })?;
        match (self.width.unwrap_or(size.0), self.height.unwrap_or(size.1)) == size {
            true => Ok((channels, size.0, size.1)),
            false => Err(format!(
                "the tensor has {} x {} pixels, not what `width` and `height` say",
                size.0, size.1
            )),
        }
    }
}

fn bounded(
    at: &str,
    name: &str,
    given: Option<usize>,
    default: usize,
    most: usize,
    errors: &mut Vec<OptionError>,
) -> usize {
    let value = given.unwrap_or(default);
    between(format!("{at}/{name}"), value, most, errors);
    value
}

fn per_channel(
    at: &str,
    given: Option<&OneOrEach>,
    default: f32,
    channels: Channels,
    errors: &mut Vec<OptionError>,
) -> Vec<f32> {
    let count = channels.count();
    let numbers = match given {
        None => vec![default; count],
        Some(OneOrEach::One(number)) => vec![*number; count],
        Some(OneOrEach::Each(numbers)) => numbers.clone(),
    };
    if numbers.len() != count {
        let message = format!("{} numbers are given for {count} channels", numbers.len());
        errors.push(OptionError::at(at, message).hint("give one for all, or one for each"));
    }
    if let Some(number) = numbers.iter().find(|number| !number.is_finite()) {
        errors.push(OptionError::at(at, format!("{number} is not a finite 32-bit number")));
    }
    numbers
}
