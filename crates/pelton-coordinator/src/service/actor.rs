//! The one task that owns core and store.

use super::{
    CoordinatorError, Options,
    retirement::{self, retire},
};
use crate::{
    core::{Core, Effects, Now, Refusal, Restored, Retiring, SessionId, Snapshot},
    store::{
        AuditRecord, Deleted, Document, EpochRecord, IncidentRecord, Leader, MetadataStore, PipelineRecord,
        RevisionRecord, SavepointRecord, StoreError, Transaction, Version, keys,
    },
};
use pelton_proto::v1::{self, worker_report};
use pelton_sdk::Registry;
use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot, watch},
    time::Instant,
};
use tonic::Status;

/// Commands that may wait; more make their senders wait.
pub(super) const INBOX: usize = 1024;
/// Commands handled between two writes: one transaction serves many reports.
const BATCH: usize = 256;
/// Directives that may wait for one worker: two for each of several thousand tasks. A worker that reads no faster is
/// cut off, and says what it holds when it comes back.
pub(super) const OUTBOX: usize = 16_384;
/// A quarter of the shortest wait there is, the 200 ms in which a closed connection may come back.
const TICK: Duration = Duration::from_millis(50);
/// How old a published snapshot may be.
const SNAPSHOT_EVERY: Duration = Duration::from_millis(250);

type Reply = Box<dyn FnOnce() + Send>;
type Question = Box<dyn FnOnce(&mut Core, Now) -> Reply + Send>;

/// The sending half of a worker's session.
pub(super) struct Outbox {
    pub(super) directives: mpsc::Sender<Result<v1::Directive, Status>>,
    /// Dropped when the session ends, so that its reader ends too.
    pub(super) _alive: oneshot::Sender<()>,
}

pub(super) enum Command {
    /// A worker's first message.
    Attach { hello: Box<v1::Hello>, outbox: Outbox, reply: oneshot::Sender<Result<SessionId, Refusal>> },
    /// A later one.
    Report { session: SessionId, report: Box<v1::WorkerReport> },
    /// Its stream ended.
    Closed { session: SessionId },
    /// Anything else; what it returns is called once the effects are durable.
    Ask(Question),
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Command")
    }
}

pub(super) struct Actor {
    core: Core,
    store: Arc<dyn MetadataStore>,
    /// Versions of the keys we wrote or read; a write expects them.
    versions: BTreeMap<String, Version>,
    inbox: mpsc::Receiver<Command>,
    outboxes: BTreeMap<SessionId, Outbox>,
    next_session: SessionId,
    snapshots: watch::Sender<Arc<Snapshot>>,
    published: Instant,
    changed: bool,
    started: Instant,
    wall_clock: Arc<dyn Fn() -> i64 + Send + Sync>,
    /// For what is done elsewhere to be told of here. Weak: the actor ends with the last of its handles.
    commands: mpsc::WeakSender<Command>,
    registry: Registry,
}

impl fmt::Debug for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Actor")
    }
}

impl Actor {
    /// Take the lead: read everything, raise the term.
    pub(super) async fn lead(
        options: &Options,
        store: Arc<dyn MetadataStore>,
        registry: Registry,
        commands: mpsc::WeakSender<Command>,
        inbox: mpsc::Receiver<Command>,
    ) -> Result<(Self, watch::Receiver<Arc<Snapshot>>), StoreError> {
        // The term first: from here on nobody else's writes succeed, so what is read next stays true.
        let before = store.get(keys::LEADER).await?;
        let (known, version) = match &before {
            Some(stored) => (Leader::decode(keys::LEADER, stored)?.term, stored.version),
            None => (0, 0),
        };
        let leader = Leader { term: known + 1, holder: options.holder.clone() };
        let version = store.commit(Transaction::put(keys::LEADER, version, leader.encode())).await?;
        let mut versions = BTreeMap::from([(keys::LEADER.to_owned(), version)]);
        let stored = read_all(&*store, &mut versions).await?;
        let started = Instant::now();
        let now = Now { at: Duration::ZERO, wall_ms: (options.wall_clock)() };
        let core = Core::new(options.settings.clone(), leader.term, options.holder.clone(), stored, now);
        let (snapshots, receiver) = watch::channel(Arc::new(core.snapshot(now)));
        tracing::info!(term = leader.term, "coordinator leads");
        let actor = Self {
            core,
            store,
            versions,
            inbox,
            outboxes: BTreeMap::new(),
            next_session: 1,
            snapshots,
            published: started,
            changed: false,
            started,
            wall_clock: options.wall_clock.clone(),
            commands,
            registry,
        };
        Ok((actor, receiver))
    }

    fn now(&self) -> Now {
        Now { at: self.started.elapsed(), wall_ms: (self.wall_clock)() }
    }

