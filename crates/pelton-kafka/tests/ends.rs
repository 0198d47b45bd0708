//! Sources, sinks and offsets against the embedded broker, and against the real Kafka that `PELTON_TEST_KAFKA` names.
#![allow(missing_docs, clippy::unwrap_used)]

mod kit;

use kit::*;
use pelton_kafka::{KafkaFactory, KafkaOptions};
use pelton_sdk::{Budget, ConnectorFactory, ErrorKind, Polled};
use pelton_types::{Code, Partition};
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer},
};
use serde_json::json;
use std::{
    collections::{BTreeMap, BTreeSet},
    task::Poll,
    thread,
    time::Duration,
};

#[test]
fn keys_values_headers_and_timestamps_come_back_as_they_were() {
    for cluster in clusters() {
        let topic = cluster.topic("round-trip", 1);
        let mut executor = cluster.executor();
        let pairs =
            [(Some("k"), Some("v")), (None, Some("no key")), (Some("tombstone"), None), (Some(""), Some(""))];
        let mut batch = batch_of(Partition::new("a file", 0), &pairs);
        with_headers(&mut batch, 0, &[("a", Some(b"1")), ("a", None), ("b", Some(b"")), ("", Some(b"\xff"))]);
        let now =
            std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64;
        batch.records[1].timestamp_ms = now - 5_000;
        let mut sink = executor.sink(&topic);
        push_all(&mut *sink, &batch);
        flush(&mut *sink).unwrap();

        let mut all = read(&mut *executor.reading(&topic, [0]), 4);
        all.sort_by_key(|r| r.offset);
        let pair = |r: &Seen| (r.key.clone(), r.value.clone());
        let bytes = |t: Option<&str>| t.map(|t| t.as_bytes().to_vec());
        assert_eq!(
            all.iter().map(pair).collect::<Vec<_>>(),
            pairs.iter().map(|(k, v)| (bytes(*k), bytes(*v))).collect::<Vec<_>>()
        );
        let headers: Vec<_> = all[0].headers.iter().map(|(n, v)| (n.as_str(), v.as_deref())).collect();
        assert_eq!(headers, [("a", Some(&b"1"[..])), ("a", None), ("b", Some(b"")), ("", Some(b"\xff"))]);
        assert!(all[1].headers.is_empty());
        assert_eq!(all[1].timestamp_ms, now - 5_000);
        assert!(
            all[0].timestamp_ms >= now - 60_000,
            "a record without a time gets one: {}",
            all[0].timestamp_ms
        );
    }
}

#[test]
fn a_commit_is_read_back_with_its_text_by_the_successor_who_goes_on_there() {
    for cluster in clusters() {
        let topic = cluster.topic("commit", 2);
        let mut executor = cluster.executor();
        fill(&mut executor, &topic, 2, 50);
        let partitions: Vec<_> = (0..2).map(|p| Partition::new(topic.as_str(), p)).collect();
        let mut offsets = executor.offsets(&topic, "earliest");
        let before = committed(&mut *offsets, &partitions).unwrap();
        assert!(
            before.iter().all(|c| c.offset.is_none() && c.start == 0 && c.metadata.is_none()),
            "{before:?}"
        );

        let mut source = executor.reading(&topic, [0, 1]);
        read(&mut *source, 100);
        let mut positions = source.positions();
        assert_eq!(positions.iter().map(|(_, o)| *o).collect::<Vec<_>>(), [50, 50]);
        positions[1].1 = 20;
        commit(&mut *offsets, &positions, "p1;g=1;e=7").unwrap();
        drop((source, offsets));

        let mut successor = cluster.executor();
        successor.successor_of(&executor);
        let mut offsets = successor.offsets(&topic, "latest");
        let found = committed(&mut *offsets, &partitions).unwrap();
        assert_eq!(
            found.iter().map(|c| (c.offset, c.start)).collect::<Vec<_>>(),
            [(Some(50), 50), (Some(20), 20)]
        );
        assert!(found.iter().all(|c| c.metadata.as_deref() == Some("p1;g=1;e=7")), "{found:?}");
        let mut source = successor.source(&topic, [0, 1]);
        let start: Vec<_> = found.into_iter().map(|c| (c.partition, c.start)).collect();
        source.start(&start).unwrap();
        let rest = read(&mut *source, 30);
        assert!(rest.iter().all(|r| r.partition == 1 && r.offset >= 20), "{rest:?}");
    }
}

