//! One connection: bytes in, requests run, replies out. It must not know what any command does.
//!
//! A batch is all requests that one read completed. It is parsed whole, its entries are prefetched, then it is run under
//! as few guards as its commands allow; its replies go out when the other connections that were ready have run theirs.
//!
//! Invariants: a request is run once, in order; while the connection waits (blocked, held, in a slow call) it runs none;
//! no guard is held when this task sleeps, except by a script that runs for it.

mod debugging;

use std::cell::RefMut;
use std::future::poll_fn;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;

use super::Server;
use super::admission::{Hold, find_entry};
use super::blocking::Waiting;
use super::client::{Client, Close, Traits, Unblock};
use super::commandstats;
use super::config::ConfigReader;
use super::execute::{Execution, Executor, Unfinished};
use super::reactor::{READ_BUFFER, Reactor};
use super::script::ScriptInProgress;
use super::script::debugged::Debugged;
use super::scripts_running::{Kill, RunningScript};
use super::session::{Origin, Session};
use super::table::Entry;
use super::transaction;
use crate::command::Args;
use crate::protocol::request::{Argument, Limits, Parsed, RequestParser, is_cross_protocol};
use crate::protocol::{ErrorReply, Reply};
use crate::types::dictionary;

/// A connected stream socket.
#[derive(Debug)]
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    pub fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_read(context, buffer),
            Socket::Unix(stream) => Pin::new(stream).poll_read(context, buffer),
        }
    }

    pub fn poll_write(&mut self, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self {
            Socket::Tcp(stream) => Pin::new(stream).poll_write(context, bytes),
            Socket::Unix(stream) => Pin::new(stream).poll_write(context, bytes),
        }
    }

    pub fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Tcp(stream) => stream.try_write(bytes),
            Socket::Unix(stream) => stream.try_write(bytes),
        }
    }
}

/// What the task of a connection woke for.
enum Wake {
    /// Bytes lie at the start of the reactor's read buffer.
    Read(usize),
    Mail(Option<Unblock>),
    Timer,
    Close,
}

/// A parsed request: its arguments are `arguments[first..first + count]`.
#[derive(Debug, Clone, Copy)]
struct Request {
    entry: Option<&'static Entry>,
    first: usize,
    count: usize,
    /// Where it ends in the bytes that were parsed.
    end: usize,
}

/// Where requests are run. It outlives the connection's borrow of itself, so that an executor can go on with a script
/// after the batch that began it.
#[derive(Clone, Copy)]
struct Home<'h> {
    server: &'h Arc<Server>,
    reactor: &'h Rc<Reactor>,
}

/// Why a batch stopped.
enum Stop<'h> {
    /// Everything whole was run.
    Empty,
    /// A call that is not over: a script, or a transaction that may hold some.
    Slow {
        executor: Executor<'h>,
        call: SlowCall,
        entry: &'static Entry,
        args: Vec<Vec<u8>>,
    },
    /// A script is debugged from here on.
    Debugged {
        executor: Executor<'h>,
        debugged: Box<Debugged>,
        entry: &'static Entry,
        args: Vec<Vec<u8>>,
    },
    Held(Postponed),
    Wait(Waiting),
    Away(Arc<RunningScript>),
    Replicate(super::replicas::Handover),
    /// The peer sent what is no request: answer and close.
    Bad(ErrorReply),
    /// The peer is not a client at all: close.
    Hostile,
}

enum SlowCall {
    Script(Box<ScriptInProgress>),
    Transaction,
}

/// What the connection is waiting for besides requests.
enum State {
    Ready,
    /// A request is to be tried again.
    Held(Postponed),
    Waiting(Waiting),
    /// Its script goes on on another thread.
    Away(Arc<RunningScript>),
}

/// A request that was held back.
struct Postponed {
    hold: Hold,
    entry: Option<&'static Entry>,
    args: Vec<Vec<u8>>,
}

