//! Wakes executors a little later, for what the library gives no signal for: room in a producer's queue, and asking
//! a broker again.

use pelton_sdk::Wake;
use std::{
    cmp::{Ordering, Reverse},
    collections::BinaryHeap,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::{Duration, Instant},
};

/// A thread that sleeps until the next wake-up is due, and forever when none is. It ends with the last handle.
#[derive(Clone)]
pub(crate) struct Alarm(Arc<Handle>);

struct Handle(Arc<Shared>);

struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    due: BinaryHeap<Reverse<Due>>,
    running: bool,
    over: bool,
}

struct Due {
    at: Instant,
    wake: Wake,
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.at == other.at
    }
}
impl Eq for Due {}
impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        self.at.cmp(&other.at)
    }
}

impl Alarm {
    pub(crate) fn new() -> Self {
        let shared = Shared { state: Mutex::default(), changed: Condvar::new() };
        Self(Arc::new(Handle(Arc::new(shared))))
    }

    /// Wake after this long. The first call starts the thread.
    pub(crate) fn wake_after(&self, delay: Duration, wake: &Wake) {
        let shared = &self.0.0;
        let mut state = shared.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.due.push(Reverse(Due { at: Instant::now() + delay, wake: wake.clone() }));
        if !state.running {
            let for_thread = shared.clone();
            let started =
                std::thread::Builder::new().name("kafka-alarm".into()).spawn(move || for_thread.run());
            state.running = started.is_ok();
        }
        drop(state);
        shared.changed.notify_one();
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner).over = true;
        self.0.changed.notify_one();
    }
}

impl Shared {
    fn run(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while !state.over {
            let now = Instant::now();
            state = match state.due.peek().map(|Reverse(d)| d.at) {
                Some(at) if at <= now => {
                    let due = state.due.pop();
                    drop(state);
                    if let Some(Reverse(due)) = due {
                        due.wake.wake();
                    }
                    self.state.lock().unwrap_or_else(PoisonError::into_inner)
                }
                Some(at) => {
                    self.changed.wait_timeout(state, at - now).unwrap_or_else(PoisonError::into_inner).0
                }
                None => self.changed.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    #[test]
    fn wake_ups_come_in_order_of_their_time() {
        let alarm = Alarm::new();
        let (tx, rx) = mpsc::channel();
        for delay in [40, 5, 20] {
            let tx = tx.clone();
            let wake = Wake::new(move || tx.send(delay).unwrap_or_default());
            alarm.wake_after(Duration::from_millis(delay), &wake);
        }
        drop(tx);
        let order: Vec<u64> = rx.iter().take(3).collect();
        assert_eq!(order, [5, 20, 40]);
    }
}
