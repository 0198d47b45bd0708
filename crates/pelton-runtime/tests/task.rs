//! A task's life against a queue that misbehaves.

mod support;

use pelton_checkpoint::Delivery;
use pelton_runtime::{Command, StagePlan, TaskState};
use pelton_types::Code;
use std::time::Duration;
use support::*;

#[test]
fn everything_read_is_written_and_committed_in_order() {
    let queue = Queue::default();
    queue.fill(2, 60);
    let mut bench = Bench::new(&queue);
    bench.start(plan("", false), 2, 1);
    bench.until("both partitions are committed", |b| {
        committed(&b.queue, 0) == 30 && committed(&b.queue, 1) == 30
    });
    let out = queue.with(|shelf| shelf.out.clone());
    assert_eq!(out.len(), 60);
    for key in ["k0", "k1"] {
        let of_key: Vec<usize> =
            out.iter().filter(|(k, _)| k == key).map(|(_, v)| v[1..].parse().unwrap()).collect();
        assert!(of_key.is_sorted(), "{key} is out of order: {of_key:?}");
    }
    assert!(queue.with(|shelf| shelf.offsets.values().all(|(_, metadata)| metadata.contains(";e=1;"))));
}

#[test]
fn an_offset_is_never_committed_before_its_output_is_stored() {
    let queue = Queue::default();
    queue.fill(1, 200);
    let mut bench = Bench::new(&queue);
    bench.start(plan("", false), 1, 1);
    bench.until("all is committed", |b| {
        let stored = b.queue.with(|shelf| shelf.out.len());
        let committed = committed(&b.queue, 0);
        assert!(committed <= stored as i64, "committed {committed}, but {stored} are stored");
        committed == 200
    });
}

#[test]
fn a_failed_flush_goes_back_to_the_last_commit_and_loses_nothing() {
    let queue = Queue::default();
    queue.fill(1, 50);
    queue.with(|shelf| shelf.fail_flushes = 2);
    let mut bench = Bench::new(&queue);
    bench.start(plan("", false), 1, 1);
    bench.until("all is committed", |b| committed(&b.queue, 0) == 50);
    let mut out = queue.out();
    out.dedup();
    assert_eq!(out, (0..50).map(|n| format!("v{n}")).collect::<Vec<_>>());
    assert!(queue.with(|shelf| shelf.taken.len()) > 50, "the records were given to the sink again");
    bench.until("the books are settled", |b| {
        let shown = &b.board.all()[0];
        shown.commits > 0 && shown.pending == 0 && shown.account.records_in > 0
    });
    let account = bench.board.all()[0].account;
    assert_eq!(
        (account.records_in, account.records_out, account.imbalance()),
        (50, 50, 0),
        "each is booked once"
    );
}

#[test]
fn a_commit_that_fails_is_tried_again_and_work_goes_on() {
    let queue = Queue::default();
    queue.fill(1, 50);
    let mut bench = Bench::new(&queue);
    bench.start(plan("", false), 1, 1);
    bench.until("it works", |b| b.ended_as(TaskState::Running));
    queue.with(|shelf| shelf.fail_commits = 3);
    bench.until("all is committed", |b| committed(&b.queue, 0) == 50);
    assert_eq!(queue.out().len(), 50, "nothing was done twice");
}

#[test]
fn a_slow_sink_holds_the_source_back() {
    let queue = Queue::default();
    queue.fill(1, 500);
    queue.with(|shelf| shelf.sink_room = Some(7));
    let mut bench = Bench::new(&queue);
    bench.start(plan("", false), 1, 1);
    bench.until("the sink is full", |b| b.queue.with(|shelf| shelf.max_in_flight) == 7);
    for _ in 0..20 {
        bench.step();
    }
    let read = bench.board.all()[0].account.records_in;
    assert!(read <= 20, "{read} records were read, the sink took 7");
}

#[test]
fn a_poison_record_stops_the_task_and_says_where_it_is() {
    let queue = Queue::default();
    queue.fill(1, 5);
    queue.with(|shelf| shelf.topics.values_mut().next().unwrap()[3].1 = "poison".into());
    let mut bench = Bench::new(&queue);
    bench.start(plan("", false), 1, 1);
    bench.until("it stops", |b| b.ended_as(TaskState::Failed));
    let incident = bench.last().unwrap().incident.unwrap();
    assert_eq!(incident.code, Code::PoisonRecord);
    assert_eq!(
        incident.message,
        "`judge` cannot process the record at in[0] offset 3: it is poison; the record is `poison`"
    );
    assert!(committed(&queue, 0) <= 3, "nothing after it is committed");
    let lag = bench.last().unwrap().lag;
    assert_eq!((lag.len(), lag[0].end), (1, Some(5)), "its last words say where it stood");
}

