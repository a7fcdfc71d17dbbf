//! Replies as values. A command returns one; only a connection turns it into RESP2 or RESP3 bytes,
//! and only the script engine turns it into Lua values.
//!
//! Invariant: a reply that borrows (`'a`) borrows from the keyspace guard under which the command ran,
//! so it is encoded before that guard is released.

use std::borrow::Cow;

/// What a command answers.
#[derive(Debug, Clone, PartialEq)]
pub enum Reply<'a> {
    /// `+OK`.
    Ok,
    /// A status line, without the leading `+`.
    Status(Cow<'static, str>),
    /// An error line.
    Error(ErrorReply),
    /// `:n`.
    Integer(i64),
    /// A bulk string that lies in the keyspace.
    Bulk(&'a [u8]),
    /// A bulk string that the command made.
    Owned(Vec<u8>),
    /// A bulk string holding this integer in decimal.
    BulkInteger(i64),
    /// `_` in RESP3, `$-1` in RESP2.
    Nil,
    /// `_` in RESP3, `*-1` in RESP2.
    NilArray,
    /// `#t`/`#f` in RESP3, `:1`/`:0` in RESP2.
    Bool(bool),
    /// `,d` in RESP3, a bulk string in RESP2.
    Double(f64),
    /// `(n` in RESP3, a bulk string in RESP2.
    BigNumber(Vec<u8>),
    /// `=` in RESP3 with its three-byte format, a bulk string in RESP2.
    Verbatim([u8; 3], Vec<u8>),
    /// An array.
    Array(Vec<Reply<'a>>),
    /// `%` in RESP3, a flat array in RESP2.
    Map(Vec<(Reply<'a>, Reply<'a>)>),
    /// `~` in RESP3, an array in RESP2.
    Set(Vec<Reply<'a>>),
    /// `>` in RESP3, an array in RESP2: data outside of the request/reply order.
    Push(Vec<Reply<'a>>),
    /// `|` in RESP3 before the reply that follows it; RESP2 drops the attributes.
    Attributed(Vec<(Reply<'a>, Reply<'a>)>, Box<Reply<'a>>),
    /// Bytes already encoded for this connection's protocol.
    Encoded(Vec<u8>),
    /// No reply at all.
    None,
}

/// An error as it stands on the wire, without the leading `-` and the line end: a code in capitals, a
/// space, the text. Line ends inside are turned into spaces by the encoder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorReply(pub Cow<'static, [u8]>);

/// What the function of a command returns.
pub type CommandResult<'a> = Result<Reply<'a>, ErrorReply>;

impl ErrorReply {
    pub const SYNTAX: ErrorReply = ErrorReply::new("ERR syntax error");
    pub const WRONG_TYPE: ErrorReply =
        ErrorReply::new("WRONGTYPE Operation against a key holding the wrong kind of value");
    pub const NOT_AN_INTEGER: ErrorReply = ErrorReply::new("ERR value is not an integer or out of range");
    pub const NOT_A_FLOAT: ErrorReply = ErrorReply::new("ERR value is not a valid float");
    pub const NO_SUCH_KEY: ErrorReply = ErrorReply::new("ERR no such key");
    pub const INDEX_OUT_OF_RANGE: ErrorReply = ErrorReply::new("ERR index out of range");
    pub const OUT_OF_RANGE: ErrorReply = ErrorReply::new("ERR value is out of range");
    pub const MUST_BE_POSITIVE: ErrorReply = ErrorReply::new("ERR value is out of range, must be positive");

    /// An error whose whole text (code first) is known at compile time.
    pub const fn new(text: &'static str) -> Self {
        ErrorReply(Cow::Borrowed(text.as_bytes()))
    }

    /// An error whose whole text (code first) was made at run time.
    pub fn from_text(text: impl Into<Vec<u8>>) -> Self {
        ErrorReply(Cow::Owned(text.into()))
    }

    /// The first word: `ERR`, `WRONGTYPE`, … An error that begins with no short word counts as `ERR`: a script can answer any
    /// text.
    pub fn code(&self) -> &[u8] {
        const LONGEST: usize = 31;
        let start = &self.0[..self.0.len().min(LONGEST)];
        memchr::memchr(b' ', start).map_or(b"ERR", |end| &start[..end])
    }
}

impl From<ErrorReply> for Reply<'_> {
    fn from(error: ErrorReply) -> Self {
        Reply::Error(error)
    }
}

impl<'a> Reply<'a> {
    /// A bulk string of an owned text.
    pub fn text(text: impl Into<String>) -> Self {
        Reply::Owned(text.into().into_bytes())
    }

    /// The error, if this is one.
    #[inline]
    pub fn error(&self) -> Option<&ErrorReply> {
        match self {
            Reply::Error(error) => Some(error),
            _ => None,
        }
    }

    /// A copy that borrows nothing.
    pub fn into_owned(self) -> Reply<'static> {
        fn all(replies: Vec<Reply<'_>>) -> Vec<Reply<'static>> {
            replies.into_iter().map(Reply::into_owned).collect()
        }
        fn pairs(replies: Vec<(Reply<'_>, Reply<'_>)>) -> Vec<(Reply<'static>, Reply<'static>)> {
            replies.into_iter().map(|(k, v)| (k.into_owned(), v.into_owned())).collect()
        }
        match self {
            Reply::Ok => Reply::Ok,
            Reply::Status(text) => Reply::Status(text),
            Reply::Error(error) => Reply::Error(error),
            Reply::Integer(n) => Reply::Integer(n),
            Reply::Bulk(bytes) => Reply::Owned(bytes.to_vec()),
            Reply::Owned(bytes) => Reply::Owned(bytes),
            Reply::BulkInteger(n) => Reply::BulkInteger(n),
            Reply::Nil => Reply::Nil,
            Reply::NilArray => Reply::NilArray,
            Reply::Bool(b) => Reply::Bool(b),
            Reply::Double(d) => Reply::Double(d),
            Reply::BigNumber(digits) => Reply::BigNumber(digits),
            Reply::Verbatim(format, text) => Reply::Verbatim(format, text),
            Reply::Array(replies) => Reply::Array(all(replies)),
            Reply::Map(replies) => Reply::Map(pairs(replies)),
            Reply::Set(replies) => Reply::Set(all(replies)),
            Reply::Push(replies) => Reply::Push(all(replies)),
            Reply::Attributed(attributes, reply) => {
                Reply::Attributed(pairs(attributes), Box::new(reply.into_owned()))
            }
            Reply::Encoded(bytes) => Reply::Encoded(bytes),
            Reply::None => Reply::None,
        }
    }
}
