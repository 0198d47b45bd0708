//! What a pipeline's ends have to have in common under exactly-once: one cluster that a transaction can span.

use crate::document::{PipelineSpec, SinkDef, SourceDef};
use pelton_sdk::Registry;
use serde_json::Value;

/// Why the ends of a pipeline cannot take part in one transaction, and what to do. Pure.
pub(crate) fn fault(spec: &PipelineSpec, registry: &Registry) -> Option<(String, String)> {
    let source = |(name, s): (&String, &SourceDef)| {
        (format!("source `{name}`"), s.connector.clone(), s.options.clone())
    };
    let sink =
        |(name, s): (&String, &SinkDef)| (format!("sink `{name}`"), s.connector.clone(), s.options.clone());
    let letters = spec.on_error.dead_letter.iter();
    let letters =
        letters.map(|end| ("the dead-letter end".to_owned(), end.connector.clone(), end.options.clone()));
    let ends: Vec<(String, String, Value)> =
        spec.sources.iter().map(source).chain(spec.sinks.iter().map(sink)).chain(letters).collect();
    let mut first: Option<(String, String)> = None;
    for (end, connector, options) in ends {
        let cluster = registry.find_connector(&connector).and_then(|factory| factory.cluster(&options));
        let Some(cluster) = cluster else {
            return Some((
                format!("`exactly-once`: {end} is of the kind `{connector}`, which takes part in no transaction"),
                "write `delivery: at-least-once`, or let this pipeline end in a topic and copy that with a second one"
                    .to_owned(),
            ));
        };
        match &first {
            None => first = Some((end, cluster)),
            Some((_, known)) if *known == cluster => {}
            Some((other, known)) => {
                return Some((
                    format!(
                        "`exactly-once`: {other} is at {known} and {end} at {cluster}; no transaction spans two clusters"
                    ),
                    "write to a topic of the source's cluster, and copy it over with a second pipeline of \
                     `delivery: at-least-once`; two connections to one cluster count as two"
                        .to_owned(),
                ));
            }
        }
    }
    None
}
