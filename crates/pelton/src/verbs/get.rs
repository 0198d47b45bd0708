//! `pelton get`

use super::json;
use crate::{
    cli::{Format, GetArgs, Resource},
    client::{Client, ask, pipeline},
    exit::Failure,
    output, signals,
};
use pelton_proto::v1;
use serde_json::Value;
use std::time::Duration;

/// How often a watch looks.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// What was asked for, as rows for people and values for programs.
struct Listing {
    header: &'static [&'static str],
    rows: Vec<Vec<String>>,
    values: Vec<Value>,
}

impl Listing {
    fn of<T>(
        found: &[T],
        to_json: fn(&T) -> Value,
        header: &'static [&'static str],
        row: fn(&T) -> Vec<String>,
    ) -> Self {
        Self { header, rows: found.iter().map(row).collect(), values: found.iter().map(to_json).collect() }
    }
}

/// `pelton get`
pub async fn get(args: GetArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&args.client.coordinator).await?;
    let found = list(&mut client, &args).await?;
    let format = args.client.output;
    let programs = matches!(format, Format::Json | Format::Yaml);
    if !args.watch {
        match programs {
            true => output::value(&found.values.into(), format)?,
            false => output::table(found.header, found.rows),
        }
        return Ok(());
    }
    let mut printer = output::Growing::new(found.header);
    let stop = signals::requested(signals::shutdown()?);
    tokio::pin!(stop);
    let (mut known, mut now) = (Vec::new(), found);
    loop {
        let changed = now.values.iter().zip(&now.rows).filter(|(value, _)| !known.contains(*value));
        match programs {
            true => changed.for_each(|(value, _)| output::print(&value.to_string())),
            false => printer.rows(&changed.map(|(_, row)| row.as_slice()).collect::<Vec<_>>()),
        }
        known = now.values;
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(WATCH_EVERY) => {}
        }
        now = list(&mut client, &args).await?;
    }
}

async fn list(client: &mut Client, args: &GetArgs) -> Result<Listing, Failure> {
    let namespace = if args.all_namespaces { String::new() } else { args.client.namespace.clone() };
    match args.what {
        Resource::Pipelines => {
            let found = match &args.name {
                Some(name) => {
                    let wanted = ask(pipeline(&args.client.namespace, name));
                    vec![client.pipelines.get(wanted).await?.into_inner()]
                }
                None => {
                    let request = v1::ListPipelinesRequest { namespace };
                    client.pipelines.list(ask(request)).await?.into_inner().pipelines
                }
            };
            Ok(Listing::of(&found, json::pipeline, PIPELINES, pipeline_row))
        }
        Resource::Tasks => {
            let request = v1::ListTasksRequest { namespace, pipeline: args.name.clone().unwrap_or_default() };
            let found = client.cluster.list_tasks(ask(request)).await?.into_inner().tasks;
            Ok(Listing::of(&found, json::task, TASKS, task_row))
        }
        Resource::Workers => {
            let found =
                client.cluster.list_workers(ask(v1::ListWorkersRequest {})).await?.into_inner().workers;
            let found: Vec<_> =
                found.into_iter().filter(|w| args.name.as_ref().is_none_or(|name| *name == w.id)).collect();
            if let (Some(name), true) = (&args.name, found.is_empty()) {
                return Err(Failure::unexpected(format!(
                    "there is no worker `{name}`; `pelton get workers` lists them"
                )));
            }
            Ok(Listing::of(&found, json::worker, WORKERS, worker_row))
        }
        Resource::Incidents => {
            let request = v1::ListIncidentsRequest { namespace };
            let mut found = client.cluster.list_incidents(ask(request)).await?.into_inner().incidents;
            if let Some(name) = &args.name {
                found.retain(|i| concerns(&i.subject, name));
            }
            Ok(Listing::of(&found, json::incident, INCIDENTS, incident_row))
        }
    }
}

/// Whether an incident is about a pipeline: its subject is `namespace/name`, or one of its tasks, `namespace/name[..]`.
fn concerns(subject: &str, pipeline: &str) -> bool {
    let name = subject.split_once('/').map_or(subject, |(_, name)| name);
    name.split('[').next() == Some(pipeline)
}

const PIPELINES: &[&str] =
    &["NAMESPACE", "NAME", "KIND", "PHASE", "TASKS", "REVISION", "LAG", "IN", "OUT", "DEAD-LETTERED"];

fn pipeline_row(p: &v1::Pipeline) -> Vec<String> {
    let running = p.tasks.iter().filter(|t| !t.worker_id.is_empty()).count();
    let account = p.account.unwrap_or_default();
    vec![
        p.namespace.clone(),
        p.name.clone(),
        p.kind.clone(),
        p.phase.clone(),
        format!("{running}/{}", p.tasks_wanted),
        p.revision.to_string(),
        lag(p.lag),
        output::count(account.records_in),
        output::count(account.records_out),
        output::count(account.dead_lettered),
    ]
}

/// A lag that may not be known.
pub fn lag(lag: i64) -> String {
    u64::try_from(lag).map_or_else(|_| "?".into(), output::count)
}

const TASKS: &[&str] = &["TASK", "WORKER", "STATE", "EPOCH", "PARTITIONS", "LAG", "IN", "OUT", "BUSY"];

fn task_row(t: &v1::Task) -> Vec<String> {
    let status = t.status.clone().unwrap_or_default();
    let account = status.account.unwrap_or_default();
    vec![
        json::task_name(status.task.as_ref()),
        if t.worker_id.is_empty() { "-".into() } else { t.worker_id.clone() },
        json::state(status.state).into(),
        status.epoch.to_string(),
        status.partitions.len().to_string(),
        lag(task_lag(&status)),
        output::count(account.records_in),
        output::count(account.records_out),
        format!("{:.0}%", status.busy_ratio * 100.0),
    ]
}

/// Records between position and end over a task's partitions; -1 when an end is not known.
pub fn task_lag(status: &v1::TaskStatus) -> i64 {
    if status.partitions.iter().any(|p| p.end < 0) {
        return -1;
    }
    status.partitions.iter().map(|p| (p.end - p.position).max(0)).sum()
}

const WORKERS: &[&str] =
    &["WORKER", "STATE", "TASKS", "EXECUTORS", "SILENT", "CPU", "MEMORY", "HTTP", "VERSION"];

fn worker_row(w: &v1::Worker) -> Vec<String> {
    vec![
        w.id.clone(),
        w.state.clone(),
        format!("{}/{}", w.tasks, w.capacity),
        w.executors.to_string(),
        format!("{} ms", w.silent_ms),
        format!("{:.1} s", w.cpu_seconds),
        pelton_config::units::format_size(w.resident_bytes >> 20 << 20),
        w.http.clone(),
        w.version.clone(),
    ]
}

const INCIDENTS: &[&str] = &["CODE", "SUBJECT", "STOPS", "MESSAGE"];

fn incident_row(i: &v1::Incident) -> Vec<String> {
    vec![
        format!("PLT{:04}", i.code),
        i.subject.clone(),
        if i.stops_task { "yes".into() } else { "no".into() },
        i.message.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn incidents_are_found_by_their_pipeline() {
        assert!(concerns("default/digits", "digits"));
        assert!(concerns("default/digits[0.g1.t2]", "digits"));
        assert!(!concerns("default/digits-feed[0.g1.t0]", "digits"));
        assert!(!concerns("coordinator", "digits"));
    }

    #[test]
    fn a_lag_that_is_not_known_is_no_zero() {
        assert_eq!((lag(-1).as_str(), lag(0).as_str(), lag(1234).as_str()), ("?", "0", "1,234"));
    }
}
