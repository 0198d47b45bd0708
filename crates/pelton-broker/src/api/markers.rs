//! Markers that an administrator asks for.

use kafka_protocol::messages::write_txn_markers_request::WritableTxnMarker;
use kafka_protocol::messages::write_txn_markers_response::{
    WritableTxnMarkerPartitionResult, WritableTxnMarkerResult, WritableTxnMarkerTopicResult,
};
use kafka_protocol::messages::{WriteTxnMarkersRequest, WriteTxnMarkersResponse};

use crate::batch::Marker;
use crate::broker::Broker;
use crate::code::Code;
use crate::core::WantedMarker;
use crate::store::SegmentStore;

pub(super) fn write<S: SegmentStore>(
    broker: &mut Broker<S>,
    request: WriteTxnMarkersRequest,
    now_ms: i64,
) -> WriteTxnMarkersResponse {
    let results = request.markers.into_iter().map(|marker| write_one(broker, marker, now_ms));
    WriteTxnMarkersResponse::default().with_markers(results.collect())
}

fn write_one<S: SegmentStore>(
    broker: &mut Broker<S>,
    asked: WritableTxnMarker,
    now_ms: i64,
) -> WritableTxnMarkerResult {
    let wanted = WantedMarker {
        producer_id: asked.producer_id.0,
        epoch: asked.producer_epoch,
        marker: if asked.transaction_result { Marker::Commit } else { Marker::Abort },
        coordinator_epoch: asked.coordinator_epoch,
    };
    let mut write = |topic: &str, index: i32| {
        let planned = broker.state().plan_write_marker((topic, index), wanted, now_ms);
        let code = planned.and_then(|plan| broker.run(plan, Code::KafkaStorageError)).err();
        tracing::info!(topic, partition = index, ?wanted, ?code, "an administrator ended a transaction here");
        code.unwrap_or(Code::None)
    };
    let topics = asked.topics.into_iter().map(|topic| {
        let partitions = topic.partition_indexes.iter().map(|index| {
            WritableTxnMarkerPartitionResult::default()
                .with_partition_index(*index)
                .with_error_code(write(&topic.name, *index).into())
        });
        let partitions = partitions.collect();
        WritableTxnMarkerTopicResult::default().with_name(topic.name).with_partitions(partitions)
    });
    WritableTxnMarkerResult::default().with_producer_id(asked.producer_id).with_topics(topics.collect())
}
