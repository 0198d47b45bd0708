//! Pipelines in one process, without a coordinator: each pipeline is one task per executor share, granted to itself.

use crate::{host::Host, plan::stage_plan};
use pelton_checkpoint::Grant;
use pelton_config::{Delivery, Document};
use pelton_runtime::{ExecutorEvent, TaskSnapshot, TaskState, executor::AssignedPartitions};
use pelton_sdk::{BuildContext, EndError, Registry};
use pelton_types::{Code, Incident, Partition, TaskId};
use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};
use tokio::sync::mpsc;

/// What could not be started.
#[derive(Debug, thiserror::Error)]
pub enum LocalError {
    /// The queue does not answer.
    #[error("{0}")]
    Unavailable(String),
    /// The definition cannot run.
    #[error("{0}")]
    Refused(String),
    /// The queue does not let us.
    #[error("{0}")]
    NotPermitted(String),
}

/// The tasks of pipelines that run in this process alone.
pub struct Local {
    host: Host,
    events: mpsc::UnboundedReceiver<ExecutorEvent>,
    tasks: BTreeMap<TaskId, Option<TaskSnapshot>>,
    draining: bool,
}

impl Local {
    /// A process with nothing to do yet. `events` is the other end of the host's event sink.
    pub fn new(host: Host, events: mpsc::UnboundedReceiver<ExecutorEvent>) -> Self {
        Self { host, events, tasks: BTreeMap::new(), draining: false }
    }

    /// Start a pipeline: its shards are spread over the executors.
    ///
    /// # Errors
    /// When a topic is missing, the queue does not answer, or a component cannot be built.
    pub async fn start(
        &mut self,
        document: &Document,
        registry: &Registry,
        context: &BuildContext,
    ) -> Result<(), LocalError> {
        let plan =
            stage_plan(document, 1, registry, context).map_err(|p| LocalError::Refused(p.join("\n")))?;
        let shards = shards(document, registry).await?;
        let count = shards.values().flatten().map(|p| p.index + 1).max().unwrap_or(1) as usize;
        let most = match document.spec.delivery {
            Delivery::AtLeastOnce => self.host.executors(),
            // The map from shards to tasks must not hang on the machine: each task's producer fences its predecessor.
            Delivery::ExactlyOnce => pelton_config::DEFAULT_TASKS as usize,
        };
        let tasks = document.spec.tasks.map_or(most, |n| n as usize).clamp(1, count);
        let epoch = epoch(SystemTime::now());
        let plan = Arc::new(plan);
        for index in 0..tasks {
            let sources: BTreeMap<String, Vec<Partition>> = shards
                .iter()
                .map(|(source, all)| {
                    (
                        source.clone(),
                        all.iter().filter(|p| p.index as usize % tasks == index).cloned().collect(),
                    )
                })
                .collect();
            let task = TaskId {
                pipeline: document.name(),
                // Alone, the name is the identity: the next run goes on where this one stopped. Under exactly-once
                // one with another map of tasks would not be fenced by it, and is refused as somebody else's.
                uuid: format!("local.{}.{tasks}.{count}", document.metadata.name),
                stage: 0,
                generation: 1,
                index: index as u32,
            };
            self.tasks.insert(task.clone(), None);
            let partitions = sources.values().flatten().cloned().collect();
            let own = AssignedPartitions { sources, tasks: tasks as u32 };
            let grant = Grant { task, epoch, term: 1, virgin: true, partitions, heard: Vec::new() };
            self.host.start(grant, plan.clone(), own);
        }
        Ok(())
    }

    /// Take in what executors said until `pause` has passed.
    pub async fn attend(&mut self, pause: Duration) {
        let until = tokio::time::sleep(pause);
        tokio::pin!(until);
        loop {
            tokio::select! {
                biased;
                Some(event) = self.events.recv() => match event {
                    ExecutorEvent::Confirm { task, .. } => self.host.confirmed(task, Some(true)),
                    ExecutorEvent::Changed(snapshot) => {
                        if snapshot.state.is_final() {
                            self.host.ended(&snapshot.task, snapshot.epoch);
                            self.tasks.insert(snapshot.task.clone(), Some(*snapshot));
                        }
                    }
                },
                () = &mut until => return,
            }
        }
    }

    /// How every task stands: the last word of those that ended.
    pub fn snapshots(&self) -> Vec<TaskSnapshot> {
        let mut all = self.host.board().all();
        all.extend(self.tasks.values().flatten().cloned());
        all
    }

    /// Finish, commit and let go.
    pub fn drain(&mut self, within: Duration) {
        if !self.draining {
            self.draining = true;
            self.host.drain(within);
        }
    }

    /// Every task has ended.
    pub fn ended(&self) -> bool {
        self.tasks.values().all(Option::is_some)
    }

    /// The incidents of tasks that failed.
    pub fn failures(&self) -> Vec<(TaskId, Incident)> {
        let failed = self.tasks.values().flatten().filter(|s| s.state == TaskState::Failed);
        failed.filter_map(|s| Some((s.task.clone(), s.incident.clone()?))).collect()
    }

    /// Tasks that a later run took over.
    pub fn stepped_down(&self) -> Vec<TaskId> {
        let ended = self.tasks.values().flatten().filter(|s| s.state == TaskState::SteppedDown);
        ended.map(|s| s.task.clone()).collect()
    }

    /// End the executors.
    pub fn stop(self) {
        self.host.stop();
    }
}

/// No coordinator hands out epochs: the run that was started last is the owner. Milliseconds since 1970.
fn epoch(now: SystemTime) -> u64 {
    let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX).max(1)
}

/// A queue that does not say what it has.
fn unasked(source: &str, error: &EndError) -> LocalError {
    let message = format!("source `{source}`: [{}] {error}", error.code);
    match error.code {
        Code::NotPermitted | Code::LoginFailed => LocalError::NotPermitted(message),
        Code::BadConnection => LocalError::Refused(message),
        _ => LocalError::Unavailable(message),
    }
}

/// The partitions of every source, by its name.
///
/// # Errors
/// When a topic is missing or the queue does not answer.
pub async fn shards(
    document: &Document,
    registry: &Registry,
) -> Result<BTreeMap<String, Vec<Partition>>, LocalError> {
    let mut shards = BTreeMap::new();
    for (name, source) in &document.spec.sources {
        let factory = registry.find_connector(&source.connector).ok_or_else(|| {
            LocalError::Refused(format!("this binary has no connector `{}`", source.connector))
        })?;
        let shape = factory.check_source(&source.options).map_err(|errors| {
            let lines: Vec<_> = errors.iter().map(|e| format!("source `{name}`: {}", e.message)).collect();
            LocalError::Refused(lines.join("\n"))
        })?;
        let mut partitions = Vec::new();
        for topic in &shape.topics {
            let count = match (shape.partitions, factory.catalog(&source.options)) {
                (Some(count), _) => count,
                (None, Some(catalog)) => {
                    catalog.partitions(topic).await.map_err(|e| unasked(name, &e))?.ok_or_else(|| {
                        LocalError::Refused(format!(
                            "source `{name}`: topic `{topic}` does not exist; create it first"
                        ))
                    })?
                }
                (None, None) => 1,
            };
            let topic: Arc<str> = topic.as_str().into();
            partitions.extend((0..count as i32).map(|index| Partition::new(topic.clone(), index)));
        }
        shards.insert(name.clone(), partitions);
    }
    Ok(shards)
}
