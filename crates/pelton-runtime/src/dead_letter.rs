//! A record that could not be processed, as it is kept: the bytes it was read with, and headers that say why.

use pelton_types::{Batch, Header};

/// Why: the operator's or sink's words.
pub const CAUSE: &str = "pelton-cause";
/// The operator or sink that refused it.
pub const OPERATOR: &str = "pelton-operator";
/// The topic it was read from.
pub const TOPIC: &str = "pelton-topic";
/// The partition it was read from.
pub const PARTITION: &str = "pelton-partition";
/// The offset it was read at.
pub const OFFSET: &str = "pelton-offset";

/// Longest cause kept, bytes: a header is no place for a megabyte of somebody's record.
const MAX_CAUSE: usize = 1024;

/// The dead letter of a batch's only record.
///
/// Key, value and headers are those it was read with, whatever operators changed since; its own headers stay in front.
pub fn dead_letter(record: &Batch, operator: &str, cause: &str) -> Batch {
    let mut letter = Batch::new(record.partition.clone());
    letter.rekeyed = record.rekeyed;
    for current in &record.records {
        let original = *record.original(current.offset).unwrap_or(current);
        let partition = record.partition.index.to_string();
        let offset = original.offset.to_string();
        let why: [Header<'_>; 5] = [
            (CAUSE, Some(shorten(cause).as_bytes())),
            (OPERATOR, Some(operator.as_bytes())),
            (TOPIC, Some(record.partition.topic.as_bytes())),
            (PARTITION, Some(partition.as_bytes())),
            (OFFSET, Some(offset.as_bytes())),
        ];
        let key = letter.put(record.key(&original));
        let value = letter.put(record.value(&original));
        let headers = letter.put_headers(record.headers(&original).chain(why));
        letter.records.push(pelton_types::Record { key, value, headers, ..original });
    }
    letter
}

/// Cut a text at a character boundary.
fn shorten(text: &str) -> &str {
    match text.char_indices().map(|(at, _)| at).take_while(|at| *at <= MAX_CAUSE).last() {
        Some(end) if text.len() > MAX_CAUSE => &text[..end],
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_types::{Partition, Record, Span};

    #[test]
    fn a_dead_letter_keeps_the_record_as_it_was_read_and_says_why() {
        let mut batch = Batch::new(Partition::new("orders", 3));
        let (key, value) = (batch.put(Some(b"k")), batch.put(Some(b"{broken")));
        let headers = batch.put_headers([("trace", Some(&b"1"[..]))]);
        batch.records.push(Record { key, value, headers, timestamp_ms: 7, offset: 41 });
        batch.mark_origin();
        batch.records[0].value = batch.put(Some(b"changed"));
        batch.records[0].headers = Span::NULL;

        let letter = dead_letter(&batch, "large", "not JSON at byte 1");

        let record = letter.records[0];
        assert_eq!(letter.value(&record), Some(&b"{broken"[..]));
        assert_eq!(letter.key(&record), Some(&b"k"[..]));
        assert_eq!(record.timestamp_ms, 7);
        let headers: Vec<_> = letter
            .headers(&record)
            .map(|(n, v)| (n, String::from_utf8_lossy(v.unwrap()).into_owned()))
            .collect();
        let expected = [
            ("trace", "1"),
            (CAUSE, "not JSON at byte 1"),
            (OPERATOR, "large"),
            (TOPIC, "orders"),
            (PARTITION, "3"),
            (OFFSET, "41"),
        ];
        assert_eq!(headers, expected.map(|(n, v)| (n, v.to_owned())));
    }

    #[test]
    fn a_long_cause_is_cut_between_characters() {
        let long = "é".repeat(2000);
        assert_eq!(shorten(&long).len(), 1024);
        assert_eq!(shorten("short"), "short");
    }
}
