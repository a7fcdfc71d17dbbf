//! Running scripts for clients: under which guard, slice by slice, with what they may call, and how they are killed.
//!
//! A read-only script starts under the shared guard. When its first slice ends it takes a snapshot, lets the guard go and
//! goes on there: the same moment in time, so still atomic, and nobody waits for it. One that was slow before begins there. A script that may write holds the
//! dataset to its end; others wait, and are answered BUSY after `busy-reply-threshold`.
//!
//! Invariants: a script's effects are published when it has ended, as one unit, or never; a script is abandoned between
//! slices only, never inside of a command.

pub mod debugged;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use self::debugged::DebugMode;
use super::Server;
use super::admission::{Conditions, Hold, find_entry, is_without_subcommand};
use super::commands::scripting::NO_SCRIPT;
use super::commandstats;
use super::config::{ReadOnlyScripts, ReplicaScripts};
use super::execute::{Execution, Executor, Unfinished};
use super::script_workers::Job;
use super::scripts_running::{Kill, RunningScript};
use super::session::{Origin, ReplyMode, Session};
use super::table::{Entry, HostHandler, ScriptFn};
use super::users;
use crate::acl::Context;
use crate::base::tick_clock::Moment;
use crate::command::{Args, Flags, Handler};
use crate::protocol::{ErrorReply, Protocol, Reply};
use crate::scripting::{
    Code, EffectTargets, FunctionHandle, LogLevel, Progress, Registry, RunEnd, RunFigures, Script,
    ScriptCall, ScriptDigest, ScriptFlags, ScriptHost, ScriptRun, ScriptStatistics,
};

/// How long a script runs before others get a turn.
const SLICE: Duration = Duration::from_millis(1);

/// What is to be run.
#[derive(Debug, Clone)]
pub enum Program {
    Script(Arc<Script>),
    Function(Arc<Registry>, FunctionHandle),
}

/// A call of a script, as its command asked for it.
#[derive(Debug)]
pub struct ScriptRequest {
    pub program: Program,
    /// Index of the first key in the arguments of the command.
    pub first_key: usize,
    pub key_count: usize,
    /// It came by EVAL_RO, EVALSHA_RO or FCALL_RO.
    pub by_read_only_command: bool,
    /// See [`FoundScript`](crate::scripting::FoundScript).
    pub is_to_be_told: bool,
}

impl Program {
    pub fn flags(&self) -> ScriptFlags {
        match self {
            Program::Script(script) => script.flags(),
            Program::Function(_, handle) => handle.function().flags,
        }
    }

    /// What is counted of it.
    pub fn statistics(&self) -> &ScriptStatistics {
        match self {
            Program::Script(script) => script.statistics(),
            Program::Function(_, handle) => &handle.function().statistics,
        }
    }

    fn is_function(&self) -> bool {
        matches!(self, Program::Function(..))
    }
}

impl ScriptRequest {
    fn is_read_only(&self) -> bool {
        self.by_read_only_command || self.program.flags().contains(ScriptFlags::NO_WRITES)
    }

    /// A script without a shebang has no flags to go by: its commands are checked one by one.
    fn is_unflagged(&self) -> bool {
        self.program.flags().contains(ScriptFlags::UNDECLARED)
    }
}

/// Runs the script that a command asks for, for one slice. Most end in it, and their replies are in the session then.
pub fn begin(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    function: ScriptFn,
    args: &Args<'_>,
) -> Execution {
    let request = function(&mut super::call::Call::new(executor, session, entry, args));
    if let DebugMode::Begun(target) = session.debug {
        return debugged::begin(executor, session, entry, request, args, target);
    }
    if matches!(&request, Err(error) if *error == NO_SCRIPT) && asks_primary(executor, session, args) {
        return Err(Box::new(Unfinished::Held(Hold::Primary)));
    }
    let request = request.and_then(|request| check(executor, session, &request).map(|()| request));
    let reply = match request {
        Ok(request) => first_slice(executor, session, entry, request, args)?,
        Err(error) => {
            show(executor, session, entry, args);
            Some(refused(executor, error))
        }
    };
    if let Some(reply) = reply {
        session.reply(&reply);
        executor.note(session, entry, args, &reply);
    }
    Ok(())
}