#[test]
fn a_poison_record_goes_to_the_dead_letters_with_its_cause_where_there_are_any() {
    let queue = Queue::default();
    queue.fill(1, 5);
    queue.with(|shelf| shelf.topics.values_mut().next().unwrap()[3].1 = "poison".into());
    let mut bench = Bench::new(&queue);
    bench.start(plan("", true), 1, 1);
    bench.until("all is committed", |b| committed(&b.queue, 0) == 5);
    assert_eq!(queue.out(), ["v0", "v1", "v2", "v4"]);
    let (value, headers) = queue.with(|shelf| shelf.letters[0].clone());
    assert_eq!(value, "poison");
    let expected = [
        ("pelton-cause", "it is poison"),
        ("pelton-operator", "judge"),
        ("pelton-topic", "in"),
        ("pelton-partition", "0"),
        ("pelton-offset", "3"),
    ];
    assert_eq!(headers, expected.map(|(n, v)| (n.to_owned(), v.to_owned())));
    bench.until("the board shows it", |b| b.board.all()[0].account.dead_lettered == 1);
    assert_eq!(bench.board.all()[0].account.imbalance(), 0);
}

#[test]
fn a_record_the_sink_refuses_is_a_dead_letter_too() {
    let queue = Queue::default();
    queue.fill(1, 3);
    queue.with(|shelf| shelf.topics.values_mut().next().unwrap()[1].1 = "too-large".into());
    let mut bench = Bench::new(&queue);
    bench.start(plan("", false), 1, 1);
    bench.until("it stops", |b| b.ended_as(TaskState::Failed));
    assert!(bench.last().unwrap().incident.unwrap().message.contains("`out` cannot process"));
}

#[test]
fn a_panic_is_narrowed_down_to_the_record_at_fault() {
    let queue = Queue::default();
    queue.fill(1, 10);
    queue.with(|shelf| {
        let log = shelf.topics.values_mut().next().unwrap();
        log[4].1 = "panic".into();
        log[5].1 = "drop".into();
    });
    let mut bench = Bench::new(&queue);
    bench.start(plan("", true), 1, 1);
    bench.until("all is committed", |b| committed(&b.queue, 0) == 10);
    assert_eq!(queue.out(), ["v0", "v1", "v2", "v3", "v6", "v7", "v8", "v9"]);
    let (value, headers) = queue.with(|shelf| shelf.letters[0].clone());
    assert_eq!(
        (value.as_str(), headers[0].1.as_str()),
        ("panic", "the operator panicked: cannot bear panic")
    );
}

#[test]
fn held_records_are_finished_before_a_commit() {
    let queue = Queue::default();
    queue.fill(1, 30);
    let mut bench = Bench::new(&queue);
    bench.start(plan("hold", false), 1, 1);
    bench.until("all is committed", |b| committed(&b.queue, 0) == 30);
    assert_eq!(queue.out().len(), 30);
}

#[test]
fn an_operator_that_loses_a_record_is_found_out() {
    let queue = Queue::default();
    queue.fill(1, 10);
    let mut bench = Bench::new(&queue);
    bench.start(plan("lose", false), 1, 1);
    bench.until("it stops", |b| b.ended_as(TaskState::Failed));
    let incident = bench.last().unwrap().incident.unwrap();
    assert_eq!(incident.code, Code::Imbalance);
    assert!(incident.message.contains("10 in + 0 expanded, but 9 out"), "{}", incident.message);
    assert_eq!(committed(&queue, 0), 0, "only the claim is committed");
}

#[test]
fn a_released_task_commits_what_it_did_and_its_successor_goes_on_there() {
    let queue = Queue::default();
    queue.fill(1, 100);
    let mut bench = Bench::new(&queue);
    bench.start(plan("hold", false), 1, 1);
    bench.until("something is read", |b| b.board.all().first().is_some_and(|t| t.account.records_in > 0));
    bench.handle.send(Command::Release { task: task(), epoch: 1, within: Duration::from_secs(5) });
    bench.until("it lets go", |b| b.ended_as(TaskState::Released));
    let done = queue.out().len();
    assert_eq!(committed(&queue, 0), done as i64);
    bench.start(plan("", false), 1, 2);
    bench.until("all is committed", |b| committed(&b.queue, 0) == 100);
    assert_eq!(queue.out().len(), 100, "nothing twice");
}

