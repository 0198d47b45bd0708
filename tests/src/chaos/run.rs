//! Carries a plan out, and judges the topics afterwards.

use super::{
    broker::Broker,
    check::{Delivery, check},
    events::{Events, now_ms},
    fleet::{Fleet, PIPELINE, worker},
    growth::{Growth, Taken, quiet},
    load::Load,
    plan::{Wish, plan},
    record::Record,
    report::{Course, Report},
    silence::{Span, Times},
    topics::{NEXT_RECORD, Reading, Topics, Trouble, Watcher, open_transactions, read_values},
    witness::{Auditor, Reader, Trace, disagreements},
};
use crate::proxy::Proxy;
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    fs,
    path::PathBuf,
    time::{Duration, Instant},
};

/// For coordinator and workers to come to rest, with the machine as loaded as it may be.
const REST: Duration = Duration::from_secs(120);
/// For all that was read to be written and committed once the load has ended.
const DRAIN: Duration = Duration::from_secs(180);
/// How long the load goes on after the last fault has been overcome.
const AFTERWARDS: Duration = Duration::from_secs(3);
/// For what ended workers left open to be aborted: a transaction's time, twice.
const CLOSED: Duration = Duration::from_secs(30);
/// Time between two looks.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// What a run is given.
#[derive(Clone, Debug)]
pub struct Setting {
    /// What is done.
    pub wish: Wish,
    /// Records a second.
    pub rate: u64,
    /// Partitions of each topic.
    pub partitions: i32,
    /// What the pipeline promises.
    pub delivery: Delivery,
    /// The pipeline's commit interval, as definitions write it.
    pub commit_interval: String,
    /// The `pelton` binary.
    pub binary: PathBuf,
    /// Bootstrap servers.
    pub kafka: String,
    /// The scripts that started that broker, for one that is killed.
    pub broker_scripts: PathBuf,
    /// Where the event log and the processes' logs go.
    pub folder: PathBuf,
}

/// What a harness works on, as its command line says.
#[derive(Clone, Debug, clap::Args)]
pub struct Ground {
    /// Records a second.
    #[arg(long, default_value_t = 5_000)]
    pub rate: u64,
    /// Partitions of each topic, and the most tasks.
    #[arg(long, default_value_t = 12, value_parser = clap::value_parser!(i32).range(1..))]
    pub partitions: i32,
    /// Worker processes.
    #[arg(long, default_value_t = 3)]
    pub workers: usize,
    /// The `pelton` to run.
    #[arg(long)]
    binary: PathBuf,
    /// Bootstrap servers of a real Kafka.
    #[arg(long, value_name = "HOST:PORT")]
    kafka: String,
    /// Where the scripts lie that started it.
    #[arg(long)]
    broker_scripts: PathBuf,
    /// Where logs go: a folder for each run is made new in it.
    #[arg(long)]
    pub folder: PathBuf,
}

impl Ground {
    /// The most tasks.
    pub fn tasks(&self) -> usize {
        usize::try_from(self.partitions).unwrap_or(1)
    }

    /// A run on it.
    pub fn setting(self, wish: Wish, delivery: Delivery, commit_interval: String) -> Setting {
        let Ground { rate, partitions, binary, kafka, broker_scripts, folder, .. } = self;
        Setting { wish, rate, partitions, delivery, commit_interval, binary, kafka, broker_scripts, folder }
    }
}

/// Carry out the plan of this setting.
///
/// # Errors
/// Something that is not for the topics to tell: a process ended by itself, the output did not go on.
pub fn run(setting: &Setting) -> Result<Report, Trouble> {
    let mut stage = Stage::new(setting)?;
    let reader = Reader::start(&setting.kafka, &stage.topics.output, setting.partitions)?;
    let auditor = Auditor::start(&setting.kafka, &group(), &stage.topics.input, setting.partitions)?;
    let load = stage.open()?;
    let from_ms = now_ms();
    let first = stage.taken()?;
    for act in plan(&setting.wish) {
        std::thread::sleep(act.pause);
        stage.fleet.look()?;
        stage.deeds.push((act.deed.name(), now_ms()));
        stage.act(act)?;
    }
    stage.at_rest("after the last fault")?;
    std::thread::sleep(AFTERWARDS);
    let last = stage.taken()?;
    let to_ms = stage.events.note("load ends", json!({ "sent": load.sent() }));
    let sent = load.stop()?;
    stage.drain()?;
    let audit = auditor.stop()?;
    let Stage { fleet, mut events, outages, topics, deeds, poison, .. } = stage;
    fleet.stop()?;
    events.note("all processes ended", Value::Null);
    // Under at-least-once a worker that slept may commit an older offset again: then records come again.
    let mut other = if setting.delivery == Delivery::ExactlyOnce { audit.faults } else { Vec::new() };
    other.extend(still_open(setting, &topics)?);
    let during = reader.stop()?;
    let (output, now) = read(setting, &topics.output)?;
    other.extend(disagreements(&during, &now));
    other.extend(wrong_letters(setting, &topics, poison)?);
    let (input, _) = read(setting, &topics.input)?;
    let verdict = check(&input, &output);
    events.note("read", json!({ "input": input.len(), "output": output.len(), "looks": audit.looks }));
    let window = Span { from_ms, to_ms };
    let growth = first.zip(last).map(|(first, last)| Growth { first, last });
    other.extend(growth.iter().flat_map(|growth| growth.faults(setting.wish.at_least)));
    let course = Course { window, outages, deeds, sent, growth };
    let times = Times::of(&output, setting.partitions);
    let report = Report::new(setting.delivery, verdict, &times, course, other);
    events.note("checked", json!({ "faults": report.faults() }));
    Ok(report)
}

