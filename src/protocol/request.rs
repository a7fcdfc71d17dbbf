//! Requests out of a buffer of received bytes: RESP arrays of bulk strings, and inline commands.
//!
//! Nothing is copied: an argument is a range of the buffer. Inline commands with quotes are unescaped in
//! place, where they can only get shorter. The parser remembers how far it came, so that a request of
//! many parts costs no second look, and a large bulk string is never scanned at all.
//! Must not know commands, sockets, or who the client is beyond the [`Limits`] it is given.
//! Invariants: bytes before [`RequestParser::consumed`] belong to whole requests; arguments handed out
//! keep their place until [`RequestParser::discard`].

mod inline;

use memchr::memchr;

use crate::base::number::parse_i64;
use crate::protocol::reply::ErrorReply;

pub use inline::split_arguments;

/// Longest inline request, and longest header line, in bytes.
pub const MAX_LINE_LEN: usize = 64 * 1024;
/// Most arguments of one request.
const MAX_ARGUMENTS: i64 = i32::MAX as i64;
/// Longest bulk string whose length has two digits.
const SHORT_BULK_LEN: usize = 99;
/// What a client that has not authenticated yet may send.
const MAX_UNAUTHENTICATED_ARGUMENTS: i64 = 10;
const MAX_UNAUTHENTICATED_BULK_LEN: i64 = 16 * 1024;

/// What the sender of the requests may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest bulk string in bytes: `proto-max-bulk-len`.
    pub max_bulk_len: u64,
    /// Whether the client still has to authenticate.
    pub unauthenticated: bool,
    /// Whether inline commands are understood; empty lines always are.
    pub inline: bool,
}

impl Limits {
    /// Limits of a client that has nothing to prove.
    pub const fn client(max_bulk_len: u64) -> Limits {
        Limits { max_bulk_len, unauthenticated: false, inline: true }
    }

    /// Limits of the stream of a primary, or of a file: RESP only, and any length.
    pub const STREAM: Limits =
        Limits { max_bulk_len: i64::MAX as u64, unauthenticated: false, inline: false };
}

/// An argument: a range of the buffer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Argument {
    /// Place of the first byte.
    pub start: usize,
    /// Length in bytes.
    pub len: usize,
}

impl Argument {
    /// The bytes of the argument; empty if `buffer` is not the one it was parsed from.
    pub fn of(self, buffer: &[u8]) -> &[u8] {
        self.start.checked_add(self.len).and_then(|end| buffer.get(self.start..end)).unwrap_or(&[])
    }
}

/// What [`RequestParser::next`] found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Parsed {
    /// A request of this many arguments, at least one; they are the last ones of the output.
    Request { arguments: usize },
    /// A request without arguments: `*0`, `*-1`, a line of white space. Nothing to do, nothing to answer.
    Nothing,
    /// An empty line: nothing to answer, but a sign of life from a replica or primary.
    EmptyLine,
    /// The request is not whole: at least this many more bytes are needed.
    Incomplete { missing: usize },
}

/// A breach of the protocol; the connection answers [`ProtocolError::reply`] and closes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ProtocolError {
    #[error("too big inline request")]
    InlineTooBig,
    #[error("unbalanced quotes in request")]
    UnbalancedQuotes,
    #[error("too big mbulk count string")]
    CountTooBig,
    #[error("invalid multibulk length")]
    InvalidCount,
    #[error("unauthenticated multibulk length")]
    UnauthenticatedCount,
    #[error("too big bulk count string")]
    LengthTooBig,
    #[error("expected '$', got '{}'", char::from(*.0))]
    ExpectedBulk(u8),
    #[error("invalid bulk length")]
    InvalidLength,
    #[error("unauthenticated bulk length")]
    UnauthenticatedLength,
    #[error("invalid CRLF in request")]
    InvalidLineEnd,
    /// Not answered: the sender is a primary.
    #[error("inline request in a stream")]
    InlineRefused,
}

impl ProtocolError {
    /// The error as the client sees it.
    pub fn reply(self) -> ErrorReply {
        let mut text = b"ERR Protocol error: ".to_vec();
        match self {
            ProtocolError::ExpectedBulk(byte) => {
                text.extend_from_slice(b"expected '$', got '");
                text.push(byte);
                text.push(b'\'');
            }
            other => text.extend_from_slice(other.to_string().as_bytes()),
        }
        ErrorReply::from_text(text)
    }
}

/// Whether a request of this name was meant for a web server: a browser lured into talking to this one.
/// The connection is closed without an answer.
pub fn is_cross_protocol(name: &[u8]) -> bool {
    name.eq_ignore_ascii_case(b"post") || name.eq_ignore_ascii_case(b"host:")
}

/// Reads one request after the other out of a growing buffer.
#[derive(Debug, Default)]
pub struct RequestParser {
    /// Where the request that is being read begins.
    start: usize,
    /// The first byte not understood yet.
    position: usize,
    /// Up to where no line end was found, while looking for one.
    searched: usize,
    /// Arguments still to come; 0 between requests.
    arguments_left: u32,
    /// Length of the bulk string that begins at `position`, once its header was read.
    bulk_len: Option<usize>,
    /// The arguments read so far of a request that is not whole.
    pending: Vec<Argument>,
}

