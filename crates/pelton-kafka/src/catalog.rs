//! Topics of one cluster, for the coordinator. Calls wait on a thread of their own, whatever runs the future.

use crate::{
    errors::{self, Reachability, code, is_missing, is_passing},
    link::Link,
    native::{Client, ClientKind, Failure, Queue},
    requests::{Answer, Requests, TopicShape},
    settings,
};
use pelton_sdk::{BoxFuture, Durability, EndError, TopicCatalog, Wake};
use pelton_types::Code;
use rdkafka_sys as sys;
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
    /// Or why there is none.
    link: Result<Arc<Link>, String>,
    /// Made by the first call, kept for its connections.
    client: Mutex<Option<Admin>>,
}

/// A client, and where it complains.
#[derive(Clone)]
struct Admin {
    client: Arc<Client>,
    complaints: Arc<Queue>,
    reach: Arc<Mutex<Reachability>>,
}

/// Questions of one call.
struct Asking {
    admin: Admin,
    requests: Requests,
    brokers: String,
    /// That no broker lets us in was heard since this call began: before, the cause may have been mended.
    refused: bool,
}

impl KafkaCatalog {
    pub(crate) fn new(link: Result<Arc<Link>, String>) -> Self {
        Self { inner: Arc::new(Inner { link, client: Mutex::default() }) }
    }
}

impl TopicCatalog for KafkaCatalog {
    fn partitions<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<u32>, EndError>> {
        let (inner, topic) = (self.inner.clone(), topic.to_owned());
        on_thread(move || inner.partitions(&topic))
    }

