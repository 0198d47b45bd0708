//! Groups: joining and leaving, and what administrators ask.

use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::offset_delete_response::{
    OffsetDeleteResponsePartition, OffsetDeleteResponseTopic,
};
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse, GroupId,
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, ListGroupsRequest, ListGroupsResponse, OffsetDeleteRequest, OffsetDeleteResponse,
    ResponseKind, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::frame::Client;
use super::text;
use crate::broker::Broker;
use crate::code::Code;
use crate::core::members::{GroupAnswer, Join, JoinAnswer, MemberRef, Phase, Sync, SyncAnswer, Turn};
use crate::store::SegmentStore;

/// What a failing store means to a member: try again.
const STORE_FAILED: Code = Code::CoordinatorNotAvailable;

fn string(text: &StrBytes) -> String {
    text.to_string()
}

pub(super) fn join<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: JoinGroupRequest,
    version: i16,
    client: &Client,
    now_ms: i64,
) -> Result<Turn<GroupAnswer>, Code> {
    // Long and random: nobody guesses the id of another member.
    let random = uuid::Uuid::new_v4();
    let named_by = request.group_instance_id.as_deref().unwrap_or(&client.id);
    let join = Join {
        group: string(&request.group_id),
        member_id: string(&request.member_id),
        instance: request.group_instance_id.as_ref().map(string),
        fresh_id: format!("{named_by}-{random}"),
        must_know_id: version >= 4,
        may_skip_assignment: version >= 9,
        client_id: client.id.clone(),
        host: client.host.clone(),
        session_ms: request.session_timeout_ms,
        rebalance_ms: if version == 0 { request.session_timeout_ms } else { request.rebalance_timeout_ms },
        protocol_type: string(&request.protocol_type),
        protocols: request.protocols.into_iter().map(|p| (string(&p.name), p.metadata)).collect(),
    };
    let first_wait_ms = i64::from(broker.settings().first_wait_ms);
    let plan = broker.state().members().plan_join(&join, now_ms, first_wait_ms);
    Ok(match broker.run(plan, STORE_FAILED)? {
        Turn::Now(answer) => Turn::Now(GroupAnswer::Join(answer)),
        Turn::Later(ticket) => Turn::Later(ticket),
    })
}

pub(super) fn sync<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: SyncGroupRequest,
    now_ms: i64,
) -> Result<Turn<GroupAnswer>, Code> {
    let sync = Sync {
        group: &request.group_id,
        member: MemberRef {
            id: &request.member_id,
            instance: request.group_instance_id.as_deref(),
            generation: request.generation_id,
        },
        protocol_type: request.protocol_type.as_deref(),
        protocol: request.protocol_name.as_deref(),
        assignments: request.assignments.into_iter().map(|a| (string(&a.member_id), a.assignment)).collect(),
    };
    let plan = broker.state().members().plan_sync(sync, now_ms);
    Ok(match broker.run(plan, STORE_FAILED)? {
        Turn::Now(answer) => Turn::Now(GroupAnswer::Sync(answer)),
        Turn::Later(ticket) => Turn::Later(ticket),
    })
}

/// The answer on the wire.
pub(super) fn response(answer: GroupAnswer, version: i16) -> ResponseKind {
    match answer {
        GroupAnswer::Join(answer) => ResponseKind::JoinGroup(join_response(answer, version)),
        GroupAnswer::Sync(answer) => ResponseKind::SyncGroup(sync_response(answer)),
    }
}

fn join_response(answer: JoinAnswer, version: i16) -> JoinGroupResponse {
    // Before version 7 the name cannot be null.
    let protocol = answer.protocol.or_else(|| (version < 7).then(String::new));
    let members = answer.members.into_iter().map(|member| {
        JoinGroupResponseMember::default()
            .with_member_id(text(member.id))
            .with_group_instance_id(member.instance.map(text))
            .with_metadata(member.metadata)
    });
    JoinGroupResponse::default()
        .with_error_code(answer.code.into())
        .with_generation_id(answer.generation)
        .with_protocol_type(answer.protocol_type.map(text))
        .with_protocol_name(protocol.map(text))
        .with_leader(text(answer.leader))
        .with_skip_assignment(answer.skip_assignment)
        .with_member_id(text(answer.member_id))
        .with_members(members.collect())
}

fn sync_response(answer: SyncAnswer) -> SyncGroupResponse {
    SyncGroupResponse::default()
        .with_error_code(answer.code.into())
        .with_protocol_type(answer.protocol_type.map(text))
        .with_protocol_name(answer.protocol.map(text))
        .with_assignment(answer.assignment)
}

/// The same for a request that could not be decided.
pub(super) fn failed(is_join: bool, code: Code, version: i16) -> ResponseKind {
    if is_join {
        let protocol = (version < 7).then(StrBytes::new);
        let response = JoinGroupResponse::default().with_generation_id(-1).with_protocol_name(protocol);
        ResponseKind::JoinGroup(response.with_error_code(code.into()))
    } else {
        ResponseKind::SyncGroup(SyncGroupResponse::default().with_error_code(code.into()))
    }
}

