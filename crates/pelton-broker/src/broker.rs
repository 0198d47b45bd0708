//! State and store together: plans are stored, then applied, then answered.

use std::collections::HashMap;
use std::io;

use crate::code::Code;
use crate::core::config::TopicSettings;
use crate::core::members::{GroupAnswer, Ticket};
use crate::core::{Effect, Entry, LogId, Plan, State, Topic, retention};
use crate::store::{Replayed, SegmentStore};

/// The broker without a network. Single-threaded; time comes in with each call.
#[derive(Debug)]
pub struct Broker<S> {
    state: State,
    store: S,
    settings: Settings,
    /// Logs that got something new since [`Broker::take_touched`].
    touched: Vec<LogId>,
    /// Answers nobody has fetched yet.
    answers: HashMap<Ticket, GroupAnswer>,
    /// Tickets answered since [`Broker::take_answered`].
    answered: Vec<Ticket>,
    /// When silent producers are looked for again, milliseconds since 1970.
    producer_check_ms: i64,
}

/// What a broker does where a request leaves it open.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Partitions of a topic created without a number.
    pub default_partitions: u32,
    /// Whether asking for the metadata of an unknown topic may create it.
    pub auto_create_topics: bool,
    /// How long the first members of an empty group wait for more, milliseconds; Kafka's
    /// `group.initial.rebalance.delay.ms`. Without a wait one consumer starts at once, and each further one
    /// costs a rebalance.
    pub first_wait_ms: u32,
    /// Offsets that nobody uses are removed after this, milliseconds; Kafka's `offsets.retention.minutes`.
    pub offsets_retention_ms: i64,
    /// A partition forgets a producer that was silent for this long; Kafka's `producer.id.expiration.ms`.
    pub producer_expiration_ms: i64,
    /// A transactional id without a transaction is forgotten after this; Kafka's `transactional.id.expiration.ms`.
    pub transactional_id_expiration_ms: i64,
}

const DAY_MS: i64 = 24 * 60 * 60 * 1000;
/// How often silent producers are looked for at most and at least, milliseconds; Kafka does it every ten minutes.
const PRODUCER_CHECK_MS: std::ops::RangeInclusive<i64> = 1000..=600_000;
/// While the logs are read at a start, silent producers are forgotten after so many batches.
const REPLAY_CHECK_BATCHES: u32 = 1 << 16;

impl Default for Settings {
    fn default() -> Self {
        Self {
            default_partitions: 1,
            auto_create_topics: true,
            first_wait_ms: 0,
            offsets_retention_ms: 7 * DAY_MS,
            producer_expiration_ms: DAY_MS,
            transactional_id_expiration_ms: 7 * DAY_MS,
        }
    }
}

