//! Committed positions of a task's partitions, kept in the pipeline's consumer group.

use crate::{
    alarm::Alarm,
    consumer::SharedConsumer,
    errors::{self, is_passing},
    native::Failure,
    options::Start,
    requests::{Answer, LogEnd, PartitionAnswer, PartitionList},
};
use pelton_sdk::{Committed, EndError, Offsets};
use pelton_types::{Code, Offset, Partition};
use std::{
    sync::Arc,
    task::Poll,
    time::{Duration, Instant},
};

/// A new cluster answers "no coordinator yet" for the first seconds: asked again quietly for this long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Pause before asking again.
const AGAIN: Duration = Duration::from_millis(50);

/// See the module's text.
pub(crate) struct KafkaOffsets {
    consumer: Arc<SharedConsumer>,
    alarm: Alarm,
    start: Start,
    read: Option<Read>,
    commit: Option<Commit>,
    /// The last question for the group's offsets.
    asked: Option<u64>,
    /// The last episode of unreachable brokers that was reported.
    reported: u64,
}

struct Read {
    partitions: Vec<Partition>,
    since: Instant,
    step: ReadStep,
}

enum ReadStep {
    /// The group's offsets were asked for.
    Committed(u64),
    /// Where partitions without one begin or end was asked for.
    Starts { committed: Vec<PartitionAnswer>, number: u64 },
    /// The question goes out again then.
    Again(Instant),
}

struct Commit {
    positions: Vec<(Partition, Offset)>,
    metadata: String,
    since: Instant,
    step: CommitStep,
}

enum CommitStep {
    Sent(u64),
    Again(Instant),
    Refused(Failure),
}

impl KafkaOffsets {
    pub(crate) fn new(consumer: Arc<SharedConsumer>, alarm: Alarm, start: Start) -> Self {
        Self { consumer, alarm, start, read: None, commit: None, asked: None, reported: 0 }
    }

    fn ask_committed(&mut self, partitions: &[Partition]) -> ReadStep {
        let mut state = self.consumer.served();
        if let Some(number) = self.asked.take() {
            // Its answer may be old by now.
            state.requests.forget(number);
        }
        let number = state.requests.committed(partitions);
        self.asked = Some(number);
        ReadStep::Committed(number)
    }

    fn send(&self, positions: &[(Partition, Offset)], metadata: &str) -> CommitStep {
        let list = PartitionList::new(positions.iter().map(|(p, o)| (p, *o)), Some(metadata));
        match self.consumer.served().requests.commit(&list) {
            Ok(number) => CommitStep::Sent(number),
            Err(failure) => CommitStep::Refused(failure),
        }
    }

    /// That no broker lets us in, once for each time.
    fn refused(&mut self) -> Option<EndError> {
        self.consumer.served().reach.refused(&self.consumer.bootstrap, &mut self.reported)
    }

    /// A question for a group whose coordinator the broker keeps from us runs out of time: why, was told elsewhere.
    fn explained(&self, failure: Failure) -> Failure {
        let refusal = self.consumer.served().refusal.clone();
        refusal.filter(|_| failure.code == errors::code::TIMED_OUT).unwrap_or(failure)
    }

    fn again(&self) -> Instant {
        self.alarm.wake_after(AGAIN, &self.consumer.wake);
        Instant::now() + AGAIN
    }

