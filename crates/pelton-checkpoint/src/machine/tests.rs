use super::*;
use crate::Committed;
use pelton_types::{Offset, Partition, PipelineName, TaskId};
use std::time::Duration;

fn task() -> TaskId {
    TaskId {
        pipeline: PipelineName::new("default", "digits"),
        uuid: "0d9c-1".into(),
        stage: 0,
        generation: 1,
        index: 0,
    }
}

fn grant(epoch: u64, virgin: bool) -> Grant {
    let partitions = vec![Partition::new("digits", 1), Partition::new("digits", 0)];
    Grant { task: task(), epoch, term: 1, virgin, partitions, heard: Vec::new() }
}

fn at(zero: Offset, one: Offset) -> Positions {
    vec![(Partition::new("digits", 0), zero), (Partition::new("digits", 1), one)]
}

fn stamp(epoch: u64) -> Stamp {
    Stamp::of(&task(), epoch).unwrap()
}

/// What a read finds: positions committed by a grant, or nothing at all.
fn read(positions: &Positions, epoch: Option<u64>) -> Event {
    let entry = |(partition, offset): &(Partition, Offset)| Committed {
        partition: partition.clone(),
        offset: epoch.map(|_| *offset),
        start: *offset,
        metadata: epoch.map(|epoch| stamp(epoch).encode()),
    };
    Event::ReadDone(positions.iter().map(entry).collect())
}

fn incident(stops_task: bool) -> Incident {
    Incident { code: Code::PoisonRecord, message: "record 7".into(), remedy: String::new(), stops_task }
}

/// A machine at work from (0, 0), claimed with epoch 2.
fn working(delivery: Delivery) -> Machine {
    let (mut machine, first) = Machine::new(grant(2, false), delivery);
    assert_eq!(first, [Action::ConfirmEpoch]);
    let mut next = machine.on(Event::EpochConfirmed);
    if delivery == Delivery::ExactlyOnce {
        assert_eq!(next, [Action::InitProducer { throw_away: true }]);
        next = machine.on(Event::InitDone);
    }
    assert_eq!(next, [Action::ReadCommitted]);
    let next = machine.on(read(&at(0, 0), Some(1)));
    assert_eq!(next, [Action::Claim { positions: at(0, 0), stamp: stamp(2) }]);
    let next = machine.on(Event::ClaimDone { clean: true });
    assert_eq!(next, [Action::StartWork { positions: at(0, 0) }]);
    machine
}

/// The same, with the commit of (5, 3) asked for.
fn committing(delivery: Delivery) -> Machine {
    let mut machine = working(delivery);
    assert_eq!(machine.on(Event::CommitDue), [Action::Cut]);
    let next = machine.on(Event::CutDone { positions: at(5, 3) });
    assert_eq!(next[0], Action::Flush);
    assert_eq!(next.contains(&Action::ResumeWork), delivery == Delivery::AtLeastOnce);
    let next = machine.on(Event::FlushDone);
    assert_eq!(next, [Action::Commit { positions: at(5, 3), stamp: stamp(2) }]);
    machine
}

/// The wait of the only `RetryAfter` among the actions.
fn wait(actions: &[Action]) -> Duration {
    let waits: Vec<_> = actions
        .iter()
        .filter_map(|action| if let Action::RetryAfter(wait) = action { Some(*wait) } else { None })
        .collect();
    assert_eq!(waits.len(), 1, "{actions:?}");
    waits[0]
}

mod at_least_once {
    use super::*;

    #[test]
    fn a_fresh_task_pins_its_start_offsets_with_a_claim() {
        let (mut machine, _) = Machine::new(grant(1, true), Delivery::AtLeastOnce);
        assert_eq!(machine.on(Event::CoordinatorSilent), [Action::ReadCommitted]);
        let next = machine.on(read(&at(40, 50), None));
        assert_eq!(next, [Action::Claim { positions: at(40, 50), stamp: stamp(1) }]);
        assert_eq!(
            machine.on(Event::ClaimDone { clean: true }),
            [Action::StartWork { positions: at(40, 50) }]
        );
    }

