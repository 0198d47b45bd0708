//! `pelton delete|pause|resume|rollback|drain`

use crate::{
    cli::{DrainArgs, NamedArgs, RollbackArgs},
    client::{Client, ask, pipeline, within},
    exit::{Exit, Failure},
    output,
};
use pelton_proto::v1;

/// `NAME` or `pipeline NAME`, as kubectl's users type it.
pub(super) fn only<'a>(words: &'a [String], kind: &str) -> Result<&'a str, Failure> {
    match words {
        [name] => Ok(name),
        [word, name] if word.trim_end_matches('s') == kind => Ok(name),
        _ => Err(Failure::new(Exit::Usage, format!("give a name, or `{kind}` and a name"))),
    }
}

/// `pelton delete`
pub async fn delete(args: NamedArgs) -> Result<(), Failure> {
    let name = only(&args.name, "pipeline")?;
    let mut client = Client::connect(&args.client.coordinator).await?;
    client.pipelines.delete(ask(pipeline(&args.client.namespace, name))).await?;
    output::print(&format!("pipeline {}/{name} deleted; its topics and offsets stay", args.client.namespace));
    Ok(())
}

/// `pelton pause`
pub async fn pause(args: NamedArgs) -> Result<(), Failure> {
    let name = only(&args.name, "pipeline")?;
    let mut client = Client::connect(&args.client.coordinator).await?;
    let paused = client.pipelines.pause(ask(pipeline(&args.client.namespace, name))).await?.into_inner();
    output::print(&format!(
        "pipeline {}/{} paused; `pelton resume {name}` goes on",
        paused.namespace, paused.name
    ));
    Ok(())
}

/// `pelton resume`
pub async fn resume(args: NamedArgs) -> Result<(), Failure> {
    let name = only(&args.name, "pipeline")?;
    let mut client = Client::connect(&args.client.coordinator).await?;
    let resumed = client.pipelines.resume(ask(pipeline(&args.client.namespace, name))).await?.into_inner();
    output::print(&format!("pipeline {}/{} resumed", resumed.namespace, resumed.name));
    Ok(())
}

/// `pelton rollback`
pub async fn rollback(args: RollbackArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&args.client.coordinator).await?;
    let request = v1::RollbackRequest {
        namespace: args.client.namespace.clone(),
        name: args.name.clone(),
        revision: args.to_revision,
        savepoint: args.to_savepoint.clone().unwrap_or_default(),
        by: super::positions::who(),
        reason: args.reason.clone(),
    };
    let now = client.pipelines.rollback(within(request, super::positions::PATIENCE)).await?.into_inner();
    output::print(&format!(
        "pipeline {}/{} rolled back; now revision {}",
        now.namespace, now.name, now.revision
    ));
    if let Some(savepoint) = &args.to_savepoint {
        output::print(&format!(
            "  at the offsets of savepoint {savepoint}; `pelton resume {}` goes on",
            now.name
        ));
    }
    Ok(())
}

/// `pelton drain`
pub async fn drain(args: DrainArgs) -> Result<(), Failure> {
    let worker = only(&args.worker, "worker")?;
    let mut client = Client::connect(&args.client.coordinator).await?;
    let request = v1::DrainWorkerRequest { worker_id: worker.to_owned() };
    let tasks = client.cluster.drain_worker(ask(request)).await?.into_inner().tasks;
    output::print(&format!("worker {worker} is draining; {tasks} tasks move to other workers"));
    Ok(())
}
