//! The connection to this server's primary: one task for each attempt, on the first reactor.
//!
//! It knows neither handshakes nor roles: bytes go to the state machine, and what that decides comes back as orders.
//!
//! Invariants: a command of the stream is run and its bytes are appended under one hold of the guard, while this attempt
//! is the one in use; what a pause holds back is neither run nor appended, nor is anything behind it.

use std::future::poll_fn;
use std::io::{self, Read};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::sync::oneshot;

use super::Server;
use super::admission::{Conditions, Hold, find_entry, wrong_arity};
use super::client::{Client, Close, Traits};
use super::execute::Executor;
use super::reactor::{READ_BUFFER, Reactor};
use super::roles::{GUARD_PAUSE, LinkOrder};
use super::session::{Origin, Session};
use crate::command::{Args, Flags};
use crate::protocol::ErrorReply;
use crate::protocol::request::{Argument, Limits, Parsed, RequestParser};
use crate::rdb::Loaded;
use crate::replication::{Address, Attempt};
use crate::scripting::Registry;

/// What the task is to do, in order. It ends when nobody can give it orders any more.
#[derive(Debug)]
pub enum ToLink {
    Send(Vec<u8>),
    BeginLoad { length: Option<u64> },
    Feed(Bytes),
    FinishLoad,
    AbortLoad,
    Apply(Bytes),
}

/// Pieces of a snapshot that may wait for the loader.
const CHUNKS: usize = 16;

/// What is applied as a whole: a command, or a transaction's.
#[derive(Debug, Default)]
struct Unit {
    bytes: Vec<u8>,
    /// Each command's arguments, in `bytes`.
    commands: Vec<Vec<Argument>>,
    is_transaction: bool,
}

impl Unit {
    /// Adds a command: its bytes, and its arguments as they stand behind `before` other bytes.
    fn push(&mut self, bytes: &[u8], before: usize, arguments: &[Argument]) {
        let place = |argument: &Argument| Argument {
            start: argument.start - before + self.bytes.len(),
            len: argument.len,
        };
        self.commands.push(arguments.iter().map(place).collect());
        self.bytes.extend_from_slice(bytes);
    }

    fn calls(&self) -> impl Iterator<Item = Vec<&[u8]>> {
        self.commands
            .iter()
            .map(|arguments| arguments.iter().map(|argument| argument.of(&self.bytes)).collect())
    }

    /// Asks for an acknowledgement, which counts the question itself.
    fn asks(&self) -> bool {
        !self.is_transaction
            && self.calls().any(|args| {
                args[0].eq_ignore_ascii_case(b"replconf")
                    && args.get(1).is_some_and(|word| word.eq_ignore_ascii_case(b"getack"))
            })
    }
}

struct Link {
    server: Arc<Server>,
    reactor: Rc<Reactor>,
    attempt: Attempt,
    socket: TcpStream,
    loader: Option<mpsc::Sender<Bytes>>,
    loading: Option<oneshot::Receiver<Result<Loaded, String>>>,
    session: Session,
    input: Vec<u8>,
    parser: RequestParser,
    /// A transaction whose end has not come.
    transaction: Option<Unit>,
    /// What a pause holds back: the next unit to apply.
    held: Option<Unit>,
    /// Whether the end of the pause is going to be told.
    is_waiting: bool,
}

/// Makes the links that are asked for.
pub async fn make_links(server: Arc<Server>, reactor: Rc<Reactor>, mut asked: UnboundedReceiver<LinkOrder>) {
    while let Some(order) = asked.recv().await {
        tokio::task::spawn_local(run(server.clone(), reactor.clone(), order));
    }
}

async fn run(server: Arc<Server>, reactor: Rc<Reactor>, order: LinkOrder) {
    let LinkOrder { attempt, address, mut orders } = order;
    let connected = tokio::select! {
        connected = TcpStream::connect((address.host.as_str(), address.port)) => connected,
        // Nothing is ordered before there is a connection: this attempt was given up.
        _ = orders.recv() => return,
    };
    let outcome = match connected {
        Ok(socket) => {
            if !server.config().repl_disable_tcp_nodelay {
                let _ = socket.set_nodelay(true);
            }
            server.turn_soon(|roles, turn| roles.replication.link_connected(attempt, turn)).await;
            let client = Arc::new(client_of(&server, &socket, &address));
            server.clients.add(client.clone());
            let mut session = Session::new(client.clone(), Origin::Primary);
            session.authenticated = true;
            let link = Link {
                server: server.clone(),
                reactor,
                attempt,
                socket,
                loader: None,
                loading: None,
                session,
                input: Vec::new(),
                parser: RequestParser::new(),
                transaction: None,
                held: None,
                is_waiting: false,
            };
            let outcome = link.converse(&mut orders).await;
            server.clients.remove(client.number);
            outcome
        }
        Err(error) => Err(error),
    };
    if let Err(error) = outcome {
        let reason = error.to_string();
        server.turn_soon(|roles, turn| roles.replication.link_lost(attempt, &reason, turn)).await;
    }
}

