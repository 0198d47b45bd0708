//! The operator: keeps records while their lookups are under way, and hands them on in the promised order.

use crate::{
    call::{Client, Request},
    options::{OnError, Plan},
};
use pelton_sdk::{
    Background, BuildContext, Calls, Collector, Operator, Reorder, Ticket, Verdicts, Wake,
    member::{Path, set_at},
    types::{Batch, Offset, Partition},
};
use quick_cache::unsync::Cache;
use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc,
        mpsc::{Receiver, Sender, channel},
    },
    time::{Duration, Instant},
};
use tokio::sync::watch;

/// The JSON text to write, or why there is none.
type Found = Result<Arc<str>, Arc<str>>;

/// An answer in the cache, and since when.
type Kept = (Instant, Arc<str>);

/// A record that is held.
struct Item {
    /// Number of its batch.
    batch: u64,
    /// Its place in there.
    index: usize,
    found: Option<Found>,
}

/// A batch of which records are held.
struct Held {
    batch: Batch,
    left: usize,
}

/// What became of a call.
struct Answer {
    call: u64,
    found: Result<String, String>,
}

/// A call under way, and who waits for it.
struct Call {
    request: Arc<Request>,
    tickets: Vec<Ticket>,
}

pub(crate) struct Enrich {
    plan: Arc<Plan>,
    client: Arc<Client>,
    background: Background,
    wake: Wake,
    counts: Calls,
    reorder: Reorder<Item>,
    batches: HashMap<u64, Held>,
    next_batch: u64,
    /// Records whose call was not begun.
    waiting: VecDeque<(Ticket, u64, usize)>,
    calls: HashMap<u64, Call>,
    next_call: u64,
    /// Calls by what they ask for, where equal ones are made once.
    equal: HashMap<Arc<Request>, u64>,
    cache: Option<Cache<Arc<Request>, Kept>>,
    answers: Receiver<Answer>,
    answer: Sender<Answer>,
    verdicts: Verdicts,
    /// Calls end when this is dropped.
    alive: watch::Sender<()>,
}

impl Enrich {
    pub fn new(plan: Arc<Plan>, client: Arc<Client>, context: &BuildContext) -> Self {
        let (answer, answers) = channel();
        Self {
            reorder: Reorder::new(plan.order, plan.in_flight),
            cache: plan.cache.map(|(_, entries)| Cache::new(entries)),
            plan,
            client,
            background: context.background.clone(),
            wake: context.wake.clone(),
            counts: context.calls.clone(),
            batches: HashMap::new(),
            next_batch: 0,
            waiting: VecDeque::new(),
            calls: HashMap::new(),
            next_call: 0,
            equal: HashMap::new(),
            answers,
            answer,
            verdicts: Verdicts::default(),
            alive: watch::channel(()).0,
        }
    }

    /// Begin as many calls as may be open.
    fn begin(&mut self, now: Instant) {
        while self.calls.len() < self.plan.in_flight {
            let Some((ticket, batch, index)) = self.waiting.pop_front() else { return };
            match self.request(batch, index) {
                Err(cause) => self.settle(ticket, Err(cause.into())),
                Ok(request) => self.ask(request, ticket, now),
            }
        }
    }

    fn request(&self, batch: u64, index: usize) -> Result<Request, String> {
        let held = self.batches.get(&batch).map(|held| &held.batch).ok_or("the record is gone")?;
        let value = held.value(&held.records[index]).ok_or("the record has no value")?;
        let body = self.plan.body.as_ref().map(|body| body.json(value)).transpose()?;
        Ok(Request { url: self.plan.url.url(value)?, body })
    }

    fn ask(&mut self, request: Request, ticket: Ticket, now: Instant) {
        let request = Arc::new(request);
        if let Some(cache) = &mut self.cache {
            let ttl = self.plan.cache.map_or(Duration::ZERO, |(ttl, _)| ttl);
            match cache.get(&request) {
                Some((since, text)) if now.saturating_duration_since(*since) < ttl => {
                    let text = text.clone();
                    self.counts.looked_up(true);
                    return self.settle(ticket, Ok(text));
                }
                Some(_) => drop(cache.remove(&request)),
                None => {}
            }
            let open = self.equal.get(&request).and_then(|call| self.calls.get_mut(call));
            // An equal call that is under way is as good as an answer in the cache.
            self.counts.looked_up(open.is_some());
            if let Some(call) = open {
                return call.tickets.push(ticket);
            }
            self.equal.insert(request.clone(), self.next_call);
        }
        let call = self.next_call;
        self.next_call += 1;
        self.calls.insert(call, Call { request: request.clone(), tickets: vec![ticket] });
        if !self.spawn(call, request) {
            self.close(Answer { call, found: Err("there is nothing to run calls on".into()) }, now);
        }
    }

