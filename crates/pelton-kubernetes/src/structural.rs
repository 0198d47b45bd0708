//! From a JSON Schema to a *structural* one, which is what the API server takes for custom resources.
//!
//! A structural schema has a type at every place, no references, no `additionalProperties: false` (unknown fields are
//! the API server's business) and nothing but conditions inside `anyOf` and `oneOf`. What cannot be said that way is let
//! through here, and refused by the coordinator. Defaults stay out of it as well: a default that the API server writes
//! into an object would outlive the version of Pelton that it was the default of.

use serde_json::{Map, Value, json};

/// Let any value through.
const ANYTHING: &str = "x-kubernetes-preserve-unknown-fields";
/// CEL rules of a place.
pub const RULES: &str = "x-kubernetes-validations";
/// Conditions that mean the same in both.
const KEPT: [&str; 10] = [
    "pattern",
    "minLength",
    "maxLength",
    "minimum",
    "maximum",
    "multipleOf",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
];

/// The structural form of `schema`, whose references lead into `root`.
pub fn structural(root: &Value, schema: &Value) -> Value {
    Converter { root, open: Vec::new() }.place(schema)
}

struct Converter<'a> {
    root: &'a Value,
    /// References that are being followed: one that comes again is a recursion.
    open: Vec<String>,
}

impl Converter<'_> {
    fn place(&mut self, schema: &Value) -> Value {
        let Some(schema) = schema.as_object() else { return anything() };
        if let Some(target) = schema.get("$ref").and_then(Value::as_str) {
            return self.followed(target, schema);
        }
        if let Some([only]) = schema.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            return described(self.place(only), schema);
        }
        let branches = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array);
        let out = match branches {
            Some(branches) if !schema.contains_key("properties") => self.choice(branches, schema),
            _ => self.plain(schema),
        };
        described(out, schema)
    }

    fn followed(&mut self, target: &str, around: &Map<String, Value>) -> Value {
        if self.open.iter().any(|open| open == target) {
            return described(anything(), around);
        }
        let Some(found) = target.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer)).cloned()
        else {
            return described(anything(), around);
        };
        self.open.push(target.to_owned());
        let out = self.place(&found);
        self.open.pop();
        described(out, around)
    }

    /// Exactly one, or any, of several forms.
    fn choice(&mut self, branches: &[Value], around: &Map<String, Value>) -> Value {
        let is_null = |branch: &Value| branch["type"] == "null";
        let real: Vec<&Value> = branches.iter().filter(|branch| !is_null(branch)).collect();
        let nullable = real.len() < branches.len();
        if let Some(words) = real.iter().map(|branch| words(branch)).collect::<Option<Vec<_>>>() {
            let explained = real.iter().filter_map(|branch| {
                Some(format!("{}: {}", branch.get("const")?.as_str()?, branch.get("description")?.as_str()?))
            });
            let explained = explained.collect::<Vec<_>>().join(" ");
            let mut out = json!({ "type": "string", "enum": words.concat() });
            if !explained.is_empty() {
                let own = around.get("description").and_then(Value::as_str).unwrap_or_default();
                out["description"] = format!("{own} {explained}").trim().into();
            }
            return with_null(out, nullable);
        }
        match real.as_slice() {
            [only] => {
                let out = self.place(only);
                with_null(out, nullable)
            }
            _ => anything(),
        }
    }

    fn plain(&mut self, schema: &Map<String, Value>) -> Value {
        let (kind, nullable) = kind(schema);
        let Some(kind) = kind else { return anything() };
        let mut out = Map::from_iter([("type".to_owned(), json!(kind))]);
        out.extend(KEPT.iter().filter_map(|key| Some(((*key).to_owned(), schema.get(*key)?.clone()))));
        for (limit, excluded) in [("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")] {
            if let Some(number) = schema.get(excluded).filter(|value| value.is_number()) {
                out.insert(limit.into(), number.clone());
                out.insert(excluded.into(), true.into());
            }
        }
        if let Some(words) = words(&Value::Object(schema.clone())) {
            out.insert("enum".into(), words.into());
        }
        match kind {
            "array" => {
                let items = schema.get("items").map_or_else(anything, |items| self.place(items));
                out.insert("items".into(), items);
            }
            "object" => self.members(schema, &mut out),
            _ => {}
        }
        with_null(Value::Object(out), nullable)
    }

    fn members(&mut self, schema: &Map<String, Value>, out: &mut Map<String, Value>) {
        if let Some(properties) = schema.get("properties").and_then(Value::as_object) {
            let converted: Map<String, Value> =
                properties.iter().map(|(name, member)| (name.clone(), self.place(member))).collect();
            let rule =
                schema.get("oneOf").and_then(Value::as_array).and_then(|all| exactly_one(all, &converted));
            out.insert("properties".into(), converted.into());
            if let Some(rule) = rule {
                out.insert(RULES.into(), json!([rule]));
            }
        } else if let Some(members) = schema.get("additionalProperties").filter(|value| value.is_object()) {
            let members = self.place(members);
            out.insert("additionalProperties".into(), members);
        } else if schema.get("additionalProperties") != Some(&Value::Bool(false)) {
            out.insert(ANYTHING.into(), true.into());
        }
        if let Some(required) =
            schema.get("required").filter(|all| all.as_array().is_some_and(|a| !a.is_empty()))
        {
            out.insert("required".into(), required.clone());
        }
    }
}

