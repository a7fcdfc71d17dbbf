//! What the request parser takes and refuses, whole and cut into pieces.

use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits::client(512 * 1024 * 1024);

type Parse = Result<(Vec<Vec<Vec<u8>>>, Parsed), ProtocolError>;

/// Parses everything: the requests, and what stopped the parser.
fn parse_with(limits: &Limits, bytes: &[u8]) -> Parse {
    let mut buffer = bytes.to_vec();
    let mut parser = RequestParser::new();
    let mut requests = Vec::new();
    loop {
        let mut arguments = Vec::new();
        match parser.next(&mut buffer, limits, &mut arguments)? {
            Parsed::Request { arguments: count } => {
                assert_eq!(count, arguments.len());
                requests.push(arguments.iter().map(|a| a.of(&buffer).to_vec()).collect());
            }
            Parsed::Nothing | Parsed::EmptyLine => assert!(arguments.is_empty()),
            end @ Parsed::Incomplete { missing } => {
                assert!(arguments.is_empty() && missing > 0);
                return Ok((requests, end));
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Parse {
    parse_with(&LIMITS, bytes)
}

fn words(bytes: &[u8]) -> Vec<String> {
    let (requests, end) = parse(bytes).unwrap();
    assert_eq!(end, Parsed::Incomplete { missing: 1 });
    requests
        .iter()
        .map(|r| r.iter().map(|a| String::from_utf8_lossy(a)).collect::<Vec<_>>().join(" "))
        .collect()
}

#[test]
fn requests() {
    assert_eq!(words(b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n"), ["ECHO ", "PING"]);
    assert_eq!(words(b"PING\r\nECHO \"a b\"\n\r\n  \r\nSET k v\r\n"), ["PING", "ECHO a b", "SET k v"]);
    assert_eq!(words(b"*0\r\n*-1\r\n*-10\r\nPING\r\n"), ["PING"]);
    let long = format!("*1\r\n$300\r\n{}\r\n", "x".repeat(300));
    assert_eq!(words(long.as_bytes()), ["x".repeat(300)]);
    let many = format!("*120\r\n{}", "$1\r\na\r\n".repeat(120));
    assert_eq!(words(many.as_bytes())[0].len(), 239);
}

/// The texts of a running server.
#[test]
fn errors() {
    let long = "1".repeat(70_000);
    for (bytes, text) in [
        (&b"*2147483648\r\n"[..], "invalid multibulk length"),
        (b"*\r\n", "invalid multibulk length"),
        (b"*a\r\n", "invalid multibulk length"),
        (b"*+1\r\n", "invalid multibulk length"),
        (b"*01\r\n", "invalid multibulk length"),
        (b"*9999999999999999999999\r\n", "invalid multibulk length"),
        (b"*1\n$4\r\n", "invalid multibulk length"),
        (b"*1\r\n*\r\n", "expected '$', got '*'"),
        (b"*1\r\nb\rX", "expected '$', got 'b'"),
        (b"*1\r\n$-1\r\n", "invalid bulk length"),
        (b"*1\r\n$fooz\r\n", "invalid bulk length"),
        (b"*1\r\n$ 4\r\n", "invalid bulk length"),
        (b"*1\r\n$04\r\nPING\r\n", "invalid bulk length"),
        (b"*1\r\n$536870913\r\n", "invalid bulk length"),
        (b"*1\rX$4", "invalid CRLF in request"),
        (b"*0\rXPING\r\n", "invalid CRLF in request"),
        (b"*a\rX", "invalid CRLF in request"),
        (b"*1\r\n$a\rX", "invalid CRLF in request"),
        (b"*1\r\n$4\rXPING\r\n", "invalid CRLF in request"),
        (b"*1\r\n$4\r\nPINGXX", "invalid CRLF in request"),
        (b"*1\r\n$4\r\nPING\rX", "invalid CRLF in request"),
        (b"ECHO \"abc\r\n", "unbalanced quotes in request"),
        (long.as_bytes(), "too big inline request"),
        (format!("{long}\r\n").as_bytes(), "too big inline request"),
        (format!("*{long}").as_bytes(), "too big mbulk count string"),
        (format!("*1\r\n${long}").as_bytes(), "too big bulk count string"),
        (format!("*1\r\nx{long}").as_bytes(), "too big bulk count string"),
    ] {
        let error = parse(bytes).unwrap_err();
        assert_eq!(error.to_string(), text, "{:?}", String::from_utf8_lossy(&bytes[..bytes.len().min(30)]));
        assert_eq!(error.reply(), ErrorReply::from_text(format!("ERR Protocol error: {text}")));
    }
    assert_eq!(
        ProtocolError::ExpectedBulk(0xff).reply().0.as_ref(),
        b"ERR Protocol error: expected '$', got '\xff'"
    );
}

#[test]
fn the_longest_line_passes() {
    let line = format!("PING {}\r\n", "x".repeat(MAX_LINE_LEN - 6));
    assert_eq!(parse(line.as_bytes()).unwrap().0.len(), 1);
    assert_eq!(parse(&[b'x'; MAX_LINE_LEN]).unwrap().1, Parsed::Incomplete { missing: 1 });
}

#[test]
fn the_unauthenticated_get_little() {
    let limits = Limits { unauthenticated: true, ..LIMITS };
    assert_eq!(parse_with(&limits, b"*11\r\n"), Err(ProtocolError::UnauthenticatedCount));
    assert_eq!(parse_with(&limits, b"*10\r\n$16385\r\n"), Err(ProtocolError::UnauthenticatedLength));
    let (_, end) = parse_with(&limits, b"*10\r\n$16384\r\n").unwrap();
    assert_eq!(end, Parsed::Incomplete { missing: 16386 });
    assert_eq!(ProtocolError::UnauthenticatedCount.to_string(), "unauthenticated multibulk length");
    assert_eq!(ProtocolError::UnauthenticatedLength.to_string(), "unauthenticated bulk length");
}

#[test]
fn a_stream_has_no_inline_commands_and_no_limit() {
    assert_eq!(parse_with(&Limits::STREAM, b"PING\r\n"), Err(ProtocolError::InlineRefused));
    let (requests, end) = parse_with(&Limits::STREAM, b"\n\r\n*1\r\n$4\r\nPING\r\n").unwrap();
    assert_eq!((requests.len(), end), (1, Parsed::Incomplete { missing: 1 }));
    let (_, end) = parse_with(&Limits::STREAM, b"*1\r\n$536870913\r\n").unwrap();
    assert_eq!(end, Parsed::Incomplete { missing: 536870915 });
    let (_, end) = parse_with(&Limits::STREAM, b"*1\r\n$9223372036854775807\r\nx").unwrap();
    assert!(matches!(end, Parsed::Incomplete { .. }));
}

#[test]
fn says_how_much_is_missing() {
    let end = |bytes: &[u8]| parse(bytes).unwrap().1;
    assert_eq!(end(b"*1\r\n$100\r\nabc"), Parsed::Incomplete { missing: 99 });
    assert_eq!(end(b"*1\r\n$1\r\na"), Parsed::Incomplete { missing: 2 });
    assert_eq!(end(b"*1\r\n$1\r\na\r"), Parsed::Incomplete { missing: 1 });
    assert_eq!(end(b"*1\r"), Parsed::Incomplete { missing: 1 });
}

#[test]
fn a_batch_stays_in_place_until_it_is_discarded() {
    let mut buffer =
        b"*2\r\n$3\r\nGET\r\n$1\r\na\r\n*2\r\n$3\r\nGET\r\n$1\r\nb\r\n*2\r\n$3\r\nGET\r\n$1".to_vec();
    let mut parser = RequestParser::new();
    let mut arguments = Vec::new();
    let mut requests = 0;
    while let Parsed::Request { arguments: 2 } = parser.next(&mut buffer, &LIMITS, &mut arguments).unwrap() {
        requests += 1;
    }
    assert_eq!((requests, arguments.len(), parser.consumed()), (2, 4, 40));
    assert!(parser.is_inside_request());
    assert_eq!(arguments[3].of(&buffer), b"b");
    arguments.clear();
    buffer.drain(..40);
    parser.discard(40);
    buffer.extend_from_slice(b"\r\nc\r\n");
    assert_eq!(parser.next(&mut buffer, &LIMITS, &mut arguments), Ok(Parsed::Request { arguments: 2 }));
    assert_eq!((arguments[0].of(&buffer), arguments[1].of(&buffer)), (&b"GET"[..], &b"c"[..]));
    assert!(!parser.is_inside_request());
}

#[test]
fn web_requests_are_known() {
    assert!(is_cross_protocol(b"POST") && is_cross_protocol(b"Host:"));
    assert!(!is_cross_protocol(b"host") && !is_cross_protocol(b"GET"));
}

fn encoded(requests: &[Vec<Vec<u8>>]) -> Vec<u8> {
    let mut out = Vec::new();
    for request in requests {
        crate::protocol::encode::append_command(&mut out, request);
    }
    out
}

fn any_requests() -> impl Strategy<Value = Vec<Vec<Vec<u8>>>> {
    let argument = prop::collection::vec(any::<u8>(), 0..120);
    prop::collection::vec(prop::collection::vec(argument, 1..14), 0..6)
}

proptest! {
    #[test]
    fn what_is_encoded_is_parsed(requests in any_requests()) {
        let (parsed, _) = parse(&encoded(&requests)).unwrap();
        prop_assert_eq!(parsed, requests);
    }

    /// However the bytes arrive, and whenever the front is cut off, the requests are the same.
    #[test]
    fn pieces_make_no_difference(requests in any_requests(), cuts in prop::collection::vec(1usize..40, 1..200), inline: bool) {
        let mut bytes = encoded(&requests);
        if inline {
            bytes.extend_from_slice(b"\r\nECHO \"a\\x41\" b\r\n");
        }
        let expected = parse(&bytes).unwrap().0;
        let mut parser = RequestParser::new();
        let (mut buffer, mut arguments, mut found) = (Vec::new(), Vec::new(), Vec::new());
        let mut cuts = cuts.into_iter().cycle();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let (piece, tail) = rest.split_at(cuts.next().unwrap().min(rest.len()));
            rest = tail;
            buffer.extend_from_slice(piece);
            let mut first = 0;
            loop {
                match parser.next(&mut buffer, &LIMITS, &mut arguments).unwrap() {
                    Parsed::Request { arguments: count } => {
                        found.push(arguments[first..].iter().map(|a: &Argument| a.of(&buffer).to_vec()).collect::<Vec<_>>());
                        first += count;
                    }
                    Parsed::Incomplete { .. } => break,
                    _ => {}
                }
            }
            prop_assert_eq!(first, arguments.len());
            if piece.len() % 2 == 0 {
                arguments.clear();
                let consumed = parser.consumed();
                buffer.drain(..consumed);
                parser.discard(consumed);
            } else {
                arguments.clear();
            }
        }
        prop_assert_eq!(found, expected);
    }

    #[test]
    fn noise_does_not_panic(bytes in prop::collection::vec(prop::sample::select(b"*$123\r\n-ab\"' \\x\xff\0".to_vec()), 0..60)) {
        let _ = parse(&bytes);
        let _ = parse_with(&Limits::STREAM, &bytes);
    }
}
