//! How long work stands still: when tasks move, when a worker dies or stops, when the coordinator is away and the broker
//! with it for a moment. Nothing else is done meanwhile. For `cargo xtask bench recovery`.

use super::{
    check::{Delivery, Verdict, check},
    events::now_ms,
    fleet::{COORDINATOR, worker},
    load::Load,
    record::Record,
    run::{Setting, Stage, TICK, read},
    silence::{Span, Times, quantile},
    topics::{Isolation, Reading, Trouble},
};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{JoinHandle, sleep},
    time::{Duration, Instant},
};

/// How long the coordinator is away; the broker is killed in the middle of it.
const OUTAGE: Duration = Duration::from_secs(60);
/// What comes out this long after a worker died or stopped is work of others.
const IN_FLIGHT_MS: i64 = 1_000;
/// For work to go on after anything here.
const LIMIT: Duration = Duration::from_secs(60);
/// The commit interval of deaths and stops, as their bars have it.
const SHORT_INTERVAL: &str = "200ms";
/// The coordinator's lease, milliseconds.
const LEASE_MS: i64 = 3_000;

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Part {
    /// All workers are replaced, one after the other, and tasks come back to them.
    Move,
    /// A worker is killed.
    Kill,
    /// A worker is stopped: it says nothing, and its connections stay.
    Stop,
    /// The coordinator is away for a minute, with a broker that is started anew in the middle.
    Outage,
}

/// One figure and what it should be.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What was measured.
    pub what: String,
    /// What came of it.
    pub came: String,
    /// What should.
    pub bar: &'static str,
}

/// Measure a part, on topics of its own, each worker `rounds` times.
///
/// # Errors
/// A process ended by itself, work did not go on, or the output is not what it must be.
pub fn measure(setting: &Setting, part: Part, rounds: usize) -> Result<Vec<Figure>, Trouble> {
    let named = |delivery: Delivery, interval: &str| Setting {
        delivery,
        commit_interval: interval.to_owned(),
        folder: setting.folder.join(format!("{part:?}-{}", delivery.as_str()).to_lowercase()),
        ..setting.clone()
    };
    match part {
        Part::Move => {
            let mut figures = moves(&named(Delivery::AtLeastOnce, &setting.commit_interval), rounds)?;
            figures.extend(moves(&named(Delivery::ExactlyOnce, &setting.commit_interval), rounds)?);
            Ok(figures)
        }
        Part::Kill => deaths(&named(Delivery::ExactlyOnce, SHORT_INTERVAL), rounds),
        Part::Stop => stops(&named(Delivery::ExactlyOnce, SHORT_INTERVAL), rounds),
        Part::Outage => outage(&named(Delivery::ExactlyOnce, &setting.commit_interval)),
    }
}

fn moves(setting: &Setting, rounds: usize) -> Result<Vec<Figure>, Trouble> {
    let mut course = Course::open(setting)?;
    let mut windows: Vec<(Span, Vec<i32>)> = Vec::new();
    let calm = course.calm()?;
    for index in (0..rounds).flat_map(|_| 0..setting.wish.workers) {
        let before = course.owners()?;
        let from_ms = now_ms();
        course.stage.fleet.end(&worker(index))?;
        let without = course.until_owned(&worker(index))?;
        let between_ms = now_ms();
        windows.push((Span { from_ms, to_ms: between_ms }, changed(&before, &without)));
        course.stage.start_worker(index)?;
        course.stage.at_rest("after a worker was replaced")?;
        let after = course.owners()?;
        windows.push((Span { from_ms: between_ms, to_ms: now_ms() }, changed(&without, &after)));
    }
    let moved: usize = windows.iter().map(|(_, partitions)| partitions.len()).sum();
    let finished = course.close()?;
    let pauses = sorted(windows.iter().flat_map(|(window, partitions)| {
        let longest: Vec<_> = finished.appended.longest(*window).map(Span::length_ms).collect();
        partitions.iter().map(move |p| longest[usize::try_from(*p).unwrap_or(0)])
    }));
    let (bar, name) = match setting.delivery {
        Delivery::AtLeastOnce => ("p99 < 50 ms", "at-least-once"),
        Delivery::ExactlyOnce => ("p99 < 100 ms", "exactly-once"),
    };
    let usual = sorted(finished.appended.longest(calm).map(Span::length_ms));
    Ok(vec![
        figure(&format!("{name}: pause of a task that moves, {moved} moves"), milliseconds(&pauses), bar),
        figure("  longest pause of a partition while nothing moves", milliseconds(&usual), "-"),
        figure(
            &format!("  all workers replaced {rounds} times: processed again, doubled"),
            format!("{}, {}", finished.processed_again, finished.verdict.duplicates),
            "0, 0",
        ),
    ])
}

