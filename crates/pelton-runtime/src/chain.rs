//! A graph of operators, run batch by batch on one thread.
//!
//! The chain knows no queue: batches come in by source, leave by sink, and records that could not be processed leave
//! beside them. It keeps the account of every operator and survives their panics: a batch that panics is run once more
//! on a fresh operator, then halved until the records at fault stand alone.

mod build;
mod neighbours;

use crate::{metrics::OperatorMeter, tap::Taps};
use pelton_sdk::{BuildContext, Collector, Failed, Operator, OperatorFactory, OptionError};
use pelton_types::{Account, Batch, Offset, Partition};
use serde_json::Value;
use std::{
    any::Any,
    collections::VecDeque,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

#[derive(Clone, Copy, Debug)]
enum Target {
    Operator(usize),
    Sink(usize),
}

struct Node {
    name: String,
    factory: Arc<dyn OperatorFactory>,
    options: Value,
    context: BuildContext,
    operator: Box<dyn Operator>,
    /// Consumers by output port.
    outputs: Vec<Vec<Target>>,
    account: Account,
    /// Counts what `account` does, but never back; none where nobody reads it.
    meter: Option<OperatorMeter>,
}

/// A record the chain gave up on.
#[derive(Debug)]
pub struct Rejected {
    /// The operator that refused it.
    pub operator: String,
    /// The record and the cause.
    pub failed: Failed,
}

/// What left the chain in one step.
#[derive(Debug, Default)]
pub struct Output {
    /// Batches by sink.
    pub sinks: Vec<(usize, Batch)>,
    /// Records given up on.
    pub rejected: Vec<Rejected>,
    /// Records dropped on purpose.
    pub filtered: u64,
    /// Extra copies made.
    pub expanded: u64,
    /// Records that went into another's output.
    pub merged: u64,
}

impl Output {
    /// Whether nothing left the chain.
    pub fn is_empty(&self) -> bool {
        let counted = self.filtered + self.expanded + self.merged;
        self.sinks.is_empty() && self.rejected.is_empty() && counted == 0
    }
}

/// An operator panicked while it held records: they are gone from memory, only a restart brings them back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LostRecords {
    /// The operator.
    pub operator: String,
    /// The panic's message.
    pub message: String,
    /// Records it held.
    pub held: u64,
}

/// See the module.
pub struct Chain {
    nodes: Vec<Node>,
    sources: Vec<(String, Vec<Target>)>,
    sinks: Vec<String>,
    /// Who watches.
    pub taps: Taps,
}

impl Chain {
    /// Whether every operator has room for another batch.
    pub fn ready(&self) -> bool {
        self.nodes.iter().all(|node| node.operator.ready())
    }

    /// Records inside operators.
    pub fn held(&self) -> u64 {
        self.nodes.iter().map(|node| node.operator.held()).sum()
    }

    /// The lowest offset of a partition that an operator holds; [`Offset::MIN`] when one does not say.
    pub fn floor(&self, partition: &Partition) -> Option<Offset> {
        self.nodes.iter().filter_map(|node| node.operator.floor(partition)).min()
    }

    /// The operator that holds the lowest offset of a partition.
    pub fn holder(&self, partition: &Partition) -> Option<&str> {
        let floors = self.nodes.iter().filter_map(|n| n.operator.floor(partition).map(|at| (at, n)));
        floors.min_by_key(|(at, _)| *at).map(|(_, node)| node.name.as_str())
    }

    /// Names and accounts of the operators, in order.
    pub fn accounts(&self) -> impl Iterator<Item = (&str, Account)> {
        self.nodes.iter().map(|node| {
            let account = Account { held: node.operator.held(), ..node.account };
            (node.name.as_str(), account)
        })
    }

