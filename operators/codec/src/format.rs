//! Forms of values as the user writes them.

use pelton_expr::{Csv, CsvOptions, CsvOptionsError, CsvWriter, Decoder, Encoder, Kind, Kinds, Path, Utf8};
use pelton_sdk::{
    OptionError,
    types::schema::{FieldKind, RecordSchema},
};
use serde_json::{Map, Value, json};

const FORMS: [&str; 5] = ["json", "text", "csv", "bytes", "logfmt"];

/// A name as a part of a JSON pointer.
pub(crate) fn pointer(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

/// A mistake for each key that is not known.
pub(crate) fn unknown<'k>(
    at: &str,
    keys: impl Iterator<Item = &'k String>,
    known: &[&'static str],
) -> Vec<OptionError> {
    let listed: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
    let error = |name: &String| {
        let error = OptionError::at(format!("{at}/{}", pointer(name)), format!("unknown option `{name}`"));
        match pelton_sdk::nearest(name, known.iter().copied()) {
            Some(near) => error.hint(format!("did you mean `{near}`?")),
            None if known.is_empty() => error.hint("it takes no options"),
            None => error.hint(format!("known here: {}", listed.join(", "))),
        }
    };
    keys.filter(|name| !known.contains(&name.as_str())).map(error).collect()
}

/// JSON Schema of what a source reads.
pub(crate) fn decode_schema() -> Value {
    let none = json!({ "type": ["object", "null"], "additionalProperties": false });
    forms(
        "How values are read: a word, or one word with options.",
        &json!({
            "json": {
                "type": ["object", "null"], "additionalProperties": false,
                "properties": { "utf8": {
                    "enum": ["lazy", "strict"], "default": "lazy",
                    "description": "lazy: only what is read is checked; strict: a record that is no UTF-8 fails.",
                } },
            },
            "text": none, "bytes": none, "logfmt": none,
            "csv": csv_schema("Names of the columns; without, each value brings its own header row."),
        }),
    )
}

/// JSON Schema of what a sink writes.
pub(crate) fn encode_schema() -> Value {
    let none = json!({ "type": ["object", "null"], "additionalProperties": false });
    let mut csv = csv_schema("Names of the columns.");
    csv["required"] = json!(["columns"]);
    forms(
        "How values are written: a word, or one word with options.",
        &json!({
            "text": {
                "type": ["object", "null"], "additionalProperties": false,
                "properties": { "field": {
                    "type": "string", "default": ".message", "description": "The field whose text is written.",
                } },
            },
            "json": none, "bytes": none, "logfmt": none, "csv": csv,
        }),
    )
}

fn forms(description: &str, properties: &Value) -> Value {
    let object = json!({
        "type": "object", "minProperties": 1, "maxProperties": 1, "additionalProperties": false,
        "properties": properties,
    });
    json!({ "description": description, "anyOf": [{ "enum": FORMS }, object], "default": "json" })
}

fn csv_schema(columns: &str) -> Value {
    json!({
        "type": ["object", "null"], "additionalProperties": false,
        "properties": {
            "columns": { "type": "array", "minItems": 1, "items": { "type": "string" }, "description": columns },
            "delimiter": { "type": "string", "minLength": 1, "maxLength": 1, "default": "," },
            "quote": { "type": "string", "minLength": 1, "maxLength": 1, "default": "\"" },
        },
    })
}

/// A form with its options.
struct Chosen<'v> {
    name: &'v str,
    at: String,
    options: Option<&'v Map<String, Value>>,
}

fn choose<'v>(base: &str, value: &'v Value) -> Result<Chosen<'v>, Vec<OptionError>> {
    let listed = || {
        let listed: Vec<String> = FORMS.iter().map(|form| format!("`{form}`")).collect();
        format!("the forms are {}", listed.join(", "))
    };
    let (name, at, options) = match value {
        Value::String(name) => (name.as_str(), base.to_owned(), None),
        Value::Object(members) if members.len() == 1 => match members.iter().next() {
            Some((name, options)) => (name.as_str(), format!("{base}/{}", pointer(name)), Some(options)),
            None => return Err(Vec::new()),
        },
        Value::Object(members) => {
            let message = format!("expected one form, found {}", members.len());
            return Err(vec![OptionError::at(base, message).hint(listed())]);
        }
        other => {
            let message = format!("expected the name of a form, found {other}");
            return Err(vec![OptionError::at(base, message).hint(listed())]);
        }
    };
    if !FORMS.contains(&name) {
        let error = OptionError::at(at, format!("there is no form `{name}`"));
        let hint = match pelton_sdk::nearest(name, FORMS) {
            Some(near) => format!("did you mean `{near}`?"),
            None => listed(),
        };
        return Err(vec![error.hint(hint)]);
    }
    let options = match options {
        None | Some(Value::Null) => None,
        Some(Value::Object(options)) => Some(options),
        Some(other) => {
            let message = format!("options of `{name}` must be a mapping, found {other}");
            return Err(vec![
                OptionError::at(at, message).hint(format!("write `{name}` alone, without options")),
            ]);
        }
    };
    Ok(Chosen { name, at, options })
}

/// What was made of options, unless something is wrong with them.
fn sound<T>(made: T, errors: Vec<OptionError>) -> Result<T, Vec<OptionError>> {
    if errors.is_empty() { Ok(made) } else { Err(errors) }
}