/// Any value.
fn anything() -> Value {
    json!({ ANYTHING: true })
}

/// What stands beside a schema: its description, default and first example, as text.
fn described(mut out: Value, schema: &Map<String, Value>) -> Value {
    let given = out.get("description").or_else(|| schema.get("description")).and_then(Value::as_str);
    let mut text = given.unwrap_or_default().to_owned();
    // The description of where a reference stands is nearer than that of where it leads.
    if let (true, Some(near)) =
        (schema.contains_key("$ref"), schema.get("description").and_then(Value::as_str))
    {
        near.clone_into(&mut text);
    }
    let shown = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    if let Some(default) = schema.get("default").filter(|value| !value.is_null()) {
        text = format!("{text} Default: {}.", shown(default));
    }
    if let Some(example) = schema.get("examples").and_then(|all| all.get(0)) {
        text = format!("{text} For example: {}", shown(example));
    }
    if !text.trim().is_empty() {
        out["description"] = text.trim().into();
    }
    out
}

/// The one type of a place, and whether null is one too.
fn kind(schema: &Map<String, Value>) -> (Option<&str>, bool) {
    match schema.get("type") {
        Some(Value::String(kind)) => (Some(kind), false),
        Some(Value::Array(kinds)) => {
            let real: Vec<&str> =
                kinds.iter().filter_map(Value::as_str).filter(|kind| *kind != "null").collect();
            let nullable = real.len() < kinds.len();
            match real.as_slice() {
                [only] => (Some(only), nullable),
                [_, _] if real.contains(&"integer") && real.contains(&"number") => (Some("number"), nullable),
                _ => (None, nullable),
            }
        }
        _ if schema.contains_key("enum") || schema.contains_key("const") => {
            (words(&Value::Object(schema.clone())).map(|_| "string"), false)
        }
        _ if schema.contains_key("properties") => (Some("object"), false),
        _ => (None, false),
    }
}

/// The texts that a schema allows, if it allows a few texts only.
fn words(schema: &Value) -> Option<Vec<Value>> {
    let all = match (schema.get("enum"), schema.get("const")) {
        (Some(Value::Array(all)), _) => all.clone(),
        (_, Some(only)) => vec![only.clone()],
        _ => return None,
    };
    all.iter().all(Value::is_string).then_some(all)
}

fn with_null(mut out: Value, nullable: bool) -> Value {
    if nullable {
        out["nullable"] = true.into();
    }
    out
}

