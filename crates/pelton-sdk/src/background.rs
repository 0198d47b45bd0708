//! Work beside the executors.

use crate::BoxFuture;
use std::{fmt, sync::Arc};

type Spawn = dyn Fn(BoxFuture<'static, ()>) + Send + Sync;

/// Runs futures on threads that may wait: an executor must not. Cheap to clone.
#[derive(Clone)]
pub struct Background(Option<Arc<Spawn>>);

impl Background {
    /// Hand futures to `spawn`, which returns at once.
    pub fn new(spawn: impl Fn(BoxFuture<'static, ()>) + Send + Sync + 'static) -> Self {
        Self(Some(Arc::new(spawn)))
    }

    /// For checks and tools: nothing can be run.
    pub fn none() -> Self {
        Self(None)
    }

    /// Whether there is anything to run futures on.
    pub fn available(&self) -> bool {
        self.0.is_some()
    }

    /// Start a future. False when there is nothing to run it on; the future is dropped.
    pub fn spawn(&self, work: impl Future<Output = ()> + Send + 'static) -> bool {
        match &self.0 {
            Some(spawn) => {
                spawn(Box::pin(work));
                true
            }
            None => false,
        }
    }
}

impl fmt::Debug for Background {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Background").field(&self.0.is_some()).finish()
    }
}
