//! What the embedded broker costs beside a real Kafka: `cargo xtask bench broker`.
//!
//! The broker is `pelton broker`, a process of its own; its CPU time and memory are read from `/proc`. Whatever is
//! measured on both brokers is measured in turns, so that what a busy machine does to one it does to the other.

mod figures;
mod idle;
mod kill;
mod latency;
mod load;
mod process;
mod start;
mod throughput;

use crate::chaos::topics::Trouble;
pub use figures::Figures;
pub(crate) use process::resident_bytes;
use process::{Broker, Kafka, Target};
use std::{
    fs,
    path::PathBuf,
    time::{SystemTime, UNIX_EPOCH},
};

/// What can be measured by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// Records per CPU-second of the broker, and its memory.
    Throughput,
    /// From the moment a record should be sent until a consumer has it.
    Latency,
    /// Time of a start with a long log.
    Start,
    /// CPU time of a broker that nobody asks anything.
    Idle,
    /// A topic of 2,000 partitions.
    Partitions,
    /// kill -9 under load.
    Kill,
}

/// What to measure, and where.
#[derive(Clone, Debug)]
pub struct Setting {
    /// The `pelton` whose broker is measured.
    pub binary: PathBuf,
    /// Address and process of a real Kafka.
    pub kafka: Option<(String, u32)>,
    /// Parts to measure; all if empty.
    pub parts: Vec<Part>,
    /// Records of a round of produce and fetch.
    pub records: u64,
    /// Times each figure that is taken in turns is taken.
    pub rounds: usize,
    /// Decides about values and kills.
    pub seed: u64,
    /// Where data and logs go; made new.
    pub folder: PathBuf,
}

impl Setting {
    fn wants(&self, part: Part) -> bool {
        self.parts.is_empty() || self.parts.contains(&part)
    }
}

/// A seed nobody used before.
pub fn seed_by_clock() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos() as u64)
}

/// Measure.
///
/// # Errors
/// A broker does not do what it should: then there is no figure.
pub fn run(setting: &Setting) -> Result<Figures, Trouble> {
    if setting.folder.exists() {
        fs::remove_dir_all(&setting.folder)?;
    }
    fs::create_dir_all(&setting.folder)?;
    let mut figures = Figures::new(load_average());
    let broker = Broker::start(&setting.binary, &setting.folder, "broker")?;
    let kafka =
        setting.kafka.as_ref().map(|(bootstrap, pid)| Kafka { bootstrap: bootstrap.clone(), pid: *pid });
    let mut both: Vec<&dyn Target> = vec![&broker];
    both.extend(kafka.as_ref().map(|kafka| kafka as &dyn Target));
    if setting.wants(Part::Throughput) {
        throughput::measure(setting, &both, &mut figures)?;
    }
    if setting.wants(Part::Latency) {
        latency::measure(setting, &both, &mut figures)?;
    }
    if setting.wants(Part::Partitions) {
        load::many_partitions(&both, &mut figures)?;
    }
    if setting.wants(Part::Idle) {
        idle::measure(&both, &mut figures)?;
    }
    drop(both);
    drop(broker);
    if setting.wants(Part::Start) {
        start::measure(setting, &mut figures)?;
    }
    if setting.wants(Part::Kill) {
        kill::measure(setting, &mut figures)?;
    }
    Ok(figures)
}

fn load_average() -> String {
    fs::read_to_string("/proc/loadavg").unwrap_or_default().trim().to_owned()
}