    fn durability<'a>(&'a self, topic: &'a str) -> BoxFuture<'a, Result<Option<Durability>, EndError>> {
        let (inner, topic) = (self.inner.clone(), topic.to_owned());
        on_thread(move || inner.durability(&topic))
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
    fn asking(&self) -> Result<Asking, EndError> {
        let link = self.link.as_ref().map_err(|why| EndError::stop(Code::BadConnection, why.clone()))?;
        let mut admin = self.client.lock().unwrap_or_else(PoisonError::into_inner);
        let admin = match &*admin {
            Some(admin) => admin.clone(),
            None => {
                let client = Client::new(ClientKind::Producer, &settings::admin(link), link)?;
                let complaints = Arc::new(Queue::main(&client, ClientKind::Producer, &Wake::none()));
                admin.insert(Admin { client, complaints, reach: Arc::default() }).clone()
            }
        };
        let requests = Requests::new(&admin.client, &Wake::none());
        let mut asking = Asking { admin, requests, brokers: link.label.clone(), refused: false };
        asking.listen();
        asking.refused = false;
        Ok(asking)
    }

    fn partitions(&self, topic: &str) -> Result<Option<u32>, EndError> {
        Ok(self.shape(topic)?.map(|shape| shape.partitions))
    }

    fn durability(&self, topic: &str) -> Result<Option<Durability>, EndError> {
        let Some(shape) = self.shape(topic)? else { return Ok(None) };
        let mut asking = self.asking()?;
        let number = asking.requests.topic_settings(topic, REQUEST_WITHIN_MS);
        let settings = match asking.answer(number)? {
            Some(Answer::Settings(Ok(settings))) => settings,
            Some(Answer::Settings(Err(failure))) => {
                return Err(asking.failed("describeConfigs", topic, &failure));
            }
            _ => return Err(asking.failed("describeConfigs", topic, &Failure::of(code::TIMED_OUT))),
        };
        let min = settings.iter().find(|(name, _)| name == "min.insync.replicas");
        let min_in_sync = min.and_then(|(_, value)| value.parse().ok()).unwrap_or(1);
        Ok(Some(Durability { replicas: shape.replicas, min_in_sync }))
    }

    /// `None` when the topic does not exist.
    fn shape(&self, topic: &str) -> Result<Option<TopicShape>, EndError> {
        let mut asking = self.asking()?;
        let since = Instant::now();
        loop {
            let number = asking.requests.describe(&[topic], REQUEST_WITHIN_MS);
            let failure = match asking.answer(number)? {
                Some(Answer::Topics(Ok(mut all))) => match all.pop().map(|(_, shape)| shape) {
                    Some(Ok(shape)) if shape.partitions > 0 => return Ok(Some(shape)),
                    Some(Err(failure)) if is_missing(failure.code) => return Ok(None),
                    Some(Err(failure)) => failure,
                    Some(Ok(_)) | None => Failure::of(code::LEADER_NOT_AVAILABLE),
                },
                Some(Answer::Topics(Err(failure))) => failure,
                _ => Failure::of(code::TIMED_OUT),
            };
            if !is_passing(failure.code) || since.elapsed() >= WITHIN {
                return Err(asking.failed("describe", topic, &failure));
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
        let mut asking = self.asking()?;
        let since = Instant::now();
        loop {
            let failure = match asking.requests.create(topic, count, REQUEST_WITHIN_MS) {
                Err(failure) => failure,
                Ok(number) => match asking.answer(number)? {
                    Some(Answer::Created(Ok(mut all))) => match all.pop().and_then(|(_, failure)| failure) {
                        None => break,
                        Some(failure) if failure.code == code::TOPIC_EXISTS => break,
                        Some(failure) => failure,
                    },
                    Some(Answer::Created(Err(failure))) => failure,
                    _ => Failure::of(code::TIMED_OUT),
                },
            };
            if !is_passing(failure.code) || since.elapsed() >= WITHIN {
                return Err(asking.failed("create", topic, &failure));
            }
            std::thread::sleep(AGAIN);
        }
        // The broker answers before every part of it knows the topic.
        while self.partitions(topic)?.is_none() {
            if since.elapsed() >= WITHIN {
                let text = format!("topic {topic} was created but does not show at {}", asking.brokers);
                return Err(EndError::retry(Code::TopicMissing, text));
            }
            std::thread::sleep(AGAIN);
        }
        Ok(())
    }

    fn delete(&self, topic: &str) -> Result<(), EndError> {
        let mut asking = self.asking()?;
        let since = Instant::now();
        loop {
            let number = asking.requests.delete(topic, REQUEST_WITHIN_MS);
            let failure = match asking.answer(number)? {
                Some(Answer::Deleted(Ok(mut all))) => match all.pop().and_then(|(_, failure)| failure) {
                    None => return Ok(()),
                    Some(failure) if is_missing(failure.code) => return Ok(()),
                    Some(failure) => failure,
                },
                Some(Answer::Deleted(Err(failure))) => failure,
                _ => Failure::of(code::TIMED_OUT),
            };
            if !is_passing(failure.code) || since.elapsed() >= WITHIN {
                return Err(asking.failed("delete", topic, &failure));
            }
            std::thread::sleep(AGAIN);
        }
    }
}

impl Asking {
    /// The answer; `None` when there was none in time. An error as soon as it is clear that no broker lets us in.
    fn answer(&mut self, number: u64) -> Result<Option<Answer>, EndError> {
        let since = Instant::now();
        loop {
            // The library answers every request, with a time-out if need be; twice its limit is only a guard.
            if let Some(answer) = self.requests.take(number) {
                return Ok(Some(answer));
            }
            self.listen();
            if self.refused
                && let Some(error) = self.down()
            {
                self.requests.forget(number);
                return Err(error);
            }
            if since.elapsed() > 2 * Duration::from_millis(REQUEST_WITHIN_MS as u64) {
                self.requests.forget(number);
                return Ok(None);
            }
            self.requests.wait(100);
        }
    }

    /// Take in what the client complains of.
    fn listen(&mut self) {
        let mut reach = self.admin.reach.lock().unwrap_or_else(PoisonError::into_inner);
        if self.requests.successes > 0 {
            reach.answered();
            self.admin.client.answered();
        }
        while let Some(event) = self.admin.complaints.next_event(0) {
            if event.kind() == sys::RD_KAFKA_EVENT_ERROR
                && let Some(failure) = event.failure()
            {
                let failure = self.admin.client.explain(failure);
                self.refused |= errors::unreachable("", &failure).code != Code::BrokerUnreachable;
                reach.heard(failure);
            }
        }
    }

    /// Why no broker is there, if that is so.
    fn down(&self) -> Option<EndError> {
        let reach = self.admin.reach.lock().unwrap_or_else(PoisonError::into_inner);
        reach.down().map(|failure| errors::unreachable(&self.brokers, failure))
    }

    fn failed(&self, what: &str, topic: &str, failure: &Failure) -> EndError {
        let brokers = &self.brokers;
        if is_passing(failure.code) || errors::is_unreachable(failure.code) {
            let down = self.down().unwrap_or_else(|| errors::unreachable(brokers, failure));
            return EndError::retry(down.code, format!("cannot {what} topic {topic}: {}", down.message));
        }
        match (what, failure.code) {
            ("create", code::TOPIC_AUTHORIZATION | code::CLUSTER_AUTHORIZATION) => {
                errors::forbidden("Create", &format!("topic {topic}"), brokers, failure)
            }
            ("describeConfigs", code::TOPIC_AUTHORIZATION) => {
                errors::forbidden("DescribeConfigs", &format!("topic {topic}"), brokers, failure)
            }
            (_, code::TOPIC_AUTHORIZATION) => errors::unseen(topic, brokers, failure),
            _ => EndError::stop(
                Code::TopicMissing,
                format!("cannot {what} topic {topic} at {brokers}: {} (code {})", failure.text, failure.code),
            ),
        }
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
