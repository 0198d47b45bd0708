//! Asynchronous operators under any order of completion, any crash and any revoke.
//!
//! Every run is made from a seed. `PELTON_SEED=n` runs that one alone; a failure names it.

// Helpers of tests may unwrap as the tests do.
#![allow(clippy::unwrap_used)]

mod support;

use pelton_checkpoint::{Delivery, Grant};
use pelton_runtime::{
    Outcome, Step,
    executor::AssignedPartitions,
    plan::{Input, OperatorPlan},
    setup::Workshop,
    task::{Task, TaskOptions},
};
use pelton_sdk::{
    Budget, BuildContext, Collector, Operator, OperatorFactory, OperatorShape, OptionError, Order, Registry,
    Reorder, Scope, Ticket, Wake,
};
use pelton_types::{Batch, Code, Offset, Partition};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};
use support::*;

/// SplitMix64.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) % n as u64) as usize
    }
    fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// What is wrong with a run on purpose.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Defect {
    None,
    /// The operator names the offset after the lowest it holds.
    FloorOffByOne,
    /// Results leave as they are ready, whatever was promised.
    OrderIgnored,
    /// Results beyond the cut go into the transaction.
    PastTheCut,
}

/// Calls that wait for an answer: operator instance and ticket.
type Calls = Arc<Mutex<Vec<(usize, Ticket)>>>;
type Answers = Arc<Mutex<Vec<(usize, Ticket)>>>;

struct CallsFactory {
    open: Calls,
    done: Answers,
    made: Mutex<usize>,
    defect: Defect,
}

/// One record each is away at a service that answers when the dice say so.
struct CallsOperator {
    id: usize,
    open: Calls,
    done: Answers,
    reorder: Reorder<Batch>,
    defect: Defect,
}

impl Operator for CallsOperator {
    fn process(&mut self, mut batch: Batch, _: &mut Collector) {
        for index in 0..batch.len() {
            let one = batch.subset([index]);
            let key = one.key(&one.records[0]).filter(|k| *k != b"none").map(<[u8]>::to_vec);
            let offset = one.records[0].offset;
            let ticket = self.reorder.push(&batch.partition, key.as_deref(), offset, one);
            self.open.lock().unwrap().push((self.id, ticket));
        }
    }
    fn poll(&mut self, out: &mut Collector) -> Option<Instant> {
        self.done.lock().unwrap().retain(|(id, ticket)| {
            if *id == self.id {
                self.reorder.complete(*ticket);
            }
            *id != self.id
        });
        while let Some(mut batch) = self.reorder.pop() {
            let value = batch.value(&batch.records[0]).unwrap().to_vec();
            match value.split(|b| *b == b'/').next_back() {
                Some(b"drop") => out.filtered(1),
                Some(b"poison") => out.fail(&mut batch, 0, "it is poison"),
                _ => out.emit(batch),
            }
        }
        None
    }
    fn held(&self) -> u64 {
        self.reorder.len() as u64
    }
    fn floor(&self, partition: &Partition) -> Option<Offset> {
        let lie = Offset::from(self.defect == Defect::FloorOffByOne);
        self.reorder.floor(partition).map(|at| at + lie)
    }
    fn ready(&self) -> bool {
        self.reorder.has_room()
    }
}

impl OperatorFactory for CallsFactory {
    fn name(&self) -> &'static str {
        "calls"
    }
    fn summary(&self) -> &'static str {
        "waits for answers"
    }
    fn schema(&self) -> schemars::Schema {
        schemars::json_schema!({})
    }
    fn check(&self, _: &Value, _: &BuildContext) -> Result<OperatorShape, Vec<OptionError>> {
        Ok(OperatorShape::default())
    }
    fn build(&self, options: &Value, _: &BuildContext) -> Result<Box<dyn Operator>, Vec<OptionError>> {
        let mut made = self.made.lock().unwrap();
        *made += 1;
        let order = match options.as_str() {
            _ if self.defect == Defect::OrderIgnored => Order::None,
            Some("key") => Order::Key,
            Some("partition") => Order::Partition,
            _ => Order::None,
        };
        Ok(Box::new(CallsOperator {
            id: *made,
            open: self.open.clone(),
            done: self.done.clone(),
            reorder: Reorder::new(order, 6),
            defect: self.defect,
        }))
    }
}

