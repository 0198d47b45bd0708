//! `pelton savepoint`, `pelton task skip-to`

use super::text;
use crate::{
    cli::{ClientArgs, Format, SavepointCommand, TaskCommand},
    client::{Client, ask, pipeline, within},
    exit::Failure,
    host, output,
};
use pelton_proto::v1;
use serde_json::{Value, json};
use std::time::Duration;

/// The coordinator asks the queue, and waits for transactions that are open.
pub(super) const PATIENCE: Duration = Duration::from_secs(60);

/// `pelton savepoint`
pub async fn savepoint(command: SavepointCommand) -> Result<(), Failure> {
    match command {
        SavepointCommand::Create { pipeline, name, client } => create(pipeline, name, &client).await,
        SavepointCommand::List { pipeline: of, client } => {
            let mut connected = Client::connect(&client.coordinator).await?;
            let request = ask(pipeline(&client.namespace, &of));
            let all = connected.pipelines.list_savepoints(request).await?.into_inner().savepoints;
            list(&all, client.output)
        }
        SavepointCommand::Delete { pipeline, name, client } => {
            let mut connected = Client::connect(&client.coordinator).await?;
            let request = v1::SavepointRef {
                namespace: client.namespace,
                pipeline: pipeline.clone(),
                name: name.clone(),
            };
            connected.pipelines.delete_savepoint(ask(request)).await?;
            output::print(&format!("savepoint {name} of {pipeline} deleted"));
            Ok(())
        }
    }
}

async fn create(pipeline: String, name: String, client: &ClientArgs) -> Result<(), Failure> {
    let mut connected = Client::connect(&client.coordinator).await?;
    let request = v1::SavepointRef { namespace: client.namespace.clone(), pipeline, name };
    let made = connected.pipelines.create_savepoint(within(request.clone(), PATIENCE)).await?.into_inner();
    if client.output == Format::Json || client.output == Format::Yaml {
        return output::value(&as_json(&made), client.output);
    }
    output::print(&format!(
        "savepoint {} of {}/{}: revision {}, {} partitions; `pelton rollback {} --to-savepoint {}` goes back there",
        made.name,
        request.namespace,
        request.pipeline,
        made.revision,
        made.positions.len(),
        request.pipeline,
        made.name
    ));
    Ok(())
}

fn list(all: &[v1::Savepoint], format: Format) -> Result<(), Failure> {
    if format == Format::Json || format == Format::Yaml {
        return output::value(&Value::Array(all.iter().map(as_json).collect()), format);
    }
    let row = |s: &v1::Savepoint| {
        let positions: Vec<String> = s.positions.iter().map(position).collect();
        vec![s.name.clone(), text::time(s.created_ms), s.revision.to_string(), positions.join(" ")]
    };
    output::table(&["NAME", "CREATED", "REVISION", "OFFSETS"], all.iter().map(row).collect());
    Ok(())
}

fn as_json(s: &v1::Savepoint) -> Value {
    let at = |p: &v1::PartitionOffset| {
        let of = p.partition.clone().unwrap_or_default();
        json!({ "topic": of.topic, "partition": of.index, "offset": p.offset })
    };
    json!({
        "name": s.name, "createdMs": s.created_ms, "revision": s.revision,
        "positions": s.positions.iter().map(at).collect::<Vec<_>>(),
    })
}

fn position(p: &v1::PartitionOffset) -> String {
    let of = p.partition.clone().unwrap_or_default();
    format!("{}/{}={}", of.topic, of.index, p.offset)
}

/// `pelton task`
pub async fn task(command: TaskCommand) -> Result<(), Failure> {
    let TaskCommand::SkipTo { pipeline, positions, reason, client } = command;
    let mut connected = Client::connect(&client.coordinator).await?;
    let wanted = positions.iter().map(|p| v1::PartitionOffset {
        partition: Some(v1::Partition { topic: p.topic.clone(), index: p.partition }),
        offset: p.offset,
    });
    let request = v1::SetPositionsRequest {
        namespace: client.namespace.clone(),
        pipeline: pipeline.clone(),
        positions: wanted.collect(),
        by: who(),
        reason,
    };
    let before = connected.pipelines.set_positions(within(request, PATIENCE)).await?.into_inner().before;
    for now in &positions {
        let same = |p: &&v1::PartitionOffset| {
            p.partition.as_ref().is_some_and(|of| of.topic == now.topic && of.index == now.partition)
        };
        let was = before.iter().find(same).map_or_else(|| "?".to_owned(), |p| p.offset.to_string());
        output::print(&format!("{}/{}: {was} -> {}", now.topic, now.partition, now.offset));
    }
    output::print(&format!("`pelton resume {pipeline}` goes on there"));
    Ok(())
}

/// Who asks, for the audit: what the system says, since nobody logs in.
pub(super) fn who() -> String {
    let named = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let user = named("USER").or_else(|| named("LOGNAME")).unwrap_or_else(|| "unknown".to_owned());
    format!("{user}@{}", host::name())
}
