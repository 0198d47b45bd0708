//! The coordinator's own hand on the offsets of a pipeline: through the same connectors as tasks, on a thread that waits.

use pelton_checkpoint::{Committed, Positions};
use pelton_config::{Delivery, Document};
use pelton_proto::v1;
use pelton_sdk::{Connector, EndError, Offsets, Producer, ProducerSpec, Registry, Scope, SourceSpec, Wake};
use pelton_types::{Code, Partition, TaskId};
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

/// Why the queue did not do what was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Trouble {
    pub code: Code,
    pub text: String,
}

impl Trouble {
    pub(super) fn new(text: impl Into<String>) -> Trouble {
        Trouble { code: Code::CommitFailed, text: text.into() }
    }
}

impl From<EndError> for Trouble {
    fn from(e: EndError) -> Trouble {
        Trouble { code: e.code, text: e.message }
    }
}

/// See the module.
pub(super) struct Hand {
    registry: Registry,
    task: TaskId,
    document: Document,
    /// Offset stores and the partitions each has.
    places: Vec<(Box<dyn Offsets>, Vec<Partition>)>,
    connectors: BTreeMap<String, Box<dyn Connector>>,
}

impl Hand {
    /// For these partitions of a task, of a pipeline with this definition.
    pub(super) fn new(
        registry: &Registry,
        task: &TaskId,
        definition: &str,
        sources: &[v1::AssignedSource],
    ) -> Result<Hand, Trouble> {
        let document = serde_json::from_str(definition)
            .map_err(|e| e.to_string())
            .and_then(|json| pelton_config::from_json(&json).map_err(|report| report.to_string()))
            .map_err(Trouble::new)?;
        let mut hand = Hand {
            registry: registry.clone(),
            task: task.clone(),
            document,
            places: Vec::new(),
            connectors: BTreeMap::new(),
        };
        hand.find_places(sources)?;
        Ok(hand)
    }

    /// What the pipeline promises.
    pub(super) fn delivery(&self) -> pelton_checkpoint::Delivery {
        match self.document.spec.delivery {
            Delivery::AtLeastOnce => pelton_checkpoint::Delivery::AtLeastOnce,
            Delivery::ExactlyOnce => pelton_checkpoint::Delivery::ExactlyOnce,
        }
    }

    fn find_places(&mut self, sources: &[v1::AssignedSource]) -> Result<(), Trouble> {
        let defined: Vec<_> = self.document.spec.sources.clone().into_iter().collect();
        for (name, source) in defined {
            let assigned = sources.iter().filter(|s| s.source == name);
            let partitions: Vec<Partition> =
                assigned.flat_map(|s| &s.partitions).map(Partition::from).collect();
            if partitions.is_empty() {
                continue;
            }
            let spec = SourceSpec {
                task: self.task.clone(),
                name,
                options: source.options,
                partitions: partitions.clone(),
            };
            let offsets = self.connector(&source.connector)?.offsets(&spec)?;
            self.places.push((offsets, partitions));
        }
        Ok(())
    }

    fn connector(&mut self, name: &str) -> Result<&mut Box<dyn Connector>, Trouble> {
        let missing = || Trouble::new(format!("this build has no connector `{name}`"));
        if !self.connectors.contains_key(name) {
            let factory = self.registry.find_connector(name).ok_or_else(missing)?;
            let wake = Wake::thread(std::thread::current());
            let scope = Scope { wake, executor: 0, queue_bytes: QUEUE_BYTES };
            self.connectors.insert(name.to_owned(), factory.connect(scope));
        }
        self.connectors.get_mut(name).ok_or_else(missing)
    }

    /// The task's producer, initialised: whoever had it is fenced.
    pub(super) fn producer(&mut self) -> Result<Box<dyn Producer>, Trouble> {
        let spec = self.document.spec.clone();
        let sinks = spec.sinks.values().map(|s| (&s.connector, &s.options));
        let mut ends = sinks.chain(spec.sources.values().map(|s| (&s.connector, &s.options)));
        let none = (&String::new(), &Value::Null);
        let (connector, options) = ends.next().unwrap_or(none);
        let of = ProducerSpec {
            task: self.task.clone(),
            options: options.clone(),
            commit_interval: spec.commit_interval,
        };
        let mut producer = self.connector(connector)?.producer(&of)?;
        producer.start_init(true);
        wait("the init", || producer.poll_init())?;
        Ok(producer)
    }

    /// What is committed for all partitions.
    pub(super) fn read(&mut self) -> Result<Vec<Committed>, Trouble> {
        let mut seen = Vec::new();
        for (offsets, partitions) in &mut self.places {
            offsets.start_read(partitions);
            seen.extend(wait("the committed offsets", || offsets.poll_read())?);
        }
        let judged = |c: pelton_sdk::Committed| Committed {
            partition: c.partition,
            offset: c.offset,
            start: c.start,
            metadata: c.metadata,
        };
        Ok(seen.into_iter().map(judged).collect())
    }

    /// Commit in a transaction of the task's producer. Whether each request has its answer (P7).
    pub(super) fn commit_with(
        &self,
        producer: &mut dyn Producer,
        positions: &Positions,
        metadata: &str,
    ) -> Result<bool, Trouble> {
        producer.start_commit(positions, metadata);
        wait("the commit", || producer.poll_commit())
    }

    /// Commit without one.
    pub(super) fn commit(&mut self, positions: &Positions, metadata: &str) -> Result<(), Trouble> {
        for (offsets, partitions) in &mut self.places {
            let own: Positions = positions.iter().filter(|(p, _)| partitions.contains(p)).cloned().collect();
            offsets.start_commit(&own, metadata);
            wait("the commit", || offsets.poll_commit())?;
        }
        Ok(())
    }
}

/// Let go of a producer.
pub(super) fn close(mut producer: Box<dyn Producer>) -> Result<(), Trouble> {
    producer.start_close();
    wait("the end", || producer.poll_close().map(Ok))
}

fn wait<T>(what: &str, mut poll: impl FnMut() -> Poll<Result<T, EndError>>) -> Result<T, Trouble> {
    let since = Instant::now();
    loop {
        match poll() {
            Poll::Ready(outcome) => return outcome.map_err(Trouble::from),
            Poll::Pending if since.elapsed() > PATIENCE => {
                return Err(Trouble::new(format!("no answer for {what} in {} s", PATIENCE.as_secs())));
            }
            Poll::Pending => std::thread::park_timeout(LOOK_AGAIN),
        }
    }
}