struct Run {
    dice: Dice,
    queue: Queue,
    workshop: Workshop,
    plan: Arc<pelton_runtime::StagePlan>,
    open: Calls,
    done: Answers,
    order: Order,
    delivery: Delivery,
    defect: Defect,
    partitions: Vec<Partition>,
    records: usize,
    task: Option<Task>,
    epoch: u64,
    now: Instant,
}

impl Run {
    fn new(seed: u64, delivery: Delivery, order: Order, defect: Defect) -> Run {
        let mut dice = Dice(seed);
        let queue = Queue::default();
        let partitions: Vec<_> = (0..=dice.below(2) as i32).map(|i| Partition::new("in", i)).collect();
        let records = 5 + dice.below(25);
        queue.with(|shelf| {
            shelf.transactional = delivery == Delivery::ExactlyOnce;
            for partition in &partitions {
                let mut log = Vec::new();
                for offset in 0..records {
                    let key = ["a", "b", "none"][dice.below(3)];
                    let kind = ["keep", "keep", "keep", "drop", "poison"][dice.below(5)];
                    log.push((key.to_owned(), format!("{}/{offset}/{kind}", partition.index)));
                }
                shelf.topics.insert(partition.clone(), log);
            }
        });
        let (open, done) = (Calls::default(), Answers::default());
        let factory = CallsFactory { open: open.clone(), done: done.clone(), made: Mutex::default(), defect };
        let registry = Registry::default().connector(QueueFactory(queue.clone())).operator(factory);
        let scope = Scope { wake: Wake::none(), executor: 0, queue_bytes: 1 << 20 };
        let workshop = Workshop::new(registry, BuildContext::detached("."), scope);
        let mut plan = plan("", true);
        let word = ["key", "partition", "none"][order as usize];
        let calls = |name: &str, input| OperatorPlan {
            name: name.into(),
            kind: "calls".into(),
            options: json!(word),
            inputs: vec![input],
        };
        plan.delivery = delivery;
        plan.operators =
            vec![calls("first", Input::Source(0)), calls("second", Input::Operator { index: 0, port: 0 })];
        plan.sinks[0].inputs = vec![Input::Operator { index: 1, port: 0 }];
        let now = Instant::now();
        Run {
            dice,
            queue,
            workshop,
            plan: Arc::new(plan),
            open,
            done,
            order,
            delivery,
            defect,
            partitions,
            records,
            task: None,
            epoch: 0,
            now,
        }
    }

    fn start(&mut self) {
        self.epoch += 1;
        self.queue.with(|shelf| (shelf.fail_flushes, shelf.fail_commits, shelf.sink_room) = (0, 0, None));
        let sources = BTreeMap::from([("in".to_owned(), self.partitions.clone())]);
        let own = AssignedPartitions { sources, tasks: 1 };
        let parts = self.workshop.make(&task(), &self.plan, &own).unwrap();
        let grant = Grant {
            task: task(),
            epoch: self.epoch,
            term: 1,
            virgin: self.queue.with(|shelf| shelf.offsets.is_empty()),
            partitions: self.partitions.clone(),
            heard: Vec::new(),
        };
        let budget = Budget { records: 1 + self.dice.below(5), bytes: 1 << 20 };
        // The machine commits outputs and offsets together either way; at-least-once has no line before the sinks.
        let delivery = if self.defect == Defect::PastTheCut { Delivery::AtLeastOnce } else { self.delivery };
        let options = TaskOptions { budget, origin: self.now, delivery, wall_clock: || 0 };
        self.task = Some(Task::new(grant, self.plan.clone(), parts, options, self.now));
    }

    fn step(&mut self) -> Result<(), String> {
        let Some(task) = &mut self.task else { return Ok(()) };
        let step = task.step(self.now);
        if task.take_confirmation_wish() {
            task.confirmed(Some(true));
        }
        if let Step::Waiting { .. } = step {
            self.now += Duration::from_millis(1 + self.dice.below(30) as u64);
        }
        self.check()
    }

