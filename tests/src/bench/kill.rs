//! kill -9 under load: every id that was acknowledged is there, once, and the records of each key in their order.

use super::{
    Setting,
    figures::{Bar, Figures},
    load::create,
    process::{Broker, Target},
};
use crate::chaos::{
    check::{Delivery, check},
    load::Load,
    record::{Record, place},
    topics::{Trouble, read_all},
};
use std::time::{Duration, Instant};

const KILLS: u64 = 20;
const PARTITIONS: i32 = 8;
const PER_SECOND: u64 = 50_000;
/// Records acknowledged between a start and the next kill, at most.
const AT_MOST: u64 = 40_000;
/// For the next acknowledgement.
const PATIENCE: Duration = Duration::from_secs(60);

/// Kill, start, and look at the topic afterwards.
pub fn measure(setting: &Setting, figures: &mut Figures) -> Result<(), Trouble> {
    let mut broker = Broker::start(&setting.binary, &setting.folder, "kill")?;
    create(&broker, "ids", PARTITIONS)?;
    let load = Load::start(broker.bootstrap(), "ids", PER_SECOND)?;
    let mut mixed = setting.seed | 1;
    for _ in 0..KILLS {
        mixed = mixed.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(1);
        await_acknowledged(&load, load.acknowledged() + 1 + (mixed >> 33) % AT_MOST)?;
        broker.kill()?;
        broker.restart()?;
    }
    let sent = load.stop()?;
    let found = read_all(broker.bootstrap(), "ids", PARTITIONS)?;
    let expected: Vec<Record> = (0..sent).map(record).collect();
    let verdict = check(&expected, &found);
    let whose = broker.name();
    figures.add("kill -9 under load, times", Bar::AtLeast(KILLS as f64), whose, KILLS as f64);
    figures.add("  ids acknowledged", Bar::None, whose, sent as f64);
    figures.add("  lost", Bar::Below(1.0), whose, verdict.lost.len() as f64);
    figures.add("  there twice", Bar::Below(1.0), whose, verdict.duplicates as f64);
    figures.add("  out of their key's order", Bar::Below(1.0), whose, verdict.disordered.len() as f64);
    match verdict.faults(Delivery::AtLeastOnce).into_iter().next() {
        Some(fault) => Err(format!("seed {}: {fault}", setting.seed).into()),
        None => Ok(()),
    }
}

fn record(id: u64) -> Record {
    let (key, sequence) = place(id);
    Record { partition: 0, timestamp_ms: 0, id, key, sequence }
}

fn await_acknowledged(load: &Load, wanted: u64) -> Result<(), Trouble> {
    let begun = Instant::now();
    while load.acknowledged() < wanted {
        if begun.elapsed() > PATIENCE {
            return Err(format!("{} of {wanted} records are acknowledged", load.acknowledged()).into());
        }
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok(())
}