impl Chosen<'_> {
    /// What is wrong with the names of its options, to which what is wrong with their values is added.
    fn unknown(&self, known: &[&'static str]) -> Vec<OptionError> {
        unknown(&self.at, self.options.into_iter().flat_map(Map::keys), known)
    }

    fn get(&self, name: &str) -> Option<&Value> {
        self.options?.get(name)
    }

    fn csv(&self) -> Result<CsvOptions, Vec<OptionError>> {
        let mut errors = self.unknown(&["columns", "delimiter", "quote"]);
        let mut csv = CsvOptions::default();
        for (name, byte) in [("delimiter", &mut csv.delimiter), ("quote", &mut csv.quote)] {
            match self.get(name) {
                None => {}
                Some(Value::String(text)) if text.len() == 1 => *byte = text.as_bytes()[0],
                Some(other) => errors.push(OptionError::at(
                    format!("{}/{name}", self.at),
                    format!("`{name}` must be one ASCII character, found {other}"),
                )),
            }
        }
        match self.get("columns") {
            None => {}
            Some(Value::Array(names)) if !names.is_empty() && names.iter().all(Value::is_string) => {
                csv.columns = names.iter().filter_map(Value::as_str).map(str::to_owned).collect();
            }
            Some(other) => {
                let error = OptionError::at(
                    format!("{}/columns", self.at),
                    format!("`columns` must be a list of names, found {other}"),
                );
                errors.push(error.hint("write `columns: [id, price]`"));
            }
        }
        sound(csv, errors)
    }

    fn utf8(&self) -> Result<Utf8, Vec<OptionError>> {
        let mut errors = self.unknown(&["utf8"]);
        let utf8 = match self.get("utf8").map(|found| (found, found.as_str())) {
            None | Some((_, Some("lazy"))) => Utf8::Lazy,
            Some((_, Some("strict"))) => Utf8::Strict,
            Some((found, _)) => {
                let message = format!("`utf8` must be `lazy` or `strict`, found {found}");
                errors.push(OptionError::at(format!("{}/utf8", self.at), message));
                Utf8::Lazy
            }
        };
        sound(utf8, errors)
    }

    fn text_field(&self) -> Result<Path, Vec<OptionError>> {
        let mut errors = self.unknown(&["field"]);
        let default = Value::from(".message");
        let field = self.get("field").unwrap_or(&default);
        match field.as_str().unwrap_or_default().parse::<Path>() {
            Ok(path) => sound(path, errors),
            Err(e) => {
                let error = OptionError::at(format!("{}/field", self.at), e.message).span(e.span);
                errors.push(error.hint("name a field: `field: .message`"));
                Err(errors)
            }
        }
    }

    fn no_options(&self) -> Result<(), Vec<OptionError>> {
        sound((), self.unknown(&[]))
    }

    fn csv_error(&self, error: &CsvOptionsError) -> Vec<OptionError> {
        let at = match error {
            CsvOptionsError::Twice(_) => "/columns",
            CsvOptionsError::Character { role, .. } if *role == "quote" => "/quote",
            CsvOptionsError::Character { .. } => "/delimiter",
            CsvOptionsError::Same(_) => "/quote",
            CsvOptionsError::NoColumns => "",
        };
        let found = OptionError::at(format!("{}{at}", self.at), error.to_string());
        vec![match error {
            CsvOptionsError::NoColumns => found.hint("write `{ csv: { columns: [id, price] } }`"),
            _ => found,
        }]
    }
}

/// A decoder from the value of `format`; the schema gives fields of texts their types.
pub(crate) fn decoder(value: &Value, schema: Option<&RecordSchema>) -> Result<Decoder, Vec<OptionError>> {
    let chosen = choose("/format", value)?;
    Ok(match chosen.name {
        "json" => Decoder::json(chosen.utf8()?),
        "csv" => {
            let csv = Csv::new(chosen.csv()?).map_err(|e| chosen.csv_error(&e))?;
            Decoder::csv(csv, kinds(schema))
        }
        other => {
            chosen.no_options()?;
            match other {
                "text" => Decoder::text(),
                "logfmt" => Decoder::logfmt(kinds(schema)),
                _ => Decoder::bytes(),
            }
        }
    })
}

fn kinds(schema: Option<&RecordSchema>) -> Kinds {
    let kind = |kind: &FieldKind| match kind {
        FieldKind::Integer => Some(Kind::Integer),
        FieldKind::Float => Some(Kind::Float),
        FieldKind::Boolean => Some(Kind::Boolean),
        _ => None,
    };
    let fields = schema.into_iter().flat_map(|schema| &schema.fields);
    fields.filter_map(|(name, field)| Some((name.clone(), kind(&field.kind)?))).collect()
}

/// An encoder from the options.
pub(crate) fn encoder(value: &Value) -> Result<Encoder, Vec<OptionError>> {
    let chosen = choose("", value)?;
    Ok(match chosen.name {
        "text" => Encoder::text(chosen.text_field()?),
        "csv" => {
            let writer = CsvWriter::new(chosen.csv()?).map_err(|e| chosen.csv_error(&e))?;
            Encoder::csv(writer)
        }
        other => {
            chosen.no_options()?;
            match other {
                "logfmt" => Encoder::logfmt(),
                "json" => Encoder::json(),
                _ => Encoder::bytes(),
            }
        }
    })
}
