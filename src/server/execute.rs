//! Running commands: the checks that come before a call, the guard under which it runs, and what is published when it
//! has ended. It must not know sockets.
//!
//! Invariants: the guard is dropped before another kind is taken; a unit (a command, a transaction, a script) is
//! published once, when its outermost part ends; nothing blocks the thread while a script holds the dataset.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use parking_lot::{RwLockReadGuard, RwLockWriteGuard};

use super::admission::Conditions;
use super::blocking::{BlockedCall, Waiting, WaitingFn, serve_ready};
use super::call::Call;
use super::core::Core;
use super::lazy_free;
use super::reactor::Reactor;
use super::script::ScriptInProgress;
use super::script::debugged::Debugged;
use super::scripts_running::RunningScript;
use super::session::{Origin, Queued, ReplyMode, Session};
use super::table::{Entry, HostHandler, HostOutcome};
use super::{Server, admission, commandstats, script, transaction};
use crate::base::tick_clock::Moment;
use crate::command::{
    Args, BlockOnKeys, BlockingFn, BlockingReadFn, Flags, Handler, Outcome, ReadFn, WriteFn, help_reply,
};
use crate::keyspace::{KeyExpiry, Reader, Snapshot, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};

/// What a batch holds of the dataset.
pub enum Held<'s> {
    Nothing,
    Read(RwLockReadGuard<'s, Core>),
    Write(RwLockWriteGuard<'s, Core>),
    /// A dataset of its own, of which nothing is published.
    Private(Box<Core>),
}

/// How the execution of one request went: it is done and its reply, if any, is in the session, or not. One word, as every
/// request has one.
pub type Execution = Result<(), Box<Unfinished>>;

/// Why a request is not done.
#[derive(Debug)]
pub enum Unfinished {
    /// A script has begun and is not over. Its unit is open: this executor must go on with it.
    Suspended(Box<ScriptInProgress>),
    /// The script goes on on another thread; the client gets its reply by mail.
    Away(Arc<RunningScript>),
    /// A script is debugged: its session goes on with this executor, or with one of its own.
    Debugged(Box<Debugged>),
    /// EXEC of a transaction that holds scripts, any of which may be suspended.
    Transaction,
    /// It is to be tried again: a script holds the dataset, or clients are paused.
    Held(admission::Hold),
    /// The client waits for what others do.
    Wait(Waiting),
    /// The connection is a replica's now.
    Replicate(super::replicas::Handover),
}

impl Unfinished {
    /// Is the reply still to be made, on this connection?
    fn answers_later(&self) -> bool {
        match self {
            Unfinished::Suspended(_)
            | Unfinished::Debugged(_)
            | Unfinished::Transaction
            | Unfinished::Held(_) => true,
            Unfinished::Away(_) | Unfinished::Wait(_) | Unfinished::Replicate(_) => false,
        }
    }
}

impl From<ScriptHolds> for Box<Unfinished> {
    fn from(_: ScriptHolds) -> Self {
        Box::new(Unfinished::Held(admission::Hold::Script))
    }
}

/// Runs the requests of one batch under one guard where it can.
pub struct Executor<'s> {
    pub server: &'s Arc<Server>,
    pub reactor: &'s Reactor,
    held: Held<'s>,
    /// A read-only script that went on after its first slice reads here instead.
    snapshot: Option<Snapshot>,
    /// How deep the running unit is nested: a script in a transaction is at 2.
    depth: u32,
    /// The moment of the running command; scripts and transactions keep theirs.
    pub now_ms: u64,
    /// The same in microseconds.
    pub now_us: u64,
    /// The moment the last command ended, where the time of the next one begins.
    mark: Cell<Moment>,
    /// The same moment by both clocks, so that one look at a clock per command is enough.
    began: (Moment, u64),
    /// Did this batch write, so that the AOF is to be flushed before its replies go out?
    wrote: bool,
}

/// Somebody else holds the dataset for long: a script.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ScriptHolds;

