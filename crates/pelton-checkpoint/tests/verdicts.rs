//! What committed metadata means for the holder of a grant.

use pelton_checkpoint::Delivery::{AtLeastOnce, ExactlyOnce};
use pelton_checkpoint::{Committed, Delivery, Stamp, StatePointer, StepDownReason, Token, Verdict, verdict};
use pelton_types::{Code, Partition};

fn stamp(generation: u32, epoch: u64) -> Stamp {
    Stamp { uuid: Token::new("mine").expect("a token"), generation, epoch, state: StatePointer::default() }
}

fn holding(delta: &str, stamp: Stamp) -> Stamp {
    Stamp {
        state: StatePointer { delta: Token::new(delta).expect("a token"), ..StatePointer::default() },
        ..stamp
    }
}

/// Partition `index` committed at 10 with this text; `None`: nothing committed, to be read from 4.
fn seen(index: i32, text: Option<String>) -> Committed {
    let partition = Partition::new("t", index);
    match text {
        Some(text) => Committed { partition, offset: Some(10), start: 10, metadata: Some(text) },
        None => Committed { partition, offset: None, start: 4, metadata: None },
    }
}

fn judge(delivery: Delivery, virgin: bool, texts: &[Option<String>]) -> Verdict {
    let entries: Vec<_> = texts.iter().zip(0..).map(|(text, index)| seen(index, text.clone())).collect();
    verdict(&stamp(2, 5), delivery, virgin, &entries)
}

fn ours(stamp: Stamp) -> Option<String> {
    Some(stamp.encode())
}

fn stops_with(verdict: &Verdict) -> Option<Code> {
    if let Verdict::Stop(incident) = verdict { Some(incident.code) } else { None }
}

#[test]
fn offsets_of_an_earlier_grant_are_taken_over() {
    for delivery in [AtLeastOnce, ExactlyOnce] {
        let verdict = judge(delivery, false, &[ours(stamp(2, 4)), ours(stamp(2, 4))]);
        let positions = vec![(Partition::new("t", 0), 10), (Partition::new("t", 1), 10)];
        assert_eq!(verdict, Verdict::Go { positions, newest: Some(stamp(2, 4)) });
    }
}

#[test]
fn a_newer_owner_is_left_alone_whatever_else_is_wrong() {
    for delivery in [AtLeastOnce, ExactlyOnce] {
        for rest in [None, Some("garbage".into()), ours(stamp(2, 4))] {
            assert_eq!(
                judge(delivery, false, &[rest.clone(), ours(stamp(2, 6))]),
                Verdict::StepDown(StepDownReason::NewerEpoch)
            );
            assert_eq!(
                judge(delivery, false, &[rest, ours(stamp(3, 0))]),
                Verdict::StepDown(StepDownReason::NewerGeneration)
            );
        }
    }
}

#[test]
fn a_lower_generation_with_a_higher_epoch_is_no_newer_owner() {
    let texts = [ours(stamp(1, 9))];
    assert_eq!(stops_with(&judge(ExactlyOnce, false, &texts)), Some(Code::OldGeneration));
    assert!(matches!(judge(AtLeastOnce, false, &texts), Verdict::Go { .. }));
}

#[test]
fn texts_of_others_stop_both_deliveries() {
    let mut broken = stamp(2, 5).encode();
    broken.pop();
    for text in [broken, "a lag tool was here".into()] {
        for delivery in [AtLeastOnce, ExactlyOnce] {
            for virgin in [true, false] {
                let verdict = judge(delivery, virgin, &[ours(stamp(2, 5)), Some(text.clone())]);
                assert_eq!(stops_with(&verdict), Some(Code::ForeignOffsets), "{text}");
            }
        }
    }
}

#[test]
fn an_earlier_pipeline_object_of_this_name_stops_exactly_once_and_is_taken_up_by_at_least_once() {
    let other = Stamp { uuid: Token::new("theirs").unwrap(), ..stamp(2, 9) };
    let texts = [ours(stamp(2, 5)), Some(other.encode())];
    assert_eq!(stops_with(&judge(ExactlyOnce, false, &texts)), Some(Code::ForeignOffsets));
    assert!(matches!(judge(AtLeastOnce, false, &texts), Verdict::Go { .. }));
}

#[test]
fn missing_metadata_is_fine_for_a_virgin_task_and_at_least_once() {
    for missing in [None, Some(String::new())] {
        let texts = [missing.clone(), missing];
        assert_eq!(stops_with(&judge(ExactlyOnce, false, &texts)), Some(Code::ForeignOffsets));
        assert!(matches!(judge(ExactlyOnce, true, &texts), Verdict::Go { newest: None, .. }));
        assert!(matches!(judge(AtLeastOnce, false, &texts), Verdict::Go { newest: None, .. }));
    }
}

#[test]
fn the_start_is_the_committed_offset_or_what_the_source_says() {
    let Verdict::Go { positions, .. } = judge(AtLeastOnce, true, &[ours(stamp(2, 1)), None]) else {
        panic!()
    };
    assert_eq!(positions, [(Partition::new("t", 0), 10), (Partition::new("t", 1), 4)]);
}

#[test]
fn stamps_that_differ_between_partitions_stop_exactly_once() {
    for (a, b) in [(stamp(2, 4), stamp(2, 3)), (holding("1", stamp(2, 4)), holding("2", stamp(2, 4)))] {
        let texts = [ours(a), ours(b)];
        assert_eq!(stops_with(&judge(ExactlyOnce, false, &texts)), Some(Code::ForeignOffsets));
        assert!(matches!(judge(AtLeastOnce, false, &texts), Verdict::Go { .. }));
    }
}

#[test]
fn a_retirement_claim_may_come_from_several_old_tasks() {
    let texts = [ours(holding("1", stamp(2, 0))), ours(holding("2", stamp(2, 0)))];
    assert!(matches!(judge(ExactlyOnce, true, &texts), Verdict::Go { .. }));
}

#[test]
fn a_new_partition_may_come_to_a_task_beside_retired_ones() {
    let texts = [ours(stamp(2, 0)), None];
    assert!(matches!(judge(ExactlyOnce, true, &texts), Verdict::Go { .. }));
    assert_eq!(stops_with(&judge(ExactlyOnce, false, &texts)), Some(Code::ForeignOffsets));
}
