//! CPU time of brokers that nobody asks anything.

use super::{
    figures::{Bar, Figures},
    process::Target,
};
use crate::chaos::topics::Trouble;
use std::time::Duration;

/// How long nothing is asked.
const PERIOD: Duration = Duration::from_secs(60);

/// All brokers over the same time.
pub fn measure(targets: &[&dyn Target], figures: &mut Figures) -> Result<(), Trouble> {
    // What was asked before may still be synced.
    std::thread::sleep(Duration::from_secs(3));
    let before = targets.iter().map(|target| target.cpu_seconds()).collect::<Result<Vec<_>, _>>()?;
    std::thread::sleep(PERIOD);
    for (target, before) in targets.iter().zip(before) {
        let percent = (target.cpu_seconds()? - before) / PERIOD.as_secs_f64() * 100.0;
        figures.add("idle over 60 s, % of a CPU", Bar::Below(0.1), target.name(), percent);
    }
    Ok(())
}
