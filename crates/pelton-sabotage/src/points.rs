//! Fail points: moments of the commit protocol at which a test can have a process of a development build killed, stopped
//! or kept waiting. The failure windows W1 to W15 lie between them.
//!
//! A test gives its processes a folder in [`FOLDER`] and arms a point with a file of the point's name, which holds what is
//! to happen: `kill`, `stop` (SIGSTOP of the whole process), `hold` (this thread) or `fail` (where the place can fail).
//! The first process that gets there takes the file for itself by renaming it to `NAME.reached`, so a point acts once and
//! the test sees that it has; `hold` ends when that file is removed. `fail` stays armed until its file is removed.
//!
//! Files, because the process and the test are two, and the test has to choose the moment: in the third transaction, after
//! the second worker's claim.
//!
//! In a build without debug assertions, which is every build that is shipped, all of it is a constant nothing.

/// The environment variable with the folder.
#[cfg(debug_assertions)]
pub const FOLDER: &str = "PELTON_FAIL_POINTS";

/// A moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Point {
    /// A producer is about to be initialised: W6.
    Initialising,
    /// The outputs of a transaction (of a claim: none) are stored, its offsets not yet sent: W1, W11, W12.
    Produced,
    /// Its offsets are sent, its end is not: W2, W5, W10, W15.
    OffsetsSent,
    /// It is committed, and the task does not know yet: W3.
    Committed,
    /// A request of it went unanswered, and the producer is not dropped yet: W4.
    InDoubt,
    /// The producer was fenced, and the task does not know yet: W7.
    Fenced,
    /// The coordinator is about to write down what it decided; failing, its disk is full: W8, W14.
    Storing,
    /// It has, and has told nobody: W9.
    Stored,
    /// The old task's producer is initialised and its offsets are read, but it is not retired: W13.
    Retiring,
    /// It is retired, and the coordinator has not written down who comes next: W13.
    Retired,
    /// Failing, offsets are stamped as a later version of Pelton may do: W15.
    NextFormat,
}

impl Point {
    /// All of them.
    pub const ALL: [Point; 11] = [
        Point::Initialising,
        Point::Produced,
        Point::OffsetsSent,
        Point::Committed,
        Point::InDoubt,
        Point::Fenced,
        Point::Storing,
        Point::Stored,
        Point::Retiring,
        Point::Retired,
        Point::NextFormat,
    ];

    /// The name of its file.
    pub fn name(self) -> &'static str {
        match self {
            Point::Initialising => "initialising",
            Point::Produced => "produced",
            Point::OffsetsSent => "offsets-sent",
            Point::Committed => "committed",
            Point::InDoubt => "in-doubt",
            Point::Fenced => "fenced",
            Point::Storing => "storing",
            Point::Stored => "stored",
            Point::Retiring => "retiring",
            Point::Retired => "retired",
            Point::NextFormat => "next-format",
        }
    }
}

/// This moment has come.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn reach(_: Point) {}

/// Whether it is to fail here.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn fails(_: Point) -> bool {
    false
}

/// Milliseconds by which the wall clock is to be wrong.
#[cfg(not(debug_assertions))]
#[inline(always)]
pub const fn skew_ms() -> i64 {
    0
}

#[cfg(debug_assertions)]
pub use armed::{fails, reach, skew_ms};

#[cfg(debug_assertions)]
mod armed {
    use super::{FOLDER, Point};
    use std::{
        fs,
        path::{Path, PathBuf},
        sync::OnceLock,
        time::Duration,
    };

    /// Between two looks whether a held thread may go on.
    const LOOK: Duration = Duration::from_millis(5);

    fn folder() -> Option<&'static Path> {
        static FOLDER_GIVEN: OnceLock<Option<PathBuf>> = OnceLock::new();
        FOLDER_GIVEN.get_or_init(|| std::env::var_os(FOLDER).map(PathBuf::from)).as_deref()
    }

    /// This moment has come: do what a test wants done here.
    pub fn reach(point: Point) {
        if let Some(folder) = folder() {
            reach_in(folder, point);
        }
    }

    pub(super) fn reach_in(folder: &Path, point: Point) {
        let (armed, reached) = files(folder, point);
        if fails_in(folder, point) || fs::rename(&armed, &reached).is_err() {
            return;
        }
        match fs::read_to_string(&reached).unwrap_or_default().trim() {
            "kill" => signal_self(libc::SIGKILL),
            "stop" => signal_self(libc::SIGSTOP),
            "hold" => {
                while reached.exists() {
                    std::thread::sleep(LOOK);
                }
            }
            _ => {}
        }
    }

    /// Whether a test wants this to fail.
    pub fn fails(point: Point) -> bool {
        folder().is_some_and(|folder| fails_in(folder, point))
    }

    pub(super) fn fails_in(folder: &Path, point: Point) -> bool {
        let (armed, reached) = files(folder, point);
        let fails = fs::read_to_string(armed).is_ok_and(|wish| wish.trim() == "fail");
        // That the test does not see it reached is the worst that can happen, and fails that test.
        fails && fs::write(reached, "fail").is_ok()
    }

    /// Milliseconds by which a test wants the wall clock to be wrong: the file `skew`.
    pub fn skew_ms() -> i64 {
        let skew = |folder: &Path| fs::read_to_string(folder.join("skew")).ok()?.trim().parse().ok();
        folder().and_then(skew).unwrap_or(0)
    }

    fn files(folder: &Path, point: Point) -> (PathBuf, PathBuf) {
        (folder.join(point.name()), folder.join(format!("{}.reached", point.name())))
    }

    fn signal_self(signal: libc::c_int) {
        // SAFETY: a signal to this process; no memory of ours is touched.
        unsafe { libc::kill(libc::getpid(), signal) };
    }
}

#[cfg(debug_assertions)]
#[cfg(test)]
mod tests {
    use super::{armed::*, *};
    use std::{collections::BTreeSet, fs, path::PathBuf};

    fn folder(name: &str) -> PathBuf {
        let folder = std::env::temp_dir().join(format!("pelton-points-{name}-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        folder
    }

    #[test]
    fn a_point_acts_once_and_says_so() {
        let folder = folder("once");
        reach_in(&folder, Point::Produced);
        assert!(fs::read_dir(&folder).unwrap().next().is_none(), "nothing was armed");
        fs::write(folder.join("produced"), "hold").unwrap();
        std::thread::scope(|threads| {
            let held = threads.spawn(|| reach_in(&folder, Point::Produced));
            while !folder.join("produced.reached").exists() {
                std::thread::yield_now();
            }
            reach_in(&folder, Point::Produced);
            assert!(!held.is_finished(), "held, and the second to come is not");
            fs::remove_file(folder.join("produced.reached")).unwrap();
        });
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_point_fails_as_long_as_it_is_told_to() {
        let folder = folder("fail");
        assert!(!fails_in(&folder, Point::Storing));
        fs::write(folder.join("storing"), "fail").unwrap();
        reach_in(&folder, Point::Storing);
        assert!(fails_in(&folder, Point::Storing) && fails_in(&folder, Point::Storing));
        assert!(folder.join("storing.reached").exists());
        fs::remove_file(folder.join("storing")).unwrap();
        assert!(!fails_in(&folder, Point::Storing));
        fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn each_point_has_a_name_of_its_own() {
        let names: BTreeSet<_> = Point::ALL.into_iter().map(Point::name).collect();
        assert_eq!(names.len(), Point::ALL.len());
        assert_eq!(skew_ms(), 0, "without a folder");
    }
}
