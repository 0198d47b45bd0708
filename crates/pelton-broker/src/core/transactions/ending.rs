//! How a transaction ends: decision, markers, end.

use super::{Transaction, TxnStatus};
use crate::batch::{Batch, Marker};
use crate::core::entry::{Entry, LogId};
use crate::core::{Effect, Plan, State};

impl State {
    /// Ends whatever is open. An abort on behalf of nobody raises the epoch, so that the markers fence the former owner
    /// in every partition.
    pub(super) fn finish(&self, id: &str, txn: &Transaction, effects: &mut Vec<Effect>, now_ms: i64) {
        match txn.status {
            TxnStatus::Empty | TxnStatus::Ended { .. } => {}
            TxnStatus::Ending { commit } => {
                self.write_markers(id, txn, (txn.epoch, commit), effects, now_ms);
            }
            TxnStatus::Ongoing { .. } => {
                self.write_markers(id, txn, (txn.epoch.saturating_add(1), false), effects, now_ms);
            }
        }
    }

    /// Decision, markers, end: the order recovery relies on.
    pub(super) fn write_markers(
        &self,
        id: &str,
        txn: &Transaction,
        (epoch, commit): (i16, bool),
        effects: &mut Vec<Effect>,
        now_ms: i64,
    ) {
        let decided = matches!(txn.status, TxnStatus::Ending { .. });
        if !decided {
            effects.push(Effect::Journal(Entry::TxnEnding {
                id: id.to_owned(),
                epoch,
                commit,
                at_ms: now_ms,
            }));
        }
        let kind = if commit { Marker::Commit } else { Marker::Abort };
        for (topic, partition) in &txn.partitions {
            let Ok((log, core)) = self.find(topic, *partition) else { continue };
            // Carrying on after a stop: a partition without open records has its marker or needs none.
            if decided && !core.has_open(txn.producer_id) {
                continue;
            }
            let mut batch = Batch::marker(txn.producer_id, epoch, kind, now_ms);
            batch.place(core.next_offset(), None);
            effects.push(Effect::Append { log, batch });
        }
        effects.push(Effect::Journal(Entry::TxnEnded { id: id.to_owned() }));
    }

    /// Ends a transaction nobody will end: overdue, or decided before a restart.
    #[must_use]
    pub fn plan_finish_txn(&self, id: &str, now_ms: i64) -> Plan<()> {
        let mut effects = Vec::new();
        if let Some(txn) = self.transactions.get(id) {
            self.finish(id, txn, &mut effects, now_ms);
        }
        Plan::new(effects, ())
    }

    /// Aborts records of transactions that nobody will end: a power cut can take the journal's last lines and
    /// leave the log's. Without this, readers of committed records would wait at them for ever.
    #[must_use]
    pub fn plan_abort_orphans(&self, now_ms: i64) -> Plan<()> {
        let mut effects = Vec::new();
        for (name, topic) in &self.topics {
            for partition in 0..topic.partitions {
                let log = LogId { topic: topic.number, partition };
                let Some(core) = self.partitions.get(&log) else { continue };
                let place = (name.clone(), partition.cast_signed());
                let mut offset = core.next_offset();
                for (producer_id, epoch) in core.open_producers() {
                    if !self.transactions.will_end(producer_id, &place) {
                        let mut batch = Batch::marker(producer_id, epoch, Marker::Abort, now_ms);
                        batch.place(offset, None);
                        offset += 1;
                        effects.push(Effect::Append { log, batch });
                    }
                }
            }
        }
        Plan::new(effects, ())
    }
}
