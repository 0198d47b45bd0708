//! Handing records on to the client library, and what it means when it refuses one.

use crate::{
    consumer::{Topic, take_error},
    errors::{self, code},
    native::{Client, Failure},
};
use pelton_sdk::{EndError, Pushed};
use pelton_types::{Batch, Code, Record};
use rdkafka_sys as sys;
use std::{ffi::c_void, ptr, time::Duration};

/// What became of one record.
pub(crate) enum Produced {
    Taken,
    /// No room now.
    Full,
    /// Never.
    Rejected(String),
    Failed(EndError),
}

/// When a full queue is looked at again: the library gives no signal for room.
pub(crate) const ROOM_AFTER: Duration = Duration::from_millis(1);

impl Produced {
    /// What a push comes to that took so many records before this.
    pub(crate) fn pushed(self, taken: usize) -> Result<Pushed, EndError> {
        match self {
            Produced::Failed(error) if taken == 0 => Err(error),
            Produced::Rejected(why) => Ok(Pushed { taken, rejected: Some(why) }),
            // Asked again for the rest, what failed fails again.
            Produced::Taken | Produced::Full | Produced::Failed(_) => Ok(Pushed { taken, rejected: None }),
        }
    }
}

/// Hand records from index `from` on to the client, each to `partition` or where its key belongs (-1); `opaque` comes
/// back with what is said of them later. The number taken, and the first that was not, with why.
pub(crate) fn records<'a>(
    client: &Client,
    topic: &Topic,
    batch: &'a Batch,
    from: usize,
    partition: i32,
    opaque: *mut c_void,
) -> (usize, Option<(&'a Record, Failure)>) {
    let all = batch.records.get(from..).unwrap_or_default();
    for (taken, record) in all.iter().enumerate() {
        if let Err(failure) = one(client.raw(), topic.raw(), partition, batch, record, opaque) {
            return (taken, Some((record, failure)));
        }
    }
    (all.len(), None)
}

/// What a refused record means. Pure.
pub(crate) fn refusal(
    topic: &str,
    brokers: &str,
    batch: &Batch,
    record: &Record,
    failure: &Failure,
) -> Produced {
    match failure.code {
        code::QUEUE_FULL => Produced::Full,
        code::MSG_SIZE_TOO_LARGE => {
            let size = |bytes: Option<&[u8]>| bytes.map_or(0, <[u8]>::len);
            Produced::Rejected(format!(
                "too large for topic {topic}: key {} bytes, value {} bytes, headers {} bytes; the client's bound is \
                 its property message.max.bytes (1000000 unless set)",
                size(batch.key(record)),
                size(batch.value(record)),
                size(batch.get(record.headers)),
            ))
        }
        code::FATAL => Produced::Failed(EndError::retry(
            Code::SinkFailed,
            format!("the producer for topic {topic} failed and is made anew: {}", failure.text),
        )),
        _ => Produced::Failed(errors::delivery(topic, brokers, failure)),
    }
}

fn one(
    client: *mut sys::rd_kafka_t,
    topic: *mut sys::rd_kafka_topic_t,
    partition: i32,
    batch: &Batch,
    record: &Record,
    opaque: *mut c_void,
) -> Result<(), Failure> {
    use sys::rd_kafka_vtype_t as V;
    let mut arguments = [EMPTY; 8];
    let mut count = 0;
    let mut set = |vtype, u| {
        arguments[count] = sys::rd_kafka_vu_t { vtype, u };
        count += 1;
    };
    set(V::RD_KAFKA_VTYPE_RKT, Value { rkt: topic });
    set(V::RD_KAFKA_VTYPE_MSGFLAGS, Value { i: sys::RD_KAFKA_MSG_F_COPY });
    set(V::RD_KAFKA_VTYPE_PARTITION, Value { i32_: partition });
    set(V::RD_KAFKA_VTYPE_OPAQUE, Value { ptr: opaque });
    set(V::RD_KAFKA_VTYPE_VALUE, Value { mem: memory(batch.value(record)) });
    set(V::RD_KAFKA_VTYPE_KEY, Value { mem: memory(batch.key(record)) });
    if record.timestamp_ms > 0 {
        set(V::RD_KAFKA_VTYPE_TIMESTAMP, Value { i64_: record.timestamp_ms });
    }
    let headers = if record.headers.is_null() { ptr::null_mut() } else { headers(batch, record) };
    if !headers.is_null() {
        set(V::RD_KAFKA_VTYPE_HEADERS, Value { headers });
    }
    // SAFETY: `count` arguments are filled in; key, value and headers are copied or taken over by the call.
    let error = unsafe { sys::rd_kafka_produceva(client, arguments.as_ptr(), count) };
    take_error(error).inspect_err(|_| {
        if !headers.is_null() {
            // SAFETY: taken over only on success.
            unsafe { sys::rd_kafka_headers_destroy(headers) };
        }
    })
}

use sys::rd_kafka_vu_s__bindgen_ty_1 as Value;
use sys::rd_kafka_vu_s__bindgen_ty_1__bindgen_ty_1 as Memory;

const EMPTY: sys::rd_kafka_vu_t = sys::rd_kafka_vu_t {
    vtype: sys::rd_kafka_vtype_t::RD_KAFKA_VTYPE_END,
    u: Value { ptr: ptr::null_mut() },
};

/// Null stays null; an empty slice has a pointer and no length, which the library keeps apart from null.
fn memory(bytes: Option<&[u8]>) -> Memory {
    match bytes {
        None => Memory { ptr: ptr::null_mut(), size: 0 },
        Some(bytes) => Memory { ptr: bytes.as_ptr().cast_mut().cast(), size: bytes.len() },
    }
}

fn headers(batch: &Batch, record: &Record) -> *mut sys::rd_kafka_headers_t {
    // SAFETY: a new list, handed to the caller; names and values are copied, lengths are those of live slices.
    unsafe {
        let list = sys::rd_kafka_headers_new(4);
        for (name, value) in batch.headers(record) {
            let (data, len) = value.map_or((ptr::null(), 0), |v| (v.as_ptr().cast(), v.len() as isize));
            sys::rd_kafka_header_add(list, name.as_ptr().cast(), name.len() as isize, data, len);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_types::{Partition, Span};

    #[test]
    fn a_record_too_large_is_rejected_with_its_sizes_and_a_full_queue_is_not() {
        let mut batch = Batch::new(Partition::new("in", 0));
        let key = batch.put(Some(b"k1"));
        let value = batch.put(Some(b"12345"));
        let record = Record { key, value, headers: Span::NULL, timestamp_ms: -1, offset: 0 };
        let refused = |code| refusal("out", "b:1", &batch, &record, &Failure::of(code));
        assert!(matches!(refused(code::QUEUE_FULL), Produced::Full));
        let Produced::Rejected(why) = refused(code::MSG_SIZE_TOO_LARGE) else { panic!("not rejected") };
        assert!(
            why.starts_with("too large for topic out: key 2 bytes, value 5 bytes, headers 0 bytes"),
            "{why}"
        );
        assert!(matches!(refused(code::UNKNOWN_TOPIC), Produced::Failed(e) if e.code == Code::TopicMissing));
    }
}