    /// One step of a read: the next step, or its end.
    fn read_on(&mut self, read: &mut Read) -> Poll<Result<Vec<Committed>, EndError>> {
        loop {
            match &mut read.step {
                ReadStep::Again(at) if Instant::now() < *at => return Poll::Pending,
                ReadStep::Again(_) => read.step = self.ask_committed(&read.partitions),
                ReadStep::Committed(number) => {
                    let Some(answer) = self.consumer.served().requests.take(*number) else {
                        let down = self.refused();
                        if read.since.elapsed() < PATIENCE && down.is_none() {
                            return Poll::Pending;
                        }
                        if let Some(error) = down {
                            return Poll::Ready(Err(error));
                        }
                        let state = self.consumer.served();
                        let failure = state.reach.down().cloned();
                        drop(state);
                        let failure = failure.unwrap_or_else(|| Failure::of(errors::code::TIMED_OUT));
                        self.read_failed(read, &failure)?;
                        return Poll::Pending;
                    };
                    self.asked = None;
                    let answer = whole(answer);
                    if answer.is_ok() {
                        self.consumer.served().refusal = None;
                    }
                    match answer {
                        Ok(all) if all.iter().all(|e| e.offset >= 0) => {
                            return Poll::Ready(self.finish(read, all, &[]));
                        }
                        Ok(all) => read.step = self.ask_starts(all),
                        Err(failure) => {
                            let failure = self.explained(failure);
                            self.read_failed(read, &failure)?;
                        }
                    }
                }
                ReadStep::Starts { committed, number } => {
                    let Some(answer) = self.consumer.served().requests.take(*number) else {
                        return Poll::Pending;
                    };
                    match whole(answer) {
                        Ok(starts) => {
                            let committed = std::mem::take(committed);
                            return Poll::Ready(self.finish(read, committed, &starts));
                        }
                        Err(failure) => self.read_failed(read, &failure)?,
                    }
                }
            }
        }
    }

    fn ask_starts(&self, committed: Vec<PartitionAnswer>) -> ReadStep {
        let end = match self.start {
            Start::Earliest => LogEnd::Earliest,
            Start::Latest => LogEnd::Latest,
        };
        let missing: Vec<_> =
            committed.iter().filter(|e| e.offset < 0).map(|e| e.partition.clone()).collect();
        let number = self.consumer.served().requests.log_ends(&missing, end);
        ReadStep::Starts { committed, number }
    }

    fn read_failed(&self, read: &mut Read, failure: &Failure) -> Result<(), EndError> {
        if is_passing(failure.code) && read.since.elapsed() < PATIENCE {
            read.step = ReadStep::Again(self.again());
            return Ok(());
        }
        if errors::is_missing(failure.code) {
            let topic = read.partitions.first().map_or("", |p| &*p.topic);
            return Err(errors::missing(topic, &self.consumer.bootstrap));
        }
        let topic = read.partitions.first().map_or("", |p| &*p.topic);
        Err(errors::reading_offsets(&self.consumer.group, topic, &self.consumer.bootstrap, failure))
    }

    fn finish(
        &self,
        read: &Read,
        committed: Vec<PartitionAnswer>,
        starts: &[PartitionAnswer],
    ) -> Result<Vec<Committed>, EndError> {
        read.partitions
            .iter()
            .map(|partition| {
                let found = committed.iter().find(|e| e.partition == *partition);
                let start = starts.iter().find(|e| e.partition == *partition).map(|e| e.offset);
                committed_of(&self.consumer.group, partition, found, start)
            })
            .collect()
    }
}

/// A whole answer, or the first failure in it.
fn whole(answer: Answer) -> Result<Vec<PartitionAnswer>, Failure> {
    let Answer::Partitions(all) = answer else { return Ok(Vec::new()) };
    let all = all?;
    match all.iter().find_map(|e| e.failure.clone()) {
        Some(failure) => Err(failure),
        None => Ok(all),
    }
}

/// What was committed for a partition, with `start` for one that has nothing. Pure.
fn committed_of(
    group: &str,
    partition: &Partition,
    found: Option<&PartitionAnswer>,
    start: Option<Offset>,
) -> Result<Committed, EndError> {
    let offset = found.map(|e| e.offset).filter(|o| *o >= 0);
    let bytes = found.and_then(|e| e.metadata.clone()).unwrap_or_default();
    let metadata = String::from_utf8(bytes).map_err(|e| {
        EndError::stop(
            Code::ForeignOffsets,
            format!(
                "the offset of {partition} in group {group} was committed with metadata that is no text \
                 ({:?}): another program commits under this group id",
                String::from_utf8_lossy(e.as_bytes())
            ),
        )
    })?;
    let Some(start) = offset.or(start) else {
        let text = format!("the broker did not say where {partition} begins");
        return Err(EndError::retry(Code::SourceFailed, text));
    };
    let metadata = Some(metadata).filter(|m| offset.is_some() && !m.is_empty());
    Ok(Committed { partition: partition.clone(), offset, start, metadata })
}