pub(super) fn heartbeat<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: &HeartbeatRequest,
    now_ms: i64,
) -> HeartbeatResponse {
    let member = MemberRef {
        id: &request.member_id,
        instance: request.group_instance_id.as_deref(),
        generation: request.generation_id,
    };
    let plan = broker.state().members().plan_heartbeat(&request.group_id, &member, now_ms);
    let code = broker.run(plan, STORE_FAILED).unwrap_or_else(|code| code);
    HeartbeatResponse::default().with_error_code(code.into())
}

pub(super) fn leave<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: &LeaveGroupRequest,
    version: i16,
    now_ms: i64,
) -> LeaveGroupResponse {
    let of = |id, instance| MemberRef { id, instance, generation: -1 };
    let members: Vec<MemberRef<'_>> = if version < 3 {
        vec![of(&request.member_id, None)]
    } else {
        request.members.iter().map(|m| of(&m.member_id, m.group_instance_id.as_deref())).collect()
    };
    let plan = broker.state().members().plan_leave(&request.group_id, &members, now_ms);
    let response = LeaveGroupResponse::default();
    let codes = match broker.run(plan, STORE_FAILED) {
        Ok(codes) => codes,
        Err(code) => return response.with_error_code(code.into()),
    };
    if version < 3 {
        return response.with_error_code(codes.first().copied().unwrap_or(Code::None).into());
    }
    let members = request.members.iter().zip(codes).map(|(member, code)| {
        MemberResponse::default()
            .with_member_id(member.member_id.clone())
            .with_group_instance_id(member.group_instance_id.clone())
            .with_error_code(code.into())
    });
    response.with_members(members.collect())
}

pub(super) fn list<S: SegmentStore>(broker: &Broker<S>, request: &ListGroupsRequest) -> ListGroupsResponse {
    let asked = &request.states_filter;
    let groups = broker.state().group_ids().into_iter().filter_map(|id| {
        let phase = broker.state().group_phase(id)?.name();
        let is_asked = asked.is_empty() || asked.iter().any(|state| state.eq_ignore_ascii_case(phase));
        let protocol_type = broker.state().members().get(id).map_or("", |group| group.protocol_type());
        is_asked.then(|| {
            ListedGroup::default()
                .with_group_id(GroupId(text(id)))
                .with_protocol_type(text(protocol_type))
                .with_group_state(StrBytes::from_static_str(phase))
        })
    });
    ListGroupsResponse::default().with_groups(groups.collect())
}

pub(super) fn describe<S: SegmentStore>(
    broker: &Broker<S>,
    request: DescribeGroupsRequest,
) -> DescribeGroupsResponse {
    let groups = request.groups.into_iter().map(|id| {
        // An unknown group is "Dead", not an error, as in Kafka.
        let state = broker.state().group_phase(&id).map_or("Dead", Phase::name);
        let described = match broker.state().members().get(&id) {
            None => DescribedGroup::default(),
            Some(group) => {
                let is_stable = group.phase() == Phase::Stable;
                let members = group.members().iter().map(|(id, member)| {
                    let described = DescribedGroupMember::default()
                        .with_member_id(text(id.as_str()))
                        .with_group_instance_id(member.instance.as_deref().map(text))
                        .with_client_id(text(member.client_id.as_str()))
                        .with_client_host(text(member.host.as_str()));
                    if !is_stable {
                        return described;
                    }
                    described
                        .with_member_metadata(member.metadata(group.protocol()))
                        .with_member_assignment(member.assignment.clone())
                });
                let protocol = if is_stable { group.protocol() } else { "" };
                DescribedGroup::default()
                    .with_protocol_type(text(group.protocol_type()))
                    .with_protocol_data(text(protocol))
                    .with_members(members.collect())
            }
        };
        described.with_group_id(id).with_group_state(StrBytes::from_static_str(state))
    });
    DescribeGroupsResponse::default().with_groups(groups.collect())
}

pub(super) fn delete<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: DeleteGroupsRequest,
) -> DeleteGroupsResponse {
    let results = request.groups_names.into_iter().map(|id| {
        let planned = broker.state().plan_delete_group(&id);
        let deleted = planned.and_then(|plan| broker.run(plan, STORE_FAILED));
        let code = deleted.err().unwrap_or(Code::None);
        DeletableGroupResult::default().with_group_id(id).with_error_code(code.into())
    });
    DeleteGroupsResponse::default().with_results(results.collect())
}

pub(super) fn delete_offsets<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: &OffsetDeleteRequest,
) -> OffsetDeleteResponse {
    let places: Vec<(String, i32)> = request
        .topics
        .iter()
        .flat_map(|topic| topic.partitions.iter().map(|p| (topic.name.to_string(), p.partition_index)))
        .collect();
    let planned = broker.state().plan_delete_offsets(&request.group_id, &places);
    let codes = match planned.and_then(|plan| broker.run(plan, STORE_FAILED)) {
        Ok(codes) => codes,
        Err(code) => return OffsetDeleteResponse::default().with_error_code(code.into()),
    };
    let mut codes = codes.into_iter();
    let topics = request.topics.iter().map(|topic| {
        let partitions = topic.partitions.iter().map(|p| {
            OffsetDeleteResponsePartition::default()
                .with_partition_index(p.partition_index)
                .with_error_code(codes.next().unwrap_or(Code::None).into())
        });
        let partitions = partitions.collect();
        OffsetDeleteResponseTopic::default().with_name(topic.name.clone()).with_partitions(partitions)
    });
    OffsetDeleteResponse::default().with_topics(topics.collect())
}
