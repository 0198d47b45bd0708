//! `pelton validate` and `pelton schema`: no coordinator, no queue.

use crate::{
    cli::ValidateArgs,
    components::{self, Connections},
    exit::Failure,
    output,
    settings::Node,
};
use pelton_config::Document;
use pelton_sdk::BuildContext;
use std::path::{Path, PathBuf};

/// A definition file that was read and checked.
pub struct Definitions {
    /// Its name, for messages.
    pub name: String,
    /// Its text.
    pub text: String,
    /// Its documents.
    pub documents: Vec<Document>,
    /// Folder of the file: where relative paths and models start.
    pub folder: PathBuf,
}

/// Read and check a definition file, against a node's connections where they are known.
///
/// # Errors
/// A file that cannot be read, or every mistake in it with its place.
pub fn read(
    path: &Path,
    models: Option<&Path>,
    connections: Option<Connections>,
) -> Result<Definitions, Failure> {
    let name = path.display().to_string();
    let text = crate::input::of_file(path)?;
    let folder = match path.parent() {
        Some(parent) if parent != Path::new("") => parent.to_path_buf(),
        _ => PathBuf::from("."),
    };
    let folder = folder.canonicalize().unwrap_or(folder);
    let registry = components::for_checks(&folder, connections)?;
    let context = BuildContext::detached(models.unwrap_or(&folder));
    let env = |variable: &str| std::env::var(variable).ok();
    let documents = pelton_config::parse(&name, &text, &registry, &context, &env)
        .map_err(|report| Failure::bad(report.render(&text).trim_end()))?;
    Ok(Definitions { name, text, documents, folder })
}

/// `pelton validate`
pub fn validate(node: &Node, args: &ValidateArgs) -> Result<(), Failure> {
    let connections = node.connections()?;
    let mut failures = Vec::new();
    for path in &args.files {
        match read(path, args.models.as_deref(), connections.clone()) {
            Ok(found) => {
                for document in &found.documents {
                    output::print(&format!("{}: {} {} is valid", found.name, document.kind, document.name()));
                    notes(&found, document, args.models.as_deref());
                }
            }
            Err(failure) => failures.push(failure.message),
        }
    }
    if failures.is_empty() { Ok(()) } else { Err(Failure::bad(failures.join("\n"))) }
}

/// Say what the operators have to say although nothing is wrong.
fn notes(found: &Definitions, document: &Document, models: Option<&Path>) {
    let Ok(registry) = components::for_checks(&found.folder, None) else { return };
    let context = BuildContext::detached(models.unwrap_or(&found.folder));
    for operator in &document.spec.operators {
        let Some(factory) = registry.find_operator(&operator.kind) else { continue };
        // Fields' types are left out here: what they make a mistake was found above.
        let shape = factory.check(&operator.options, &context).unwrap_or_default();
        for note in shape.notes {
            output::print(&format!("  note: `{}` {note}", operator.name));
        }
    }
}

/// `pelton schema`
pub fn schema() -> Result<(), Failure> {
    let registry = components::for_checks(Path::new("."), None)?;
    output::value(&pelton_config::schema(&registry), crate::cli::Format::Json)
}