    /// Serve commands until `stopped`, or until a write fails.
    pub(super) async fn run(mut self, mut stopped: watch::Receiver<bool>) -> Result<(), CoordinatorError> {
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            let mut replies = Vec::new();
            tokio::select! {
                biased;
                // An error means that the server is gone: the same as a stop.
                _ = stopped.wait_for(|stop| *stop) => return Ok(()),
                _ = ticks.tick() => {
                    let now = self.now();
                    self.core.tick(now);
                    self.publish(now);
                }
                command = self.inbox.recv() => {
                    let Some(command) = command else { return Ok(()) };
                    self.handle(command, &mut replies);
                    for _ in 1..BATCH {
                        let Ok(command) = self.inbox.try_recv() else { break };
                        self.handle(command, &mut replies);
                    }
                    self.changed = true;
                }
            }
            while self.carry_out().await? {}
            for reply in replies {
                reply();
            }
        }
    }

    fn handle(&mut self, command: Command, replies: &mut Vec<Reply>) {
        let now = self.now();
        match command {
            Command::Attach { hello, outbox, reply } => {
                let session = self.next_session;
                self.next_session += 1;
                let answer = self.core.attach(session, *hello, now).map(|()| session);
                if answer.is_ok() {
                    self.outboxes.insert(session, outbox);
                }
                // Its reader may be gone already; then `Closed` never comes, and the lease ends the session.
                replies.push(Box::new(move || drop(reply.send(answer))));
            }
            Command::Report { session, report } => match report.kind {
                Some(worker_report::Kind::Heartbeat(beat)) => self.core.heartbeat(session, beat, now),
                Some(worker_report::Kind::TaskChange(change)) => self.core.task_change(session, change, now),
                // A second hello says nothing new; an unknown kind is of a newer version.
                Some(worker_report::Kind::Hello(_)) | None => {}
            },
            Command::Closed { session } => {
                self.outboxes.remove(&session);
                self.core.closed(session, now);
            }
            Command::Ask(question) => replies.push(question(&mut self.core, now)),
        }
    }

    /// Write, then send. True when sending found sessions that ended, so that there may be more to do.
    async fn carry_out(&mut self) -> Result<bool, StoreError> {
        let effects = self.core.take();
        if effects.is_empty() {
            return Ok(false);
        }
        self.changed = true;
        let Effects { writes, sends, closes, retirements } = effects;
        if !writes.is_empty() {
            self.write(writes).await?;
        }
        let mut broken = Vec::new();
        for (session, kind) in sends {
            let Some(outbox) = self.outboxes.get(&session) else { continue };
            if outbox.directives.try_send(Ok(v1::Directive { kind: Some(kind) })).is_err() {
                broken.push(session);
            }
        }
        for (session, reason) in closes {
            if let Some(outbox) = self.outboxes.remove(&session) {
                let _ = outbox.directives.try_send(Err(Status::aborted(reason)));
            }
        }
        retirements.into_iter().for_each(|wish| self.retire(wish));
        let now = self.now();
        for session in &broken {
            self.outboxes.remove(session);
            self.core.closed(*session, now);
        }
        Ok(!broken.is_empty())
    }

    /// Retire a task on a thread that may wait, and tell the core what came of it.
    fn retire(&self, wish: Retiring) {
        let (commands, registry) = (self.commands.clone(), self.registry.clone());
        tokio::spawn(async move {
            let task = wish.task.clone();
            let outcome = tokio::task::spawn_blocking(move || retire(&registry, &wish)).await;
            let outcome = outcome.unwrap_or_else(|e| Err(retirement::failed(&task, &e.to_string())));
            let Some(commands) = commands.upgrade() else { return };
            let told = Command::Ask(Box::new(move |core: &mut Core, now| {
                core.retired(&task, outcome, now);
                Box::new(|| {}) as Reply
            }));
            // A coordinator that ends meanwhile tries again when it is back.
            let _ = commands.send(told).await;
        });
    }

    async fn write(&mut self, writes: BTreeMap<String, Option<Vec<u8>>>) -> Result<(), StoreError> {
        let version_of = |key: &str| self.versions.get(key).copied().unwrap_or(0);
        let mut expect: BTreeMap<String, Version> =
            writes.keys().map(|key| (key.clone(), version_of(key))).collect();
        // Whoever took the lead since wrote this key: then nothing of ours is written.
        expect.insert(keys::LEADER.to_owned(), version_of(keys::LEADER));
        let outcome: Vec<(String, bool)> = writes.iter().map(|(k, v)| (k.clone(), v.is_some())).collect();
        let version = self.store.commit(Transaction { expect, write: writes }).await?;
        for (key, exists) in outcome {
            match exists {
                true => self.versions.insert(key, version),
                false => self.versions.remove(&key),
            };
        }
        Ok(())
    }

    fn publish(&mut self, now: Now) {
        if self.changed && self.published.elapsed() >= SNAPSHOT_EVERY {
            self.changed = false;
            self.published = Instant::now();
            self.snapshots.send_replace(Arc::new(self.core.snapshot(now)));
        }
    }
}

async fn read_all(
    store: &dyn MetadataStore,
    versions: &mut BTreeMap<String, Version>,
) -> Result<Restored, StoreError> {
    let mut restored = Restored::default();
    for (key, document) in store.list("").await? {
        if let Some(name) = keys::pipeline_name(&key) {
            restored.pipelines.push((name, PipelineRecord::decode(&key, &document)?));
        } else if let Some((uuid, number)) = keys::revision_number(&key) {
            restored.revisions.push((uuid.to_owned(), number, RevisionRecord::decode(&key, &document)?));
        } else if key.starts_with(keys::EPOCHS) {
            restored.epochs.insert(key.clone(), EpochRecord::decode(&key, &document)?);
        } else if key.starts_with(keys::INCIDENTS) {
            restored.incidents.insert(key.clone(), IncidentRecord::decode(&key, &document)?);
        } else if let Some((uuid, name)) = keys::savepoint_name(&key) {
            let savepoint = SavepointRecord::decode(&key, &document)?;
            restored.savepoints.push((uuid.to_owned(), name.to_owned(), savepoint));
        } else if let Some((uuid, number)) = keys::audit_number(&key) {
            restored.audit.push((uuid.to_owned(), number, AuditRecord::decode(&key, &document)?));
        } else if let Some(uuid) = key.strip_prefix(keys::DELETED) {
            restored.deleted.insert(uuid.to_owned(), Deleted::decode(&key, &document)?.at_ms);
        }
        versions.insert(key, document.version);
    }
    Ok(restored)
}
