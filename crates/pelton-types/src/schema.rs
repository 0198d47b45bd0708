//! What the records of a source or an operator look like, as far as it is known.

use std::{collections::BTreeMap, fmt};

/// The types of a record's fields. Fields that it does not name may be there too, of any type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordSchema {
    /// Fields by name.
    pub fields: BTreeMap<String, Field>,
}

/// A field of a [`RecordSchema`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Field {
    /// What its value is.
    pub kind: FieldKind,
    /// It may be missing, or null.
    pub optional: bool,
}

/// What a value is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FieldKind {
    /// Anything.
    Any,
    /// `true` or `false`.
    Boolean,
    /// A whole number of 64 bits.
    Integer,
    /// A number; a whole one will do.
    Float,
    /// A text.
    String,
    /// A text that is a time by RFC 3339, such as `2024-05-01T12:00:00Z`.
    Timestamp,
    /// A list, and what its elements are.
    Array(Box<Field>),
    /// An object, and what its fields are.
    Object(RecordSchema),
}

/// Types that are a word, with their words.
pub const WORDS: [(&str, FieldKind); 6] = [
    ("any", FieldKind::Any),
    ("boolean", FieldKind::Boolean),
    ("integer", FieldKind::Integer),
    ("float", FieldKind::Float),
    ("string", FieldKind::String),
    ("timestamp", FieldKind::Timestamp),
];

impl RecordSchema {
    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// What holds for the records of both: fields in which the two differ may be anything.
    pub fn union(&self, other: &RecordSchema) -> RecordSchema {
        let mut fields = BTreeMap::new();
        for name in self.fields.keys().chain(other.fields.keys()) {
            let field = match (self.fields.get(name), other.fields.get(name)) {
                (Some(one), Some(two)) => one.union(two),
                _ => Field { kind: FieldKind::Any, optional: true },
            };
            fields.insert(name.clone(), field);
        }
        RecordSchema { fields }
    }
}

impl Field {
    /// A field that must be there.
    pub fn required(kind: FieldKind) -> Self {
        Self { kind, optional: false }
    }

    fn union(&self, other: &Field) -> Field {
        let kind = match (&self.kind, &other.kind) {
            (one, two) if one == two => one.clone(),
            (FieldKind::Object(one), FieldKind::Object(two)) => FieldKind::Object(one.union(two)),
            (FieldKind::Array(one), FieldKind::Array(two)) => FieldKind::Array(Box::new(one.union(two))),
            _ => FieldKind::Any,
        };
        Field { kind, optional: self.optional || other.optional }
    }
}

impl fmt::Display for FieldKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FieldKind::Array(_) => f.write_str("array"),
            FieldKind::Object(_) => f.write_str("object"),
            word => f.write_str(WORDS.iter().find(|(_, kind)| kind == word).map_or("any", |(name, _)| name)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_schemas_have_in_common_what_they_agree_on() {
        let of = |fields: &[(&str, FieldKind)]| RecordSchema {
            fields: fields.iter().map(|(n, k)| ((*n).to_owned(), Field::required(k.clone()))).collect(),
        };
        let one = of(&[("id", FieldKind::Integer), ("price", FieldKind::Float), ("a", FieldKind::String)]);
        let two = of(&[("id", FieldKind::Integer), ("price", FieldKind::String)]);
        let both = one.union(&two);
        assert_eq!(both.fields["id"], Field::required(FieldKind::Integer));
        assert_eq!(both.fields["price"], Field::required(FieldKind::Any));
        assert_eq!(both.fields["a"], Field { kind: FieldKind::Any, optional: true });
    }
}
