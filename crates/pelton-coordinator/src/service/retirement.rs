//! Carries a retirement out: init, read, claim through the old task's own transactional id.

use super::hand::{Hand, Trouble, close};
use crate::core::Retiring;
use pelton_checkpoint::{Retirement, retirement, went_back};
use pelton_sabotage::{
    Defect, breaks,
    points::{self, Point},
};
use pelton_sdk::Registry;
use pelton_types::{Code, Incident, TaskId};

/// Commits whose requests did not all get their answers, before the coordinator comes back to it later.
const ATTEMPTS: u32 = 3;

/// Retire a task. Waits; for threads that may.
///
/// # Errors
/// The incident to report; to be tried again.
pub(super) fn retire(registry: &Registry, wish: &Retiring) -> Result<(), Incident> {
    let incident = |why: Trouble| incident(why.code, &wish.task, &why.text);
    let mut hand = Hand::new(registry, &wish.task, &wish.definition, &wish.sources).map_err(incident)?;
    for _ in 0..ATTEMPTS {
        if claim(&mut hand, wish)? {
            return Ok(());
        }
    }
    Err(failed(&wish.task, &format!("requests of {ATTEMPTS} commits in a row are left without an answer")))
}

/// Claim the offsets of the old task, once. Whether that is certain: a request without an answer may be on its way yet and
/// would set the offsets back, under a generation whose producers fence nothing of this one. The init of the next attempt
/// makes the broker refuse it.
fn claim(hand: &mut Hand, wish: &Retiring) -> Result<bool, Incident> {
    let incident = |why: Trouble| incident(why.code, &wish.task, &why.text);
    let mut producer = hand.producer().map_err(incident)?;
    let seen = hand.read().map_err(incident)?;
    points::reach(Point::Retiring);
    let certain = match retirement(&wish.task, wish.next, &seen) {
        Retirement::Done => Ok(true),
        Retirement::Claim { .. } if breaks(Defect::NoRetirementClaim) => Ok(true),
        Retirement::Refused(refused) => Err(refused),
        Retirement::Claim { .. } if let Some(refused) = went_back(&wish.heard, &seen) => Err(refused),
        Retirement::Claim { positions, stamp } => {
            hand.commit_with(&mut *producer, &positions, &stamp.to_string()).map_err(incident)
        }
    };
    points::reach(Point::Retired);
    close(producer).map_err(incident)?;
    certain
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
