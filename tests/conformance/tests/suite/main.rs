//! The suite: each case on the embedded broker and on a real Apache Kafka.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod admin;
mod expiry;
mod groups;
mod kcat;
mod markers;
mod offsets;
mod produce;
mod robustness;
mod settings;
mod streams;
mod tools;
mod transactions;

#[test]
fn the_list_of_what_is_not_there_yet_names_only_cases_that_exist() {
    let cases = [
        admin::CASES,
        expiry::CASES,
        groups::CASES,
        kcat::CASES,
        markers::CASES,
        offsets::CASES,
        produce::CASES,
        robustness::CASES,
        settings::CASES,
        streams::CASES,
        tools::CASES,
        transactions::CASES,
    ];
    let unknown = pelton_conformance::not_yet::unknown(&cases);
    assert!(unknown.is_empty(), "{unknown:?}");
}
