//! One round of a task's work: read, process, book, write, cut, flush.

use super::Task;
use crate::{
    ages::Stamps,
    chain::{LostRecords, Output},
    dead_letter::dead_letter,
    outputs::OutputQueue,
    trouble,
};
use pelton_checkpoint::Event;
use pelton_sabotage::{Defect, breaks};
use pelton_sdk::{ErrorKind, Failed, Polled};
use pelton_telemetry::batch::BatchSpan;
use pelton_types::{Batch, Code, Incident};
use std::{task::Poll, time::Instant};

/// Records that may wait in front of a sink for an offset before them; then reading waits too.
const HELD_BACK_AT_MOST: u64 = 20_000;

impl Task {
    /// One round of reading, processing and writing.
    pub(super) fn work(&mut self, now: Instant) -> bool {
        let result = self.try_work(now);
        match result {
            Ok(progressed) => progressed,
            Err(incident) => {
                if incident.stops_task {
                    tracing::error!(task = %self.grant.task, epoch = self.grant.epoch, code = %incident.code, "{incident}");
                } else {
                    tracing::warn!(task = %self.grant.task, epoch = self.grant.epoch, code = %incident.code, "{incident}");
                }
                self.incident = Some(incident.clone());
                self.tell(Event::WorkFailed(incident));
                true
            }
        }
    }

    fn try_work(&mut self, now: Instant) -> Result<bool, Incident> {
        let mut out = Output::default();
        let again = self.chain.poll(now, &mut out).map_err(|lost| panicked(&lost))?;
        self.progress.poll_again = again;
        let mut progressed = self.deliver(out)?;
        self.let_out_complete();
        progressed |= self.push()?;
        let full = |o: &OutputQueue| !o.is_empty() || o.held_back() >= HELD_BACK_AT_MOST;
        let blocked = self.outputs.iter().chain(&self.dead_letters).any(full) || !self.chain.ready();
        self.progress.blocked = blocked;
        if self.reading && !blocked {
            progressed |= self.read(now)?;
        }
        progressed |= self.continue_cut(now);
        if self.flushing {
            progressed |= self.poll_flush();
        }
        Ok(progressed)
    }

    /// Poll the sources, each in its turn, until one gives a batch.
    fn read(&mut self, now: Instant) -> Result<bool, Incident> {
        let count = self.sources.len();
        for i in 0..count {
            let index = (self.turn + i) % count;
            let slot = &mut self.sources[index];
            if slot.ended {
                continue;
            }
            match slot.source.poll(self.options.budget) {
                Ok(Polled::Batch(batch)) => {
                    self.turn = index + 1;
                    self.take_batch(index, batch, now)?;
                    return Ok(true);
                }
                Ok(Polled::Pending) => {}
                Ok(Polled::End) => slot.ended = true,
                Err(e) if e.kind == ErrorKind::Retry => {
                    let incident = trouble::of_end(&e, &slot.spec.name);
                    tracing::warn!(task = %self.grant.task, code = %incident.code, "{incident}");
                    self.incident = Some(incident);
                }
                Err(e) => return Err(trouble::of_end(&e, &slot.spec.name)),
            }
        }
        if !self.ended && self.sources.iter().all(|slot| slot.ended) {
            self.ended = true;
            self.reading = false;
            self.tell(Event::SourceEnded);
            return Ok(true);
        }
        Ok(false)
    }

    fn take_batch(&mut self, source: usize, batch: Batch, now: Instant) -> Result<(), Incident> {
        let records = batch.len() as u64;
        self.incident = None;
        self.account.records_in += records;
        self.progress.records_in += records;
        if let Some(last) = batch.records.last() {
            self.waits.read(&batch.partition, last.timestamp_ms);
        }
        let span = BatchSpan {
            pipeline: &self.grant.task.pipeline.name,
            task: &self.name,
            epoch: self.grant.epoch,
            system: &self.plan.sources[self.sources[source].index].connector,
            topic: &batch.partition.topic,
            partition: batch.partition.index,
            first_offset: batch.records.first().map_or(-1, |r| r.offset),
            records: batch.len(),
        }
        .open();
        let mut out = Output::default();
        let source = self.sources[source].index;
        span.in_scope(|| self.chain.process(source, batch, now, &mut out)).map_err(|lost| panicked(&lost))?;
        self.deliver(out)?;
        self.let_out_complete();
        self.push()?;
        Ok(())
    }

