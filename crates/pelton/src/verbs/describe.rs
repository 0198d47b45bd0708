//! `pelton describe`

use super::{get::lag, get::task_lag, json};
use crate::{
    cli::{DescribeArgs, Described, Format},
    client::{Client, ask, pipeline},
    exit::Failure,
    output,
};
use pelton_proto::v1;
use pelton_types::Account;
use std::fmt::Write;

/// `pelton describe`
pub async fn describe(args: DescribeArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&args.client.coordinator).await?;
    let structured = matches!(args.client.output, Format::Json | Format::Yaml);
    match args.what {
        Described::Pipeline => {
            let request = ask(pipeline(&args.client.namespace, &args.name));
            let found = client.pipelines.get(request).await?.into_inner();
            if structured {
                return output::value(&json::pipeline(&found), args.client.output);
            }
            output::print(describe_pipeline(&found).trim_end());
            Ok(())
        }
        Described::Worker => {
            let workers =
                client.cluster.list_workers(ask(v1::ListWorkersRequest {})).await?.into_inner().workers;
            let worker = workers.into_iter().find(|w| w.id == args.name).ok_or_else(|| {
                Failure::unexpected(format!(
                    "there is no worker `{}`; `pelton get workers` lists them",
                    args.name
                ))
            })?;
            if structured {
                return output::value(&json::worker(&worker), args.client.output);
            }
            let tasks =
                client.cluster.list_tasks(ask(v1::ListTasksRequest::default())).await?.into_inner().tasks;
            let own: Vec<_> = tasks.into_iter().filter(|t| t.worker_id == worker.id).collect();
            output::print(describe_worker(&worker, &own).trim_end());
            Ok(())
        }
    }
}

/// Everything about a pipeline, for people.
pub fn describe_pipeline(p: &v1::Pipeline) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<16}{value}");
    };
    line("Name:", format!("{}/{}", p.namespace, p.name));
    line("Kind:", p.kind.clone());
    line("Phase:", p.phase.clone());
    line("Revision:", p.revision.to_string());
    line("Consumer group:", pelton_types::PipelineName::new(&p.namespace, &p.name).group_id());
    line("Lag:", lag(p.lag));
    line("Pending:", output::count(p.pending));
    let account: Account = p.account.unwrap_or_default().into();
    line("Balance:", balance_of(account, p.pending));
    if !p.operators.is_empty() {
        out.push_str("\nOperators:\n");
        let rows =
            p.operators.iter().map(|o| account_row(&o.name, o.account.unwrap_or_default().into())).collect();
        indent(&mut out, &output::render(ACCOUNT, rows));
    }
    out.push_str("\nTasks:\n");
    let rows = p.tasks.iter().map(|t| {
        let status = t.status.clone().unwrap_or_default();
        vec![
            status
                .task
                .as_ref()
                .map_or(String::new(), |t| format!("{}.g{}.t{}", t.stage, t.generation, t.index)),
            if t.worker_id.is_empty() { "-".into() } else { t.worker_id.clone() },
            json::state(status.state).into(),
            status.epoch.to_string(),
            lag(task_lag(&status)),
            status.commits.to_string(),
            partitions(&status),
        ]
    });
    let header = ["TASK", "WORKER", "STATE", "EPOCH", "LAG", "COMMITS", "PARTITIONS (committed)"];
    indent(&mut out, &output::render(&header, rows.collect()));
    incidents(&mut out, &p.incidents);
    if !p.audit.is_empty() {
        out.push_str("\nChanged by hand:\n");
        let row = |e: &v1::AuditEntry| {
            vec![super::text::time(e.at_ms), e.by.clone(), e.what.clone(), e.reason.clone()]
        };
        indent(&mut out, &output::render(&["WHEN", "BY", "WHAT", "WHY"], p.audit.iter().map(row).collect()));
    }
    out
}

