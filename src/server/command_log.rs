//! The log of commands that stood out: slow ones, large requests, large replies. Its thresholds are read by every call.
//!
//! Invariant: what is kept of a call holds no secrets.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

use super::Server;
use super::client::Client;
use super::config::Config;
use super::redaction::redacted;
use super::table::Entry;
use crate::command::{Args, Flags};

/// What a call stood out by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standout {
    /// Microseconds.
    Slow,
    /// Bytes of the request as it came.
    LargeRequest,
    /// Bytes of the reply as it went.
    LargeReply,
}

/// A call that stood out.
#[derive(Debug, Clone)]
pub struct LoggedCall {
    pub number: u64,
    pub unix_seconds: u64,
    /// Microseconds or bytes.
    pub value: u64,
    pub args: Vec<Vec<u8>>,
    pub address: String,
    pub client_name: Vec<u8>,
}

/// The command of a script that took longest.
#[derive(Debug)]
pub struct CostlyCall {
    nanoseconds: u64,
    line: Vec<u8>,
}

impl CostlyCall {
    /// What took less does not make a script slow by itself.
    pub const LEAST_NANOSECONDS: u64 = 1_000_000;

    /// Keeps a command that a script has called, if none before took as long.
    #[cold]
    pub fn keep(costliest: &mut Option<Box<CostlyCall>>, entry: &Entry, args: &Args<'_>, nanoseconds: u64) {
        if costliest.as_ref().is_none_or(|call| call.nanoseconds < nanoseconds) {
            let line = shorten_argument(&shorten(&redacted(entry, args)).join(&b' '));
            *costliest = Some(Box::new(CostlyCall { nanoseconds, line }));
        }
    }

    /// As one more argument of the script's entry.
    fn note(&self) -> Vec<u8> {
        let microseconds = format!(" ({} microseconds)", self.nanoseconds / 1000);
        [b"... costliest call: ", self.line.as_slice(), microseconds.as_bytes()].concat()
    }
}

/// The calls of one kind.
#[derive(Debug, Default)]
pub struct Log {
    last_number: AtomicU64,
    calls: Mutex<VecDeque<LoggedCall>>,
}

#[derive(Debug)]
pub struct CommandLog {
    slow_nanoseconds: AtomicU64,
    request_bytes: AtomicU64,
    reply_bytes: AtomicU64,
    slow: Log,
    large_requests: Log,
    large_replies: Log,
}

/// What is kept of a long command line.
const MOST_ARGUMENTS: usize = 32;
const LONGEST_ARGUMENT: usize = 128;

impl CommandLog {
    pub fn new(config: &Config) -> Self {
        let log = CommandLog {
            slow_nanoseconds: AtomicU64::default(),
            request_bytes: AtomicU64::default(),
            reply_bytes: AtomicU64::default(),
            slow: Log::default(),
            large_requests: Log::default(),
            large_replies: Log::default(),
        };
        log.set_thresholds(config);
        log
    }

    /// Negative thresholds turn a log off.
    pub fn set_thresholds(&self, config: &Config) {
        let bytes = |threshold: i64| u64::try_from(threshold).unwrap_or(u64::MAX);
        let slow = bytes(config.commandlog_execution_slower_than_us);
        self.slow_nanoseconds.store(slow.saturating_mul(1000), Relaxed);
        self.request_bytes.store(bytes(config.commandlog_request_larger_than), Relaxed);
        self.reply_bytes.store(bytes(config.commandlog_reply_larger_than), Relaxed);
    }

    pub fn shorten(&self, config: &Config) {
        self.slow.shorten_to(config.commandlog_slow_execution_max_len);
        self.large_requests.shorten_to(config.commandlog_large_request_max_len);
        self.large_replies.shorten_to(config.commandlog_large_reply_max_len);
    }

    pub fn of(&self, standout: Standout) -> &Log {
        match standout {
            Standout::Slow => &self.slow,
            Standout::LargeRequest => &self.large_requests,
            Standout::LargeReply => &self.large_replies,
        }
    }

    /// Looks at the time that a finished call took. `costliest` is what took longest of it, if it was a script.
    #[inline]
    pub fn look_at_time(
        &self,
        server: &Server,
        client: &Client,
        entry: &Entry,
        args: &Args<'_>,
        nanoseconds: u64,
        costliest: Option<&CostlyCall>,
    ) {
        if nanoseconds >= self.slow_nanoseconds.load(Relaxed) {
            let mut shown = shorten(&redacted(entry, args));
            shown.extend(costliest.map(CostlyCall::note));
            self.record(server, client, entry, shown, Standout::Slow, nanoseconds / 1000);
        }
    }