    /// Book and queue what left the chain.
    fn deliver(&mut self, out: Output) -> Result<bool, Incident> {
        if out.is_empty() {
            return Ok(false);
        }
        self.account.filtered += out.filtered;
        self.account.expanded += out.expanded;
        self.account.merged += out.merged;
        self.progress.filtered += out.filtered;
        self.progress.expanded += out.expanded;
        self.progress.merged += out.merged;
        let exactly_once = self.exactly_once();
        for (sink, batch) in out.sinks {
            let output = &mut self.outputs[sink];
            self.chain.taps.offer(output.name(), true, &batch);
            if exactly_once && !breaks(Defect::PastCut) {
                output.hold_back(batch);
            } else {
                output.add(batch);
            }
        }
        for rejected in out.rejected {
            self.reject(&rejected.operator, rejected.failed)?;
        }
        Ok(true)
    }

    /// A record that cannot be processed: kept with its cause, or the end of this task.
    fn reject(&mut self, operator: &str, failed: Failed) -> Result<(), Incident> {
        let exactly_once = self.exactly_once();
        let Some(letters) = &mut self.dead_letters else {
            return Err(trouble::poison(operator, &failed));
        };
        let letter = dead_letter(&failed.record, operator, &failed.cause);
        self.account.dead_lettered += letter.len() as u64;
        self.progress.dead_lettered += letter.len() as u64;
        if exactly_once {
            letters.hold_back(letter);
        } else {
            letters.add(letter);
        }
        Ok(())
    }

    /// Give the sinks what they take.
    fn push(&mut self) -> Result<bool, Incident> {
        let mut taken = 0;
        let mut stamps = Stamps::default();
        let mut refused = Vec::new();
        for output in self.outputs.iter_mut().filter(|o| !o.is_empty()) {
            let report = output.push().map_err(|e| trouble::of_end(&e, output.name()))?;
            taken += report.taken;
            stamps.append(report.stamps);
            refused.extend(report.refused.into_iter().map(|f| (output.name().to_owned(), f)));
        }
        self.account.records_out += taken;
        self.progress.records_out += taken;
        self.note_ages(stamps);
        for (sink, failed) in refused {
            self.reject(&sink, failed)?;
        }
        if let Some(letters) = self.dead_letters.as_mut().filter(|o| !o.is_empty()) {
            let report = letters.push().map_err(|e| trouble::of_end(&e, "the dead-letter sink"))?;
            taken += report.taken;
            if let Some(failed) = report.refused.first() {
                return Err(trouble::dead_letter_refused(failed));
            }
        }
        Ok(taken > 0)
    }

    /// How old the records are whose output is out; under exactly-once the commit lets it out.
    fn note_ages(&mut self, mut stamps: Stamps) {
        if self.exactly_once() {
            self.unseen.append(stamps);
        } else if !stamps.is_empty() {
            self.progress.ages.extend(stamps.ages((self.options.wall_clock)()));
        }
    }

    fn poll_flush(&mut self) -> bool {
        for output in self.outputs.iter_mut().chain(self.dead_letters.as_mut()) {
            match output.poll_flush() {
                Poll::Pending => return false,
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(e)) => {
                    let incident = trouble::of_end(&e, output.name());
                    tracing::warn!(task = %self.grant.task, code = %incident.code, "{incident}");
                    self.flushing = false;
                    self.incident = Some(incident.clone());
                    self.tell(Event::FlushFailed(trouble::failure(&e, incident)));
                    return true;
                }
            }
        }
        self.flushing = false;
        self.tell(Event::FlushDone);
        true
    }
}

fn panicked(lost: &LostRecords) -> Incident {
    Incident {
        code: Code::OperatorPanic,
        message: format!(
            "operator `{}` panicked with {} records in flight: {}",
            lost.operator, lost.held, lost.message
        ),
        remedy: "they are read again from the last commit; if it happens again, fix or remove the operator and apply".into(),
        stops_task: false,
    }
}
