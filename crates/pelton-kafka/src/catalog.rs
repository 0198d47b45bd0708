//! Topics of the default cluster, for the coordinator. Calls wait on a thread of their own, whatever runs the future.

use crate::{
    errors::{self, code, is_missing, is_passing},
    native::{Client, ClientKind, Failure},
    requests::{Answer, Requests},
    settings::{self, KafkaOptions},
};
use pelton_sdk::{BoxFuture, EndError, TopicCatalog, Wake};
use pelton_types::Code;
use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

/// How long a call may take in all.
const WITHIN: Duration = Duration::from_secs(4);
/// How long one request may take.
const REQUEST_WITHIN_MS: i32 = 3_000;
/// Pause between two looks.
const AGAIN: Duration = Duration::from_millis(50);

/// See the module's text.
pub(crate) struct KafkaCatalog {
    inner: Arc<Inner>,
}

struct Inner {
    options: KafkaOptions,
    /// Made by the first call, kept for its connections.
    client: Mutex<Option<Arc<Client>>>,
}

impl KafkaCatalog {
    pub(crate) fn new(options: KafkaOptions) -> Self {
        Self { inner: Arc::new(Inner { options, client: Mutex::default() }) }
    }
}

impl TopicCatalog for KafkaCatalog {
    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<u32>, EndError>> {
        let (inner, topic) = (self.inner.clone(), topic.to_owned());
        on_thread(move || inner.partitions(&topic))
    }

    fn create<'a>(&'a self, topic: &'a str, partitions: u32) -> BoxFuture<'a, Result<(), EndError>> {
        let (inner, topic) = (self.inner.clone(), topic.to_owned());
        on_thread(move || inner.create(&topic, partitions))
    }

    fn delete<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<(), EndError>> {
        let (inner, topic) = (self.inner.clone(), topic.to_owned());
        on_thread(move || inner.delete(&topic))
    }
}

impl Inner {
    fn requests(&self) -> Result<Requests, EndError> {
        let mut client = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let client = match &*client {
            Some(client) => client.clone(),
            None => {
                let made = Client::new(ClientKind::Producer, &settings::admin(&self.options))
                    .map_err(|why| EndError::stop(Code::BrokerUnreachable, why))?;
                client.insert(made).clone()
            }
        };
        Ok(Requests::new(&client, &Wake::none()))
    }

