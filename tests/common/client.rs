//! A client that keeps replies as they came: two replies are equal if their bytes are.

use std::fmt;
use std::io::{BufRead, BufReader, Error, ErrorKind, Read, Result, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// A reply of RESP2 or RESP3. The forms of nothing stay apart.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reply {
    /// What stands on one line: status, error, integer, double, boolean, big number, null; with its first byte.
    Line(Vec<u8>),
    Bulk(Vec<u8>),
    NilBulk,
    NilArray,
    Verbatim(Vec<u8>),
    Array(Vec<Reply>),
    Set(Vec<Reply>),
    Push(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
}

impl Reply {
    pub fn is_error(&self) -> bool {
        matches!(self, Reply::Line(line) if line.first() == Some(&b'-'))
    }

    /// The text of an error, or of a status, an integer or a string.
    pub fn text(&self) -> String {
        match self {
            Reply::Line(line) => String::from_utf8_lossy(line.get(1..).unwrap_or_default()).into_owned(),
            Reply::Bulk(bytes) | Reply::Verbatim(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            other => panic!("no text: {other:?}"),
        }
    }

    pub fn integer(&self) -> i64 {
        match self {
            Reply::Line(line) if line.first() == Some(&b':') => self.text().parse().expect("an integer"),
            other => panic!("no integer: {other:?}"),
        }
    }

    pub fn is_nil(&self) -> bool {
        matches!(self, Reply::NilBulk | Reply::NilArray) || *self == Reply::Line(b"_".to_vec())
    }

    /// The elements of an array, a set or a push.
    pub fn items(&self) -> &[Reply] {
        match self {
            Reply::Array(items) | Reply::Set(items) | Reply::Push(items) => items,
            other => panic!("no array: {other:?}"),
        }
    }

    /// Elements of arrays and sets sorted, on every level: for where the order says nothing.
    #[must_use]
    pub fn sorted(self) -> Reply {
        let sort = |items: Vec<Reply>| {
            let mut items: Vec<Reply> = items.into_iter().map(Reply::sorted).collect();
            items.sort();
            items
        };
        match self {
            Reply::Array(items) => Reply::Array(sort(items)),
            Reply::Set(items) => Reply::Set(sort(items)),
            Reply::Map(mut pairs) => {
                pairs.sort();
                Reply::Map(pairs)
            }
            other => other,
        }
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reply::Line(line) => write!(formatter, "{}", line.escape_ascii()),
            Reply::Bulk(bytes) if bytes.len() > 300 => write!(formatter, "({} bytes)", bytes.len()),
            Reply::Bulk(bytes) => write!(formatter, "\"{}\"", bytes.escape_ascii()),
            Reply::NilBulk => write!(formatter, "$-1"),
            Reply::NilArray => write!(formatter, "*-1"),
            Reply::Verbatim(bytes) => write!(formatter, "=\"{}\"", bytes.escape_ascii()),
            Reply::Array(items) => formatter.debug_list().entries(items).finish(),
            Reply::Set(items) => formatter.debug_set().entries(items).finish(),
            Reply::Push(items) => write!(formatter, ">{items:?}"),
            Reply::Map(pairs) => {
                formatter.debug_map().entries(pairs.iter().map(|(key, value)| (key, value))).finish()
            }
        }
    }
}

/// The bytes of a request.
pub fn encode<A: AsRef<[u8]>>(words: &[A]) -> Vec<u8> {
    let mut request = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        let word = word.as_ref();
        request.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        request.extend_from_slice(word);
        request.extend_from_slice(b"\r\n");
    }
    request
}

pub struct Client {
    stream: BufReader<TcpStream>,
}

