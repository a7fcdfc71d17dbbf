//! The file that holds the state of the stream: see `inputs::stream_state`.
#![no_main]

#[path = "../../tests/bad_input/inputs.rs"]
#[allow(dead_code)]
mod inputs;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    inputs::stream_state(bytes);
});
