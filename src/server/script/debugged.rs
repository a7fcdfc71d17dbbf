//! A script that is debugged: what it runs on, what is said to it and by it, and its end. It knows no sockets: the
//! connection hands it commands and takes what it answers.
//!
//! After SCRIPT DEBUG YES it is rehearsed on a copy of the dataset, which costs a handful of pointers, so nobody waits for
//! the person who debugs, and nobody sees what the script does. After SCRIPT DEBUG SYNC it holds the dataset as any script
//! that may write does, and what it does stays.
//!
//! Invariants: of a rehearsal nothing is published; a script that holds the dataset is among those that run, so that others
//! are answered BUSY and can end it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::super::Server;
use super::super::client::Close;
use super::super::core::Core;
use super::super::execute::{Execution, Executor, Unfinished};
use super::super::session::{Origin, Session};
use super::super::table::Entry;
use super::{Figures, Outer, Program, ScriptInProgress, ScriptRequest, check, refused, show};
use crate::command::Args;
use crate::protocol::{ErrorReply, Reply};
use crate::scripting::{Console, DebugCommand, Debugger, EffectTargets};

/// What SCRIPT DEBUG made of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DebugMode {
    Off,
    /// Its next EVAL is debugged.
    Armed(Target),
    /// That EVAL has come.
    Begun(Target),
}

/// What a script is debugged on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    Copy,
    Dataset,
}

impl DebugMode {
    /// As before its EVAL was looked at.
    pub fn not_begun(self) -> DebugMode {
        self.target().map_or(DebugMode::Off, DebugMode::Armed)
    }

    /// Is the next EVAL to be debugged?
    pub fn target(self) -> Option<Target> {
        match self {
            DebugMode::Off => None,
            DebugMode::Armed(target) | DebugMode::Begun(target) => Some(target),
        }
    }
}

/// The most rehearsals at once: each may come to hold a dataset of its own.
const MOST_REHEARSALS: usize = 16;

/// How long a script runs before it is stopped, where `busy-reply-threshold` is 0: others are answered BUSY at once then.
const PATIENCE: Duration = Duration::from_secs(5);

/// The last line of a session, by which clients know it.
const END: &[u8] = b"<endsession>";

/// A session that has not ended.
pub struct Debugged {
    script: ScriptInProgress,
    link: Link,
    /// The dataset of a rehearsal, until an executor has it.
    copy: Option<Box<Core>>,
    target: Target,
    _place: Option<Place>,
}

impl std::fmt::Debug for Debugged {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Debugged").field("target", &self.target).finish_non_exhaustive()
    }
}

/// Where a session is after a slice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The script runs.
    Running,
    /// It has stopped, and waits for a command.
    Stopped,
    /// It is over, and answered.
    Ended,
}

/// One of the rehearsals that there may be at once.
struct Place(Arc<AtomicUsize>);

impl Place {
    fn take(server: &Server) -> Option<Place> {
        let more = |taken: usize| (taken < MOST_REHEARSALS).then_some(taken + 1);
        server.rehearsals.fetch_update(Relaxed, Relaxed, more).ok()?;
        Some(Place(server.rehearsals.clone()))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Between the script and the connection; both hold it.
#[derive(Clone, Default)]
struct Link(Arc<Mutex<Exchange>>);

#[derive(Default)]
struct Exchange {
    lines: Vec<Vec<u8>>,
    /// Replies to the client, encoded.
    answers: Vec<u8>,
    command: Option<DebugCommand>,
    is_waiting: bool,
    is_aborted: bool,
}

impl Exchange {
    /// Makes the lines a reply: an array of status lines, in which there are no line ends.
    fn flush(&mut self) {
        self.answers.extend_from_slice(format!("*{}\r\n", self.lines.len()).as_bytes());
        for line in self.lines.drain(..) {
            self.answers.push(b'+');
            let blank = |byte: u8| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte };
            self.answers.extend(line.into_iter().map(blank));
            self.answers.extend_from_slice(b"\r\n");
        }
    }
}

impl Console for Link {
    fn show(&mut self, line: Vec<u8>) {
        self.0.lock().lines.push(line);
    }

