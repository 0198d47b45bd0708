//! The live table: redrawn in place on a terminal, a line now and then elsewhere.

use super::{Cluster, Home};
use crate::{cli::DevArgs, output, redraw::Redraw, verbs::get::lag};
use pelton_proto::v1;
use std::{
    collections::{HashMap, HashSet},
    io::Write,
    time::Duration,
};
use tokio::time::Instant;

/// Where things are, printed once.
pub fn head(cluster: &Cluster, args: &DevArgs, home: &Home) -> Vec<String> {
    let kept = if args.data_dir.is_some() { "kept" } else { "dropped at the end; keep it with --data-dir" };
    vec![
        format!("queue        {} (Kafka protocol)", cluster.broker.address("bootstrap")),
        format!("coordinator  http://{} (gRPC)", cluster.coordinator.address("grpc")),
        format!("console      http://{}/", cluster.coordinator.address("http")),
        format!("workers      {}", cluster.workers.shown()),
        format!("data, logs   {} ({kept})", home.path.display()),
    ]
}

/// Standard error as a screen.
pub struct Screen {
    terminal: bool,
    block: Redraw,
    last: HashMap<String, (u64, u64)>,
    last_at: Instant,
    rates: HashMap<String, (f64, f64)>,
    /// Incidents that were written where there is no table.
    told: HashSet<String>,
}

/// Rates are averages over at least this.
const RATE_WINDOW: Duration = Duration::from_secs(1);

impl Screen {
    /// A screen; `terminal` decides how it is drawn.
    pub fn new(terminal: bool) -> Self {
        Self {
            terminal,
            block: Redraw::default(),
            last: HashMap::new(),
            last_at: Instant::now(),
            rates: HashMap::new(),
            told: HashSet::new(),
        }
    }

    /// Lines that stay.
    pub fn head(&mut self, lines: &[String]) {
        lines.iter().for_each(|line| self.note(line));
    }

    /// A line that stays, above the table.
    pub fn note(&mut self, line: &str) {
        self.block.erase(&mut std::io::stderr());
        write(&format!("{line}\n"));
    }

    /// Show the cluster. Where there is no terminal only when a line is `due`.
    pub fn draw(&mut self, pipelines: &[v1::Pipeline], workers: &[v1::Worker], due: bool) {
        self.measure(pipelines);
        if self.terminal {
            let text = self.table(pipelines, workers);
            self.block.draw(&mut std::io::stderr(), &text);
            return;
        }
        for p in pipelines {
            for i in &p.incidents {
                let line = incident(i);
                if self.told.insert(line.clone()) {
                    write(&format!("{line}\n"));
                }
            }
        }
        if due {
            for p in pipelines {
                let (records_in, records_out) = self.rate(p);
                let account = p.account.unwrap_or_default();
                write(&format!(
                    "{}/{} {}: {} in ({records_in:.0}/s), {} out ({records_out:.0}/s), lag {}, {} dead-lettered\n",
                    p.namespace,
                    p.name,
                    p.phase,
                    account.records_in,
                    account.records_out,
                    lag(p.lag),
                    account.dead_lettered
                ));
            }
        }
    }

    fn measure(&mut self, pipelines: &[v1::Pipeline]) {
        let passed = self.last_at.elapsed();
        if passed < RATE_WINDOW {
            return;
        }
        self.last_at = Instant::now();
        for p in pipelines {
            let account = p.account.unwrap_or_default();
            let now = (account.records_in, account.records_out);
            let before = self.last.insert(p.uuid.clone(), now).unwrap_or((0, 0));
            let per_second = |now: u64, before: u64| now.saturating_sub(before) as f64 / passed.as_secs_f64();
            self.rates.insert(p.uuid.clone(), (per_second(now.0, before.0), per_second(now.1, before.1)));
        }
    }

    fn rate(&self, p: &v1::Pipeline) -> (f64, f64) {
        self.rates.get(&p.uuid).copied().unwrap_or_default()
    }

    fn table(&self, pipelines: &[v1::Pipeline], workers: &[v1::Worker]) -> String {
        let header =
            ["PIPELINE", "PHASE", "IN/S", "OUT/S", "IN", "OUT", "LAG", "DEAD-LETTERED", "TASKS BY WORKER"];
        let rows = pipelines.iter().map(|p| {
            let (records_in, records_out) = self.rate(p);
            let account = p.account.unwrap_or_default();
            vec![
                format!("{}/{}", p.namespace, p.name),
                p.phase.clone(),
                format!("{records_in:.0}"),
                format!("{records_out:.0}"),
                output::count(account.records_in),
                output::count(account.records_out),
                lag(p.lag),
                output::count(account.dead_lettered),
                by_worker(p),
            ]
        });
        let mut text = format!("\n{}\n", output::render(&header, rows.collect()));
        let lost = workers.iter().filter(|w| w.state == "lost").count();
        if lost > 0 {
            text.push_str(&format!("{lost} workers lost\n"));
        }
        for p in pipelines {
            for i in &p.incidents {
                text.push_str(&format!("{}\n", incident(i)));
            }
        }
        text
    }
}

/// An incident with what to do about it, each on a line.
fn incident(i: &v1::Incident) -> String {
    let remedy = if i.remedy.is_empty() { String::new() } else { format!("\n        {}", i.remedy) };
    format!("{} {}: {}{remedy}", i.code_name(), i.subject, i.message)
}

/// `worker-1: 0 2, worker-2: 1 3`
fn by_worker(p: &v1::Pipeline) -> String {
    let mut workers: Vec<(&str, Vec<String>)> = Vec::new();
    for t in &p.tasks {
        let index =
            t.status.as_ref().and_then(|s| s.task.as_ref()).map_or("?".into(), |t| t.index.to_string());
        let name = if t.worker_id.is_empty() { "nobody" } else { t.worker_id.as_str() };
        match workers.iter_mut().find(|(known, _)| *known == name) {
            Some((_, tasks)) => tasks.push(index),
            None => workers.push((name, vec![index])),
        }
    }
    workers.sort();
    let lines: Vec<String> =
        workers.iter().map(|(name, tasks)| format!("{name}: {}", tasks.join(" "))).collect();
    lines.join(", ")
}

/// Somebody may have closed standard error; the cluster does not end for that.
fn write(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