pub struct Connection {
    server: Arc<Server>,
    reactor: Rc<Reactor>,
    socket: Socket,
    session: Session,
    config: ConfigReader,
    /// Bytes received and not yet run.
    input: Vec<u8>,
    parser: RequestParser,
    requests: Vec<Request>,
    arguments: Vec<Argument>,
    /// How much of `session.out` the socket has taken.
    sent: usize,
    /// Whether the other connections that are ready run before the replies go out: then the peers are woken one behind
    /// the other, and none takes the processor from what is yet to run.
    gives_way: bool,
    state: State,
    timer: Option<Pin<Box<Sleep>>>,
}

/// Requests parsed before they are run: bounds what a batch holds and how long others wait for it.
const BATCH_REQUESTS: usize = 512;
/// An inline request of one word of one letter is two bytes; written as RESP it is eleven.
const MOST_RESP_PER_BYTE: usize = 6;

impl Connection {
    pub fn new(server: Arc<Server>, reactor: Rc<Reactor>, socket: Socket, client: Arc<Client>) -> Self {
        let mut session = Session::new(client, Origin::Client);
        super::users::begin(&server, &mut session);
        Connection {
            config: server.config.reader(),
            server,
            reactor,
            socket,
            session,
            input: Vec::new(),
            parser: RequestParser::new(),
            requests: Vec::new(),
            arguments: Vec::new(),
            sent: 0,
            gives_way: false,
            state: State::Ready,
            timer: None,
        }
    }

    /// Serves the connection to its end.
    pub async fn serve(mut self) {
        let (server, reactor) = (self.server.clone(), self.reactor.clone());
        let handover = self.converse(Home { server: &server, reactor: &reactor }).await;
        if let State::Away(script) = &self.state {
            // Nobody wants its answer any more.
            script.stop(Kill::Yes);
        }
        super::commands::connection::leave(&self.server, &mut self.session).await;
        if let Some(handover) = handover {
            let rest = std::mem::take(&mut self.input);
            let out = self.session.out.split_off(self.sent);
            super::replicas::serve(self.server.clone(), self.socket, self.session, handover, out, rest).await;
        } else {
            let number = self.session.client.number;
            if self.session.client.is(Traits::ANNOUNCED) {
                self.server.connection_closed(number).await;
            }
            self.server.clients.remove(number);
        }
    }

    async fn converse(&mut self, home: Home<'_>) -> Option<super::replicas::Handover> {
        loop {
            let wake = poll_fn(|context| self.poll(context)).await;
            let stop = match wake {
                Wake::Read(count) => self.received(home, count),
                Wake::Mail(unblock) => self.mail(home, unblock).await,
                Wake::Timer => self.timed_out(home).await,
                Wake::Close => return None,
            };
            if let Some(handover) = self.stopped(home, stop).await {
                return Some(handover);
            }
            if self.over_limits() {
                return None;
            }
        }
    }

