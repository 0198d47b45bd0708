//! What is known of the fields that a format sets, so that programs behind `parse` can count on their types.

use crate::{
    formats::{Format, access::Access, pairs::Pairs, pattern::Pattern, syslog::Form},
    options::{OnMismatch, Settings, Source},
};
use pelton_expr::Kind;
use pelton_sdk::types::schema::{Field, FieldKind, RecordSchema};
use std::collections::{BTreeMap, BTreeSet};

/// The fields of a line.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sets {
    /// By name; optional where a line may lack the field, or make it null.
    pub fields: BTreeMap<String, Field>,
    /// Those that a line may lack: the record keeps what it had.
    pub missing: BTreeSet<String>,
    /// A line may have fields of any other name.
    pub others: bool,
}

impl Sets {
    pub fn of(format: &Format) -> Self {
        match format {
            Format::Pattern(pattern) => Self::of_pattern(pattern),
            Format::Access(access) => Self::of_access(access),
            Format::Syslog(syslog) => Self::of_syslog(syslog.form()),
            Format::Pairs(pairs) => Self::of_pairs(pairs),
        }
    }

    fn of_pattern(pattern: &Pattern) -> Self {
        let mut sets = Self::default();
        for (name, kind, missing, null) in pattern.kinds() {
            sets.add(name, Field { kind: field_kind(kind), optional: null }, missing);
        }
        sets
    }

    fn of_access(access: &Access) -> Self {
        let mut sets = Self::default();
        // Any value may be `-`, which is none.
        for (name, kind) in access.kinds() {
            sets.add(name, Field::required(kind), true);
        }
        sets
    }

    fn of_syslog(form: Form) -> Self {
        let mut sets = Self::default();
        let text = || Field::required(FieldKind::String);
        for name in ["facility", "severity"] {
            sets.add(name, text(), form != Form::Rfc5424);
        }
        for name in ["timestamp", "hostname", "message"] {
            sets.add(name, text(), form != Form::Rfc3164);
        }
        for name in ["appname", "procid"] {
            sets.add(name, text(), true);
        }
        if form != Form::Rfc3164 {
            sets.add("msgid", text(), true);
            let data = FieldKind::Object(RecordSchema::of_unknown());
            sets.add("structuredData", Field::required(data), true);
        }
        sets
    }

    fn of_pairs(pairs: &Pairs) -> Self {
        let mut sets = Self { others: true, ..Self::default() };
        for (name, kind) in &pairs.types {
            sets.add(name, Field { kind: field_kind(*kind), optional: *kind != Kind::String }, true);
        }
        sets
    }

    /// A name that a format has twice is what one of them is.
    fn add(&mut self, name: &str, field: Field, missing: bool) {
        let (field, missing) = match self.fields.get(name) {
            Some(other) => (other.union(&field), missing && self.missing.contains(name)),
            None => (field, missing),
        };
        self.fields.insert(name.to_owned(), field);
        if missing {
            self.missing.insert(name.to_owned());
        } else {
            self.missing.remove(name);
        }
    }

    /// The object that has these fields and no others from before.
    fn alone(self) -> RecordSchema {
        let Self { mut fields, missing, others } = self;
        fields.iter_mut().for_each(|(name, field)| field.optional |= missing.contains(name));
        RecordSchema { fields, open: others }
    }
}

fn field_kind(kind: Kind) -> FieldKind {
    match kind {
        Kind::String => FieldKind::String,
        Kind::Integer => FieldKind::Integer,
        Kind::Float => FieldKind::Float,
        Kind::Boolean => FieldKind::Boolean,
    }
}

/// What is known of the records behind the operator, given what is known of those before it.
pub(crate) fn output(settings: &Settings, input: Option<&RecordSchema>) -> Option<RecordSchema> {
    let sets = Sets::of(&settings.format);
    let passes = settings.on_mismatch == OnMismatch::Pass;
    let before = match settings.source {
        // The line is replaced by an object of its fields alone; one that passes is no object.
        Source::Record if passes => return None,
        Source::Record => None,
        Source::Field(_) => Some(input.cloned().unwrap_or_else(RecordSchema::of_unknown)),
    };
    let after = match &settings.into {
        Some(name) => {
            let mut after = before.clone().unwrap_or_default();
            after.fields.insert(name.clone(), Field::required(FieldKind::Object(sets.alone())));
            after
        }
        None => merged(sets, before.as_ref()),
    };
    match before {
        Some(before) if passes => Some(before.union(&after)),
        _ => Some(after),
    }
}

