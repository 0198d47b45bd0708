//! `pelton get`

use super::{json, text};
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
    header: Vec<&'static str>,
    rows: Vec<Vec<String>>,
    values: Vec<Value>,
}

impl Listing {
    fn of<T>(found: &[T], to_json: fn(&T) -> Value, columns: Columns<T>, wide: bool) -> Self {
        let row = |one: &T| {
            let mut row = (columns.row)(one);
            if wide {
                row.extend((columns.more)(one));
            }
            row
        };
        let mut header = columns.header.to_vec();
        if wide {
            header.extend(columns.wide);
        }
        Self { header, rows: found.iter().map(row).collect(), values: found.iter().map(to_json).collect() }
    }
}

/// A table's columns, and those that `-o wide` adds.
struct Columns<T> {
    header: &'static [&'static str],
    row: fn(&T) -> Vec<String>,
    wide: &'static [&'static str],
    more: fn(&T) -> Vec<String>,
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
            false => {
                if found.rows.is_empty() {
                    eprintln!("{}", nothing(&args));
                }
                output::table(&found.header, found.rows);
            }
        }
        return Ok(());
    }
    let mut printer = output::Growing::new(found.header.clone());
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

/// What an empty table means: for people, beside what programs read.
fn nothing(args: &GetArgs) -> String {
    let (what, anywhere) = match args.what {
        Resource::Pipelines => ("no pipelines", args.all_namespaces),
        Resource::Tasks => ("no tasks", args.all_namespaces),
        Resource::Workers => ("no workers", true),
        Resource::Incidents => ("no incidents", args.all_namespaces),
    };
    match (&args.name, anywhere) {
        (Some(name), _) => format!("{what} of {}/{name}", args.client.namespace),
        (None, true) => what.to_owned(),
        (None, false) => format!("{what} in namespace {}; -A shows those of all", args.client.namespace),
    }
}

async fn list(client: &mut Client, args: &GetArgs) -> Result<Listing, Failure> {
    let wide = args.client.output == Format::Wide;
    if let (Some(name), Resource::Tasks | Resource::Incidents) = (&args.name, args.what) {
        // Nothing found would look as if all were well: say that there is no such pipeline.
        client.pipelines.get(ask(pipeline(&args.client.namespace, name))).await?;
    }
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
            Ok(Listing::of(&found, json::pipeline, PIPELINES, wide))
        }
        Resource::Tasks => {
            let request = v1::ListTasksRequest { namespace, pipeline: args.name.clone().unwrap_or_default() };
            let found = client.cluster.list_tasks(ask(request)).await?.into_inner().tasks;
            Ok(Listing::of(&found, json::task, TASKS, wide))
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
            Ok(Listing::of(&found, json::worker, WORKERS, wide))
        }
        Resource::Incidents => {
            let request = v1::ListIncidentsRequest { namespace, resolved: false };
            let mut found = client.cluster.list_incidents(ask(request)).await?.into_inner().incidents;
            if let Some(name) = &args.name {
                found.retain(|i| concerns(&i.subject, name));
            }
            Ok(Listing::of(&found, json::incident, INCIDENTS, wide))
        }
    }
}

/// Whether an incident is about a pipeline: its subject is `namespace/name`, or one of its tasks, `namespace/name[..]`.
fn concerns(subject: &str, pipeline: &str) -> bool {
    let name = subject.split_once('/').map_or(subject, |(_, name)| name);
    name.split('[').next() == Some(pipeline)
}

const PIPELINES: Columns<v1::Pipeline> = Columns {
    header: &["NAMESPACE", "NAME", "KIND", "PHASE", "TASKS", "REVISION", "LAG", "IN", "OUT", "DEAD-LETTERED"],
    row: pipeline_row,
    wide: &["FILTERED", "HELD", "PENDING", "WORKERS", "INCIDENTS", "CREATED", "CHANGED"],
    more: pipeline_more,
};

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

fn pipeline_more(p: &v1::Pipeline) -> Vec<String> {
    let account = p.account.unwrap_or_default();
    let mut workers: Vec<&str> =
        p.tasks.iter().map(|t| t.worker_id.as_str()).filter(|w| !w.is_empty()).collect();
    workers.sort_unstable();
    workers.dedup();
    vec![
        output::count(account.filtered),
        output::count(account.held),
        output::count(p.pending),
        or_dash(workers.join(",")),
        or_dash(p.incidents.iter().map(v1::Incident::code_name).collect::<Vec<_>>().join(",")),
        text::time(p.created_ms),
        text::time(p.changed_ms),
    ]
}

