//! What the records of a source or an operator look like, as far as it is known.

use std::{collections::BTreeMap, fmt};

/// The types of a record's fields. Fields that it does not name may be there too, of any type; unless it is `open`, whoever
/// wrote it named all that are meant to be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecordSchema {
    /// Fields by name.
    pub fields: BTreeMap<String, Field>,
    /// Records have more fields that nobody named, so reading another one is no slip of the pen.
    pub open: bool,
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
    /// Of records of which nothing is known, to add what becomes known.
    pub fn of_unknown() -> Self {
        Self { open: true, ..Self::default() }
    }

    /// Whether nothing is known.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The field at the end of these names, if all on the way are known and there.
    pub fn at(&self, names: &[&str]) -> Option<&Field> {
        let (last, way) = names.split_last()?;
        let mut here = self;
        for name in way {
            match here.fields.get(*name) {
                Some(Field { kind: FieldKind::Object(inner), optional: false }) => here = inner,
                _ => return None,
            }
        }
        here.fields.get(*last)
    }

    /// The same with a field set at the end of these names, in objects that are made where they are missing. What was
    /// known of something else on the way no longer holds.
    #[must_use]
    pub fn with(&self, names: &[&str], field: Field) -> RecordSchema {
        let mut made = self.clone();
        match names {
            [] => {}
            [name] => drop(made.fields.insert((*name).to_owned(), field)),
            [name, rest @ ..] => {
                let mut inner = match self.fields.get(*name) {
                    Some(Field { kind: FieldKind::Object(inner), .. }) => inner.clone(),
                    // What is there already, if anything, may have fields of its own.
                    Some(_) => RecordSchema::of_unknown(),
                    None => RecordSchema { open: self.open, ..RecordSchema::default() },
                };
                // One that is made anew has no other fields.
                let certain = self.fields.get(*name).is_some_and(|field| !field.optional);
                inner.fields.values_mut().for_each(|field| field.optional |= !certain);
                let inner = inner.with(rest, field);
                made.fields.insert((*name).to_owned(), Field::required(FieldKind::Object(inner)));
            }
        }
        made
    }

    /// What holds for the records of both: fields in which the two differ may be anything.
    pub fn union(&self, other: &RecordSchema) -> RecordSchema {
        let mut fields = BTreeMap::new();
        for name in self.fields.keys().chain(other.fields.keys()) {
            let field = match (self.fields.get(name), other.fields.get(name)) {
                (Some(one), Some(two)) => one.union(two),
                _ => Field::unknown(),
            };
            fields.insert(name.clone(), field);
        }
        RecordSchema { fields, open: self.open || other.open }
    }
}

impl Field {
    /// A field that must be there.
    pub fn required(kind: FieldKind) -> Self {
        Self { kind, optional: false }
    }

    /// A field of which nothing is known.
    pub fn unknown() -> Self {
        Self { kind: FieldKind::Any, optional: true }
    }

    /// A field that is one of the two.
    #[must_use]
    pub fn union(&self, other: &Field) -> Field {
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
    fn a_field_is_set_and_found_inside_objects() {
        let schema = RecordSchema::default().with(&["id"], Field::required(FieldKind::Integer));
        let schema = schema.with(&["user", "name"], Field::required(FieldKind::String));
        let schema = schema.with(&["user", "age"], Field { kind: FieldKind::Integer, optional: true });
        assert_eq!(schema.at(&["id"]), Some(&Field::required(FieldKind::Integer)));
        assert_eq!(schema.at(&["user", "name"]), Some(&Field::required(FieldKind::String)));
        assert_eq!(schema.at(&["id", "name"]), None);
        let mut user = schema.clone();
        user.fields.get_mut("user").unwrap().optional = true;
        let made = user.with(&["user", "seen"], Field::required(FieldKind::Any));
        assert!(made.at(&["user", "name"]).unwrap().optional, "a user that is made anew has no name");
        let replaced = schema.with(&["id", "x"], Field::required(FieldKind::Any));
        assert_eq!(replaced.at(&["id", "x"]), Some(&Field::required(FieldKind::Any)));
        assert_eq!(schema.at(&[]), None);
    }

    #[test]
    fn two_schemas_have_in_common_what_they_agree_on() {
        let of = |fields: &[(&str, FieldKind)]| RecordSchema {
            open: false,
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
