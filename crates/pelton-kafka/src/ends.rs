//! Where partitions begin and end, asked by a thread that waits for the answer.
//!
//! The library's question that need not be waited for kills the process now and then: while `rd_kafka_ListOffsets` of
//! librdkafka 2.12.1 does not know all leaders, it makes its request known to the main thread and goes on with it, and
//! the main thread, told of the leaders meanwhile, has answered and freed it (`eonce` in
//! `rd_kafka_topic_partition_list_query_leaders_async_worker`). Learning leaders and asking for ends at the same time is
//! what every start of a task does.

use crate::{
    errors::code,
    native::{Client, Failure, Signal},
    requests::{Answer, LogEnd, PartitionAnswer, PartitionList},
};
use pelton_types::Partition;
use rdkafka_sys as sys;
use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// How long one question may take. What is asked meanwhile waits and goes out as one.
const WITHIN_MS: i32 = 5_000;

/// See the module's text.
pub(crate) struct Ends {
    client: Arc<Client>,
    signal: Arc<Signal>,
    shared: Arc<Shared>,
    running: bool,
}

#[derive(Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    asked: Vec<Question>,
    answered: Vec<(u64, Answer)>,
    over: bool,
}

struct Question {
    number: u64,
    partitions: Vec<Partition>,
    end: LogEnd,
}

impl Ends {
    /// The thread is started by the first question. `signal` is raised with each answer.
    pub(crate) fn new(client: &Arc<Client>, signal: &Arc<Signal>) -> Self {
        Self { client: client.clone(), signal: signal.clone(), shared: Arc::default(), running: false }
    }

    /// Ask for one end of partitions, as a reader of committed records sees it.
    pub(crate) fn ask(&mut self, number: u64, partitions: &[Partition], end: LogEnd) {
        if !self.running {
            let (client, signal, shared) = (self.client.clone(), self.signal.clone(), self.shared.clone());
            let thread = std::thread::Builder::new().name("kafka-ends".into());
            match thread.spawn(move || shared.run(&client, &signal)) {
                Ok(_) => self.running = true,
                Err(why) => {
                    let failure = Failure::new(code::TIMED_OUT, format!("no thread to ask with: {why}"));
                    self.shared.lock().answered.push((number, Answer::Partitions(Err(failure))));
                    return self.signal.raise();
                }
            }
        }
        self.shared.lock().asked.push(Question { number, partitions: partitions.to_vec(), end });
        self.shared.changed.notify_one();
    }

    /// Answers that came since the last call, by the numbers of their questions.
    pub(crate) fn answers(&self) -> Vec<(u64, Answer)> {
        std::mem::take(&mut self.shared.lock().answered)
    }
}

impl Drop for Ends {
    /// The thread ends after the question it waits for.
    fn drop(&mut self) {
        self.shared.lock().over = true;
        self.shared.changed.notify_one();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn run(&self, client: &Client, signal: &Signal) {
        while let Some(questions) = self.next() {
            let (first, last): (Vec<_>, Vec<_>) =
                questions.into_iter().partition(|question| question.end == LogEnd::Earliest);
            for (end, questions) in [(LogEnd::Earliest, first), (LogEnd::Latest, last)] {
                let all: BTreeSet<_> = questions.iter().flat_map(|question| &question.partitions).collect();
                if all.is_empty() {
                    continue;
                }
                let answered = ask(client, &all, end);
                let each = questions.iter().map(|of| (of.number, Answer::Partitions(share(of, &answered))));
                self.lock().answered.extend(each);
                signal.raise();
            }
        }
    }

    /// All that was asked, once something was; `None` when nobody will ask any more.
    fn next(&self) -> Option<Vec<Question>> {
        let idle = |state: &mut State| state.asked.is_empty() && !state.over;
        let waited = self.changed.wait_while(self.lock(), idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        (!state.over).then(|| std::mem::take(&mut state.asked))
    }
}

/// What of an answer to several questions belongs to one of them. Pure.
fn share(
    question: &Question,
    answered: &Result<Vec<PartitionAnswer>, Failure>,
) -> Result<Vec<PartitionAnswer>, Failure> {
    let all = answered.as_ref().map_err(Clone::clone)?;
    Ok(all.iter().filter(|answer| question.partitions.contains(&answer.partition)).cloned().collect())
}

/// Ask, and wait for the answer. The client's own level of isolation decides what the end is.
fn ask(
    client: &Client,
    partitions: &BTreeSet<&Partition>,
    end: LogEnd,
) -> Result<Vec<PartitionAnswer>, Failure> {
    // Times that stand for an end, in Kafka's protocol as here.
    let time = match end {
        LogEnd::Earliest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_EARLIEST,
        LogEnd::Latest => sys::rd_kafka_OffsetSpec_t::RD_KAFKA_OFFSET_SPEC_LATEST,
    };
    let list = PartitionList::new(partitions.iter().map(|partition| (*partition, time as i64)), None);
    // SAFETY: a live client and list; the list is filled in, in place.
    let code = unsafe { sys::rd_kafka_offsets_for_times(client.raw(), list.raw(), WITHIN_MS) as i32 };
    let answers = list.answers();
    // "All partitions unknown" is said when none has a leader, and each says why.
    let each_says = code == code::UNKNOWN_PARTITION && answers.iter().all(|answer| answer.failure.is_some());
    if code == 0 || each_says { Ok(answers) } else { Err(Failure::of(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_question_gets_the_partitions_it_asked_for_or_the_failure_of_all() {
        let of = |index| Partition::new("t", index);
        let answer = |index| PartitionAnswer {
            partition: of(index),
            offset: i64::from(index),
            metadata: None,
            failure: None,
        };
        let question = Question { number: 1, partitions: vec![of(1), of(2)], end: LogEnd::Latest };
        let all = Ok(vec![answer(0), answer(1), answer(2)]);
        assert_eq!(share(&question, &all), Ok(vec![answer(1), answer(2)]));
        let failure = Failure::of(code::TIMED_OUT);
        assert_eq!(share(&question, &Err(failure.clone())), Err(failure));
    }
}
