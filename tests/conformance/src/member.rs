//! A member of a consumer group, of single requests.

use bytes::Bytes;
use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::{
    HeartbeatRequest, JoinGroupRequest, JoinGroupResponse, OffsetCommitRequest, SyncGroupRequest,
};

use crate::Target;
use crate::wire::{Coordinator, Wire, name, refusal, text};

/// What a consumer sends with its join: version 0, no topics, and a text that tells members apart.
pub fn subscription(text: &str) -> Bytes {
    let length = i32::try_from(text.len()).unwrap();
    [&[0; 6][..], &length.to_be_bytes(), text.as_bytes()].concat().into()
}

/// A member of single requests.
#[derive(Debug)]
pub struct Member {
    /// To the coordinator, which is the broker.
    pub wire: Wire,
    group: String,
    /// Its name, if it is a static member.
    pub instance: Option<String>,
    /// What the coordinator calls it; empty before it joined.
    pub id: String,
    /// The generation it is in.
    pub generation: i32,
    /// Session and rebalance time.
    pub session_ms: i32,
    /// What it can speak, best first.
    pub protocols: Vec<&'static str>,
}

impl Member {
    /// Not joined yet.
    pub fn new(target: &Target, group: &str) -> Self {
        let mut wire = target.wire();
        wire.find_coordinator(Coordinator::Group, group);
        let group = group.to_owned();
        Self {
            wire,
            group,
            instance: None,
            id: String::new(),
            generation: -1,
            session_ms: 30_000,
            protocols: vec!["range"],
        }
    }

    /// The request it joins with.
    pub fn request(&self) -> JoinGroupRequest {
        let protocols = self.protocols.iter().map(|protocol| {
            JoinGroupRequestProtocol::default()
                .with_name(text(protocol))
                .with_metadata(subscription(&self.id))
        });
        JoinGroupRequest::default()
            .with_group_id(text(&self.group).into())
            .with_session_timeout_ms(self.session_ms)
            .with_rebalance_timeout_ms(self.session_ms)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_protocol_type(text("consumer"))
            .with_protocols(protocols.collect())
    }

    /// Joins, and waits until all others have.
    pub fn join(&mut self) -> Result<JoinGroupResponse, ResponseError> {
        self.begin_join();
        self.end_join()
    }

    /// Joins without waiting for the others; first it gets its id, if it has none.
    pub fn begin_join(&mut self) {
        if self.id.is_empty() && self.instance.is_none() {
            let request = self.request();
            let response = self.wire.settled(5, &request, |r: &JoinGroupResponse| r.error_code);
            self.id = response.member_id.to_string();
        }
        let request = self.request();
        self.wire.send(5, &request);
    }

    /// Waits until all others have joined.
    pub fn end_join(&mut self) -> Result<JoinGroupResponse, ResponseError> {
        let response = self.wire.receive::<JoinGroupRequest>(5);
        match refusal(response.error_code) {
            Some(error) => Err(error),
            None => {
                self.id = response.member_id.to_string();
                self.generation = response.generation_id;
                Ok(response)
            }
        }
    }

    /// Sends the plan, if it leads, and gives its part.
    pub fn sync(&mut self, plan: &[(&str, &str)]) -> Result<Bytes, ResponseError> {
        let assignments = plan.iter().map(|(member, part)| {
            SyncGroupRequestAssignment::default()
                .with_member_id(text(member))
                .with_assignment(Bytes::copy_from_slice(part.as_bytes()))
        });
        let request = SyncGroupRequest::default()
            .with_group_id(text(&self.group).into())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_assignments(assignments.collect());
        let response = self.wire.call(3, &request);
        refusal(response.error_code).map_or(Ok(response.assignment), Err)
    }

    /// Says that it is there.
    pub fn heartbeat(&mut self) -> Option<ResponseError> {
        let request = HeartbeatRequest::default()
            .with_group_id(text(&self.group).into())
            .with_generation_id(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text));
        refusal(self.wire.call(3, &request).error_code)
    }

    /// Commits offset 1 of partition 0.
    pub fn commit(&mut self, topic: &str) -> Option<ResponseError> {
        let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
        let topic =
            OffsetCommitRequestTopic::default().with_name(name(topic)).with_partitions(vec![partition]);
        let request = OffsetCommitRequest::default()
            .with_group_id(text(&self.group).into())
            .with_generation_id_or_member_epoch(self.generation)
            .with_member_id(text(&self.id))
            .with_group_instance_id(self.instance.as_deref().map(text))
            .with_topics(vec![topic]);
        refusal(self.wire.call(7, &request).topics[0].partitions[0].error_code)
    }

    /// Alone in its group, with everything assigned.
    pub fn alone(target: &Target, group: &str) -> Self {
        let mut member = Self::new(target, group);
        member.join().unwrap();
        let id = member.id.clone();
        assert_eq!(member.sync(&[(&id, "all")]).unwrap(), "all");
        member
    }
}
