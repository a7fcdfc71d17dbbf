//! Requests from anyone: no input panics, and however it is cut, it means the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::protocol::request::{Limits, Parsed, ProtocolError, RequestParser};

type Requests = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// Feeds `bytes` in pieces of `piece` bytes; the requests, and the error that ended them.
fn parse(bytes: &[u8], piece: usize, limits: &Limits) -> Requests {
    let mut parser = RequestParser::new();
    let (mut buffer, mut requests) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            let mut arguments = Vec::new();
            match parser.next(&mut buffer, limits, &mut arguments) {
                Ok(Parsed::Request { .. }) => {
                    requests.push(arguments.iter().map(|argument| argument.of(&buffer).to_vec()).collect());
                }
                Ok(Parsed::Incomplete { missing }) => {
                    assert!(missing > 0);
                    break;
                }
                Ok(_) => assert!(arguments.is_empty()),
                Err(error) => return (requests, Some(error)),
            }
        }
        let consumed = parser.consumed();
        buffer.drain(..consumed);
        parser.discard(consumed);
    }
    (requests, None)
}

fuzz_target!(|bytes: &[u8]| {
    for limits in [Limits::client(1 << 20), Limits::STREAM, Limits { unauthenticated: true, ..Limits::client(1 << 20) }] {
        let whole = parse(bytes, usize::MAX, &limits);
        assert_eq!(parse(bytes, 1, &limits), whole);
        assert_eq!(parse(bytes, 7, &limits), whole);
    }
});