#[test]
fn start_latest_means_the_end_as_it_is_now() {
    for cluster in clusters() {
        let topic = cluster.topic("latest", 1);
        let mut executor = cluster.executor();
        fill(&mut executor, &topic, 1, 7);
        let mut offsets = executor.offsets(&topic, "latest");
        let found = committed(&mut *offsets, &[Partition::new(topic.as_str(), 0)]).unwrap();
        assert_eq!((found[0].offset, found[0].start), (None, 7));
    }
}

#[test]
fn eight_partitions_take_turns() {
    for cluster in clusters() {
        let topic = cluster.topic("fair", 8);
        let mut executor = cluster.executor();
        fill(&mut executor, &topic, 8, 500);
        let mut source = executor.reading(&topic, 0..8);
        let mut one = || {
            until("a record", || match source.poll(Budget { records: 1, bytes: 1 << 20 }).unwrap() {
                Polled::Batch(batch) => Some((batch.partition.index, batch.records[0].offset, batch.len())),
                _ => None,
            })
        };
        // Once each has given a record, each has more of the same fetch waiting.
        let mut begun = BTreeSet::new();
        while begun.len() < 8 {
            begun.insert(one().0);
        }
        for _ in 0..10 {
            let turns: BTreeSet<i32> = (0..8).map(|_| one().0).collect();
            assert_eq!(turns.len(), 8, "somebody was passed over: {turns:?}");
        }
    }
}

#[test]
fn offsets_rise_by_one_without_a_gap() {
    for cluster in clusters() {
        let topic = cluster.topic("gapless", 4);
        let mut executor = cluster.executor();
        fill(&mut executor, &topic, 4, 5_000);
        let mut next = [0; 4];
        for record in read(&mut *executor.reading(&topic, 0..4), 20_000) {
            let next = &mut next[record.partition as usize];
            assert_eq!(record.offset, *next, "partition {}", record.partition);
            *next += 1;
        }
    }
}

#[test]
fn a_byte_budget_ends_a_batch_behind_the_record_that_reaches_it() {
    for cluster in clusters() {
        let topic = cluster.topic("budget", 1);
        let mut executor = cluster.executor();
        let big = "x".repeat(10_000);
        let pairs = [(None, Some(big.as_str())); 30];
        let mut sink = executor.sink(&topic);
        push_all(&mut *sink, &batch_of(Partition::new("a file", 0), &pairs));
        flush(&mut *sink).unwrap();
        let mut source = executor.reading(&topic, [0]);
        let (mut offsets, mut sizes) = (Vec::new(), Vec::new());
        until("all records", || {
            let polled = source.poll(Budget { records: 1_000, bytes: 25_000 }).unwrap();
            if let Polled::Batch(batch) = polled {
                sizes.push(batch.len());
                offsets.extend(batch.records.iter().map(|r| r.offset));
                assert_eq!(
                    source.positions()[0].1,
                    offsets.len() as i64,
                    "behind what was delivered, not fetched"
                );
            }
            thread::current().unpark();
            (offsets.len() == 30).then_some(())
        });
        assert_eq!(offsets, (0..30).collect::<Vec<i64>>());
        assert!(sizes.iter().all(|s| *s <= 3), "{sizes:?}");
    }
}

