//! The walk agrees with the encoder of the protocol crate in every version the broker offers.

use bytes::{Bytes, BytesMut};
use kafka_protocol::messages::add_partitions_to_txn_request::AddPartitionsToTxnTopic;
use kafka_protocol::messages::create_partitions_request::{
    CreatePartitionsAssignment, CreatePartitionsTopic,
};
use kafka_protocol::messages::create_topics_request::{
    CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig,
};
use kafka_protocol::messages::delete_records_request::{DeleteRecordsPartition, DeleteRecordsTopic};
use kafka_protocol::messages::delete_topics_request::DeleteTopicState;
use kafka_protocol::messages::describe_configs_request::DescribeConfigsResource;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic, ForgottenTopic};
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

use super::super::SUPPORTED;
use super::check;

fn s(text: &'static str) -> StrBytes {
    StrBytes::from_static_str(text)
}

fn t(text: &'static str) -> TopicName {
    TopicName(s(text))
}

fn sasl_sample(api: ApiKey) -> RequestKind {
    if api == ApiKey::SaslHandshake {
        return RequestKind::SaslHandshake(SaslHandshakeRequest::default().with_mechanism(s("PLAIN")));
    }
    let token = Bytes::from_static(b"token");
    RequestKind::SaslAuthenticate(SaslAuthenticateRequest::default().with_auth_bytes(token))
}

fn users_sample(api: ApiKey) -> RequestKind {
    use alter_user_scram_credentials_request::{ScramCredentialDeletion, ScramCredentialUpsertion};
    match api {
        ApiKey::DescribeClientQuotas => {
            let component =
                describe_client_quotas_request::ComponentData::default().with_entity_type(s("user"));
            let request = DescribeClientQuotasRequest::default();
            RequestKind::DescribeClientQuotas(request.with_components(vec![component; 2]))
        }
        ApiKey::DescribeUserScramCredentials => {
            let user = describe_user_scram_credentials_request::UserName::default().with_name(s("u"));
            let request = DescribeUserScramCredentialsRequest::default();
            RequestKind::DescribeUserScramCredentials(request.with_users(Some(vec![user; 2])))
        }
        _ => {
            let deletion = ScramCredentialDeletion::default().with_name(s("u"));
            let bytes = Bytes::from_static(b"bytes");
            let upsertion = ScramCredentialUpsertion::default().with_name(s("u"));
            let upsertion = upsertion.with_salt(bytes.clone()).with_salted_password(bytes);
            RequestKind::AlterUserScramCredentials(
                AlterUserScramCredentialsRequest::default()
                    .with_deletions(vec![deletion; 2])
                    .with_upsertions(vec![upsertion; 2]),
            )
        }
    }
}