    fn flush(&mut self) {
        self.0.lock().flush();
    }

    fn command(&mut self) -> Option<DebugCommand> {
        let mut exchange = self.0.lock();
        let command = exchange.command.take();
        exchange.is_waiting = command.is_none();
        command
    }

    fn abort(&mut self) {
        self.0.lock().is_aborted = true;
    }
}

/// Begins to debug the script that an EVAL asks for. What speaks against running it ends the session before it has begun.
pub(super) fn begin(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: &'static Entry,
    request: Result<ScriptRequest, ErrorReply>,
    args: &Args<'_>,
    target: Target,
) -> Execution {
    session.debug = DebugMode::Armed(target);
    match target {
        Target::Copy => executor.hold_read()?,
        Target::Dataset => executor.hold_write()?,
    }
    show(executor, session, entry, args);
    let place = match target {
        Target::Copy => Place::take(executor.server),
        Target::Dataset => None,
    };
    if target == Target::Copy && place.is_none() {
        let error = ErrorReply::from_text(format!(
            "ERR Can't run EVAL in debugging mode: there are {MOST_REHEARSALS} debugging sessions already"
        ));
        let reply = refused(executor, error);
        session.reply(&reply);
        executor.note(session, entry, args, &reply);
        return Ok(());
    }
    let debugged = request
        .and_then(|request| check(executor, session, &request).map(|()| request))
        .and_then(|request| start(executor, session, request, args, target, place));
    match debugged {
        Ok(debugged) => Err(Box::new(Unfinished::Debugged(Box::new(debugged)))),
        Err(error) => {
            let link = Link::default();
            let reply = refused(executor, error);
            end_session(session, &link, &reply);
            executor.note(session, entry, args, &reply);
            Ok(())
        }
    }
}

fn start(
    executor: &mut Executor<'_>,
    session: &mut Session,
    request: ScriptRequest,
    args: &Args<'_>,
    target: Target,
    place: Option<Place>,
) -> Result<Debugged, ErrorReply> {
    let Program::Script(script) = &request.program else {
        return Err(ErrorReply::new("ERR Only scripts can be debugged"));
    };
    let (keys, arguments) = args[request.first_key..].split_at(request.key_count);
    let link = Link::default();
    let patience = match executor.server.config().busy_reply_threshold_ms {
        0 => PATIENCE,
        threshold_ms => Duration::from_millis(threshold_ms),
    };
    let debugger = Debugger::new(script.body(), patience, Box::new(link.clone()));
    let run = executor.reactor.engine.borrow_mut().start_debugging(script, keys, arguments, debugger)?;
    let copy = match target {
        Target::Copy => {
            tracing::info!("A debugging session begins, on a copy of the dataset");
            Some(Box::new(executor.core().private_copy()))
        }
        Target::Dataset => {
            tracing::info!("A synchronous debugging session begins");
            executor.begin_unit();
            executor.core_mut().writes.begin_journal();
            None
        }
    };
    let outer = Outer::enter(session);
    if target == Target::Copy {
        session.origin = Origin::Rehearsal;
    }
    // The time of a person is not the script's: it counts neither as slow nor in what is known of its runs.
    let figures =
        Figures { began: executor.mark(), slices: FIRST_SLICE, commands: 0, writes: 0, killed: None };
    let script = ScriptInProgress {
        run,
        request,
        outer,
        alone: true,
        is_stopped: false,
        targets: EffectTargets::ALL,
        shown: None,
        figures,
    };
    Ok(Debugged { script, link, copy, target, _place: place })
}

/// A script that is left after its first slice is noted as slow; this one's first is counted as its second.
const FIRST_SLICE: u64 = 1;

impl Debugged {
    /// The dataset of a rehearsal, for the executor that it goes on with.
    pub fn take_copy(&mut self) -> Option<Box<Core>> {
        self.copy.take()
    }

    /// The script's next command. It has stopped.
    pub fn tell(&mut self, command: DebugCommand) {
        self.link.0.lock().command = Some(command);
    }

