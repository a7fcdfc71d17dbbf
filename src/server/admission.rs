//! The checks before a call, in the order in which clients may rely on them: known command, arity, authentication,
//! permissions, memory, role, loading, busy scripts, pauses; then queueing.
//!
//! Invariant: what a command may do is asked of its table entry only, never of its name.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use super::Server;
use super::execute::Executor;
use super::session::{Origin, Session};
use super::table::{Entry, HostHandler};
use super::users;
use crate::acl::Context;
use crate::command::{Args, Flags, Handler};
use crate::protocol::{ErrorReply, Protocol};

/// What is to be done with a request.
#[derive(Debug)]
pub enum Admission {
    Run(&'static Entry),
    /// It belongs to the transaction being put together.
    Queue(&'static Entry),
    /// Not now.
    Hold(Hold),
}

/// Why a request is held back, to be tried again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hold {
    /// A script holds the dataset.
    Script,
    /// Clients are paused.
    Pause,
    /// The primary is asked for a script.
    Primary,
}

/// Server-wide conditions under which the short way through the checks is closed; one bit each.
#[derive(Debug, Default)]
pub struct Conditions(AtomicU32);

impl Conditions {
    pub const LOADING: u32 = 1 << 0;
    pub const REPLICA: u32 = 1 << 1;
    /// A replica without a link to its primary.
    pub const STALE: u32 = 1 << 2;
    pub const PAUSED: u32 = 1 << 3;
    /// A script runs past `busy-reply-threshold`.
    pub const BUSY: u32 = 1 << 4;
    pub const OVER_MEMORY: u32 = 1 << 5;
    /// The last BGSAVE or AOF write failed.
    pub const DISK_ERROR: u32 = 1 << 6;
    pub const TOO_FEW_REPLICAS: u32 = 1 << 7;
    /// The dataset is served while another of the same history is loaded.
    pub const ASYNC_LOADING: u32 = 1 << 8;
    /// `maxmemory` is set.
    pub const LIMITED_MEMORY: u32 = 1 << 9;

    pub fn has(&self, condition: u32) -> bool {
        self.0.load(Relaxed) & condition != 0
    }

    pub fn none(&self) -> bool {
        self.0.load(Relaxed) == 0
    }