/// The partitions whose ends have not moved.
fn still(before: &[i64], now: &[i64]) -> Vec<usize> {
    (0..now.len()).filter(|at| before.get(*at) >= now.get(*at)).collect()
}

fn group() -> String {
    format!("pelton.default.{PIPELINE}")
}

/// The records of the load in a topic, without poison, and the traces of all.
pub(super) fn read(setting: &Setting, topic: &str) -> Result<(Vec<Record>, Vec<Trace>), Trouble> {
    let (mut records, mut foreign) = (Vec::new(), Vec::new());
    let mut traces = Trace::none(setting.partitions);
    let mut reading = Reading::start(&setting.kafka, topic, setting.partitions)?;
    reading.to_end(NEXT_RECORD, &mut |value| {
        Trace::add(&mut traces, value);
        match value.record() {
            Ok(record) => records.push(record),
            Err(_) if poison_of(&value.bytes).is_some() => {}
            Err(why) => foreign.push(why),
        }
    })?;
    foreign.pop().map_or(Ok((records, traces)), |why| Err(why.into()))
}

/// A record that cannot be processed.
pub(super) fn poison(number: u64) -> String {
    format!(r#"{{"id":"poison {number}"}}"#)
}

fn poison_of(bytes: &[u8]) -> Option<u64> {
    let value: Value = serde_json::from_slice(bytes).ok()?;
    value["id"].as_str()?.strip_prefix("poison ")?.parse().ok()
}

/// Each poison record is among the dead letters, once under exactly-once, and nothing else is.
fn wrong_letters(setting: &Setting, topics: &Topics, poison: u64) -> Result<Vec<String>, Trouble> {
    let mut found: BTreeMap<Option<u64>, u64> = BTreeMap::new();
    for letter in read_values(&setting.kafka, &topics.letters, setting.partitions)? {
        *found.entry(poison_of(&letter.bytes)).or_default() += 1;
    }
    let mut faults = Vec::new();
    let lost = (0..poison).filter(|number| !found.contains_key(&Some(*number))).count();
    if lost > 0 {
        faults.push(format!("{lost} of {poison} poison records are not among the dead letters"));
    }
    let more = found.iter().filter(|(_, times)| **times > 1).count();
    if more > 0 && setting.delivery == Delivery::ExactlyOnce {
        faults.push(format!("{more} dead letters are there more than once"));
    }
    let invented = found.keys().filter(|number| number.is_none_or(|number| number >= poison)).count();
    if invented > 0 {
        faults.push(format!("{invented} dead letters are none of our poison records"));
    }
    Ok(faults)
}

/// Transactions that stay open although their time is long over.
fn still_open(setting: &Setting, topics: &Topics) -> Result<Option<String>, Trouble> {
    let begun = Instant::now();
    loop {
        let mut open = Vec::new();
        for topic in [&topics.output, &topics.letters] {
            open.extend(open_transactions(&setting.kafka, topic, setting.partitions)?);
        }
        if open.is_empty() {
            return Ok(None);
        }
        if begun.elapsed() > CLOSED {
            return Ok(Some(format!("a transaction is open in partitions {open:?} after {CLOSED:?}")));
        }
        std::thread::sleep(TICK);
    }
}

/// What acts and what is acted on.
pub(super) struct Stage<'a> {
    pub setting: &'a Setting,
    pub fleet: Fleet,
    /// One for each worker.
    pub proxies: Vec<Proxy>,
    pub broker: Broker,
    pub watcher: Watcher,
    pub topics: Topics,
    pub events: Events,
    pub outages: Vec<Span>,
    /// What was done, and when, milliseconds since 1970.
    pub deeds: Vec<(&'static str, i64)>,
    /// To how many tasks the shards are dealt.
    pub tasks: usize,
    /// Poison records written.
    pub poison: u64,
}

impl<'a> Stage<'a> {
    pub fn new(setting: &'a Setting) -> Result<Stage<'a>, Trouble> {
        if setting.folder.exists() {
            fs::remove_dir_all(&setting.folder)?;
        }
        fs::create_dir_all(&setting.folder)?;
        let mut events = Events::create(&setting.folder.join("events.jsonl"))?;
        let run = format!("{}-{}", setting.wish.seed, now_ms());
        let name = |what: &str| format!("chaos-{what}-{run}");
        let (input, output, letters) = (name("in"), name("out"), name("letters"));
        let topics = Topics { input, output, letters, partitions: setting.partitions };
        topics.create(&setting.kafka)?;
        events.note("topics created", json!({ "input": topics.input, "output": topics.output }));
        let workers = 0..setting.wish.workers;
        Ok(Stage {
            fleet: Fleet::new(&setting.binary, &setting.folder, &setting.kafka)?,
            proxies: workers
                .map(|_| Proxy::start("127.0.0.1:0", &setting.kafka))
                .collect::<std::io::Result<_>>()?,
            broker: Broker::new(&setting.broker_scripts, &setting.kafka),
            watcher: Watcher::new(&setting.kafka, &topics, &group())?,
            tasks: setting.wish.tasks,
            setting,
            topics,
            events,
            outages: Vec::new(),
            deeds: Vec::new(),
            poison: 0,
        })
    }

    pub fn start_worker(&mut self, index: usize) -> Result<(), Trouble> {
        let at = self.proxies[index].address();
        self.fleet.start_worker(index, &at)?;
        self.events.note("started", json!({ "worker": worker(index) }));
        Ok(())
    }

    /// Start everything, and have records flow through every partition.
    pub fn open(&mut self) -> Result<Load, Trouble> {
        self.fleet.start_coordinator()?;
        for index in 0..self.setting.wish.workers {
            self.start_worker(index)?;
        }
        self.deal(self.setting.wish.tasks)?;
        let load = Load::start(&self.setting.kafka, &self.topics.input, self.setting.rate)?;
        self.at_rest("at the start")?;
        Ok(load)
    }

    /// What the worker that is never killed takes while nothing is done, in a run that is long enough.
    fn taken(&mut self) -> Result<Option<Taken>, Trouble> {
        let Some(time) = quiet(self.setting.wish.at_least) else { return Ok(None) };
        let process = self.fleet.process(&worker(self.setting.wish.workers - 1))?;
        let taken = Taken::over(time, process)?;
        let Taken { resident, descriptors } = taken;
        self.events.note("quiet", json!({ "resident": resident, "descriptors": descriptors }));
        Ok(Some(taken))
    }

    /// Have the pipeline's shards dealt to so many tasks.
    pub fn deal(&mut self, tasks: usize) -> Result<(), Trouble> {
        let Setting { delivery, commit_interval, .. } = self.setting;
        let begun = Instant::now();
        while let Err(why) = self.fleet.apply(&self.topics, tasks, *delivery, commit_interval) {
            self.fleet.look()?;
            if begun.elapsed() > REST {
                return Err(why);
            }
            std::thread::sleep(TICK);
        }
        self.tasks = tasks;
        self.events.note("pipeline applied", json!({ "tasks": tasks }));
        Ok(())
    }

    /// Wait until every task runs, they are spread evenly, and every partition of the output has grown since.
    pub fn at_rest(&mut self, when: &str) -> Result<(), Trouble> {
        let begun = Instant::now();
        // The ends at the moment since which the tasks are settled. A partition's end moves once a commit, and tasks
        // commit at moments of their own: two looks in a row may never see all of them move.
        let mut since: Option<Vec<i64>> = None;
        loop {
            self.fleet.look()?;
            let settled = self.fleet.settled(self.setting.wish.workers, self.tasks);
            let ends = self.watcher.ends(&self.topics.output)?;
            since = if settled { since.or_else(|| Some(ends.clone())) } else { None };
            let still = since.as_ref().map(|since| still(since, &ends));
            if still.as_ref().is_some_and(Vec::is_empty) {
                self.events.note("at rest", json!({ "when": when, "waited": begun.elapsed().as_secs_f64() }));
                return Ok(());
            }
            if begun.elapsed() > REST {
                let what = match still {
                    None => "the tasks have not settled".to_owned(),
                    Some(still) => format!("partitions {still:?} of {} have not grown", self.topics.output),
                };
                return Err(format!("{when}: {what} in {REST:?}").into());
            }
            std::thread::sleep(TICK);
        }
    }

    pub fn drain(&mut self) -> Result<(), Trouble> {
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