impl<S: SegmentStore> Broker<S> {
    /// Rebuilds the state from the store and finishes transactions that were decided before.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn open(mut store: S, settings: Settings, now_ms: i64) -> io::Result<Self> {
        let (mut state, mut batches) = (State::default(), 0_u32);
        store.replay(&mut |replayed| match replayed {
            Replayed::Entry(entry) => state.apply_entry(&entry),
            Replayed::Batch(log, header) => {
                state.apply_batch(log, &header);
                batches = batches.wrapping_add(1);
                if batches.is_multiple_of(REPLAY_CHECK_BATCHES) {
                    forget_producers(&mut state, &settings, now_ms);
                }
            }
            Replayed::End(log, offset) => state.end_log(log, offset),
        })?;
        forget_producers(&mut state, &settings, now_ms);
        state.replayed(now_ms);
        let mut broker = Self {
            state,
            store,
            settings,
            touched: Vec::new(),
            answers: HashMap::new(),
            answered: Vec::new(),
            producer_check_ms: now_ms,
        };
        if broker.state.cluster_id().is_empty() {
            let id = uuid::Uuid::new_v4().simple().to_string();
            broker.execute(Effect::Journal(Entry::Cluster { id }))?;
        }
        for id in broker.state.transactions().unfinished() {
            let plan = broker.state.plan_finish_txn(&id, now_ms);
            plan.effects.into_iter().try_for_each(|effect| broker.execute(effect))?;
        }
        let orphans = broker.state.plan_abort_orphans(now_ms);
        orphans.effects.into_iter().try_for_each(|effect| broker.execute(effect))?;
        Ok(broker)
    }

    /// What the broker knows.
    pub fn state(&self) -> &State {
        &self.state
    }

    /// Where it keeps it.
    pub fn store(&self) -> &S {
        &self.store
    }

    /// The store, for syncing.
    pub fn store_mut(&mut self) -> &mut S {
        &mut self.store
    }

    /// Its settings.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Carries out a plan made from the present state; only this hands out its reply.
    ///
    /// # Errors
    /// `failed` if the store did not take an effect. Earlier effects of the plan stay: each is complete in
    /// itself, and a decided transaction is finished by the next request for it.
    pub fn run<R>(&mut self, plan: Plan<R>, failed: Code) -> Result<R, Code> {
        for effect in plan.effects {
            self.execute(effect).map_err(|error| {
                tracing::error!(%error, "could not store; the request was refused");
                failed
            })?;
        }
        self.shorten_journal();
        Ok(plan.reply)
    }

    fn execute(&mut self, effect: Effect) -> io::Result<()> {
        match &effect {
            Effect::Append { log, batch } => {
                self.store.append(*log, batch)?;
                self.touched.push(*log);
            }
            Effect::Journal(entry) => self.store.journal(entry)?,
            Effect::Group { .. } | Effect::Heard { .. } | Effect::ForgetProducers { .. } => {}
            Effect::Answer { ticket, answer } => {
                self.answers.insert(*ticket, answer.clone());
                self.answered.push(*ticket);
            }
        }
        self.state.apply(&effect);
        Ok(())
    }

    fn shorten_journal(&mut self) {
        if self.store.journal_is_long()
            && let Err(error) = self.store.rewrite_journal(&self.state.snapshot())
        {
            tracing::warn!(%error, "could not shorten the journal; it keeps growing");
        }
    }

    /// A producer id that nobody had before.
    ///
    /// # Errors
    /// The store did not take the reservation.
    pub fn new_producer_id(&mut self) -> Result<i64, Code> {
        let (id, _) = self.run(self.state.plan_producer_id(), Code::CoordinatorNotAvailable)?;
        self.state.use_producer_id(id);
        Ok(id)
    }

    /// Aborts transactions that are over their time, and forgets producers and transactional ids that are. Call about
    /// once a second.
    pub fn expire_transactions(&mut self, now_ms: i64) {
        if now_ms >= self.producer_check_ms {
            let expiration_ms = self.settings.producer_expiration_ms;
            let often_ms = (expiration_ms / 10).clamp(*PRODUCER_CHECK_MS.start(), *PRODUCER_CHECK_MS.end());
            self.producer_check_ms = now_ms.saturating_add(often_ms);
            // Nothing of it is stored.
            let _ =
                self.run(self.state.plan_forget_producers(expiration_ms, now_ms), Code::KafkaStorageError);
        }
        let expiration_ms = self.settings.transactional_id_expiration_ms;
        let idle = self.state.plan_forget_transactional_ids(expiration_ms, now_ms);
        if self.run(idle, Code::KafkaStorageError).is_err() {
            return;
        }
        // Those too that were decided when the store failed.
        let unfinished = self.state.transactions().unfinished();
        for id in self.state.transactions().overdue(now_ms).into_iter().chain(unfinished) {
            tracing::info!(transactional_id = %id, "ended a transaction: its time is over, or it was decided before");
            let plan = self.state.plan_finish_txn(&id, now_ms);
            if self.run(plan, Code::KafkaStorageError).is_err() {
                return;
            }
        }
    }

    /// Does what the timers of groups ask for. Call about once a second.
    pub fn expire_groups(&mut self, now_ms: i64) {
        for group in self.state.members().due(now_ms) {
            // If the store refuses, the next call tries again.
            let _ = self.run(self.state.members().plan_expire(&group, now_ms), Code::KafkaStorageError);
        }
    }

    /// Deletes records that are too old or too many, and offsets nobody uses. Call every few seconds.
    pub fn enforce_retention(&mut self, now_ms: i64) {
        for (log, settings) in self.limited_logs() {
            let segments = self.store.segments(log);
            if let Some(start) = retention::new_start(&segments, &settings, now_ms) {
                tracing::debug!(topic = log.topic, partition = log.partition, start, "deleted old records");
                let _ = self.run(self.state.plan_begin_log(log, start), Code::KafkaStorageError);
            } else if retention::is_time_to_roll(&segments, &settings, now_ms)
                && let Err(error) = self.store.roll(log)
            {
                tracing::warn!(%error, ?log, "could not begin a new segment");
            }
        }
        let groups: Vec<String> = self.state.group_ids().into_iter().map(str::to_owned).collect();
        for group in groups {
            let retention_ms = self.settings.offsets_retention_ms;
            let plan = self.state.plan_expire_offsets(&group, retention_ms, now_ms);
            let _ = self.run(plan, Code::KafkaStorageError);
        }
    }

    /// Logs of topics whose settings ask for something now and then.
    pub(crate) fn limited_logs(&self) -> Vec<(LogId, TopicSettings)> {
        let is_limited = |settings: &TopicSettings| {
            settings.retention_ms.is_some() || settings.retention_bytes.is_some() || settings.compacts
        };
        let topics = self.state.topics().values().filter(|topic| is_limited(&topic.settings));
        let logs = |topic: &Topic| {
            let (number, settings) = (topic.number, topic.settings.clone());
            (0..topic.partitions).map(move |partition| (LogId { topic: number, partition }, settings.clone()))
        };
        topics.flat_map(logs).collect()
    }

    /// The answer to a question that had to wait, once.
    pub fn take_answer(&mut self, ticket: Ticket) -> Option<GroupAnswer> {
        self.answers.remove(&ticket)
    }

    /// Tickets answered since the last call.
    pub fn take_answered(&mut self) -> Vec<Ticket> {
        std::mem::take(&mut self.answered)
    }

    /// Logs that got something new since the last call, for those who wait for it.
    pub fn take_touched(&mut self) -> Vec<LogId> {
        std::mem::take(&mut self.touched)
    }
}

fn forget_producers(state: &mut State, settings: &Settings, now_ms: i64) {
    let plan = state.plan_forget_producers(settings.producer_expiration_ms, now_ms);
    plan.effects.iter().for_each(|effect| state.apply(effect));
}
