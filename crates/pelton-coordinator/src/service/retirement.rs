//! Carries a retirement out: init, read, claim through the old task's own transactional id.

use crate::core::Retiring;
use pelton_checkpoint::{Committed, Retirement, retirement};
use pelton_config::Document;
use pelton_sdk::{Connector, EndError, Offsets, Producer, ProducerSpec, Registry, Scope, SourceSpec, Wake};
use pelton_types::{Code, Incident, Partition, TaskId};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    task::Poll,
    time::{Duration, Instant},
};

/// What one answer of the queue may take. A broker that starts anew needs a while for its transaction log.
const PATIENCE: Duration = Duration::from_secs(20);
/// A wake-up should always come; this bounds the harm of one that does not.
const LOOK_AGAIN: Duration = Duration::from_millis(50);
/// Bytes that the clients may queue: nothing is read or written but offsets.
const QUEUE_BYTES: usize = 1 << 20;

/// Retire a task. Waits; for threads that may.
///
/// # Errors
/// The incident to report; to be tried again.
pub(super) fn retire(registry: &Registry, wish: &Retiring) -> Result<(), Incident> {
    let document = serde_json::from_str(&wish.definition)
        .map_err(|e| e.to_string())
        .and_then(|json| pelton_config::from_json(&json).map_err(|report| report.to_string()))
        .map_err(|why| failed(&wish.task, &why))?;
    let mut hand = Hand { registry, wish, connectors: BTreeMap::new() };
    let mut places = hand.places(&document)?;
    let mut producer = hand.producer(&document)?;
    producer.start_init(true);
    hand.wait("the init", || producer.poll_init())?;
    let mut seen = Vec::new();
    for (offsets, partitions) in &mut places {
        offsets.start_read(partitions);
        seen.extend(hand.wait("the committed offsets", || offsets.poll_read())?);
    }
    let seen: Vec<Committed> = seen.into_iter().map(judged).collect();
    let outcome = match retirement(&wish.task, wish.next, &seen) {
        Retirement::Done => Ok(()),
        Retirement::Refused(incident) => Err(incident),
        Retirement::Claim { positions, stamp } => {
            producer.start_commit(&positions, &stamp.to_string());
            hand.wait("the claim", || producer.poll_commit()).map(drop)
        }
    };
    producer.start_close();
    hand.wait("the end", || producer.poll_close().map(Ok))?;
    outcome
}

/// Why a retirement did not come to its end.
pub(super) fn failed(task: &TaskId, why: &str) -> Incident {
    incident(Code::CommitFailed, task, why)
}

fn incident(code: Code, task: &TaskId, why: &str) -> Incident {
    Incident {
        code,
        message: format!("the old task {task} cannot be retired, and the new ones wait for it: {why}"),
        remedy: "Pelton tries again by itself".into(),
        stops_task: false,
    }
}

fn judged(c: pelton_sdk::Committed) -> Committed {
    Committed { partition: c.partition, offset: c.offset, start: c.start, metadata: c.metadata }
}

/// An offset store and the partitions to ask it for.
type Place = (Box<dyn Offsets>, Vec<Partition>);

struct Hand<'a> {
    registry: &'a Registry,
    wish: &'a Retiring,
    connectors: BTreeMap<String, Box<dyn Connector>>,
}

impl Hand<'_> {
    fn connector(&mut self, name: &str) -> Result<&mut Box<dyn Connector>, Incident> {
        if !self.connectors.contains_key(name) {
            let factory = self.registry.find_connector(name);
            let factory =
                factory.ok_or_else(|| failed(&self.wish.task, &format!("no connector `{name}`")))?;
            let wake = Wake::thread(std::thread::current());
            let scope = Scope { wake, executor: 0, queue_bytes: QUEUE_BYTES };
            self.connectors.insert(name.to_owned(), factory.connect(scope));
        }
        let missing = || failed(&self.wish.task, &format!("no connector `{name}`"));
        self.connectors.get_mut(name).ok_or_else(missing)
    }

    fn places(&mut self, document: &Document) -> Result<Vec<Place>, Incident> {
        let mut places = Vec::new();
        for (name, source) in &document.spec.sources {
            let assigned = self.wish.sources.iter().find(|s| s.source == *name);
            let partitions: Vec<Partition> = assigned
                .into_iter()
                .flat_map(|s| &s.partitions)
                .map(|p| Partition::new(p.topic.as_str(), p.index))
                .collect();
            if partitions.is_empty() {
                continue;
            }
            let spec = SourceSpec {
                task: self.wish.task.clone(),
                name: name.clone(),
                options: source.options.clone(),
                partitions: partitions.clone(),
            };
            let offsets = self.connector(&source.connector)?.offsets(&spec);
            places.push((offsets.map_err(|e| self.trouble(&e))?, partitions));
        }
        Ok(places)
    }

    fn producer(&mut self, document: &Document) -> Result<Box<dyn Producer>, Incident> {
        let spec = &document.spec;
        let sinks = spec.sinks.values().map(|s| (&s.connector, &s.options));
        let mut ends = sinks.chain(spec.sources.values().map(|s| (&s.connector, &s.options)));
        let none = (&String::new(), &Value::Null);
        let (connector, options) = ends.next().unwrap_or(none);
        let spec = ProducerSpec {
            task: self.wish.task.clone(),
            options: options.clone(),
            commit_interval: spec.commit_interval,
        };
        let producer = self.connector(connector)?.producer(&spec);
        producer.map_err(|e| self.trouble(&e))
    }

    fn wait<T>(
        &self,
        what: &str,
        mut poll: impl FnMut() -> Poll<Result<T, EndError>>,
    ) -> Result<T, Incident> {
        let since = Instant::now();
        loop {
            match poll() {
                Poll::Ready(outcome) => return outcome.map_err(|e| self.trouble(&e)),
                Poll::Pending if since.elapsed() > PATIENCE => {
                    let why = format!("no answer for {what} in {} s", PATIENCE.as_secs());
                    return Err(failed(&self.wish.task, &why));
                }
                Poll::Pending => std::thread::park_timeout(LOOK_AGAIN),
            }
        }
    }

    fn trouble(&self, error: &EndError) -> Incident {
        incident(error.code, &self.wish.task, &error.message)
    }
}
