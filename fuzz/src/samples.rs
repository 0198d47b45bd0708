//! One or more requests of each key, about a topic `t`, a group `g` and a transactional id `x`.

use bytes::Bytes;
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::alter_configs_request as alter;
use kafka_protocol::messages::alter_user_scram_credentials_request::{
    ScramCredentialDeletion, ScramCredentialUpsertion,
};
use kafka_protocol::messages::create_partitions_request::CreatePartitionsTopic;
use kafka_protocol::messages::create_topics_request::{CreatableTopic, CreatableTopicConfig};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::describe_producers_request::TopicRequest;
use kafka_protocol::messages::describe_user_scram_credentials_request::UserName;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::incremental_alter_configs_request as change;
use kafka_protocol::messages::join_group_request::JoinGroupRequestProtocol;
use kafka_protocol::messages::leave_group_request::MemberIdentity;
use kafka_protocol::messages::list_offsets_request::{ListOffsetsPartition, ListOffsetsTopic};
use kafka_protocol::messages::metadata_request::MetadataRequestTopic;
use kafka_protocol::messages::offset_commit_request::{
    OffsetCommitRequestPartition, OffsetCommitRequestTopic,
};
use kafka_protocol::messages::offset_delete_request::{
    OffsetDeleteRequestPartition, OffsetDeleteRequestTopic,
};
use kafka_protocol::messages::offset_fetch_request::OffsetFetchRequestTopic;
use kafka_protocol::messages::produce_request::{PartitionProduceData, TopicProduceData};
use kafka_protocol::messages::sync_group_request::SyncGroupRequestAssignment;
use kafka_protocol::messages::txn_offset_commit_request::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic,
};
use kafka_protocol::messages::write_txn_markers_request::{WritableTxnMarker, WritableTxnMarkerTopic};
use kafka_protocol::messages::*;
use kafka_protocol::protocol::StrBytes;
use pelton_broker::scram::Hash;

use super::login;
use super::seeds::batch;

/// What a consumer says of itself: version 0, the topic `t`, no data of its own.
const SUBSCRIPTION: &[u8] = b"\0\0\0\0\0\x01\0\x01t\xff\xff\xff\xff";

