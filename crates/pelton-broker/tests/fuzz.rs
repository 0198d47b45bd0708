//! What is fuzzed, without a fuzzer: all seeds, inputs that once failed, and some mutations of both.
//!
//! `cargo xtask fuzz TARGET` looks further, guided by coverage. `PELTON_FUZZ_SEED` replays the mutations of a run.
#![allow(clippy::unwrap_used, clippy::expect_used, dead_code, missing_docs)] // the harness is a program of tests

use std::panic::{self, AssertUnwindSafe};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

#[path = "../../../fuzz/src/lib.rs"]
mod fuzz;

/// Enough for a few seconds of a debug build, all targets together.
const MUTATIONS: usize = 1_000;

/// Numbers that follow from a seed (xorshift64*).
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) as usize % end.max(1)
    }

    fn mutate(&mut self, input: &mut Vec<u8>, all: &[Vec<u8>]) {
        const ODD: [&[u8]; 6] =
            [&[0xff; 4], &[0x7f, 0xff, 0xff, 0xff], &[0x80, 0, 0, 0], &[0; 4], &[0xff, 0xfe], &[0x80]];
        for _ in 0..=self.below(4) {
            let at = self.below(input.len() + 1);
            match self.below(6) {
                0 if at < input.len() => input[at] ^= 1 << self.below(8),
                1 if at < input.len() => input[at] = self.below(256) as u8,
                2 => input.truncate(at),
                3 => {
                    let odd = ODD[self.below(ODD.len())];
                    let end = (at + odd.len()).min(input.len());
                    input[at..end].copy_from_slice(&odd[..end - at]);
                }
                4 => {
                    let end = (at + self.below(16)).min(input.len());
                    input.drain(at..end);
                }
                _ => input.extend_from_slice(&all[self.below(all.len())]),
            }
        }
    }
}

/// Runs a target on an input; says what it was if that fails.
fn try_input(run: fn(&[u8]), what: &str, input: &[u8]) {
    if let Err(panic) = panic::catch_unwind(AssertUnwindSafe(|| run(input))) {
        eprintln!("failed on {what}: {input:02x?}");
        panic::resume_unwind(panic);
    }
}

fn replay(target: &str, run: fn(&[u8]), mut inputs: Vec<Vec<u8>>) {
    for (number, input) in inputs.iter().enumerate() {
        try_input(run, &format!("seed {number} of {target}"), input);
    }
    let found = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/found").join(target);
    for entry in std::fs::read_dir(found).into_iter().flatten() {
        let path = entry.unwrap().path();
        let input = std::fs::read(&path).unwrap();
        try_input(run, &path.display().to_string(), &input);
        inputs.push(input);
    }
    let given = std::env::var("PELTON_FUZZ_SEED").ok().and_then(|text| text.parse().ok());
    let by_clock = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    let seed = given.unwrap_or_else(by_clock);
    println!("PELTON_FUZZ_SEED={seed}");
    let mut chance = Chance(seed | 1);
    for number in 0..MUTATIONS {
        let mut input = inputs[chance.below(inputs.len())].clone();
        chance.mutate(&mut input, &inputs);
        try_input(run, &format!("mutation {number} of {target} with PELTON_FUZZ_SEED={seed}"), &input);
    }
}

#[test]
fn any_bytes_on_a_connection_are_answered_well_or_end_it() {
    replay("request", fuzz::request::run, fuzz::request::seeds());
}

#[test]
fn any_bytes_as_records_are_read_or_refused_in_bounded_memory() {
    replay("records", fuzz::records::run, fuzz::records::seeds());
}

#[test]
fn any_bytes_in_a_data_directory_are_recovered_or_refused() {
    replay("log", fuzz::log::run, fuzz::log::seeds());
}

#[test]
fn any_bytes_of_a_stranger_are_no_login_without_the_password() {
    replay("login", fuzz::login::run, fuzz::login::seeds());
}