impl Client {
    pub fn connect(port: u16) -> Result<Client> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(super::PATIENCE))?;
        Ok(Client { stream: BufReader::new(stream) })
    }

    pub fn set_read_timeout(&self, limit: Duration) {
        self.stream.get_ref().set_read_timeout(Some(limit)).expect("a time above zero");
    }

    /// Sends what the words say, separated by spaces, and takes the reply; panics if the connection fails.
    pub fn call(&mut self, words: &str) -> Reply {
        let words: Vec<&str> = words.split(' ').collect();
        self.call_args(&words)
    }

    pub fn call_args<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Reply {
        self.try_call(words).unwrap_or_else(|error| {
            panic!("{}: {error}", words[0].as_ref().escape_ascii());
        })
    }

    /// Like [`call`](Self::call), and panics if the reply is an error.
    pub fn ok(&mut self, words: &str) -> Reply {
        let reply = self.call(words);
        assert!(!reply.is_error(), "{words}: {reply:?}");
        reply
    }

    /// Errors are the connection's; error replies are replies.
    pub fn try_call<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Result<Reply> {
        self.send(words)?;
        self.read()
    }

    pub fn send<A: AsRef<[u8]>>(&mut self, words: &[A]) -> Result<()> {
        self.send_bytes(&encode(words))
    }

    pub fn send_bytes(&mut self, bytes: &[u8]) -> Result<()> {
        self.stream.get_mut().write_all(bytes)
    }

    /// The next reply; pushes are replies too.
    pub fn read(&mut self) -> Result<Reply> {
        let line = self.line()?;
        let bad = || Error::new(ErrorKind::InvalidData, format!("not a reply: {}", line.escape_ascii()));
        let (kind, rest) = line.split_first().ok_or_else(bad)?;
        if b"+-:,#_(".contains(kind) {
            return Ok(Reply::Line(line));
        }
        let count: i64 = std::str::from_utf8(rest).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
        let Ok(count) = usize::try_from(count) else {
            return match kind {
                b'$' => Ok(Reply::NilBulk),
                b'*' => Ok(Reply::NilArray),
                _ => Err(bad()),
            };
        };
        let mut items = |count: usize| (0..count).map(|_| self.read()).collect::<Result<Vec<Reply>>>();
        match kind {
            b'$' => Ok(Reply::Bulk(self.bytes(count)?)),
            b'=' => Ok(Reply::Verbatim(self.bytes(count)?)),
            b'*' => Ok(Reply::Array(items(count)?)),
            b'~' => Ok(Reply::Set(items(count)?)),
            b'>' => Ok(Reply::Push(items(count)?)),
            b'%' => {
                let flat = items(count * 2)?;
                Ok(Reply::Map(flat.chunks(2).map(|pair| (pair[0].clone(), pair[1].clone())).collect()))
            }
            _ => Err(bad()),
        }
    }

    /// All bytes until the other side closes.
    pub fn read_to_end(&mut self) -> Result<Vec<u8>> {
        let mut bytes = Vec::new();
        self.stream.read_to_end(&mut bytes)?;
        Ok(bytes)
    }

    pub fn shutdown_write(&self) -> Result<()> {
        self.stream.get_ref().shutdown(std::net::Shutdown::Write)
    }

    /// The value of a field of INFO.
    pub fn info(&mut self, field: &str) -> String {
        self.try_info(field).unwrap_or_else(|| panic!("INFO has no field {field}"))
    }

    pub fn try_info(&mut self, field: &str) -> Option<String> {
        let text = self.ok("INFO everything").text();
        let mut lines = text.lines().filter_map(|line| line.split_once(':'));
        lines.find(|(name, _)| *name == field).map(|(_, value)| value.to_owned())
    }

    fn line(&mut self) -> Result<Vec<u8>> {
        let mut line = Vec::new();
        self.stream.read_until(b'\n', &mut line)?;
        if !line.ends_with(b"\r\n") {
            return Err(Error::new(ErrorKind::UnexpectedEof, "the connection was closed"));
        }
        line.truncate(line.len() - 2);
        Ok(line)
    }

    fn bytes(&mut self, count: usize) -> Result<Vec<u8>> {
        let mut bytes = vec![0; count + 2];
        self.stream.read_exact(&mut bytes)?;
        bytes.truncate(count);
        Ok(bytes)
    }
}