#[test]
fn stopping_one_task_leaves_the_others_of_the_executor_flowing() {
    for cluster in clusters() {
        let topic = cluster.topic("two-tasks", 4);
        let mut executor = cluster.executor();
        fill(&mut executor, &topic, 4, 10);
        let mut one = executor.reading(&topic, [0, 1]);
        let mut other = executor.reading(&topic, [2, 3]);
        read(&mut *one, 20);
        read(&mut *other, 20);
        one.stop();
        fill(&mut executor, &topic, 4, 10);
        let more = read(&mut *other, 20);
        assert!(more.iter().all(|r| r.partition >= 2 && r.offset >= 10), "{more:?}");
        assert!(matches!(one.poll(BUDGET).unwrap(), Polled::Pending));
        // And comes back where it left.
        one.start(&at(&topic, [0, 1], 10)).unwrap();
        let again = read(&mut *one, 20);
        assert!(again.iter().all(|r| r.partition < 2 && r.offset >= 10), "{again:?}");
    }
}

#[test]
fn a_stalled_task_stops_only_itself() {
    for cluster in clusters() {
        let topic = cluster.topic("stalled", 2);
        let mut executor = cluster.executor();
        let mut stalled = executor.reading(&topic, [0]);
        let mut other = executor.reading(&topic, [1]);
        for round in 0..5 {
            fill(&mut executor, &topic, 2, 200);
            let got = read(&mut *other, 200);
            assert_eq!(got[0].offset, round * 200);
        }
        assert_eq!(read(&mut *stalled, 1_000).len(), 1_000);
    }
}

#[test]
fn an_idle_source_sleeps_until_a_record_wakes_it() {
    for cluster in clusters() {
        let topic = cluster.topic("idle", 1);
        let mut executor = cluster.executor();
        let mut source = executor.reading(&topic, [0]);
        until("a settled source", || {
            source.lag();
            let idle = matches!(source.poll(BUDGET).unwrap(), Polled::Pending);
            (idle && source.lag()[0].end == Some(0)).then_some(())
        });
        let writer = cluster.factory();
        let (name, of_thread) = (topic.clone(), topic.clone());
        let thread = thread::spawn(move || fill(&mut Executor::of(&writer), &of_thread, 1, 1));
        let mut polls = 0;
        let batch = loop {
            polls += 1;
            assert!(polls < 200, "polled {polls} times for one record");
            if let Polled::Batch(batch) = source.poll(BUDGET).unwrap() {
                break batch;
            }
            // No time-out that could stand in for the wake-up: without one this test hangs until the guard.
            thread::park_timeout(Duration::from_secs(60));
        };
        assert_eq!((&*batch.partition.topic, batch.len()), (name.as_str(), 1));
        thread.join().unwrap();
    }
}

#[test]
fn lag_counts_down_to_nothing() {
    for cluster in clusters() {
        let topic = cluster.topic("lag", 2);
        let mut executor = cluster.executor();
        fill(&mut executor, &topic, 2, 30);
        let mut source = executor.reading(&topic, [0, 1]);
        until("ends", || source.lag().iter().all(|l| l.records() == Some(30)).then_some(()));
        read(&mut *source, 60);
        assert!(source.lag().iter().all(|l| l.records() == Some(0)), "{:?}", source.lag());
    }
}

