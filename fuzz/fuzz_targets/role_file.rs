//! The file that holds the role: see `inputs::role_file`.
#![no_main]

#[path = "../../tests/bad_input/inputs.rs"]
#[allow(dead_code)]
mod inputs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    inputs::role_file(bytes);
});
