//! Records per CPU-second of the broker, and its memory.

use super::{
    Setting,
    figures::{Bar, Figures},
    load::{Amount, client, create, fetch, produce, unique, values},
    process::Target,
};
use crate::chaos::topics::Trouble;

const PARTITIONS: i32 = 8;
const VALUE_BYTES: usize = 200;

/// Fill a new topic and read it, with each broker in turns.
pub fn measure(setting: &Setting, targets: &[&dyn Target], figures: &mut Figures) -> Result<(), Trouble> {
    let values = values(VALUE_BYTES, setting.seed);
    for round in 0..setting.rounds {
        for target in targets {
            let topic = unique("bench-load");
            create(*target, &topic, PARTITIONS)?;
            let amount = Amount { topic: &topic, partitions: PARTITIONS, records: setting.records };
            let mut config = client(*target);
            // Batches of up to a megabyte, the client's default limit.
            config.set("compression.type", "lz4").set("linger.ms", "50").set("acks", "all");
            let before = target.cpu_seconds()?;
            produce(&config, amount, &values)?;
            let between = target.cpu_seconds()?;
            fetch(*target, amount, VALUE_BYTES)?;
            let after = target.cpu_seconds()?;
            let rate = |cpu: f64| setting.records as f64 / cpu;
            let whose = target.name();
            figures.add("produce, records per CPU-second", Bar::AtLeast(5e6), whose, rate(between - before));
            figures.add("fetch, records per CPU-second", Bar::AtLeast(15e6), whose, rate(after - between));
            if round == 0 {
                figures.add(
                    "memory after the first round, MB",
                    Bar::Below(100.0),
                    whose,
                    target.resident_mb()?,
                );
            }
        }
    }
    Ok(())
}
