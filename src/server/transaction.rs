//! EXEC: the queued commands as one unit. A transaction without scripts is run at once; one with scripts may be suspended
//! and goes on as part of its connection's task.
//!
//! Invariant: a transaction holds the dataset from its first command to its last.

use super::admission::Conditions;
use super::execute::{Execution, Executor, Unfinished};
use super::session::{Queued, ReplyMode, Session};
use super::table::{Entry, HostHandler};
use super::{commandstats, users};
use crate::acl::Context;
use crate::command::{Args, Flags, Handler};
use crate::protocol::{ErrorReply, Reply};

/// Runs EXEC, if it holds no scripts.
pub fn execute(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) -> Execution {
    let holds_scripts = session.transaction.as_ref().is_some_and(|transaction| {
        !transaction.refused && transaction.queued.iter().any(|queued| is_script(queued.entry))
    });
    if holds_scripts {
        return Err(Box::new(Unfinished::Transaction));
    }
    if session.transaction.is_some() {
        executor.hold_write()?;
    }
    let Some(opened) = Opened::open(executor, session, entry, args) else { return Ok(()) };
    for queued in &opened.queued {
        let args: Vec<&[u8]> = queued.args.iter().map(Vec::as_slice).collect();
        let (before, _) = begin_queued(executor, session, queued.entry, &args);
        end_queued(session, before);
    }
    opened.close(executor, session, entry, args);
    Ok(())
}

/// Runs EXEC whatever the transaction holds.
pub async fn execute_with_scripts(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) {
    while executor.hold_write().is_err() {
        executor.server.scripts_running.ended().await;
        executor.look_at_clock();
    }
    let Some(opened) = Opened::open(executor, session, entry, args) else { return };
    for queued in &opened.queued {
        let args: Vec<&[u8]> = queued.args.iter().map(Vec::as_slice).collect();
        let (before, execution) = begin_queued(executor, session, queued.entry, &args);
        if let Err(unfinished) = execution
            && let Unfinished::Suspended(script) = *unfinished
        {
            script.go_on(executor, session, queued.entry, &args).await;
        }
        end_queued(session, before);
    }
    opened.close(executor, session, entry, args);
}

fn is_script(entry: &Entry) -> bool {
    matches!(entry.handler, Handler::Host(HostHandler::Script(_)))
}

/// A transaction whose commands are being run.
struct Opened {
    queued: Vec<Queued>,
    /// Where its reply begins in the session's output.
    reply_at: usize,
    reply_mode: ReplyMode,
}

impl Opened {
    /// Checks whether the transaction may run, and opens its unit. `None`: it may not, and EXEC is answered.
    fn open(
        executor: &mut Executor<'_>,
        session: &mut Session,
        entry: &'static Entry,
        args: &Args<'_>,
    ) -> Option<Self> {
        let server = executor.server;
        let Some(transaction) = session.transaction.take() else {
            let error = ErrorReply::new("ERR EXEC without MULTI");
            answer(executor, session, entry, args, Reply::Error(error));
            return None;
        };
        let writes = || transaction.queued.iter().any(|queued| queued.flags.has_any(Flags::WRITE));
        let refusal = if transaction.refused {
            let text = "EXECABORT Transaction discarded because of previous errors.";
            Some(Reply::Error(ErrorReply::new(text)))
        } else if server.conditions.has(Conditions::REPLICA) && server.config().replica_read_only && writes()
        {
            // Demoted while it waited for the dataset.
            Some(Reply::Error(server.readonly_error()))
        } else if super::commands::transactions::watched_changed(executor, session) {
            Some(Reply::NilArray)
        } else {
            None
        };
        super::commands::transactions::discard(server, session);
        if let Some(reply) = refusal {
            answer(executor, session, entry, args, reply);
            return None;
        }
        let reply_at = session.out.len();
        session.out.extend_from_slice(format!("*{}\r\n", transaction.queued.len()).as_bytes());
        let reply_mode = std::mem::replace(&mut session.reply_mode, ReplyMode::On);
        executor.begin_unit();
        Some(Opened { queued: transaction.queued, reply_at, reply_mode })
    }

    fn close(
        self,
        executor: &mut Executor<'_>,
        session: &mut Session,
        entry: &'static Entry,
        args: &Args<'_>,
    ) {
        executor.end_unit(session);
        session.reply_mode = self.reply_mode;
        if session.reply_mode != ReplyMode::On {
            session.out.truncate(self.reply_at);
        }
        count(executor, session, entry, args, &Reply::None);
    }
}

/// Returns where the reply begins, and how the call went.
fn begin_queued(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) -> (usize, Execution) {
    let before = session.out.len();
    session.reply_start = before;
    session.most_request_bytes = usize::MAX;
    if let Err(error) = check_queued(executor, session, entry, args) {
        executor.refuse(session, Some(entry), error);
        return (before, Ok(()));
    }
    (before, executor.call(session, entry, args))
}

/// The users may have changed since the command was queued.
fn check_queued(
    executor: &Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) -> Result<(), ErrorReply> {
    let server = executor.server;
    users::check(server, session, entry, args, Context::Transaction).map_err(|refusal| {
        let reason = refusal.denial.map_or("no permission", |denial| denial.exec_reason());
        ErrorReply::from_text(format!(
            "NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This command \
             is no longer allowed for the following reason: {reason}"
        ))
    })?;
    users::refuse_unnamed_reads(server, session, entry, args)
}

fn end_queued(session: &mut Session, before: usize) {
    // The unit holds the guard, and inside of a unit nothing waits: what did not answer cannot be done here.
    if session.out.len() == before {
        session.reply(&Reply::Error(ErrorReply::new("ERR Command not allowed inside a transaction")));
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
    count(executor, session, entry, args, &reply);
}

fn count(
    executor: &Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
    reply: &Reply<'_>,
) {
    // The time of the commands is counted with them.
    commandstats::record(executor.server, executor.reactor, session, entry, args, 0, reply.error());
}
