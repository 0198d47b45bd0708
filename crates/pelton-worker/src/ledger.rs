//! What a worker knows across sessions: the highest term, the tasks it holds, and last words not yet delivered.

use crate::report;
use pelton_proto::v1;
use pelton_runtime::{StagePlan, TaskSnapshot};
use pelton_types::{Epoch, TaskId, Term};
use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

/// What is held of a task.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    epoch: Epoch,
    revision: u64,
}

/// See the module.
#[derive(Default)]
pub(crate) struct Ledger {
    pub(crate) term: Term,
    held: BTreeMap<TaskId, Held>,
    /// Highest epoch ever seen of each task here.
    epochs: HashMap<TaskId, Epoch>,
    /// Last words of tasks that ended, by task: said again after a lost session, until a grant answers them.
    last_words: BTreeMap<TaskId, v1::TaskStatus>,
    /// Plans by pipeline object and revision, or why they cannot be built.
    plans: HashMap<(String, u64), Result<Arc<StagePlan>, String>>,
}

/// Why a grant is not taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refused {
    /// From a coordinator that was replaced.
    OldTerm,
    /// A newer grant of the task was seen.
    OldEpoch,
}

impl Ledger {
    /// Take a grant into the books.
    pub(crate) fn grant(
        &mut self,
        term: Term,
        task: &TaskId,
        epoch: Epoch,
        revision: u64,
    ) -> Result<(), Refused> {
        if term < self.term {
            return Err(Refused::OldTerm);
        }
        if self.epochs.get(task).is_some_and(|known| *known >= epoch) {
            return Err(Refused::OldEpoch);
        }
        self.term = term;
        self.epochs.insert(task.clone(), epoch);
        self.last_words.remove(task);
        self.held.insert(task.clone(), Held { epoch, revision });
        Ok(())
    }

    /// What is held, for a hello.
    pub(crate) fn held(&self) -> Vec<v1::HeldTask> {
        self.held
            .iter()
            .map(|(task, held)| v1::HeldTask {
                task: Some(task.into()),
                epoch: held.epoch,
                revision: held.revision,
            })
            .collect()
    }

    /// Number of tasks held.
    pub(crate) fn len(&self) -> usize {
        self.held.len()
    }

    /// A task changed; the status to send.
    pub(crate) fn changed(&mut self, snapshot: &TaskSnapshot) -> v1::TaskStatus {
        let status = report::status(snapshot);
        if snapshot.state.is_final() {
            if self.held.get(&snapshot.task).is_some_and(|held| held.epoch == snapshot.epoch) {
                self.held.remove(&snapshot.task);
            }
            self.last_words.insert(snapshot.task.clone(), status.clone());
        }
        status
    }

    /// A task is asked back that is not here: say so, or repeat its last words when it failed.
    pub(crate) fn not_here(&mut self, task: &TaskId, epoch: Epoch) -> v1::TaskStatus {
        self.last_words.remove(task);
        report::released(task, epoch)
    }

    /// Last words to repeat on a new session. Failures and completions stay until they are answered.
    pub(crate) fn last_words(&self) -> impl Iterator<Item = &v1::TaskStatus> {
        self.last_words.values()
    }

    /// Tasks that stopped with an incident and were not answered yet.
    pub(crate) fn failures(&self) -> impl Iterator<Item = &v1::TaskStatus> {
        self.last_words.values().filter(|status| status.state == v1::TaskState::Failed as i32)
    }

    /// Last words that ended with the task are said once the session took them.
    pub(crate) fn delivered(&mut self) {
        let lasting = [v1::TaskState::Failed as i32, v1::TaskState::Completed as i32];
        self.last_words.retain(|_, status| lasting.contains(&status.state));
    }

    /// Keep a plan, or why it cannot be built.
    pub(crate) fn learn(&mut self, uuid: String, revision: u64, plan: Result<StagePlan, String>) {
        // Older revisions of a pipeline may still be wanted by a warm task; two are enough.
        self.plans.retain(|(known, old), _| *known != uuid || *old + 1 >= revision);
        self.plans.insert((uuid, revision), plan.map(Arc::new));
    }

    /// The plan of a revision.
    pub(crate) fn plan(&self, uuid: &str, revision: u64) -> Result<Arc<StagePlan>, String> {
        self.plans.get(&(uuid.to_owned(), revision)).cloned().unwrap_or_else(|| {
            Err(format!("the coordinator never sent revision {revision} of this pipeline"))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_runtime::{TaskState, executor::empty_snapshot};
    use pelton_types::PipelineName;

    fn task() -> TaskId {
        TaskId {
            pipeline: PipelineName::new("default", "p"),
            uuid: "u".into(),
            stage: 0,
            generation: 1,
            index: 0,
        }
    }

    #[test]
    fn a_lower_term_and_a_lower_or_equal_epoch_are_refused() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.grant(2, &task(), 5, 1), Ok(()));
        assert_eq!(ledger.grant(1, &task(), 6, 1), Err(Refused::OldTerm));
        assert_eq!(ledger.grant(2, &task(), 5, 1), Err(Refused::OldEpoch));
        assert_eq!(ledger.grant(3, &task(), 6, 1), Ok(()));
        assert_eq!(ledger.held()[0].epoch, 6);
    }

    #[test]
    fn last_words_are_kept_until_they_are_delivered_and_failures_until_they_are_answered() {
        let mut ledger = Ledger::default();
        ledger.grant(1, &task(), 1, 1).unwrap();
        let mut snapshot = empty_snapshot(&task(), 1, 1, TaskState::Failed, None);
        ledger.changed(&snapshot);
        ledger.delivered();
        assert_eq!((ledger.len(), ledger.last_words().count()), (0, 1));
        ledger.grant(1, &task(), 2, 1).unwrap();
        assert_eq!(ledger.last_words().count(), 0);
        snapshot.epoch = 2;
        snapshot.state = TaskState::Released;
        ledger.changed(&snapshot);
        assert_eq!(ledger.last_words().count(), 1);
        ledger.delivered();
        assert_eq!(ledger.last_words().count(), 0);
    }
}