impl Offsets for KafkaOffsets {
    fn start_read(&mut self, partitions: &[Partition]) {
        let step = self.ask_committed(partitions);
        self.alarm.wake_after(PATIENCE, &self.consumer.wake);
        self.read = Some(Read { partitions: partitions.to_vec(), since: Instant::now(), step });
    }

    fn poll_read(&mut self) -> Poll<Result<Vec<Committed>, EndError>> {
        let Some(mut read) = self.read.take() else { return Poll::Pending };
        if read.partitions.is_empty() {
            return Poll::Ready(Ok(Vec::new()));
        }
        let polled = self.read_on(&mut read);
        if polled.is_pending() {
            self.read = Some(read);
        }
        polled
    }

    fn start_commit(&mut self, positions: &[(Partition, Offset)], metadata: &str) {
        if let Some(Commit { step: CommitStep::Sent(number), .. }) = self.commit.take() {
            self.consumer.served().requests.forget(number);
        }
        self.commit = Some(Commit {
            positions: positions.to_vec(),
            metadata: metadata.to_owned(),
            since: Instant::now(),
            step: self.send(positions, metadata),
        });
    }

    fn poll_commit(&mut self) -> Poll<Result<(), EndError>> {
        let Some(mut commit) = self.commit.take() else { return Poll::Pending };
        if commit.positions.is_empty() {
            return Poll::Ready(Ok(()));
        }
        let failure = match &commit.step {
            CommitStep::Again(at) if Instant::now() < *at => {
                self.commit = Some(commit);
                return Poll::Pending;
            }
            CommitStep::Again(_) => {
                commit.step = self.send(&commit.positions, &commit.metadata);
                self.commit = Some(commit);
                return Poll::Pending;
            }
            CommitStep::Refused(failure) => failure.clone(),
            CommitStep::Sent(number) => match self.consumer.served().requests.take(*number).map(whole) {
                None => {
                    self.commit = Some(commit);
                    return Poll::Pending;
                }
                Some(Ok(_)) => return Poll::Ready(Ok(())),
                Some(Err(failure)) => failure,
            },
        };
        if is_passing(failure.code) && commit.since.elapsed() < PATIENCE {
            commit.step = CommitStep::Again(self.again());
            self.commit = Some(commit);
            return Poll::Pending;
        }
        let topic = commit.positions.first().map_or("", |(p, _)| &*p.topic);
        Poll::Ready(Err(errors::committing(&self.consumer.group, topic, &self.consumer.bootstrap, &failure)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_sdk::ErrorKind;

    fn found(offset: Offset, metadata: Option<&[u8]>) -> PartitionAnswer {
        let metadata = metadata.map(<[u8]>::to_vec);
        PartitionAnswer { partition: Partition::new("t", 0), offset, metadata, failure: None }
    }

    #[test]
    fn a_commit_decides_where_to_start_and_otherwise_the_log_does() {
        let p = Partition::new("t", 0);
        let c = committed_of("g", &p, Some(&found(7, Some(b"p1;e=1"))), Some(3)).unwrap();
        assert_eq!((c.offset, c.start, c.metadata.as_deref()), (Some(7), 7, Some("p1;e=1")));
        let c = committed_of("g", &p, Some(&found(-1001, Some(b""))), Some(3)).unwrap();
        assert_eq!((c.offset, c.start, c.metadata), (None, 3, None));
        assert_eq!(committed_of("g", &p, None, None).unwrap_err().kind, ErrorKind::Retry);
    }

    #[test]
    fn metadata_that_is_no_text_is_an_error_that_shows_it() {
        let e =
            committed_of("g", &Partition::new("t", 0), Some(&found(7, Some(b"\xffabc"))), None).unwrap_err();
        assert_eq!((e.kind, e.code), (ErrorKind::Stop, Code::ForeignOffsets));
        assert!(e.message.contains("abc"), "{}", e.message);
    }

    #[test]
    fn one_failed_partition_fails_the_answer() {
        let mut bad = found(-1001, None);
        bad.failure = Some(Failure::of(crate::errors::code::NOT_COORDINATOR));
        let answer = Answer::Partitions(Ok(vec![found(1, None), bad]));
        assert_eq!(whole(answer).unwrap_err().code, crate::errors::code::NOT_COORDINATOR);
    }
}