    /// Waits for bytes, mail, the timer or the end, and sends what is to be sent meanwhile.
    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Wake> {
        let client = &self.session.client;
        client.register(context);
        if client.closing() == Close::Now {
            return Poll::Ready(Wake::Close);
        }
        if client.has_mail() {
            let unblock = client.take_mail(&mut self.session.out);
            return Poll::Ready(Wake::Mail(unblock));
        }
        if std::mem::take(&mut self.gives_way) {
            context.waker().wake_by_ref();
            return Poll::Pending;
        }
        if self.poll_send(context).is_err() {
            return Poll::Ready(Wake::Close);
        }
        if self.sent == self.session.out.len() && self.session.client.closing() == Close::AfterReplies {
            return Poll::Ready(Wake::Close);
        }
        if let Some(timer) = &mut self.timer
            && Future::poll(timer.as_mut(), context).is_ready()
        {
            self.timer = None;
            return Poll::Ready(Wake::Timer);
        }
        if self.session.client.closing() == Close::No {
            let mut bytes = self.reactor.read_buffer();
            let mut buffer = ReadBuf::new(&mut bytes[..]);
            match self.socket.poll_read(context, &mut buffer) {
                Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                    return Poll::Ready(Wake::Read(buffer.filled().len()));
                }
                Poll::Ready(_) => return Poll::Ready(Wake::Close),
                Poll::Pending => {}
            }
        }
        Poll::Pending
    }

    fn poll_send(&mut self, context: &mut Context<'_>) -> io::Result<()> {
        while self.sent < self.session.out.len() {
            match self.socket.poll_write(context, &self.session.out[self.sent..]) {
                Poll::Ready(Ok(count)) => self.note_sent(count),
                Poll::Ready(Err(error)) => return Err(error),
                Poll::Pending => break,
            }
        }
        Ok(())
    }

    /// Tries to send the replies of a batch at once; what the socket does not take now is sent by `poll`.
    fn send(&mut self) {
        if self.sent < self.session.out.len()
            && let Ok(count) = self.socket.try_write(&self.session.out[self.sent..])
        {
            self.note_sent(count);
        }
    }

    fn note_sent(&mut self, count: usize) {
        self.sent += count;
        self.session.client.figures.bytes_out.fetch_add(count as u64, Relaxed);
        self.server.stats.bytes_out.fetch_add(count as u64, Relaxed);
        if self.sent == self.session.out.len() {
            self.session.out.clear();
            self.session.out.shrink_to(READ_BUFFER);
            self.sent = 0;
        }
        self.session.client.figures.output_buffer.store(self.session.out.len() - self.sent, Relaxed);
    }

    /// Bytes arrived at the start of the reactor's buffer.
    fn received<'h>(&mut self, home: Home<'h>, count: usize) -> Stop<'h> {
        self.count_received(count);
        let mut bytes = RefMut::map(home.reactor.read_buffer(), |bytes| &mut bytes[..count]);
        let ready = matches!(self.state, State::Ready);
        if ready && self.input.is_empty() {
            let (consumed, stop) = self.run_batches(home, &mut bytes);
            self.input.extend_from_slice(&bytes[consumed..]);
            return stop;
        }
        self.input.extend_from_slice(&bytes);
        drop(bytes);
        if ready { self.run_input(home) } else { Stop::Empty }
    }

    fn count_received(&self, count: usize) {
        let figures = &self.session.client.figures;
        figures.bytes_in.fetch_add(count as u64, Relaxed);
        figures.last_interaction_ms.store(self.server.now_ms(), Relaxed);
        self.server.stats.bytes_in.fetch_add(count as u64, Relaxed);
    }

    /// Runs what lies in `input`.
    fn run_input<'h>(&mut self, home: Home<'h>) -> Stop<'h> {
        let mut input = std::mem::take(&mut self.input);
        let (consumed, stop) = self.run_batches(home, &mut input);
        input.drain(..consumed);
        input.shrink_to(READ_BUFFER.max(input.len()));
        self.input = input;
        stop
    }

    /// Runs all whole requests at the front of `bytes`; returns how many bytes are done with. The parser then stands at
    /// the start of what is left.
    fn run_batches<'h>(&mut self, home: Home<'h>, bytes: &mut [u8]) -> (usize, Stop<'h>) {
        loop {
            let bad = self.parse(bytes);
            if self.requests.is_empty() && bad.is_none() {
                break;
            }
            let (done, stop) = self.run_requests(home, bytes);
            if !matches!(stop, Stop::Empty) || self.session.client.closing() != Close::No {
                // What was parsed beyond is parsed again when it is its turn.
                self.parser = RequestParser::new();
                return (done, stop);
            }
            if let Some(stop) = bad {
                return (bytes.len(), stop);
            }
        }
        let consumed = self.parser.consumed();
        self.parser.discard(consumed);
        (consumed, Stop::Empty)
    }

    /// Parses a batch into `requests` and `arguments`.
    fn parse(&mut self, bytes: &mut [u8]) -> Option<Stop<'static>> {
        self.requests.clear();
        self.arguments.clear();
        let limits = Limits {
            unauthenticated: !self.session.authenticated && !self.server.users.are_open_to_all(),
            ..Limits::client(self.config.get().proto_max_bulk_len)
        };
        while self.requests.len() < BATCH_REQUESTS {
            let inline = bytes.get(self.parser.consumed()).is_some_and(|byte| *byte != b'*');
            match self.parser.next(bytes, &limits, &mut self.arguments) {
                Ok(Parsed::Request { arguments: count }) => {
                    let first = self.arguments.len() - count;
                    let name = self.arguments[first].of(bytes);
                    let shown = [name, self.arguments[(first + 1).min(self.arguments.len() - 1)].of(bytes)];
                    let entry = find_entry(&self.server, &shown[..count.min(2)]);
                    if entry.is_none() && is_cross_protocol(name) {
                        self.warn_of_cross_protocol();
                        return Some(Stop::Hostile);
                    }
                    self.requests.push(Request { entry, first, count, end: self.parser.consumed() });
                    if inline {
                        // Its arguments were unescaped in place, so it must not be parsed again.
                        break;
                    }
                }
                Ok(Parsed::Nothing | Parsed::EmptyLine) => {}
                Ok(Parsed::Incomplete { .. }) => break,
                Err(error) => return Some(Stop::Bad(error.reply())),
            }
        }
        None
    }

    #[cold]
    fn warn_of_cross_protocol(&self) {
        tracing::warn!(
            "Possible SECURITY ATTACK detected. It looks like somebody is sending POST or Host: commands to Valkey. \
             This is likely due to an attacker attempting to use Cross Protocol Scripting to compromise your Valkey \
             instance. Connection from {} aborted.",
            self.session.client.address
        );
    }

    /// Runs the parsed requests. Returns the bytes up to the end of the last one that was taken.
    fn run_requests<'h>(&mut self, home: Home<'h>, bytes: &[u8]) -> (usize, Stop<'h>) {
        let mut executor = Executor::new(home.server, home.reactor);
        // For a single request the way round costs more than it brings.
        self.gives_way = self.requests.len() > 1;
        if self.gives_way
            && prefetch(&mut executor, self.session.database, &self.requests, &self.arguments, bytes)
        {
            executor.look_at_clock();
        }
        self.session.most_request_bytes = bytes.len().saturating_mul(MOST_RESP_PER_BYTE);
        let mut args: Vec<&[u8]> = Vec::with_capacity(8);
        let mut done = 0;
        for request in &self.requests {
            args.clear();
            let arguments = &self.arguments[request.first..request.first + request.count];
            args.extend(arguments.iter().map(|argument| argument.of(bytes)));
            done = request.end;
            match run_one(&mut executor, &mut self.session, request.entry, &args) {
                Ok(()) => {}
                Err(unfinished) => return (done, stop(executor, *unfinished, request.entry, &args)),
            }
            if self.session.client.closing() != Close::No {
                break;
            }
        }
        executor.delete_expired_seen();
        executor.finish_batch();
        (done, Stop::Empty)
    }

    /// Acts on why a batch stopped, until there is nothing to run but what has yet to arrive.
    async fn stopped<'h>(&mut self, home: Home<'h>, mut stop: Stop<'h>) -> Option<super::replicas::Handover> {
        loop {
            stop = match stop {
                Stop::Empty => return None,
                Stop::Slow { mut executor, call, entry, args } => {
                    executor.make_durable();
                    self.send();
                    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                    go_on(&mut executor, &mut self.session, call, entry, &args).await;
                    drop(executor);
                    if self.session.client.closing() == Close::No {
                        self.run_input(home)
                    } else {
                        Stop::Empty
                    }
                }
                Stop::Debugged { executor, debugged, entry, args } => {
                    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                    self.debug(home, executor, debugged, entry, &args).await;
                    Stop::Empty
                }
                Stop::Held(postponed) => {
                    self.hold(postponed);
                    Stop::Empty
                }
                Stop::Wait(waiting) => {
                    self.wait(waiting);
                    Stop::Empty
                }
                Stop::Away(script) => {
                    self.session.client.set(Traits::AWAY, true);
                    self.state = State::Away(script);
                    Stop::Empty
                }
                Stop::Replicate(handover) => return Some(handover),
                Stop::Bad(error) => {
                    self.server.stats.count_error(&error);
                    self.session.reply(&Reply::Error(error));
                    self.session.client.close(Close::AfterReplies);
                    Stop::Empty
                }
                Stop::Hostile => {
                    self.session.client.close(Close::Now);
                    Stop::Empty
                }
            }
        }
    }

    fn hold(&mut self, postponed: Postponed) {
        let patience = self.server.hold(postponed.hold, &self.session.client);
        self.session.client.set(Traits::POSTPONED, true);
        self.timer = patience.map(|patience| Box::pin(tokio::time::sleep(patience)));
        self.state = State::Held(postponed);
    }

    fn wait(&mut self, waiting: Waiting) {
        self.session.client.set(Traits::BLOCKED, true);
        self.timer = waiting.timeout.map(|timeout| Box::pin(tokio::time::sleep(clamp(timeout))));
        self.state = State::Waiting(waiting);
    }

    /// Mail has been put behind the replies; it may end what the connection waits for.
    async fn mail<'h>(&mut self, home: Home<'h>, unblock: Option<Unblock>) -> Stop<'h> {
        match (&self.state, unblock) {
            (State::Waiting(_) | State::Away(_), Some(Unblock::Answered)) => self.resume(home),
            (State::Waiting(_), Some(Unblock::TimedOut)) => self.timed_out(home).await,
            (State::Waiting(waiting), Some(Unblock::Error)) if waiting.interruptible => {
                let error = ErrorReply::new("UNBLOCKED client unblocked via CLIENT UNBLOCK");
                self.give_up(home, move |_| Reply::Error(error)).await
            }
            (State::Held(_), _) => self.resume(home),
            (State::Ready | State::Waiting(_) | State::Away(_), _) => Stop::Empty,
        }
    }

    async fn timed_out<'h>(&mut self, home: Home<'h>) -> Stop<'h> {
        match std::mem::replace(&mut self.state, State::Ready) {
            State::Held(postponed) => {
                self.state = State::Held(postponed);
                self.resume(home)
            }
            State::Ready => self.resume(home),
            State::Away(script) => {
                self.state = State::Away(script);
                Stop::Empty
            }
            State::Waiting(waiting) => self.give_up(home, waiting.on_timeout).await,
        }
    }

    /// Waits no longer, and answers instead of what was waited for.
    async fn give_up<'h>(
        &mut self,
        home: Home<'h>,
        answer: impl FnOnce(&Arc<Server>) -> Reply<'static>,
    ) -> Stop<'h> {
        self.server.forget_waiting(&self.session.client).await;
        // Somebody may have answered before the wait could be taken back.
        if self.session.client.take_mail(&mut self.session.out).is_none() {
            let reply = answer(&self.server);
            commandstats::record_unblocked(&self.server, &self.session.client, Duration::ZERO, &reply);
            self.session.reply(&reply);
        }
        self.resume(home)
    }

    /// Goes on with the requests after a wait.
    fn resume<'h>(&mut self, home: Home<'h>) -> Stop<'h> {
        let state = std::mem::replace(&mut self.state, State::Ready);
        self.timer = None;
        self.session.client.set(Traits::BLOCKED, false);
        self.session.client.set(Traits::AWAY, false);
        self.session.client.set(Traits::POSTPONED, false);
        match state {
            State::Held(postponed) => {
                let mut executor = Executor::new(home.server, home.reactor);
                let args: Vec<&[u8]> = postponed.args.iter().map(Vec::as_slice).collect();
                self.session.most_request_bytes = usize::MAX;
                match run_one(&mut executor, &mut self.session, postponed.entry, &args) {
                    Ok(()) => {
                        executor.finish_batch();
                        drop(executor);
                        self.run_input(home)
                    }
                    Err(unfinished) => stop(executor, *unfinished, postponed.entry, &args),
                }
            }
            State::Ready | State::Waiting(_) | State::Away(_) => self.run_input(home),
        }
    }

    /// Has the client exceeded what it may buffer here?
    fn over_limits(&mut self) -> bool {
        let figures = &self.session.client.figures;
        figures.query_buffer.store(self.input.len(), Relaxed);
        let waiting_bytes = self.session.out.len() - self.sent;
        figures.output_buffer.store(waiting_bytes, Relaxed);
        if waiting_bytes > READ_BUFFER {
            self.server.check_output(&self.session.client, waiting_bytes);
        }
        let limit = self.config.get().client_query_buffer_limit as usize;
        if self.input.len() > limit {
            self.server.stats.query_buffer_disconnections.fetch_add(1, Relaxed);
            tracing::warn!(
                "Closing client that reached max query buffer length: {}",
                super::commands::client::describe(&self.server, &self.session.client)
            );
            return true;
        }
        false
    }
}

