//! Where the numbers of a model's inputs come from.

use super::{keep, one};
use crate::image::{ImageOptions, ImagePlan};
use pelton_model::{Model, Port};
use pelton_sdk::{OptionError, member::Path};
use schemars::JsonSchema;
use serde::Deserialize;

/// Where the model's numbers come from.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct InputOptions {
    /// The field with the numbers, such as `.pixels`; a list of fields with one number each; or `.`, the value of the record.
    field: OneOrMany,
    /// How they stand there.
    #[serde(default)]
    format: Format,
    /// How an image becomes numbers.
    image: Option<ImageOptions>,
    /// Dimensions of one record's tensor, where the model leaves them open.
    pub shape: Option<Vec<usize>>,
    /// Each number is multiplied by this.
    #[serde(default = "one")]
    scale: f32,
    /// Then this is added.
    #[serde(default)]
    offset: f32,
    /// The model's input tensor; not needed when it has only one.
    pub name: Option<String>,
}

/// How numbers stand in a field.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// An array of numbers, flat or nested, or one number.
    #[default]
    Numbers,
    /// Bytes, each a number: text in base64, or the value of the record as it is.
    Bytes,
    /// Bytes, each four of them a little-endian 32-bit float.
    F32,
    /// Bytes of a PNG or JPEG file.
    Image,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

/// What the numbers are read from.
#[derive(Debug)]
pub(crate) enum Source {
    /// The value of the record itself.
    Record,
    /// One field with all numbers, or several with one each.
    Fields(Vec<Path>),
}

/// Where the numbers of one input come from.
#[derive(Debug)]
pub(crate) struct Input {
    pub source: Source,
    pub scale: f32,
    pub offset: f32,
    pub format: Format,
    /// With [`Format::Image`].
    pub image: Option<ImagePlan>,
    /// Dimensions of one record's tensor.
    pub dims: Vec<usize>,
    pub width: usize,
}

/// An input before the model is known.
pub(super) fn read(at: &str, given: &InputOptions, errors: &mut Vec<OptionError>) -> Option<Input> {
    for (name, number) in [("scale", given.scale), ("offset", given.offset)] {
        if !number.is_finite() {
            let message = format!("{number} is not a finite 32-bit number");
            errors.push(OptionError::at(format!("{at}/{name}"), message));
        }
    }
    if given.image.is_some() && given.format != Format::Image {
        let error = OptionError::at(format!("{at}/image"), "`image` says how an image becomes numbers");
        errors.push(error.hint("write `format: image` beside it, or leave it out"));
    }
    let source = source(at, given, errors)?;
    let (scale, offset, format) = (given.scale, given.offset, given.format);
    Some(Input { source, scale, offset, format, image: None, dims: Vec::new(), width: 0 })
}

fn source(at: &str, given: &InputOptions, errors: &mut Vec<OptionError>) -> Option<Source> {
    let at = format!("{at}/field");
    match &given.field {
        OneOrMany::One(field) if field == "." => Some(Source::Record),
        OneOrMany::One(field) => keep(Path::parse(field), &at, errors).map(|path| Source::Fields(vec![path])),
        OneOrMany::Many(fields) => {
            if fields.is_empty() {
                errors.push(OptionError::at(&at, "the list of fields is empty"));
            }
            if given.format != Format::Numbers {
                let message = "several fields have one number each, so they can only be `numbers`";
                errors.push(OptionError::at(&at, message).hint("name one field"));
            }
            let paths = fields.iter().enumerate();
            let paths = paths.map(|(i, text)| keep(Path::parse(text), &format!("{at}/{i}"), errors));
            let paths: Option<Vec<Path>> = paths.collect::<Vec<_>>().into_iter().collect();
            paths.map(Source::Fields)
        }
    }
}

/// Fit an input to the tensor that it feeds.
pub(super) fn fit(
    input: &mut Input,
    at: &str,
    given: &InputOptions,
    (model, port): (&dyn Model, &Port),
    errors: &mut Vec<OptionError>,
) {
    let tensor = model.inputs()[port.index].to_string();
    input.dims.clone_from(&port.dims);
    input.width = port.width();
    if let OneOrMany::Many(all) = &given.field
        && all.len() != port.width()
    {
        let message = format!("{} fields are given, the model takes {} numbers", all.len(), port.width());
        let error = OptionError::at(format!("{at}/field"), message);
        errors.push(error.hint(format!("its input is `{tensor}`")));
    }
    if given.format == Format::Image {
        let (numbers, defaults) = ((given.scale, given.offset), ImageOptions::default());
        let (options, at) = match &given.image {
            Some(image) => (image, format!("{at}/image")),
            None => (&defaults, format!("{at}/format")),
        };
        input.image = options.plan(&at, (&tensor, &port.dims), numbers, errors);
    }
}

/// Either the record is the input, or fields of it are.
pub(super) fn agree(given: &[(String, &InputOptions)], errors: &mut Vec<OptionError>) {
    let whole = |input: &InputOptions| matches!(&input.field, OneOrMany::One(field) if field == ".");
    let records = given.iter().filter(|(_, input)| whole(input)).count();
    if let Some((at, _)) = given.iter().find(|(_, input)| whole(input))
        && records < given.len()
    {
        let message = "the value of the record is this input, and others are fields of it";
        errors.push(OptionError::at(format!("{at}/field"), message).hint("name a field for each input"));
    }
}
