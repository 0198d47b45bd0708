//! `pelton apply`, `pelton diff`

use crate::{
    cli::{ApplyArgs, DefinitionArgs, DiffArgs, Format},
    client::{Client, within},
    exit::Failure,
    input, output,
};
use pelton_proto::v1;
use std::time::Duration;

/// Applying may create topics and load models.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// `pelton diff`: what applying would change. Like `kubectl diff`: exit code 1 when there is a difference.
pub async fn diff(args: DiffArgs) -> Result<(), Failure> {
    let (file_name, definition) = read(args.definition)?;
    let mut client = Client::connect(&args.client.coordinator).await?;
    let namespace = args.client.namespace.clone();
    let request = v1::ApplyRequest { definition, file_name, dry_run: true, namespace };
    let applied = submit(&mut client, request).await?;
    let differ = applied.iter().filter(|one| one.outcome != "unchanged").count();
    if matches!(args.client.output, Format::Json | Format::Yaml) {
        let list: Vec<_> = applied.iter().map(super::json::applied).collect();
        output::value(&list.into(), args.client.output)?;
    } else {
        for one in applied.iter().filter(|one| one.outcome != "unchanged") {
            let kind = one.kind.to_lowercase();
            output::print(&format!("{kind} {}/{} would be {}", one.namespace, one.name, one.outcome));
            one.changes.iter().chain(&one.notes).for_each(|line| output::print(&format!("  {line}")));
        }
    }
    match differ {
        0 => Ok(()),
        _ => Err(Failure::difference()),
    }
}

/// `pelton apply`
pub async fn apply(args: ApplyArgs) -> Result<(), Failure> {
    let (file_name, definition) = read(args.definition)?;
    let mut client = Client::connect(&args.client.coordinator).await?;
    let namespace = args.client.namespace.clone();
    let request = v1::ApplyRequest { definition, file_name, dry_run: args.dry_run, namespace };
    let applied = submit(&mut client, request).await?;
    if matches!(args.client.output, Format::Json | Format::Yaml) {
        let list: Vec<_> = applied.iter().map(super::json::applied).collect();
        return output::value(&list.into(), args.client.output);
    }
    for one in &applied {
        let dry = if args.dry_run { " (dry run)" } else { "" };
        let kind = one.kind.to_lowercase();
        output::print(&format!(
            "{kind} {}/{} {} (revision {}){dry}",
            one.namespace, one.name, one.outcome, one.revision
        ));
        for line in one.changes.iter().chain(&one.notes) {
            output::print(&format!("  {line}"));
        }
    }
    Ok(())
}

/// Send definitions to the coordinator.
///
/// # Errors
/// What the coordinator says is wrong, with every place and its line of the file.
pub async fn submit(client: &mut Client, request: v1::ApplyRequest) -> Result<Vec<v1::Applied>, Failure> {
    let (file, text) = (request.file_name.clone(), request.definition.clone());
    match client.pipelines.apply(within(request, APPLY_TIMEOUT)).await {
        Ok(response) => Ok(response.into_inner().applied),
        Err(status) => {
            let refused = Failure::from(status);
            Err(Failure { message: pelton_config::with_lines(&file, &text, &refused.message), ..refused })
        }
    }
}

/// The file's name for messages, and its text.
fn read(named: DefinitionArgs) -> Result<(String, String), Failure> {
    let path = named.file.or(named.filename);
    let path = path.ok_or_else(|| Failure::new(crate::exit::Exit::Usage, "name a file"))?;
    if path.as_os_str() == "-" {
        return Ok(("standard input".into(), input::of_stdin()?));
    }
    Ok((path.display().to_string(), input::of_file(&path)?))
}