impl<'s> Executor<'s> {
    pub fn new(server: &'s Arc<Server>, reactor: &'s Reactor) -> Self {
        let now = reactor.clock.now();
        let mut executor = Executor {
            server,
            reactor,
            held: Held::Nothing,
            snapshot: None,
            depth: 0,
            now_ms: 0,
            now_us: 0,
            mark: Cell::new(now),
            began: (now, server.now_us()),
            wrote: false,
        };
        executor.next_moment();
        executor
    }

    /// For a slice of a script that reads a snapshot and holds nothing.
    pub fn on_snapshot(server: &'s Arc<Server>, reactor: &'s Reactor, snapshot: Snapshot) -> Self {
        Executor { snapshot: Some(snapshot), ..Self::new(server, reactor) }
    }

    /// For a script on a dataset of its own.
    pub fn on_private(server: &'s Arc<Server>, reactor: &'s Reactor, core: Box<Core>) -> Self {
        Executor { held: Held::Private(core), ..Self::new(server, reactor) }
    }

    /// What is held, to be let go elsewhere.
    pub fn into_held(self) -> Held<'s> {
        self.held
    }

    /// The moment of the next command is that at which the last one ended.
    fn next_moment(&mut self) {
        let (moment, unix_us) = self.began;
        self.now_us = unix_us + self.reactor.clock.nanoseconds(moment, self.mark.get()) / 1000;
        self.now_ms = self.now_us / 1000;
    }

    /// Time has passed that belongs to no command: the next one begins now.
    pub fn look_at_clock(&mut self) {
        let now = self.reactor.clock.now();
        self.mark.set(now);
        self.began = (now, self.server.now_us());
        self.next_moment();
    }

    // ---- The guard ----

    /// Takes the guard for reading if nothing is held. Fails only while a script holds the dataset.
    pub fn hold_read(&mut self) -> Result<(), ScriptHolds> {
        if matches!(self.held, Held::Nothing) {
            let guard = loop {
                if let Some(guard) = self.server.core.try_read() {
                    break guard;
                }
                if self.server.scripts_running.holds() {
                    return Err(ScriptHolds);
                }
                if let Some(guard) = self.server.core.try_read_for(LOCK_PATIENCE) {
                    break guard;
                }
            };
            self.held = Held::Read(guard);
        }
        Ok(())
    }

    /// Takes the guard for writing; a read guard is dropped first.
    pub fn hold_write(&mut self) -> Result<(), ScriptHolds> {
        if !matches!(self.held, Held::Write(_) | Held::Private(_)) {
            self.held = Held::Nothing;
            let guard = loop {
                if let Some(guard) = self.server.core.try_write() {
                    break guard;
                }
                if self.server.scripts_running.holds() {
                    return Err(ScriptHolds);
                }
                if let Some(guard) = self.server.core.try_write_for(LOCK_PATIENCE) {
                    break guard;
                }
            };
            self.held = Held::Write(guard);
        }
        Ok(())
    }

    /// Drops the guard. What was written is flushed to the AOF, and replicas are told.
    pub fn release(&mut self) {
        debug_assert_eq!(self.depth, 0, "a unit is still open");
        self.held = Held::Nothing;
    }

    /// Ends the batch: releases the guard and makes durable what it wrote, as `appendfsync` asks.
    pub fn finish_batch(&mut self) {
        self.make_durable();
        self.release();
    }

    /// Gives what was published so far to the AOF and the replicas. Comes before the replies are sent.
    pub fn make_durable(&mut self) {
        if std::mem::take(&mut self.wrote) {
            self.hand_over();
        }
    }

    fn hand_over(&mut self) {
        let server = self.server;
        if let Some(core) = self.core_if_writing() {
            server.hand_over(core);
        }
    }

    pub fn is_writing(&self) -> bool {
        matches!(self.held, Held::Write(_) | Held::Private(_))
    }

    /// The dataset to read, which is held.
    pub fn core(&self) -> &Core {
        match &self.held {
            Held::Read(guard) => guard,
            Held::Write(guard) => guard,
            Held::Private(core) => core,
            Held::Nothing => unreachable!("the guard is taken before the dataset is read"),
        }
    }

    /// The dataset to write, which is held for that.
    pub fn core_mut(&mut self) -> &mut Core {
        self.wrote = true;
        match &mut self.held {
            Held::Write(guard) => guard,
            Held::Private(core) => core,
            Held::Read(_) | Held::Nothing => {
                unreachable!("the guard is taken for writing before the dataset is changed")
            }
        }
    }

    /// The dataset, if what is written to it is to be published.
    fn core_if_writing(&mut self) -> Option<&mut Core> {
        match &mut self.held {
            Held::Write(guard) => Some(guard),
            Held::Read(_) | Held::Private(_) | Held::Nothing => None,
        }
    }

    /// How keys whose time has passed look to this session.
    pub fn key_expiry(&self, session: &Session) -> KeyExpiry {
        match session.origin {
            Origin::Primary | Origin::Loader => KeyExpiry::Ignore,
            Origin::Client | Origin::Script | Origin::Rehearsal if self.server.expiry_is_off() => {
                KeyExpiry::Hide
            }
            Origin::Client | Origin::Script | Origin::Rehearsal => KeyExpiry::Delete,
        }
    }

    /// A write transaction for `session`.
    pub fn transaction(&mut self, session: &Session) -> WriteTxn<'_> {
        let (now_ms, expiry) = (self.now_ms, self.key_expiry(session));
        let core = self.core_mut();
        let recorded = matches!(session.origin, Origin::Client | Origin::Script);
        core.writes.effects.set_recording(recorded && core.stream.is_read());
        let mut transaction = WriteTxn::new(&mut core.keyspace, &mut core.writes, session.database, now_ms);
        transaction.protocol = session.protocol();
        transaction.expiry = expiry;
        transaction.touch = session.touch;
        transaction
    }

    // ---- Requests ----

    /// Runs one request of a client: checks it, queues it or calls it, and puts its reply into the session.
    pub fn run(
        &mut self,
        session: &mut Session,
        entry: Option<&'static Entry>,
        args: &Args<'_>,
    ) -> Execution {
        if self.depth == 0 {
            self.next_moment();
        }
        if let Some(entry) = entry {
            session.client.figures.last_command.store(entry.id.0.into(), Relaxed);
        }
        session.reply_start = session.out.len();
        if session.reply_mode == ReplyMode::SkipNext {
            session.reply_mode = ReplyMode::Skip;
        }
        let mut admission = admission::admit(self, session, entry, args);
        if let Ok(admission::Admission::Run(entry)) = &admission
            && Self::may_write(entry)
            && !self.is_writing()
            && self.hold_write().is_ok()
            && !self.server.conditions.none()
        {
            // The role may have changed until the guard was had; while it is held it cannot.
            admission = admission::admit(self, session, Some(*entry), args);
        }
        let execution = match admission {
            Ok(admission::Admission::Run(entry)) => self.call(session, entry, args),
            Ok(admission::Admission::Queue(entry)) => {
                let flags = script::queued_flags(self, session, entry, args);
                queue(session, entry, flags, args);
                Ok(())
            }
            Ok(admission::Admission::Hold(hold)) => return Err(Box::new(Unfinished::Held(hold))),
            Err(error) => {
                self.refuse(session, entry, error);
                Ok(())
            }
        };
        if execution.as_ref().err().is_none_or(|unfinished| !unfinished.answers_later()) {
            session.skipped();
        }
        execution
    }

    /// Answers a request that is not run. Inside a transaction that spoils the transaction.
    pub fn refuse(&mut self, session: &mut Session, entry: Option<&'static Entry>, error: ErrorReply) {
        let is_exec = entry.is_some_and(|entry| matches!(entry.handler, Handler::Host(HostHandler::Exec)));
        if let Some(transaction) = &mut session.transaction {
            transaction.refused = true;
            if is_exec {
                super::commands::transactions::discard(self.server, session);
                if error.0.starts_with(b"REDIRECT ") {
                    // The client is to begin anew elsewhere, so it must see where.
                    self.server.stats.count_error(&error);
                    session.reply(&Reply::Error(error));
                    return;
                }
                let mut text = b"EXECABORT Transaction discarded because of: ".to_vec();
                text.extend_from_slice(&error.0);
                let error = ErrorReply::from_text(text);
                self.server.stats.count_error(&error);
                session.reply(&Reply::Error(error));
                return;
            }
        }
        commandstats::record_rejected(self.reactor, entry);
        self.server.stats.count_error(&error);
        session.reply(&Reply::Error(error));
    }

    /// Calls a command that was admitted.
    pub fn call(&mut self, session: &mut Session, entry: &'static Entry, args: &Args<'_>) -> Execution {
        match entry.handler {
            Handler::Read(function) => {
                if self.snapshot.is_none() {
                    self.hold_read()?;
                }
                let reader = self.reader(session);
                let result = function(&reader, args);
                session.answer(&result);
                note(self.server, self.reactor, &self.mark, session, entry, args, failure(&result));
                let_go(result);
            }
            Handler::Write(function) => {
                self.hold_write()?;
                let mut transaction = self.transaction(session);
                let result = transaction.call(args, |transaction| function(transaction, args));
                self.end_of_write(session);
                session.answer(&result);
                note(self.server, self.reactor, &self.mark, session, entry, args, failure(&result));
                let_go(result);
            }
            Handler::Caching(read, keep) => {
                self.hold_write()?;
                let reply = self.call_caching(session, read, keep, args);
                self.end_of_write(session);
                session.reply(&reply);
                note(self.server, self.reactor, &self.mark, session, entry, args, reply.error());
            }
            Handler::Blocking(function) => return self.call_blocking(session, entry, function, args),
            Handler::BlockingRead(function) => {
                return self.call_blocking_read(session, entry, function, args);
            }
            Handler::Help(lines) => {
                let reply = help_reply(args[0], lines);
                session.reply(&reply);
                note(self.server, self.reactor, &self.mark, session, entry, args, reply.error());
            }
            Handler::Container => {
                // Admission finds the subcommand or refuses the request.
                session.reply(&Reply::Error(ErrorReply::SYNTAX));
            }
            Handler::Host(HostHandler::Plain(_))
                if self.server.scripts_running.holds()
                    && admission::waits_for_short_scripts(self.server, entry)
                    && self.hold_write().is_err() =>
            {
                return Err(ScriptHolds.into());
            }
            Handler::Host(HostHandler::Plain(function)) => {
                let outcome = function(&mut Call::new(self, session, entry, args));
                return self.host_outcome(session, entry, args, outcome);
            }
            Handler::Host(HostHandler::Reading(function)) => {
                self.hold_read()?;
                let outcome = function(&mut Call::new(self, session, entry, args));
                return self.host_outcome(session, entry, args, outcome);
            }
            Handler::Host(HostHandler::Writing(function)) => {
                self.hold_write()?;
                let outcome = function(&mut Call::new(self, session, entry, args));
                self.end_of_write(session);
                return self.host_outcome(session, entry, args, outcome);
            }
            Handler::Host(HostHandler::Script(function)) => {
                return script::begin(self, session, entry, function, args);
            }
            Handler::Host(HostHandler::Exec) => return transaction::execute(self, session, entry, args),
        }
        Ok(())
    }

    /// Calls a command for a running script, within its unit. The reply borrows from the dataset the script reads.
    pub fn call_for_script(
        &mut self,
        session: &mut Session,
        entry: &'static Entry,
        args: &Args<'_>,
    ) -> Reply<'_> {
        let (server, reactor) = (self.server, self.reactor);
        match entry.handler {
            Handler::Read(function) => {
                let reader = self.reader(session);
                let result = function(&reader, args);
                note(server, reactor, &self.mark, session, entry, args, failure(&result));
                result.unwrap_or_else(Reply::Error)
            }
            Handler::Write(function) => {
                let mut transaction = self.transaction(session);
                let result = transaction.call(args, |transaction| function(transaction, args));
                note(server, reactor, &self.mark, session, entry, args, failure(&result));
                result.unwrap_or_else(Reply::Error)
            }
            Handler::Caching(read, keep) => {
                let reply = self.call_caching(session, read, keep, args);
                note(server, reactor, &self.mark, session, entry, args, reply.error());
                reply
            }
            Handler::Blocking(function) => {
                let mut transaction = self.transaction(session);
                let reply = match transaction.call(args, |transaction| function(transaction, args)) {
                    Ok(Outcome::Reply(reply)) => reply,
                    Ok(Outcome::Block(block)) => block.when_denied,
                    Err(error) => Reply::Error(error),
                };
                note(server, reactor, &self.mark, session, entry, args, reply.error());
                reply
            }
            Handler::BlockingRead(function) => {
                let reader = self.reader(session);
                let reply = match function(&reader, args) {
                    Ok(Outcome::Reply(reply)) => reply,
                    Ok(Outcome::Block(block)) => block.when_denied,
                    Err(error) => Reply::Error(error),
                };
                note(server, reactor, &self.mark, session, entry, args, reply.error());
                reply
            }
            Handler::Host(handler) => {
                let reply = match self.call_host_for_script(session, entry, handler, args) {
                    Ok(HostOutcome::Reply(reply)) => reply,
                    Ok(HostOutcome::Wait(waiting)) => (waiting.on_timeout)(server),
                    Ok(HostOutcome::Replicate(_)) => Reply::Error(ErrorReply::SYNTAX),
                    Err(error) => Reply::Error(error),
                };
                note(server, reactor, &self.mark, session, entry, args, reply.error());
                reply
            }
            Handler::Help(lines) => {
                let reply = help_reply(args[0], lines);
                note(server, reactor, &self.mark, session, entry, args, reply.error());
                reply
            }
            // Admission into scripts refuses these.
            Handler::Container => Reply::Error(ErrorReply::SYNTAX),
        }
    }

    /// Calls a command that reads, and keeps what it found out unless only the primary may change the dataset. The dataset is held
    /// for writing.
    fn call_caching(
        &mut self,
        session: &Session,
        read: ReadFn,
        keep: WriteFn,
        args: &Args<'_>,
    ) -> Reply<'static> {
        let is_told = matches!(session.origin, Origin::Primary | Origin::Loader);
        let on_replica = self.server.conditions.has(admission::Conditions::REPLICA);
        let mut transaction = self.transaction(session);
        let result = if on_replica && !is_told {
            read(&transaction.reader(), args).map(Reply::into_owned)
        } else {
            transaction.call(args, |transaction| keep(transaction, args))
        };
        result.unwrap_or_else(Reply::Error)
    }

    fn call_host_for_script(
        &mut self,
        session: &mut Session,
        entry: &'static Entry,
        handler: HostHandler,
        args: &Args<'_>,
    ) -> Result<HostOutcome, ErrorReply> {
        if session.origin == Origin::Rehearsal && entry.flags.has_any(Flags::ADMIN | Flags::WRITE) {
            // It would reach the server itself, or another one.
            return Err(ErrorReply::new("ERR This command can't be called while debugging on a copy"));
        }
        match handler {
            HostHandler::Plain(function) => function(&mut Call::new(self, session, entry, args)),
            HostHandler::Reading(function) => {
                // A script on a snapshot holds no guard, and must not keep the one it gets here.
                let on_snapshot = matches!(self.held, Held::Nothing);
                if self.hold_read().is_err() {
                    return Err(self.server.scripts_running.busy_error());
                }
                let outcome = function(&mut Call::new(self, session, entry, args));
                if on_snapshot {
                    self.held = Held::Nothing;
                }
                outcome
            }
            HostHandler::Writing(function) if self.is_writing() => {
                function(&mut Call::new(self, session, entry, args))
            }
            // Admission into scripts refuses these.
            HostHandler::Writing(_) | HostHandler::Script(_) | HostHandler::Exec => Err(ErrorReply::SYNTAX),
        }
    }

    fn call_blocking(
        &mut self,
        session: &mut Session,
        entry: &'static Entry,
        function: BlockingFn,
        args: &Args<'_>,
    ) -> Execution {
        self.hold_write()?;
        let mut transaction = self.transaction(session);
        let outcome = transaction.call(args, |transaction| function(transaction, args));
        let reply = match outcome {
            Ok(Outcome::Block(block)) if self.depth == 0 && session.origin == Origin::Client => {
                let waiting = self.block(session, entry, WaitingFn::Write(function), args, block);
                return Err(Box::new(Unfinished::Wait(waiting)));
            }
            // Inside a transaction or a script nobody can wait.
            Ok(Outcome::Block(block)) => block.when_denied,
            Ok(Outcome::Reply(reply)) => reply,
            Err(error) => Reply::Error(error),
        };
        self.end_of_write(session);
        session.reply(&reply);
        note(self.server, self.reactor, &self.mark, session, entry, args, reply.error());
        Ok(())
    }

    fn call_blocking_read(
        &mut self,
        session: &mut Session,
        entry: &'static Entry,
        function: BlockingReadFn,
        args: &Args<'_>,
    ) -> Execution {
        let may_wait = self.depth == 0 && session.origin == Origin::Client;
        // To begin to wait changes who waits, so what was read must not change before.
        let held = match self.snapshot {
            Some(_) => Ok(()),
            None if may_wait => self.hold_write(),
            None => self.hold_read(),
        };
        held?;
        let reader = self.reader(session);
        let block = match function(&reader, args) {
            Ok(Outcome::Block(block)) if may_wait => Some(block),
            outcome => {
                let reply = match outcome {
                    Ok(Outcome::Reply(reply)) => reply,
                    Ok(Outcome::Block(block)) => block.when_denied,
                    Err(error) => Reply::Error(error),
                };
                session.reply(&reply);
                note(self.server, self.reactor, &self.mark, session, entry, args, reply.error());
                None
            }
        };
        match block {
            Some(block) => {
                let waiting = self.block(session, entry, WaitingFn::Read(function), args, block);
                Err(Box::new(Unfinished::Wait(waiting)))
            }
            None => Ok(()),
        }
    }

    fn block(
        &mut self,
        session: &mut Session,
        entry: &'static Entry,
        function: WaitingFn,
        args: &Args<'_>,
        mut block: BlockOnKeys,
    ) -> Waiting {
        // It is shown when it begins to wait, and not again.
        self.server.monitors.show(self.server, session, entry, args);
        // Looking may have deleted expired keys.
        self.end_of_write(session);
        let on_timeout = block.on_timeout.clone();
        let timeout = (block.timeout_ms > 0).then(|| Duration::from_millis(block.timeout_ms));
        let call = BlockedCall {
            client: session.client.clone(),
            entry,
            function,
            args: block.args.take().unwrap_or_else(|| args.iter().map(|arg| arg.to_vec()).collect()),
            database: session.database,
            block,
            silent: session.reply_mode != ReplyMode::On,
        };
        self.core_mut().block(call);
        Waiting { timeout, on_timeout: Box::new(move |_| on_timeout), interruptible: true }
    }

    fn host_outcome(
        &mut self,
        session: &mut Session,
        entry: &'static Entry,
        args: &Args<'_>,
        outcome: Result<HostOutcome, ErrorReply>,
    ) -> Execution {
        let reply = match outcome {
            Ok(HostOutcome::Reply(reply)) => reply,
            Ok(HostOutcome::Wait(waiting)) if self.depth == 0 && session.origin == Origin::Client => {
                self.server.monitors.show(self.server, session, entry, args);
                return Err(Box::new(Unfinished::Wait(waiting)));
            }
            Ok(HostOutcome::Wait(waiting)) => (waiting.on_timeout)(self.server),
            Ok(HostOutcome::Replicate(handover)) => return Err(Box::new(Unfinished::Replicate(handover))),
            Err(error) => Reply::Error(error),
        };
        session.reply(&reply);
        note(self.server, self.reactor, &self.mark, session, entry, args, reply.error());
        Ok(())
    }

    /// The dataset as the running call reads it; it is held, or there is a snapshot.
    #[inline]
    fn reader(&self, session: &Session) -> Reader<'_> {
        let keyspace = match (&self.snapshot, &self.held) {
            (Some(snapshot), _) => snapshot,
            (None, Held::Read(guard)) => &guard.keyspace,
            (None, Held::Write(guard)) => &guard.keyspace,
            (None, Held::Private(core)) => &core.keyspace,
            (None, Held::Nothing) => unreachable!("a call that reads holds the dataset"),
        };
        Reader {
            keyspace,
            database: session.database,
            now_ms: self.now_ms,
            protocol: session.protocol(),
            expiry: self.key_expiry(session),
            touch: session.touch,
            counters: Some(&self.reactor.counters),
        }
    }

    /// Runs a command of the stream or of a file, without the checks that clients are subject to and without a reply.
    /// The dataset is held for writing.
    pub fn apply(&mut self, session: &mut Session, entry: &'static Entry, args: &Args<'_>) {
        self.look_at_clock();
        if let Err(unfinished) = self.call(session, entry, args)
            && let Unfinished::Suspended(script) = *unfinished
        {
            script.run_out(self, session, args);
        }
    }

    // ---- Units ----

    /// Begins a unit of several commands: nothing is published until its end.
    pub fn begin_unit(&mut self) {
        self.depth += 1;
    }

    /// Ends a unit of several commands.
    pub fn end_unit(&mut self, session: &Session) {
        self.depth -= 1;
        self.end_of_write(session);
    }

    /// Counts a finished call.
    pub fn note(&self, session: &mut Session, entry: &'static Entry, args: &Args<'_>, reply: &Reply<'_>) {
        note(self.server, self.reactor, &self.mark, session, entry, args, reply.error());
    }

    /// As [`note`](Self::note), of a call that began at `began` and called others since. Returns how long it took.
    pub fn note_since(
        &self,
        began: Moment,
        session: &mut Session,
        entry: &'static Entry,
        args: &Args<'_>,
        reply: &Reply<'_>,
    ) -> Duration {
        let now = self.reactor.clock.now();
        self.mark.set(now);
        let nanoseconds = self.reactor.clock.nanoseconds(began, now);
        commandstats::record(self.server, self.reactor, session, entry, args, nanoseconds, reply.error());
        Duration::from_nanos(nanoseconds)
    }

    /// When the call that runs now began.
    pub fn mark(&self) -> Moment {
        self.mark.get()
    }

    pub fn in_unit(&self) -> bool {
        self.depth > 0
    }

    /// Publishes what the unit did, if it is over, and serves clients that waited for its keys.
    pub fn end_of_write(&mut self, session: &Session) {
        if self.depth > 0 {
            return;
        }
        let server = self.server;
        let expiry = self.key_expiry(session);
        let Some(core) = self.core_if_writing() else { return };
        let before = core.stream.offset();
        publish_unit(server, core);
        if core.stream.offset() != before {
            session.client.figures.last_write.store(core.stream.offset(), Relaxed);
        }
        if core.writes.waited.has_ready() {
            // The unit may have taken long: what has expired since it began wakes nobody.
            serve_ready(server, core, server.now_ms(), expiry);
        }
    }

    /// Deletes expired keys that reads of this batch met.
    pub fn delete_expired_seen(&mut self) {
        if matches!(self.held, Held::Nothing)
            || !self.core().keyspace.has_expired_seen()
            || self.hold_write().is_err()
        {
            return;
        }
        let expiry = if self.server.expiry_is_off() { KeyExpiry::Hide } else { KeyExpiry::Delete };
        let (server, now_ms) = (self.server, self.server.now_ms());
        let core = self.core_mut();
        for (database, key) in core.keyspace.take_expired_seen() {
            let mut transaction = WriteTxn::new(&mut core.keyspace, &mut core.writes, database, now_ms);
            transaction.expiry = expiry;
            transaction.expire_if_due(database, &key);
            publish_unit(server, core);
        }
    }
}

