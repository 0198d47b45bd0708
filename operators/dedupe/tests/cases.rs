//! What `dedupe` drops.

use pelton_dedupe::DedupeFactory;
use pelton_sdk::testing::{context, golden_cases};

#[test]
fn golden_cases_come_out_as_written() {
    golden_cases(&DedupeFactory, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context());
}
