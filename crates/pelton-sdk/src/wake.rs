//! The one handle an executor sleeps on.

use std::{fmt, sync::Arc, thread::Thread};

/// Wakes an executor. Cheap to clone; may be called from any thread, any number of times.
#[derive(Clone)]
pub struct Wake(Arc<dyn Fn() + Send + Sync>);

impl Wake {
    /// A handle that runs `wake`, which must return at once.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(wake))
    }

    /// A handle that unparks a thread.
    pub fn thread(thread: Thread) -> Self {
        Self::new(move || thread.unpark())
    }

    /// A handle that does nothing, for whoever polls anyway.
    pub fn none() -> Self {
        Self::new(|| {})
    }

    /// Something may be ready now.
    pub fn wake(&self) {
        (self.0)();
    }
}

impl fmt::Debug for Wake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Wake")
    }
}