fn deaths(setting: &Setting, rounds: usize) -> Result<Vec<Figure>, Trouble> {
    let mut course = Course::open(setting)?;
    let mut strokes = Vec::new();
    for index in (0..rounds).flat_map(|_| 0..setting.wish.workers) {
        let victims = course.held_by(&worker(index))?;
        let from_ms = now_ms();
        course.stage.fleet.kill(&worker(index))?;
        course.until_work_elsewhere(&victims, from_ms)?;
        strokes.push((Span { from_ms, to_ms: now_ms() }, victims));
        course.stage.start_worker(index)?;
        course.stage.at_rest("after a worker was killed")?;
    }
    let until = course.close()?.until_work(&strokes);
    let what = format!("kill -9 of a worker -> first commit of its work, {} tasks", until.len());
    Ok(vec![figure(&what, milliseconds(&until), "p50 <= 500 ms, p99 <= 2000 ms")])
}

fn stops(setting: &Setting, rounds: usize) -> Result<Vec<Figure>, Trouble> {
    let mut course = Course::open(setting)?;
    let mut strokes = Vec::new();
    for index in (0..rounds).flat_map(|_| 0..setting.wish.workers) {
        let victims = course.held_by(&worker(index))?;
        let from_ms = now_ms();
        course.stage.fleet.signal(&worker(index), "STOP")?;
        course.until_work_elsewhere(&victims, from_ms)?;
        strokes.push((Span { from_ms, to_ms: now_ms() }, victims));
        course.stage.fleet.signal(&worker(index), "CONT")?;
        course.stage.at_rest("after a worker was stopped")?;
    }
    let until = course.close()?.until_work(&strokes);
    let what = format!("a worker stops -> first commit of its work elsewhere, {} tasks", until.len());
    let bar = "p99 <= lease + 500 ms = 3500 ms";
    debug_assert_eq!(LEASE_MS, 3_000);
    Ok(vec![figure(&what, milliseconds(&until), bar)])
}

fn outage(setting: &Setting) -> Result<Vec<Figure>, Trouble> {
    let mut course = Course::open(setting)?;
    let usual = course.calm()?;
    let begun = Instant::now();
    let from_ms = now_ms();
    course.stage.fleet.kill(COORDINATOR)?;
    sleep(OUTAGE / 2);
    let killed_ms = now_ms();
    course.stage.broker.kill()?;
    course.stage.broker.start()?;
    let ready_ms = now_ms();
    sleep(OUTAGE.saturating_sub(begun.elapsed()));
    let to_ms = now_ms();
    course.stage.fleet.start_coordinator()?;
    course.stage.at_rest("after the coordinator is back")?;
    let finished = course.close()?;
    let after_blip = Span { from_ms: ready_ms, to_ms };
    // A partition works again once records are appended to it, which cannot be before the load writes any.
    let again = |times: &Times| times.first_since(ready_ms).into_iter().max().unwrap_or(to_ms);
    let (input, output) = (again(&finished.written), again(&finished.appended));
    let rest = Span { from_ms: output, to_ms };
    let longest = |span| format!("{} ms", finished.appended.longest_of_any(span));
    Ok(vec![
        figure("usual longest pause of any partition", longest(usual), "-"),
        figure(
            "coordinator away: longest pause before the blip",
            longest(Span { from_ms, to_ms: killed_ms }),
            "as usual",
        ),
        figure("  the broker was away", format!("{} ms", ready_ms - killed_ms), "-"),
        figure("  input written again after it", format!("{} ms", input - ready_ms), "-"),
        figure(
            &format!("  output written again, of {} ms left", after_blip.length_ms()),
            format!("{} ms", output - ready_ms),
            "as the input",
        ),
        figure("  longest pause from then on", longest(rest), "as usual"),
    ])
}

fn figure(what: &str, came: String, bar: &'static str) -> Figure {
    Figure { what: what.to_owned(), came, bar }
}

fn sorted(values: impl Iterator<Item = i64>) -> Vec<i64> {
    let mut values: Vec<_> = values.collect();
    values.sort_unstable();
    values
}

fn milliseconds(sorted: &[i64]) -> String {
    let [half, most, all] = [0.5, 0.99, 1.0].map(|share| quantile(sorted, share));
    format!("p50 {half}, p99 {most}, longest {all} ms")
}

/// The partitions that have another owner than before.
fn changed(before: &BTreeMap<i32, String>, after: &BTreeMap<i32, String>) -> Vec<i32> {
    after.iter().filter(|(at, owner)| before.get(at) != Some(owner)).map(|(at, _)| *at).collect()
}

/// A pipeline under load, watched by a reader of committed records.
struct Course<'a> {
    stage: Stage<'a>,
    load: Load,
    arrivals: Arrivals,
}

/// What is known of it afterwards.
struct Finished {
    verdict: Verdict,
    /// When records of the input were written by the load.
    written: Times,
    /// When records of the output were appended, and when a reader of committed ones had them.
    appended: Times,
    arrived: Times,
    /// Records of the output that came before, those of transactions that were aborted too.
    processed_again: usize,
}

