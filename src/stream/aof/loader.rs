//! Reading an incr file, or an old base in commands: one command after the other, transactions whole or not at all.
//!
//! Invariant: `valid_len` is the length up to which the file holds whole commands and whole transactions.

use std::io;

use crate::base::file::File;
use crate::protocol::request::{Argument, Limits, Parsed, RequestParser};

/// Why an AOF cannot be read on.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It ends within a command or a transaction: everything before is good.
    #[error("Unexpected end of file reading the append only file")]
    Truncated,
    #[error("Bad file format reading the append only file: {0}")]
    Format(String),
    #[error("Unrecoverable error reading the append only file: {0}")]
    Io(#[from] io::Error),
}

/// A command of the file.
#[derive(Debug)]
pub struct LoadedCommand<'a> {
    pub args: Vec<&'a [u8]>,
    /// Its bytes, which are the stream's.
    pub bytes: &'a [u8],
}

const CHUNK: u64 = 1 << 20;

/// Reads commands out of a file.
pub struct CommandReader {
    file: Box<dyn File>,
    buffer: Vec<u8>,
    parser: RequestParser,
    arguments: Vec<Argument>,
    /// Where the buffer begins in the file.
    start: u64,
    /// Where the next bytes of the file are.
    next: u64,
    /// Everything before is whole.
    valid_len: u64,
    in_transaction: bool,
}

impl CommandReader {
    /// Reads from `offset` on: behind an RDB preamble, if there is one.
    pub fn new(file: Box<dyn File>, offset: u64) -> Self {
        CommandReader {
            file,
            buffer: Vec::new(),
            parser: RequestParser::new(),
            arguments: Vec::new(),
            start: offset,
            next: offset,
            valid_len: offset,
            in_transaction: false,
        }
    }

    /// The length up to which everything read was whole.
    pub fn valid_len(&self) -> u64 {
        self.valid_len
    }

    /// The next command; `None` at the end of the file.
    pub fn read(&mut self) -> Result<Option<LoadedCommand<'_>>, LoadError> {
        let consumed = self.parser.consumed();
        if consumed as u64 > CHUNK {
            self.buffer.drain(..consumed);
            self.parser.discard(consumed);
            self.start += consumed as u64;
        }
        self.arguments.clear();
        let begin = loop {
            self.skip_annotations()?;
            let begin = self.parser.consumed();
            match self.parser.next(&mut self.buffer, &Limits::STREAM, &mut self.arguments) {
                Ok(Parsed::Request { .. }) => break begin,
                Ok(Parsed::Nothing | Parsed::EmptyLine) => {
                    return Err(LoadError::Format("a command without a name".into()));
                }
                Ok(Parsed::Incomplete { missing }) => {
                    if !self.fill(missing as u64)? {
                        return if self.parser.consumed() == self.buffer.len() && !self.in_transaction {
                            Ok(None)
                        } else {
                            Err(LoadError::Truncated)
                        };
                    }
                }
                Err(error) => return Err(LoadError::Format(error.to_string())),
            }
        };
        let end = self.parser.consumed();
        let name = self.arguments[0].of(&self.buffer);
        if name.eq_ignore_ascii_case(b"multi") {
            self.in_transaction = true;
        } else if name.eq_ignore_ascii_case(b"exec") {
            self.in_transaction = false;
        }
        if !self.in_transaction {
            self.valid_len = self.start + end as u64;
        }
        let args = self.arguments.iter().map(|argument| argument.of(&self.buffer)).collect();
        Ok(Some(LoadedCommand { args, bytes: &self.buffer[begin..end] }))
    }

    /// Lines that begin with `#` are notes for people and tools, not part of the stream.
    fn skip_annotations(&mut self) -> Result<(), LoadError> {
        loop {
            let at = self.parser.consumed();
            if self.parser.is_inside_request() || self.buffer.get(at) != Some(&b'#') {
                return Ok(());
            }
            match memchr::memchr(b'\n', &self.buffer[at..]) {
                Some(end) => {
                    self.buffer.drain(at..=at + end);
                    self.start += end as u64 + 1;
                    if !self.in_transaction {
                        self.valid_len = self.start + at as u64;
                    }
                }
                None if self.fill(1)? => {}
                None => return Err(LoadError::Truncated),
            }
        }
    }

    /// Reads on; `false` at the end of the file.
    fn fill(&mut self, least: u64) -> Result<bool, LoadError> {
        let have = self.buffer.len();
        // Of a small file no more than there is; one that still grows is read on from here.
        let left = self.file.len()?.saturating_sub(self.next).max(1);
        let want = least.clamp(CHUNK, 64 * CHUNK).min(left) as usize;
        self.buffer.resize(have + want, 0);
        let read = self.file.read_at(&mut self.buffer[have..], self.next);
        let count = *read.as_ref().unwrap_or(&0);
        self.buffer.truncate(have + count);
        self.next += count as u64;
        Ok(read? > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::base::file::{FileSystem, MemoryFileSystem, Open, append_all};
    use std::path::Path;

    fn read(bytes: &[u8]) -> (Vec<String>, u64, Option<LoadError>) {
        let files = MemoryFileSystem::new();
        let mut file = files.open(Path::new("x"), Open::Create).expect("opens");
        append_all(&mut *file, bytes).expect("written");
        let mut reader = CommandReader::new(file, 0);
        let mut commands = Vec::new();
        let error = loop {
            match reader.read() {
                Ok(Some(command)) => {
                    commands.push(String::from_utf8_lossy(&command.args.join(&b' ')).into_owned())
                }
                Ok(None) => break None,
                Err(error) => break Some(error),
            }
        };
        (commands, reader.valid_len(), error)
    }

    const WHOLE: &[u8] = b"*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n#TS:1\r\n*1\r\n$5\r\nMULTI\r\n*2\r\n$4\r\nINCR\r\n$1\r\na\r\n*1\r\n$4\r\nEXEC\r\n";

    #[test]
    fn every_cut_is_noticed_and_keeps_whole_transactions() {
        let (commands, valid, error) = read(WHOLE);
        assert_eq!(commands, ["SELECT 0", "MULTI", "INCR a", "EXEC"]);
        assert_eq!(valid, WHOLE.len() as u64);
        assert!(error.is_none());
        for cut in 1..WHOLE.len() {
            let (_, valid, error) = read(&WHOLE[..cut]);
            let whole = [0, 23, 30].into_iter().filter(|end| *end <= cut).max().unwrap_or(0);
            assert_eq!(valid, whole as u64, "cut at {cut}");
            let at_end = cut == whole;
            assert_eq!(error.is_none(), at_end, "cut at {cut}");
        }
    }

    #[test]
    fn garbage_is_no_truncation() {
        assert!(matches!(read(b"!hello\r\n").2, Some(LoadError::Format(_))));
        assert!(matches!(read(b"*1\r\n!4\r\nPING\r\n").2, Some(LoadError::Format(_))));
    }
}