    fn partitions(&self, topic: &str) -> Result<Option<u32>, EndError> {
        let mut requests = self.requests()?;
        let since = Instant::now();
        loop {
            let number = requests.describe(&[topic], REQUEST_WITHIN_MS);
            let failure = match await_answer(&mut requests, number) {
                Some(Answer::Topics(Ok(mut all))) => match all.pop().map(|(_, count)| count) {
                    Some(Ok(count)) if count > 0 => return Ok(Some(count)),
                    Some(Err(failure)) if is_missing(failure.code) => return Ok(None),
                    Some(Err(failure)) => failure,
                    Some(Ok(_)) | None => Failure::of(code::LEADER_NOT_AVAILABLE),
                },
                Some(Answer::Topics(Err(failure))) => failure,
                _ => Failure::of(code::TIMED_OUT),
            };
            if !is_passing(failure.code) || since.elapsed() >= WITHIN {
                return Err(self.failed("describe", topic, &failure));
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn create(&self, topic: &str, partitions: u32) -> Result<(), EndError> {
        let count = i32::try_from(partitions).ok().filter(|n| *n > 0).ok_or_else(|| {
            EndError::stop(Code::TopicMissing, format!("topic {topic} cannot have {partitions} partitions"))
        })?;
        if let Some(fault) = crate::options::topic_fault(topic) {
            return Err(EndError::stop(Code::TopicMissing, fault));
        }
        let mut requests = self.requests()?;
        let since = Instant::now();
        loop {
            let asked = requests.create(topic, count, REQUEST_WITHIN_MS);
            let failure = match asked.map(|number| await_answer(&mut requests, number)) {
                Ok(Some(Answer::Created(Ok(mut all)))) => match all.pop().and_then(|(_, failure)| failure) {
                    None => break,
                    Some(failure) if failure.code == code::TOPIC_EXISTS => break,
                    Some(failure) => failure,
                },
                Ok(Some(Answer::Created(Err(failure)))) | Err(failure) => failure,
                Ok(_) => Failure::of(code::TIMED_OUT),
            };
            if !is_passing(failure.code) || since.elapsed() >= WITHIN {
                return Err(self.failed("create", topic, &failure));
            }
            std::thread::sleep(AGAIN);
        }
        // The broker answers before every part of it knows the topic.
        while self.partitions(topic)?.is_none() {
            if since.elapsed() >= WITHIN {
                let text =
                    format!("topic {topic} was created but does not show at {}", self.options.bootstrap);
                return Err(EndError::retry(Code::TopicMissing, text));
            }
            std::thread::sleep(AGAIN);
        }
        Ok(())
    }

    fn delete(&self, topic: &str) -> Result<(), EndError> {
        let mut requests = self.requests()?;
        let since = Instant::now();
        loop {
            let number = requests.delete(topic, REQUEST_WITHIN_MS);
            let failure = match await_answer(&mut requests, number) {
                Some(Answer::Deleted(Ok(mut all))) => match all.pop().and_then(|(_, failure)| failure) {
                    None => return Ok(()),
                    Some(failure) if is_missing(failure.code) => return Ok(()),
                    Some(failure) => failure,
                },
                Some(Answer::Deleted(Err(failure))) => failure,
                _ => Failure::of(code::TIMED_OUT),
            };
            if !is_passing(failure.code) || since.elapsed() >= WITHIN {
                return Err(self.failed("delete", topic, &failure));
            }
            std::thread::sleep(AGAIN);
        }
    }

    fn failed(&self, what: &str, topic: &str, failure: &Failure) -> EndError {
        let brokers = &self.options.bootstrap;
        if is_passing(failure.code) || errors::is_unreachable(failure.code) {
            let text = format!("cannot {what} topic {topic}: no answer from {brokers} ({})", failure.text);
            return EndError::retry(Code::BrokerUnreachable, text);
        }
        EndError::stop(
            Code::TopicMissing,
            format!("cannot {what} topic {topic} at {brokers}: {} (code {})", failure.text, failure.code),
        )
    }
}

fn await_answer(requests: &mut Requests, number: u64) -> Option<Answer> {
    let since = Instant::now();
    loop {
        // The library answers every request, with a time-out if need be; twice its limit is only a guard.
        if let Some(answer) = requests.take(number) {
            return Some(answer);
        }
        if since.elapsed() > 2 * Duration::from_millis(REQUEST_WITHIN_MS as u64) {
            requests.forget(number);
            return None;
        }
        requests.wait(100);
    }
}

/// Run `call` on a thread, and hand its result to whoever awaits it.
fn on_thread<T: Send + 'static>(
    call: impl FnOnce() -> Result<T, EndError> + Send + 'static,
) -> BoxFuture<'static, Result<T, EndError>> {
    let slot: Arc<Mutex<Slot<T>>> = Arc::default();
    let of_thread = slot.clone();
    let started = std::thread::Builder::new().name("kafka-catalog".into()).spawn(move || {
        let result = call();
        let mut slot = of_thread.lock().unwrap_or_else(PoisonError::into_inner);
        slot.result = Some(result);
        if let Some(waker) = slot.waker.take() {
            waker.wake();
        }
    });
    if let Err(why) = started {
        let text = format!("no thread to ask with: {why}");
        slot.lock().unwrap_or_else(PoisonError::into_inner).result =
            Some(Err(EndError::retry(Code::BrokerUnreachable, text)));
    }
    Box::pin(Reply(slot))
}

struct Slot<T> {
    result: Option<Result<T, EndError>>,
    waker: Option<Waker>,
}

impl<T> Default for Slot<T> {
    fn default() -> Self {
        Self { result: None, waker: None }
    }
}

struct Reply<T>(Arc<Mutex<Slot<T>>>);

impl<T> Future for Reply<T> {
    type Output = Result<T, EndError>;
    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let mut slot = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.result.take() {
            Some(result) => Poll::Ready(result),
            None => {
                slot.waker = Some(context.waker().clone());
                Poll::Pending
            }
        }
    }
}