    pub fn set(&self, condition: u32, on: bool) {
        if on {
            self.0.fetch_or(condition, Relaxed);
        } else {
            self.0.fetch_and(!condition, Relaxed);
        }
    }
}

/// Finds the entry that a request calls: a subcommand where the command is a container. `None`: unknown command.
pub fn find_entry(server: &Server, args: &Args<'_>) -> Option<&'static Entry> {
    let entry = server.table.find(args.first()?)?;
    if entry.subcommands.is_empty() || args.len() < 2 {
        return Some(entry);
    }
    Some(server.table.subcommand(entry, args[1]).unwrap_or(entry))
}

/// Did [`find_entry`] stop at a command whose subcommands are to be called?
pub fn is_without_subcommand(entry: &Entry, args: &Args<'_>) -> bool {
    matches!(entry.handler, Handler::Container) || (!entry.subcommands.is_empty() && args.len() > 1)
}

/// Decides what happens with a request.
pub fn admit(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: Option<&'static Entry>,
    args: &Args<'_>,
) -> Result<Admission, ErrorReply> {
    let server = executor.server;
    let Some(entry) = entry else { return Err(unknown_command(args)) };
    if is_without_subcommand(entry, args) {
        return Err(unknown_subcommand(entry, args));
    }
    if !entry.arity_fits(args.len()) {
        return Err(wrong_arity(entry));
    }
    let plain = session.transaction.is_none()
        && session.authenticated
        && !session.is_subscribed()
        && session.identity.is_unrestricted(&server.users);
    if !(plain && server.conditions.none()) {
        check_user(server, session, entry, args)?;
        if let Some(hold) = check_conditions(executor, session, entry, args)? {
            return Ok(Admission::Hold(hold));
        }
        if session.transaction.is_some() && is_queued(entry) {
            return Ok(Admission::Queue(entry));
        }
    }
    Ok(Admission::Run(entry))
}

/// What depends on who asks.
fn check_user(
    server: &Server,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) -> Result<(), ErrorReply> {
    let is_known = session.authenticated || server.users.are_open_to_all();
    if !is_known && !entry.flags.has(Flags::NO_AUTH) {
        return Err(ErrorReply::new("NOAUTH Authentication required."));
    }
    if session.transaction.is_some() && entry.flags.has(Flags::NO_MULTI) {
        return Err(ErrorReply::from_text(format!(
            "ERR Command '{}' not allowed inside a transaction",
            entry.full_name
        )));
    }
    let context = if session.transaction.is_some() { Context::Transaction } else { Context::TopLevel };
    users::check(server, session, entry, args, context).map_err(|refusal| refusal.reply())?;
    if session.transaction.is_none() {
        users::refuse_unnamed_reads(server, session, entry, args)
    } else {
        Ok(())
    }
}

/// Within a transaction everything is queued but what ends or extends it.
fn is_queued(entry: &Entry) -> bool {
    let runs_at_once = ["exec", "discard", "multi", "watch", "quit", "reset"];
    !(matches!(entry.handler, Handler::Host(HostHandler::Exec)) || runs_at_once.contains(&entry.spec.name))
}

fn check_conditions(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) -> Result<Option<Hold>, ErrorReply> {
    let server = executor.server;
    let flags = entry.flags;
    let is_exec = matches!(entry.handler, Handler::Host(HostHandler::Exec));
    // A transaction counts for all that it holds.
    let queued =
        session.transaction.as_ref().filter(|_| is_exec).map_or(&[][..], |transaction| &transaction.queued);
    let any = |flag: Flags| flags.has_any(flag) || queued.iter().any(|queued| queued.flags.has_any(flag));
    let all = |flag: Flags| flags.has(flag) && queued.iter().all(|queued| queued.flags.has(flag));
    let conditions = &server.conditions;
    let from_client = session.origin == Origin::Client;
    let may_grow = any(Flags::DENYOOM) || matches!(entry.handler, Handler::Host(HostHandler::Script(_)));
    if conditions.has(Conditions::LIMITED_MEMORY) && may_grow && from_client {
        server.look_at_memory();
    }
    if conditions.has(Conditions::OVER_MEMORY) && any(Flags::DENYOOM) && from_client {
        return Err(ErrorReply::new("OOM command not allowed when used memory > 'maxmemory'."));
    }
    if conditions.has(Conditions::REPLICA)
        && from_client
        && session.redirect
        && (any(Flags::WRITE) || any(Flags::READONLY) && !session.readonly)
        && let Some(redirection) = server.redirection()
    {
        return redirection.map(Some);
    }
    if from_client && any(Flags::WRITE) {
        check_writable(server)?;
    }
    // Who asks whether the server is well is told what writers are.
    if from_client && conditions.has(Conditions::DISK_ERROR) && entry.spec.name == "ping" {
        return Err(server.disk_error());
    }
    if session.is_subscribed() && session.protocol() == Protocol::Resp2 && !allowed_while_subscribed(entry) {
        return Err(ErrorReply::from_text(format!(
            "ERR Can't execute '{}': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context",
            entry.full_name
        )));
    }
    if conditions.has(Conditions::STALE) && !all(Flags::STALE) && from_client {
        return Err(ErrorReply::new(
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        ));
    }
    let loading = conditions.has(Conditions::LOADING) && !all(Flags::LOADING);
    if from_client && (loading || conditions.has(Conditions::ASYNC_LOADING) && any(Flags::NO_ASYNC_LOADING)) {
        return Err(ErrorReply::new("LOADING Valkey is loading the dataset in memory"));
    }
    if conditions.has(Conditions::BUSY)
        && from_client
        && !flags.has(Flags::ALLOW_BUSY)
        && !busy_exception(entry, args)
    {
        return Err(server.scripts_running.busy_error());
    }
    if conditions.has(Conditions::PAUSED) && from_client {
        let (writes, may_replicate) = (any(Flags::WRITE), any(Flags::MAY_REPLICATE));
        let mut reads = || super::script::only_reads(executor, session, entry, args);
        if server.pause_holds(writes, may_replicate) && (!reads() || server.pause_holds(false, false)) {
            return Ok(Some(Hold::Pause));
        }
    }
    Ok(None)
}

fn check_writable(server: &Server) -> Result<(), ErrorReply> {
    let conditions = &server.conditions;
    if conditions.has(Conditions::DISK_ERROR) {
        return Err(server.disk_error());
    }
    if conditions.has(Conditions::TOO_FEW_REPLICAS) {
        return Err(ErrorReply::new("NOREPLICAS Not enough good replicas to write."));
    }
    if conditions.has(Conditions::REPLICA) && server.config().replica_read_only {
        return Err(server.readonly_error());
    }
    Ok(())
}

/// What a busy script lets pass besides the commands that say so of themselves.
fn busy_exception(entry: &Entry, args: &Args<'_>) -> bool {
    // A failover may have the script rolled back.
    entry.spec.name == "failover"
        || entry.spec.name == "shutdown"
            && args.len() == 2
            && args[1].first().is_some_and(|c| c.eq_ignore_ascii_case(&b'n'))
}

/// Is a script waited for that is not busy yet, although a busy one would be passed? The end of the server would give up
/// what the script has done.
pub fn waits_for_short_scripts(server: &Server, entry: &Entry) -> bool {
    entry.spec.name == "shutdown" && !server.conditions.has(Conditions::BUSY)
}

fn allowed_while_subscribed(entry: &Entry) -> bool {
    let allowed = [
        "ping",
        "subscribe",
        "ssubscribe",
        "sunsubscribe",
        "psubscribe",
        "unsubscribe",
        "punsubscribe",
        "quit",
        "reset",
    ];
    allowed.contains(&entry.spec.name)
}

fn unknown_command(args: &Args<'_>) -> ErrorReply {
    const SHOWN: usize = 128;
    let name = args.first().copied().unwrap_or(b"");
    let mut text = b"ERR unknown command '".to_vec();
    text.extend_from_slice(shown(name, SHOWN));
    text.extend_from_slice(b"', with args beginning with: ");
    let start = text.len();
    for arg in args.iter().skip(1) {
        let room = SHOWN.saturating_sub(text.len() - start);
        if room == 0 {
            break;
        }
        text.push(b'\'');
        text.extend_from_slice(shown(arg, room));
        text.extend_from_slice(b"' ");
    }
    ErrorReply::from_text(text)
}

/// As much of an argument as errors show: up to a length, and to the first zero byte.
fn shown(argument: &[u8], most: usize) -> &[u8] {
    let end = memchr::memchr(0, argument).unwrap_or(argument.len());
    &argument[..end.min(most)]
}

pub fn unknown_subcommand(entry: &Entry, args: &Args<'_>) -> ErrorReply {
    if args.len() < 2 {
        return wrong_arity(entry);
    }
    let mut text = b"ERR unknown subcommand '".to_vec();
    text.extend_from_slice(shown(args[1], 128));
    text.extend_from_slice(format!("'. Try {} HELP.", entry.full_name.to_uppercase()).as_bytes());
    ErrorReply::from_text(text)
}

pub fn wrong_arity(entry: &Entry) -> ErrorReply {
    ErrorReply::from_text(format!("ERR wrong number of arguments for '{}' command", entry.full_name))
}