    /// Build every operator anew: what they held is forgotten.
    ///
    /// # Errors
    /// An operator that was built before cannot be built now, a model file that vanished for example.
    pub fn reset(&mut self) -> Result<(), (String, OptionError)> {
        for node in &mut self.nodes {
            node.operator = node.factory.build(&node.options, &node.context).map_err(|errors| {
                let error =
                    errors.into_iter().next().unwrap_or_else(|| OptionError::at("", "cannot be built"));
                (node.name.clone(), error)
            })?;
        }
        Ok(())
    }

    /// Set the operators' books, in order; an operator without an entry starts anew.
    pub fn set_accounts(&mut self, accounts: &[Account]) {
        for (index, node) in self.nodes.iter_mut().enumerate() {
            node.account = accounts.get(index).copied().unwrap_or_default();
        }
    }

    /// Count what each operator does from now on.
    pub(crate) fn count(&mut self, meter: impl Fn(&str) -> OperatorMeter) {
        for node in &mut self.nodes {
            node.meter = Some(meter(&node.name));
        }
    }

    /// Show what was counted.
    pub(crate) fn publish_counts(&self) {
        self.nodes.iter().filter_map(|node| node.meter.as_ref()).for_each(OperatorMeter::publish);
    }

    /// The first operator whose books do not balance.
    pub fn imbalance(&self) -> Option<(&str, Account)> {
        self.accounts().find(|(_, account)| account.imbalance() != 0)
    }

    /// Run a batch of a source through.
    pub fn process(
        &mut self,
        source: usize,
        batch: Batch,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), LostRecords> {
        let mut queue = VecDeque::new();
        let (name, targets) = &self.sources[source];
        self.taps.offer(name, false, &batch);
        let from = out.sinks.len();
        fan_out(targets, batch, &mut queue, out);
        self.run(queue, now, out)?;
        self.show_sinks(&out.sinks[from..]);
        Ok(())
    }

    /// Offer what goes into the sinks to whoever watches.
    fn show_sinks(&mut self, batches: &[(usize, Batch)]) {
        for (index, batch) in batches {
            self.taps.offer(&self.sinks[*index], true, batch);
        }
    }

    /// Ask the operators that hold records for what became ready. Returns when to ask again at the latest.
    pub fn poll(&mut self, now: Instant, out: &mut Output) -> Result<Option<Instant>, LostRecords> {
        let mut soonest: Option<Instant> = None;
        let from = out.sinks.len();
        for index in 0..self.nodes.len() {
            if self.nodes[index].operator.held() == 0 {
                continue;
            }
            let mut collector = Collector::new(now);
            let node = &mut self.nodes[index];
            let polled = catch_unwind(AssertUnwindSafe(|| node.operator.poll(&mut collector)));
            match polled {
                Ok(again) => soonest = [soonest, again].into_iter().flatten().min(),
                Err(panic) => return Err(self.lost(index, &*panic)),
            }
            let mut queue = VecDeque::new();
            self.collect(index, collector, &mut queue, out);
            self.run(queue, now, out)?;
        }
        self.show_sinks(&out.sinks[from..]);
        Ok(soonest)
    }

    /// Have the operators finish what they hold.
    pub fn flush(&mut self) {
        for node in &mut self.nodes {
            if node.operator.held() > 0 {
                node.operator.flush();
            }
        }
    }

    fn run(
        &mut self,
        mut queue: VecDeque<(usize, Batch)>,
        now: Instant,
        out: &mut Output,
    ) -> Result<(), LostRecords> {
        while let Some((index, batch)) = queue.pop_front() {
            let (node, records) = (&mut self.nodes[index], batch.len() as u64);
            node.account.records_in += records;
            if let Some(meter) = &node.meter {
                meter.records_in.inc_by(records);
            }
            self.run_operator(index, batch, now, 0, &mut queue, out)?;
        }
        Ok(())
    }

