//! The loop: look at the engine, decide, act.

use crate::{
    docker::{Engine, EngineError, short},
    plan::{Action, Memory, Seen, State, Wanted},
};
use futures_util::future::join_all;
use std::{future::Future, time::Duration};
use tokio::{
    sync::watch,
    time::{Instant, sleep, timeout},
};

/// Time between two looks; a changed number of workers is seen at once.
const LOOK: Duration = Duration::from_millis(500);
/// An engine that does not answer is asked again after this.
const AGAIN: Duration = Duration::from_secs(5);

/// How the fleet stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// Containers of the fleet, leaving and ended ones included.
    pub containers: usize,
    /// Those that run and stay.
    pub running: usize,
}

/// Keep as many workers as `workers` says until `stop` is ready. The containers stay when it ends: they go on
/// without their coordinator, and the next one finds them.
pub async fn keep(
    engine: Engine,
    mut workers: watch::Receiver<usize>,
    standing: watch::Sender<Standing>,
    stop: impl Future<Output = ()>,
) {
    tokio::pin!(stop);
    let mut keeper = Keeper { engine, memory: Memory::default(), begun: Instant::now(), silent: false };
    loop {
        let wanted = *workers.borrow_and_update();
        let pause = tokio::select! {
            biased;
            () = &mut stop => return,
            pause = keeper.turn(wanted, &standing) => pause,
        };
        tokio::select! {
            biased;
            () = &mut stop => return,
            // Nobody can change the number any more: the time still runs.
            Ok(Ok(())) = timeout(pause, workers.changed()) => {}
            () = sleep(pause) => {}
        }
    }
}

struct Keeper {
    engine: Engine,
    memory: Memory,
    begun: Instant,
    /// Whether the engine did not answer last time.
    silent: bool,
}

impl Keeper {
    /// One look and what follows from it; how long to wait for the next.
    async fn turn(&mut self, workers: usize, standing: &watch::Sender<Standing>) -> Duration {
        let seen = match self.engine.list().await {
            Ok(seen) => seen,
            Err(problem) => {
                if !std::mem::replace(&mut self.silent, true) {
                    tracing::error!(error = %problem, "the container engine does not answer; workers go on");
                }
                return AGAIN;
            }
        };
        if std::mem::take(&mut self.silent) {
            tracing::info!("the container engine answers again");
        }
        standing.send_replace(stand(&seen));
        let wanted = Wanted { workers, make: self.engine.make().to_owned(), grace: self.engine.spec().grace };
        let actions = self.memory.decide(&wanted, &seen, self.begun.elapsed());
        if actions.is_empty() {
            return LOOK;
        }
        let engine = &self.engine;
        let done = join_all(actions.iter().map(|action| act(engine, action))).await;
        for (action, outcome) in actions.iter().zip(done) {
            if let Err(problem) = outcome {
                self.note(action, &problem);
            }
        }
        // What was just done is looked at without delay.
        Duration::from_millis(20)
    }

    fn note(&mut self, action: &Action, problem: &EngineError) {
        if let Action::Make { slot } = action {
            self.memory.failed(*slot, self.begun.elapsed());
        }
        tracing::warn!(?action, error = %problem, "the container engine refused; it is tried again");
    }
}

fn stand(seen: &[Seen]) -> Standing {
    let running = seen.iter().filter(|one| one.state == State::Running && !one.leaving).count();
    Standing { containers: seen.len(), running }
}

async fn act(engine: &Engine, action: &Action) -> Result<(), EngineError> {
    match action {
        Action::Make { slot } => {
            let id = engine.make_container(*slot).await?;
            tracing::info!(slot, container = short(&id), "worker container made");
            engine.start(&id).await
        }
        Action::Start { id } => engine.start(id).await,
        Action::Retire { id, slot } => {
            tracing::info!(slot, container = short(id), "worker container is to finish");
            engine.retire(id, *slot).await
        }
        Action::End { id } => {
            tracing::warn!(container = short(id), "worker container did not finish in time and is ended");
            engine.end(id).await
        }
        Action::Remove { id, slot, unexpected } => {
            if *unexpected {
                let end = engine.end_of(id).await?;
                tracing::warn!(slot, container = short(id), "worker container ended and is replaced: {end}");
            }
            engine.remove(id).await
        }
    }
}
