//! Paths to fields: `.id`, `.user.id`, `.items[0].id`, `."user id"`.

use serde_json::{Value, json};

/// Whether a text is a path.
pub(crate) fn is_path(text: &str) -> bool {
    let mut rest = text;
    let mut steps = 0;
    while let Some(tail) = rest.strip_prefix('.') {
        let end = if let Some(quoted) = tail.strip_prefix('"') {
            quoted.find('"').filter(|end| *end > 0).map(|end| end + 2)
        } else {
            let end = tail
                .find(|c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '@'))
                .unwrap_or(tail.len());
            (end > 0).then_some(end)
        };
        let Some(end) = end else { return false };
        rest = &tail[end..];
        steps += 1;
        while let Some(tail) = rest.strip_prefix('[') {
            match tail.split_once(']') {
                Some((index, after))
                    if !index.is_empty() && index.len() < 10 && index.chars().all(|c| c.is_ascii_digit()) =>
                {
                    rest = after;
                }
                _ => return false,
            }
        }
    }
    steps > 0 && rest.is_empty()
}

/// JSON Schema of a path.
pub(crate) fn path_schema() -> Value {
    json!({ "type": "string", "pattern": r#"^(\.([A-Za-z0-9_@]+|"[^"]+")(\[[0-9]{1,9}\])*)+$"# })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_lead_to_fields() {
        for path in [".id", ".user.id", ".items[0].id", ".\"user id\"", ".a[0][1]", "._x.@t"] {
            assert!(is_path(path), "{path}");
        }
        for path in ["", ".", "id", ".a.", "..a", ".a b", ".a[x]", ".a[", ".\"\"", ".a-b"] {
            assert!(!is_path(path), "{path}");
        }
    }
}