/// A request with something in every list. Fields that `version` does not know stay at their defaults.
#[allow(clippy::too_many_lines)] // one arm per request
fn sample(api: ApiKey, version: i16) -> RequestKind {
    match api {
        ApiKey::Produce => {
            let data = PartitionProduceData::default().with_records(Some(Bytes::from_static(b"records")));
            let topic = TopicProduceData::default().with_name(t("a")).with_partition_data(vec![data; 2]);
            RequestKind::Produce(ProduceRequest::default().with_topic_data(vec![topic; 2]))
        }
        ApiKey::Fetch => {
            let topic = FetchTopic::default()
                .with_topic(t("abc"))
                .with_partitions(vec![FetchPartition::default(); 3]);
            let mut fetch = FetchRequest::default().with_topics(vec![topic; 2]);
            if version >= 7 {
                let forgotten = ForgottenTopic::default().with_topic(t("f")).with_partitions(vec![1, 2]);
                fetch = fetch.with_forgotten_topics_data(vec![forgotten]);
            }
            RequestKind::Fetch(if version >= 11 { fetch.with_rack_id(s("rack")) } else { fetch })
        }
        ApiKey::ListOffsets => {
            let topic = ListOffsetsTopic::default().with_name(t("abc"));
            let topic = topic.with_partitions(vec![ListOffsetsPartition::default(); 3]);
            RequestKind::ListOffsets(ListOffsetsRequest::default().with_topics(vec![topic; 2]))
        }
        ApiKey::Metadata => {
            let topic = MetadataRequestTopic::default().with_name(Some(t("abc")));
            RequestKind::Metadata(MetadataRequest::default().with_topics(Some(vec![topic; 2])))
        }
        ApiKey::OffsetCommit => {
            let p = OffsetCommitRequestPartition::default().with_committed_metadata(Some(s("m")));
            let topic = OffsetCommitRequestTopic::default().with_name(t("abc")).with_partitions(vec![p; 2]);
            RequestKind::OffsetCommit(
                OffsetCommitRequest::default().with_group_id(GroupId(s("g"))).with_topics(vec![topic; 2]),
            )
        }
        ApiKey::OffsetFetch => {
            let topic =
                OffsetFetchRequestTopic::default().with_name(t("abc")).with_partition_indexes(vec![1, 2]);
            RequestKind::OffsetFetch(OffsetFetchRequest::default().with_topics(Some(vec![topic; 2])))
        }
        ApiKey::FindCoordinator => {
            RequestKind::FindCoordinator(FindCoordinatorRequest::default().with_key(s("k")))
        }
        ApiKey::DescribeGroups => RequestKind::DescribeGroups(
            DescribeGroupsRequest::default().with_groups(vec![GroupId(s("g")), GroupId(s("h"))]),
        ),
        ApiKey::ListGroups => {
            let request = ListGroupsRequest::default();
            RequestKind::ListGroups(if version >= 4 {
                request.with_states_filter(vec![s("Empty"), s("Stable")])
            } else {
                request
            })
        }
        ApiKey::ApiVersions => {
            let request = ApiVersionsRequest::default();
            RequestKind::ApiVersions(if version >= 3 {
                request.with_client_software_name(s("n")).with_client_software_version(s("v"))
            } else {
                request
            })
        }
        ApiKey::CreateTopics => {
            let assigned = CreatableReplicaAssignment::default().with_broker_ids(vec![BrokerId(1); 2]);
            let config = CreatableTopicConfig::default().with_name(s("n")).with_value(Some(s("v")));
            let topic = CreatableTopic::default()
                .with_name(t("abc"))
                .with_assignments(vec![assigned; 2])
                .with_configs(vec![config; 2]);
            RequestKind::CreateTopics(CreateTopicsRequest::default().with_topics(vec![topic; 2]))
        }
        ApiKey::DeleteTopics => {
            let request = DeleteTopicsRequest::default();
            let topic = DeleteTopicState::default().with_name(Some(t("abc")));
            RequestKind::DeleteTopics(if version >= 6 {
                request.with_topics(vec![topic; 2])
            } else {
                request.with_topic_names(vec![t("a"), t("b")])
            })
        }
        ApiKey::InitProducerId => RequestKind::InitProducerId(
            InitProducerIdRequest::default().with_transactional_id(Some(TransactionalId(s("id")))),
        ),
        ApiKey::AddPartitionsToTxn => {
            let topic = AddPartitionsToTxnTopic::default().with_name(t("abc")).with_partitions(vec![1, 2]);
            let request = AddPartitionsToTxnRequest::default();
            RequestKind::AddPartitionsToTxn(request.with_v3_and_below_topics(vec![topic; 2]))
        }
        ApiKey::AddOffsetsToTxn => {
            RequestKind::AddOffsetsToTxn(AddOffsetsToTxnRequest::default().with_group_id(GroupId(s("g"))))
        }
        ApiKey::EndTxn => RequestKind::EndTxn(EndTxnRequest::default().with_committed(true)),
        ApiKey::WriteTxnMarkers => {
            let topic =
                WritableTxnMarkerTopic::default().with_name(t("abc")).with_partition_indexes(vec![1, 2]);
            let marker = WritableTxnMarker::default().with_topics(vec![topic; 2]);
            RequestKind::WriteTxnMarkers(WriteTxnMarkersRequest::default().with_markers(vec![marker; 2]))
        }
        ApiKey::TxnOffsetCommit => {
            let p = TxnOffsetCommitRequestPartition::default().with_committed_metadata(Some(s("m")));
            let topic =
                TxnOffsetCommitRequestTopic::default().with_name(t("abc")).with_partitions(vec![p; 2]);
            RequestKind::TxnOffsetCommit(TxnOffsetCommitRequest::default().with_topics(vec![topic; 2]))
        }
        ApiKey::DescribeConfigs => {
            let resource = DescribeConfigsResource::default().with_resource_name(s("r"));
            let named = resource.clone().with_configuration_keys(Some(vec![s("k"), s("l")]));
            let all = resource.with_configuration_keys(None);
            RequestKind::DescribeConfigs(DescribeConfigsRequest::default().with_resources(vec![named, all]))
        }
        ApiKey::CreatePartitions => {
            let assigned = CreatePartitionsAssignment::default().with_broker_ids(vec![BrokerId(1)]);
            let topic = CreatePartitionsTopic::default()
                .with_name(t("abc"))
                .with_assignments(Some(vec![assigned; 2]));
            RequestKind::CreatePartitions(CreatePartitionsRequest::default().with_topics(vec![topic; 2]))
        }
        ApiKey::DeleteGroups => RequestKind::DeleteGroups(
            DeleteGroupsRequest::default().with_groups_names(vec![GroupId(s("g")), GroupId(s("h"))]),
        ),
        ApiKey::JoinGroup => {
            let protocol = JoinGroupRequestProtocol::default()
                .with_name(s("range"))
                .with_metadata(Bytes::from_static(b"meta"));
            let request = JoinGroupRequest::default()
                .with_group_id(GroupId(s("g")))
                .with_member_id(s("m"))
                .with_protocol_type(s("consumer"))
                .with_protocols(vec![protocol; 2]);
            let request = if version >= 5 { request.with_group_instance_id(Some(s("i"))) } else { request };
            RequestKind::JoinGroup(if version >= 8 { request.with_reason(Some(s("r"))) } else { request })
        }
        ApiKey::SyncGroup => {
            let assigned = SyncGroupRequestAssignment::default()
                .with_member_id(s("m"))
                .with_assignment(Bytes::from_static(b"all"));
            let request =
                SyncGroupRequest::default().with_member_id(s("m")).with_assignments(vec![assigned; 2]);
            let request = if version >= 3 { request.with_group_instance_id(Some(s("i"))) } else { request };
            RequestKind::SyncGroup(if version >= 5 {
                request.with_protocol_type(Some(s("consumer"))).with_protocol_name(Some(s("range")))
            } else {
                request
            })
        }
        ApiKey::Heartbeat => {
            let request = HeartbeatRequest::default().with_group_id(GroupId(s("g"))).with_member_id(s("m"));
            RequestKind::Heartbeat(if version >= 3 {
                request.with_group_instance_id(Some(s("i")))
            } else {
                request
            })
        }
        ApiKey::LeaveGroup => {
            let request = LeaveGroupRequest::default().with_group_id(GroupId(s("g")));
            let member =
                MemberIdentity::default().with_member_id(s("m")).with_group_instance_id(Some(s("i")));
            let member = if version >= 5 { member.with_reason(Some(s("r"))) } else { member };
            RequestKind::LeaveGroup(if version >= 3 {
                request.with_members(vec![member; 2])
            } else {
                request.with_member_id(s("m"))
            })
        }
        ApiKey::OffsetDelete => {
            let topic = OffsetDeleteRequestTopic::default()
                .with_name(t("abc"))
                .with_partitions(vec![OffsetDeleteRequestPartition::default(); 2]);
            RequestKind::OffsetDelete(OffsetDeleteRequest::default().with_topics(vec![topic; 2]))
        }
        ApiKey::DeleteRecords => {
            let topic = DeleteRecordsTopic::default()
                .with_name(t("abc"))
                .with_partitions(vec![DeleteRecordsPartition::default(); 2]);
            RequestKind::DeleteRecords(DeleteRecordsRequest::default().with_topics(vec![topic; 2]))
        }
        ApiKey::AlterConfigs => {
            let entry =
                alter_configs_request::AlterableConfig::default().with_name(s("n")).with_value(Some(s("v")));
            let resource = alter_configs_request::AlterConfigsResource::default()
                .with_resource_name(s("r"))
                .with_configs(vec![entry; 2]);
            RequestKind::AlterConfigs(AlterConfigsRequest::default().with_resources(vec![resource; 2]))
        }
        ApiKey::IncrementalAlterConfigs => {
            use incremental_alter_configs_request::{AlterConfigsResource, AlterableConfig};
            let entry = AlterableConfig::default().with_name(s("n")).with_value(Some(s("v")));
            let resource =
                AlterConfigsResource::default().with_resource_name(s("r")).with_configs(vec![entry; 2]);
            let request = IncrementalAlterConfigsRequest::default().with_resources(vec![resource; 2]);
            RequestKind::IncrementalAlterConfigs(request)
        }
        ApiKey::SaslHandshake | ApiKey::SaslAuthenticate => sasl_sample(api),
        ApiKey::DescribeClientQuotas
        | ApiKey::DescribeUserScramCredentials
        | ApiKey::AlterUserScramCredentials => users_sample(api),
        ApiKey::DescribeProducers => {
            let topic = describe_producers_request::TopicRequest::default()
                .with_name(t("abc"))
                .with_partition_indexes(vec![1, 2]);
            RequestKind::DescribeProducers(DescribeProducersRequest::default().with_topics(vec![topic; 2]))
        }
        ApiKey::DescribeTransactions => RequestKind::DescribeTransactions(
            DescribeTransactionsRequest::default()
                .with_transactional_ids(vec![TransactionalId(s("a")), TransactionalId(s("b"))]),
        ),
        ApiKey::ListTransactions => RequestKind::ListTransactions(
            ListTransactionsRequest::default()
                .with_state_filters(vec![s("Ongoing"), s("Empty")])
                .with_producer_id_filters(vec![ProducerId(1), ProducerId(2)]),
        ),
        other => panic!("no sample for {other:?}"),
    }
}