/// Asks the primary for a script that this replica lacks. `false`: it is not one, or the primary lacks it too.
fn asks_primary(executor: &Executor<'_>, session: &Session, args: &Args<'_>) -> bool {
    let server = executor.server;
    let may_wait = session.origin == Origin::Client && !executor.in_unit();
    may_wait
        && server.conditions.has(Conditions::REPLICA)
        && ScriptDigest::parse(args[1]).is_some_and(|digest| server.ask_primary_for(digest))
}

/// Lets monitors see the script before what it calls.
fn show(executor: &Executor<'_>, session: &Session, entry: &Entry, args: &Args<'_>) {
    executor.server.monitors.show_script(executor.server, session, entry, args);
}

/// The reply of a script that did not run. Errors of those that did are counted where they end.
fn refused(executor: &Executor<'_>, error: ErrorReply) -> Reply<'static> {
    executor.server.stats.count_error(&error);
    Reply::Error(error)
}

/// Would this call run a script that only reads? One that cannot be run at all counts as one: nothing is to wait for.
pub fn only_reads(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) -> bool {
    let Handler::Host(HostHandler::Script(function)) = entry.handler else { return false };
    let mut call = super::call::Call::new(executor, session, entry, args);
    let only_reads = function(&mut call).map_or(true, |request| request.is_read_only());
    session.debug = session.debug.not_begun();
    only_reads
}

/// What a call counts as in its transaction: a script that says what it does counts as that.
pub fn queued_flags(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) -> Flags {
    let Handler::Host(HostHandler::Script(function)) = entry.handler else { return entry.flags };
    match function(&mut super::call::Call::new(executor, session, entry, args)) {
        Ok(request) if !request.is_read_only() => {
            let grows = !request.program.flags().contains(ScriptFlags::ALLOW_OOM);
            match (request.is_unflagged(), grows) {
                (true, _) => entry.flags,
                (false, true) => entry.flags.and(Flags::WRITE).and(Flags::DENYOOM),
                (false, false) => entry.flags.and(Flags::WRITE),
            }
        }
        _ => entry.flags.without(Flags::MAY_REPLICATE),
    }
}

/// What must hold before a script may start at all.
fn check(executor: &Executor<'_>, session: &Session, request: &ScriptRequest) -> Result<(), ErrorReply> {
    let server = executor.server;
    let conditions = &server.conditions;
    let flags = request.program.flags();
    if request.by_read_only_command && !request.is_unflagged() && !flags.contains(ScriptFlags::NO_WRITES) {
        return Err(ErrorReply::new("ERR Can not execute a script with write flag using *_ro command."));
    }
    if conditions.none() || session.origin != Origin::Client {
        return Ok(());
    }
    // One without a shebang has no flags, so it is not allowed either.
    if conditions.has(Conditions::STALE) && !flags.contains(ScriptFlags::ALLOW_STALE) {
        return Err(ErrorReply::new(
            "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        ));
    }
    let config = server.config();
    if request.is_read_only() {
        return Ok(());
    }
    if conditions.has(Conditions::REPLICA) && config.replica_read_only {
        if config.replica_scripts == ReplicaScripts::ReadOnly {
            if session.redirect
                && let Some(Err(redirection)) = server.redirection()
            {
                return Err(redirection);
            }
            return Err(ErrorReply::new(
                "READONLY You can't run a script that may write on a read only replica. Use EVAL_RO, EVALSHA_RO or \
                 FCALL_RO, or give the script the no-writes flag.",
            ));
        }
        if !request.is_unflagged() {
            return Err(ErrorReply::new("READONLY You can't write against a read only replica."));
        }
    }
    if request.is_unflagged() {
        return Ok(());
    }
    if conditions.has(Conditions::DISK_ERROR) {
        return Err(server.disk_error());
    }
    if conditions.has(Conditions::TOO_FEW_REPLICAS) {
        return Err(ErrorReply::new("NOREPLICAS Not enough good replicas to write."));
    }
    if conditions.has(Conditions::OVER_MEMORY) && !flags.contains(ScriptFlags::ALLOW_OOM) {
        return Err(ErrorReply::new(
            "OOM allow-oom flag is not set on the script, can not run it when used memory > 'maxmemory'",
        ));
    }
    Ok(())
}

/// Returns the reply of a script that did not come to run; one that has ended in this slice is answered.
fn first_slice(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    request: ScriptRequest,
    args: &Args<'_>,
) -> Result<Option<Reply<'static>>, Box<Unfinished>> {
    let (keys, arguments) = args[request.first_key..].split_at(request.key_count);
    let code = match &request.program {
        Program::Script(script) => Code::Script(script),
        Program::Function(registry, handle) => Code::Function(registry, handle),
    };
    let run = executor.reactor.engine.borrow_mut().start(ScriptCall { code, keys, arguments });
    let run = match run {
        Ok(run) => run,
        Err(error) => {
            show(executor, session, entry, args);
            return Ok(Some(refused(executor, error)));
        }
    };
    let tells = request.is_to_be_told && session.origin == Origin::Client;
    let only_reads = request.is_read_only() && !tells;
    if let Err(holds) = if only_reads { executor.hold_read() } else { executor.hold_write() } {
        executor.reactor.engine.borrow_mut().abandon(run);
        return Err(holds.into());
    }
    // Only now, since one that is held is begun again.
    show(executor, session, entry, args);
    let alone = !executor.in_unit();
    // The role may have changed until the dataset was free.
    if alone && let Err(error) = check(executor, session, &request) {
        executor.reactor.engine.borrow_mut().abandon(run);
        return Ok(Some(refused(executor, error)));
    }
    if tells {
        tell(executor, session, &request.program);
    }
    executor.begin_unit();
    if !request.is_read_only() && alone {
        executor.core_mut().writes.begin_journal();
    }
    let outer = Outer::enter(session);
    let mut script = ScriptInProgress {
        run,
        request,
        outer,
        alone,
        is_stopped: false,
        targets: EffectTargets::ALL,
        shown: None,
        figures: Figures { began: executor.mark(), slices: 0, commands: 0, writes: 0, killed: None },
    };
    if script.request.program.statistics().is_slow() && script.may_go_away(executor) {
        return Err(Box::new(Unfinished::Away(go_away(script, executor, session, entry, args))));
    }
    match script.slice(executor, session) {
        Some(reply) => {
            script.finish(executor, session, entry, args, &reply);
            Ok(None)
        }
        None if script.may_go_away(executor) => {
            Err(Box::new(Unfinished::Away(go_away(script, executor, session, entry, args))))
        }
        None => Err(Box::new(Unfinished::Suspended(Box::new(script)))),
    }
}

/// A script that came by EVAL is used by its digest: whoever may take over has to know it from then on.
fn tell(executor: &mut Executor<'_>, session: &Session, program: &Program) {
    let Program::Script(script) = program else { return };
    if executor.server.conditions.has(Conditions::REPLICA) {
        return;
    }
    executor.server.scripts.note_told(&script.digest());
    let load: [&[u8]; 3] = [b"SCRIPT", b"LOAD", script.body()];
    executor.transaction(session).state_effect(&load);
    executor.end_of_write(session);
}

/// Lets a read-only script go on where nobody waits for it: on a snapshot of this moment, on another thread.
fn go_away(
    mut script: ScriptInProgress,
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    args: &Args<'_>,
) -> Arc<RunningScript> {
    let server = executor.server;
    let shown = script.show(server, session, args);
    let mut session_of_job = session.for_script();
    session_of_job.costliest = session.costliest.take();
    let job = Job {
        snapshot: executor.core().keyspace.snapshot(),
        session: session_of_job,
        entry,
        args: args.iter().map(|arg| arg.to_vec()).collect(),
        is_silent: session.reply_mode != ReplyMode::On,
        shown: shown.clone(),
        script: Box::new(script),
    };
    job.script.outer.restore(session);
    executor.end_unit(session);
    server.run_away(job);
    shown
}

/// What of the session a script's commands must not change.
#[derive(Debug)]
struct Outer {
    origin: Origin,
    database: usize,
    protocol: Protocol,
}

impl Outer {
    fn enter(session: &mut Session) -> Self {
        let outer = Outer { origin: session.origin, database: session.database, protocol: session.protocol };
        if session.origin == Origin::Client {
            session.origin = Origin::Script;
        }
        session.protocol = Protocol::Resp2;
        session.costliest = None;
        outer
    }

    fn restore(&self, session: &mut Session) {
        session.origin = self.origin;
        session.protocol = self.protocol;
        session.select(self.database);
    }
}

/// A script that has begun.
pub struct ScriptInProgress {
    run: ScriptRun,
    request: ScriptRequest,
    outer: Outer,
    /// It is a unit of its own, not part of a transaction.
    alone: bool,
    /// It was told to stop, and its first write was refused for that.
    is_stopped: bool,
    targets: EffectTargets,
    /// Set when others can see it run: from its first suspension on.
    shown: Option<Arc<RunningScript>>,
    figures: Figures,
}

/// What a run has come to so far.
#[derive(Debug)]
struct Figures {
    began: Moment,
    slices: u64,
    commands: u64,
    writes: u64,
    killed: Option<RunEnd>,
}

impl std::fmt::Debug for ScriptInProgress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("ScriptInProgress").field("request", &self.request).finish_non_exhaustive()
    }
}

