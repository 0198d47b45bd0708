//! What users write: pipeline definitions, and the settings of a node.
//!
//! Every mistake of a file is found in one go, with file, line, column and what to do.
//!
//! * [`parse`]: a definition file to checked [`Document`]s; [`to_json`] and [`from_json`]: their form on the wire and
//!   in the store; [`diff`]: what a new revision changes; [`schema`]: the JSON Schema that editors use;
//! * [`chain`]: which node of a pipeline reads which;
//! * [`tests`]: what a pipeline's own tests say;
//! * [`settings`]: what a coordinator, a worker or a broker runs with, and where each value came from.
//!
//! Pure: files and environment come in as arguments.

pub mod chain;
mod clusters;
mod component;
mod definition;
mod document;
mod json;
mod nodes;
mod options;
mod path;
mod problem;
mod reader;
mod schema;
pub mod settings;
mod span;
mod substitute;
mod suggest;
pub mod tests;
mod yaml;

pub use document::{
    API_VERSION, DECODE, DEFAULT_COMMIT_INTERVAL, DEFAULT_NAMESPACE, DEFAULT_TASKS, Delivery, Document,
    ENCODE, EndDef, Input, KAFKA, Kind, Metadata, OnError, OperatorDef, PipelineSpec, SinkDef, SourceDef,
    Topics,
};
pub use json::{diff, from_json, to_json};
pub use problem::{Place, Problem, Report, with_lines};
pub use schema::schema;

pub use pelton_sdk::units;
use pelton_sdk::{BuildContext, Registry};

/// Most documents of a file.
const MOST_DOCUMENTS: usize = 100;

/// Read and check a definition file. `env` gives environment variables for `${NAME:default}`.
///
/// A file may hold several documents and has at most 1 MiB; nesting and repetition by aliases are limited.
///
/// # Errors
/// Every mistake of the file, sorted by place.
pub fn parse(
    file_name: &str,
    text: &str,
    registry: &Registry,
    context: &BuildContext,
    env: &dyn Fn(&str) -> Option<String>,
) -> Result<Vec<Document>, Report> {
    let mut problems = reader::Problems::new(file_name);
    if text.len() > yaml::MAX_BYTES {
        let message = format!("the file has {} bytes, the limit is {} (1 MiB)", text.len(), yaml::MAX_BYTES);
        problems.at(Place::new(1, 1), message);
        return problems.finish(Vec::new());
    }
    let parts = yaml::documents(text);
    if parts.is_empty() {
        let hint = format!("a definition begins with `apiVersion: {API_VERSION}` and `kind: Pipeline`");
        problems.hint(Place::new(1, 1), "the file holds no document", Some(hint));
    }
    if parts.len() > MOST_DOCUMENTS {
        let message = format!("the file holds {} documents, the limit is {MOST_DOCUMENTS}", parts.len());
        problems.at(Place::new(1, 1), message);
        return problems.finish(Vec::new());
    }
    let substitution = substitute::Substitution { env, registry, text };
    let mut documents = Vec::new();
    for part in &parts {
        match yaml::read(part) {
            Err(error) => problems.hint(error.place, error.message, error.hint),
            Ok(mut node) => {
                substitution.document(&mut node, &mut problems);
                let components = definition::Components { registry, context, text };
                let document = definition::Definition::new(&mut problems, Some(components)).document(&node);
                documents.extend(document.map(|document| (document, node.place)));
            }
        }
    }
    definition::check_names(&documents, &mut problems);
    problems.finish(documents.into_iter().map(|(document, _)| document).collect())
}