impl RequestParser {
    /// A parser at the start of an empty buffer.
    pub fn new() -> Self {
        RequestParser::default()
    }

    /// How many bytes at the front of the buffer belong to whole requests.
    pub fn consumed(&self) -> usize {
        self.start
    }

    /// Whether a request has begun and is not whole.
    pub fn is_inside_request(&self) -> bool {
        self.position > self.start || !self.pending.is_empty()
    }

    /// Tells that the first `count` bytes, at most [`RequestParser::consumed`], were taken off the buffer.
    ///
    /// # Panics
    /// If `count` is more than that: a mistake of the caller, not of the client.
    pub fn discard(&mut self, count: usize) {
        assert!(count <= self.start, "discarding bytes of a request that is not whole");
        self.start -= count;
        self.position -= count;
        self.searched = self.searched.saturating_sub(count);
        for argument in &mut self.pending {
            argument.start -= count;
        }
    }

    /// Parses the next request. Its arguments are appended to `arguments`, which must not shrink meanwhile;
    /// nothing is appended otherwise. After an error the parser must not be used any more.
    pub fn next(
        &mut self,
        buffer: &mut [u8],
        limits: &Limits,
        arguments: &mut Vec<Argument>,
    ) -> Result<Parsed, ProtocolError> {
        if self.arguments_left == 0 {
            if let Some((count, end)) = short_request(buffer, self.position, limits, arguments) {
                (self.position, self.start) = (end, end);
                return Ok(Parsed::Request { arguments: count });
            }
            match buffer.get(self.position) {
                None => return Ok(Parsed::Incomplete { missing: 1 }),
                Some(b'*') => match self.read_count(buffer, limits)? {
                    Some(0) => return Ok(Parsed::Nothing),
                    Some(count) => self.arguments_left = count,
                    None => return Ok(Parsed::Incomplete { missing: 1 }),
                },
                Some(_) => return self.read_inline(buffer, limits, arguments),
            }
        }
        let first = arguments.len();
        if !self.pending.is_empty() {
            if first == 0 {
                std::mem::swap(arguments, &mut self.pending);
            } else {
                arguments.append(&mut self.pending);
            }
        }
        if let Some(missing) = self.read_bulks(buffer, limits, arguments)? {
            if first == 0 {
                std::mem::swap(arguments, &mut self.pending);
            } else {
                self.pending.extend_from_slice(&arguments[first..]);
                arguments.truncate(first);
            }
            return Ok(Parsed::Incomplete { missing });
        }
        self.start = self.position;
        Ok(Parsed::Request { arguments: arguments.len() - first })
    }

    /// Reads `*count\r\n`; `None` if the line is not whole.
    fn read_count(&mut self, buffer: &[u8], limits: &Limits) -> Result<Option<u32>, ProtocolError> {
        let Some(count) =
            self.read_header(buffer, ProtocolError::CountTooBig, ProtocolError::InvalidCount)?
        else {
            return Ok(None);
        };
        if count > MAX_ARGUMENTS {
            return Err(ProtocolError::InvalidCount);
        }
        if limits.unauthenticated && count > MAX_UNAUTHENTICATED_ARGUMENTS {
            return Err(ProtocolError::UnauthenticatedCount);
        }
        if count <= 0 {
            self.start = self.position;
        }
        Ok(Some(u32::try_from(count).unwrap_or(0)))
    }

    /// Reads the arguments that are there; the number of missing bytes if more must come.
    fn read_bulks(
        &mut self,
        buffer: &[u8],
        limits: &Limits,
        arguments: &mut Vec<Argument>,
    ) -> Result<Option<usize>, ProtocolError> {
        while self.arguments_left > 0 {
            let len = match self.bulk_len {
                Some(len) => len,
                None => match self.read_bulk_len(buffer, limits)? {
                    Some(len) => len,
                    None => return Ok(Some(1)),
                },
            };
            let rest = &buffer[self.position..];
            match rest.get(len..).unwrap_or(&[]) {
                [b'\r', b'\n', ..] => {}
                [_, _, ..] => return Err(ProtocolError::InvalidLineEnd),
                _ => {
                    self.bulk_len = Some(len);
                    return Ok(Some(len.saturating_add(2) - rest.len()));
                }
            }
            arguments.push(Argument { start: self.position, len });
            self.position += len + 2;
            self.bulk_len = None;
            self.arguments_left -= 1;
        }
        Ok(None)
    }

