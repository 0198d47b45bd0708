//! Pairs of keys and values: `level=info msg="all is well" took=5`.

use super::{Mismatch, pattern::set};
use pelton_expr::{Kind, Patch};
use std::collections::HashMap;

/// What stands between pairs, and between key and value.
#[derive(Debug)]
pub(crate) struct Pairs {
    pub pair: String,
    pub between: String,
    pub types: HashMap<String, Kind>,
}

impl Pairs {
    pub fn read(&self, line: &str, patch: &mut Patch) -> Result<(), Mismatch> {
        let mut at = 0;
        while at < line.len() {
            let rest = &line[at..];
            if let Some(after) = rest.strip_prefix(self.pair.as_str()) {
                at = line.len() - after.len();
                continue;
            }
            let Some(len) = rest.find(self.between.as_str()) else {
                return Err(Mismatch::new(at, format!("expected a key and `{}`", self.between)));
            };
            let key = rest[..len].trim();
            if key.is_empty() || key.contains(self.pair.as_str()) {
                return Err(Mismatch::new(at, format!("expected a key and `{}`", self.between)));
            }
            let start = at + len + self.between.len();
            let kind = self.types.get(key).copied().unwrap_or_default();
            at = match line[start..].strip_prefix('"') {
                Some(quoted) => {
                    let (text, end) = unquote(quoted).ok_or_else(|| {
                        Mismatch::new(start, format!("the value of {key} lacks its closing quote"))
                    })?;
                    set(patch, key, kind, &text, start)?;
                    start + 1 + end
                }
                None => {
                    let end = line[start..].find(self.pair.as_str()).map_or(line.len(), |len| start + len);
                    set(patch, key, kind, line[start..end].trim(), start)?;
                    end
                }
            };
        }
        Ok(())
    }
}

/// The text up to the closing quote, and the byte behind it. A backslash takes the next character as it is, and `\n`,
/// `\t` and `\r` for what they are.
fn unquote(text: &str) -> Option<(String, usize)> {
    let mut out = String::new();
    let mut chars = text.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, at + 1)),
            '\\' => out.push(match chars.next()?.1 {
                'n' => '\n',
                't' => '\t',
                'r' => '\r',
                other => other,
            }),
            other => out.push(other),
        }
    }
    None
}