    #[test]
    fn a_commit_that_fails_is_repeated_as_it_was_and_work_goes_on() {
        let mut machine = committing(Delivery::AtLeastOnce);
        let first = wait(&machine.on(Event::CommitFailed(Failure::Retry)));
        assert_eq!(machine.on(Event::CommitDue), [], "no newer commit may overtake it");
        let again = [Action::Commit { positions: at(5, 3), stamp: stamp(2) }];
        assert_eq!(machine.on(Event::RetryDue), again);
        let second = wait(&machine.on(Event::CommitFailed(Failure::Retry)));
        assert!(second > first, "{second:?} after {first:?}");
        assert_eq!(machine.on(Event::RetryDue), again);
        assert_eq!(
            machine.on(Event::CommitDone { clean: true }),
            [Action::Cut],
            "the one that was due meanwhile"
        );
        assert_eq!(machine.committed(), at(5, 3));
    }

    #[test]
    fn a_flush_that_fails_takes_the_task_back_to_what_is_committed() {
        let mut machine = working(Delivery::AtLeastOnce);
        machine.on(Event::CommitDue);
        machine.on(Event::CutDone { positions: at(5, 3) });
        let next = machine.on(Event::FlushFailed(Failure::Retry));
        assert_eq!(next[0], Action::UndoUncommitted);
        wait(&next);
        assert_eq!(machine.on(Event::RetryDue), [Action::Rewind { positions: at(0, 0) }]);
    }

    #[test]
    fn work_that_fails_during_a_commit_starts_again_after_it() {
        let mut machine = committing(Delivery::AtLeastOnce);
        assert_eq!(machine.on(Event::WorkFailed(incident(false))), [Action::UndoUncommitted]);
        assert_eq!(machine.on(Event::CommitDone { clean: true }), [Action::Rewind { positions: at(5, 3) }]);
    }

    #[test]
    fn a_revoked_task_is_committed_and_released_where_it_stands() {
        let mut machine = committing(Delivery::AtLeastOnce);
        assert_eq!(machine.on(Event::Revoked), []);
        assert_eq!(machine.on(Event::CommitDone { clean: true }), [Action::Cut], "it worked on meanwhile");
        let next = machine.on(Event::CutDone { positions: at(8, 3) });
        assert_eq!(next, [Action::Flush], "and reads no further");
        machine.on(Event::FlushDone);
        assert_eq!(machine.on(Event::CommitDone { clean: true }), [Action::Release { positions: at(8, 3) }]);
        assert_eq!(machine.phase(), Phase::Released);
    }

    #[test]
    fn a_task_that_cannot_finish_in_time_is_released_at_what_is_committed() {
        let mut machine = committing(Delivery::AtLeastOnce);
        machine.on(Event::Drain);
        machine.on(Event::CommitFailed(Failure::Retry));
        assert_eq!(machine.on(Event::DeadlinePassed), [Action::Release { positions: at(0, 0) }]);
    }

    #[test]
    fn sources_that_end_are_committed_a_last_time() {
        let mut machine = committing(Delivery::AtLeastOnce);
        assert_eq!(machine.on(Event::SourceEnded), []);
        assert_eq!(machine.on(Event::CommitDone { clean: true }), [Action::Cut]);
        machine.on(Event::CutDone { positions: at(9, 9) });
        machine.on(Event::FlushDone);
        assert_eq!(machine.on(Event::CommitDone { clean: true }), [Action::Completed]);
    }

    #[test]
    fn sources_end_once_more_when_the_last_flush_failed() {
        let mut machine = working(Delivery::AtLeastOnce);
        assert_eq!(machine.on(Event::SourceEnded), [Action::Cut]);
        machine.on(Event::CutDone { positions: at(9, 9) });
        machine.on(Event::FlushFailed(Failure::Retry));
        assert_eq!(machine.on(Event::RetryDue), [Action::Rewind { positions: at(0, 0) }]);
        assert_eq!(machine.phase(), Phase::Working);
        assert_eq!(machine.on(Event::SourceEnded), [Action::Cut]);
    }

