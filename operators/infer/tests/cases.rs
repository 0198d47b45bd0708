//! Golden cases of `infer`: records in, records out, and mistakes in options.

#![allow(clippy::unwrap_used, reason = "tests")]

use pelton_infer::InferFactory;
use pelton_sdk::{BuildContext, Wake, testing::golden_cases};
use std::{path::Path, thread};

#[test]
fn golden_cases_come_out_as_written() {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits");
    let context = BuildContext { wake: Wake::thread(thread::current()), ..BuildContext::detached(models) };
    golden_cases(&InferFactory, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context);
}