fn s(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn t() -> TopicName {
    TopicName(s("t"))
}

fn g() -> GroupId {
    GroupId(s("g"))
}

fn x() -> TransactionalId {
    TransactionalId(s("x"))
}

/// The requests of a key in a version; none for a key that nobody wrote a sample for.
pub fn samples(key: ApiKey, version: i16) -> Vec<RequestKind> {
    match key {
        ApiKey::Produce | ApiKey::Fetch | ApiKey::ListOffsets => of_records(key),
        ApiKey::SaslHandshake
        | ApiKey::SaslAuthenticate
        | ApiKey::DescribeUserScramCredentials
        | ApiKey::AlterUserScramCredentials => of_users(key),
        ApiKey::InitProducerId
        | ApiKey::AddPartitionsToTxn
        | ApiKey::AddOffsetsToTxn
        | ApiKey::EndTxn
        | ApiKey::WriteTxnMarkers
        | ApiKey::TxnOffsetCommit => of_transactions(key),
        ApiKey::OffsetCommit
        | ApiKey::OffsetFetch
        | ApiKey::JoinGroup
        | ApiKey::SyncGroup
        | ApiKey::Heartbeat
        | ApiKey::LeaveGroup
        | ApiKey::OffsetDelete => of_groups(key, version),
        ApiKey::CreateTopics
        | ApiKey::DeleteTopics
        | ApiKey::CreatePartitions
        | ApiKey::DeleteRecords
        | ApiKey::DescribeConfigs
        | ApiKey::AlterConfigs
        | ApiKey::IncrementalAlterConfigs => of_topics(key, version),
        _ => of_questions(key, version),
    }
}

fn of_records(key: ApiKey) -> Vec<RequestKind> {
    match key {
        ApiKey::Produce => {
            let request = |records: Bytes, id: Option<TransactionalId>| {
                let data = PartitionProduceData::default().with_records(Some(records));
                let topic = TopicProduceData::default().with_name(t()).with_partition_data(vec![data]);
                let request = ProduceRequest::default().with_acks(-1).with_transactional_id(id);
                RequestKind::Produce(request.with_topic_data(vec![topic]))
            };
            let packed = (1..5).map(|codec| request(batch(false, Some(codec)), None));
            [request(batch(false, None), None), request(batch(true, None), Some(x()))]
                .into_iter()
                .chain(packed)
                .collect()
        }
        ApiKey::Fetch => {
            let partition = FetchPartition::default().with_partition_max_bytes(1 << 20);
            let topic = FetchTopic::default().with_topic(t()).with_partitions(vec![partition]);
            let fetch = FetchRequest::default().with_max_bytes(1 << 20).with_topics(vec![topic]);
            vec![RequestKind::Fetch(fetch.clone()), RequestKind::Fetch(fetch.with_isolation_level(1))]
        }
        _ => {
            let at = |time| {
                let partition = ListOffsetsPartition::default().with_timestamp(time);
                let topic = ListOffsetsTopic::default().with_name(t()).with_partitions(vec![partition]);
                RequestKind::ListOffsets(ListOffsetsRequest::default().with_topics(vec![topic]))
            };
            vec![at(0), at(-1), at(-2), at(-3)]
        }
    }
}

fn of_transactions(key: ApiKey) -> Vec<RequestKind> {
    match key {
        ApiKey::InitProducerId => {
            let request = InitProducerIdRequest::default().with_transaction_timeout_ms(1_000);
            let named = request.clone().with_transactional_id(Some(x()));
            vec![RequestKind::InitProducerId(named), RequestKind::InitProducerId(request)]
        }
        ApiKey::AddPartitionsToTxn => {
            let topic = AddPartitionsToTxnTopic::default().with_name(t()).with_partitions(vec![0, 1]);
            let request = AddPartitionsToTxnRequest::default().with_v3_and_below_transactional_id(x());
            vec![RequestKind::AddPartitionsToTxn(request.with_v3_and_below_topics(vec![topic]))]
        }
        ApiKey::AddOffsetsToTxn => {
            let request = AddOffsetsToTxnRequest::default().with_transactional_id(x()).with_group_id(g());
            vec![RequestKind::AddOffsetsToTxn(request)]
        }
        ApiKey::EndTxn => {
            let request = EndTxnRequest::default().with_transactional_id(x());
            vec![RequestKind::EndTxn(request.clone().with_committed(true)), RequestKind::EndTxn(request)]
        }
        ApiKey::WriteTxnMarkers => {
            let place = WritableTxnMarkerTopic::default().with_name(t()).with_partition_indexes(vec![0, 1]);
            let marker = WritableTxnMarker::default().with_topics(vec![place]);
            let both = vec![marker.clone().with_transaction_result(true), marker];
            vec![RequestKind::WriteTxnMarkers(WriteTxnMarkersRequest::default().with_markers(both))]
        }
        _ => {
            let partition = TxnOffsetCommitRequestPartition::default().with_committed_offset(2);
            let topic =
                TxnOffsetCommitRequestTopic::default().with_name(t()).with_partitions(vec![partition]);
            let request = TxnOffsetCommitRequest::default().with_transactional_id(x()).with_group_id(g());
            vec![RequestKind::TxnOffsetCommit(request.with_topics(vec![topic]))]
        }
    }
}

fn of_groups(key: ApiKey, version: i16) -> Vec<RequestKind> {
    match key {
        ApiKey::OffsetCommit => {
            let partition = OffsetCommitRequestPartition::default().with_committed_offset(1);
            let partition = partition.with_committed_metadata(Some(s("m")));
            let topic = OffsetCommitRequestTopic::default().with_name(t()).with_partitions(vec![partition]);
            let request =
                OffsetCommitRequest::default().with_group_id(g()).with_generation_id_or_member_epoch(-1);
            vec![RequestKind::OffsetCommit(request.with_topics(vec![topic]))]
        }
        ApiKey::OffsetFetch => {
            let topic = OffsetFetchRequestTopic::default().with_name(t()).with_partition_indexes(vec![0, 1]);
            vec![RequestKind::OffsetFetch(
                OffsetFetchRequest::default().with_group_id(g()).with_topics(Some(vec![topic])),
            )]
        }
        ApiKey::JoinGroup => {
            let protocol = JoinGroupRequestProtocol::default().with_name(s("range"));
            let request = JoinGroupRequest::default()
                .with_group_id(g())
                .with_session_timeout_ms(10_000)
                .with_protocol_type(s("consumer"))
                .with_protocols(vec![protocol.with_metadata(Bytes::from_static(SUBSCRIPTION))]);
            let request = if version >= 5 { request.with_group_instance_id(Some(s("i"))) } else { request };
            vec![RequestKind::JoinGroup(request)]
        }
        ApiKey::SyncGroup => {
            let assigned = SyncGroupRequestAssignment::default().with_member_id(s("m"));
            let assigned = assigned.with_assignment(Bytes::from_static(b"all"));
            let request = SyncGroupRequest::default().with_group_id(g()).with_generation_id(1);
            vec![RequestKind::SyncGroup(request.with_member_id(s("m")).with_assignments(vec![assigned]))]
        }
        ApiKey::Heartbeat => {
            vec![RequestKind::Heartbeat(
                HeartbeatRequest::default().with_group_id(g()).with_member_id(s("m")),
            )]
        }
        ApiKey::LeaveGroup => {
            let request = LeaveGroupRequest::default().with_group_id(g());
            let member = MemberIdentity::default().with_group_instance_id(Some(s("i")));
            let request = if version >= 3 {
                request.with_members(vec![member])
            } else {
                request.with_member_id(s("m"))
            };
            vec![RequestKind::LeaveGroup(request)]
        }
        _ => {
            let partitions = vec![OffsetDeleteRequestPartition::default()];
            let topic = OffsetDeleteRequestTopic::default().with_name(t()).with_partitions(partitions);
            vec![RequestKind::OffsetDelete(
                OffsetDeleteRequest::default().with_group_id(g()).with_topics(vec![topic]),
            )]
        }
    }
}

fn of_topics(key: ApiKey, version: i16) -> Vec<RequestKind> {
    const TOPIC: i8 = 2;
    match key {
        ApiKey::CreateTopics => {
            let config = CreatableTopicConfig::default().with_name(s("cleanup.policy"));
            let topic =
                CreatableTopic::default().with_name(t()).with_num_partitions(2).with_replication_factor(1);
            let topic = topic.with_configs(vec![config.with_value(Some(s("compact,delete")))]);
            vec![RequestKind::CreateTopics(CreateTopicsRequest::default().with_topics(vec![topic]))]
        }
        ApiKey::DeleteTopics => {
            let request = DeleteTopicsRequest::default();
            let topic = DeleteTopicState::default().with_name(Some(t()));
            let request = if version >= 6 {
                request.with_topics(vec![topic])
            } else {
                request.with_topic_names(vec![t()])
            };
            vec![RequestKind::DeleteTopics(request)]
        }
        ApiKey::CreatePartitions => {
            let topic = CreatePartitionsTopic::default().with_name(t()).with_count(3).with_assignments(None);
            vec![RequestKind::CreatePartitions(CreatePartitionsRequest::default().with_topics(vec![topic]))]
        }
        ApiKey::DeleteRecords => {
            let partitions = vec![DeleteRecordsPartition::default().with_offset(1)];
            let topic = DeleteRecordsTopic::default().with_name(t()).with_partitions(partitions);
            vec![RequestKind::DeleteRecords(DeleteRecordsRequest::default().with_topics(vec![topic]))]
        }
        ApiKey::DescribeConfigs => {
            let resource =
                DescribeConfigsResource::default().with_resource_type(TOPIC).with_resource_name(s("t"));
            let all = resource.clone().with_configuration_keys(None);
            let broker =
                resource.with_resource_type(4).with_resource_name(s("1")).with_configuration_keys(None);
            vec![RequestKind::DescribeConfigs(
                DescribeConfigsRequest::default().with_resources(vec![all, broker]),
            )]
        }
        ApiKey::AlterConfigs => {
            let entry =
                alter::AlterableConfig::default().with_name(s("retention.ms")).with_value(Some(s("1000")));
            let resource = alter::AlterConfigsResource::default().with_resource_type(TOPIC);
            let resource = resource.with_resource_name(s("t")).with_configs(vec![entry]);
            vec![RequestKind::AlterConfigs(AlterConfigsRequest::default().with_resources(vec![resource]))]
        }
        _ => {
            let entry =
                change::AlterableConfig::default().with_name(s("retention.bytes")).with_value(Some(s("100")));
            let resource = change::AlterConfigsResource::default().with_resource_type(TOPIC);
            let resource = resource.with_resource_name(s("t")).with_configs(vec![entry]);
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource]);
            vec![RequestKind::IncrementalAlterConfigs(request)]
        }
    }
}

