//! The commit thread of a task: one for each, so that a commit that hangs holds up nobody else. A client comes with a
//! job and goes back with its outcome.

use super::{Outcome, Shared, client::TransactionalClient};
use crate::{
    errors::{self, code},
    link::Link,
    native::Failure,
    requests::Answer,
    settings::Properties,
};
use pelton_sabotage::{
    Defect, breaks,
    points::{self, Point},
};
use pelton_sdk::{EndError, ErrorKind};
use pelton_types::{Code, Offset, Partition};
use std::{
    sync::{Arc, mpsc::Receiver},
    time::{Duration, Instant},
};

/// What the throw-away init may take: the broker fences the predecessor and aborts its transaction meanwhile.
const THROW_AWAY_MS: i32 = 30;
/// How long an init may take before the task hears of it and tries again.
const INIT_MS: i32 = 10_000;
/// How long a broker may take to say what it can do.
const FIRST_CONTACT: Duration = Duration::from_millis(500);
/// How long the last abort may take.
const LAST_ABORT_MS: i32 = 1_000;

pub(super) enum Job {
    /// Make a client and connect it.
    Warm(Setup),
    /// Make a client, or take the warm one, and initialise it.
    Init {
        old: Option<TransactionalClient>,
        setup: Setup,
        throw_away: bool,
        number: u64,
    },
    Commit {
        live: TransactionalClient,
        positions: Vec<(Partition, Offset)>,
        metadata: String,
        number: u64,
    },
    /// Drop it here, where that may take its time.
    Drop(Option<TransactionalClient>),
    /// Abort what is open, drop it, and say so.
    Close(Option<TransactionalClient>),
}

/// What a client is made from.
#[derive(Clone)]
pub(super) struct Setup {
    pub link: Arc<Link>,
    pub properties: Properties,
    /// A topic to look for a broker with.
    pub topic: String,
}

/// Do jobs until nobody has any more.
pub(super) fn run(jobs: &Receiver<Job>, shared: &Shared) {
    let mut spare = None;
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Warm(setup) => {
                if spare.is_none() {
                    spare = connected(&setup, shared).ok();
                }
            }
            Job::Init { old, setup, throw_away, number } => {
                drop(old);
                let made = init(spare.take(), &setup, throw_away, shared);
                let outcome = made.as_ref().map(|_| ()).map_err(Clone::clone);
                shared.give_back(number, made.ok(), Outcome::Init(outcome));
            }
            Job::Commit { mut live, positions, metadata, number } => {
                let outcome = commit(&mut live, &positions, &metadata, shared);
                shared.give_back(number, Some(live), Outcome::Commit(outcome));
            }
            Job::Drop(old) => drop(old),
            Job::Close(live) => {
                spare = None;
                if let Some(live) = live.filter(|live| live.dirty)
                    && let Err(failure) = live.abort(LAST_ABORT_MS)
                {
                    let left = errors::transaction(&shared.of, &failure);
                    tracing::debug!(id = shared.of.id, "its last transaction is left to its timeout: {left}");
                }
                shared.closed();
            }
        }
    }
}

fn connected(setup: &Setup, shared: &Shared) -> Result<TransactionalClient, EndError> {
    let made = TransactionalClient::new(&setup.link, &setup.properties, &shared.wake)?;
    made.connect(&setup.topic);
    Ok(made)
}

fn init(
    spare: Option<TransactionalClient>,
    setup: &Setup,
    throw_away: bool,
    shared: &Shared,
) -> Result<TransactionalClient, EndError> {
    let failed = |failure: Failure| errors::transaction(&shared.of, &failure);
    let made = spare.map_or_else(|| connected(setup, shared), Ok)?;
    if throw_away {
        // An init that meets an open transaction is told to come back and does so after 500 ms, whatever is set. This
        // one makes the broker abort it. It has to be gone before the other, or its own retry would fence that.
        let first = connected(setup, shared)?;
        if let Err(failure) = first.init(THROW_AWAY_MS) {
            tracing::trace!(id = shared.of.id, "throw-away init: {}", failure.text);
        }
        drop(first);
    }
    alone(&made, shared)?;
    points::reach(Point::Initialising);
    made.init(INIT_MS).map_err(failed)?;
    made.begin().map_err(failed)?;
    Ok(made)
}

/// Nobody may subscribe with the pipeline's group: the broker would take that member's offsets for ours, and ours for
/// its. Kafka's classic groups accept a transactional commit whoever their members are, so it has to be asked.
fn alone(made: &TransactionalClient, shared: &Shared) -> Result<(), EndError> {
    let since = Instant::now();
    let members = loop {
        match made.members(&shared.of.group) {
            Some(Answer::Members(Ok(members))) => break members,
            // Said of a broker that has not yet told what it can do, the group's coordinator at first contact.
            Some(Answer::Members(Err(failure)))
                if failure.code == code::UNSUPPORTED_FEATURE && since.elapsed() < FIRST_CONTACT =>
            {
                std::thread::sleep(Duration::from_millis(5));
            }
            // Who may not ask, or gets no answer, goes on as if alone.
            _ => return Ok(()),
        }
    };
    let Some(first) = members.first() else { return Ok(()) };
    Err(EndError::stop(
        Code::GroupTaken,
        format!(
            "group {} at {} has members, the first is {first}; Pelton joins no group, and nobody else may subscribe with \
             its group id",
            shared.of.group, shared.of.brokers
        ),
    ))
}

/// Commit, and open the next transaction; whether no request is left without its answer.
fn commit(
    live: &mut TransactionalClient,
    positions: &[(Partition, Offset)],
    metadata: &str,
    shared: &Shared,
) -> Result<bool, EndError> {
    if let Err(failure) = live.commit(&shared.of.group, positions, metadata) {
        let error = errors::transaction(&shared.of, &failure);
        if error.kind == ErrorKind::Fenced {
            points::reach(Point::Fenced);
        }
        return Err(error);
    }
    points::reach(Point::Committed);
    // What cannot begin its next transaction is replaced; this one is committed.
    let answered = live.client.unanswered() == 0 || breaks(Defect::DiscardOff);
    if !answered {
        points::reach(Point::InDoubt);
    }
    Ok(live.begin().is_ok() && answered)
}

/// How long the task waits for the last abort.
pub(super) const CLOSE_WITHIN: Duration = Duration::from_millis(LAST_ABORT_MS as u64 + 500);
