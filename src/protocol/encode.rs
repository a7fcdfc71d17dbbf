//! Replies as bytes, in RESP2 or RESP3; and commands as RESP arrays, for streams.
//!
//! The only place that knows how a reply looks on the wire. Writes to a `Vec<u8>` and does no I/O.

use crate::base::number::append_f64;
use crate::protocol::reply::{ErrorReply, Reply};

/// The version of the protocol that a connection speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    #[default]
    Resp2,
    Resp3,
}

/// Appends a reply.
#[inline]
pub fn encode(reply: &Reply<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    match reply {
        Reply::Ok => out.extend_from_slice(b"+OK\r\n"),
        Reply::Bulk(bytes) => append_bulk(out, bytes),
        Reply::Integer(n) => append_integer_line(out, b':', *n),
        Reply::Owned(bytes) => append_bulk(out, bytes),
        other => encode_rare(other, protocol, out),
    }
}

fn encode_rare(reply: &Reply<'_>, protocol: Protocol, out: &mut Vec<u8>) {
    let resp3 = protocol == Protocol::Resp3;
    match reply {
        Reply::Ok | Reply::Bulk(_) | Reply::Integer(_) | Reply::Owned(_) => encode(reply, protocol, out),
        Reply::Status(text) => {
            out.push(b'+');
            append_line(out, text.as_bytes());
        }
        Reply::Error(error) => append_error(out, error),
        Reply::BulkInteger(n) => append_bulk(out, itoa::Buffer::new().format(*n).as_bytes()),
        Reply::Nil => out.extend_from_slice(if resp3 { b"_\r\n" } else { b"$-1\r\n" }),
        Reply::NilArray => out.extend_from_slice(if resp3 { b"_\r\n" } else { b"*-1\r\n" }),
        Reply::Bool(true) => out.extend_from_slice(if resp3 { b"#t\r\n" } else { b":1\r\n" }),
        Reply::Bool(false) => out.extend_from_slice(if resp3 { b"#f\r\n" } else { b":0\r\n" }),
        Reply::Double(value) => append_double(out, *value, protocol),
        Reply::BigNumber(digits) if resp3 => {
            out.push(b'(');
            append_line(out, digits);
        }
        Reply::BigNumber(digits) => append_bulk(out, digits),
        Reply::Verbatim(format, text) if resp3 => {
            append_len(out, b'=', text.len() + 4);
            out.extend_from_slice(format);
            out.push(b':');
            out.extend_from_slice(text);
            out.extend_from_slice(b"\r\n");
        }
        Reply::Verbatim(_, text) => append_bulk(out, text),
        Reply::Array(replies) => encode_all(out, b'*', replies, protocol),
        Reply::Set(replies) => encode_all(out, if resp3 { b'~' } else { b'*' }, replies, protocol),
        Reply::Push(replies) => encode_all(out, if resp3 { b'>' } else { b'*' }, replies, protocol),
        Reply::Map(pairs) if resp3 => {
            append_len(out, b'%', pairs.len());
            encode_pairs(out, pairs, protocol);
        }
        Reply::Map(pairs) => {
            append_len(out, b'*', pairs.len() * 2);
            encode_pairs(out, pairs, protocol);
        }
        Reply::Attributed(attributes, reply) => {
            if resp3 {
                append_len(out, b'|', attributes.len());
                encode_pairs(out, attributes, protocol);
            }
            encode(reply, protocol, out);
        }
        Reply::Encoded(bytes) => out.extend_from_slice(bytes),
        Reply::None => {}
    }
}

