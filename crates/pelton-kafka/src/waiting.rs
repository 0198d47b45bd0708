//! Questions about partitions that a thread asks and waits for: where they begin and end, and what is committed for them.
//!
//! The library's questions that need not be waited for go wrong now and then.
//!
//! - While `rd_kafka_ListOffsets` of librdkafka 2.12.1 does not know all leaders, it makes its request known to the main
//!   thread and goes on with it, and the main thread, told of the leaders meanwhile, has answered and freed it (`eonce` in
//!   `rd_kafka_topic_partition_list_query_leaders_async_worker`): the process dies. Learning leaders and asking for ends
//!   at the same time is what every start of a task does.
//! - `rd_kafka_ListConsumerGroupOffsets` holds on to the coordinator it waits for. A broker that metadata lacks for a moment,
//!   as one does that restarts, is let go of by the library, but not while it is held, and while one is let go of no other is
//!   connected to: the client is deaf until it is closed. And of a request that ran out of time the search for the
//!   coordinator goes on, and then uses what was freed (`rd_kafka_coord_req_fail`).

use crate::{
    consumer::Topic,
    errors::code,
    native::{Client, Failure, Signal},
    requests::{Answer, LogEnd, NO_OFFSET, PartitionAnswer, PartitionList},
};
use pelton_types::Partition;
use rdkafka_sys as sys;
use std::{
    collections::BTreeSet,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
};

/// How long one question may take. What is asked meanwhile waits, and goes out together as far as it may.
const WITHIN_MS: i32 = 5_000;
/// How long each try of one for committed offsets may take. The library asks once it knows the coordinator, which it may
/// learn just after it looked; so the first ones are short.
const TRIES_MS: [i32; 6] = [100, 200, 400, 800, 1_600, 3_200];

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// One end of each partition, as a reader of committed records sees it.
    End(LogEnd),
    /// What the client's group has committed, transactions that are open left out.
    Committed,
}

/// See the module's text.
pub(crate) struct Waiting {
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
    what: What,
}

impl Waiting {
    /// The thread is started by the first question. `signal` is raised with each answer.
    pub(crate) fn new(client: &Arc<Client>, signal: &Arc<Signal>) -> Self {
        Self { client: client.clone(), signal: signal.clone(), shared: Arc::default(), running: false }
    }

    /// Ask this of partitions.
    pub(crate) fn ask(&mut self, number: u64, partitions: &[Partition], what: What) {
        if !self.running {
            let (client, signal, shared) = (self.client.clone(), self.signal.clone(), self.shared.clone());
            let thread = std::thread::Builder::new().name("kafka-waiting".into());
            match thread.spawn(move || shared.run(&client, &signal)) {
                Ok(_) => self.running = true,
                Err(why) => {
                    let failure = Failure::new(code::TIMED_OUT, format!("no thread to ask with: {why}"));
                    self.shared.lock().answered.push((number, Answer::Partitions(Err(failure))));
                    return self.signal.raise();
                }
            }
        }
        self.shared.lock().asked.push(Question { number, partitions: partitions.to_vec(), what });
        self.shared.changed.notify_one();
    }

    /// Nobody waits for the answer any more: what has not gone out need not.
    pub(crate) fn forget(&self, number: u64) {
        self.shared.lock().asked.retain(|question| question.number != number);
    }

    /// Answers that came since the last call, by the numbers of their questions.
    pub(crate) fn answers(&self) -> Vec<(u64, Answer)> {
        std::mem::take(&mut self.shared.lock().answered)
    }
}

impl Drop for Waiting {
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

    fn run(&self, client: &Arc<Client>, signal: &Signal) {
        while let Some((what, questions)) = self.next() {
            let all: BTreeSet<_> = questions.iter().flat_map(|question| &question.partitions).collect();
            let answered = match what {
                What::End(end) => ask_end(client, &all, end),
                What::Committed => ask_committed(client, &all),
            };
            let each = questions.iter().map(|of| (of.number, Answer::Partitions(share(of, &answered))));
            self.lock().answered.extend(each);
            signal.raise();
        }
    }

