//! Access logs: a line is values with fixed texts between them, so that each value ends where the next text is found.

use super::Mismatch;
use memchr::memmem::Finder;
use pelton_expr::{Kind, Patch};
use pelton_sdk::types::schema::FieldKind;

/// A format of lines, compiled.
#[derive(Debug)]
pub(crate) struct Access {
    /// What a line begins with.
    start: String,
    values: Vec<Slot>,
}

/// A value, and the text behind it.
#[derive(Debug)]
struct Slot {
    name: String,
    what: What,
    /// Nothing: the value goes to the end of the line.
    end: Option<Finder<'static>>,
}

/// What a value is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    Text,
    Integer,
    Float,
    /// `10/Oct/2000:13:55:36 -0700`
    Time,
    /// `GET /path HTTP/1.1`
    Request,
    /// Of no interest.
    Nothing,
}

const COMBINED: &str = "$remote_addr - $remote_user [$time_local] \"$request\" $status $body_bytes_sent \
                        \"$http_referer\" \"$http_user_agent\"";
/// The second value is what an identity daemon said, which nobody runs.
const APACHE_COMMON: &str =
    "$remote_addr $ident $remote_user [$time_local] \"$request\" $status $body_bytes_sent";
const APACHE_COMBINED: &str = "$remote_addr $ident $remote_user [$time_local] \"$request\" $status \
                               $body_bytes_sent \"$http_referer\" \"$http_user_agent\"";

/// nginx's variable, the field's name here, and what it is. Others are texts with their own name.
const KNOWN: &[(&str, &str, What)] = &[
    ("remote_addr", "client", What::Text),
    ("remote_user", "user", What::Text),
    ("time_local", "timestamp", What::Time),
    ("time_iso8601", "timestamp", What::Text),
    ("request", "request", What::Request),
    ("request_method", "method", What::Text),
    ("request_uri", "path", What::Text),
    ("server_protocol", "protocol", What::Text),
    ("status", "status", What::Integer),
    ("body_bytes_sent", "size", What::Integer),
    ("http_referer", "referer", What::Text),
    ("http_user_agent", "agent", What::Text),
    ("ident", "ident", What::Nothing),
    ("bytes_sent", "bytes_sent", What::Integer),
    ("request_length", "request_length", What::Integer),
    ("connection", "connection", What::Integer),
    ("connection_requests", "connection_requests", What::Integer),
    ("request_time", "request_time", What::Float),
    ("msec", "msec", What::Float),
];

impl Access {
    /// nginx: `combined`, or a `log_format`.
    pub fn nginx(format: &str) -> Result<Self, String> {
        Self::compile(if format == "combined" { COMBINED } else { format })
    }

    /// Apache's `common` or `combined`.
    pub fn apache(format: &str) -> Result<Self, String> {
        match format {
            "common" => Self::compile(APACHE_COMMON),
            "combined" => Self::compile(APACHE_COMBINED),
            other => Err(format!("`{other}` is no format of Apache's: write `common` or `combined`")),
        }
    }

    /// Compile a format: texts, and variables that begin with `$`, with or without braces.
    fn compile(format: &str) -> Result<Self, String> {
        let mut parts = format.split('$');
        let start = parts.next().unwrap_or_default().to_owned();
        let mut values: Vec<Slot> = Vec::new();
        for part in parts {
            let (variable, text) = match part.strip_prefix('{') {
                Some(inner) => inner.split_once('}').ok_or("`${` lacks its closing brace")?,
                None => part.split_at(
                    part.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(part.len()),
                ),
            };
            if variable.is_empty() {
                return Err(format!("there is no variable's name behind `$` in `{format}`"));
            }
            if values.last().is_some_and(|slot| slot.end.is_none()) {
                return Err(format!("nothing stands between `${variable}` and the variable before it"));
            }
            let known = KNOWN.iter().find(|(name, ..)| *name == variable);
            let (name, what) = known.map_or((variable, What::Text), |(_, name, what)| (*name, *what));
            let end = (!text.is_empty()).then(|| Finder::new(text).into_owned());
            values.push(Slot { name: name.to_owned(), what, end });
        }
        if values.is_empty() {
            return Err(format!(
                "there is no variable in `{format}`; write `$remote_addr [$time_local] ...`"
            ));
        }
        Ok(Self { start, values })
    }

    /// The fields it sets, and what they are.
    pub fn kinds(&self) -> impl Iterator<Item = (&str, FieldKind)> {
        self.values.iter().flat_map(|slot| {
            let (kind, more) = match slot.what {
                What::Nothing => return Vec::new(),
                What::Integer => (FieldKind::Integer, &[][..]),
                What::Float => (FieldKind::Float, &[][..]),
                // Digits in the right places may still be no time, such as a second 99.
                What::Text | What::Time => (FieldKind::String, &[][..]),
                What::Request => (FieldKind::String, &["method", "path", "protocol"][..]),
            };
            let more = more.iter().map(|name| (*name, FieldKind::String));
            std::iter::once((slot.name.as_str(), kind)).chain(more).collect()
        })
    }