/// Runs one request; pushes that it caused for its own client come right behind its reply.
fn run_one(
    executor: &mut Executor<'_>,
    session: &mut Session,
    entry: Option<&'static Entry>,
    args: &Args<'_>,
) -> Execution {
    let execution = executor.run(session, entry, args);
    // One that waits, or whose script goes on elsewhere, may have been answered already: `poll` must see that it was.
    if execution.is_ok() && session.client.has_mail() {
        session.client.take_mail(&mut session.out);
    }
    execution
}

/// What comes of a request that is not done. The batch ends, unless the request goes on with its executor.
fn stop<'h>(
    mut executor: Executor<'h>,
    unfinished: Unfinished,
    entry: Option<&'static Entry>,
    args: &Args<'_>,
) -> Stop<'h> {
    let owned = || args.iter().map(|arg| arg.to_vec()).collect();
    match (unfinished, entry) {
        (Unfinished::Suspended(script), Some(entry)) => {
            Stop::Slow { executor, call: SlowCall::Script(script), entry, args: owned() }
        }
        (Unfinished::Transaction, Some(entry)) => {
            Stop::Slow { executor, call: SlowCall::Transaction, entry, args: owned() }
        }
        (Unfinished::Debugged(debugged), Some(entry)) => {
            Stop::Debugged { executor, debugged, entry, args: owned() }
        }
        (unfinished, _) => {
            executor.delete_expired_seen();
            executor.finish_batch();
            match unfinished {
                Unfinished::Held(hold) => Stop::Held(Postponed { hold, entry, args: owned() }),
                Unfinished::Wait(waiting) => Stop::Wait(waiting),
                Unfinished::Away(script) => Stop::Away(script),
                Unfinished::Replicate(handover) => Stop::Replicate(handover),
                Unfinished::Suspended(_) | Unfinished::Debugged(_) | Unfinished::Transaction => Stop::Empty,
            }
        }
    }
}

