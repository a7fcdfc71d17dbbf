//! Calls that may take many slices: scripts, and transactions that may hold some. They run as part of their connection's
//! task and let the reactor serve others between slices.
//!
//! Invariant: a transaction and a write script hold the dataset from their first command to their last.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Server;
use super::admission::Conditions;
use super::execute::{Execution, Executor};
use super::reactor::Reactor;
use super::session::{ReplyMode, Session};
use super::table::{Entry, HostHandler};
use super::{commandstats, script};
use crate::command::{Args, Flags, Handler};
use crate::protocol::{ErrorReply, Reply};

/// Runs a call that [`Executor::run`] found to be slow. Its reply is put into the session.
pub async fn run(
    server: &Arc<Server>,
    reactor: &Rc<Reactor>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) {
    let mut executor = Executor::new(server, reactor);
    executor.set_mark();
    match entry.handler {
        Handler::Host(HostHandler::Exec) => execute_transaction(&mut executor, session, entry, args).await,
        Handler::Host(HostHandler::Script(function)) => {
            script::run(&mut executor, session, entry, function, args).await;
        }
        _ => {}
    }
    if session.reply_mode == ReplyMode::Skip {
        session.reply_mode = ReplyMode::On;
    }
    if session.client.has_mail() {
        session.client.take_mail(&mut session.out);
    }
    executor.finish_batch();
}

/// EXEC: all queued commands as one unit.
async fn execute_transaction(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) {
    let Some(transaction) = session.transaction.take() else {
        return answer(
            executor,
            session,
            entry,
            args,
            Reply::Error(ErrorReply::new("ERR EXEC without MULTI")),
        );
    };
    if transaction.refused {
        super::commands::transactions::discard(executor.server, session);
        let error = ErrorReply::new("EXECABORT Transaction discarded because of previous errors.");
        return answer(executor, session, entry, args, Reply::Error(error));
    }
    while executor.hold_write().is_err() {
        executor.server.scripts_running.ended().await;
    }
    if executor.server.conditions.has(Conditions::REPLICA)
        && executor.server.config().replica_read_only
        && transaction.queued.iter().any(|queued| queued.entry.flags.has_any(Flags::WRITE))
    {
        // Demoted while it waited for the dataset.
        super::commands::transactions::discard(executor.server, session);
        return answer(executor, session, entry, args, Reply::Error(executor.server.readonly_error(entry)));
    }
    let watched_changed = super::commands::transactions::watched_changed(executor, session);
    super::commands::transactions::discard(executor.server, session);
    if watched_changed {
        return answer(executor, session, entry, args, Reply::NilArray);
    }
    let mut replies = std::mem::take(&mut session.out);
    let outer_replies = replies.len();
    replies.extend_from_slice(format!("*{}\r\n", transaction.queued.len()).as_bytes());
    let outer_reply_mode = std::mem::replace(&mut session.reply_mode, ReplyMode::On);
    session.out = replies;
    executor.begin_unit();
    for queued in &transaction.queued {
        let args: Vec<&[u8]> = queued.args.iter().map(Vec::as_slice).collect();
        run_queued(executor, session, queued.entry, &args).await;
    }
    executor.end_unit(session);
    session.reply_mode = outer_reply_mode;
    if session.reply_mode != ReplyMode::On {
        session.out.truncate(outer_replies);
    }
    executor.set_mark();
    commandstats::record(
        executor.server,
        executor.reactor,
        session,
        entry,
        args,
        std::time::Duration::ZERO,
        &Reply::None,
    );
}

async fn run_queued(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) {
    executor.set_mark();
    let before = session.out.len();
    match executor.call(session, entry, args) {
        Execution::Done => {}
        Execution::Slow => {
            if let Handler::Host(HostHandler::Script(function)) = entry.handler {
                script::run(executor, session, entry, function, args).await;
            }
        }
        // The unit holds the guard, and inside of a unit nothing waits.
        Execution::Held(_) | Execution::Wait(_) | Execution::Replicate(_) => {}
    }
    if session.out.len() == before {
        let error = ErrorReply::new("ERR Command not allowed inside a transaction");
        session.reply(&Reply::Error(error));
    }
}

fn answer(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
    reply: Reply<'static>,
) {
    session.reply(&reply);
    commandstats::record(
        executor.server,
        executor.reactor,
        session,
        entry,
        args,
        std::time::Duration::ZERO,
        &reply,
    );
    session.client.figures.queued.store(-1, Relaxed);
}
