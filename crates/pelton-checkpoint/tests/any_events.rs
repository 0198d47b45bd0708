//! Whatever a machine is told, in whatever order, it keeps its form.

use pelton_checkpoint::{Action, Committed, Delivery, Event, Failure, Grant, Machine, Stamp};
use pelton_types::{Code, Incident, Offset, Partition, PipelineName, TaskId};
use proptest::prelude::*;

fn task() -> TaskId {
    let pipeline = PipelineName::new("default", "p");
    TaskId { pipeline, uuid: "u".into(), stage: 0, generation: 1, index: 0 }
}

fn incident(stops_task: bool) -> Incident {
    Incident { code: Code::SinkFailed, message: String::new(), remedy: String::new(), stops_task }
}

fn read(offset: Offset, epoch: u64) -> Event {
    let metadata = Stamp::of(&task(), epoch).ok().map(|stamp| stamp.encode());
    Event::ReadDone(vec![Committed {
        partition: Partition::new("t", 0),
        offset: Some(offset),
        start: offset,
        metadata,
    }])
}

fn event() -> impl Strategy<Value = Event> {
    let failure = prop_oneof![9 => Just(Failure::Retry), 1 => Just(Failure::Stop(incident(true)))];
    let failed = (0..5_usize, failure).prop_map(|(which, failure)| match which {
        0 => Event::InitFailed(failure),
        1 => Event::ReadFailed(failure),
        2 => Event::ClaimFailed(failure),
        3 => Event::FlushFailed(failure),
        _ => Event::CommitFailed(failure),
    });
    prop_oneof![
        12 => prop::sample::select(vec![
            Event::EpochConfirmed,
            Event::CoordinatorSilent,
            Event::InitDone,
            Event::ClaimDone { clean: true },
            Event::FlushDone,
            Event::CommitDue,
            Event::CommitDone { clean: true },
            Event::CommitDone { clean: false },
            Event::RetryDue,
        ]),
        3 => (0..9_i64).prop_map(|to| Event::CutDone { positions: vec![(Partition::new("t", 0), to)] }),
        3 => (0..9_i64, 1..3_u64).prop_map(|(offset, epoch)| read(offset, epoch)),
        2 => failed,
        1 => prop::sample::select(vec![
            Event::ClaimFenced,
            Event::CommitFenced,
            Event::Fenced,
            Event::WorkFailed(incident(false)),
            Event::Revoked,
            Event::SourceEnded,
        ]),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn any_events_in_any_order_leave_a_sane_machine(
        exactly_once in any::<bool>(),
        events in prop::collection::vec(event(), 0..120),
    ) {
        let delivery = if exactly_once { Delivery::ExactlyOnce } else { Delivery::AtLeastOnce };
        let partitions = vec![Partition::new("t", 0)];
        let grant = Grant { task: task(), epoch: 2, term: 1, virgin: false, partitions, heard: Vec::new() };
        let (mut machine, _) = Machine::new(grant, delivery);
        let mut running = false;
        for event in events {
            let was_final = machine.phase().is_final();
            let before = machine.committed().to_vec();
            let actions = machine.on(event.clone());
            prop_assert!(!was_final || actions.is_empty(), "{event:?} after the end: {actions:?}");
            let waits = actions.iter().filter(|action| matches!(action, Action::RetryAfter(_))).count();
            prop_assert!(waits <= 1, "{actions:?}");
            for action in &actions {
                match action {
                    Action::StartWork { .. } | Action::Rewind { .. } => running = true,
                    Action::ResumeWork => {
                        prop_assert!(!running, "{event:?}: resumed while running");
                        running = true;
                    }
                    Action::Cut => {
                        prop_assert!(running, "{event:?}: cut while nothing runs");
                        running = false;
                    }
                    Action::UndoUncommitted => running = false,
                    Action::Commit { positions, .. } => {
                        prop_assert!(*positions >= before, "{positions:?} commits behind {before:?}");
                    }
                    Action::InitProducer { .. } | Action::DiscardProducer => prop_assert!(exactly_once),
                    _ => {}
                }
            }
        }
    }
}
