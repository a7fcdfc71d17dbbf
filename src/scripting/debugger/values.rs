//! Replies and commands as the debugger shows them, and text of which no more is made than is shown.

use crate::base::number::format_f64;
use crate::base::quote::quote;
use crate::protocol::Reply;

/// A line that is being made.
#[derive(Default)]
pub(super) struct Shown {
    bytes: Vec<u8>,
    most: usize,
}

impl Shown {
    pub(super) fn new(start: &[u8], most: usize) -> Self {
        Shown { bytes: start.to_vec(), most }
    }

    /// Adds what is seen of `bytes`.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        // One byte more tells that the line is to be cut.
        let room = (self.most + 1).saturating_sub(self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..bytes.len().min(room)]);
    }

    /// How many bytes more are seen.
    pub(super) fn room(&self) -> usize {
        self.most.saturating_sub(self.bytes.len())
    }

    /// Would nothing more be seen?
    pub(super) fn is_full(&self) -> bool {
        self.bytes.len() > self.most
    }

    /// The line, and whether it was cut.
    pub(super) fn finish(mut self) -> (Vec<u8>, bool) {
        let is_cut = self.is_full();
        if is_cut {
            self.bytes.truncate(self.most);
            self.bytes.extend_from_slice(b" ...");
        }
        (self.bytes, is_cut)
    }

    fn push_quoted(&mut self, bytes: &[u8]) {
        self.push(&quote(&bytes[..bytes.len().min(self.most)]));
    }

    /// Adds all items with commas between them; nothing more once there is enough.
    fn push_all<T>(&mut self, open: &str, close: &str, items: &[T], mut push: impl FnMut(&mut Self, &T)) {
        self.push(open.as_bytes());
        for (index, item) in items.iter().enumerate() {
            if self.is_full() {
                return;
            }
            if index > 0 {
                self.push(b",");
            }
            push(self, item);
        }
        self.push(close.as_bytes());
    }

    fn push_list(&mut self, open: &str, close: &str, replies: &[Reply<'_>], resp3: bool) {
        self.push_all(open, close, replies, |shown, reply| shown.push_reply(reply, resp3));
    }

    /// Adds the reply of a command, as it is in RESP2 or RESP3.
    pub(super) fn push_reply(&mut self, reply: &Reply<'_>, resp3: bool) {
        match reply {
            Reply::Ok => self.push_quoted(b"+OK"),
            Reply::Status(text) => self.push_quoted(&[b"+", text.as_bytes()].concat()),
            Reply::Error(error) => self.push_quoted(&[b"-", &*error.0].concat()),
            Reply::Integer(number) => self.push(number.to_string().as_bytes()),
            Reply::Bulk(bytes) => self.push_quoted(bytes),
            Reply::Owned(bytes) | Reply::Encoded(bytes) => self.push_quoted(bytes),
            Reply::BulkInteger(number) => self.push_quoted(number.to_string().as_bytes()),
            Reply::Nil | Reply::NilArray | Reply::None if resp3 => self.push(b"(null)"),
            Reply::Nil | Reply::NilArray | Reply::None => self.push(b"NULL"),
            Reply::Bool(value) if resp3 => self.push(if *value { b"#true" } else { b"#false" }),
            Reply::Bool(value) => self.push(if *value { b"1" } else { b"0" }),
            Reply::Double(number) if resp3 => {
                self.push(b"(double) ");
                self.push(&format_f64(*number));
            }
            Reply::Double(number) => self.push_quoted(&format_f64(*number)),
            Reply::BigNumber(digits) if resp3 => self.push(digits),
            Reply::BigNumber(text) | Reply::Verbatim(_, text) => self.push_quoted(text),
            Reply::Array(replies) | Reply::Push(replies) => self.push_list("[", "]", replies, resp3),
            Reply::Set(replies) if resp3 => self.push_list("~(", ")", replies, resp3),
            Reply::Set(replies) => self.push_list("[", "]", replies, resp3),
            Reply::Map(pairs) => self.push_pairs(pairs, resp3),
            Reply::Attributed(_, reply) => self.push_reply(reply, resp3),
        }
    }

    fn push_pairs(&mut self, pairs: &[(Reply<'_>, Reply<'_>)], resp3: bool) {
        let (open, between, close) = if resp3 { ("{", " => ", "}") } else { ("[", ",", "]") };
        self.push_all(open, close, pairs, |shown, (key, value)| {
            shown.push_reply(key, resp3);
            shown.push(between.as_bytes());
            shown.push_reply(value, resp3);
        });
    }
}

/// How many arguments of a command are shown.
const ARGUMENTS: usize = 10;

/// A command that a script calls.
pub(super) fn command_line(arguments: &[&[u8]], most: usize) -> Vec<u8> {
    let mut line = Shown::new(b"<command>", most);
    for argument in arguments.iter().take(ARGUMENTS) {
        line.push(b" ");
        line.push(argument);
    }
    if arguments.len() > ARGUMENTS {
        line.push(format!(" ... ({} more)", arguments.len() - ARGUMENTS).as_bytes());
    }
    line.finish().0
}
