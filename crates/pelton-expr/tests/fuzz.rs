//! The fuzz target's function, with mutations of its own: `cargo test` needs no fuzzer.

mod fuzz {
    pub mod check;
}

use proptest::{collection::vec, prelude::*};

/// Records to start from.
const SEEDS: [&str; 8] = [
    r#"{"a":2,"b":"x","c":[1,{"a":true}]}"#,
    r#"{"a":{"b":[0,"é\u00e9"]},"b":-0.5e3,"c":[]}"#,
    r#"{ "a" : "xy" , "a":"\ud83d\ude00 \"q\"", "b" : "12" }"#,
    r#"{"\u0061":18446744073709551615,"b":123456789012345678901234567890}"#,
    r#"{"b":" Trim Me ","a":1.50,"é":null,"c":{"a":{}}}"#,
    r#"{"a":1e400,"b":"\ud800","c":[[[[1]]]]}"#,
    "{}",
    "[1,\"x\"]",
];

proptest! {
    #[test]
    fn no_bytes_make_the_fast_path_panic_or_differ_from_vrl(
        seed in 0..SEEDS.len(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 0..6),
    ) {
        let mut record = SEEDS[seed].as_bytes().to_vec();
        for (at, byte, how) in changes {
            let at = at.index(record.len() + 1);
            match how {
                0 => record.truncate(at),
                1 => record.insert(at, byte),
                2 if at < record.len() => record[at] = byte,
                3 if at < record.len() => {
                    // A piece twice: members, digits and brackets come again.
                    let piece = record[at..(at + 1 + usize::from(byte) % 12).min(record.len())].to_vec();
                    record.splice(at..at, piece);
                }
                _ => {}
            }
        }
        fuzz::check::check(&record);
    }
}