/// How long a thread sleeps on the guard before it looks again whether a script holds it.
pub const LOCK_PATIENCE: Duration = Duration::from_micros(500);

/// Hands the effects of a finished unit to the stream, and its events and invalidations to their subscribers.
pub fn publish_unit(server: &Arc<Server>, core: &mut Core) {
    if core.writes.finish_unheard() {
        return;
    }
    let aftermath = core.writes.finish(&core.keyspace);
    if !core.writes.effects.is_empty() {
        // A replica's stream is its primary's: what its own clients write has no place in it.
        if !server.conditions.has(Conditions::REPLICA) {
            core.stream.append_unit(core.writes.effects.unit());
        }
        core.writes.effects.clear();
    }
    if !core.writes.garbage.is_empty() {
        let garbage = core.writes.garbage.take();
        lazy_free::drop_later(garbage.len(), garbage);
    }
    if std::mem::take(&mut core.writes.flushed_all) {
        server.dataset_flushed(core);
    }
    let mut messages = aftermath.messages.into_iter().peekable();
    for (index, event) in aftermath.events.iter().enumerate() {
        while let Some(message) = messages.next_if(|message| message.after_events <= index) {
            server.pubsub.publish_message(&message);
        }
        server.pubsub.publish_event(event, core.keyspace.settings().events);
    }
    messages.for_each(|message| server.pubsub.publish_message(&message));
}