fn of_questions(key: ApiKey, version: i16) -> Vec<RequestKind> {
    vec![match key {
        ApiKey::Metadata => {
            let topic = MetadataRequestTopic::default().with_name(Some(t()));
            RequestKind::Metadata(MetadataRequest::default().with_topics(Some(vec![topic])))
        }
        ApiKey::FindCoordinator => {
            RequestKind::FindCoordinator(FindCoordinatorRequest::default().with_key(s("g")))
        }
        ApiKey::DescribeGroups => {
            RequestKind::DescribeGroups(DescribeGroupsRequest::default().with_groups(vec![g()]))
        }
        ApiKey::ListGroups => RequestKind::ListGroups(ListGroupsRequest::default()),
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default();
            RequestKind::ApiVersions(if version >= 3 {
                request.with_client_software_name(s("n")).with_client_software_version(s("v"))
            } else {
                request
            })
        }
        ApiKey::DeleteGroups => {
            RequestKind::DeleteGroups(DeleteGroupsRequest::default().with_groups_names(vec![g()]))
        }
        ApiKey::DescribeProducers => {
            let topic = TopicRequest::default().with_name(t()).with_partition_indexes(vec![0, 1]);
            RequestKind::DescribeProducers(DescribeProducersRequest::default().with_topics(vec![topic]))
        }
        ApiKey::DescribeTransactions => RequestKind::DescribeTransactions(
            DescribeTransactionsRequest::default().with_transactional_ids(vec![x()]),
        ),
        ApiKey::ListTransactions => RequestKind::ListTransactions(
            ListTransactionsRequest::default().with_state_filters(vec![s("Ongoing")]),
        ),
        ApiKey::DescribeClientQuotas => {
            let user = describe_client_quotas_request::ComponentData::default().with_entity_type(s("user"));
            let user = user.with_match_type(0).with_match(Some(s("u")));
            RequestKind::DescribeClientQuotas(
                DescribeClientQuotasRequest::default().with_components(vec![user]),
            )
        }
        _ => return Vec::new(),
    }]
}