    /// Things that go wrong, and time.
    fn disturb(&mut self, calm: bool) {
        let open = self.open.lock().unwrap().len();
        if open > 0 && (calm || !self.dice.one_in(3)) {
            let at = self.dice.below(open);
            let answered = self.open.lock().unwrap().swap_remove(at);
            self.done.lock().unwrap().push(answered);
        }
        if calm {
            return;
        }
        match self.dice.below(120) {
            0 => self.task = None,
            1..=2 => {
                let deadline = self.now + Duration::from_millis(self.dice.below(400) as u64);
                self.task.iter_mut().for_each(|task| task.release(deadline));
            }
            3 => self.queue.with(|shelf| shelf.fail_flushes = 1),
            4 => {
                let happens = self.dice.one_in(2);
                self.queue.with(|shelf| (shelf.fail_commits, shelf.failed_commits_happen) = (1, happens));
            }
            5..=6 => {
                let room = [None, Some(2)][self.dice.below(2)];
                self.queue.with(|shelf| shelf.sink_room = room);
            }
            _ => {}
        }
    }

    /// What must hold at any time.
    fn check(&mut self) -> Result<(), String> {
        let (out, letters, offsets, topics) = self.queue.with(|shelf| {
            let letters: Vec<_> = shelf.letters.iter().map(|(v, _)| v.clone()).collect();
            (shelf.out.clone(), letters, shelf.offsets.clone(), shelf.topics.clone())
        });
        let mut seen: HashMap<&str, usize> = HashMap::new();
        for value in out.iter().map(|(_, v)| v).chain(&letters) {
            *seen.entry(value).or_default() += 1;
        }
        for (partition, log) in &topics {
            let committed = offsets.get(partition).map_or(0, |(at, _)| *at);
            for (offset, (_, value)) in log.iter().enumerate() {
                let times = seen.get(value.as_str()).copied().unwrap_or(0);
                let below = (offset as Offset) < committed;
                let due = !value.ends_with("drop");
                if below && due && times == 0 {
                    return Err(format!("{value} is lost: {committed} is committed"));
                }
                if self.delivery == Delivery::ExactlyOnce && times != usize::from(below && due) {
                    return Err(format!("{value} is there {times} times, {committed} is committed"));
                }
            }
        }
        self.check_order(&out)?;
        let Some(task) = &mut self.task else { return Ok(()) };
        if let Some(Outcome::Failed(incident)) = task.outcome() {
            return Err(format!("the task failed: {incident}"));
        }
        let snapshot = task.snapshot();
        let unbalanced = |account: pelton_types::Account| account.imbalance() != 0;
        if unbalanced(snapshot.account) || snapshot.operators.iter().any(|(_, a)| unbalanced(*a)) {
            return Err(format!("books: {:?} {:?}", snapshot.account, snapshot.operators));
        }
        Ok(())
    }

    /// First occurrences rise, within what the order promises.
    fn check_order(&self, out: &[(String, String)]) -> Result<(), String> {
        let mut last: HashMap<String, usize> = HashMap::new();
        let mut seen = HashSet::new();
        for (key, value) in out {
            let mut parts = value.split('/');
            let (partition, offset) = (parts.next().unwrap(), parts.next().unwrap().parse().unwrap());
            let lane = match (self.order, key.as_str()) {
                (Order::None, _) | (Order::Key, "none") => continue,
                (Order::Key, key) => format!("{partition}/{key}"),
                (Order::Partition, _) => partition.to_owned(),
            };
            if seen.insert(value) && last.insert(lane, offset).is_some_and(|before| before > offset) {
                return Err(format!("{value} is out of order"));
            }
        }
        Ok(())
    }

    fn all_committed(&self) -> bool {
        let end = self.records as Offset;
        self.queue.with(|shelf| {
            self.partitions.iter().all(|p| shelf.offsets.get(p).is_some_and(|(at, _)| *at == end))
        })
    }

    fn play(&mut self) -> Result<(), String> {
        for _ in 0..self.dice.below(600) {
            self.live()?;
            self.disturb(false);
        }
        self.queue.with(|shelf| (shelf.fail_flushes, shelf.fail_commits, shelf.sink_room) = (0, 0, None));
        for _ in 0..20_000 {
            if self.all_committed() {
                return Ok(());
            }
            self.live()?;
            self.disturb(true);
        }
        Err(format!("it does not end: {:?}", self.task.as_mut().map(Task::snapshot)))
    }

    fn live(&mut self) -> Result<(), String> {
        if self.task.as_ref().is_none_or(|task| task.outcome().is_some()) {
            self.task = None;
            self.start();
        }
        self.step()
    }
}

const ORDERS: [Order; 3] = [Order::Key, Order::Partition, Order::None];

fn run(seed: u64, delivery: Delivery, order: Order, defect: Defect) -> Result<(), String> {
    Run::new(seed, delivery, order, defect).play()
}

