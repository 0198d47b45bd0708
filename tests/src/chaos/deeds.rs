//! What is done to coordinator, workers, their lines and the broker, and how it is made good.

use super::{
    events::now_ms,
    fleet::worker,
    plan::{Act, Deed},
    run::{Stage, poison},
    silence::Span,
    topics::{Trouble, client},
};
use crate::proxy::{ApiKey, Fault, Line, Rule};
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::json;
use std::{thread::sleep, time::Duration};

/// A slow line: each request waits for so long, and so many bytes go through in a second.
const SLOW: (Duration, u64) = (Duration::from_millis(30), 2_000_000);
/// Requests that overtake each other, and answers lost, at a time.
const SEVERAL: u64 = 3;
/// For poison records to be acknowledged: a broker may be on its way back.
const FLUSH: Duration = Duration::from_secs(60);

impl Stage<'_> {
    pub(super) fn act(&mut self, act: Act) -> Result<(), Trouble> {
        let away = act.away;
        match act.deed {
            Deed::Kill(index) => self.replace(index, act, |stage, name| stage.fleet.kill(name)),
            Deed::End(index) | Deed::Leave(index) => {
                self.replace(index, act, |stage, name| stage.fleet.end(name))
            }
            Deed::KillCoordinator => self.without_coordinator(away),
            Deed::KillBroker => {
                self.broker.kill()?;
                self.note(act, "broker");
                sleep(away);
                self.broker.start()?;
                self.events.note("started", json!({ "broker": self.setting.kafka }));
                Ok(())
            }
            Deed::StopBroker => {
                self.broker.signal("STOP")?;
                self.note(act, "broker");
                sleep(away);
                self.broker.signal("CONT")
            }
            Deed::Stop(index) => {
                self.fleet.signal(&worker(index), "STOP")?;
                self.note(act, &worker(index));
                sleep(away);
                self.fleet.signal(&worker(index), "CONT")
            }
            Deed::Reset(index) => {
                self.note(act, &worker(index));
                self.proxies[index].reset();
                Ok(())
            }
            Deed::Silence(index) => self.on_line(index, act, Line { silent: true, ..Line::default() }),
            Deed::Slow(index) => {
                let line = Line { delay: SLOW.0, bytes_per_second: SLOW.1, ..Line::default() };
                self.on_line(index, act, line)
            }
            Deed::CutEnd(index) => self.met(index, act, Rule::next(ApiKey::END_TXN, Fault::Cut)),
            Deed::HoldOffsets(index) => {
                self.met(index, act, Rule::next(ApiKey::TXN_OFFSET_COMMIT, Fault::Hold))
            }
            Deed::LoseAnswers(index) => {
                let rule = Rule::next(ApiKey::END_TXN, Fault::DropAnswer);
                self.met(index, act, Rule { times: Some(SEVERAL), ..rule })
            }
            Deed::NameNoBroker(index) => {
                self.proxies[index].reset();
                self.met(index, act, Rule::every(ApiKey::METADATA, Fault::NameNoBroker))
            }
            Deed::Reorder(index) => {
                let rule = Rule::next(ApiKey::PRODUCE, Fault::Reorder);
                self.met(index, act, Rule { times: Some(SEVERAL), ..rule })
            }
            Deed::Poison(records) => {
                self.note(act, &records.to_string());
                self.write_poison(records)
            }
            Deed::Deal(tasks) => {
                self.note(act, &tasks.to_string());
                self.deal(tasks)
            }
        }
    }

    fn note(&mut self, act: Act, whom: &str) {
        self.events.note(act.deed.name(), json!({ "whom": whom, "seconds": act.away.as_secs_f64() }));
    }

    /// A worker ends in one way or another, and comes again.
    fn replace(
        &mut self,
        index: usize,
        act: Act,
        end: impl Fn(&mut Self, &str) -> Result<(), Trouble>,
    ) -> Result<(), Trouble> {
        self.note(act, &worker(index));
        end(self, &worker(index))?;
        sleep(act.away);
        self.start_worker(index)
    }

    fn without_coordinator(&mut self, away: Duration) -> Result<(), Trouble> {
        // A task without an owner can only wait for the coordinator; what must go on is what has one.
        self.at_rest("before the coordinator is killed")?;
        let from_ms = now_ms();
        self.fleet.kill("coordinator")?;
        self.events.note("killed", json!({ "victim": "coordinator" }));
        sleep(away);
        let to_ms = now_ms();
        self.fleet.start_coordinator()?;
        self.events.note("started", json!({ "victim": "coordinator" }));
        self.outages.push(Span { from_ms, to_ms });
        Ok(())
    }

    fn on_line(&mut self, index: usize, act: Act, line: Line) -> Result<(), Trouble> {
        self.note(act, &worker(index));
        self.proxies[index].set_line(line);
        sleep(act.away);
        self.proxies[index].set_line(Line::default());
        Ok(())
    }

    fn met(&mut self, index: usize, act: Act, rule: Rule) -> Result<(), Trouble> {
        self.note(act, &worker(index));
        let ticket = self.proxies[index].arm(rule);
        sleep(act.away);
        let (met, _) = self.proxies[index].status(ticket);
        self.proxies[index].disarm(ticket);
        self.events.note("over", json!({ "requests": met }));
        Ok(())
    }

    fn write_poison(&mut self, records: u64) -> Result<(), Trouble> {
        let mut config = client(&self.setting.kafka);
        let producer: BaseProducer = config.set("enable.idempotence", "true").create()?;
        for _ in 0..records {
            let (key, value) = (self.poison.to_string(), poison(self.poison));
            producer
                .send(BaseRecord::to(&self.topics.input).key(&key).payload(&value))
                .map_err(|(error, _)| error)?;
            self.poison += 1;
        }
        Ok(producer.flush(FLUSH)?)
    }
}