/// A record whose fields were set; `None`: one that had none before.
fn merged(sets: Sets, before: Option<&RecordSchema>) -> RecordSchema {
    let Some(before) = before else { return sets.alone() };
    let mut after = before.clone();
    if sets.others {
        after.open = true;
        for field in after.fields.values_mut() {
            *field = field.union(&Field::required(FieldKind::String));
        }
    }
    let anything = Field::unknown();
    for (name, field) in sets.fields {
        // Where the line lacks it, the record keeps what it had under this name.
        let field = if sets.missing.contains(&name) {
            field.union(before.fields.get(&name).unwrap_or(&anything))
        } else {
            field
        };
        after.fields.insert(name, field);
    }
    after
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;
    use serde_json::{Value, json};

    fn of(options: Value, input: &[(&str, Field)]) -> BTreeMap<String, Field> {
        let fields = input.iter().map(|(name, field)| ((*name).to_owned(), field.clone())).collect();
        let settings = options::parse(&options).unwrap();
        output(&settings, Some(&RecordSchema { fields, open: false })).unwrap_or_default().fields
    }

    fn required(kind: FieldKind) -> Field {
        Field::required(kind)
    }

    fn optional(kind: FieldKind) -> Field {
        Field { kind, optional: true }
    }

    #[test]
    fn groups_that_always_match_are_there_and_their_types_are_known() {
        let types = json!({ "status": "integer", "took": "float" });
        let regex = r"(?P<path>\S*) (?P<status>\d+) (?P<took>.*)";
        let found = of(
            json!({ "regex": regex, "types": types }),
            &[("id", required(FieldKind::Integer)), ("path", required(FieldKind::Boolean))],
        );
        assert_eq!(found["id"], required(FieldKind::Integer), "what the line does not touch stays known");
        assert_eq!(found["path"], required(FieldKind::String));
        assert_eq!(found["status"], required(FieldKind::Integer));
        // An empty text is null where it should be a number.
        assert_eq!(found["took"], optional(FieldKind::Float));
    }

    #[test]
    fn a_group_that_may_be_missing_leaves_what_the_record_had() {
        let options = json!({ "regex": r"(?P<a>x)(?P<b>y)?" });
        let found = of(options.clone(), &[("b", required(FieldKind::Integer))]);
        assert_eq!(found["b"], required(FieldKind::Any));
        assert_eq!(of(options.clone(), &[])["b"], optional(FieldKind::Any));
        let mut whole = options;
        whole["field"] = json!(".");
        let found = of(whole, &[("b", required(FieldKind::Integer)), ("c", required(FieldKind::Integer))]);
        assert_eq!(found["b"], optional(FieldKind::String));
        assert!(!found.contains_key("c"), "the line was the record: {found:?}");
    }

    #[test]
    fn logs_of_servers_are_known_in_their_own_member() {
        let found = of(json!({ "nginx": "combined", "into": "http" }), &[]);
        let FieldKind::Object(http) = &found["http"].kind else { panic!("{found:?}") };
        assert_eq!(
            (&found["http"].optional, &http.fields["status"]),
            (&false, &optional(FieldKind::Integer))
        );
        assert_eq!(http.fields["method"], optional(FieldKind::String));
        let found = of(json!({ "syslog": "rfc3164", "field": "." }), &[]);
        assert_eq!(found["message"], required(FieldKind::String));
        assert_eq!(found["appname"], optional(FieldKind::String));
    }

    #[test]
    fn fields_that_nobody_named_may_still_be_read() {
        let open = |options: Value| {
            let settings = options::parse(&options).unwrap();
            output(&settings, None).map(|schema| schema.open)
        };
        assert_eq!(open(json!({ "regex": "(?P<a>x)" })), Some(true));
        assert_eq!(open(json!({ "regex": "(?P<a>x)", "field": "." })), Some(false), "all fields are known");
        assert_eq!(open(json!({ "keyValue": true, "field": "." })), Some(true));
    }

    #[test]
    fn pairs_may_set_anything_and_lines_that_pass_set_nothing() {
        let found = of(
            json!({ "keyValue": true, "types": { "took": "integer" } }),
            &[("id", required(FieldKind::Integer)), ("name", required(FieldKind::String))],
        );
        assert_eq!(found["id"], required(FieldKind::Any));
        assert_eq!(found["name"], required(FieldKind::String));
        let found =
            of(json!({ "regex": "(?P<a>x)", "onMismatch": "pass" }), &[("id", required(FieldKind::Integer))]);
        assert_eq!(found["id"], required(FieldKind::Integer));
        assert_eq!(found["a"], optional(FieldKind::Any));
        assert!(of(json!({ "regex": "(?P<a>x)", "onMismatch": "pass", "field": "." }), &[]).is_empty());
    }
}