    fn spawn(&self, call: u64, request: Arc<Request>) -> bool {
        let (client, answer, wake) = (self.client.clone(), self.answer.clone(), self.wake.clone());
        let (mut alive, counts) = (self.alive.subscribe(), self.counts.clone());
        self.background.spawn(async move {
            let found = tokio::select! {
                found = client.look_up(&request, &counts) => found,
                _ = alive.changed() => return,
            };
            // An operator that is gone needs no answer.
            if answer.send(Answer { call, found }).is_ok() {
                wake.wake();
            }
        })
    }

    /// Give an answer to whoever waits for it.
    fn close(&mut self, answer: Answer, now: Instant) {
        let Some(call) = self.calls.remove(&answer.call) else { return };
        let found: Found = match answer.found {
            Ok(text) => Ok(text.into()),
            Err(cause) => Err(cause.into()),
        };
        if let Some(cache) = &mut self.cache {
            self.equal.remove(&call.request);
            if let Ok(text) = &found {
                cache.insert(call.request, (now, text.clone()));
            }
        }
        for ticket in call.tickets {
            self.settle(ticket, found.clone());
        }
    }

    fn settle(&mut self, ticket: Ticket, found: Found) {
        if let Some(item) = self.reorder.get_mut(ticket) {
            item.found = Some(found);
            self.reorder.complete(ticket);
        }
    }

    /// Hand on what is complete, in runs of records that stood beside each other.
    fn release(&mut self, out: &mut Collector) {
        let mut run: Vec<Item> = Vec::new();
        while let Some(item) = self.reorder.pop() {
            let follows = run.last().is_none_or(|last| last.batch == item.batch && last.index < item.index);
            if !follows {
                self.emit(std::mem::take(&mut run), out);
            }
            run.push(item);
        }
        self.emit(run, out);
    }

    fn emit(&mut self, run: Vec<Item>, out: &mut Collector) {
        let Some(number) = run.first().map(|item| item.batch) else { return };
        let Some(mut held) = self.batches.remove(&number) else { return };
        let mut done = held.batch.subset(run.iter().map(|item| item.index));
        self.verdicts.begin();
        for (place, item) in run.iter().enumerate() {
            let written = match (item.found.as_ref(), self.plan.on_error) {
                (Some(Ok(text)), _) => write(&mut done, place, &self.plan.into, text),
                (Some(Err(_)), OnError::Null) => write(&mut done, place, &self.plan.into, "null"),
                (Some(Err(cause)), OnError::Fail) => Err(cause.to_string()),
                (None, _) => Err("the record was not looked up".into()),
            };
            self.verdicts.note(written.map(|()| true));
        }
        self.verdicts.settle(done, out);
        held.left -= run.len();
        if held.left > 0 {
            self.batches.insert(number, held);
        }
    }
}

fn write(batch: &mut Batch, index: usize, into: &Path, text: &str) -> Result<(), String> {
    let from = batch.records[index].value;
    let written = batch.rewrite(from, |old, out| set_at(old, into, text, out))?;
    batch.records[index].value = written;
    Ok(())
}

impl Operator for Enrich {
    fn process(&mut self, batch: Batch, out: &mut Collector) {
        let number = self.next_batch;
        self.next_batch += 1;
        for (index, record) in batch.records.iter().enumerate() {
            let item = Item { batch: number, index, found: None };
            let ticket = self.reorder.push(&batch.partition, batch.key(record), record.offset, item);
            self.waiting.push_back((ticket, number, index));
        }
        if !batch.is_empty() {
            self.batches.insert(number, Held { left: batch.len(), batch });
        }
        self.begin(out.now());
        self.release(out);
    }

    fn poll(&mut self, out: &mut Collector) -> Option<Instant> {
        while let Ok(answer) = self.answers.try_recv() {
            self.close(answer, out.now());
        }
        self.begin(out.now());
        self.release(out);
        // Answers come with a wake-up.
        None
    }

    fn held(&self) -> u64 {
        self.reorder.len() as u64
    }

    fn floor(&self, partition: &Partition) -> Option<Offset> {
        self.reorder.floor(partition)
    }

    fn ready(&self) -> bool {
        self.waiting.is_empty()
    }
}
