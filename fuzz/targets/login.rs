//! libFuzzer's way into [`pelton_fuzz::login`]; writes the seeds first if `PELTON_FUZZ_SEEDS` names a folder.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: pelton_fuzz::seeds::write(pelton_fuzz::login::seeds()),
    |input: &[u8]| pelton_fuzz::login::run(input)
);
