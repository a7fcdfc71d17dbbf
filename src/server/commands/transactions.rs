//! Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH. Running the queued commands is in `server::slow`.

use std::sync::atomic::Ordering::Relaxed;

use crate::command::{Argument, Command, Flags, Group, KeySpec, KeyUse};
use crate::keyspace::Presence;
use crate::protocol::{ErrorReply, Reply};
use crate::server::Server;
use crate::server::call::Call;
use crate::server::client::Traits;
use crate::server::execute::Executor;
use crate::server::session::{Session, Transaction};
use crate::server::table::{HostCommand, HostHandler, HostOutcome, PlainFn};

pub const COMMANDS: &[HostCommand] = &[
    HostCommand {
        name: "multi",
        summary: "Starts a transaction: the commands that follow are queued.",
        since: "1.2.0",
        flags: UNHINDERED.and(Flags::NO_MULTI),
        ..transaction_command(multi)
    },
    HostCommand {
        name: "exec",
        summary: "Runs the queued commands of the transaction.",
        since: "1.2.0",
        complexity: "Depends on the commands of the transaction",
        flags: Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::SKIP_COMMANDLOG),
        group: Group::Transactions,
        ..Command::host(HostHandler::Exec)
    },
    HostCommand {
        name: "discard",
        summary: "Forgets the queued commands of the transaction.",
        since: "2.0.0",
        complexity: "O(N), N being the number of queued commands",
        ..transaction_command(discard_transaction)
    },
    HostCommand {
        name: "watch",
        summary: "Lets the next transaction run only if none of the keys changes before.",
        since: "2.2.0",
        complexity: "O(1) for every key",
        arity: -2,
        keys: &[KeySpec::range(1, -1, 1, KeyUse::RO)],
        arguments: &[Argument::key().multiple()],
        flags: UNHINDERED.and(Flags::NO_MULTI),
        ..transaction_command(watch)
    },
    HostCommand {
        name: "unwatch",
        summary: "Forgets all watched keys.",
        since: "2.2.0",
        ..transaction_command(unwatch)
    },
];

const UNHINDERED: Flags =
    Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST).and(Flags::ALLOW_BUSY);

const fn transaction_command(function: PlainFn) -> HostCommand {
    Command { group: Group::Transactions, flags: UNHINDERED, ..Command::host(HostHandler::Plain(function)) }
}

fn multi(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    call.session.transaction = Some(Transaction::default());
    call.session.client.set(Traits::MULTI, true);
    call.session.client.figures.queued.store(0, Relaxed);
    Ok(Reply::Ok.into())
}

fn discard_transaction(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    if call.session.transaction.is_none() {
        return Err(ErrorReply::new("ERR DISCARD without MULTI"));
    }
    discard(call.server(), call.session);
    Ok(Reply::Ok.into())
}

fn watch(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    // A flag already raised can only abort the next transaction: nothing more needs to be watched.
    if !call.session.watch_flag.load(Relaxed) {
        let database = call.session.database;
        let (server, now_ms) = (call.server(), call.executor.now_ms);
        // While a script holds the dataset nobody can see whether a key has expired.
        let can_look = call.executor.hold_read().is_ok();
        for key in &call.args[1..] {
            let was_expired = can_look
                && call.executor.core().keyspace.database(database).presence(key, now_ms)
                    == Presence::Expired;
            server.watchers.add(&call.session.watch_flag, database, key, was_expired);
            let watched = &mut call.session.watched;
            if !watched.iter().any(|(other, watched)| *other == database && watched == key) {
                watched.push((database, key.to_vec()));
            }
        }
    }
    call.session.client.figures.watched.store(call.session.watched.len(), Relaxed);
    Ok(Reply::Ok.into())
}

fn unwatch(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    forget_watched(call.server(), call.session);
    Ok(Reply::Ok.into())
}

/// Ends the transaction of a session without running it, and its watching.
pub fn discard(server: &Server, session: &mut Session) {
    session.transaction = None;
    session.client.set(Traits::MULTI, false);
    session.client.figures.queued.store(-1, Relaxed);
    session.client.figures.queued_bytes.store(0, Relaxed);
    forget_watched(server, session);
}

/// Forgets the watched keys of a session.
pub fn forget_watched(server: &Server, session: &mut Session) {
    for (database, key) in session.watched.drain(..) {
        server.watchers.remove(&session.watch_flag, database, &key);
    }
    session.watch_flag = Default::default();
    session.client.figures.watched.store(0, Relaxed);
}

/// Did a watched key change, or has its time passed since it was watched?
pub fn watched_changed(executor: &mut Executor<'_>, session: &Session) -> bool {
    if session.watch_flag.load(Relaxed) {
        return true;
    }
    let now_ms = executor.now_ms;
    let core = executor.core();
    session.watched.iter().any(|(database, key)| {
        let entry = core.keyspace.database(*database).get(key);
        entry.and_then(|entry| entry.expire_at_ms()).is_some_and(|at| at <= now_ms)
            && !core.writes.watchers.was_expired(&session.watch_flag, *database, key)
    })
}
