//! A component's options against its schema, then against the component itself.

use crate::{
    reader::{Problems, named},
    span, suggest,
    yaml::{Data, Node, describe},
};
use jsonschema::{
    ValidationError,
    error::{TypeKind, ValidationErrorKind},
};
use pelton_sdk::OptionError;
use serde_json::Value;

/// Whose options they are: the component's name, and "operator `x`".
pub(crate) type Owner<'a> = (&'a str, &'a str);

/// Where a schema found mistakes, so that the component's own words for them can be left out.
#[derive(Debug, Default)]
pub(crate) struct Wrong {
    /// Values that are wrong as a whole.
    values: Vec<String>,
    /// Mappings in which something is missing.
    lacking: Vec<String>,
}

impl Wrong {
    /// Nothing is.
    pub fn is_nothing(&self) -> bool {
        self.values.is_empty() && self.lacking.is_empty()
    }

    fn add(&mut self, error: &ValidationError<'_>) {
        let at = error.instance_path().to_string();
        match error.kind() {
            ValidationErrorKind::Required { .. } => self.lacking.push(at),
            ValidationErrorKind::AdditionalProperties { unexpected }
            | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
                let step = |key: &String| key.replace('~', "~0").replace('/', "~1");
                self.values.extend(unexpected.iter().map(|key| format!("{at}/{}", step(key))));
            }
            _ => self.values.push(at),
        }
    }

    /// Whether what a component says of this place is new: it is not said of the whole, nor of what is known to be wrong.
    fn leaves(&self, pointer: &str) -> bool {
        let within = |inner: &str, outer: &str| {
            inner.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        !pointer.is_empty()
            && !self.values.iter().any(|at| within(pointer, at) || within(at, pointer))
            && !self.lacking.iter().any(|at| at == pointer)
    }
}

/// Check options against a schema; what is wrong is noted.
pub(crate) fn check_schema(
    schema: &Value,
    node: &Node,
    options: &Value,
    owner: Owner<'_>,
    problems: &mut Problems,
) -> Wrong {
    let mut wrong = Wrong::default();
    // A schema that does not compile is a fault of the component, which then checks alone.
    if let Ok(validator) = jsonschema::options().build(schema) {
        let errors: Vec<_> = validator.iter_errors(options).collect();
        let meant: Vec<(String, String)> = errors.iter().flat_map(|error| meant(schema, error)).collect();
        for error in &errors {
            // One slip is one mistake: `topic` for `topics` does not miss `topics` as well.
            let slip = matches!(error.kind(), ValidationErrorKind::Required { property }
                if meant.iter().any(|(at, key)| *at == error.instance_path().to_string() && property == key));
            if slip {
                wrong.add(error);
            } else {
                note(schema, node, error, owner, problems, &mut wrong);
            }
        }
    }
    wrong
}

/// Where unknown keys stand, and the known ones they were taken for.
fn meant(schema: &Value, error: &ValidationError<'_>) -> Vec<(String, String)> {
    let ValidationErrorKind::AdditionalProperties { unexpected } = error.kind() else { return Vec::new() };
    let known = known_keys(schema, &error.schema_path().to_string());
    let near = |key: &String| suggest::nearest(key, known.iter().map(String::as_str)).map(str::to_owned);
    unexpected.iter().filter_map(near).map(|key| (error.instance_path().to_string(), key)).collect()
}

fn note(
    schema: &Value,
    node: &Node,
    error: &ValidationError<'_>,
    owner: Owner<'_>,
    problems: &mut Problems,
    wrong: &mut Wrong,
) {
    let pointer = error.instance_path().to_string();
    let (_, at) = node.find(&pointer);
    let what = path(&pointer, owner);
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected }
        | ValidationErrorKind::UnevaluatedProperties { unexpected } => {
            let known = known_keys(schema, &error.schema_path().to_string());
            let known: Vec<&str> = known.iter().map(String::as_str).collect();
            wrong.add(error);
            if let Data::Mapping(entries) = &at.data {
                for (key, _) in entries.iter().filter(|(key, _)| unexpected.contains(&key.name)) {
                    problems.unknown_key(key, &what, &known);
                }
            }
        }
        ValidationErrorKind::AnyOf { context } | ValidationErrorKind::OneOfNotValid { context } => {
            match nearest_branch(context, &pointer) {
                Some(branch) => branch.iter().for_each(|e| note(schema, node, e, owner, problems, wrong)),
                None => {
                    wrong.add(error);
                    let words: Vec<&str> = context.iter().flatten().flat_map(words).collect();
                    let types = context.iter().flatten().filter_map(|e| wanted_type(e, &pointer));
                    let wanted = match words.is_empty() {
                        true => types.collect::<Vec<_>>().join(" or "),
                        false => suggest::either(words.iter().copied()),
                    };
                    let message = match wanted.is_empty() {
                        true => format!("{what} has none of the allowed forms, found {}", at.describe()),
                        false => format!("{what} must be {wanted}, found {}", at.describe()),
                    };
                    let hint = at.as_str().and_then(|text| suggest::did_you_mean(text, words));
                    problems.hint(at.place, message, hint);
                }
            }
        }
        kind => {
            wrong.add(error);
            let (message, hint) = sentence(kind, &what, error.instance(), || error.masked().to_string());
            problems.hint(at.place, message, hint);
        }
    }
}

