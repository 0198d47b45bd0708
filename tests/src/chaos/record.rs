//! The records of the load: an id that counts all records and a sequence number that counts a key's.

use std::fmt::Write;

/// Keys of the load: many to a partition, and each often enough that an order can be seen.
pub const KEYS: u64 = 400;

/// One record as it stands in a topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Partition it stands in.
    pub partition: i32,
    /// Time the broker or the client gave it, milliseconds since 1970.
    pub timestamp_ms: i64,
    /// Counts all records.
    pub id: u64,
    /// Its key's number.
    pub key: u64,
    /// Counts the key's records.
    pub sequence: u64,
}

/// The key and the sequence number of the record with this id.
pub fn place(id: u64) -> (u64, u64) {
    (id % KEYS, id / KEYS)
}

/// The value of the record with this id.
pub fn write(id: u64, into: &mut String) {
    let (key, sequence) = place(id);
    into.clear();
    // Writing to a string does not fail.
    let _ = write!(into, r#"{{"id":{id},"key":{key},"sequence":{sequence},"text":"{:x<120}"}}"#, "");
}

/// The numbers of a value.
///
/// # Errors
/// A value that this load does not write.
pub fn read(value: &[u8], partition: i32, timestamp_ms: i64) -> Result<Record, String> {
    let foreign = || format!("a value that is not ours: {}", String::from_utf8_lossy(value));
    let value: serde_json::Value = serde_json::from_slice(value).map_err(|_| foreign())?;
    let number = |name: &str| value[name].as_u64().ok_or_else(foreign);
    Ok(Record {
        partition,
        timestamp_ms,
        id: number("id")?,
        key: number("key")?,
        sequence: number("sequence")?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_anything_else_is_named() {
        let mut value = String::new();
        write(1_234, &mut value);
        let record = read(value.as_bytes(), 3, 9).unwrap();
        assert_eq!(record, Record { partition: 3, timestamp_ms: 9, id: 1_234, key: 34, sequence: 3 });
        assert!(read(b"{\"id\":1}", 0, 0).unwrap_err().contains("{\"id\":1}"));
    }
}
