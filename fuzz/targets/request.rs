//! libFuzzer's way into [`pelton_fuzz::request`]; writes the seeds first if `PELTON_FUZZ_SEEDS` names a folder.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: pelton_fuzz::seeds::write(pelton_fuzz::request::seeds()),
    |input: &[u8]| pelton_fuzz::request::run(input)
);