    #[test]
    fn a_claim_that_fails_is_followed_by_another_look() {
        let (mut machine, _) = Machine::new(grant(2, false), Delivery::AtLeastOnce);
        machine.on(Event::EpochConfirmed);
        machine.on(read(&at(0, 0), Some(1)));
        wait(&machine.on(Event::ClaimFailed(Failure::Retry)));
        assert_eq!(machine.on(Event::RetryDue), [Action::ReadCommitted]);
        let next = machine.on(read(&at(0, 0), Some(3)));
        assert_eq!(next, [Action::StepDown { reason: StepDownReason::NewerEpoch }]);
    }
}

mod exactly_once {
    use super::*;

    #[test]
    fn offsets_below_those_that_were_heard_of_are_not_believed_and_looked_at_again() {
        for (found, believed) in [(at(5, 3), true), (at(9, 3), true), (at(4, 3), false), (at(9, 2), false)] {
            let told = Grant { heard: at(5, 3), ..grant(2, false) };
            let (mut machine, _) = Machine::new(told, Delivery::ExactlyOnce);
            machine.on(Event::EpochConfirmed);
            machine.on(Event::InitDone);
            let next = machine.on(read(&found, Some(1)));
            if believed {
                assert_eq!(next, [Action::Claim { positions: found, stamp: stamp(2) }]);
                continue;
            }
            let [Action::Stop { incident, .. }] = next.as_slice() else { panic!("{found:?}: {next:?}") };
            assert_eq!((incident.code, incident.stops_task), (Code::OffsetsWentBack, false));
        }
    }

    #[test]
    fn a_virgin_task_has_no_predecessor_to_fence_off() {
        let (mut machine, _) = Machine::new(grant(1, true), Delivery::ExactlyOnce);
        assert_eq!(machine.on(Event::EpochConfirmed), [Action::InitProducer { throw_away: false }]);
    }

    #[test]
    fn work_waits_for_the_commit_and_goes_on_after_a_clean_one() {
        let mut machine = committing(Delivery::ExactlyOnce);
        assert_eq!(machine.on(Event::CommitDone { clean: true }), [Action::ResumeWork]);
    }

    #[test]
    fn a_commit_that_was_not_clean_costs_the_producer_but_no_work() {
        let mut machine = committing(Delivery::ExactlyOnce);
        assert_eq!(
            machine.on(Event::CommitDone { clean: false }),
            [Action::DiscardProducer, Action::InitProducer { throw_away: false }]
        );
        assert_eq!(machine.on(Event::InitDone), [Action::ReadCommitted]);
        assert_eq!(machine.on(read(&at(5, 3), Some(2))), [Action::ResumeWork]);
    }

    #[test]
    fn a_commit_in_doubt_is_settled_by_what_is_committed() {
        for (found, expected) in
            [(at(5, 3), Action::ResumeWork), (at(0, 0), Action::Rewind { positions: at(0, 0) })]
        {
            let mut machine = committing(Delivery::ExactlyOnce);
            let next = machine.on(Event::CommitFailed(Failure::Retry));
            assert_eq!(next[0], Action::DiscardProducer);
            wait(&next);
            assert_eq!(machine.on(Event::RetryDue), [Action::InitProducer { throw_away: true }]);
            machine.on(Event::InitDone);
            assert_eq!(machine.on(read(&found, Some(2))), [expected]);
            assert_eq!(machine.committed(), found);
        }
    }

