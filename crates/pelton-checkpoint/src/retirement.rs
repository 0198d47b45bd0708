//! Closing a task of an older generation for good (P8).
//!
//! Before the tasks of a new generation are granted, each old task that was ever granted is initialised once more and,
//! through its own transactional id, its partitions are claimed for the new generation. A holder that was asleep all the
//! while is fenced, initialises, reads that claim, and steps down. Without it that holder would find its own stamp and
//! commit beside the new tasks.

use crate::{
    Committed, Delivery, Positions, Stamp,
    verdict::{foreign, stamp_of},
};
use pelton_types::{Code, Generation, Incident, TaskId};

/// What to do about an old task, after its producer was initialised and its offsets were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Retirement {
    /// Commit this in a transaction of the old task's producer. When that was not clean (P7), initialise and judge once
    /// more before anything newer is granted: no later init of this id would fence a request that is still on its way,
    /// and it could take the offsets back.
    Claim {
        /// Where it stood.
        positions: Positions,
        /// Names the new generation, and no epoch.
        stamp: Stamp,
    },
    /// It was retired before.
    Done,
    /// Its offsets cannot be trusted.
    Refused(Incident),
}

/// Judge what is committed for all partitions of an old task, `next` being the generation that follows.
pub fn retirement(task: &TaskId, next: Generation, seen: &[Committed]) -> Retirement {
    let own = match Stamp::of(task, 0) {
        Ok(own) => Stamp { generation: next, ..own },
        Err(error) => return Retirement::Refused(foreign(format!("task {task}: its uuid: {error}"))),
    };
    let mut stamps = Vec::with_capacity(seen.len());
    for entry in seen {
        match stamp_of(&own, Delivery::ExactlyOnce, entry) {
            Ok(stamp) => stamps.extend(stamp.map(|stamp| (entry, stamp))),
            Err(incident) => return Retirement::Refused(incident),
        }
    }
    let is_retired = |stamp: &Stamp| stamp.generation == next && stamp.epoch == 0;
    if !stamps.is_empty() && stamps.len() == seen.len() && stamps.iter().all(|(_, s)| is_retired(s)) {
        return Retirement::Done;
    }
    if let Some((entry, stamp)) = stamps.iter().find(|(_, s)| s.generation >= next && !is_retired(s)) {
        return Retirement::Refused(Incident {
            code: Code::OldGeneration,
            message: format!(
                "{}: generation {} is at work already, and generation {} of task {task} was to be retired for {next}",
                entry.partition, stamp.generation, task.generation
            ),
            remedy: "nothing was written; the coordinator's store is older than the offsets: restore it"
                .into(),
            stops_task: true,
        });
    }
    let mut positions: Positions = seen.iter().map(|entry| (entry.partition.clone(), entry.start)).collect();
    positions.sort();
    let state = stamps.into_iter().map(|(_, s)| s).max_by_key(|s| (s.generation, s.epoch)).map(|s| s.state);
    Retirement::Claim { positions, stamp: Stamp { state: state.unwrap_or_default(), ..own } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_types::{Partition, PipelineName};

    fn task(generation: Generation) -> TaskId {
        let pipeline = PipelineName::new("default", "orders");
        TaskId { pipeline, uuid: "u".into(), stage: 0, generation, index: 0 }
    }

    fn committed(partition: i32, at: i64, stamp: Option<(Generation, u64)>) -> Committed {
        let metadata = stamp.map(|(generation, epoch)| Stamp::of(&task(generation), epoch).unwrap().encode());
        let offset = stamp.map(|_| at);
        Committed { partition: Partition::new("in", partition), offset, start: at, metadata }
    }

    fn claimed(seen: &[Committed]) -> (Positions, Stamp) {
        match retirement(&task(1), 2, seen) {
            Retirement::Claim { positions, stamp } => (positions, stamp),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn offsets_stay_and_name_the_next_generation_and_no_epoch() {
        let (positions, stamp) = claimed(&[committed(1, 7, Some((1, 3))), committed(0, 5, Some((1, 3)))]);
        assert_eq!(positions, [(Partition::new("in", 0), 5), (Partition::new("in", 1), 7)]);
        assert_eq!((stamp.generation, stamp.epoch), (2, 0));
    }

    #[test]
    fn a_task_that_was_granted_and_never_claimed_is_pinned_to_where_it_would_have_started() {
        let (positions, stamp) = claimed(&[committed(0, 4, None)]);
        assert_eq!((positions[0].1, stamp.generation, stamp.epoch), (4, 2, 0));
    }

    #[test]
    fn a_second_hand_finds_it_done_and_does_it_for_whom_the_first_did_not() {
        let done = [committed(0, 5, Some((2, 0))), committed(1, 7, Some((2, 0)))];
        assert_eq!(retirement(&task(1), 2, &done), Retirement::Done);
        let half = [committed(0, 5, Some((2, 0))), committed(1, 7, Some((1, 3)))];
        claimed(&half);
    }

    #[test]
    fn a_generation_that_works_already_is_not_overwritten() {
        for at_work in [(2, 1), (3, 0)] {
            let refused = retirement(&task(1), 2, &[committed(0, 5, Some(at_work))]);
            assert!(
                matches!(&refused, Retirement::Refused(i) if i.code == Code::OldGeneration),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn what_somebody_else_committed_is_refused() {
        let mut other = committed(0, 5, Some((1, 1)));
        for text in ["checkpoint 7", "p1;u=x;g=1;e=1;b=;d=;h=;c=00000000"] {
            other.metadata = Some(text.into());
            let refused = retirement(&task(1), 2, std::slice::from_ref(&other));
            assert!(
                matches!(&refused, Retirement::Refused(i) if i.code == Code::ForeignOffsets),
                "{refused:?}"
            );
        }
        let stranger = TaskId { uuid: "other".into(), ..task(1) };
        other.metadata = Some(Stamp::of(&stranger, 1).unwrap().encode());
        assert!(matches!(retirement(&task(1), 2, &[other]), Retirement::Refused(_)));
    }
}
