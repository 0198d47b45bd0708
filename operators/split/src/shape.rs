//! What is known of the records that elements become.

use crate::options::{Settings, Source};
use pelton_sdk::types::schema::{Field, FieldKind, RecordSchema};

/// Given what is known of the records before; `None`: nothing.
pub(crate) fn output(settings: &Settings, input: Option<&RecordSchema>) -> Option<RecordSchema> {
    let anything = Field::unknown();
    let known = |path: &pelton_expr::Path| input?.at(&path.names()?).cloned();
    let element = match &settings.source {
        // A schema is of objects, and here the record is an array.
        Source::Record => None,
        Source::Field(path) => match known(path).map(|field| field.kind) {
            Some(FieldKind::Array(element)) => Some(*element),
            _ => None,
        },
    };
    let element = element.unwrap_or_else(|| anything.clone());
    let kept = settings
        .keep
        .iter()
        .map(|(name, path)| (name.as_str(), known(path).unwrap_or_else(|| anything.clone())));
    match &settings.into {
        // A record of its own: what is kept, and the element.
        Some(name) => {
            let made = kept.fold(RecordSchema::default(), |made, (kept, field)| made.with(&[kept], field));
            // An element is there, though it may be null.
            Some(made.with(&[name.as_str()], element))
        }
        None => {
            // A record that is null has no fields.
            if element.optional && settings.keep.is_empty() {
                return None;
            }
            let FieldKind::Object(fields) = element.kind else {
                // Whatever else it is, only objects have fields, and what is kept is put into those alone.
                let made = kept.fold(RecordSchema::of_unknown(), |made, (kept, field)| {
                    made.with(&[kept], over(field, &anything))
                });
                return (!made.is_empty()).then_some(made);
            };
            Some(kept.fold(fields, |made, (kept, field)| {
                let own = made.fields.get(kept).unwrap_or(&anything).clone();
                made.with(&[kept], over(field, &own))
            }))
        }
    }
}

/// A field that is kept over the element's own: where it is missing, the element's stays.
fn over(kept: Field, own: &Field) -> Field {
    if kept.optional { kept.union(own) } else { kept }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options;
    use serde_json::{Value, json};

    fn of(options: Value) -> Option<RecordSchema> {
        let item = RecordSchema::default()
            .with(&["sku"], Field::required(FieldKind::String))
            .with(&["n"], Field::required(FieldKind::Integer));
        let items = FieldKind::Array(Box::new(Field::required(FieldKind::Object(item))));
        let input = RecordSchema::default()
            .with(&["order", "id"], Field::required(FieldKind::Integer))
            .with(&["n"], Field { kind: FieldKind::String, optional: true })
            .with(&["items"], Field::required(items))
            .with(&["tags"], Field::required(FieldKind::Array(Box::new(Field::required(FieldKind::String)))));
        output(&options::parse(&options).unwrap(), Some(&input))
    }

    #[test]
    fn elements_have_the_types_that_the_array_has() {
        let made = of(json!({ "field": ".items", "keep": [".order.id"] })).unwrap();
        assert_eq!(made.at(&["sku"]), Some(&Field::required(FieldKind::String)));
        assert_eq!(made.at(&["id"]), Some(&Field::required(FieldKind::Integer)));
        assert_eq!(made.at(&["items"]), None, "it stays behind");
        let made = of(json!({ "field": ".tags", "into": "tag", "keep": { "order": ".order.id" } })).unwrap();
        assert_eq!(made.at(&["tag"]), Some(&Field::required(FieldKind::String)));
        assert_eq!(made.at(&["order"]), Some(&Field::required(FieldKind::Integer)));
    }

    #[test]
    fn what_may_be_missing_leaves_the_field_of_the_element() {
        let made = of(json!({ "field": ".items", "keep": [".n"] })).unwrap();
        assert_eq!(made.at(&["n"]), Some(&Field::unknown()));
    }

    #[test]
    fn of_arrays_without_types_nothing_is_known() {
        assert_eq!(of(json!({})), None);
        assert_eq!(of(json!({ "field": ".order" })), None);
        let made = of(json!({ "field": ".order.lines", "keep": [".order.id"] })).unwrap();
        assert_eq!(made.at(&["id"]), Some(&Field::required(FieldKind::Integer)));
    }
}
