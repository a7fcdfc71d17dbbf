//! The AOF's incr files: see `inputs::incr_file`.
#![no_main]

#[path = "../../tests/bad_input/inputs.rs"]
#[allow(dead_code)]
mod inputs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    inputs::incr_file(bytes);
});