fn describe_worker(w: &v1::Worker, tasks: &[v1::Task]) -> String {
    let mut out = String::new();
    let mut line = |name: &str, value: String| {
        let _ = writeln!(out, "{name:<16}{value}");
    };
    line("Name:", w.id.clone());
    line("Incarnation:", w.incarnation.clone());
    line("State:", w.state.clone());
    line("Version:", w.version.clone());
    line("HTTP:", w.http.clone());
    line("Executors:", w.executors.to_string());
    line("Tasks:", format!("{} of at most {}", w.tasks, w.capacity));
    line("CPU:", format!("{:.1} s", w.cpu_seconds));
    line("Memory:", pelton_config::units::format_size(w.resident_bytes >> 20 << 20));
    for t in tasks {
        let status = t.status.clone().unwrap_or_default();
        let name = json::task_name(status.task.as_ref());
        let _ = writeln!(out, "  {name} epoch {} {}", status.epoch, json::state(status.state));
    }
    out
}

const ACCOUNT: &[&str] =
    &["NAME", "IN", "EXPANDED", "OUT", "FILTERED", "MERGED", "HELD", "DEAD-LETTERED", "BALANCE"];

fn account_row(name: &str, a: Account) -> Vec<String> {
    let counts = [a.records_in, a.expanded, a.records_out, a.filtered, a.merged, a.held, a.dead_lettered];
    let balance = match a.imbalance() {
        0 => "ok".to_owned(),
        n => format!("{n:+}"),
    };
    std::iter::once(name.to_owned()).chain(counts.map(output::count)).chain([balance]).collect()
}

/// The books at rest, in a sentence.
pub fn balance(a: Account) -> String {
    balance_of(a, 0)
}

/// The books in a sentence, while so many records are read and not committed: those may have no outcome yet.
fn balance_of(a: Account, pending: u64) -> String {
    let n = output::count;
    // Few pipelines merge; the others need not read about it.
    let merged = if a.merged > 0 { format!(" + {} merged", n(a.merged)) } else { String::new() };
    let verdict = match a.imbalance() {
        0 => "balanced".to_owned(),
        open if u64::try_from(open).is_ok_and(|open| open <= pending) => format!("{open} on their way"),
        missing => format!("OUT OF BALANCE by {missing}"),
    };
    format!(
        "{} in + {} expanded = {} out + {} filtered{merged} + {} held + {} dead-lettered ({verdict})",
        n(a.records_in),
        n(a.expanded),
        n(a.records_out),
        n(a.filtered),
        n(a.held),
        n(a.dead_lettered),
    )
}

fn partitions(status: &v1::TaskStatus) -> String {
    let list: Vec<String> = status
        .partitions
        .iter()
        .map(|p| {
            let of = p.partition.clone().unwrap_or_default();
            format!("{}[{}]@{}", of.topic, of.index, p.committed)
        })
        .collect();
    list.join(" ")
}

fn incidents(out: &mut String, incidents: &[v1::Incident]) {
    if incidents.is_empty() {
        return;
    }
    out.push_str("\nIncidents:\n");
    for i in incidents {
        let _ = writeln!(out, "  {} {}: {}", i.code_name(), i.subject, i.message);
        if !i.remedy.is_empty() {
            let _ = writeln!(out, "          {}", i.remedy);
        }
    }
}

fn indent(out: &mut String, text: &str) {
    for line in text.lines() {
        let _ = writeln!(out, "  {line}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_on_their_way_are_no_imbalance_and_lost_ones_are() {
        let account = Account { records_in: 6, records_out: 5, ..Default::default() };
        assert!(balance_of(account, 1).ends_with("(1 on their way)"), "{}", balance_of(account, 1));
        assert!(balance(account).ends_with("(OUT OF BALANCE by 1)"));
        let doubled = Account { records_in: 5, records_out: 6, ..Default::default() };
        assert!(balance_of(doubled, 9).ends_with("(OUT OF BALANCE by -1)"));
    }
}
