//! What librdkafka says when it is not let in.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use rdkafka::ClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer, ConsumerContext};
use rdkafka::error::KafkaError;
use rdkafka::types::RDKafkaErrorCode;

use crate::Target;

/// What was told.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The kind of it.
    pub code: RDKafkaErrorCode,
    /// In words.
    pub reason: String,
}

#[derive(Debug, Default)]
struct Heard(Mutex<Option<Refusal>>);

impl ClientContext for Heard {
    fn error(&self, error: KafkaError, reason: &str) {
        if let Some(code) = error.rdkafka_error_code() {
            self.0.lock().unwrap().get_or_insert(Refusal { code, reason: reason.to_owned() });
        }
    }

    fn log(&self, _level: rdkafka::config::RDKafkaLogLevel, _facility: &str, _message: &str) {}
}

impl ConsumerContext for Heard {}

/// Why a client does not get in: the first error that is told. Panics if it gets in.
pub fn refusal_of(target: &Target) -> Refusal {
    let mut config = target.config();
    config.set("group.id", "refused");
    let client: BaseConsumer<Heard> = config.create_with_context(Heard::default()).unwrap();
    let deadline = Instant::now() + target.patience;
    loop {
        let seen = client.fetch_metadata(None, Duration::from_millis(100));
        assert!(seen.is_err(), "a client got in through {}", target.bootstrap());
        let _ = client.poll(Duration::from_millis(10));
        if let Some(first) = client.context().0.lock().unwrap().clone() {
            return first;
        }
        assert!(Instant::now() < deadline, "no error within {:?}", target.patience);
    }
}
