//! Replies from another server: no input panics, and what is read encodes to what reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::protocol::decode::decode;
use understudy::protocol::encode::{Protocol, encode};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((reply, len))) = decode(bytes) {
        assert!(len <= bytes.len());
        // By their bytes, since RESP3 has one form for both kinds of nothing.
        let mut once = Vec::new();
        encode(&reply, Protocol::Resp3, &mut once);
        let (read, _) = decode(&once).expect("own bytes are valid").expect("own bytes are whole");
        let mut twice = Vec::new();
        encode(&read, Protocol::Resp3, &mut twice);
        assert_eq!(twice, once);
    }
});
