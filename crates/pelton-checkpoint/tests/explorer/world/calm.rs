//! What happens when nothing goes wrong any more.

use super::{Step, World};
use crate::broker::Outcome;
use crate::worker::Op;

impl World {
    /// The next step when nothing goes wrong: the newest grant is delivered or made, then each worker in turn does
    /// what it can. `turn` says whose turn it is.
    ///
    /// While the coordinators are `away` nothing is granted and asking is in vain; time then passes slowly: a wait
    /// ends only when nobody has anything else to do.
    pub fn calm_step(&self, turn: usize, away: bool) -> Option<Step> {
        if !away && let Some(step) = self.calm_coordinator_step(turn) {
            return Some(step);
        }
        let mut steps = Vec::new();
        for index in [turn % 2, (turn + 1) % 2] {
            self.worker_steps(index, &mut steps);
        }
        let expected = |step: &Step| match *step {
            Step::Execute(index, outcome) => {
                let asks =
                    self.workers[index].as_ref().is_some_and(|it| it.ops.front() == Some(&Op::Confirm));
                (outcome == Outcome::Done) != (asks && away)
            }
            Step::Revoke(_) | Step::Crash { .. } => false,
            Step::Timer(_) => !away,
            _ => true,
        };
        let open = (0..2).filter(|id| self.broker.open[*id].is_some());
        let orphaned = open.filter(|id| self.is_orphaned(*id)).map(Step::TransactionTimesOut).next();
        let timer = steps.iter().find(|step| matches!(step, Step::Timer(_)));
        let step = steps.iter().find(|step| expected(step)).or(timer).copied();
        step.or(orphaned)
    }

    /// Make sure that somebody holds the newest grant.
    fn calm_coordinator_step(&self, turn: usize) -> Option<Step> {
        let all = &self.coordinators;
        let retiring = all.leader().and_then(|index| Some((index, all.hand(index)?)));
        if let Some((index, hand)) = retiring {
            return self.may_go_on(hand).then_some(Step::Retire(index, Outcome::Done));
        }
        if self.workers.iter().flatten().any(|worker| worker.rank() == all.newest()) {
            return None;
        }
        if let Some(index) = self.grants.iter().rposition(|message| message.rank() == all.newest()) {
            return Some(Step::Deliver(index));
        }
        match all.leader() {
            Some(by) => Some(Step::Grant { by, to: turn % 2 }),
            None => Some(Step::Elect(usize::from(all.is_deposed(1)))),
        }
    }
}