/// What is wrong with one value, in our words.
fn sentence(
    kind: &ValidationErrorKind,
    what: &str,
    found: &Value,
    other: impl Fn() -> String,
) -> (String, Option<String>) {
    let shown = describe(found);
    let plain = |message: String| (message, None);
    match kind {
        ValidationErrorKind::Required { property } => {
            let key = property.as_str().unwrap_or_default();
            plain(format!("{} has no `{key}`", what))
        }
        ValidationErrorKind::Type { kind } => {
            let wanted = match kind {
                TypeKind::Single(one) => type_word(&one.to_string()).to_owned(),
                TypeKind::Multiple(many) => {
                    let words: Vec<&str> = many
                        .iter()
                        .map(|t| type_word(t.as_str()))
                        .filter(|word| *word != "nothing")
                        .collect();
                    words.join(" or ")
                }
            };
            let hint = (wanted == "a list" && found.is_string())
                .then(|| format!("write it as a list: `[{}]`", plain_text(found)));
            (format!("{what} must be {wanted}, found {shown}"), hint)
        }
        ValidationErrorKind::Enum { options } => {
            let words: Vec<&str> =
                options.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            let hint = found.as_str().and_then(|text| suggest::did_you_mean(text, words.iter().copied()));
            (format!("{what} must be {}, found {shown}", suggest::either(words)), hint)
        }
        ValidationErrorKind::Constant { expected_value } => {
            plain(format!("{what} must be {expected_value}, found {shown}"))
        }
        ValidationErrorKind::Minimum { limit } => {
            plain(format!("{what} must be at least {limit}, found {found}"))
        }
        ValidationErrorKind::Maximum { limit } => {
            plain(format!("{what} must be at most {limit}, found {found}"))
        }
        ValidationErrorKind::ExclusiveMinimum { limit } => {
            plain(format!("{what} must be more than {limit}, found {found}"))
        }
        ValidationErrorKind::ExclusiveMaximum { limit } => {
            plain(format!("{what} must be less than {limit}, found {found}"))
        }
        ValidationErrorKind::MinLength { limit: 1 } => plain(format!("{what} must not be empty")),
        ValidationErrorKind::MinItems { limit: 1 } => plain(format!("{what} must not be empty")),
        ValidationErrorKind::MinProperties { limit: 1 } => plain(format!("{what} must not be empty")),
        ValidationErrorKind::MinItems { limit } => {
            plain(format!("{what} must have at least {limit} entries"))
        }
        ValidationErrorKind::MaxItems { limit } => plain(format!("{what} must have at most {limit} entries")),
        ValidationErrorKind::MaxProperties { limit: 1 } => plain(format!("{what} must have one key only")),
        ValidationErrorKind::Pattern { pattern } => {
            plain(format!("{what} must look like `{pattern}`, found {shown}"))
        }
        ValidationErrorKind::UniqueItems => plain(format!("{what} must not name anything twice")),
        _ => plain(format!("{what}: {}", other())),
    }
}

fn plain_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), |text| text.chars().take(60).collect())
}

fn type_word(kind: &str) -> &str {
    match kind {
        "object" => "a mapping",
        "array" => "a list",
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "null" => "nothing",
        other => other,
    }
}

/// `/topics/0` as "`topics[0]` of source `x`".
fn path(pointer: &str, owner: Owner<'_>) -> String {
    let mut shown = String::new();
    for step in pointer.split('/').skip(1) {
        let step = step.replace("~1", "/").replace("~0", "~");
        match step.parse::<usize>() {
            Ok(index) => shown.push_str(&format!("[{index}]")),
            Err(_) if shown.is_empty() => shown.push_str(&step),
            Err(_) => shown.push_str(&format!(".{step}")),
        }
    }
    let (component, of) = owner;
    let shown = if shown.is_empty() { component } else { &shown };
    format!("{} of {of}", named(shown))
}