#[test]
fn a_zombie_that_finds_a_newer_owner_steps_down() {
    let queue = Queue::default();
    queue.fill(1, 10);
    let mut bench = Bench::new(&queue);
    bench.start(plan("", false), 1, 5);
    bench.until("all is committed", |b| committed(&b.queue, 0) == 10);
    let mut late = Bench::new(&queue);
    late.start(plan("", false), 1, 4);
    late.until("it steps down", |b| b.ended_as(TaskState::SteppedDown));
    assert_eq!(queue.out().len(), 10);
}

#[test]
fn a_bounded_source_completes_its_task_after_the_last_commit() {
    let queue = Queue::default();
    queue.fill(2, 31);
    queue.with(|shelf| shelf.bounded = true);
    let mut bench = Bench::new(&queue);
    bench.start(plan("", false), 2, 1);
    bench.until("it completes", |b| b.ended_as(TaskState::Completed));
    assert_eq!((committed(&queue, 0), committed(&queue, 1)), (16, 15));
    assert_eq!(queue.out().len(), 31);
}

#[test]
fn the_deadline_of_a_release_ends_a_task_whose_sink_is_stuck() {
    let queue = Queue::default();
    queue.fill(1, 50);
    queue.with(|shelf| shelf.sink_room = Some(3));
    let mut bench = Bench::new(&queue);
    bench.start(plan("", false), 1, 1);
    bench.until("the sink is full", |b| b.queue.with(|shelf| shelf.max_in_flight) == 3);
    bench.handle.send(Command::Release { task: task(), epoch: 1, within: Duration::from_secs(1) });
    bench.until("it lets go", |b| b.ended_as(TaskState::Released));
    let stored = queue.out().len() as i64;
    assert!(stored < 50);
    assert_eq!(committed(&queue, 0), stored, "what is not stored is not committed, and what is stored is");
}

#[test]
fn a_warm_task_that_nobody_grants_is_let_go_and_a_granted_one_starts_from_it() {
    let queue = Queue::default();
    queue.fill(1, 10);
    let mut bench = Bench::new(&queue);
    bench.warm(plan("", false), 1);
    bench.until("it is warm", |b| b.ended_as(TaskState::Warm));
    assert_eq!(queue.with(|shelf| shelf.sources), 1);
    bench.start(plan("", false), 1, 1);
    bench.until("all is committed", |b| committed(&b.queue, 0) == 10);
    assert_eq!(queue.with(|shelf| shelf.sources), 1, "no second source was made");

    let queue = Queue::default();
    let mut bench = Bench::new(&queue);
    bench.warm(plan("", false), 1);
    bench.until("it is warm", |b| b.ended_as(TaskState::Warm));
    bench.now += Duration::from_secs(61);
    bench.step();
    assert_eq!(queue.with(|shelf| shelf.sources), 0, "its parts are dropped");
}

#[test]
fn an_id_that_somebody_else_takes_again_and_again_is_an_incident_and_loses_nothing() {
    let queue = Queue::default();
    queue.fill(1, 40);
    queue.with(|shelf| shelf.transactional = true);
    let mut bench = Bench::new(&queue);
    let plan = StagePlan { delivery: Delivery::ExactlyOnce, ..plan("", false) };
    bench.start(plan, 1, 1);
    bench.until("the first commit of work", |b| committed(&b.queue, 0) > 0);
    let incident = |b: &Bench| b.board.all().first().and_then(|s| s.incident.as_ref().map(|i| i.code));
    for fencing in 1..=3 {
        queue.with(|shelf| shelf.fence_commits = 1);
        queue.fill(1, 10);
        bench.until("a commit that is refused", |b| b.queue.with(|shelf| shelf.fence_commits == 0));
        if fencing < 3 {
            assert_ne!(incident(&bench), Some(Code::Hijacked), "{fencing} may be an accident");
        }
    }
    bench.until("the incident", |b| incident(b) == Some(Code::Hijacked));
    bench.until("all is committed", |b| committed(&b.queue, 0) == 70);
    assert_eq!(queue.out().len(), 70, "each once");
    bench.now += Duration::from_secs(121);
    queue.fill(1, 10);
    bench.until("the incident is over", |b| committed(&b.queue, 0) == 80 && incident(b).is_none());
}