    pub fn read(&self, line: &str, patch: &mut Patch) -> Result<(), Mismatch> {
        let Some(mut rest) = line.strip_prefix(&self.start) else {
            return Err(Mismatch::new(0, format!("expected `{}`", self.start)));
        };
        for slot in &self.values {
            let at = line.len() - rest.len();
            let (value, after) = match &slot.end {
                None => (rest, ""),
                Some(end) => {
                    let found = end_of(rest, end).ok_or_else(|| {
                        let text = String::from_utf8_lossy(end.needle()).into_owned();
                        Mismatch::new(at, format!("expected {}, then `{text}`", slot.name))
                    })?;
                    (&rest[..found], &rest[found + end.needle().len()..])
                }
            };
            slot.set(value, at, patch)?;
            rest = after;
        }
        if rest.is_empty() {
            return Ok(());
        }
        Err(Mismatch::new(line.len() - rest.len(), "more text than the format has"))
    }
}

/// Where the text behind a value begins. A quote behind a backslash is part of the value.
#[inline]
fn end_of(rest: &str, end: &Finder<'_>) -> Option<usize> {
    let bytes = rest.as_bytes();
    let quoted = end.needle().first() == Some(&b'"');
    let mut from = 0;
    loop {
        let found = from + end.find(&bytes[from..])?;
        let backslashes = bytes[..found].iter().rev().take_while(|c| **c == b'\\').count();
        if !quoted || backslashes % 2 == 0 {
            return Some(found);
        }
        from = found + 1;
    }
}

impl Slot {
    #[inline]
    fn set(&self, value: &str, at: usize, patch: &mut Patch) -> Result<(), Mismatch> {
        if value == "-" || self.what == What::Nothing {
            return Ok(());
        }
        match self.what {
            What::Text | What::Nothing => patch.text(&self.name, value),
            What::Integer => {
                let plain =
                    !value.is_empty() && value.len() <= 18 && value.bytes().all(|c| c.is_ascii_digit());
                if !plain || (value.starts_with('0') && value.len() > 1) {
                    return Err(Mismatch::new(
                        at,
                        format!("{}: `{}` is not a whole number", self.name, short(value)),
                    ));
                }
                patch.json(&self.name, value.as_bytes());
            }
            What::Float => {
                let error = |e| Mismatch::new(at, format!("{}: {e}", self.name));
                patch.typed(&self.name, Kind::Float, value).map_err(error)?;
            }
            What::Time => match rfc3339(value) {
                Some(time) => {
                    // All of it is ASCII.
                    patch.text(&self.name, std::str::from_utf8(&time).unwrap_or_default());
                }
                None => {
                    let what = format!(
                        "{}: `{}` is no time like 10/Oct/2000:13:55:36 -0700",
                        self.name,
                        short(value)
                    );
                    return Err(Mismatch::new(at, what));
                }
            },
            What::Request => {
                patch.text(&self.name, value);
                // A request that was no HTTP is kept as it is.
                if let Some((method, rest)) = value.split_once(' ')
                    && let Some((path, protocol)) = rest.rsplit_once(' ')
                {
                    patch.text("method", method);
                    patch.text("path", path);
                    patch.text("protocol", protocol);
                }
            }
        }
        Ok(())
    }
}

/// The beginning of a value, for a message.
fn short(value: &str) -> String {
    value.chars().take(40).collect()
}

const MONTHS: &[u8; 36] = b"JanFebMarAprMayJunJulAugSepOctNovDec";

/// `10/Oct/2000:13:55:36 -0700` as `2000-10-10T13:55:36-07:00`.
#[inline]
fn rfc3339(time: &str) -> Option<[u8; 25]> {
    let t: &[u8; 26] = time.as_bytes().try_into().ok()?;
    let month = MONTHS.chunks(3).position(|name| name == &t[3..6])? + 1;
    let digits = [0, 1, 7, 8, 9, 10, 12, 13, 15, 16, 18, 19, 22, 23, 24, 25];
    let marks = [(2, b'/'), (6, b'/'), (11, b':'), (14, b':'), (17, b':'), (20, b' ')];
    let plain = digits.iter().all(|at| t[*at].is_ascii_digit())
        && marks.iter().all(|(at, mark)| t[*at] == *mark)
        && matches!(t[21], b'+' | b'-');
    if !plain {
        return None;
    }
    let month = [b'0' + (month / 10) as u8, b'0' + (month % 10) as u8];
    Some([
        t[7], t[8], t[9], t[10], b'-', month[0], month[1], b'-', t[0], t[1], b'T', t[12], t[13], b':', t[15],
        t[16], b':', t[18], t[19], t[21], t[22], t[23], b':', t[24], t[25],
    ])
}
