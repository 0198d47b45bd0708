//! `pelton top`

use super::{
    get::{lag, task_lag},
    json,
};
use crate::{
    cli::{Format, TopArgs, TopResource},
    client::{Client, ask},
    exit::Failure,
    output,
    redraw::Redraw,
    signals,
};
use pelton_proto::v1;
use serde_json::{Value, json};
use std::{collections::HashMap, io::IsTerminal};
use tokio::time::Instant;

/// Counters of one thing at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Counters {
    records_in: u64,
    records_out: u64,
    cpu_seconds: f64,
}

/// One line.
struct Row {
    /// What counters are kept under; a task granted anew counts anew.
    key: String,
    counters: Counters,
    /// Cells in front of the rates, and behind them.
    front: Vec<String>,
    back: Vec<String>,
}

/// `pelton top`
pub async fn top(args: TopArgs) -> Result<(), Failure> {
    let mut client = Client::connect(&args.client.coordinator).await?;
    let live = !args.once && std::io::stdout().is_terminal() && args.client.output == Format::Table;
    let stop = signals::requested(signals::shutdown()?);
    tokio::pin!(stop);
    let mut block = Redraw::default();
    let (mut before, mut since) = (counted(&rows(&mut client, &args).await?), Instant::now());
    loop {
        tokio::select! {
            biased;
            () = &mut stop => return Ok(()),
            () = tokio::time::sleep(args.interval) => {}
        }
        let now = rows(&mut client, &args).await?;
        let passed = since.elapsed().as_secs_f64();
        since = Instant::now();
        let rates: Vec<Option<Counters>> = now
            .iter()
            .map(|row| before.get(&row.key).map(|old| per_second(*old, row.counters, passed)))
            .collect();
        before = counted(&now);
        if matches!(args.client.output, Format::Json | Format::Yaml) {
            let all: Vec<Value> =
                now.iter().zip(&rates).map(|(row, rate)| as_json(args.what, row, *rate)).collect();
            return output::value(&all.into(), args.client.output);
        }
        let text = table(args.what, &now, &rates);
        if !live {
            output::print(&text);
            return Ok(());
        }
        block.draw(&mut std::io::stdout(), &format!("{text}\n"));
    }
}

fn counted(rows: &[Row]) -> HashMap<String, Counters> {
    rows.iter().map(|row| (row.key.clone(), row.counters)).collect()
}

fn per_second(before: Counters, now: Counters, seconds: f64) -> Counters {
    let rate = |before: u64, now: u64| (now.saturating_sub(before) as f64 / seconds).round() as u64;
    Counters {
        records_in: rate(before.records_in, now.records_in),
        records_out: rate(before.records_out, now.records_out),
        cpu_seconds: ((now.cpu_seconds - before.cpu_seconds) / seconds).max(0.0),
    }
}

async fn rows(client: &mut Client, args: &TopArgs) -> Result<Vec<Row>, Failure> {
    let namespace = if args.all_namespaces { String::new() } else { args.client.namespace.clone() };
    Ok(match args.what {
        TopResource::Pipelines => {
            let request = ask(v1::ListPipelinesRequest { namespace });
            client.pipelines.list(request).await?.into_inner().pipelines.iter().map(of_pipeline).collect()
        }
        TopResource::Tasks => {
            let request = ask(v1::ListTasksRequest { namespace, pipeline: String::new() });
            client.cluster.list_tasks(request).await?.into_inner().tasks.iter().map(of_task).collect()
        }
        TopResource::Workers => {
            let request = ask(v1::ListWorkersRequest {});
            client.cluster.list_workers(request).await?.into_inner().workers.iter().map(of_worker).collect()
        }
    })
}

fn of_pipeline(p: &v1::Pipeline) -> Row {
    let account = p.account.unwrap_or_default();
    Row {
        key: p.uuid.clone(),
        counters: Counters {
            records_in: account.records_in,
            records_out: account.records_out,
            cpu_seconds: 0.0,
        },
        front: vec![format!("{}/{}", p.namespace, p.name), p.phase.clone()],
        back: vec![lag(p.lag), output::count(account.dead_lettered), p.incidents.len().to_string()],
    }
}

fn of_task(t: &v1::Task) -> Row {
    let status = t.status.clone().unwrap_or_default();
    let account = status.account.unwrap_or_default();
    let name = json::task_name(status.task.as_ref());
    Row {
        key: format!("{name}@{}", status.epoch),
        counters: Counters {
            records_in: account.records_in,
            records_out: account.records_out,
            cpu_seconds: 0.0,
        },
        front: vec![name, if t.worker_id.is_empty() { "-".into() } else { t.worker_id.clone() }],
        back: vec![lag(task_lag(&status)), format!("{:.0}%", status.busy_ratio * 100.0)],
    }
}

fn of_worker(w: &v1::Worker) -> Row {
    Row {
        key: w.incarnation.clone(),
        counters: Counters { cpu_seconds: w.cpu_seconds, ..Counters::default() },
        front: vec![w.id.clone(), w.state.clone()],
        back: vec![
            pelton_config::units::format_size(w.resident_bytes >> 20 << 20),
            format!("{}/{}", w.tasks, w.capacity),
        ],
    }
}

fn table(what: TopResource, rows: &[Row], rates: &[Option<Counters>]) -> String {
    let header: &[&str] = match what {
        TopResource::Pipelines => {
            &["PIPELINE", "PHASE", "IN/S", "OUT/S", "LAG", "DEAD-LETTERED", "INCIDENTS"]
        }
        TopResource::Tasks => &["TASK", "WORKER", "IN/S", "OUT/S", "LAG", "BUSY"],
        TopResource::Workers => &["WORKER", "STATE", "CPU", "MEMORY", "TASKS"],
    };
    let cells = rows.iter().zip(rates).map(|(row, rate)| {
        let middle = match (what, rate) {
            (TopResource::Workers, None) => vec!["?".into()],
            (TopResource::Workers, Some(rate)) => vec![format!("{:.0}%", rate.cpu_seconds * 100.0)],
            (_, None) => vec!["?".into(), "?".into()],
            (_, Some(rate)) => vec![output::count(rate.records_in), output::count(rate.records_out)],
        };
        [row.front.clone(), middle, row.back.clone()].concat()
    });
    output::render(header, cells.collect())
}

fn as_json(what: TopResource, row: &Row, rate: Option<Counters>) -> Value {
    let (kind, rates) = match what {
        TopResource::Workers => ("worker", json!({ "cpu": rate.map(|r| r.cpu_seconds) })),
        other => (
            if other == TopResource::Tasks { "task" } else { "pipeline" },
            json!({ "inPerSecond": rate.map(|r| r.records_in), "outPerSecond": rate.map(|r| r.records_out) }),
        ),
    };
    json!({ kind: row.front.first(), "rates": rates })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_differences_and_never_negative() {
        let before = Counters { records_in: 100, records_out: 90, cpu_seconds: 1.0 };
        let now = Counters { records_in: 300, records_out: 50, cpu_seconds: 2.0 };
        let rate = per_second(before, now, 2.0);
        assert_eq!((rate.records_in, rate.records_out, rate.cpu_seconds), (100, 0, 0.5));
    }

    #[test]
    fn a_rate_that_is_not_known_yet_is_no_zero() {
        let row = Row {
            key: "k".into(),
            counters: Counters::default(),
            front: vec!["default/p".into(), "running".into()],
            back: vec!["0".into(), "0".into(), "0".into()],
        };
        let text = table(TopResource::Pipelines, &[row], &[None]);
        assert!(text.lines().nth(1).is_some_and(|line| line.contains('?')), "{text}");
    }
}