#[test]
fn an_idle_task_commits_what_is_committed_once_more_each_day_before_it_expires() {
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        let queue = Queue::default();
        queue.fill(1, 10);
        queue.with(|shelf| shelf.transactional = delivery == Delivery::ExactlyOnce);
        let mut bench = Bench::new(&queue);
        bench.start(StagePlan { delivery, ..plan("", false) }, 1, 1);
        bench.until("the commit of all records", |b| committed(&b.queue, 0) == 10);
        let commits = queue.with(|shelf| shelf.commits);
        let settled = bench.now + Duration::from_secs(5);
        bench.until("some time without records", |b| b.now > settled);
        assert_eq!(queue.with(|shelf| shelf.commits), commits, "nothing moved");
        bench.now += Duration::from_secs(24 * 3600);
        bench.until("the same commit again", |b| b.queue.with(|shelf| shelf.commits) == commits + 1);
        assert_eq!((committed(&queue, 0), queue.out().len()), (10, 10));
    }
}

#[test]
fn what_a_task_and_its_operators_do_and_how_old_records_are_is_on_the_page_while_the_task_is_here() {
    const OPERATOR: &str = "{namespace=\"default\",operator=\"judge\",pipeline=\"p\"}";
    const PIPELINE: &str = "{namespace=\"default\",pipeline=\"p\"}";
    const TASK: &str = "{namespace=\"default\",pipeline=\"p\",stage=\"0\",task=\"0\"}";
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        let queue = Queue::default();
        queue.fill(1, 30);
        queue.with(|shelf| {
            let log = shelf.topics.values_mut().next().unwrap();
            log[3].1 = "poison".into();
            log[4].1 = "drop".into();
            shelf.transactional = delivery == Delivery::ExactlyOnce;
        });
        let mut bench = Bench::new(&queue);
        bench.start(StagePlan { delivery, ..plan("", true) }, 1, 1);
        let operator = |name: &str| format!("pelton_operator_{name}{OPERATOR}");
        let of_pipeline = |name: &str| format!("pelton_{name}{PIPELINE}");
        bench.until("all is counted", |b| {
            b.shown(&of_pipeline("e2e_latency_seconds_count")) == Some(28.0)
                && b.shown(&format!("pelton_source_lag_seconds{TASK}")) == Some(0.0)
        });
        for (series, value) in [
            (operator("records_in_total"), 30.0),
            (operator("records_out_total"), 28.0),
            (operator("records_dropped_total"), 1.0),
            (operator("records_dlq_total"), 1.0),
            (of_pipeline("records_dlq_total"), 1.0),
            (of_pipeline("e2e_latency_seconds_sum"), 56.0),
            (format!("pelton_source_lag_records{TASK}"), 0.0),
            (format!("pelton_task_epoch{TASK}"), 1.0),
            (format!("pelton_task_backpressured_seconds_total{TASK}"), 0.0),
        ] {
            assert_eq!(bench.shown(&series), Some(value), "{series} under {delivery:?}");
        }
        assert!(bench.shown(&operator("batch_duration_seconds_count")) > Some(0.0));
        bench.handle.send(Command::Release { task: task(), epoch: 1, within: INTERVAL });
        bench.until("it let go", |b| b.ended_as(TaskState::Released));
        assert_eq!(bench.shown(&format!("pelton_task_epoch{TASK}")), None, "a task that left shows nothing");
        assert_eq!(bench.shown(&operator("records_in_total")), Some(30.0), "what it did still counts");
    }
}

#[test]
fn time_without_room_counts_as_back_pressure_and_lag_has_an_age() {
    const TASK: &str = "{namespace=\"default\",pipeline=\"p\",stage=\"0\",task=\"0\"}";
    let queue = Queue::default();
    queue.fill(1, 60);
    queue.with(|shelf| shelf.sink_room = Some(0));
    let mut bench = Bench::new(&queue);
    bench.start(plan("", false), 1, 1);
    bench.until("a second without room", |b| {
        b.shown(&format!("pelton_task_backpressured_seconds_total{TASK}")) >= Some(1.0)
    });
    assert_eq!(bench.shown(&format!("pelton_task_backpressured_ratio{TASK}")), Some(1.0));
    // Ten were read, of the first millisecond of 1970; what waits is no older than 2 s.
    assert_eq!(bench.shown(&format!("pelton_source_lag_records{TASK}")), Some(50.0));
    assert_eq!(bench.shown(&format!("pelton_source_lag_seconds{TASK}")), Some(2.0));
    assert!(bench.board.all()[0].backpressured_ratio >= 0.99);
}
