//! Payloads of RESTORE: see `inputs::restore`.
#![no_main]

#[path = "../../tests/bad_input/inputs.rs"]
#[allow(dead_code)]
mod inputs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    inputs::restore(bytes);
});