/// The primary as CLIENT LIST shows it, so that CLIENT KILL can cut the link.
fn client_of(server: &Server, socket: &TcpStream, address: &Address) -> Client {
    let peer = socket.peer_addr().map_or_else(|_| address.to_string(), |peer| peer.to_string());
    let local = socket.local_addr().map_or_else(|_| String::new(), |local| local.to_string());
    let number = server.clients.next_number();
    let client = Client::new(number, peer, local, socket.as_raw_fd(), server.now_ms());
    client.set(Traits::PRIMARY, true);
    client
}

/// How long a link works before others get a turn.
const TURN: Duration = Duration::from_millis(1);

impl Link {
    /// Until the attempt is given up (`Ok`) or the connection fails.
    async fn converse(mut self, orders: &mut UnboundedReceiver<ToLink>) -> io::Result<()> {
        let mut buffer = BytesMut::new();
        let mut turn_began = Instant::now();
        loop {
            // While a replica catches up there is always more to read. The runtime's own budget is no help: it lets hundreds
            // of such turns pass before it looks whether anybody else has sent something.
            if turn_began.elapsed() > TURN {
                tokio::task::yield_now().await;
                turn_began = Instant::now();
            }
            while let Ok(order) = orders.try_recv() {
                self.obey(order).await?;
            }
            let (wants_input, is_current) = {
                let roles = self.server.roles.lock();
                let link = roles.replication.link();
                let settings = &roles.replication.settings().link;
                let wants = link.is_some_and(|link| link.wants_input(self.attempt, settings));
                (wants, roles.is_current_link(self.attempt))
            };
            if !is_current {
                return Ok(());
            }
            let limit = self.server.config().client_query_buffer_limit;
            let wants_input = wants_input && (self.held.is_none() || self.unapplied() < limit as usize);
            buffer.reserve(READ_BUFFER);
            let loading = async {
                match &mut self.loading {
                    Some(loading) => loading.await.unwrap_or_else(|_| Err("the loader ended".to_owned())),
                    None => std::future::pending().await,
                }
            };
            let attempt = self.attempt;
            let client = self.session.client.clone();
            let killed = poll_fn(|context| {
                client.register(context);
                if client.closing() == Close::No { Poll::Pending } else { Poll::Ready(()) }
            });
            let nudged = poll_fn(|context| {
                client.register(context);
                if client.has_mail() { Poll::Ready(()) } else { Poll::Pending }
            });
            tokio::select! {
                () = killed => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "it was closed by a client"));
                }
                order = orders.recv() => match order {
                    Some(order) => self.obey(order).await?,
                    None => return Ok(()),
                },
                () = nudged => {
                    self.session.client.take_mail(&mut Vec::new());
                    self.is_waiting = false;
                    self.apply(b"").await?;
                }
                result = loading => {
                    self.loading = None;
                    self.loader = None;
                    self.server.turn_soon(|roles, turn| roles.finished_loading(attempt, result, turn)).await;
                }
                count = self.socket.read_buf(&mut buffer), if wants_input => {
                    let count = count?;
                    if count == 0 {
                        return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the primary closed the connection"));
                    }
                    self.server.stats.replication_bytes_in.fetch_add(count as u64, Relaxed);
                    self.session.client.figures.bytes_in.fetch_add(count as u64, Relaxed);
                    self.session.client.figures.last_interaction_ms.store(self.server.now_ms(), Relaxed);
                    let bytes = buffer.split().freeze();
                    self.server
                        .turn_soon(|roles, turn| roles.replication.link_received(attempt, bytes, turn))
                        .await;
                }
            }
        }
    }

    async fn obey(&mut self, order: ToLink) -> io::Result<()> {
        match order {
            ToLink::Send(bytes) => self.socket.write_all(&bytes).await?,
            ToLink::BeginLoad { length } => self.begin_load(length)?,
            ToLink::Feed(bytes) => {
                if let Some(loader) = &self.loader {
                    // A loader that has failed reports so itself.
                    loader.send(bytes).await.ok();
                }
            }
            ToLink::FinishLoad => self.loader = None,
            ToLink::AbortLoad => (self.loader, self.loading) = (None, None),
            ToLink::Apply(bytes) => self.apply(&bytes).await?,
        }
        Ok(())
    }

    /// Starts the thread that makes a dataset of the snapshot.
    fn begin_load(&mut self, length: Option<u64>) -> io::Result<()> {
        let (feed, pieces) = mpsc::channel(CHUNKS);
        let (report, loading) = oneshot::channel();
        let server = self.server.clone();
        std::thread::Builder::new().name("sync-load".into()).spawn(move || {
            // What is there is served meanwhile.
            super::process::give_way();
            let mut input = Pieces { pieces, current: Bytes::new() };
            let loaded = server.read_rdb_from(&mut input, length.unwrap_or(0), false).and_then(|loaded| {
                server.load_libraries(&Registry::default(), &loaded.libraries)?;
                Ok(loaded)
            });
            // What lies behind the end of the snapshot (nothing, if the primary is right) is swallowed.
            let _ = io::copy(&mut input, &mut io::sink());
            if let Err(error) = &loaded {
                // Also when nobody waits for the report any more.
                tracing::warn!("Internal error in RDB, the snapshot of the primary was not loaded: {error}");
            }
            report.send(loaded.map_err(|error| error.to_string())).ok();
        })?;
        (self.loader, self.loading) = (Some(feed), Some(loading));
        Ok(())
    }

    /// Runs the whole commands of the stream that have come.
    async fn apply(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.input.extend_from_slice(bytes);
        let (server, reactor) = (self.server.clone(), self.reactor.clone());
        let mut executor = Executor::new(&server, &reactor);
        while executor.hold_write().is_err() {
            tokio::time::sleep(GUARD_PAUSE).await;
        }
        let outcome = self.run_commands(&mut executor);
        executor.finish_batch();
        outcome
    }

    fn run_commands(&mut self, executor: &mut Executor<'_>) -> io::Result<()> {
        if let Some(database) = executor.core().stream.selected() {
            self.session.select(database);
        }
        while self.server.roles.lock().is_current_link(self.attempt) {
            let unit = match self.held.take() {
                Some(unit) => unit,
                None => match self.next_unit(executor)? {
                    Some(unit) => unit,
                    None => break,
                },
            };
            if self.is_held_back(&unit) {
                self.held = Some(unit);
                break;
            }
            self.run_unit(executor, &unit);
        }
        let consumed = self.parser.consumed();
        self.parser.discard(consumed);
        self.input.drain(..consumed);
        self.session.client.figures.query_buffer.store(self.unapplied(), Relaxed);
        Ok(())
    }

    /// Bytes of the stream that have come and are not applied.
    fn unapplied(&self) -> usize {
        let kept = [&self.held, &self.transaction];
        self.input.len() + kept.into_iter().flatten().map(|unit| unit.bytes.len()).sum::<usize>()
    }

    /// The next whole unit that has come, past lines that are none of the stream.
    fn next_unit(&mut self, executor: &mut Executor<'_>) -> io::Result<Option<Unit>> {
        let attempt = self.attempt;
        let mut arguments: Vec<Argument> = Vec::new();
        while self.server.roles.lock().is_current_link(attempt) {
            let start = self.parser.consumed();
            if !self.parser.is_inside_request() && self.input.get(start).is_some_and(|byte| *byte != b'*') {
                let Some(length) = memchr::memchr(b'\n', &self.input[start..]) else { break };
                self.parser.discard(start);
                let line: Vec<u8> = self.input.drain(..=start + length).skip(start).collect();
                let line = line.strip_suffix(b"\n").unwrap_or(&line);
                let line = line.strip_suffix(b"\r").unwrap_or(line);
                self.server.turn(executor.core_mut(), |roles, turn| {
                    roles.replication.link_line(attempt, line, turn)
                });
                continue;
            }
            arguments.clear();
            match self.parser.next(&mut self.input, &Limits::STREAM, &mut arguments) {
                Ok(Parsed::Request { .. }) => {
                    if let Some(unit) = self.collect(start..self.parser.consumed(), &arguments) {
                        return Ok(Some(unit));
                    }
                }
                Ok(Parsed::Nothing | Parsed::EmptyLine) => {}
                Ok(Parsed::Incomplete { .. }) => break,
                Err(error) => {
                    let text = format!("Protocol error from primary: {error}");
                    return Err(io::Error::new(io::ErrorKind::InvalidData, text));
                }
            }
        }
        Ok(None)
    }

    /// Makes a unit of the command that stands there in the input, or keeps it until its transaction is whole.
    fn collect(&mut self, place: Range<usize>, arguments: &[Argument]) -> Option<Unit> {
        let name = arguments[0].of(&self.input);
        let (before, bytes) = (place.start, &self.input[place]);
        if let Some(unit) = &mut self.transaction {
            if name.eq_ignore_ascii_case(b"exec") {
                unit.bytes.extend_from_slice(bytes);
                return self.transaction.take();
            }
            unit.push(bytes, before, arguments);
            return None;
        }
        if name.eq_ignore_ascii_case(b"multi") {
            self.transaction =
                Some(Unit { bytes: bytes.to_vec(), commands: Vec::new(), is_transaction: true });
            return None;
        }
        let mut unit = Unit::default();
        unit.push(bytes, before, arguments);
        Some(unit)
    }

    /// Whether a pause holds this unit back. If so, its end will be told.
    fn is_held_back(&mut self, unit: &Unit) -> bool {
        let server = self.server.clone();
        if !server.conditions.has(Conditions::PAUSED) {
            return false;
        }
        let entries = || unit.calls().filter_map(|args| find_entry(&server, &args));
        let writes = entries().any(|entry| entry.flags.has(Flags::WRITE));
        let may_replicate = entries().any(|entry| entry.flags.has(Flags::MAY_REPLICATE));
        if !std::mem::replace(&mut self.is_waiting, true) {
            // First, so that an end between this and the look is told.
            server.hold(Hold::Pause, &self.session.client);
        }
        server.pause_holds(writes, may_replicate)
    }

    /// Runs a unit; then its bytes are part of the stream.
    fn run_unit(&mut self, executor: &mut Executor<'_>, unit: &Unit) {
        let asks = unit.asks();
        if unit.is_transaction {
            executor.begin_unit();
        }
        for args in unit.calls().filter(|_| !asks) {
            self.call(executor, &args);
        }
        if unit.is_transaction {
            executor.end_unit(&self.session);
        }
        let database = self.session.database;
        executor.core_mut().stream.append_received(&unit.bytes, Some(database));
        if asks {
            let server = self.server.clone();
            server.turn(executor.core_mut(), |roles, turn| roles.replication.acknowledge(turn));
        }
    }

    fn call(&mut self, executor: &mut Executor<'_>, args: &Args<'_>) {
        match find_entry(&self.server, args) {
            Some(entry) if entry.arity_fits(args.len()) => {
                executor.apply(&mut self.session, entry, args);
                if let Some(error) = self.session.refusal.take() {
                    cannot_follow(&error, entry.full_name.as_str());
                }
            }
            Some(entry) => cannot_follow(&wrong_arity(entry), entry.full_name.as_str()),
            None => {
                let name = String::from_utf8_lossy(&args[0][..args[0].len().min(64)]).into_owned();
                cannot_follow(&ErrorReply::new("ERR unknown command"), &name);
            }
        }
    }
}

/// From here on the datasets differ: a command that the primary could run failed.
fn cannot_follow(error: &ErrorReply, name: &str) {
    tracing::warn!(
        "== CRITICAL == This replica is sending an error to its primary: '{}' after processing the command '{name}'",
        String::from_utf8_lossy(&error.0)
    );
}

/// A snapshot as it arrives.
struct Pieces {
    pieces: mpsc::Receiver<Bytes>,
    current: Bytes,
}

impl Read for Pieces {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.current.is_empty() {
            match self.pieces.blocking_recv() {
                Some(piece) => self.current = piece,
                None => return Ok(0),
            }
        }
        let count = out.len().min(self.current.len());
        out[..count].copy_from_slice(&self.current.split_to(count));
        Ok(count)
    }
}
