//! Texts of other forms as JSON values.

/// Type of a field whose form knows only texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// The text itself.
    #[default]
    String,
    /// A whole number of 64 bits. An empty text is `null`.
    Integer,
    /// A number. An empty text is `null`.
    Float,
    /// `true` or `false`. An empty text is `null`.
    Boolean,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::String => "a string",
            Kind::Integer => "an integer",
            Kind::Float => "a number",
            Kind::Boolean => "a boolean",
        }
    }
}

/// A text is not of a type.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {}", kind.name())]
pub struct KindError {
    /// The text, its beginning if it is long.
    pub text: String,
    /// What it should be.
    pub kind: Kind,
}

/// Characters of a text that an error repeats.
const REPEATED: usize = 40;

/// Append a text as a JSON value of a type.
pub(crate) fn write_as(out: &mut Vec<u8>, kind: Kind, text: &str) -> Result<(), KindError> {
    let wrong = || KindError { text: text.chars().take(REPEATED).collect(), kind };
    if kind == Kind::String {
        write_string(out, text);
        return Ok(());
    }
    let text = text.trim();
    if text.is_empty() {
        out.extend_from_slice(b"null");
        return Ok(());
    }
    match kind {
        Kind::Integer => write_json(out, text.parse::<i64>().map_err(|_| wrong())?),
        Kind::Float => {
            let number = text.parse::<f64>().ok().filter(|n| n.is_finite()).ok_or_else(wrong)?;
            write_json(out, number);
        }
        _ => write_json(out, text.parse::<bool>().map_err(|_| wrong())?),
    }
    Ok(())
}

fn write_json(out: &mut Vec<u8>, value: impl serde::Serialize) {
    // A number or a boolean into memory: neither can fail.
    let written = serde_json::to_writer(out, &value);
    debug_assert!(written.is_ok());
}

/// Append a JSON string.
#[inline]
pub(crate) fn write_string(out: &mut Vec<u8>, text: &str) {
    let bytes = text.as_bytes();
    if crate::find::special(bytes, 0) == bytes.len() {
        out.push(b'"');
        out.extend_from_slice(bytes);
        out.push(b'"');
    } else {
        write_json(out, text);
    }
}