    #[test]
    fn a_fenced_owner_asks_and_looks_before_it_goes_on() {
        let mut machine = committing(Delivery::ExactlyOnce);
        assert_eq!(machine.on(Event::CommitFenced), [Action::DiscardProducer, Action::ConfirmEpoch]);
        assert!(wait(&machine.on(Event::CoordinatorSilent)) >= Duration::from_secs(1));
        assert_eq!(machine.on(Event::RetryDue), [Action::ReadCommitted], "no init: it would fence a rival");
        let next = machine.on(read(&at(0, 0), Some(3)));
        assert_eq!(next, [Action::StepDown { reason: StepDownReason::NewerEpoch }]);
    }

    #[test]
    fn a_fenced_owner_without_a_rival_initialises_and_settles_its_doubt() {
        for answer in [read(&at(0, 0), Some(2)), Event::ReadFailed(Failure::Retry)] {
            let mut machine = committing(Delivery::ExactlyOnce);
            machine.on(Event::CommitFenced);
            machine.on(Event::CoordinatorSilent);
            machine.on(Event::RetryDue);
            let next = machine.on(answer);
            let next = if next == [Action::InitProducer { throw_away: true }] {
                next
            } else {
                wait(&next);
                machine.on(Event::RetryDue)
            };
            assert_eq!(next, [Action::InitProducer { throw_away: true }]);
            assert_eq!(machine.on(Event::InitDone), [Action::ReadCommitted]);
            assert_eq!(machine.on(read(&at(5, 3), Some(2))), [Action::ResumeWork]);
        }
    }

    #[test]
    fn a_fenced_task_that_is_asked_back_looks_where_it_stands_and_fences_nobody() {
        for (found, expected) in [
            (Some(2), Action::Release { positions: at(5, 3) }),
            (Some(3), Action::StepDown { reason: StepDownReason::NewerEpoch }),
        ] {
            let mut machine = committing(Delivery::ExactlyOnce);
            machine.on(Event::CommitFenced);
            machine.on(Event::CoordinatorSilent);
            assert_eq!(machine.on(Event::Revoked), [Action::ReadCommitted]);
            assert_eq!(machine.on(Event::Drain), []);
            assert_eq!(machine.on(read(&at(5, 3), found)), [expected]);
        }
    }

    #[test]
    fn a_fenced_task_that_is_asked_back_while_it_waits_for_an_init_looks_once_more_instead() {
        let mut machine = committing(Delivery::ExactlyOnce);
        machine.on(Event::CommitFenced);
        machine.on(Event::CoordinatorSilent);
        machine.on(Event::RetryDue);
        wait(&machine.on(Event::ReadFailed(Failure::Retry)));
        assert_eq!(machine.on(Event::Revoked), [Action::ReadCommitted]);
        assert_eq!(machine.on(Event::RetryDue), [], "the init is off");
        let released = Action::Release { positions: at(0, 0) };
        assert_eq!(machine.on(Event::ReadFailed(Failure::Retry)), [released]);
    }

    #[test]
    fn an_owner_fenced_at_work_undoes_what_is_not_committed() {
        let mut machine = working(Delivery::ExactlyOnce);
        let next = machine.on(Event::Fenced);
        assert_eq!(next, [Action::UndoUncommitted, Action::DiscardProducer, Action::ConfirmEpoch]);
        machine.on(Event::EpochConfirmed);
        machine.on(Event::InitDone);
        assert_eq!(machine.on(read(&at(0, 0), Some(2))), [Action::Rewind { positions: at(0, 0) }]);
    }

    #[test]
    fn a_fenced_claim_is_no_failure() {
        let (mut machine, _) = Machine::new(grant(2, false), Delivery::ExactlyOnce);
        machine.on(Event::EpochConfirmed);
        machine.on(Event::InitDone);
        machine.on(read(&at(0, 0), Some(1)));
        let next = machine.on(Event::ClaimFenced);
        assert_eq!(next[0], Action::DiscardProducer);
        assert!(wait(&next) <= Duration::from_millis(50));
        assert_eq!(machine.on(Event::RetryDue), [Action::ConfirmEpoch]);
        assert_eq!(machine.on(Event::CoordinatorSilent), [Action::InitProducer { throw_away: true }]);
    }