#[test]
fn positions_and_lag_pass_the_marks_of_transactions() {
    use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
    for cluster in clusters() {
        let topic = cluster.topic("marks", 1);
        let producer: BaseProducer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", cluster.bootstrap())
            .set("transactional.id", unique("marks"))
            .create()
            .unwrap();
        let patience = Duration::from_secs(30);
        producer.init_transactions(patience).unwrap();
        for committed in [true, false] {
            producer.begin_transaction().unwrap();
            for i in 0..5 {
                let value = format!("{committed}{i}");
                producer
                    .send(BaseRecord::<str, str>::to(&topic).payload(&value))
                    .map_err(|(e, _)| e)
                    .unwrap();
            }
            producer.flush(patience).unwrap();
            let ended = if committed {
                producer.commit_transaction(patience)
            } else {
                producer.abort_transaction(patience)
            };
            ended.unwrap();
        }
        let mut executor = cluster.executor();
        let mut source = executor.reading(&topic, [0]);
        let values: Vec<_> = read(&mut *source, 5).into_iter().filter_map(|r| r.value).collect();
        assert!(values.iter().all(|v| v.starts_with(b"true")), "aborted records are not seen");
        // Five records, a mark, five that were aborted, a mark.
        until("the end", || {
            assert!(matches!(source.poll(BUDGET).unwrap(), Polled::Pending));
            (source.positions()[0].1 == 12).then_some(())
        });
        until("no lag", || (source.lag()[0].records() == Some(0)).then_some(()));
    }
}

#[test]
fn records_keep_their_partition_between_topics_of_one_size_and_follow_the_key_otherwise() {
    for cluster in clusters() {
        let (from, same, other) =
            (cluster.topic("from", 4), cluster.topic("same", 4), cluster.topic("other", 3));
        let mut executor = cluster.executor();
        let mut source = executor.source(&from, 0..4);
        source.warm();
        let batch = |p| numbered(Partition::new(from.as_str(), p), "key", 20);
        let (mut to_same, mut to_other) = (executor.sink(&same), executor.sink(&other));
        push_all(&mut *to_same, &batch(2));
        let mut rekeyed = batch(1);
        rekeyed.rekeyed = true;
        push_all(&mut *to_same, &rekeyed);
        push_all(&mut *to_other, &batch(2));
        flush(&mut *to_same).unwrap();
        flush(&mut *to_other).unwrap();
        let all = read(&mut *executor.reading(&same, 0..4), 40);
        let by_partition = |p| all.iter().filter(|r| r.partition == p).count();
        assert!(by_partition(2) >= 20, "kept");
        let spread = (0..4).filter(|p| by_partition(*p) > 0).count();
        assert!(spread > 1, "new keys are placed anew");
        // What Kafka's own default partitioner (murmur2) says for these keys and three partitions.
        let placed: BTreeMap<_, _> = read(&mut *executor.reading(&other, 0..3), 20)
            .into_iter()
            .map(|r| (String::from_utf8(r.key.unwrap()).unwrap(), r.partition))
            .collect();
        for (key, partition) in &placed {
            assert_eq!(*partition, murmur2_partition(key.as_bytes(), 3), "{key}");
        }
    }
}

/// Kafka's default partitioner, written from its definition (32-bit MurmurHash2, seed 0x9747b28c, sign bit dropped).
fn murmur2_partition(key: &[u8], partitions: u32) -> i32 {
    const M: u32 = 0x5bd1_e995;
    let mut h = 0x9747_b28c ^ key.len() as u32;
    let mut chunks = key.chunks_exact(4);
    for c in &mut chunks {
        let mut k = u32::from_le_bytes([c[0], c[1], c[2], c[3]]).wrapping_mul(M);
        k = (k ^ (k >> 24)).wrapping_mul(M);
        h = h.wrapping_mul(M) ^ k;
    }
    let rest = chunks.remainder();
    if !rest.is_empty() {
        for (i, b) in rest.iter().enumerate() {
            h ^= u32::from(*b) << (8 * i);
        }
        h = h.wrapping_mul(M);
    }
    h = (h ^ (h >> 13)).wrapping_mul(M);
    h ^= h >> 15;
    ((h & 0x7fff_ffff) % partitions) as i32
}

