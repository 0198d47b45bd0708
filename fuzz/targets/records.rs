//! libFuzzer's way into [`pelton_fuzz::records`]; writes the seeds first if `PELTON_FUZZ_SEEDS` names a folder.
#![no_main]

libfuzzer_sys::fuzz_target!(
    init: pelton_fuzz::seeds::write(pelton_fuzz::records::seeds()),
    |input: &[u8]| pelton_fuzz::records::run(input)
);