    /// Looks at the sizes of a finished call and of its reply: `(the most that the call can have, its reply's)` bytes.
    #[inline]
    pub fn look_at_sizes(
        &self,
        server: &Server,
        client: &Client,
        entry: &Entry,
        args: &Args<'_>,
        (most_request_bytes, reply_bytes): (usize, usize),
    ) {
        let reply_bytes = reply_bytes as u64;
        if reply_bytes >= self.reply_bytes.load(Relaxed) && reply_bytes > 0 {
            let shown = shorten(&redacted(entry, args));
            self.record(server, client, entry, shown, Standout::LargeReply, reply_bytes);
        }
        if most_request_bytes as u64 >= self.request_bytes.load(Relaxed) {
            self.look_at_request(server, client, entry, args);
        }
    }

    #[inline(never)]
    fn look_at_request(&self, server: &Server, client: &Client, entry: &Entry, args: &Args<'_>) {
        let bytes = request_bytes(args);
        if bytes >= self.request_bytes.load(Relaxed) {
            let shown = shorten(&redacted(entry, args));
            self.record(server, client, entry, shown, Standout::LargeRequest, bytes);
        }
    }

    #[cold]
    fn record(
        &self,
        server: &Server,
        client: &Client,
        entry: &Entry,
        args: Vec<Vec<u8>>,
        standout: Standout,
        value: u64,
    ) {
        if entry.flags.has(Flags::SKIP_COMMANDLOG) {
            return;
        }
        let config = server.config();
        let most = match standout {
            Standout::Slow => config.commandlog_slow_execution_max_len,
            Standout::LargeRequest => config.commandlog_large_request_max_len,
            Standout::LargeReply => config.commandlog_large_reply_max_len,
        };
        if most == 0 {
            return;
        }
        let log = self.of(standout);
        let call = LoggedCall {
            number: log.last_number.fetch_add(1, Relaxed),
            unix_seconds: server.now_ms() / 1000,
            value,
            args,
            address: client.address.clone(),
            client_name: client.labels.lock().name.clone(),
        };
        log.calls.lock().push_front(call);
        log.shorten_to(most);
    }
}

impl Log {
    /// The newest `count` calls, newest first.
    pub fn newest(&self, count: usize) -> Vec<LoggedCall> {
        self.calls.lock().iter().take(count).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.calls.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn clear(&self) {
        self.calls.lock().clear();
    }

    fn shorten_to(&self, most: u64) {
        self.calls.lock().truncate(usize::try_from(most).unwrap_or(usize::MAX));
    }
}

/// The bytes of a request in the protocol.
fn request_bytes(args: &Args<'_>) -> u64 {
    let header = |number: usize| 1 + number.checked_ilog10().unwrap_or(0) as usize + 1 + 2;
    let arguments: usize = args.iter().map(|arg| header(arg.len()) + arg.len() + 2).sum();
    (header(args.len()) + arguments) as u64
}

fn shorten(args: &Args<'_>) -> Vec<Vec<u8>> {
    let kept = if args.len() > MOST_ARGUMENTS { MOST_ARGUMENTS - 1 } else { args.len() };
    let mut short: Vec<Vec<u8>> = args[..kept].iter().map(|arg| shorten_argument(arg)).collect();
    if kept < args.len() {
        short.push(format!("... ({} more arguments)", args.len() - kept).into_bytes());
    }
    short
}

fn shorten_argument(arg: &[u8]) -> Vec<u8> {
    let mut short = arg[..arg.len().min(LONGEST_ARGUMENT)].to_vec();
    if arg.len() > LONGEST_ARGUMENT {
        short.extend_from_slice(format!("... ({} more bytes)", arg.len() - LONGEST_ARGUMENT).as_bytes());
    }
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_is_as_large_as_it_came() {
        assert_eq!(request_bytes(&[b"PING"]), b"*1\r\n$4\r\nPING\r\n".len() as u64);
        let value = [b'v'; 200];
        assert_eq!(request_bytes(&[b"SET", b"k", &value]), 228);
        assert_eq!(request_bytes(&[b""]), b"*1\r\n$0\r\n\r\n".len() as u64);
    }

    #[test]
    fn long_command_lines_are_shortened() {
        let many = [b"a".as_slice(); 40];
        let short = shorten(&many);
        assert_eq!((short.len(), short[31].as_slice()), (32, b"... (9 more arguments)".as_slice()));
        assert_eq!(shorten(&many[..32]).len(), 32);
        assert_eq!(shorten_argument(&[b'x'; 130])[128..], *b"... (2 more bytes)");
    }

    #[test]
    fn the_costliest_call_is_kept() {
        let table = crate::server::table::build();
        let entry = table.find(b"keys").expect("a command");
        let mut costliest = None;
        for (pattern, nanoseconds) in [(b"a", 2_000_000), (b"b", 3_000_000), (b"c", 2_500_000)] {
            CostlyCall::keep(&mut costliest, entry, &[b"keys", pattern], nanoseconds);
        }
        let note = costliest.expect("kept").note();
        assert_eq!(note.escape_ascii().to_string(), "... costliest call: keys b (3000 microseconds)");
    }
}