#[test]
fn an_offset_outside_the_log_stops_the_source_and_names_what_is_there() {
    for cluster in clusters() {
        let topic = cluster.topic("range", 1);
        let mut executor = cluster.executor();
        fill(&mut executor, &topic, 1, 5);
        let mut source = executor.source(&topic, [0]);
        source.start(&at(&topic, [0], 100)).unwrap();
        let error = until("the error", || source.poll(BUDGET).err());
        assert_eq!((error.kind, error.code), (ErrorKind::Stop, Code::OffsetOutOfRange));
        assert!(error.message.contains("has no offset 100: the broker keeps 0 to 5"), "{}", error.message);
        assert_eq!(source.positions()[0].1, 100, "and nothing was skipped");
    }
}

#[test]
fn a_missing_topic_is_named_by_sources_and_sinks_and_nobody_creates_it() {
    for cluster in clusters() {
        let topic = unique("missing");
        let mut executor = cluster.executor();
        let mut source = executor.reading(&topic, [0]);
        let error = until("the source's error", || source.poll(BUDGET).err());
        assert_eq!((error.kind, error.code), (ErrorKind::Retry, Code::TopicMissing), "{error:?}");
        assert!(error.message.contains(&topic), "{}", error.message);
        let mut sink = executor.sink(&topic);
        let batch = numbered(Partition::new("a file", 0), "n", 3);
        let error = until("the sink's error", || sink.push(&batch, 0).err());
        assert_eq!((error.kind, error.code), (ErrorKind::Retry, Code::TopicMissing), "{error:?}");
        let catalog = cluster.factory().catalog(&serde_json::json!({})).unwrap();
        assert_eq!(block_on(catalog.partitions(&topic)), Ok(None));
        // Made after all, both go on by themselves.
        block_on(catalog.create(&topic, 1)).unwrap();
        block_on(catalog.create(&topic, 1)).unwrap();
        assert_eq!(block_on(catalog.partitions(&topic)), Ok(Some(1)));
        push_all(&mut *sink, &batch);
        flush(&mut *sink).unwrap();
        let mut got = 0;
        until("the records", || {
            // Trouble from before the topic was there may still be told.
            if let Ok(Polled::Batch(batch)) = source.poll(BUDGET) {
                got += batch.len();
            }
            (got == 3).then_some(())
        });
    }
}

#[test]
fn a_record_too_large_is_rejected_and_the_next_goes_on() {
    for cluster in clusters() {
        let topic = cluster.topic("large", 1);
        let mut executor = cluster.executor();
        let big = "x".repeat(2_000_000);
        let batch = batch_of(
            Partition::new("a file", 0),
            &[(None, Some("a")), (None, Some(&big)), (None, Some("b"))],
        );
        let mut sink = executor.sink(&topic);
        let pushed = until("the first push", || Some(sink.push(&batch, 0).unwrap()).filter(|p| p.taken > 0));
        let why = pushed.rejected.unwrap();
        assert!(why.contains("value 2000000 bytes"), "{why}");
        assert_eq!(pushed.taken, 1);
        assert_eq!(sink.push(&batch, 2).unwrap().taken, 1);
        flush(&mut *sink).unwrap();
        let values: Vec<_> =
            read(&mut *executor.reading(&topic, [0]), 2).into_iter().filter_map(|r| r.value).collect();
        assert_eq!(values, [b"a".to_vec(), b"b".to_vec()]);
    }
}

#[test]
fn a_full_queue_takes_a_part_and_wakes_for_the_rest() {
    for cluster in clusters() {
        let topic = cluster.topic("full", 1);
        let mut executor = cluster.executor();
        let value = "v".repeat(5_000);
        let pairs = vec![(None, Some(value.as_str())); 1_000];
        let batch = batch_of(Partition::new("a file", 0), &pairs);
        let mut sink =
            executor.sink_with(json!({ "topic": topic, "maxInFlight": "1MiB", "compression": "none" }));
        let (mut from, mut parts) = (0, 0);
        until("all taken", || {
            let pushed = sink.push(&batch, from).unwrap();
            parts += usize::from(pushed.taken > 0);
            from += pushed.taken;
            (from == batch.len()).then_some(())
        });
        assert!(parts > 1, "5 MB do not fit into 1 MiB at once");
        flush(&mut *sink).unwrap();
        read(&mut *executor.reading(&topic, [0]), 1_000);
    }
}