fn or_dash(text: String) -> String {
    if text.is_empty() { "-".to_owned() } else { text }
}

/// A lag that may not be known.
pub fn lag(lag: i64) -> String {
    u64::try_from(lag).map_or_else(|_| "?".into(), output::count)
}

const TASKS: Columns<v1::Task> = Columns {
    header: &["TASK", "WORKER", "STATE", "EPOCH", "PARTITIONS", "LAG", "IN", "OUT", "BUSY"],
    row: task_row,
    wide: &[
        "REVISION",
        "GENERATION",
        "COMMITS",
        "PENDING",
        "HELD",
        "DEAD-LETTERED",
        "BACKPRESSURED",
        "INCIDENT",
    ],
    more: task_more,
};

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

fn task_more(t: &v1::Task) -> Vec<String> {
    let status = t.status.clone().unwrap_or_default();
    let account = status.account.unwrap_or_default();
    vec![
        t.revision.to_string(),
        status.task.as_ref().map_or_else(|| "-".into(), |task| task.generation.to_string()),
        output::count(status.commits),
        output::count(status.pending),
        output::count(account.held),
        output::count(account.dead_lettered),
        format!("{:.0}%", status.backpressured_ratio * 100.0),
        or_dash(status.incident.as_ref().map(v1::Incident::code_name).unwrap_or_default()),
    ]
}

/// Records between position and end over a task's partitions; -1 when an end is not known.
pub fn task_lag(status: &v1::TaskStatus) -> i64 {
    if status.partitions.iter().any(|p| p.end < 0) {
        return -1;
    }
    status.partitions.iter().map(|p| (p.end - p.position).max(0)).sum()
}

const WORKERS: Columns<v1::Worker> = Columns {
    header: &["WORKER", "STATE", "TASKS", "EXECUTORS", "SILENT", "CPU", "MEMORY", "HTTP", "VERSION"],
    row: worker_row,
    wide: &["INCARNATION", "LABELS"],
    more: worker_more,
};

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

fn worker_more(w: &v1::Worker) -> Vec<String> {
    let mut labels: Vec<String> = w.labels.iter().map(|(name, value)| format!("{name}={value}")).collect();
    labels.sort_unstable();
    vec![w.incarnation.clone(), or_dash(labels.join(","))]
}

const INCIDENTS: Columns<v1::Incident> = Columns {
    header: &["CODE", "SUBJECT", "STOPS", "MESSAGE"],
    row: incident_row,
    wide: &["SINCE", "REMEDY"],
    more: |i| vec![text::time(i.since_ms), or_dash(i.remedy.clone())],
};

fn incident_row(i: &v1::Incident) -> Vec<String> {
    vec![
        i.code_name(),
        i.subject.clone(),
        if i.stops_task { "yes".into() } else { "no".into() },
        i.message.clone(),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wide_table_has_the_plain_columns_and_more_behind_them() {
        let mut task = v1::Task { worker_id: "w1".into(), revision: 3, ..v1::Task::default() };
        task.status = Some(v1::TaskStatus {
            task: Some(v1::TaskId { generation: 7, ..v1::TaskId::default() }),
            commits: 1234,
            backpressured_ratio: 0.5,
            incident: Some(v1::Incident { code: 207, ..v1::Incident::default() }),
            ..v1::TaskStatus::default()
        });
        let of = |wide| Listing::of(std::slice::from_ref(&task), json::task, TASKS, wide);
        let (plain, wide) = (of(false), of(true));
        assert_eq!(plain.header.len(), plain.rows[0].len());
        assert_eq!(wide.header.len(), wide.rows[0].len());
        assert!(wide.rows[0].starts_with(&plain.rows[0]));
        let found = |name: &str| {
            let at = wide.header.iter().position(|column| *column == name).unwrap();
            wide.rows[0][at].as_str()
        };
        assert_eq!((found("REVISION"), found("GENERATION"), found("COMMITS")), ("3", "7", "1,234"));
        assert_eq!((found("BACKPRESSURED"), found("INCIDENT"), found("PENDING")), ("50%", "PLT0207", "0"));
        let pipeline = v1::Pipeline {
            tasks: vec![task.clone(), task.clone(), v1::Task::default()],
            created_ms: 0,
            ..v1::Pipeline::default()
        };
        let listing = Listing::of(&[pipeline], json::pipeline, PIPELINES, true);
        assert_eq!(listing.header.len(), listing.rows[0].len());
        assert!(listing.rows[0].contains(&"w1".to_owned()), "each worker once: {:?}", listing.rows[0]);
    }

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