/// Of the branches of an `anyOf` the one that was meant: right at the top, wrong deeper inside. The branch that only
/// stands for "not given" does not count.
fn nearest_branch<'e>(
    context: &'e [Vec<ValidationError<'static>>],
    pointer: &str,
) -> Option<&'e Vec<ValidationError<'static>>> {
    let only_null = |branch: &&Vec<ValidationError<'_>>| {
        !branch.iter().any(|e| matches!(e.kind(), ValidationErrorKind::Type { kind: TypeKind::Single(t) } if t.to_string() == "null"))
    };
    let mut branches: Vec<_> = context.iter().filter(only_null).collect();
    if branches.len() > 1 {
        branches.retain(|branch| {
            branch.iter().all(|e| {
                let wrong_type = matches!(e.kind(), ValidationErrorKind::Type { .. });
                let wrong_word =
                    constant(e).is_some() || matches!(e.kind(), ValidationErrorKind::Enum { .. });
                !((wrong_type || wrong_word) && e.instance_path().to_string() == pointer)
            })
        });
    }
    branches.into_iter().min_by_key(|branch| branch.len())
}

/// The type a branch wants of the value itself.
fn wanted_type(error: &ValidationError<'_>, pointer: &str) -> Option<String> {
    match error.kind() {
        ValidationErrorKind::Type { kind: TypeKind::Single(one) }
            if error.instance_path().to_string() == pointer =>
        {
            Some(type_word(&one.to_string()).to_owned())
        }
        _ => None,
    }
}

fn constant<'e>(error: &'e ValidationError<'_>) -> Option<&'e str> {
    match error.kind() {
        ValidationErrorKind::Constant { expected_value } => expected_value.as_str(),
        _ => None,
    }
}

/// The words that a value might have been.
fn words<'e>(error: &'e ValidationError<'_>) -> Vec<&'e str> {
    match error.kind() {
        ValidationErrorKind::Constant { expected_value } => expected_value.as_str().into_iter().collect(),
        ValidationErrorKind::Enum { options } => {
            options.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
        }
        _ => Vec::new(),
    }
}

/// Keys of the object schema whose `additionalProperties` failed. The path of a failure goes through `$ref`s.
fn known_keys(schema: &Value, schema_path: &str) -> Vec<String> {
    let mut at = schema;
    for step in schema_path.split('/').skip(1) {
        if matches!(step, "additionalProperties" | "unevaluatedProperties")
            && let Some(properties) = at.get("properties").and_then(Value::as_object)
        {
            return properties.keys().cloned().collect();
        }
        let step = step.replace("~1", "/").replace("~0", "~");
        let next = match at {
            Value::Array(items) => step.parse::<usize>().ok().and_then(|i| items.get(i)),
            other => other.get(&step),
        };
        let Some(next) = next else { return Vec::new() };
        at = match next.as_str().and_then(|target| target.strip_prefix('#')) {
            Some(target) if step == "$ref" => schema.pointer(target).unwrap_or(next),
            _ => next,
        };
    }
    Vec::new()
}

/// Note what a component found, at the place it means, beside what its schema found.
pub(crate) fn note_errors(
    text: &str,
    node: &Node,
    errors: Vec<OptionError>,
    wrong: &Wrong,
    owner: &str,
    problems: &mut Problems,
) {
    for error in errors {
        if !wrong.is_nothing() && !wrong.leaves(&error.pointer) {
            continue;
        }
        let (_, at) = node.find(&error.pointer);
        let place = match (&error.span, at.source, at.as_str()) {
            (Some(range), Some((offset, start)), Some(value)) => {
                span::locate(text, offset, start, value, range.start).unwrap_or(at.place)
            }
            _ => at.place,
        };
        problems.hint(place, format!("{owner}: {}", error.message), error.hint);
    }
}

/// Keys that hold secrets.
fn is_secret(key: &str) -> bool {
    let key: String = key.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_lowercase();
    ["password", "secret", "apikey", "privatekey", "accesstoken", "passphrase"]
        .iter()
        .any(|s| key.ends_with(s))
}

/// A definition is stored and shown: a secret may stand in it as a reference only.
pub(crate) fn check_secrets(node: &Node, problems: &mut Problems) {
    match &node.data {
        Data::Scalar(_) => {}
        Data::List(items) => items.iter().for_each(|item| check_secrets(item, problems)),
        Data::Mapping(entries) => {
            for (key, value) in entries {
                match &value.data {
                    Data::Scalar(Value::String(_) | Value::Number(_)) if is_secret(&key.name) => {
                        let message = format!("the secret `{}` must not stand in a definition", key.name);
                        let hint = "definitions are stored and shown: take it out, and see it as leaked when it was applied";
                        problems.hint(key.place, message, Some(hint.to_owned()));
                        problems.silence(key.place);
                        problems.silence(value.place);
                    }
                    _ => check_secrets(value, problems),
                }
            }
        }
    }
}
