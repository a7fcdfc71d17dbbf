//! Replies from another server: no input panics, and what is read encodes to what reads the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::protocol::decode::decode;
use understudy::protocol::encode::{Protocol, encode};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(Some((reply, len))) = decode(bytes) {
        assert!(len <= bytes.len());
        let mut again = Vec::new();
        encode(&reply, Protocol::Resp3, &mut again);
        let (read, _) = decode(&again).expect("own bytes are valid").expect("own bytes are whole");
        assert_eq!(format!("{read:?}"), format!("{reply:?}"));
    }
});
