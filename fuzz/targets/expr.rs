//! libFuzzer's way into the test of the language that compares with VRL; writes the seeds first if `PELTON_FUZZ_SEEDS` names a
//! folder.
#![no_main]

#[path = "../../crates/pelton-expr/tests/fuzz/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(
    init: pelton_fuzz::seeds::write(check::SEEDS.map(|seed| seed.as_bytes().to_vec()).to_vec()),
    |input: &[u8]| check::check(input)
);
