//! Replies out of received bytes: the client's side of the protocol, for handshakes with other servers.
//!
//! Reads RESP2 and RESP3. Nesting and lengths are bounded, since the other side is not trusted more than
//! a client. A reply that has not come whole is read again from its start: these are short.

use memchr::memchr;

use crate::base::number::{parse_f64, parse_i64};
use crate::protocol::reply::{ErrorReply, Reply};

/// Deepest nesting of aggregates.
const MAX_DEPTH: usize = 32;
/// Longest bulk string and most parts of one aggregate.
const MAX_LEN: i64 = 512 * 1024 * 1024;
/// Longest line.
const MAX_LINE_LEN: usize = 64 * 1024;

/// The bytes are no reply.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("invalid reply")]
pub struct InvalidReply;

/// Decodes the reply at the start of `bytes`: it and its length, or `None` if it has not come whole.
pub fn decode(bytes: &[u8]) -> Result<Option<(Reply<'_>, usize)>, InvalidReply> {
    let mut cursor = Cursor { bytes, at: 0 };
    match cursor.reply(0) {
        Ok(reply) => Ok(Some((reply, cursor.at))),
        Err(Stop::Incomplete) => Ok(None),
        Err(Stop::Invalid) => Err(InvalidReply),
    }
}

fn is_integer(text: &[u8]) -> bool {
    let digits = text.strip_prefix(b"-").or(text.strip_prefix(b"+")).unwrap_or(text);
    !digits.is_empty() && digits.iter().all(u8::is_ascii_digit)
}

enum Stop {
    Incomplete,
    Invalid,
}

