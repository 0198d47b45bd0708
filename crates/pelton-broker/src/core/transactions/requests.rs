//! What producers ask: an id, to join a transaction, to end it.

use super::{MAX_TXN_TIMEOUT_MS, TxnStatus};
use crate::code::Code;
use crate::core::entry::{Entry, GroupOffset, TxnOwner};
use crate::core::{Effect, Plan, State};

/// Producer id and epoch, or that who asks has to ask again.
pub type Owned = Result<(i64, i16), Code>;

impl State {
    /// A producer id for an idempotent producer; the caller marks it as used with [`State::use_producer_id`].
    #[must_use]
    pub fn plan_producer_id(&self) -> Plan<(i64, i16)> {
        let (id, reserve) = self.transactions.next_producer_id();
        Plan::new(reserve.into_iter().map(Effect::Journal).collect(), (id, 0))
    }

    /// Notes that a producer id was handed out.
    pub fn use_producer_id(&mut self, id: i64) {
        self.transactions.take_producer_id(id);
    }

    /// A producer id and a new epoch for a transactional id, if nothing is open. Else the former owner is fenced, its
    /// transaction ended (a decided one carried out, any other aborted), and the reply is
    /// [`Code::ConcurrentTransactions`]: who asks again gets the next epoch. `current` is the producer id and epoch of a
    /// client that asks for the next epoch of its own; if that was raised already, because it got no answer or its
    /// transaction was aborted in between, it gets that epoch. One whose transactional id is not known, or forgotten, gets a new producer id.
    ///
    /// # Errors
    /// Bad timeout, or `current` is not current (`fenced`).
    pub fn plan_init_transactional(
        &self,
        id: &str,
        timeout_ms: i32,
        current: Option<(i64, i16)>,
        fenced: Code,
        now_ms: i64,
    ) -> Result<Plan<Owned>, Code> {
        if timeout_ms <= 0 || timeout_ms > MAX_TXN_TIMEOUT_MS {
            return Err(Code::InvalidTransactionTimeout);
        }
        let mut effects = Vec::new();
        let mut owner = None;
        if let Some(txn) = self.transactions.get(id) {
            let is_of_owner = |epoch| current.is_none_or(|current| current == (txn.producer_id, epoch));
            // Its epoch was raised already: it got no answer, or its transaction was aborted for it.
            let is_raised = txn.is_over() && current.is_some() && txn.raised_from.is_some_and(is_of_owner);
            if !is_raised && !is_of_owner(txn.epoch) {
                return Err(fenced);
            }
            if !txn.is_over() {
                self.finish(id, txn, &mut effects, now_ms);
                return Ok(Plan::new(effects, Err(Code::ConcurrentTransactions)));
            }
            if is_raised && txn.status == TxnStatus::Empty {
                return Ok(Plan::reply(Ok((txn.producer_id, txn.epoch))));
            }
            let next = if is_raised { Some(txn.epoch) } else { txn.epoch.checked_add(1) };
            // The last epoch is never given out: it fences whoever has the one before.
            owner = next.filter(|next| *next < i16::MAX).map(|next| (txn.producer_id, next));
        }
        let (producer_id, epoch) = owner.unwrap_or_else(|| {
            let (fresh, reserve) = self.transactions.next_producer_id();
            effects.extend(reserve.map(Effect::Journal));
            (fresh, 0)
        });
        effects.push(Effect::Journal(Entry::TxnProducer {
            id: id.to_owned(),
            owner: TxnOwner {
                producer_id,
                epoch,
                raised_from: current.filter(|(id, _)| *id == producer_id).map(|(_, epoch)| epoch),
                timeout_ms,
                at_ms: now_ms,
            },
        }));
        Ok(Plan::new(effects, Ok((producer_id, epoch))))
    }

    /// Adds partitions to the transaction. Unknown partitions must be sorted out before.
    ///
    /// # Errors
    /// As [`Transactions::open_for`].
    pub fn plan_txn_partitions(
        &self,
        (id, producer_id, epoch): (&str, i64, i16),
        partitions: Vec<(String, i32)>,
        fenced: Code,
        now_ms: i64,
    ) -> Result<Plan<()>, Code> {
        let txn = self.transactions.open_for(id, producer_id, epoch, fenced)?;
        let is_ongoing = matches!(txn.status, TxnStatus::Ongoing { .. });
        if is_ongoing && partitions.iter().all(|partition| txn.partitions.contains(partition)) {
            return Ok(Plan::reply(()));
        }
        let added = Entry::TxnPartitions { id: id.to_owned(), partitions, at_ms: now_ms };
        Ok(Plan::new(vec![Effect::Journal(added)], ()))
    }

    /// Adds offsets to the transaction; an empty list announces the group.
    ///
    /// # Errors
    /// As [`Transactions::open_for`]; offsets without an announced transaction are
    /// [`Code::InvalidTxnState`].
    pub fn plan_txn_offsets(
        &self,
        (id, producer_id, epoch): (&str, i64, i16),
        group: &str,
        offsets: Vec<GroupOffset>,
        fenced: Code,
        now_ms: i64,
    ) -> Result<Plan<()>, Code> {
        let txn = self.transactions.open_for(id, producer_id, epoch, fenced)?;
        if !offsets.is_empty() && !matches!(txn.status, TxnStatus::Ongoing { .. }) {
            return Err(Code::InvalidTxnState);
        }
        let group = group.to_owned();
        let added = Entry::TxnOffsets { id: id.to_owned(), group, offsets, at_ms: now_ms };
        Ok(Plan::new(vec![Effect::Journal(added)], ()))
    }

    /// Commits or aborts. A repeat of the last decision is answered as the first time.
    ///
    /// # Errors
    /// As [`Transactions::owned`], or [`Code::InvalidTxnState`].
    pub fn plan_end_txn(
        &self,
        (id, producer_id, epoch): (&str, i64, i16),
        commit: bool,
        fenced: Code,
        now_ms: i64,
    ) -> Result<Plan<()>, Code> {
        let txn = self.transactions.owned(id, producer_id, epoch, fenced)?;
        match txn.status {
            TxnStatus::Empty => Err(Code::InvalidTxnState),
            TxnStatus::Ended { commit: before } | TxnStatus::Ending { commit: before }
                if before != commit =>
            {
                Err(Code::InvalidTxnState)
            }
            TxnStatus::Ended { .. } => Ok(Plan::reply(())),
            TxnStatus::Ongoing { .. } | TxnStatus::Ending { .. } => {
                let mut effects = Vec::new();
                self.write_markers(id, txn, (epoch, commit), &mut effects, now_ms);
                Ok(Plan::new(effects, ()))
            }
        }
    }
}