fn encode_all(out: &mut Vec<u8>, kind: u8, replies: &[Reply<'_>], protocol: Protocol) {
    append_len(out, kind, replies.len());
    for reply in replies {
        encode(reply, protocol, out);
    }
}

fn encode_pairs(out: &mut Vec<u8>, pairs: &[(Reply<'_>, Reply<'_>)], protocol: Protocol) {
    for (key, value) in pairs {
        encode(key, protocol, out);
        encode(value, protocol, out);
    }
}

/// Appends an error line.
pub fn append_error(out: &mut Vec<u8>, error: &ErrorReply) {
    out.push(b'-');
    append_line(out, &error.0);
}

/// Appends `text` as the rest of a line: line ends at its end go, others become spaces.
fn append_line(out: &mut Vec<u8>, text: &[u8]) {
    let is_line_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let len = text.iter().rposition(|byte| !is_line_end(byte)).map_or(0, |last| last + 1);
    let start = out.len();
    out.extend_from_slice(&text[..len]);
    let mut from = start;
    while let Some(end) = memchr::memchr2(b'\r', b'\n', &out[from..]) {
        out[from + end] = b' ';
        from += end + 1;
    }
    out.extend_from_slice(b"\r\n");
}

fn append_double(out: &mut Vec<u8>, value: f64, protocol: Protocol) {
    match protocol {
        Protocol::Resp3 => {
            out.push(b',');
            append_f64(out, value);
            out.extend_from_slice(b"\r\n");
        }
        Protocol::Resp2 => {
            let mut text = Vec::with_capacity(24);
            append_f64(&mut text, value);
            append_bulk(out, &text);
        }
    }
}

#[inline]
fn append_integer_line(out: &mut Vec<u8>, kind: u8, n: i64) {
    let mut digits = itoa::Buffer::new();
    let digits = digits.format(n).as_bytes();
    out.reserve(digits.len() + 3);
    out.push(kind);
    out.extend_from_slice(digits);
    out.extend_from_slice(b"\r\n");
}

/// Appends the header of something of `len` parts or bytes: `*` array, `%` map, `~` set, `>` push, `|`
/// attributes, `$` bulk string.
#[inline]
pub fn append_len(out: &mut Vec<u8>, kind: u8, len: usize) {
    // Nearly all are short.
    match len {
        0..10 => out.extend_from_slice(&[kind, b'0' + len as u8, b'\r', b'\n']),
        10..100 => {
            let (tens, ones) = (len as u8 / 10, len as u8 % 10);
            out.extend_from_slice(&[kind, b'0' + tens, b'0' + ones, b'\r', b'\n']);
        }
        _ => append_integer_line(out, kind, len as i64),
    }
}

/// Appends a bulk string.
#[inline]
pub fn append_bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    out.reserve(bytes.len() + 16);
    append_len(out, b'$', bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

/// Appends a command as a RESP array of bulk strings.
pub fn append_command<A: AsRef<[u8]>>(out: &mut Vec<u8>, arguments: &[A]) {
    append_len(out, b'*', arguments.len());
    for argument in arguments {
        append_bulk(out, argument.as_ref());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::borrow::Cow;

    fn both(reply: &Reply<'_>) -> (String, String) {
        let text = |protocol| {
            let mut out = Vec::new();
            encode(reply, protocol, &mut out);
            String::from_utf8(out).unwrap()
        };
        (text(Protocol::Resp2), text(Protocol::Resp3))
    }

    /// The forms of `DEBUG PROTOCOL` and others of a running server.
    #[test]
    fn every_variant_in_both_protocols() {
        let pair = || vec![(Reply::Bulk(b"k"), Reply::Integer(1))];
        for (reply, resp2, resp3) in [
            (Reply::Ok, "+OK\r\n", "+OK\r\n"),
            (Reply::Status(Cow::Borrowed("PONG")), "+PONG\r\n", "+PONG\r\n"),
            (Reply::Error(ErrorReply::SYNTAX), "-ERR syntax error\r\n", "-ERR syntax error\r\n"),
            (Reply::Error(ErrorReply::new("ERR a\r\nb\n\r\n")), "-ERR a  b\r\n", "-ERR a  b\r\n"),
            (Reply::Integer(-7), ":-7\r\n", ":-7\r\n"),
            (Reply::Bulk(b""), "$0\r\n\r\n", "$0\r\n\r\n"),
            (Reply::Owned(b"hello world".to_vec()), "$11\r\nhello world\r\n", "$11\r\nhello world\r\n"),
            (Reply::BulkInteger(100), "$3\r\n100\r\n", "$3\r\n100\r\n"),
            (Reply::Nil, "$-1\r\n", "_\r\n"),
            (Reply::NilArray, "*-1\r\n", "_\r\n"),
            (Reply::Bool(true), ":1\r\n", "#t\r\n"),
            (Reply::Bool(false), ":0\r\n", "#f\r\n"),
            (Reply::Double(3.25), "$4\r\n3.25\r\n", ",3.25\r\n"),
            (Reply::Double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n"),
            (Reply::BigNumber(b"123".to_vec()), "$3\r\n123\r\n", "(123\r\n"),
            (Reply::Verbatim(*b"txt", b"ab".to_vec()), "$2\r\nab\r\n", "=6\r\ntxt:ab\r\n"),
            (
                Reply::Array(vec![Reply::Nil, Reply::Array(vec![])]),
                "*2\r\n$-1\r\n*0\r\n",
                "*2\r\n_\r\n*0\r\n",
            ),
            (Reply::Set(vec![Reply::Integer(1)]), "*1\r\n:1\r\n", "~1\r\n:1\r\n"),
            (Reply::Push(vec![Reply::Integer(1)]), "*1\r\n:1\r\n", ">1\r\n:1\r\n"),
            (Reply::Map(pair()), "*2\r\n$1\r\nk\r\n:1\r\n", "%1\r\n$1\r\nk\r\n:1\r\n"),
            (Reply::Attributed(pair(), Box::new(Reply::Ok)), "+OK\r\n", "|1\r\n$1\r\nk\r\n:1\r\n+OK\r\n"),
            (Reply::Encoded(b":5\r\n".to_vec()), ":5\r\n", ":5\r\n"),
            (Reply::None, "", ""),
        ] {
            assert_eq!(both(&reply), (resp2.to_owned(), resp3.to_owned()), "{reply:?}");
        }
    }

    #[test]
    fn lengths_and_commands() {
        let mut out = Vec::new();
        append_len(&mut out, b'*', 9);
        append_len(&mut out, b'*', 10);
        append_len(&mut out, b'*', 123_456);
        append_command(&mut out, &["SELECT", "0"]);
        assert_eq!(out, b"*9\r\n*10\r\n*123456\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n");
    }
}