struct Cursor<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Cursor<'a> {
    fn reply(&mut self, depth: usize) -> Result<Reply<'a>, Stop> {
        if depth > MAX_DEPTH {
            return Err(Stop::Invalid);
        }
        let line = self.line()?;
        let (&kind, rest) = line.split_first().ok_or(Stop::Invalid)?;
        Ok(match kind {
            b'+' if rest == b"OK" => Reply::Ok,
            b'+' => Reply::Status(String::from_utf8_lossy(rest).into_owned().into()),
            b'-' => Reply::Error(ErrorReply::from_text(rest)),
            b':' => Reply::Integer(parse_i64(rest).ok_or(Stop::Invalid)?),
            b'$' => match self.len(rest)? {
                None => Reply::Nil,
                Some(len) => Reply::Bulk(self.bulk(len)?),
            },
            b'=' => {
                let len = self.len(rest)?.ok_or(Stop::Invalid)?;
                match self.bulk(len)? {
                    [a, b, c, b':', text @ ..] => Reply::Verbatim([*a, *b, *c], text.to_vec()),
                    _ => return Err(Stop::Invalid),
                }
            }
            b'_' => Reply::Nil,
            b'#' if rest == b"t" => Reply::Bool(true),
            b'#' if rest == b"f" => Reply::Bool(false),
            b',' if rest == b"nan" => Reply::Double(f64::NAN),
            b',' => Reply::Double(parse_f64(rest).ok_or(Stop::Invalid)?),
            b'(' if is_integer(rest) => Reply::BigNumber(rest.to_vec()),
            b'*' => match self.len(rest)? {
                None => Reply::NilArray,
                Some(count) => Reply::Array(self.replies(count, depth)?),
            },
            b'~' => Reply::Set(self.some_replies(rest, depth)?),
            b'>' => Reply::Push(self.some_replies(rest, depth)?),
            b'%' => Reply::Map(self.pairs(rest, depth)?),
            b'|' => {
                let attributes = self.pairs(rest, depth)?;
                Reply::Attributed(attributes, Box::new(self.reply(depth + 1)?))
            }
            _ => return Err(Stop::Invalid),
        })
    }

    fn line(&mut self) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let Some(end) = memchr(b'\n', rest) else {
            return Err(if rest.len() > MAX_LINE_LEN { Stop::Invalid } else { Stop::Incomplete });
        };
        self.at += end + 1;
        let line = rest[..end].strip_suffix(b"\r").ok_or(Stop::Invalid)?;
        if memchr(b'\r', line).is_some() { Err(Stop::Invalid) } else { Ok(line) }
    }

    fn len(&self, text: &[u8]) -> Result<Option<usize>, Stop> {
        match parse_i64(text) {
            Some(-1) => Ok(None),
            Some(len @ 0..=MAX_LEN) => Ok(Some(len as usize)),
            _ => Err(Stop::Invalid),
        }
    }

    fn bulk(&mut self, len: usize) -> Result<&'a [u8], Stop> {
        let rest = &self.bytes[self.at..];
        let bytes = rest.get(..len).ok_or(Stop::Incomplete)?;
        match rest[len..] {
            [b'\r', b'\n', ..] => {}
            [b'\r'] | [] => return Err(Stop::Incomplete),
            _ => return Err(Stop::Invalid),
        }
        self.at += len + 2;
        Ok(bytes)
    }

    fn replies(&mut self, count: usize, depth: usize) -> Result<Vec<Reply<'a>>, Stop> {
        // The count is a claim until the parts have come: no allocation on its word.
        let mut replies = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            replies.push(self.reply(depth + 1)?);
        }
        Ok(replies)
    }

    fn some_replies(&mut self, count: &[u8], depth: usize) -> Result<Vec<Reply<'a>>, Stop> {
        let count = self.len(count)?.ok_or(Stop::Invalid)?;
        self.replies(count, depth)
    }

    fn pairs(&mut self, count: &[u8], depth: usize) -> Result<Vec<(Reply<'a>, Reply<'a>)>, Stop> {
        let count = self.len(count)?.ok_or(Stop::Invalid)?;
        let mut pairs = Vec::with_capacity(count.min(64));
        for _ in 0..count {
            pairs.push((self.reply(depth + 1)?, self.reply(depth + 1)?));
        }
        Ok(pairs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::encode::{Protocol, encode};
    use proptest::prelude::*;

    fn any_reply() -> impl Strategy<Value = Reply<'static>> {
        let leaf = prop_oneof![
            Just(Reply::Ok),
            Just(Reply::Nil),
            any::<bool>().prop_map(Reply::Bool),
            any::<i64>().prop_map(Reply::Integer),
            (-1e30f64..1e30).prop_map(Reply::Double),
            "[a-z ]{1,20}".prop_map(|text| Reply::Status(text.into())),
            "ERR [a-z ]{1,20}".prop_map(|text| Reply::Error(ErrorReply::from_text(text))),
            prop::collection::vec(any::<u8>(), 0..50).prop_map(|text| Reply::Verbatim(*b"txt", text)),
            "-?[1-9][0-9]{1,40}".prop_map(|digits| Reply::BigNumber(digits.into_bytes())),
        ];
        leaf.prop_recursive(4, 40, 6, |inner| {
            let pairs = prop::collection::vec((inner.clone(), inner.clone()), 0..4);
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..6).prop_map(Reply::Array),
                prop::collection::vec(inner.clone(), 0..6).prop_map(Reply::Set),
                prop::collection::vec(inner.clone(), 0..6).prop_map(Reply::Push),
                pairs.clone().prop_map(Reply::Map),
                (pairs, inner).prop_map(|(pairs, reply)| Reply::Attributed(pairs, Box::new(reply))),
            ]
        })
    }

    #[test]
    fn bulk_strings_and_nothing() {
        assert_eq!(decode(b"$3\r\na\r\n\r\nrest"), Ok(Some((Reply::Bulk(b"a\r\n"), 9))));
        assert_eq!(decode(b"$-1\r\n"), Ok(Some((Reply::Nil, 5))));
        assert_eq!(decode(b"*-1\r\n"), Ok(Some((Reply::NilArray, 5))));
        assert!(matches!(decode(b",nan\r\n"), Ok(Some((Reply::Double(d), 6))) if d.is_nan()));
    }

    #[test]
    fn refuses() {
        let deep = "*1\r\n".repeat(100);
        for bytes in [
            &b"x\r\n"[..],
            b"\r\n",
            b"+OK\n",
            b":a\r\n",
            b"$-2\r\n",
            b"$3\r\nabcde",
            b"#x\r\n",
            b"=2\r\nab\r\n",
            b"~-1\r\n",
            b"$600000000\r\n",
            b"(\r\n",
            b"(-\r\n",
            b"(12x\r\n",
            b"+a\r\r\n",
            deep.as_bytes(),
        ] {
            assert_eq!(decode(bytes), Err(InvalidReply), "{bytes:?}");
        }
        assert_eq!(decode(&[b'+'; MAX_LINE_LEN + 1]), Err(InvalidReply));
    }

    proptest! {
        #[test]
        fn what_is_encoded_is_decoded(reply in any_reply()) {
            let mut bytes = Vec::new();
            encode(&reply, Protocol::Resp3, &mut bytes);
            prop_assert_eq!(decode(&bytes), Ok(Some((reply, bytes.len()))));
            for len in 0..bytes.len() {
                prop_assert_eq!(decode(&bytes[..len]), Ok(None));
            }
        }

        #[test]
        fn noise_does_not_panic(bytes in prop::collection::vec(prop::sample::select(b"*$%|~>=123\r\n-a:_#t,(".to_vec()), 0..60)) {
            let _ = decode(&bytes);
        }
    }
}
