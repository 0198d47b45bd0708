//! Which records `sample` keeps.

use pelton_sample::SampleFactory;
use pelton_sdk::{
    testing::{batch, context, golden_cases, processed},
    types::Batch,
};
use proptest::prelude::*;
use serde_json::{Value, json};

#[test]
fn golden_cases_come_out_as_written() {
    golden_cases(&SampleFactory, concat!(env!("CARGO_MANIFEST_DIR"), "/tests/cases"), &context());
}

fn kept(options: &Value, batch: Batch) -> Vec<i64> {
    let out = processed(&SampleFactory, options, batch);
    out.emitted.iter().flat_map(|(_, b)| b.records.iter().map(|r| r.offset)).collect()
}

proptest! {
    #[test]
    fn a_record_gets_the_same_answer_in_whatever_batch_it_comes(seed in any::<u32>(), cut in 0usize..200) {
        let options = json!({ "rate": 0.3, "seed": seed });
        let values = vec![Some("x"); 200];
        let whole = kept(&options, batch(&values));
        let mut first = batch(&values);
        let second = first.split_off(cut);
        let mut parts = kept(&options, first);
        parts.extend(kept(&options, second));
        prop_assert_eq!(whole, parts);
    }

    #[test]
    fn the_share_is_about_what_was_asked_for(seed in any::<u32>(), percent in 1u32..=100) {
        let values = vec![Some("x"); 4000];
        let share = kept(&json!({ "percent": percent, "seed": seed }), batch(&values)).len() as f64 / 4000.0;
        // Six standard deviations.
        let p = f64::from(percent) / 100.0;
        let off = 6.0 * (p * (1.0 - p) / 4000.0).sqrt();
        prop_assert!((share - p).abs() <= off + 1e-9, "{share} instead of {p}");
    }
}