#[test]
fn while_one_sink_flushes_the_others_wait_and_one_flush_serves_all() {
    for cluster in clusters() {
        let topic = cluster.topic("shared-flush", 1);
        let mut executor = cluster.executor();
        let options = json!({ "topic": topic, "linger": "1s" });
        let (mut a, mut b) = (executor.sink_with(options.clone()), executor.sink_with(options));
        let batch = numbered(Partition::new("a file", 0), "n", 100);
        push_all(&mut *a, &batch);
        push_all(&mut *b, &batch);
        a.start_flush();
        b.start_flush();
        // Held back until the flush has been seen to end, or the flush was that quick.
        let held = b.push(&batch, 0).unwrap().taken;
        if held > 0 {
            assert_eq!(a.poll_flush(), Poll::Ready(Ok(())), "taken while a flush was under way");
            a.start_flush();
        }
        for sink in [&mut a, &mut b] {
            let outcome = until("the flush", || match sink.poll_flush() {
                Poll::Ready(outcome) => Some(outcome),
                Poll::Pending => None,
            });
            assert_eq!(outcome, Ok(()));
        }
        push_all(&mut *b, &batch);
        flush(&mut *b).unwrap();
        flush(&mut *a).unwrap();
        read(&mut *executor.reading(&topic, [0]), 300 + held);
    }
}

#[test]
fn a_broker_that_is_down_at_the_start_is_reported_once_and_work_begins_when_it_comes() {
    let mut cluster = Cluster::down(&free_address());
    let topic = unique("late");
    let mut executor = cluster.executor();
    let mut source = executor.reading(&topic, [0]);
    let error = until("the report", || source.poll(BUDGET).err());
    assert_eq!((error.kind, error.code), (ErrorKind::Retry, Code::BrokerUnreachable));
    assert!(error.message.contains(cluster.bootstrap()), "{}", error.message);
    for _ in 0..50 {
        assert!(matches!(source.poll(BUDGET), Ok(Polled::Pending)), "once is enough");
    }
    let mut sink = executor.sink(&topic);
    let batch = numbered(Partition::new("a file", 0), "n", 3);
    assert_eq!(sink.push(&batch, 0).unwrap().taken, 0);
    let catalog = cluster.factory().catalog(&serde_json::json!({})).unwrap();
    let unanswered = block_on(catalog.partitions(&topic)).unwrap_err();
    assert_eq!((unanswered.kind, unanswered.code), (ErrorKind::Retry, Code::BrokerUnreachable));

    cluster.up();
    block_on(catalog.create(&topic, 1)).unwrap();
    push_all(&mut *sink, &batch);
    flush(&mut *sink).unwrap();
    let mut got = 0;
    until("the records", || {
        if let Ok(Polled::Batch(batch)) = source.poll(BUDGET) {
            got += batch.len();
        }
        (got == 3).then_some(())
    });
}

#[test]
fn records_not_stored_in_time_fail_the_flush_of_their_own_sink_only() {
    let mut cluster = Cluster::embedded();
    let topic = cluster.topic("flush-fails", 1);
    let options = KafkaOptions::new(cluster.bootstrap()).property("message.timeout.ms", "1500");
    let mut executor = Executor::of(&KafkaFactory::new(options).unwrap());
    let (mut losing, mut idle) = (executor.sink(&topic), executor.sink(&topic));
    let batch = numbered(Partition::new("a file", 0), "n", 10);
    push_all(&mut *losing, &batch);
    flush(&mut *losing).unwrap();
    push_all(&mut *idle, &batch);
    flush(&mut *idle).unwrap();
    cluster.stop();
    push_all(&mut *losing, &batch);
    let error = flush(&mut *losing).unwrap_err();
    assert_eq!((error.kind, error.code), (ErrorKind::Retry, Code::BrokerUnreachable), "{error:?}");
    assert!(error.message.contains(&topic), "{}", error.message);
    flush(&mut *idle).unwrap();
    cluster.up();
    push_all(&mut *losing, &batch);
    until("a flush that succeeds again", || {
        flush(&mut *losing).ok().or_else(|| {
            push_all(&mut *losing, &batch);
            None
        })
    });
}

