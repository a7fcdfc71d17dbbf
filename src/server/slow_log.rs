//! The log of slow commands, and its threshold, read by every call.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::Server;
use super::session::Session;
use super::table::Entry;
use crate::command::{Args, Flags};

/// A call that took long.
#[derive(Debug, Clone)]
pub struct SlowCall {
    pub number: u64,
    pub unix_seconds: u64,
    pub microseconds: u64,
    pub args: Vec<Vec<u8>>,
    pub address: String,
    pub client_name: Vec<u8>,
}

#[derive(Debug)]
pub struct SlowLog {
    threshold_us: AtomicI64,
    last_number: AtomicU64,
    calls: Mutex<VecDeque<SlowCall>>,
}

/// What is kept of a long command line.
const MOST_ARGUMENTS: usize = 32;
const LONGEST_ARGUMENT: usize = 128;

impl Default for SlowLog {
    fn default() -> Self {
        SlowLog {
            threshold_us: AtomicI64::new(10_000),
            last_number: AtomicU64::new(0),
            calls: Mutex::default(),
        }
    }
}

impl SlowLog {
    /// Calls at least this long are kept.
    pub fn threshold(&self) -> Duration {
        match u64::try_from(self.threshold_us.load(Relaxed)) {
            Ok(microseconds) => Duration::from_micros(microseconds),
            Err(_) => Duration::MAX,
        }
    }

    /// In microseconds; negative turns the log off.
    pub fn set_threshold(&self, microseconds: i64) {
        self.threshold_us.store(microseconds, Relaxed);
    }

    #[cold]
    pub fn record(
        &self,
        server: &Server,
        session: &Session,
        entry: &Entry,
        args: &Args<'_>,
        elapsed: Duration,
    ) {
        if entry.flags.has(Flags::SKIP_SLOWLOG) {
            return;
        }
        let most = server.config().commandlog_slow_execution_max_len as usize;
        let call = SlowCall {
            number: self.last_number.fetch_add(1, Relaxed),
            unix_seconds: server.now_ms() / 1000,
            microseconds: elapsed.as_micros() as u64,
            args: shorten(args),
            address: session.client.address.clone(),
            client_name: session.client.labels.lock().name.clone(),
        };
        let mut calls = self.calls.lock();
        calls.push_front(call);
        calls.truncate(most);
    }

    /// The newest `count` calls, newest first.
    pub fn newest(&self, count: usize) -> Vec<SlowCall> {
        self.calls.lock().iter().take(count).cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.calls.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn shorten_to(&self, most: usize) {
        self.calls.lock().truncate(most);
    }

    pub fn clear(&self) {
        self.calls.lock().clear();
    }
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
