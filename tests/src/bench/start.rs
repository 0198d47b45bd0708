//! Time of a start with a long log: from the process's begin to its first answer.

use super::{
    Setting,
    figures::{Bar, Figures},
    load::{Amount, client, create, produce, values},
    process::{Broker, Target},
};
use crate::chaos::topics::Trouble;
use std::path::Path;

/// 4 GB in 8 partitions, in batches of about 100 kB.
const RECORDS: u64 = 4_000_000;
const VALUE_BYTES: usize = 1_000;
const PARTITIONS: i32 = 8;

/// After kill -9, and after an orderly stop.
pub fn measure(setting: &Setting, figures: &mut Figures) -> Result<(), Trouble> {
    let mut broker = Broker::start(&setting.binary, &setting.folder, "start")?;
    create(&broker, "long", PARTITIONS)?;
    let mut config = client(&broker);
    config.set("batch.size", "100000").set("linger.ms", "50");
    let values = values(VALUE_BYTES, setting.seed);
    let amount = Amount { topic: "long", partitions: PARTITIONS, records: RECORDS };
    produce(&config, amount, &values)?;
    let bytes = bytes_in(&setting.folder.join("start"))?;
    figures.add("bytes of the log of a start", Bar::AtLeast(4e9), broker.name(), bytes as f64);
    for _ in 0..setting.rounds {
        broker.kill()?;
        let time = broker.restart()?.as_secs_f64();
        figures.add("start with a 4 GB log after kill -9, s", Bar::Below(1.0), broker.name(), time);
        figures.add("  CPU-seconds of it", Bar::None, broker.name(), broker.cpu_seconds()?);
        broker.stop()?;
        let time = broker.restart()?.as_secs_f64();
        figures.add("start with a 4 GB log after a stop, s", Bar::Below(1.0), broker.name(), time);
        figures.add("  CPU-seconds of that", Bar::None, broker.name(), broker.cpu_seconds()?);
    }
    Ok(())
}

fn bytes_in(folder: &Path) -> Result<u64, Trouble> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        bytes += if metadata.is_dir() { bytes_in(&entry.path())? } else { metadata.len() };
    }
    Ok(bytes)
}
