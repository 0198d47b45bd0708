//! Grok patterns as regular expressions: names stand for patterns of a library, and these for further ones.
//!
//! The library's patterns use atomic groups and look-around, which an engine that never backtracks has no need of or
//! cannot have. Atomic groups become plain ones; patterns with look-around have another wording here.

use pelton_expr::Kind;
use std::collections::HashMap;

/// Patterns with look-around, without it. What they look for around a number or an address is a word's end, and a
/// pattern around them says more than that.
const REWORDED: &[(&str, &str)] = &[
    ("BASE10NUM", r"[+-]?(?:[0-9]+(?:\.[0-9]+)?|\.[0-9]+)"),
    ("BASE16NUM", r"[+-]?(?:0x)?[0-9A-Fa-f]+"),
    ("BASE16FLOAT", r"\b[+-]?(?:0x)?(?:[0-9A-Fa-f]+(?:\.[0-9A-Fa-f]*)?|\.[0-9A-Fa-f]+)\b"),
    ("QUOTEDSTRING", r#"(?:"(?:\\.|[^\\"])*"|'(?:\\.|[^\\'])*'|`(?:\\.|[^\\`])*`)"#),
    ("IPV4", r"(?:(?:25[0-5]|2[0-4][0-9]|[0-1]?[0-9]{1,2})[.]){3}(?:25[0-5]|2[0-4][0-9]|[0-1]?[0-9]{1,2})"),
    ("TIME", "%{HOUR}:%{MINUTE}(?::%{SECOND})"),
    ("HAPROXYTIME", "%{HOUR:haproxy_hour}:%{MINUTE:haproxy_minute}(?::%{SECOND:haproxy_second})"),
];

/// Names within names, as deep as the library goes and a good deal deeper.
const MAX_DEPTH: usize = 32;
/// A pattern that grows beyond this would compile to more than is allowed.
const MAX_LENGTH: usize = 256 << 10;

/// A pattern as a regular expression: groups `f0`, `f1`, ... and the field and type of each.
#[derive(Debug, Default)]
pub(crate) struct Expanded {
    pub regex: String,
    pub fields: Vec<(String, Kind)>,
}

/// Expand a pattern.
///
/// # Errors
/// The byte and what is wrong: a name that is not known, a type that is none.
pub(crate) fn expand(pattern: &str) -> Result<Expanded, (usize, String)> {
    let mut library: HashMap<&str, &str> = ::grok::patterns().iter().copied().collect();
    library.extend(REWORDED.iter().copied());
    let mut expanded = Expanded::default();
    expand_into(pattern, &library, 0, &mut expanded)?;
    Ok(expanded)
}

fn expand_into(
    pattern: &str,
    library: &HashMap<&str, &str>,
    depth: usize,
    out: &mut Expanded,
) -> Result<(), (usize, String)> {
    let mut at = 0;
    while let Some(found) = pattern[at..].find("%{") {
        let start = at + found;
        plain(&pattern[at..start], &mut out.regex);
        let Some(len) = pattern[start..].find('}') else {
            return Err((start, "`%{` lacks its closing brace".to_owned()));
        };
        let mut parts = pattern[start + 2..start + len].split(':');
        let name = parts.next().unwrap_or_default();
        let Some(inner) = library.get(name) else {
            return Err((start, format!("there is no grok pattern `{name}`")));
        };
        if depth >= MAX_DEPTH || out.regex.len() > MAX_LENGTH {
            return Err((start, format!("`%{{{name}}}` expands without an end")));
        }
        match parts.next().filter(|field| !field.is_empty()) {
            Some(field) => {
                let kind = kind(parts.next()).map_err(|message| (start, message))?;
                out.regex.push_str(&format!("(?P<f{}>", out.fields.len()));
                out.fields.push((field_name(field), kind));
            }
            None => out.regex.push_str("(?:"),
        }
        expand_into(inner, library, depth + 1, out).map_err(|(_, message)| (start, message))?;
        out.regex.push(')');
        at = start + len + 1;
    }
    plain(&pattern[at..], &mut out.regex);
    Ok(())
}

/// `[http][status]` and `http.status` are one field name here, `http_status`.
fn field_name(field: &str) -> String {
    field.trim_matches(['[', ']']).replace("][", "_").replace('.', "_")
}

fn kind(word: Option<&str>) -> Result<Kind, String> {
    match word {
        None | Some("string" | "") => Ok(Kind::String),
        Some("int" | "integer" | "long") => Ok(Kind::Integer),
        Some("float" | "double" | "number") => Ok(Kind::Float),
        Some("boolean" | "bool") => Ok(Kind::Boolean),
        Some(other) => Err(format!("`{other}` is no type: write `int`, `float`, `boolean` or `string`")),
    }
}

/// Text between names. `(?<name>` is another writing of a group with a name, and atomic groups are plain here.
fn plain(text: &str, out: &mut String) {
    out.push_str(&text.replace("(?>", "(?:"));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::formats::pattern::Pattern;

    #[test]
    fn the_library_compiles_but_for_what_looks_around() {
        let mut refused = Vec::new();
        for (name, _) in ::grok::patterns() {
            let expanded = expand(&format!("%{{{name}}}")).unwrap();
            if Pattern::compile(&expanded.regex, |g| (g.to_owned(), Kind::String)).is_err() {
                refused.push(*name);
            }
        }
        assert!(refused.len() < 12, "{refused:?}");
    }

    #[test]
    fn names_types_and_mistakes() {
        let expanded = expand("%{IP:client} %{NUMBER:bytes:int} (?>a)").unwrap();
        assert_eq!(
            expanded.fields,
            [("client".to_owned(), Kind::String), ("bytes".to_owned(), Kind::Integer)]
        );
        assert_eq!(expand("x %{NONE:a}").unwrap_err(), (2, "there is no grok pattern `NONE`".to_owned()));
        assert!(expand("%{INT:a:date}").unwrap_err().1.contains("is no type"));
        assert!(expand("%{INT").unwrap_err().1.contains("closing brace"));
        assert_eq!(field_name("[http][status]"), "http_status");
    }
}
