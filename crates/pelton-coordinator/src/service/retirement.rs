//! Carries a retirement out: init, read, claim through the old task's own transactional id.

use super::hand::{Hand, Trouble, close};
use crate::core::Retiring;
use pelton_checkpoint::{Retirement, retirement};
use pelton_sabotage::{
    Defect, breaks,
    points::{self, Point},
};
use pelton_sdk::Registry;
use pelton_types::{Code, Incident, TaskId};

/// Retire a task. Waits; for threads that may.
///
/// # Errors
/// The incident to report; to be tried again.
pub(super) fn retire(registry: &Registry, wish: &Retiring) -> Result<(), Incident> {
    let incident = |why: Trouble| incident(why.code, &wish.task, &why.text);
    let mut hand = Hand::new(registry, &wish.task, &wish.definition, &wish.sources).map_err(incident)?;
    let mut producer = hand.producer().map_err(incident)?;
    let seen = hand.read().map_err(incident)?;
    points::reach(Point::Retiring);
    let outcome = match retirement(&wish.task, wish.next, &seen) {
        Retirement::Done => Ok(()),
        Retirement::Claim { .. } if breaks(Defect::NoRetirementClaim) => Ok(()),
        Retirement::Refused(incident) => Err(incident),
        Retirement::Claim { positions, stamp } => {
            hand.commit_with(&mut *producer, &positions, &stamp.to_string()).map_err(incident)
        }
    };
    points::reach(Point::Retired);
    close(producer).map_err(incident)?;
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
