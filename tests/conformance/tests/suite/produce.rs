//! Produce and fetch.

use std::time::Duration;

use kafka_protocol::error::ResponseError;
use kafka_protocol::messages::fetch_request::{FetchPartition, FetchTopic};
use kafka_protocol::messages::{
    ApiVersionsRequest, FetchRequest, InitProducerIdRequest, InitProducerIdResponse,
};
use pelton_conformance::client::{COMMITTED, UNCOMMITTED};
use pelton_conformance::wire::{Writer, batch, name, now_ms, refusal};
use pelton_conformance::{Target, conform};
use rdkafka::error::KafkaError;
use rdkafka::message::{Header, Headers, Message, OwnedHeaders, OwnedMessage, Timestamp};
use rdkafka::producer::{BaseRecord, Producer};
use rdkafka::types::RDKafkaErrorCode;
use rdkafka::{Offset, consumer::Consumer};

conform!(
    records_of_every_codec_come_back_with_keys_headers_and_times,
    headers_may_repeat_and_hold_null,
    keys_and_values_may_be_null_or_empty,
    the_broker_stamps_records_where_a_topic_says_so,
    a_record_of_8_mb_comes_back,
    a_record_larger_than_the_topic_allows_is_refused,
    a_waiting_fetch_is_woken_by_a_record,
    a_fetch_smaller_than_the_next_record_still_gets_it,
    every_level_of_acknowledgement_delivers,
    a_repeated_batch_is_acknowledged_and_not_stored_twice,
    a_gap_in_an_idempotent_sequence_is_refused,
    an_older_epoch_of_an_idempotent_producer_is_refused,
    a_damaged_batch_is_refused,
    an_unknown_topic_is_made_when_a_producer_asks_for_it,
    a_partition_that_is_not_there_is_refused,
    an_offset_outside_the_log_is_refused,
    a_topic_compressed_by_the_broker_gives_back_the_records,
);

/// The first record of a partition.
fn first(target: &Target, topic: &str) -> OwnedMessage {
    let reader = target.reader(topic, 0, Offset::Beginning, COMMITTED);
    target.poll(&reader, "a record", |event| Some(event.unwrap().detach()))
}

fn records_of_every_codec_come_back_with_keys_headers_and_times(target: &Target) {
    // Recent, as a broker may delete what is old.
    let time = now_ms() - 5000;
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let topic = target.topic(codec, 1);
        let producer = target.producer(&[("compression.codec", codec)]);
        let value = "x".repeat(10_000);
        let headers = OwnedHeaders::new().insert(Header { key: "h", value: Some("v") });
        let record = BaseRecord::to(&topic).partition(0).key("k").payload(&value);
        producer.send(record.headers(headers).timestamp(time)).map_err(|(error, _)| error).unwrap();
        target.flush(&producer);
        let message = first(target, &topic);
        assert_eq!(message.payload(), Some(value.as_bytes()), "{codec}");
        assert_eq!(message.key(), Some(b"k".as_slice()));
        assert_eq!(message.timestamp(), Timestamp::CreateTime(time));
        assert_eq!(message.headers().unwrap().get(0), Header { key: "h", value: Some(b"v".as_slice()) });
    }
}

fn headers_may_repeat_and_hold_null(target: &Target) {
    let topic = target.topic("headers", 1);
    let producer = target.producer(&[]);
    let headers = OwnedHeaders::new()
        .insert(Header { key: "twice", value: Some("1") })
        .insert(Header { key: "twice", value: Some("2") })
        .insert(Header { key: "null", value: None::<&str> })
        .insert(Header { key: "", value: Some("") });
    producer
        .send(BaseRecord::<(), str>::to(&topic).payload("x").headers(headers))
        .map_err(|(e, _)| e)
        .unwrap();
    target.flush(&producer);
    let message = first(target, &topic);
    let headers: Vec<_> =
        message.headers().unwrap().iter().map(|h| (h.key.to_owned(), h.value.map(<[u8]>::to_vec))).collect();
    let expected = [("twice", Some("1")), ("twice", Some("2")), ("null", None), ("", Some(""))];
    let expected: Vec<_> =
        expected.map(|(key, value)| (key.to_owned(), value.map(|v| v.as_bytes().to_vec()))).into();
    assert_eq!(headers, expected);
}

fn keys_and_values_may_be_null_or_empty(target: &Target) {
    let topic = target.topic("nulls", 1);
    let producer = target.producer(&[]);
    let send = |record: BaseRecord<'_, str, str>| producer.send(record).map_err(|(error, _)| error).unwrap();
    send(BaseRecord::to(&topic).partition(0));
    send(BaseRecord::to(&topic).partition(0).key("").payload(""));
    send(BaseRecord::to(&topic).partition(0).key("tombstone"));
    target.flush(&producer);
    let reader = target.reader(&topic, 0, Offset::Beginning, COMMITTED);
    let mut seen = Vec::new();
    target.poll(&reader, "three records", |event| {
        let message = event.unwrap();
        seen.push((message.key().map(<[u8]>::to_vec), message.payload().map(<[u8]>::to_vec)));
        (seen.len() == 3).then_some(())
    });
    assert_eq!(seen, [(None, None), (Some(vec![]), Some(vec![])), (Some(b"tombstone".to_vec()), None)]);
}