    /// Reads `$length\r\n`; `None` if the line is not whole.
    fn read_bulk_len(&mut self, buffer: &[u8], limits: &Limits) -> Result<Option<usize>, ProtocolError> {
        // Only a whole line is judged, as clients see what they sent wrong by the line.
        if let Some(&byte) = buffer.get(self.position)
            && byte != b'$'
        {
            return match self.find_return(buffer, ProtocolError::LengthTooBig)? {
                Some(_) => Err(ProtocolError::ExpectedBulk(byte)),
                None => Ok(None),
            };
        }
        let Some(len) =
            self.read_header(buffer, ProtocolError::LengthTooBig, ProtocolError::InvalidLength)?
        else {
            return Ok(None);
        };
        if !u64::try_from(len).is_ok_and(|len| len <= limits.max_bulk_len) {
            return Err(ProtocolError::InvalidLength);
        }
        if limits.unauthenticated && len > MAX_UNAUTHENTICATED_BULK_LEN {
            return Err(ProtocolError::UnauthenticatedLength);
        }
        usize::try_from(len).map(Some).map_err(|_| ProtocolError::InvalidLength)
    }

    /// Reads a line of one type byte and a number, and steps over it; `None` if it is not whole.
    fn read_header(
        &mut self,
        buffer: &[u8],
        too_long: ProtocolError,
        invalid: ProtocolError,
    ) -> Result<Option<i64>, ProtocolError> {
        let Some(end) = self.find_return(buffer, too_long)? else {
            return Ok(None);
        };
        if buffer.get(end + 1) != Some(&b'\n') {
            return Err(ProtocolError::InvalidLineEnd);
        }
        let number = parse_i64(&buffer[self.position + 1..end]).ok_or(invalid)?;
        self.position = end + 2;
        Ok(Some(number))
    }

    /// Where the carriage return of the line at `position` is, once the byte after it has come, too.
    fn find_return(
        &mut self,
        buffer: &[u8],
        too_long: ProtocolError,
    ) -> Result<Option<usize>, ProtocolError> {
        let from = self.searched.max(self.position);
        match memchr(b'\r', buffer.get(from..).unwrap_or(&[])) {
            Some(found) => {
                let end = from + found;
                self.searched = end;
                Ok((end + 1 < buffer.len()).then_some(end))
            }
            None if buffer.len().saturating_sub(self.position) > MAX_LINE_LEN => Err(too_long),
            None => {
                self.searched = buffer.len();
                Ok(None)
            }
        }
    }

    /// Reads a line of words.
    fn read_inline(
        &mut self,
        buffer: &mut [u8],
        limits: &Limits,
        arguments: &mut Vec<Argument>,
    ) -> Result<Parsed, ProtocolError> {
        let from = self.searched.max(self.position);
        let Some(found) = memchr(b'\n', buffer.get(from..).unwrap_or(&[])) else {
            if buffer.len() - self.position > MAX_LINE_LEN {
                return Err(ProtocolError::InlineTooBig);
            }
            self.searched = buffer.len();
            return Ok(Parsed::Incomplete { missing: 1 });
        };
        let newline = from + found;
        if newline - self.position > MAX_LINE_LEN {
            return Err(ProtocolError::InlineTooBig);
        }
        let begin = self.position;
        self.position = newline + 1;
        self.start = self.position;
        let line = &mut buffer[begin..newline];
        let line = match line {
            [head @ .., b'\r'] => head,
            line => line,
        };
        if line.is_empty() {
            return Ok(Parsed::EmptyLine);
        }
        if !limits.inline {
            return Err(ProtocolError::InlineRefused);
        }
        let first = arguments.len();
        if !inline::split_in_place(line, begin, arguments) {
            return Err(ProtocolError::UnbalancedQuotes);
        }
        match arguments.len() - first {
            0 => Ok(Parsed::Nothing),
            arguments => Ok(Parsed::Request { arguments }),
        }
    }
}

/// Takes a request as nearly all are: whole, of at most nine arguments, each shorter than 100 bytes. Gives their number and
/// where the request ends; `None` for any other, of which nothing is taken.
fn short_request(
    buffer: &[u8],
    start: usize,
    limits: &Limits,
    arguments: &mut Vec<Argument>,
) -> Option<(usize, usize)> {
    // An unauthenticated client may send as much.
    let [b'*', digit @ b'1'..=b'9', b'\r', b'\n', rest @ ..] = buffer.get(start..)? else { return None };
    if limits.max_bulk_len < SHORT_BULK_LEN as u64 {
        return None;
    }
    let count = usize::from(digit - b'0');
    let first = arguments.len();
    let mut rest = rest;
    for _ in 0..count {
        let taken = match *rest {
            [b'$', a @ b'0'..=b'9', b'\r', b'\n', ref text @ ..] => Some((usize::from(a - b'0'), text)),
            [b'$', a @ b'1'..=b'9', b @ b'0'..=b'9', b'\r', b'\n', ref text @ ..] => {
                Some((usize::from(a - b'0') * 10 + usize::from(b - b'0'), text))
            }
            _ => None,
        };
        let Some((len, text)) = taken.filter(|(len, text)| text.get(*len..*len + 2) == Some(b"\r\n")) else {
            arguments.truncate(first);
            return None;
        };
        arguments.push(Argument { start: buffer.len() - text.len(), len });
        rest = &text[len + 2..];
    }
    Some((count, buffer.len() - rest.len()))
}

#[cfg(test)]
mod tests;