/// Goes on with a call that was not over in its batch, to its end.
async fn go_on(
    executor: &mut Executor<'_>,
    session: &mut Session,
    call: SlowCall,
    entry: &'static Entry,
    args: &Args<'_>,
) {
    // What the batch answered before it may have been sent.
    session.reply_start = session.out.len();
    match call {
        SlowCall::Script(script) => script.go_on(executor, session, entry, args).await,
        SlowCall::Transaction => transaction::execute_with_scripts(executor, session, entry, args).await,
    }
    session.skipped();
    if session.client.has_mail() {
        session.client.take_mail(&mut session.out);
    }
    executor.finish_batch();
}

/// Timers far beyond a year are as good as none and would overflow the clock.
fn clamp(timeout: Duration) -> Duration {
    timeout.min(Duration::from_secs(400 * 24 * 3600))
}

/// A dataset of fewer entries lies in the cache by itself.
const PREFETCH_FROM_ENTRIES: usize = 1 << 14;

/// Brings the entries that a batch will look up into the cache: all segment slots first, then all entries, so that the
/// misses overlap. Returns whether that was worth its time.
fn prefetch(
    executor: &mut Executor<'_>,
    database: usize,
    requests: &[Request],
    arguments: &[Argument],
    bytes: &[u8],
) -> bool {
    let has_keys = |request: &&Request| {
        request.count > 1 && request.entry.is_some_and(|entry| !entry.spec.keys.is_empty())
    };
    let Some(first) = requests.iter().find(has_keys).and_then(|request| request.entry) else { return false };
    // The guard that the first call will want anyway.
    let held = if Executor::may_write(first) { executor.hold_write() } else { executor.hold_read() };
    if held.is_err() {
        return false;
    }
    let entries = executor.core().keyspace.database(database).entries();
    if entries.len() < PREFETCH_FROM_ENTRIES {
        return false;
    }
    let hashes: Vec<u64> = requests
        .iter()
        .filter(has_keys)
        .map(|request| dictionary::hash(arguments[request.first + 1].of(bytes)))
        .collect();
    for hash in &hashes {
        entries.prefetch_segment(*hash);
    }
    for hash in &hashes {
        entries.prefetch_item(*hash);
    }
    true
}
