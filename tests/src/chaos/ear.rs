//! A client of the harness that has gone deaf is given its brokers again.
//!
//! A metadata answer that names no broker, as a cluster gives whose only one is fenced for a moment, makes librdkafka let go
//! of all it knows, and now and then it looks for none again (<https://github.com/confluentinc/librdkafka/issues/5301>).
//! A harness that goes deaf says nothing of the workers it watches.

use rdkafka::{ClientContext, bindings::rd_kafka_brokers_add, client::Client};
use std::{
    ffi::CString,
    time::{Duration, Instant},
};

/// A client that hears nothing for this long may have nobody to listen to.
const SILENCE: Duration = Duration::from_secs(5);

/// How long a client has heard nothing.
#[derive(Debug)]
pub(super) struct Ear {
    bootstrap: CString,
    heard: Instant,
}

impl Ear {
    /// Of a client that was given these brokers.
    pub fn new(bootstrap: &str) -> Ear {
        Ear { bootstrap: CString::new(bootstrap).unwrap_or_default(), heard: Instant::now() }
    }

    /// Something came.
    pub fn heard(&mut self) {
        self.heard = Instant::now();
    }

    /// Nothing came. If that is so for long, the client connects to its first brokers anew, if it is connected to none.
    pub fn strain<C: ClientContext>(&mut self, client: &Client<C>) {
        if self.heard.elapsed() > SILENCE {
            self.heard();
            // SAFETY: a live client, and a text that ends with a zero; the library copies it.
            unsafe { rd_kafka_brokers_add(client.native_ptr(), self.bootstrap.as_ptr()) };
        }
    }
}
