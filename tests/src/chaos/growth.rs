//! What a worker that nobody kills takes at the begin and at the end of a run.

use super::topics::Trouble;
use crate::bench::resident_bytes;
use std::{fs, thread::sleep, time::Duration};

/// Of a run's length, each of the two quiet times is this part.
const PART: u32 = 60;
/// And no longer than this.
const LONGEST: Duration = Duration::from_secs(60);
/// A shorter quiet time shows nothing.
const SHORTEST: Duration = Duration::from_secs(5);
/// Time between two looks.
const LOOK: Duration = Duration::from_secs(1);
/// Growth that a process may show, in percent, and in a run that lasts for so long: caches fill in the first minutes.
const MOST_PERCENT: f64 = 10.0;
const SHOWS_FROM: Duration = Duration::from_secs(30 * 60);

/// How long a run of this length is left alone before the first and after the last fault.
pub fn quiet(length: Duration) -> Option<Duration> {
    let quiet = (length / PART).min(LONGEST);
    (quiet >= SHORTEST).then_some(quiet)
}

/// What a process takes, as a mean.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Taken {
    /// Resident memory, bytes.
    pub resident: f64,
    /// Open descriptors.
    pub descriptors: f64,
}

impl Taken {
    /// Of a process, over so long.
    ///
    /// # Errors
    /// It ended.
    pub fn over(time: Duration, process: u32) -> Result<Taken, Trouble> {
        let looks = time.as_secs().max(1);
        let (mut resident, mut descriptors) = (0.0, 0.0);
        for _ in 0..looks {
            sleep(LOOK);
            resident += resident_bytes(process)?;
            descriptors += fs::read_dir(format!("/proc/{process}/fd"))?.count() as f64;
        }
        Ok(Taken { resident: resident / looks as f64, descriptors: descriptors / looks as f64 })
    }
}

/// From the first quiet time to the last.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Growth {
    /// At the begin.
    pub first: Taken,
    /// At the end.
    pub last: Taken,
}

impl Growth {
    /// Percent of memory, and of descriptors.
    pub fn percent(&self) -> [f64; 2] {
        let of = |first: f64, last: f64| (last / first.max(1.0) - 1.0) * 100.0;
        [of(self.first.resident, self.last.resident), of(self.first.descriptors, self.last.descriptors)]
    }

    /// What must not be in a run of this length.
    pub fn faults(&self, length: Duration) -> Vec<String> {
        let grown = self.percent().into_iter().zip(["resident memory", "descriptors"]);
        let too_much = grown.filter(|(percent, _)| length >= SHOWS_FROM && *percent > MOST_PERCENT);
        too_much
            .map(|(percent, what)| {
                format!("the {what} of a worker that was never killed grew by {percent:.1} %")
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_long_run_is_judged_by_growth_and_only_a_run_of_minutes_is_left_alone() {
        assert_eq!(quiet(Duration::ZERO), None);
        assert_eq!(quiet(Duration::from_secs(300)), Some(Duration::from_secs(5)));
        assert_eq!(quiet(Duration::from_secs(7_200)), Some(LONGEST));
        let taken = |resident, descriptors| Taken { resident, descriptors };
        let growth = Growth { first: taken(100.0, 50.0), last: taken(105.0, 60.0) };
        assert!(growth.faults(Duration::from_secs(300)).is_empty());
        let faults = growth.faults(SHOWS_FROM);
        assert_eq!(faults, ["the descriptors of a worker that was never killed grew by 20.0 %"]);
    }

    #[test]
    fn a_process_that_runs_takes_something() {
        let taken = Taken::over(LOOK, std::process::id()).unwrap();
        assert!(taken.resident > 1e6 && taken.descriptors > 2.0, "{taken:?}");
    }
}