fn the_broker_stamps_records_where_a_topic_says_so(target: &Target) {
    let topic = target.topic_with("stamped", 1, &[("message.timestamp.type", "LogAppendTime")]);
    let before = now_ms();
    let producer = target.producer(&[("compression.codec", "lz4")]);
    let record = BaseRecord::to(&topic).partition(0).key("k").payload("v").timestamp(before - 3_600_000);
    producer.send(record).map_err(|(error, _)| error).unwrap();
    target.flush(&producer);
    let Timestamp::LogAppendTime(time) = first(target, &topic).timestamp() else { panic!("no append time") };
    assert!((before..=now_ms()).contains(&time), "{time} is not between sending and reading");
}

fn a_record_of_8_mb_comes_back(target: &Target) {
    let topic = target.topic_with("large", 1, &[("max.message.bytes", "16000000")]);
    let producer = target.producer(&[("message.max.bytes", "10000000")]);
    let value: Vec<u8> = (0..8_000_000_u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    producer.send(BaseRecord::<(), [u8]>::to(&topic).payload(&value)).map_err(|(error, _)| error).unwrap();
    target.flush(&producer);
    let message = first(target, &topic);
    assert!(message.payload() == Some(value.as_slice()), "the record differs");
}

fn a_record_larger_than_the_topic_allows_is_refused(target: &Target) {
    let topic = target.topic_with("limited", 1, &[("max.message.bytes", "10000")]);
    let producer = target.reporting_producer(&[]);
    for size in [20_000, 100] {
        let value = "x".repeat(size);
        producer.send(BaseRecord::<(), str>::to(&topic).payload(&value)).map_err(|(e, _)| e).unwrap();
        target.flush(&producer);
    }
    let reports = producer.context().0.lock().unwrap().clone();
    assert_eq!(reports, [Err(RDKafkaErrorCode::MessageSizeTooLarge), Ok(0)]);
}

fn a_waiting_fetch_is_woken_by_a_record(target: &Target) {
    let topic = target.topic("woken", 1);
    let (mut waiting, mut producing) = (target.wire(), target.wire());
    for offset in 0..20 {
        let partition =
            FetchPartition::default().with_fetch_offset(offset).with_partition_max_bytes(1_000_000);
        let asked = FetchTopic::default().with_topic(name(&topic)).with_partitions(vec![partition]);
        // It would wait five minutes, longer than the patience of any case.
        let request =
            FetchRequest::default().with_max_wait_ms(300_000).with_min_bytes(1).with_max_bytes(1_000_000);
        waiting.send(4, &request.with_topics(vec![asked]));
        // A request on the same connection would be answered after it; give it a round trip's time at least.
        producing.call(0, &ApiVersionsRequest::default());
        assert_eq!(producing.produce(&topic, 0, None, batch(Writer::PLAIN, &["x"], now_ms())), Ok(offset));
        let response = waiting.receive::<FetchRequest>(4);
        let answer = &response.responses[0].partitions[0];
        assert_eq!(refusal(answer.error_code), None);
        assert!(answer.records.as_ref().is_some_and(|records| !records.is_empty()));
    }
}

fn a_fetch_smaller_than_the_next_record_still_gets_it(target: &Target) {
    let topic = target.topic("progress", 1);
    let value = "x".repeat(200_000);
    target.send(&target.producer(&[]), &topic, 0, &[&value, "small"]);
    let small =
        [("fetch.message.max.bytes", "1000"), ("fetch.max.bytes", "1000"), ("message.max.bytes", "1000")];
    let reader = target.consumer(&small);
    let mut list = rdkafka::TopicPartitionList::new();
    list.add_partition_offset(&topic, 0, Offset::Beginning).unwrap();
    reader.assign(&list).unwrap();
    let mut lengths = Vec::new();
    target.poll(&reader, "both records", |event| {
        lengths.push(event.unwrap().payload_len());
        (lengths.len() == 2).then_some(())
    });
    assert_eq!(lengths, [200_000, 5]);
}

fn every_level_of_acknowledgement_delivers(target: &Target) {
    let topic = target.topic("acks", 1);
    for acks in ["0", "1", "all"] {
        target.send(&target.producer(&[("acks", acks)]), &topic, 0, &[acks]);
        // Without acknowledgement the record may arrive later than `flush` returns.
        target.until(acks, || target.values(&topic, 0, COMMITTED).contains(&acks.to_owned()).then_some(()));
    }
    assert_eq!(target.values(&topic, 0, COMMITTED), ["0", "1", "all"]);
}

fn idempotent(target: &Target) -> Writer {
    let request =
        InitProducerIdRequest::default().with_transactional_id(None).with_transaction_timeout_ms(60_000);
    let mut wire = target.wire();
    let response = wire.settled(1, &request, |r: &InitProducerIdResponse| r.error_code);
    assert_eq!(refusal(response.error_code), None);
    Writer { id: response.producer_id.0, epoch: response.producer_epoch, sequence: 0, transactional: false }
}

fn a_repeated_batch_is_acknowledged_and_not_stored_twice(target: &Target) {
    let topic = target.topic("repeated", 1);
    let writer = idempotent(target);
    let mut wire = target.wire();
    let mut produce = |sequence, values: &[&str]| {
        wire.produce(&topic, 0, None, batch(Writer { sequence, ..writer }, values, now_ms()))
    };
    assert_eq!(produce(0, &["a", "b"]), Ok(0));
    assert_eq!(produce(2, &["c"]), Ok(2));
    assert_eq!(produce(0, &["a", "b"]), Ok(0));
    assert_eq!(produce(2, &["c"]), Ok(2));
    assert_eq!(produce(3, &["d"]), Ok(3));
    assert_eq!(target.values(&topic, 0, COMMITTED), ["a", "b", "c", "d"]);
}

fn a_gap_in_an_idempotent_sequence_is_refused(target: &Target) {
    let topic = target.topic("gap", 1);
    let writer = idempotent(target);
    let mut wire = target.wire();
    let mut produce =
        |sequence| wire.produce(&topic, 0, None, batch(Writer { sequence, ..writer }, &["x"], now_ms()));
    assert_eq!(produce(0), Ok(0));
    assert_eq!(produce(5), Err(ResponseError::OutOfOrderSequenceNumber));
    assert_eq!(produce(1), Ok(1));
}

fn an_older_epoch_of_an_idempotent_producer_is_refused(target: &Target) {
    let topic = target.topic("epoch", 1);
    let writer = idempotent(target);
    let mut wire = target.wire();
    let mut produce = |epoch, sequence| {
        wire.produce(&topic, 0, None, batch(Writer { epoch, sequence, ..writer }, &["x"], now_ms()))
    };
    assert_eq!(produce(writer.epoch + 1, 0), Ok(0));
    assert_eq!(produce(writer.epoch, 0), Err(ResponseError::InvalidProducerEpoch));
    assert_eq!(
        produce(writer.epoch + 2, 7),
        Err(ResponseError::OutOfOrderSequenceNumber),
        "a new epoch begins at 0"
    );
    assert_eq!(produce(writer.epoch + 2, 0), Ok(1));
}

fn a_damaged_batch_is_refused(target: &Target) {
    let topic = target.topic("damaged", 1);
    let good = batch(Writer::PLAIN, &["value"], now_ms());
    let mut bad = good.to_vec();
    *bad.last_mut().unwrap() ^= 1;
    bad[70] ^= 4;
    let mut wire = target.wire();
    assert_eq!(wire.produce(&topic, 0, None, bad.into()), Err(ResponseError::CorruptMessage));
    assert_eq!(wire.produce(&topic, 0, None, good), Ok(0));
}

fn an_unknown_topic_is_made_when_a_producer_asks_for_it(target: &Target) {
    let topic = target.unique("automatic");
    target.remember(&topic);
    target.send(&target.producer(&[]), &topic, 0, &["x"]);
    assert_eq!(target.values(&topic, 0, COMMITTED), ["x"]);
}

fn a_partition_that_is_not_there_is_refused(target: &Target) {
    let topic = target.topic("small", 1);
    let mut wire = target.wire();
    let unknown = Err(ResponseError::UnknownTopicOrPartition);
    assert_eq!(wire.produce(&topic, 1, None, batch(Writer::PLAIN, &["x"], now_ms())), unknown);
    let nowhere = target.unique("nowhere");
    assert_eq!(wire.produce(&nowhere, 0, None, batch(Writer::PLAIN, &["x"], now_ms())), unknown);
}

fn an_offset_outside_the_log_is_refused(target: &Target) {
    let topic = target.topic("range", 1);
    target.send(&target.producer(&[]), &topic, 0, &["a", "b"]);
    let reader = target.reader(&topic, 0, Offset::Offset(3), UNCOMMITTED);
    let code =
        target.poll(&reader, "an error", |event| Some(event.map(drop).unwrap_err().rdkafka_error_code()));
    // librdkafka reports the reset that `auto.offset.reset=error` forbids.
    assert_eq!(code, Some(RDKafkaErrorCode::AutoOffsetReset));
    let reader = target.reader(&topic, 0, Offset::Offset(2), UNCOMMITTED);
    let at_end =
        target.poll(&reader, "the end", |event| Some(matches!(event, Err(KafkaError::PartitionEOF(0)))));
    assert!(at_end, "the end itself is no error");
    assert!(reader.fetch_watermarks(&topic, 0, Duration::from_secs(10)).is_ok_and(|marks| marks == (0, 2)));
}

fn a_topic_compressed_by_the_broker_gives_back_the_records(target: &Target) {
    let topic = target.topic_with("recompressed", 1, &[("compression.type", "gzip")]);
    target.send(&target.producer(&[("compression.codec", "lz4")]), &topic, 0, &["a", "b"]);
    assert_eq!(target.values(&topic, 0, COMMITTED), ["a", "b"]);
}
