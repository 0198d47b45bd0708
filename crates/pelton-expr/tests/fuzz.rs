//! The fuzz target's function, with mutations of its own: `cargo test` needs no fuzzer.

mod fuzz {
    pub mod check;
}

use proptest::{collection::vec, prelude::*};
use std::path::Path;

proptest! {
    #[test]
    fn no_bytes_make_the_fast_path_panic_or_differ_from_vrl(
        seed in 0..fuzz::check::SEEDS.len(),
        changes in vec((any::<prop::sample::Index>(), any::<u8>(), 0u8..4), 0..6),
    ) {
        let mut record = fuzz::check::SEEDS[seed].as_bytes().to_vec();
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

#[test]
fn what_the_fuzzer_found_stays_mended() {
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/found/expr");
    let records: Vec<_> = std::fs::read_dir(found).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert!(!records.is_empty());
    for record in records {
        println!("{}", record.display());
        fuzz::check::check(&std::fs::read(record).unwrap());
    }
}
