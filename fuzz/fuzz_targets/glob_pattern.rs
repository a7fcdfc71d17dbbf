//! Patterns of KEYS and its like: see `inputs::glob_pattern`.
#![no_main]

#[path = "../../tests/bad_input/inputs.rs"]
#[allow(dead_code)]
mod inputs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    inputs::glob_pattern(bytes);
});