impl<'a> Course<'a> {
    fn open(setting: &'a Setting) -> Result<Course<'a>, Trouble> {
        let mut stage = Stage::new(setting)?;
        let arrivals = Arrivals::start(setting, &stage.topics.output)?;
        let load = stage.open()?;
        // Tasks, clients and the broker's caches come to rest.
        sleep(Duration::from_secs(2));
        Ok(Course { stage, load, arrivals })
    }

    /// Some seconds in which nothing is done.
    fn calm(&self) -> Result<Span, Trouble> {
        let from_ms = now_ms();
        sleep(Duration::from_secs(5));
        Ok(Span { from_ms, to_ms: now_ms() })
    }

    /// The worker of each partition: there are as many tasks as partitions.
    fn owners(&self) -> Result<BTreeMap<i32, String>, Trouble> {
        self.stage.fleet.owners()
    }

    fn held_by(&self, worker: &str) -> Result<Vec<i32>, Trouble> {
        Ok(self.owners()?.into_iter().filter(|(_, owner)| owner == worker).map(|(at, _)| at).collect())
    }

    /// Wait until all tasks run, and none on this worker.
    fn until_owned(&self, gone: &str) -> Result<BTreeMap<i32, String>, Trouble> {
        let begun = Instant::now();
        loop {
            let owners = self.owners()?;
            let all = i32::try_from(owners.len())? == self.stage.setting.partitions;
            if all && owners.values().all(|owner| owner != gone) {
                return Ok(owners);
            }
            if begun.elapsed() > LIMIT {
                return Err(format!("the tasks of {gone} run nowhere after {LIMIT:?}: {owners:?}").into());
            }
            sleep(TICK);
        }
    }

    fn until_work_elsewhere(&self, partitions: &[i32], since_ms: i64) -> Result<(), Trouble> {
        let begun = Instant::now();
        while !partitions.iter().all(|p| self.arrivals.last(*p) > since_ms + IN_FLIGHT_MS) {
            if begun.elapsed() > LIMIT {
                return Err(format!("nothing came out of partitions {partitions:?} for {LIMIT:?}").into());
            }
            sleep(TICK);
        }
        Ok(())
    }

    fn close(self) -> Result<Finished, Trouble> {
        let Course { mut stage, load, arrivals } = self;
        load.stop()?;
        stage.drain()?;
        let arrived = arrivals.stop()?;
        let Stage { fleet, topics, setting, .. } = stage;
        fleet.stop()?;
        let (input, output) = (read(setting, &topics.input)?.0, read(setting, &topics.output)?.0);
        let verdict = check(&input, &output);
        let faults = verdict.faults(setting.delivery);
        if !faults.is_empty() {
            return Err(faults.join("; ").into());
        }
        let times = |records: &[Record]| Times::of(records, setting.partitions);
        Ok(Finished {
            verdict,
            written: times(&input),
            appended: times(&output),
            arrived: times(&arrived),
            processed_again: processed_again(setting, &topics.output)?,
        })
    }
}

fn processed_again(setting: &Setting, topic: &str) -> Result<usize, Trouble> {
    let (mut seen, mut again) = (HashSet::new(), 0);
    let mut reading = Reading::of(&setting.kafka, topic, setting.partitions, Isolation::Uncommitted)?;
    reading.to_end(LIMIT, &mut |value| {
        if let Ok(record) = value.record() {
            again += usize::from(!seen.insert(record.id));
        }
    })?;
    Ok(again)
}

impl Finished {
    /// From each stroke to the first record of others, for each partition it met: the end of the longest silence after it.
    fn until_work(&self, strokes: &[(Span, Vec<i32>)]) -> Vec<i64> {
        sorted(strokes.iter().flat_map(|(window, partitions)| {
            let ends: Vec<_> = self.arrived.longest(*window).map(|gap| gap.to_ms - window.from_ms).collect();
            partitions.iter().map(move |p| ends[usize::try_from(*p).unwrap_or(0)])
        }))
    }
}

/// A reader of committed records that notes when each came.
struct Arrivals {
    stop: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<Record>>>,
    last: Arc<Mutex<Vec<i64>>>,
    thread: JoinHandle<()>,
}

impl Arrivals {
    fn start(setting: &Setting, topic: &str) -> Result<Arrivals, Trouble> {
        let mut reading = Reading::start(&setting.kafka, topic, setting.partitions)?;
        let (stop, seen) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Vec::new())));
        let last = Arc::new(Mutex::new(vec![0; usize::try_from(setting.partitions)?]));
        let (told, note, latest) = (stop.clone(), seen.clone(), last.clone());
        let thread = std::thread::Builder::new().name("arrivals".into()).spawn(move || {
            while !told.load(Ordering::Relaxed) {
                // A broker that is away is an error for a while.
                let Ok(Some(value)) = reading.poll() else { continue };
                let (partition, timestamp_ms) = (value.partition, now_ms());
                if let Ok(record) = value.record() {
                    lock(&note).push(Record { timestamp_ms, ..record });
                    lock(&latest)[usize::try_from(partition).unwrap_or(0)] = timestamp_ms;
                }
            }
        })?;
        Ok(Arrivals { stop, seen, last, thread })
    }

    /// When the last record of a partition came, milliseconds since 1970.
    fn last(&self, partition: i32) -> i64 {
        lock(&self.last)[usize::try_from(partition).unwrap_or(0)]
    }

    fn stop(self) -> Result<Vec<Record>, Trouble> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "the reader panicked")?;
        Ok(std::mem::take(&mut *lock(&self.seen)))
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
