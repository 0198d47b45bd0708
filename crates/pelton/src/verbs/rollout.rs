//! `pelton scale`, `pelton rollout status|history|undo`

use super::text;
use crate::{
    cli::{ClientArgs, Format, RolloutCommand, ScaleArgs},
    client::{Client, ask, pipeline, within},
    exit::{Exit, Failure},
    output,
};
use pelton_proto::v1;
use serde_json::json;
use std::time::Duration;

/// Scaling checks the definition anew.
const APPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// `pelton scale`
pub async fn scale(args: ScaleArgs) -> Result<(), Failure> {
    if let ([what, number], None) = (&args.name[..], args.tasks)
        && (what == "workers" || what == "worker")
    {
        return scale_workers(number, &args.client).await;
    }
    let name = super::pipelines::only(&args.name, "pipeline")?;
    let tasks = args.tasks.ok_or_else(|| {
        Failure::new(
            Exit::Usage,
            format!("say how many: `pelton scale {name} --tasks N`, or `pelton scale workers N`"),
        )
    })?;
    let mut client = Client::connect(&args.client.coordinator).await?;
    let namespace = args.client.namespace.clone();
    let request = v1::ScaleRequest { namespace, name: name.to_owned(), tasks };
    let applied = client.pipelines.scale(within(request, APPLY_TIMEOUT)).await?.into_inner().applied;
    let now = client.pipelines.get(ask(pipeline(&args.client.namespace, name))).await?.into_inner();
    if matches!(args.client.output, Format::Json | Format::Yaml) {
        return output::value(&super::json::pipeline(&now), args.client.output);
    }
    for one in &applied {
        output::print(&format!(
            "pipeline {}/{} {} (revision {}): {}",
            one.namespace,
            one.name,
            one.outcome,
            one.revision,
            output::many(now.tasks_wanted.into(), "task", "tasks")
        ));
        one.notes.iter().for_each(|line| output::print(&format!("  {line}")));
        if now.tasks_wanted < tasks {
            output::print(&format!(
                "  its topics have {}: more tasks would have nothing to read",
                output::many(now.tasks_wanted.into(), "partition", "partitions")
            ));
        }
    }
    Ok(())
}

/// `pelton scale workers N`
async fn scale_workers(number: &str, args: &ClientArgs) -> Result<(), Failure> {
    let workers: u32 = number
        .parse()
        .map_err(|_| Failure::new(Exit::Usage, format!("`{number}` is no number of workers")))?;
    let mut client = Client::connect(&args.coordinator).await?;
    let request = v1::ScaleWorkersRequest { workers };
    let before = client.cluster.scale_workers(ask(request)).await?.into_inner().before;
    output::done(args.output, json!({ "before": before, "workers": workers }), || {
        format!("workers: {before} -> {workers}")
    })
}

/// `pelton rollout`
pub async fn rollout(command: RolloutCommand) -> Result<(), Failure> {
    match command {
        RolloutCommand::Status { name, timeout, client } => {
            let wait = status(&name, &client);
            match timeout {
                None => wait.await,
                Some(limit) => tokio::time::timeout(limit, wait).await.unwrap_or_else(|_| {
                    Err(Failure::unavailable(format!(
                        "{name} has not settled within {limit:?}; `pelton describe pipeline {name}` says why"
                    )))
                }),
            }
        }
        RolloutCommand::History { name, client } => history(&name, &client.namespace, &client).await,
        RolloutCommand::Undo(args) => super::pipelines::rollback(args).await,
    }
}

/// Where a rollout stands.
#[derive(Debug, PartialEq, Eq)]
enum Stand {
    Done(String),
    Failed(String),
    Going(String),
}

/// Wait until every task runs the newest revision.
async fn status(name: &str, args: &ClientArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&args.coordinator).await?;
    let mut changes = client.pipelines.watch(pipeline(&args.namespace, name)).await?.into_inner();
    let programs = matches!(args.output, Format::Json | Format::Yaml);
    let mut last = String::new();
    while let Some(now) = changes.message().await? {
        let (text, end) = match stand(&now) {
            Stand::Going(text) => (text, None),
            Stand::Done(text) => (text, Some(Ok(()))),
            Stand::Failed(text) => (String::new(), Some(Err(Failure::new(Exit::Invariant, text)))),
        };
        if !programs && !text.is_empty() && text != last {
            output::print(&text);
            last = text;
        }
        if let Some(end) = end {
            if programs {
                output::value(&super::json::pipeline(&now), args.output)?;
            }
            return end;
        }
    }
    Err(Failure::unexpected(format!("{name} was deleted")))
}