impl ScriptInProgress {
    /// Goes on to the end, letting others have their turns between slices, and answers.
    pub async fn go_on(
        mut self,
        executor: &mut Executor<'_>,
        session: &mut Session,
        entry: &'static Entry,
        args: &Args<'_>,
    ) {
        let reply = loop {
            let shown = self.suspended(executor, session, args);
            if let Some(reply) = self.kill(executor, &shown) {
                break reply;
            }
            tokio::task::yield_now().await;
            if let Some(reply) = self.slice(executor, session) {
                break reply;
            }
        };
        self.finish(executor, session, entry, args, &reply);
    }

    /// Goes on to the end without a turn for anybody: for what comes from a file or the primary, whose next command has to
    /// wait anyway.
    pub fn run_out(mut self, executor: &mut Executor<'_>, session: &mut Session, args: &Args<'_>) {
        loop {
            let shown = self.suspended(executor, session, args);
            if self.kill(executor, &shown).is_some() || self.slice(executor, session).is_some() {
                break;
            }
        }
        self.leave(executor, session);
    }

    /// Runs for a slice. `None`: the script is not over.
    pub fn slice(&mut self, executor: &mut Executor<'_>, session: &mut Session) -> Option<Reply<'static>> {
        let reactor = executor.reactor;
        self.figures.slices += 1;
        let mut host = Host {
            executor: &mut *executor,
            session,
            request: &self.request,
            targets: &mut self.targets,
            figures: &mut self.figures,
            shown: self.shown.as_deref(),
            is_stopped: &mut self.is_stopped,
        };
        let progress = reactor.engine.borrow_mut().resume(&mut self.run, &mut host, SLICE);
        let Progress::Done(result) = progress else {
            if self.figures.slices == 1 {
                // Noted now and not at its end: others of it may come meanwhile.
                self.request.program.statistics().note_slow();
            }
            return None;
        };
        if let Some(shown) = self.shown.clone().filter(|_| self.is_stopped) {
            // It got to its end without the write that was refused.
            return self.kill(executor, &shown);
        }
        if let Reply::Error(error) = &result.reply
            && !result.error_counted
        {
            executor.server.stats.count_script_error(error);
        }
        Some(result.reply)
    }

    /// A slice has ended and the script has not.
    fn suspended(
        &mut self,
        executor: &mut Executor<'_>,
        session: &Session,
        args: &Args<'_>,
    ) -> Arc<RunningScript> {
        let server = executor.server;
        let config = server.config();
        let shown = self.show(server, session, args);
        server.scripts_running.set_holds(&shown, true);
        let threshold = Duration::from_millis(config.busy_reply_threshold_ms);
        if shown.started.elapsed() >= threshold && !server.conditions.has(Conditions::BUSY) {
            tracing::warn!(
                "Slow script detected: still in execution after {} milliseconds. You can try killing the script using the {} KILL command. Script name is: {}.",
                shown.started.elapsed().as_millis(),
                if shown.is_function { "FUNCTION" } else { "SCRIPT" },
                shown.name,
            );
            server.conditions.set(Conditions::BUSY, true);
            server.let_go();
        }
        shown
    }

    /// Lets others see that the script runs.
    fn show(&mut self, server: &Server, session: &Session, args: &Args<'_>) -> Arc<RunningScript> {
        if let Some(shown) = &self.shown {
            return shown.clone();
        }
        let name = String::from_utf8_lossy(&self.run.name()).into_owned();
        let command = args.iter().map(|arg| arg.to_vec()).collect();
        let replicated = matches!(session.origin, Origin::Primary | Origin::Loader);
        let shown =
            RunningScript::new(name, self.request.program.is_function(), command, replicated, !self.alone);
        if self.figures.writes > 0 {
            shown.may_write();
        }
        server.scripts_running.add(&shown);
        self.shown = Some(shown.clone());
        shown
    }

    /// May it go on on a snapshot?
    fn may_go_away(&self, executor: &Executor<'_>) -> bool {
        self.request.is_read_only()
            && self.alone
            && self.outer.origin == Origin::Client
            && executor.server.config().read_only_scripts == ReadOnlyScripts::Snapshot
    }

    /// Ends the script if somebody wants it and nothing speaks against it.
    pub fn kill(&mut self, executor: &mut Executor<'_>, shown: &RunningScript) -> Option<Reply<'static>> {
        let limit_ms = executor.server.config().busy_script_rollback_after_ms;
        let is_over = limit_ms > 0
            && shown.holds.load(Relaxed)
            && self.alone
            && !shown.is_replicated
            && shown.started.elapsed() >= Duration::from_millis(limit_ms);
        if is_over {
            tracing::warn!(
                "A script has held the dataset for {limit_ms} ms: it is undone (busy-script-rollback-after)."
            );
            shown.stop(Kill::Rollback);
        }
        if shown.kill() == Kill::No {
            return None;
        }
        // One that wrote nothing may have met expired keys, or published. Inside of a transaction there is no journal, and
        // what it wrote is no reason to be here.
        if executor.is_writing() {
            let core = executor.core_mut();
            core.writes.rollback(&mut core.keyspace);
        }
        self.figures.killed =
            Some(if self.figures.writes > 0 && self.alone { RunEnd::Undone } else { RunEnd::Killed });
        let word = if shown.is_function { "FUNCTION" } else { "SCRIPT" };
        tracing::info!("Lua script killed by user with {word} KILL.");
        let message = format!("ERR Script killed by user with {word} KILL.");
        let error = executor.reactor.engine.borrow_mut().kill(self.run.take(), &message);
        executor.server.stats.count_error(&error);
        Some(Reply::Error(error))
    }

    /// The script is over: publishes what it did, answers, and counts it.
    pub fn finish(
        &mut self,
        executor: &mut Executor<'_>,
        session: &mut Session,
        entry: &'static Entry,
        args: &Args<'_>,
        reply: &Reply<'_>,
    ) {
        self.leave(executor, session);
        session.reply(reply);
        let elapsed = executor.note_since(self.figures.began, session, entry, args, reply);
        let failed = matches!(reply, Reply::Error(_));
        let end = self.figures.killed.unwrap_or(if failed { RunEnd::Failed } else { RunEnd::Answered });
        self.request.program.statistics().count(&RunFigures {
            end,
            elapsed,
            slices: self.figures.slices,
            commands: self.figures.commands,
            writes: self.figures.writes,
            reply_bytes: session.reply_bytes() as u64,
        });
    }

    /// What the script did is published, and nobody waits for it any more.
    fn leave(&mut self, executor: &mut Executor<'_>, session: &mut Session) {
        self.outer.restore(session);
        executor.end_unit(session);
        let Some(shown) = self.shown.take() else { return };
        let server = executor.server;
        server.scripts_running.remove(&shown);
        if shown.holds.load(Relaxed) {
            server.scripts_running.set_holds(&shown, false);
            server.conditions.set(Conditions::BUSY, false);
            server.let_go();
        }
    }
}

/// What a running script may ask of the server.
struct Host<'h, 's> {
    executor: &'h mut Executor<'s>,
    session: &'h mut Session,
    request: &'h ScriptRequest,
    targets: &'h mut EffectTargets,
    figures: &'h mut Figures,
    shown: Option<&'h RunningScript>,
    is_stopped: &'h mut bool,
}

impl Host<'_, '_> {
    fn admit(&mut self, args: &[&[u8]]) -> Result<&'static Entry, ErrorReply> {
        let server = self.executor.server;
        let Some(entry) = find_entry(server, args) else {
            return Err(ErrorReply::new("ERR Unknown command called from script"));
        };
        if is_without_subcommand(entry, args) && args.len() > 1 {
            return Err(super::admission::unknown_subcommand(entry, args));
        }
        if !entry.arity_fits(args.len()) || matches!(entry.handler, Handler::Container) {
            return Err(ErrorReply::new("ERR Wrong number of args calling command from script"));
        }
        let flags = entry.flags;
        // On a dataset of its own such a command would find nothing of what it is for.
        if flags.has(Flags::NOSCRIPT)
            && (!server.deny_scripts_is_off.load(Relaxed) || self.session.origin == Origin::Rehearsal)
        {
            return Err(ErrorReply::new("ERR This Valkey command is not allowed from script"));
        }
        users::check(server, self.session, entry, args, Context::Script).map_err(|refusal| {
            ErrorReply::from_text([b"ERR ACL failure in script: ".as_slice(), &refusal.message].concat())
        })?;
        users::refuse_unnamed_reads(server, self.session, entry, args)?;
        let writes = flags.has_any(Flags::WRITE | Flags::MAY_REPLICATE);
        if writes && self.request.is_read_only() {
            return Err(ErrorReply::new("ERR Write commands are not allowed from read-only scripts."));
        }
        if !server.conditions.none() {
            self.admit_in_conditions(flags)?;
        }
        if flags.has(Flags::WRITE) && self.figures.writes == 0 {
            self.first_write()?;
        }
        Ok(entry)
    }

    fn first_write(&mut self) -> Result<(), ErrorReply> {
        if let Some(shown) = self.shown
            && !shown.may_write()
        {
            *self.is_stopped = true;
            return Err(ErrorReply::new("ERR the script was told to stop"));
        }
        Ok(())
    }

    fn admit_in_conditions(&self, flags: Flags) -> Result<(), ErrorReply> {
        let server = self.executor.server;
        let conditions = &server.conditions;
        if !matches!(self.session.origin, Origin::Script | Origin::Rehearsal) {
            return Ok(());
        }
        if conditions.has(Conditions::STALE) && !flags.has(Flags::STALE) {
            return Err(ErrorReply::new("ERR Can not execute the command on a stale replica"));
        }
        // What has begun to write is not stopped half-way by what happens to the server meanwhile.
        let has_written = self.figures.writes > 0;
        if flags.has(Flags::WRITE) && !has_written {
            if conditions.has(Conditions::REPLICA) && server.config().replica_read_only {
                return Err(ErrorReply::new("READONLY You can't write against a read only replica."));
            }
            if conditions.has(Conditions::DISK_ERROR) {
                return Err(server.disk_error());
            }
            if conditions.has(Conditions::TOO_FEW_REPLICAS) {
                return Err(ErrorReply::new("NOREPLICAS Not enough good replicas to write."));
            }
        }
        let may_grow = has_written
            || self.request.is_read_only()
            || self.request.program.flags().contains(ScriptFlags::ALLOW_OOM);
        if conditions.has(Conditions::OVER_MEMORY) && flags.has(Flags::DENYOOM) && !may_grow {
            return Err(ErrorReply::new("OOM command not allowed when used memory > 'maxmemory'."));
        }
        Ok(())
    }
}

impl ScriptHost for Host<'_, '_> {
    fn call(&mut self, args: &[&[u8]]) -> Reply<'_> {
        match self.admit(args) {
            Ok(entry) => {
                self.figures.commands += 1;
                self.figures.writes += u64::from(entry.writes());
                self.executor.call_for_script(self.session, entry, args)
            }
            Err(error) => {
                let executor = &self.executor;
                commandstats::record_rejected(executor.reactor, find_entry(executor.server, args));
                executor.server.stats.count_error(&error);
                Reply::Error(error)
            }
        }
    }

    fn set_response_protocol(&mut self, version: u8) {
        self.session.protocol = if version == 3 { Protocol::Resp3 } else { Protocol::Resp2 };
    }

    fn set_effect_targets(&mut self, targets: EffectTargets) {
        // There is one stream: what is to reach either of its readers is recorded, what is to reach none is not.
        *self.targets = targets;
        if self.executor.is_writing() {
            let records = targets.aof || targets.replicas;
            self.executor.core_mut().writes.effects.set_muted(!records);
        }
    }

    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        let server = self.executor.server;
        let entry = find_entry(server, args)?;
        // A command whose subcommand is not known.
        if !entry.subcommands.is_empty() && args.len() > 1 {
            return None;
        }
        Some(users::would_allow(server, self.session, entry, args))
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        let message = String::from_utf8_lossy(message);
        match level {
            LogLevel::Debug => tracing::trace!("{message}"),
            LogLevel::Verbose => tracing::debug!("{message}"),
            LogLevel::Notice => tracing::info!("{message}"),
            LogLevel::Warning => tracing::warn!("{message}"),
        }
    }
}
