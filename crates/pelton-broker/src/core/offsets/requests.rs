//! Who may store and remove offsets of a group, and the group itself.

use crate::code::Code;
use crate::core::entry::{Entry, GroupOffset};
use crate::core::members::{MemberRef, Members, Phase};
use crate::core::{Effect, Plan, State};

impl State {
    /// Stores offsets of a group.
    #[must_use]
    pub fn plan_commit_offsets(&self, group: &str, offsets: Vec<GroupOffset>, now_ms: i64) -> Plan<()> {
        self.plan_commit_offsets_for(group, offsets, None, now_ms)
    }

    /// The same with the time after which they may go, milliseconds, if the client said so.
    #[must_use]
    pub fn plan_commit_offsets_for(
        &self,
        group: &str,
        offsets: Vec<GroupOffset>,
        retention_ms: Option<i64>,
        now_ms: i64,
    ) -> Plan<()> {
        if offsets.is_empty() {
            return Plan::reply(());
        }
        let committed = Entry::OffsetsCommitted {
            group: group.to_owned(),
            offsets,
            at_ms: now_ms,
            until_ms: retention_ms.map(|ms| now_ms.saturating_add(ms)),
        };
        Plan::new(vec![Effect::Journal(committed)], ())
    }

    /// Whether somebody may store offsets for a group, and what the group notes about it.
    ///
    /// # Errors
    /// Not a member, of another generation, fenced, or in the middle of a rebalance.
    pub fn plan_commit_as(
        &self,
        group: &str,
        member: &MemberRef<'_>,
        is_in_txn: bool,
        now_ms: i64,
    ) -> Result<Plan<()>, Code> {
        if group.is_empty() {
            return Err(Code::InvalidGroupId);
        }
        let Some(members) = self.members().get(group) else {
            let claims_nothing = member.generation < 0 && member.id.is_empty() && member.instance.is_none();
            return match (claims_nothing, member.generation >= 0) {
                (true, _) => Ok(Plan::reply(())),
                (false, true) => Err(Code::IllegalGeneration),
                (false, false) => Err(Code::UnknownMemberId),
            };
        };
        members.check_commit(member, is_in_txn)?;
        Ok(Plan::new(vec![Members::note_heard(group, member, now_ms)], ()))
    }

    /// Removes offsets of a group; the reply has a code for each partition.
    ///
    /// # Errors
    /// The group does not exist, or its members are not consumers.
    pub fn plan_delete_offsets(
        &self,
        group: &str,
        partitions: &[(String, i32)],
    ) -> Result<Plan<Vec<Code>>, Code> {
        let phase = self.group_phase(group).ok_or(Code::GroupIdNotFound)?;
        let members = self.members().get(group).filter(|_| phase != Phase::Empty);
        if members.is_some_and(|members| members.protocol_type() != "consumer") {
            return Err(Code::NonEmptyGroup);
        }
        let code = |(topic, partition): &(String, i32)| {
            if members.is_some_and(|members| members.is_subscribed(topic)) {
                Code::GroupSubscribedToTopic
            } else if self.find(topic, *partition).is_err() {
                Code::UnknownTopicOrPartition
            } else {
                Code::None
            }
        };
        let codes: Vec<Code> = partitions.iter().map(code).collect();
        let fine = partitions.iter().zip(&codes).filter(|(_, code)| **code == Code::None);
        let fine: Vec<(String, i32)> = fine.map(|(place, _)| place.clone()).collect();
        if fine.is_empty() {
            return Ok(Plan::reply(codes));
        }
        let deleted = Entry::OffsetsDeleted { group: group.to_owned(), partitions: fine };
        Ok(Plan::new(vec![Effect::Journal(deleted)], codes))
    }

    /// Deletes a group.
    ///
    /// # Errors
    /// [`Code::GroupIdNotFound`], or [`Code::NonEmptyGroup`] while it has members.
    pub fn plan_delete_group(&self, group: &str) -> Result<Plan<()>, Code> {
        match self.group_phase(group) {
            None => return Err(Code::GroupIdNotFound),
            Some(Phase::Empty) => {}
            Some(_) => return Err(Code::NonEmptyGroup),
        }
        Ok(Plan::new(vec![Effect::Journal(Entry::GroupDeleted { group: group.to_owned() })], ()))
    }
}