    #[test]
    fn two_owners_of_one_epoch_do_not_both_go_on() {
        let mut machine = committing(Delivery::ExactlyOnce);
        machine.on(Event::CommitFenced);
        machine.on(Event::EpochConfirmed);
        machine.on(Event::InitDone);
        let next = machine.on(read(&at(7, 7), Some(2)));
        assert_eq!(next, [Action::StepDown { reason: StepDownReason::SharedEpoch }]);
    }

    #[test]
    fn a_durable_claim_that_vanished_stops_the_task() {
        let mut machine = committing(Delivery::ExactlyOnce);
        machine.on(Event::CommitDone { clean: false });
        machine.on(Event::InitDone);
        let next = machine.on(read(&at(5, 3), Some(1)));
        assert!(
            matches!(&next[..], [Action::Stop { incident }] if incident.code == Code::ForeignOffsets),
            "{next:?}"
        );
    }

    #[test]
    fn a_revoked_task_settles_its_doubt_before_it_says_where_it_stands() {
        let mut machine = committing(Delivery::ExactlyOnce);
        machine.on(Event::CommitFailed(Failure::Retry));
        assert_eq!(machine.on(Event::Revoked), []);
        machine.on(Event::RetryDue);
        machine.on(Event::InitDone);
        assert_eq!(machine.on(read(&at(5, 3), Some(2))), [Action::Release { positions: at(5, 3) }]);
    }
}

#[test]
fn an_incident_that_stops_the_task_stops_it_in_every_phase() {
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        for mut machine in [working(delivery), committing(delivery)] {
            let next = machine.on(Event::WorkFailed(incident(true)));
            assert_eq!(next, [Action::Stop { incident: incident(true) }]);
            assert_eq!(machine.on(Event::CommitDone { clean: true }), [], "nothing follows");
        }
    }
}

#[test]
fn work_that_may_succeed_later_starts_again_from_what_is_committed() {
    let mut machine = working(Delivery::AtLeastOnce);
    let next = machine.on(Event::WorkFailed(incident(false)));
    assert_eq!(next[0], Action::UndoUncommitted);
    assert_eq!(machine.on(Event::RetryDue), [Action::Rewind { positions: at(0, 0) }]);
    let mut machine = working(Delivery::ExactlyOnce);
    let next = machine.on(Event::WorkFailed(incident(false)));
    assert_eq!(next[..2], [Action::UndoUncommitted, Action::DiscardProducer]);
    assert_eq!(machine.on(Event::RetryDue), [Action::InitProducer { throw_away: true }]);
}

#[test]
fn a_cut_behind_what_is_committed_is_refused() {
    let mut machine = committing(Delivery::AtLeastOnce);
    machine.on(Event::CommitDone { clean: true });
    machine.on(Event::CommitDue);
    let next = machine.on(Event::CutDone { positions: at(4, 3) });
    assert!(
        matches!(&next[..], [Action::Stop { incident }] if incident.message.contains("commit 4")),
        "{next:?}"
    );
}

#[test]
fn a_task_that_is_asked_back_before_its_claim_is_released_at_once() {
    let (mut machine, _) = Machine::new(grant(1, true), Delivery::ExactlyOnce);
    machine.on(Event::EpochConfirmed);
    assert_eq!(machine.on(Event::Revoked), [Action::Release { positions: vec![] }]);
}

#[test]
fn a_uuid_that_no_metadata_can_carry_stops_before_anything_is_read() {
    let mut grant = grant(1, true);
    grant.task.uuid = "a;b".into();
    let (machine, first) = Machine::new(grant, Delivery::AtLeastOnce);
    assert!(
        matches!(&first[..], [Action::Stop { incident }] if incident.code == Code::BadPipeline),
        "{first:?}"
    );
    assert!(machine.phase().is_final());
}