    /// What goes out next, once something was asked; `None` when nobody will ask any more.
    fn next(&self) -> Option<(What, Vec<Question>)> {
        let idle = |state: &mut State| state.asked.is_empty() && !state.over;
        let waited = self.changed.wait_while(self.lock(), idle);
        let mut state = waited.unwrap_or_else(PoisonError::into_inner);
        if state.over { None } else { together(&mut state.asked) }
    }
}

/// Take out the oldest question, and what goes out with it as one: all for the same end. Of committed offsets each goes for
/// itself, as an open transaction of one partition has all wait that are asked for together. Pure.
fn together(asked: &mut Vec<Question>) -> Option<(What, Vec<Question>)> {
    let what = asked.first()?.what;
    let (now, later) = std::mem::take(asked)
        .into_iter()
        .enumerate()
        .partition::<Vec<_>, _>(|(n, question)| *n == 0 || question.what == what && what != What::Committed);
    *asked = later.into_iter().map(|(_, question)| question).collect();
    Some((what, now.into_iter().map(|(_, question)| question).collect()))
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
fn ask_end(
    client: &Arc<Client>,
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
    find_leaders(client, &answers);
    // "All partitions unknown" is said when none has a leader, and each says why.
    let each_says = code == code::UNKNOWN_PARTITION && answers.iter().all(|answer| answer.failure.is_some());
    if code == 0 || each_says { Ok(answers) } else { Err(Failure::of(code)) }
}

/// Find the leaders of partitions that had none when the client last heard of them. It would ask nobody for them again for a
/// quarter of an hour (`metadata.max.age.ms`), unless it reads the topic too.
fn find_leaders(client: &Arc<Client>, answers: &[PartitionAnswer]) {
    let leaderless = answers.iter().filter(|answer| {
        answer.failure.as_ref().is_some_and(|failure| failure.code == code::LEADER_NOT_AVAILABLE)
    });
    let topics: BTreeSet<&str> = leaderless.map(|answer| &*answer.partition.topic).collect();
    for topic in topics.into_iter().filter_map(|topic| Topic::new(client, topic)) {
        topic.find_leaders(WITHIN_MS);
    }
}

/// Ask what is committed, and wait for the answer.
fn ask_committed(
    client: &Client,
    partitions: &BTreeSet<&Partition>,
) -> Result<Vec<PartitionAnswer>, Failure> {
    let list = PartitionList::new(partitions.iter().map(|partition| (*partition, NO_OFFSET)), None);
    let mut code = code::TIMED_OUT;
    for within in TRIES_MS {
        // SAFETY: a live client and list; the list is filled in, in place.
        code = unsafe { sys::rd_kafka_committed(client.raw(), list.raw(), within) as i32 };
        if code != code::TIMED_OUT {
            break;
        }
    }
    if code == 0 { Ok(list.answers()) } else { Err(Failure::of(code)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_asked_for_together_and_committed_offsets_one_by_one_in_their_order() {
        let end = What::End(LogEnd::Latest);
        let asked = [(1, What::Committed), (2, end), (3, What::Committed), (4, end)];
        let mut asked: Vec<_> =
            asked.map(|(number, what)| Question { number, partitions: Vec::new(), what }).into();
        let mut groups = Vec::new();
        while let Some((_, group)) = together(&mut asked) {
            groups.push(group.iter().map(|question| question.number).collect::<Vec<_>>());
        }
        assert_eq!(groups, [vec![1], vec![2, 4], vec![3]]);
    }

    #[test]
    fn each_question_gets_the_partitions_it_asked_for_or_the_failure_of_all() {
        let of = |index| Partition::new("t", index);
        let answer = |index| PartitionAnswer {
            partition: of(index),
            offset: i64::from(index),
            metadata: None,
            failure: None,
        };
        let question =
            Question { number: 1, partitions: vec![of(1), of(2)], what: What::End(LogEnd::Latest) };
        let all = Ok(vec![answer(0), answer(1), answer(2)]);
        assert_eq!(share(&question, &all), Ok(vec![answer(1), answer(2)]));
        let failure = Failure::of(code::TIMED_OUT);
        assert_eq!(share(&question, &Err(failure.clone())), Err(failure));
    }
}
