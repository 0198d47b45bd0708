//! Which tasks changed their worker of late, for people: kept in memory only.

use super::{Core, Leg, Now, WorkerId};
use pelton_proto::v1;
use pelton_types::TaskId;

/// Moves kept: a rolling restart of a worker with some dozens of tasks, told whole.
const KEPT: usize = 100;

impl Core {
    /// A task was granted to a worker: if another one had it before, it moved.
    pub(super) fn note_move(&mut self, id: &TaskId, to: &WorkerId, now: Now) {
        let Some(task) = self.tasks.get_mut(id) else { return };
        let Some((from, left)) = task.left.take().filter(|(from, _)| from != to) else { return };
        let asked = self.moving.as_ref().filter(|m| m.task == *id && m.to == *to);
        let draining = self.workers.get(&from).is_some_and(|w| w.lost.is_none() && w.closing());
        let reason = match asked {
            _ if draining => "worker drained",
            Some(moving) => moving.reason,
            None => left,
        };
        let epoch = task.record.epoch;
        self.moves.truncate(KEPT - 1);
        self.moves.push_front(v1::Move {
            task: Some(id.into()),
            from,
            to: to.clone(),
            epoch,
            at_ms: now.wall_ms,
            reason: reason.to_owned(),
        });
    }

    /// The move in progress, then those of late, newest first.
    pub(super) fn moves(&self, now: Now) -> Vec<v1::Move> {
        let on_its_way = self.moving.as_ref().filter(|m| m.leg != Leg::Arriving).map(|m| {
            let holder = self.tasks.get(&m.task).and_then(|t| t.hold.holder().cloned());
            let waited = i64::try_from(now.at.saturating_sub(m.since).as_millis()).unwrap_or(0);
            v1::Move {
                task: Some((&m.task).into()),
                from: holder.unwrap_or_default(),
                to: m.to.clone(),
                epoch: 0,
                at_ms: now.wall_ms - waited,
                reason: m.reason.to_owned(),
            }
        });
        on_its_way.into_iter().chain(self.moves.iter().cloned()).collect()
    }
}
