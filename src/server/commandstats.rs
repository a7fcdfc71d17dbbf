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
use super::command_log::CostlyCall;
use super::histogram::Histogram;
use super::latency::event;
use super::reactor::Reactor;
use super::session::{Origin, Session};
use super::table::{Entry, HostHandler};
use crate::command::{Args, CommandId, Flags, Handler};
use crate::protocol::{ErrorReply, Reply};

/// The counters of one command on one reactor.
#[derive(Debug, Default)]
pub struct CommandCounters {
    pub calls: AtomicU64,
    pub nanoseconds: AtomicU64,
    pub rejected: AtomicU64,
    pub failed: AtomicU64,
    pub latencies: Histogram,
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
            counters.latencies.reset();
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
    nanoseconds: u64,
    error: Option<&ErrorReply>,
) {
    let counters = reactor.stats.of(entry.id);
    add(&counters.calls, 1);
    add(&counters.nanoseconds, nanoseconds);
    add(&session.client.figures.commands, 1);
    if let Some(error) = error {
        add(&counters.failed, 1);
        // A script's are counted where it ends: it may only have handed on what a command of it was answered.
        if !matches!(entry.handler, Handler::Host(HostHandler::Script(_))) {
            server.stats.count_error(error);
        }
    }
    if !server.latency_tracking_is_off.load(Relaxed) {
        counters.latencies.record(nanoseconds);
    }
    if session.origin.is_unseen() {
        return;
    }
    if server.latency.keeps(nanoseconds) {
        let event = if entry.flags.has(Flags::FAST) { event::FAST_COMMAND } else { event::COMMAND };
        server.latency.note(event, Duration::from_nanos(nanoseconds), server.now_ms());
    }
    if nanoseconds >= CostlyCall::LEAST_NANOSECONDS {
        let is_script = matches!(entry.handler, Handler::Host(HostHandler::Script(_)));
        let costliest = if is_script { session.costliest.take() } else { None };
        server.command_log.look_at_time(
            server,
            &session.client,
            entry,
            args,
            nanoseconds,
            costliest.as_deref(),
        );
        if session.origin == Origin::Script {
            CostlyCall::keep(&mut session.costliest, entry, args, nanoseconds);
        }
    } else {
        server.command_log.look_at_time(server, &session.client, entry, args, nanoseconds, None);
    }
    let bytes = (session.most_request_bytes, session.reply_bytes());
    server.command_log.look_at_sizes(server, &session.client, entry, args, bytes);
    server.monitors.show(server, session, entry, args);
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
    if !server.latency_tracking_is_off.load(Relaxed) {
        counters.latencies.record_shared(elapsed.as_nanos() as u64);
    }
    if let Reply::Error(error) = reply {
        counters.failed.fetch_add(1, Relaxed);
        server.stats.count_error(error);
    }
}