    /// Run one operator on one batch; after a panic again, and then on its halves.
    fn run_operator(
        &mut self,
        index: usize,
        mut batch: Batch,
        now: Instant,
        attempt: u32,
        queue: &mut VecDeque<(usize, Batch)>,
        out: &mut Output,
    ) -> Result<(), LostRecords> {
        batch.seal();
        let mut kept = batch.fork();
        let mut collector = Collector::new(now);
        let node = &mut self.nodes[index];
        let held = node.operator.held();
        let begun = node.meter.as_ref().map(OperatorMeter::begin);
        let panic = match catch_unwind(AssertUnwindSafe(|| node.operator.process(batch, &mut collector))) {
            Ok(()) => {
                if let (Some(meter), Some(begun)) = (&node.meter, begun) {
                    meter.end(begun);
                }
                self.collect(index, collector, queue, out);
                return Ok(());
            }
            Err(panic) => panic,
        };
        if held > 0 {
            return Err(self.lost(index, &*panic));
        }
        tracing::warn!(operator = %node.name, records = kept.len(), panic = message(&*panic), "an operator panicked");
        match node.factory.build(&node.options, &node.context) {
            Ok(fresh) => node.operator = fresh,
            Err(_) => return Err(self.lost(index, &*panic)),
        }
        if attempt == 0 {
            return self.run_operator(index, kept, now, 1, queue, out);
        }
        if kept.len() <= 1 {
            let mut collector = Collector::new(now);
            if !kept.is_empty() {
                collector.fail(&mut kept, 0, format!("the operator panicked: {}", message(&*panic)));
            }
            self.collect(index, collector, queue, out);
            return Ok(());
        }
        let half = kept.split_off(kept.len() / 2);
        self.run_operator(index, kept, now, attempt + 1, queue, out)?;
        self.run_operator(index, half, now, attempt + 1, queue, out)
    }

    fn lost(&self, index: usize, panic: &(dyn Any + Send)) -> LostRecords {
        let node = &self.nodes[index];
        LostRecords {
            operator: node.name.clone(),
            message: message(panic).to_owned(),
            held: node.operator.held(),
        }
    }

    /// Book what an operator gave and send it on.
    fn collect(
        &mut self,
        index: usize,
        collector: Collector,
        queue: &mut VecDeque<(usize, Batch)>,
        out: &mut Output,
    ) {
        let node = &mut self.nodes[index];
        node.account.filtered += collector.filtered;
        node.account.expanded += collector.expanded;
        node.account.merged += collector.merged;
        node.account.dead_lettered += collector.failed.len() as u64;
        if let Some(meter) = &node.meter {
            meter.dropped.inc_by(collector.filtered);
            meter.dead_lettered.inc_by(collector.failed.len() as u64);
        }
        out.filtered += collector.filtered;
        out.expanded += collector.expanded;
        out.merged += collector.merged;
        for failed in collector.failed {
            out.rejected.push(Rejected { operator: node.name.clone(), failed });
        }
        for (port, batch) in collector.emitted {
            node.account.records_out += batch.len() as u64;
            if let Some(meter) = &node.meter {
                meter.records_out.inc_by(batch.len() as u64);
            }
            self.taps.offer(&node.name, false, &batch);
            match node.outputs.get(port) {
                Some(targets) => fan_out(targets, batch, queue, out),
                None => out.filtered += batch.len() as u64,
            }
        }
    }
}

/// Send a batch to every consumer of an output; an output nobody reads drops it, as the definition says.
fn fan_out(targets: &[Target], mut batch: Batch, queue: &mut VecDeque<(usize, Batch)>, out: &mut Output) {
    let Some((last, others)) = targets.split_last() else {
        out.filtered += batch.len() as u64;
        return;
    };
    if !others.is_empty() {
        batch.seal();
        out.expanded += (batch.len() * others.len()) as u64;
    }
    let mut send = |target: Target, mut batch: Batch| match target {
        Target::Operator(index) => queue.push_back((index, batch)),
        Target::Sink(index) => {
            // Nobody behind wants to know where members stand.
            batch.fields = None;
            out.sinks.push((index, batch));
        }
    };
    for target in others {
        send(*target, batch.fork());
    }
    send(*last, batch);
}

fn message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("no message")
}