fn of_users(key: ApiKey) -> Vec<RequestKind> {
    match key {
        ApiKey::SaslHandshake => login::MECHANISMS.map(|name| login::handshake(s(name))).to_vec(),
        ApiKey::SaslAuthenticate => {
            let tokens = Hash::ALL.into_iter().flat_map(login::tokens);
            tokens.chain([login::PLAIN.to_vec()]).map(login::authenticate).collect()
        }
        ApiKey::DescribeUserScramCredentials => {
            let request = DescribeUserScramCredentialsRequest::default();
            let named = request.clone().with_users(Some(vec![UserName::default().with_name(s("u"))]));
            [request, named].map(RequestKind::DescribeUserScramCredentials).to_vec()
        }
        _ => {
            let request = AlterUserScramCredentialsRequest::default();
            let new = |hash: Hash| {
                ScramCredentialUpsertion::default()
                    .with_name(s("u"))
                    .with_mechanism(hash.number())
                    .with_iterations(4096)
                    .with_salt(Bytes::from_static(b"salt"))
                    .with_salted_password(Bytes::from_static(&[7; 32]))
            };
            let old = ScramCredentialDeletion::default().with_name(s("v")).with_mechanism(1);
            let changes = Hash::ALL.map(|hash| request.clone().with_upsertions(vec![new(hash)]));
            let both = request.with_upsertions(vec![new(Hash::Sha256)]).with_deletions(vec![old]);
            changes.into_iter().chain([both]).map(RequestKind::AlterUserScramCredentials).collect()
        }
    }
}