    /// Lets the script run for a slice, unless it was ended. What it has to say is in the session then.
    pub fn step(
        &mut self,
        executor: &mut Executor<'_>,
        session: &mut Session,
        entry: &'static Entry,
        args: &Args<'_>,
    ) -> Step {
        let reply = self.killed(executor, session, args).or_else(|| self.script.slice(executor, session));
        let (is_waiting, is_aborted) = {
            let mut exchange = self.link.0.lock();
            session.out.append(&mut exchange.answers);
            (exchange.is_waiting, exchange.is_aborted)
        };
        match reply {
            Some(reply) => self.end(executor, session, entry, args, &reply),
            None if is_aborted => {
                self.give_up(executor, session, entry, args, "ERR script aborted for user request")
            }
            None if is_waiting => Step::Stopped,
            None => Step::Running,
        }
    }

    /// Has somebody ended the script while it was stopped? Then it is over, and answered.
    pub fn look(
        &mut self,
        executor: &mut Executor<'_>,
        session: &mut Session,
        entry: &'static Entry,
        args: &Args<'_>,
    ) -> Step {
        match self.killed(executor, session, args) {
            Some(reply) => self.end(executor, session, entry, args, &reply),
            None => Step::Stopped,
        }
    }

    /// How long nothing has to be looked at, unless the client is nudged.
    pub fn next_look(&self, server: &Server) -> Option<Duration> {
        let shown = self.script.shown.as_ref()?;
        let config = server.config();
        let elapsed = shown.started.elapsed();
        [config.busy_reply_threshold_ms, config.busy_script_rollback_after_ms]
            .into_iter()
            .map(Duration::from_millis)
            .filter(|limit| !limit.is_zero() && *limit > elapsed)
            .map(|limit| limit - elapsed)
            .min()
    }

    /// Others see that the script holds the dataset, and may want it to end.
    fn killed(
        &mut self,
        executor: &mut Executor<'_>,
        session: &Session,
        args: &Args<'_>,
    ) -> Option<Reply<'static>> {
        if self.target == Target::Copy {
            return None;
        }
        let shown = self.script.suspended(executor, session, args);
        shown.debugged_by.get_or_init(|| session.client.clone());
        self.script.kill(executor, &shown)
    }

    /// Ends the script where it is. What it has done stays, on the dataset.
    pub fn give_up(
        &mut self,
        executor: &mut Executor<'_>,
        session: &mut Session,
        entry: &'static Entry,
        args: &Args<'_>,
        message: &str,
    ) -> Step {
        let error = executor.reactor.engine.borrow_mut().kill(self.script.run.take(), message);
        let reply = refused(executor, error);
        self.end(executor, session, entry, args, &reply)
    }

    /// The client has gone: as [`give_up`](Self::give_up), and nobody is answered.
    pub fn leave(&mut self, executor: &mut Executor<'_>, session: &mut Session) {
        tracing::info!("A debugging session ends with its connection");
        executor.reactor.engine.borrow_mut().abandon(self.script.run.take());
        self.script.leave(executor, session);
    }

    fn end(
        &mut self,
        executor: &mut Executor<'_>,
        session: &mut Session,
        entry: &'static Entry,
        args: &Args<'_>,
        reply: &Reply<'_>,
    ) -> Step {
        self.script.leave(executor, session);
        tracing::info!("A debugging session ends");
        end_session(session, &self.link, reply);
        // Nobody sees what a rehearsal comes to.
        if self.target == Target::Dataset {
            executor.note_since(self.script.figures.began, session, entry, args, reply);
        }
        Step::Ended
    }
}

/// What is left to be shown, the end of the session, and the script's reply. Then the connection is closed, by which clients
/// know that it is one for commands no more.
fn end_session(session: &mut Session, link: &Link, reply: &Reply<'_>) {
    let mut exchange = link.0.lock();
    exchange.lines.push(END.to_vec());
    exchange.flush();
    session.out.append(&mut exchange.answers);
    session.reply(reply);
    session.client.close(Close::AfterReplies);
}