fn seeds() -> std::ops::Range<u64> {
    match std::env::var("PELTON_SEED").ok().and_then(|seed| seed.parse().ok()) {
        Some(seed) => seed..seed + 1,
        None => 0..40,
    }
}

fn holds(delivery: Delivery) {
    for seed in seeds() {
        for order in ORDERS {
            if let Err(why) = run(seed, delivery, order, Defect::None) {
                panic!("PELTON_SEED={seed}, {delivery:?}, {order:?}: {why}");
            }
        }
    }
}

#[test]
fn at_least_once_loses_nothing_keeps_the_promised_order_and_balances() {
    holds(Delivery::AtLeastOnce);
}

#[test]
fn exactly_once_shows_each_result_with_the_commit_of_its_offset_and_only_then() {
    holds(Delivery::ExactlyOnce);
}

/// The first seed that shows a defect, and what it shows.
fn caught(delivery: Delivery, order: Order, defect: Defect) -> String {
    let found = (0..200).find_map(|seed| run(seed, delivery, order, defect).err().map(|why| (seed, why)));
    let (seed, why) = found.unwrap_or_else(|| panic!("{defect:?} is not noticed"));
    println!("{defect:?}: seed {seed}: {why}");
    why
}

#[test]
fn a_floor_that_is_off_by_one_is_caught() {
    for delivery in [Delivery::AtLeastOnce, Delivery::ExactlyOnce] {
        let why = caught(delivery, Order::None, Defect::FloorOffByOne);
        assert!(why.contains("is lost") || why.contains("times"), "{why}");
    }
}

#[test]
fn a_result_past_the_cut_that_is_let_into_the_transaction_is_caught() {
    let why = caught(Delivery::ExactlyOnce, Order::Key, Defect::PastTheCut);
    assert!(why.contains("times"), "{why}");
}

#[test]
fn an_order_that_is_ignored_is_caught() {
    for order in [Order::Key, Order::Partition] {
        let why = caught(Delivery::AtLeastOnce, order, Defect::OrderIgnored);
        assert!(why.contains("out of order"), "{why}");
    }
}

#[test]
fn a_call_that_hangs_holds_up_neither_reading_nor_other_commits_and_is_told_of() {
    let mut run = Run::new(1, Delivery::AtLeastOnce, Order::None, Defect::None);
    let partition = Partition::new("in", 0);
    run.partitions = vec![partition.clone()];
    run.records = 6;
    let log = (0..6).map(|n| ("a".to_owned(), format!("0/{n}/keep"))).collect();
    run.queue.with(|shelf| shelf.topics = BTreeMap::from([(partition, log)]));
    let mut hung = None;
    run.start();
    let until = |run: &mut Run, hung: &mut Option<(usize, Ticket)>, done: &dyn Fn(&mut Run) -> bool| {
        for _ in 0..20_000 {
            if done(run) {
                return;
            }
            run.step().unwrap();
            let mut open = std::mem::take(&mut *run.open.lock().unwrap());
            // The fourth record's first call gets no answer.
            if let (None, Some(at)) = (&hung, open.iter().position(|c| *c == (1, fourth()))) {
                *hung = Some(open.remove(at));
            }
            run.done.lock().unwrap().append(&mut open);
        }
        panic!("never happened: {:?}", run.task.as_mut().map(Task::snapshot));
    };
    until(&mut run, &mut hung, &|run| committed(&run.queue, 0) == 3 && run.queue.out().len() == 5);
    let incident = |run: &mut Run| run.task.as_mut().unwrap().snapshot().incident;
    assert_eq!(incident(&mut run), None);
    until(&mut run, &mut hung, &|run| incident(run).is_some());
    let told = incident(&mut run).unwrap();
    assert_eq!(told.code, Code::CommitStalled);
    assert!(told.message.starts_with("`first` holds the record at in[0] offset 3 for 3"), "{told}");
    run.done.lock().unwrap().extend(hung.take());
    hung = Some((0, fourth()));
    until(&mut run, &mut hung, &|run| committed(&run.queue, 0) == 6 && incident(run).is_none());
}

/// The ticket of an operator's fourth record.
fn fourth() -> Ticket {
    let mut reorder = Reorder::new(Order::None, 9);
    let partition = Partition::new("in", 0);
    (0..4).map(|offset| reorder.push(&partition, None, offset, ())).last().unwrap()
}