/// A rule for `oneOf: [{required: [a]}, {required: [b]}]`, whose own message would not say what to do. CEL sees only
/// members with a type: where one has none, the rule says that two of the others are too many.
fn exactly_one(branches: &[Value], members: &Map<String, Value>) -> Option<Value> {
    let name = |branch: &Value| match branch.get("required")?.as_array()?.as_slice() {
        [only] => only.as_str().map(str::to_owned),
        _ => None,
    };
    let names = branches.iter().map(name).collect::<Option<Vec<_>>>()?;
    let has_type = |name: &&String| members.get(*name).is_some_and(|member| member.get("type").is_some());
    let seen: Vec<&String> = names.iter().filter(has_type).collect();
    let tests: Vec<String> = seen.iter().map(|name| format!("has(self.{})", cel_name(name))).collect();
    let relation = if seen.len() == names.len() { "==" } else { "<=" };
    let rule = format!("[{}].filter(present, present).size() {relation} 1", tests.join(", "));
    Some(json!({ "rule": rule, "message": format!("name exactly one of: {}", names.join(", ")) }))
}

/// A member's name as CEL has it: words of the language are escaped.
fn cel_name(name: &str) -> String {
    const WORDS: [&str; 20] = [
        "true",
        "false",
        "null",
        "in",
        "as",
        "break",
        "const",
        "continue",
        "else",
        "for",
        "function",
        "if",
        "import",
        "let",
        "loop",
        "package",
        "namespace",
        "return",
        "var",
        "void",
    ];
    if WORDS.contains(&name) { format!("__{name}__") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(schema: Value) -> Value {
        structural(&schema, &schema)
    }

    #[test]
    fn references_are_written_out_and_recursion_ends_in_anything() {
        let schema = json!({
            "type": "object", "additionalProperties": false,
            "properties": { "a": { "$ref": "#/$defs/tree", "description": "near" } },
            "$defs": { "tree": { "type": "array", "description": "far", "items": { "$ref": "#/$defs/tree" } } }
        });
        let out = converted(schema);
        let tree = json!({ "type": "array", "description": "near", "items": { ANYTHING: true } });
        assert_eq!(out, json!({ "type": "object", "properties": { "a": tree } }));
    }

    #[test]
    fn alternatives_become_words_a_nullable_type_or_anything() {
        let start = json!({ "oneOf": [
            { "const": "earliest", "description": "oldest" }, { "const": "latest", "description": "newest" }
        ], "description": "Where." });
        let words = json!({
            "type": "string", "enum": ["earliest", "latest"],
            "description": "Where. earliest: oldest latest: newest"
        });
        assert_eq!(converted(start), words);
        let maybe = json!({ "anyOf": [{ "type": "string" }, { "type": "null" }] });
        assert_eq!(converted(maybe), json!({ "type": "string", "nullable": true }));
        assert_eq!(
            converted(json!({ "type": ["integer", "null"] })),
            json!({ "type": "integer", "nullable": true })
        );
        let mixed = json!({ "anyOf": [{ "type": "string" }, { "type": "object" }] });
        assert_eq!(converted(mixed), json!({ ANYTHING: true }));
    }

    #[test]
    fn one_of_several_members_is_a_rule_with_words() {
        let schema = json!({
            "type": "object", "oneOf": [{ "required": ["a"] }, { "required": ["in"] }],
            "properties": { "a": { "type": "string" }, "in": { "type": "string" } }
        });
        let rule = &converted(schema)[RULES][0];
        assert_eq!(rule["rule"], "[has(self.a), has(self.__in__)].filter(present, present).size() == 1");
        assert_eq!(rule["message"], "name exactly one of: a, in");
    }

    #[test]
    fn defaults_are_told_and_not_set() {
        let out =
            converted(json!({ "type": "integer", "default": 4, "exclusiveMinimum": 0, "examples": [7] }));
        let described = json!({
            "type": "integer", "minimum": 0, "exclusiveMinimum": true, "description": "Default: 4. For example: 7"
        });
        assert_eq!(out, described);
    }
}
