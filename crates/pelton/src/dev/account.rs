//! The account of outcomes that `dev` and `run` end with.

use crate::{
    client::{Client, ask},
    exit::{Exit, Failure},
    output,
    verbs::describe::balance,
};
use pelton_proto::v1;
use pelton_types::Account;
use serde_json::{Value, json};
use std::time::Duration;

/// What became of every record of the pipelines; feeds are not counted.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    /// The books.
    pub account: Account,
    /// Records read but not settled by a commit.
    pub pending: u64,
    /// Since the start.
    pub elapsed: Duration,
    /// CPU time of the workers, seconds.
    pub cpu_seconds: f64,
    /// By pipeline.
    pub pipelines: Vec<(String, Account)>,
}

impl Totals {
    /// Ask the coordinator. `cpu_seconds` is the CPU time that the workers took.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn collect(
        client: &mut Client,
        elapsed: Duration,
        cpu_seconds: f64,
    ) -> Result<Totals, Failure> {
        let pipelines =
            client.pipelines.list(ask(v1::ListPipelinesRequest::default())).await?.into_inner().pipelines;
        let mut totals = Totals { elapsed, cpu_seconds, ..Totals::default() };
        for p in &pipelines {
            let account: Account = p.account.unwrap_or_default().into();
            totals.pipelines.push((format!("{}/{}", p.namespace, p.name), account));
            if p.kind != "Feed" {
                totals.account += account;
                totals.pending += p.pending;
            }
        }
        Ok(totals)
    }

    /// One object, the last line of `-o json`. `merged` is there where an operator merges records.
    pub fn to_json(&self) -> Value {
        let round = |seconds: f64| (seconds * 1000.0).round() / 1000.0;
        let mut account = json!({
            "recordsIn": self.account.records_in,
            "emitted": self.account.records_out,
            "filtered": self.account.filtered,
            "held": self.account.held,
            "expanded": self.account.expanded,
            "deadLettered": self.account.dead_lettered,
            "pending": self.pending,
            "elapsedSeconds": round(self.elapsed.as_secs_f64()),
            "cpuSeconds": round(self.cpu_seconds),
        });
        if self.account.merged > 0 {
            account["merged"] = self.account.merged.into();
        }
        account
    }

    /// For people.
    pub fn to_text(&self) -> String {
        let mut lines: Vec<String> =
            self.pipelines.iter().map(|(name, account)| format!("{name}: {}", balance(*account))).collect();
        lines.push(format!(
            "{} records pending; {:.1} s, {:.2} s of CPU in workers",
            output::count(self.pending),
            self.elapsed.as_secs_f64(),
            self.cpu_seconds
        ));
        lines.join("\n")
    }

    /// An error when records are unaccounted for.
    ///
    /// # Errors
    /// As said.
    pub fn verdict(&self) -> Result<(), Failure> {
        let wrong: Vec<_> = self.pipelines.iter().filter(|(_, account)| account.imbalance() != 0).collect();
        if wrong.is_empty() {
            return Ok(());
        }
        let lines: Vec<_> =
            wrong.iter().map(|(name, account)| format!("{name}: {}", balance(*account))).collect();
        Err(Failure::new(Exit::Invariant, format!("records are unaccounted for: {}", lines.join("; "))))
    }
}

/// What stopped a pipeline for good, if anything did.
pub fn stopped(pipelines: &[v1::Pipeline]) -> Option<String> {
    let failed = pipelines.iter().filter(|p| p.phase == "failed");
    let lines: Vec<String> = failed
        .flat_map(|p| p.incidents.iter().filter(|i| i.stops_task).map(move |i| (p, i)))
        .map(|(p, i)| {
            let (code, title) = (i.code_name(), i.title().unwrap_or_default());
            format!("{}/{}: [{code}] {title}: {}\n  {}", p.namespace, p.name, i.message, i.remedy)
        })
        .collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}