#[test]
fn a_foreign_commit_that_is_no_text_is_an_error_and_no_panic() {
    for cluster in clusters() {
        let topic = cluster.topic("foreign", 1);
        let mut executor = cluster.executor();
        // The embedded broker closes a connection that sends this; Apache's keeps it, or something like it.
        let bytes: &[u8] =
            if matches!(cluster, Cluster::Real { .. }) { b"\xff\xfe not text" } else { b"not text" };
        foreign_commit(cluster.bootstrap(), &executor.group(), &topic, bytes);
        let mut offsets = executor.offsets(&topic, "earliest");
        let found = committed(&mut *offsets, &[Partition::new(topic.as_str(), 0)]);
        match found {
            Err(error) => {
                assert_eq!((error.kind, error.code), (ErrorKind::Stop, Code::ForeignOffsets), "{error:?}")
            }
            Ok(all) => assert!(all[0].metadata.as_deref().is_none_or(|m| m.contains("not text")), "{all:?}"),
        }
    }
}

/// Commit with bytes that safe clients cannot send.
fn foreign_commit(bootstrap: &str, group: &str, topic: &str, metadata: &[u8]) {
    use rdkafka::consumer::{BaseConsumer, Consumer};
    use rdkafka_sys as sys;
    let consumer: BaseConsumer = rdkafka::ClientConfig::new()
        .set("bootstrap.servers", bootstrap)
        .set("group.id", group)
        .set("enable.auto.commit", "false")
        .create()
        .unwrap();
    let topic = std::ffi::CString::new(topic).unwrap();
    until("the foreign commit", || {
        // SAFETY: a list of one entry whose metadata is allocated as the library frees it.
        unsafe {
            let list = sys::rd_kafka_topic_partition_list_new(1);
            let entry = sys::rd_kafka_topic_partition_list_add(list, topic.as_ptr(), 0);
            (*entry).offset = 3;
            (*entry).metadata = libc::malloc(metadata.len()).cast();
            std::ptr::copy_nonoverlapping(metadata.as_ptr(), (*entry).metadata.cast(), metadata.len());
            (*entry).metadata_size = metadata.len();
            let code = sys::rd_kafka_commit(consumer.client().native_ptr(), list, 0) as i32;
            sys::rd_kafka_topic_partition_list_destroy(list);
            (code == 0).then_some(())
        }
    });
}

#[test]
fn what_is_pushed_between_the_end_of_a_flush_and_the_question_for_it_is_covered_by_the_next_one() {
    for cluster in clusters() {
        let topic = cluster.topic("between", 1);
        let mut executor = cluster.executor();
        // Without a flush nothing would go out for a while.
        let mut sink = executor.sink_with(json!({ "topic": topic, "linger": "5s" }));
        let of = |name| batch_of(Partition::new("a file", 0), &[(Some("k"), Some(name))]);
        push_all(&mut *sink, &of("before"));
        sink.start_flush();
        // Nothing is taken while it runs.
        push_all(&mut *sink, &of("between"));
        until("the first flush", || sink.poll_flush().is_ready().then_some(()));
        flush(&mut *sink).unwrap();
        let reader: BaseConsumer =
            ClientConfig::new().set("bootstrap.servers", cluster.bootstrap()).create().unwrap();
        let (_, end) = reader.fetch_watermarks(&topic, 0, Duration::from_secs(30)).unwrap();
        assert_eq!(end, 2, "stored when the flush says so");
    }
}
