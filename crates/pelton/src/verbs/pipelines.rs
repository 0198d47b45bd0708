//! `pelton delete|pause|resume|rollback|drain`

use crate::{
    cli::{DrainArgs, Format, NamedArgs, RollbackArgs},
    client::{Client, ask, pipeline, within},
    exit::{Exit, Failure},
    output,
};
use pelton_proto::{json::pipeline as of_pipeline, v1};
use serde_json::json;
use std::time::{Duration, Instant};

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
    let namespace = &args.client.namespace;
    output::done(args.client.output, json!({ "namespace": namespace, "name": name, "deleted": true }), || {
        format!("pipeline {namespace}/{name} deleted; its topics and offsets stay")
    })
}

/// `pelton pause`
pub async fn pause(args: NamedArgs) -> Result<(), Failure> {
    let name = only(&args.name, "pipeline")?;
    let mut client = Client::connect(&args.client.coordinator).await?;
    let paused = client.pipelines.pause(ask(pipeline(&args.client.namespace, name))).await?.into_inner();
    output::done(args.client.output, of_pipeline(&paused), || {
        format!("pipeline {}/{} paused; `pelton resume {name}` goes on", paused.namespace, paused.name)
    })
}

/// `pelton resume`
pub async fn resume(args: NamedArgs) -> Result<(), Failure> {
    let name = only(&args.name, "pipeline")?;
    let mut client = Client::connect(&args.client.coordinator).await?;
    let resumed = client.pipelines.resume(ask(pipeline(&args.client.namespace, name))).await?.into_inner();
    output::done(args.client.output, of_pipeline(&resumed), || {
        format!("pipeline {}/{} resumed", resumed.namespace, resumed.name)
    })
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
    output::done(args.client.output, of_pipeline(&now), || {
        let at = args.to_savepoint.iter().map(|savepoint| {
            format!("\n  at the offsets of savepoint {savepoint}; `pelton resume {}` goes on", now.name)
        });
        let done =
            format!("pipeline {}/{} rolled back; now revision {}", now.namespace, now.name, now.revision);
        at.fold(done, |all, at| all + &at)
    })
}

/// Between two looks at a worker that is drained.
const LOOK: Duration = Duration::from_millis(100);

/// `pelton drain`
pub async fn drain(args: DrainArgs) -> Result<(), Failure> {
    let worker = only(&args.worker, "worker")?;
    let mut client = Client::connect(&args.client.coordinator).await?;
    let request = v1::DrainWorkerRequest { worker_id: worker.to_owned() };
    let tasks = client.cluster.drain_worker(ask(request)).await?.into_inner().tasks;
    let format = args.client.output;
    if matches!(format, Format::Table | Format::Wide) {
        let tasks = output::many(tasks.into(), "task moves", "tasks move");
        output::print(&format!("worker {worker} is draining; {tasks} to other workers"));
    }
    let report = |left: u32| json!({ "worker": worker, "moving": tasks, "left": left });
    let Some(wait) = args.wait else { return output::done(format, report(tasks), String::new) };
    let begun = Instant::now();
    loop {
        let workers = client.cluster.list_workers(ask(v1::ListWorkersRequest {})).await?.into_inner().workers;
        match left(&workers, worker) {
            Left::Tasks(0) => {
                return output::done(format, report(0), || format!("worker {worker} has no task any more"));
            }
            Left::Nobody(left) => {
                return output::done(format, report(left), || {
                    format!("no other worker takes its {left} tasks; they wait for one")
                });
            }
            Left::Tasks(tasks) if begun.elapsed() > wait => {
                return Err(Failure::unavailable(format!(
                    "worker {worker} still has {tasks} tasks after {wait:?}; they go on moving"
                )));
            }
            Left::Tasks(_) => tokio::time::sleep(LOOK).await,
        }
    }
}

/// How far a drain is.
#[derive(Debug, PartialEq)]
enum Left {
    /// So many tasks are left.
    Tasks(u32),
    /// So many are left, and nobody is there to take them.
    Nobody(u32),
}

fn left(workers: &[v1::Worker], drained: &str) -> Left {
    let tasks = workers.iter().find(|w| w.id == drained && w.state != "lost").map_or(0, |w| w.tasks);
    if tasks > 0 && !workers.iter().any(|w| w.state == "attached" && w.id != drained) {
        return Left::Nobody(tasks);
    }
    Left::Tasks(tasks)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn worker(id: &str, state: &str, tasks: u32) -> v1::Worker {
        v1::Worker { id: id.into(), state: state.into(), tasks, ..v1::Worker::default() }
    }

    #[test]
    fn a_drain_ends_when_the_tasks_are_gone_or_nobody_takes_them() {
        let two = |state, tasks| [worker("a", "draining", tasks), worker("b", state, 1)];
        assert_eq!(left(&two("attached", 3), "a"), Left::Tasks(3));
        assert_eq!(left(&two("attached", 0), "a"), Left::Tasks(0));
        assert_eq!(left(&two("draining", 3), "a"), Left::Nobody(3));
        assert_eq!(left(&two("lost", 3), "a"), Left::Nobody(3));
        assert_eq!(left(&[worker("b", "attached", 4)], "a"), Left::Tasks(0), "it has ended");
    }
}
