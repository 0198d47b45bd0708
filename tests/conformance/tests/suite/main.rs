//! The suite: each case on the embedded broker and on a real Apache Kafka.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

mod admin;
mod configs;
mod expiry;
mod fencing;
mod groups;
mod java_logins;
mod kcat;
mod logins;
mod markers;
mod offsets;
mod produce;
mod robustness;
mod secured;
mod settings;
mod streams;
mod tools;
mod transactions;

const README: &str = include_str!("../../README.md");

#[test]
fn the_table_of_features_names_only_cases_that_exist() {
    let cases = all();
    let exists =
        |name: &str| cases.iter().any(|path| path.split_once("::").is_some_and(|(_, case)| case == name));
    let named = README
        .lines()
        .filter(|line| line.starts_with("| "))
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let unknown: Vec<&str> = named.filter(|name| name.contains("::") && !exists(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

#[test]
fn the_list_of_what_is_not_there_yet_names_only_cases_that_exist() {
    let unknown = pelton_conformance::not_yet::unknown(&[&all()]);
    assert!(unknown.is_empty(), "{unknown:?}");
}

fn all() -> Vec<&'static str> {
    let cases = [
        admin::CASES,
        configs::CASES,
        expiry::CASES,
        fencing::CASES,
        groups::CASES,
        kcat::CASES,
        markers::CASES,
        offsets::CASES,
        produce::CASES,
        java_logins::CASES,
        logins::CASES,
        robustness::CASES,
        settings::CASES,
        secured::CASES,
        streams::CASES,
        tools::CASES,
        transactions::CASES,
    ];
    cases.concat()
}