fn queue(session: &mut Session, entry: &'static Entry, flags: Flags, args: &Args<'_>) {
    if let Some(transaction) = &mut session.transaction {
        transaction.bytes += args.iter().map(|arg| arg.len()).sum::<usize>();
        transaction.queued.push(Queued { entry, flags, args: args.iter().map(|arg| arg.to_vec()).collect() });
        session.client.figures.queued.store(transaction.queued.len() as i64, Relaxed);
        session.client.figures.queued_bytes.store(transaction.bytes, Relaxed);
        session.reply(&Reply::Status("QUEUED".into()));
    }
}

/// Counts a finished call: its time runs from the end of the one before it in the batch.
fn note(
    server: &Arc<Server>,
    reactor: &Reactor,
    mark: &Cell<Moment>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
    error: Option<&ErrorReply>,
) {
    let now = reactor.clock.now();
    let nanoseconds = reactor.clock.nanoseconds(mark.replace(now), now);
    commandstats::record(server, reactor, session, entry, args, nanoseconds, error);
}

/// Drops what a command answered. Nearly all replies own nothing; to find that out by the general way costs more than to
/// encode them.
#[inline(always)]
pub fn let_go(result: CommandResult<'_>) {
    match result {
        Ok(Reply::Bulk(_) | Reply::Integer(_) | Reply::Ok | Reply::Nil) => std::mem::forget(result),
        _ => drop(result),
    }
}

/// The error that a command answered.
fn failure<'r>(result: &'r CommandResult<'_>) -> Option<&'r ErrorReply> {
    match result {
        Ok(reply) => reply.error(),
        Err(error) => Some(error),
    }
}

impl Executor<'_> {
    /// Does a call of the entry take the guard for writing?
    pub fn may_write(entry: &Entry) -> bool {
        matches!(
            entry.handler,
            Handler::Write(_)
                | Handler::Caching(..)
                | Handler::Blocking(_)
                | Handler::BlockingRead(_)
                | Handler::Host(HostHandler::Writing(_))
        )
    }
}