fn stand(p: &v1::Pipeline) -> Stand {
    let name = format!("pipeline {}/{}", p.namespace, p.name);
    if let Some(incident) = p.incidents.iter().find(|i| i.stops_task) {
        return Stand::Failed(format!(
            "{name} revision {} does not run: [{}] {}; {}",
            p.revision,
            incident.code_name(),
            incident.message,
            incident.remedy
        ));
    }
    if matches!(p.phase.as_str(), "paused" | "deleting") {
        return Stand::Failed(format!("{name} is {}", p.phase));
    }
    let settled = |task: &&v1::Task| {
        let state = task.status.as_ref().map(v1::TaskStatus::state);
        let runs = matches!(state, Some(v1::TaskState::Running | v1::TaskState::Completed));
        task.revision == p.revision && runs
    };
    let ready = p.tasks.iter().filter(settled).count();
    let completed = p.phase == "completed";
    if completed || (ready == p.tasks_wanted as usize && p.phase == "running") {
        let tasks = output::many(p.tasks_wanted.into(), "task", "tasks");
        return Stand::Done(format!("{name} revision {} rolled out: {tasks}", p.revision));
    }
    Stand::Going(format!("{name} revision {}: {ready} of {} tasks run it", p.revision, p.tasks_wanted))
}

async fn history(name: &str, namespace: &str, client: &crate::cli::ClientArgs) -> Result<(), Failure> {
    let format = client.output;
    let mut client = Client::connect(&client.coordinator).await?;
    let revisions =
        client.pipelines.list_revisions(ask(pipeline(namespace, name))).await?.into_inner().revisions;
    if matches!(format, Format::Json | Format::Yaml) {
        let all: Vec<_> = revisions
            .iter()
            .map(|r| {
                let definition = serde_json::from_str::<serde_json::Value>(&r.definition).ok();
                json!({ "revision": r.number, "createdMs": r.created_ms, "definition": definition })
            })
            .collect();
        return output::value(&all.into(), format);
    }
    let read = |r: &v1::Revision| {
        serde_json::from_str(&r.definition).ok().and_then(|json| pelton_config::from_json(&json).ok())
    };
    let mut rows = Vec::new();
    for (at, revision) in revisions.iter().enumerate() {
        let before = at.checked_sub(1).and_then(|at| read(&revisions[at]));
        let changes = match (before, read(revision)) {
            (Some(before), Some(after)) => pelton_config::diff(&before, &after).join("; "),
            _ => String::new(),
        };
        rows.push(vec![
            revision.number.to_string(),
            text::time(revision.created_ms),
            text::cell(Some(changes.as_bytes()), 100),
        ]);
    }
    output::table(&["REVISION", "CREATED", "CHANGES"], rows);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pipeline(revision: u64, tasks: &[(u64, v1::TaskState)]) -> v1::Pipeline {
        v1::Pipeline {
            namespace: "default".into(),
            name: "p".into(),
            phase: "running".into(),
            revision,
            tasks_wanted: 2,
            tasks: tasks
                .iter()
                .map(|(revision, state)| v1::Task {
                    status: Some(v1::TaskStatus { state: *state as i32, ..Default::default() }),
                    worker_id: "w".into(),
                    revision: *revision,
                })
                .collect(),
            ..Default::default()
        }
    }

    #[test]
    fn a_rollout_is_done_when_every_task_runs_the_newest_revision() {
        use v1::TaskState::{Running, Starting};
        let going = |ready| Stand::Going(format!("pipeline default/p revision 2: {ready} of 2 tasks run it"));
        assert_eq!(stand(&pipeline(2, &[(1, Running), (2, Running)])), going(1));
        assert_eq!(stand(&pipeline(2, &[(2, Running), (2, Starting)])), going(1));
        assert_eq!(stand(&pipeline(2, &[(2, Running)])), going(1));
        let done = Stand::Done("pipeline default/p revision 2 rolled out: 2 tasks".into());
        assert_eq!(stand(&pipeline(2, &[(2, Running), (2, Running)])), done);
    }

    #[test]
    fn an_incident_that_stops_tasks_ends_the_wait() {
        let mut p = pipeline(2, &[(2, v1::TaskState::Running)]);
        p.incidents = vec![v1::Incident {
            code: 7,
            stops_task: true,
            message: "m".into(),
            remedy: "r".into(),
            ..Default::default()
        }];
        assert_eq!(
            stand(&p),
            Stand::Failed("pipeline default/p revision 2 does not run: [PLT0007] m; r".into())
        );
    }
}
