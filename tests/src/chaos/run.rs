//! Carries a plan out, and judges the topics afterwards.

use super::{
    check::{Delivery, check},
    events::{Events, now_ms},
    fleet::{Fleet, worker},
    load::Load,
    plan::{Victim, Wish, plan},
    report::Report,
    silence::Span,
    topics::{Topics, Trouble, Watcher, read_all},
};
use serde_json::{Value, json};
use std::{
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// For coordinator and workers to come to rest, with the machine as loaded as it may be.
const REST: Duration = Duration::from_secs(120);
/// For all that was read to be written and committed once the load has ended.
const DRAIN: Duration = Duration::from_secs(180);
/// How long the load goes on after the last kill has been overcome.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// Time between two looks.
const TICK: Duration = Duration::from_millis(200);

/// What a run is given.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What is killed.
    pub wish: Wish,
    /// Records a second.
    pub rate: u64,
    /// Partitions of input and output.
    pub partitions: i32,
    /// What the pipeline promises.
    pub delivery: Delivery,
    /// The pipeline's commit interval, as definitions write it.
    pub commit_interval: String,
    /// The `pelton` binary.
    pub binary: PathBuf,
    /// Bootstrap servers.
    pub kafka: String,
    /// Where the event log and the processes' logs go.
    pub folder: PathBuf,
}

/// Carry out the plan of this setting.
///
/// # Errors
/// Something that is not for the topics to tell: a process ended by itself, the output did not go on.
pub fn run(setting: &Setting) -> Result<Report, Trouble> {
    if setting.folder.exists() {
        fs::remove_dir_all(&setting.folder)?;
    }
    fs::create_dir_all(&setting.folder)?;
    let mut events = Events::create(&setting.folder.join("events.jsonl"))?;
    let run = format!("{}-{}", setting.wish.seed, now_ms());
    let (input, output) = (format!("chaos-in-{run}"), format!("chaos-out-{run}"));
    let topics = Topics { input, output, partitions: setting.partitions };
    topics.create(&setting.kafka)?;
    events.note("topics created", json!({ "input": topics.input, "output": topics.output }));
    let mut stage = Stage {
        fleet: Fleet::new(&setting.binary, &setting.folder, &setting.kafka)?,
        watcher: Watcher::new(
            &setting.kafka,
            &topics,
            &format!("pelton.default.{}", super::fleet::PIPELINE),
        )?,
        setting,
        topics,
        events,
        outages: Vec::new(),
    };
    let load = stage.open()?;
    let from_ms = now_ms();
    stage.kill_all()?;
    stage.at_rest("after the last kill")?;
    std::thread::sleep(AFTERWARDS);
    let to_ms = stage.events.note("load ends", json!({ "sent": load.sent() }));
    let sent = load.stop()?;
    stage.drain()?;
    let Stage { fleet, mut events, outages, topics, .. } = stage;
    fleet.stop()?;
    events.note("all processes ended", Value::Null);
    let input = read_all(&setting.kafka, &topics.input, setting.partitions)?;
    let output = read_all(&setting.kafka, &topics.output, setting.partitions)?;
    let verdict = check(&input, &output);
    let report = Report::new(
        setting.delivery,
        verdict,
        &output,
        setting.partitions,
        Span { from_ms, to_ms },
        outages,
        sent,
    );
    events.note("checked", json!({ "faults": report.faults() }));
    Ok(report)
}

/// What acts and what is acted on.
struct Stage<'a> {
    setting: &'a Setting,
    fleet: Fleet,
    watcher: Watcher,
    topics: Topics,
    events: Events,
    outages: Vec<Span>,
}

impl Stage<'_> {
    /// Start everything, and have records flow through every partition.
    fn open(&mut self) -> Result<Load, Trouble> {
        self.fleet.start_coordinator()?;
        for index in 0..self.setting.wish.workers {
            self.fleet.start_worker(index)?;
        }
        let begun = Instant::now();
        while let Err(why) =
            self.fleet.apply(&self.topics, self.setting.delivery, &self.setting.commit_interval)
        {
            self.fleet.look()?;
            if begun.elapsed() > REST {
                return Err(why);
            }
            std::thread::sleep(TICK);
        }
        self.events.note("pipeline applied", Value::Null);
        let load = Load::start(&self.setting.kafka, &self.topics.input, self.setting.rate)?;
        self.at_rest("at the start")?;
        Ok(load)
    }

    fn kill_all(&mut self) -> Result<(), Trouble> {
        for act in plan(&self.setting.wish) {
            std::thread::sleep(act.pause);
            self.fleet.look()?;
            match act.victim {
                Victim::Worker(index) => {
                    let name = worker(index);
                    self.fleet.kill(&name)?;
                    self.events.note("killed", json!({ "victim": name }));
                    std::thread::sleep(act.away);
                    self.fleet.start_worker(index)?;
                    self.events.note("started", json!({ "worker": worker(index) }));
                }
                Victim::Coordinator => {
                    // A task without an owner can only wait for the coordinator; what must go on is what has one.
                    self.at_rest("before the coordinator is killed")?;
                    let from_ms = now_ms();
                    self.fleet.kill("coordinator")?;
                    self.events.note("killed", json!({ "victim": "coordinator" }));
                    std::thread::sleep(act.away);
                    let to_ms = now_ms();
                    self.fleet.start_coordinator()?;
                    self.events.note("started", json!({ "victim": "coordinator" }));
                    self.outages.push(Span { from_ms, to_ms });
                }
            }
        }
        Ok(())
    }

    /// Wait until every task runs, they are spread evenly, and every partition of the output grows.
    fn at_rest(&mut self, when: &str) -> Result<(), Trouble> {
        let begun = Instant::now();
        let mut before = None;
        loop {
            self.fleet.look()?;
            let settled = self.fleet.settled(self.setting.wish.workers, self.topics.partitions);
            let ends = self.watcher.ends(&self.topics.output)?;
            let grown = before
                .replace(ends.clone())
                .is_some_and(|b: Vec<i64>| b.iter().zip(&ends).all(|(b, e)| e > b));
            if settled && grown {
                self.events.note("at rest", json!({ "when": when, "waited": begun.elapsed().as_secs_f64() }));
                return Ok(());
            }
            if begun.elapsed() > REST {
                return Err(format!(
                    "{when}: tasks settled: {settled}, every output grows: {grown}, after {REST:?}"
                )
                .into());
            }
            std::thread::sleep(TICK);
        }
    }

    fn drain(&mut self) -> Result<(), Trouble> {
        let begun = Instant::now();
        loop {
            self.fleet.look()?;
            let lag = self.watcher.lag()?;
            if lag == 0 {
                self.events.note("drained", json!({ "waited": begun.elapsed().as_secs_f64() }));
                return Ok(());
            }
            if begun.elapsed() > DRAIN {
                return Err(format!("{lag} records are not committed {DRAIN:?} after the load ended").into());
            }
            std::thread::sleep(TICK);
        }
    }
}