fn every_sample() -> impl Iterator<Item = (ApiKey, i16, Bytes)> {
    let versions = SUPPORTED.iter().flat_map(|(api, min, max)| (*min..=*max).map(|version| (*api, version)));
    versions.map(|(api, version)| {
        let mut bytes = BytesMut::new();
        sample(api, version)
            .encode(&mut bytes, version)
            .unwrap_or_else(|error| panic!("{api:?} {version}: {error}"));
        (api, version, bytes.freeze())
    })
}

#[test]
fn every_offered_request_has_its_shape() {
    for (api, version, bytes) in every_sample() {
        assert_eq!(check(api, version, &bytes), Ok(0), "{api:?} version {version}");
    }
}

#[test]
fn a_request_cut_anywhere_is_refused_and_bytes_after_it_are_ignored() {
    for (api, version, bytes) in every_sample() {
        for len in 0..bytes.len() {
            assert!(check(api, version, &bytes[..len]).is_err(), "{api:?} version {version} cut at {len}");
        }
        let longer = [&bytes[..], &[0]].concat();
        assert_eq!(check(api, version, &longer), Ok(1), "{api:?} version {version} with a byte more");
    }
}

#[test]
fn what_passes_is_decoded_or_refused_without_a_panic_whatever_byte_changes() {
    for (api, version, bytes) in every_sample() {
        for at in 0..bytes.len() {
            for value in [0, 1, 0x7f, 0x80, 0xff] {
                let mut changed = bytes.to_vec();
                changed[at] = value;
                if check(api, version, &changed).is_ok() {
                    let _ = RequestKind::decode(api, &mut Bytes::from(changed), version);
                }
            }
        }
    }
}
