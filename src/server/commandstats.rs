//! What is counted of each call: calls, time, failures, for INFO commandstats, errorstats and latencystats, the slow log
//! and MONITOR.
//!
//! Invariant: one reactor writes a set of counters (but for that of calls that waited), anybody reads it; a reader adds
//! the sets up.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Server;
use super::client::Client;
use super::reactor::Reactor;
use super::session::Session;
use super::table::Entry;
use crate::command::{Args, CommandId};
use crate::protocol::{ErrorReply, Reply};

/// The counters of one command on one reactor.
#[derive(Debug, Default)]
pub struct CommandCounters {
    pub calls: AtomicU64,
    pub nanoseconds: AtomicU64,
    pub rejected: AtomicU64,
    pub failed: AtomicU64,
}

/// One counter set per command.
#[derive(Debug)]
pub struct CommandStats {
    by_command: Vec<CommandCounters>,
}

impl CommandStats {
    pub fn new(commands: usize) -> Self {
        CommandStats { by_command: (0..commands).map(|_| CommandCounters::default()).collect() }
    }

    pub fn of(&self, id: CommandId) -> &CommandCounters {
        &self.by_command[id.0 as usize]
    }

    pub fn reset(&self) {
        for counters in &self.by_command {
            for counter in [&counters.calls, &counters.nanoseconds, &counters.rejected, &counters.failed] {
                counter.store(0, Relaxed);
            }
        }
    }
}

/// Adds to a counter that only this thread writes.
fn add(counter: &AtomicU64, amount: u64) {
    counter.store(counter.load(Relaxed) + amount, Relaxed);
}

/// Counts a call that was answered.
pub fn record(
    server: &Arc<Server>,
    reactor: &Reactor,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
    elapsed: Duration,
    reply: &Reply<'_>,
) {
    let counters = reactor.stats.of(entry.id);
    add(&counters.calls, 1);
    add(&counters.nanoseconds, elapsed.as_nanos() as u64);
    add(&session.client.figures.commands, 1);
    if let Reply::Error(error) = reply {
        add(&counters.failed, 1);
        server.stats.count_error(error);
    }
    if elapsed >= server.slow_log.threshold() {
        server.slow_log.record(server, session, entry, args, elapsed);
    }
}

/// Counts a request that was refused before it ran.
pub fn record_rejected(reactor: &Reactor, entry: Option<&'static Entry>) {
    if let Some(entry) = entry {
        add(&reactor.stats.of(entry.id).rejected, 1);
    }
}

/// Counts a call that had waited and was refused when it was its turn.
pub fn record_unblocked_rejected(server: &Server, entry: &'static Entry, error: &ErrorReply) {
    server.unblocked_stats.of(entry.id).rejected.fetch_add(1, Relaxed);
    server.stats.count_error(error);
}

/// Counts the last call of a client, which had waited and has been answered on its behalf or given up.
pub fn record_unblocked(server: &Server, client: &Client, elapsed: Duration, reply: &Reply<'_>) {
    let Some(entry) = server.table.entries().get(client.figures.last_command.load(Relaxed) as usize) else {
        return;
    };
    // These are shared by all threads.
    let counters = server.unblocked_stats.of(entry.id);
    client.figures.commands.fetch_add(1, Relaxed);
    counters.calls.fetch_add(1, Relaxed);
    counters.nanoseconds.fetch_add(elapsed.as_nanos() as u64, Relaxed);
    if let Reply::Error(error) = reply {
        counters.failed.fetch_add(1, Relaxed);
        server.stats.count_error(error);
    }
}
