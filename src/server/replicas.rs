//! Connections of replicas: the dataset, then the stream.
//!
//! A snapshot is written by a thread into bounded channels, so that a slow replica slows the thread and nothing else. The
//! stream is read from the backlog, a piece at a time, as the socket takes it.
//!
//! Invariant: bytes leave in the order of the orders; of the stream only what lies behind the position that was ordered.

use std::future::poll_fn;
use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::ReadBuf;
use tokio::sync::mpsc::{self, UnboundedReceiver};

use super::Server;
use super::client::{Client, Close, Traits};
use super::connection::Socket;
use super::persistence::Moment;
use super::roles::{GUARD_PATIENCE, GUARD_PAUSE};
use super::session::Session;
use crate::protocol::request::{Argument, Limits, Parsed, RequestParser};
use crate::replication::{ReplicationId, TransferId};

/// What a connection that becomes a replica's takes along.
#[derive(Debug)]
pub struct Handover {
    pub orders: UnboundedReceiver<ToReplica>,
}

/// What the connection of a replica is to do, in order.
#[derive(Debug)]
pub enum ToReplica {
    Send(Vec<u8>),
    StreamFrom(u64),
    /// Once the stream has been sent up to `position`: these bytes, then the end.
    SendAfterStream {
        position: u64,
        bytes: Vec<u8>,
    },
    Snapshot(mpsc::Receiver<Chunk>),
    Close,
}

/// A piece of a snapshot. A channel that ends without `End` has failed.
#[derive(Debug, Clone)]
pub enum Chunk {
    Bytes(Bytes),
    End,
}

/// Bytes of a piece of a snapshot, and pieces on their way.
const CHUNK_BYTES: usize = 64 * 1024;
const CHUNKS: usize = 16;
/// Bytes of the stream taken at once.
const STREAM_BYTES: usize = 64 * 1024;

pub fn chunk_channel() -> (mpsc::Sender<Chunk>, mpsc::Receiver<Chunk>) {
    mpsc::channel(CHUNKS)
}

/// A snapshot being sent, or lying in a file.
#[derive(Debug)]
pub struct Transfer {
    cancelled: Arc<AtomicBool>,
    path: Option<PathBuf>,
}

impl Transfer {
    /// Nobody needs it any more.
    pub fn end(self) {
        self.cancelled.store(true, Relaxed);
        if let Some(path) = self.path {
            // It may not have been written.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// Writes to several replicas; those that are gone are left out, and without any it fails.
struct Fan {
    replicas: Vec<mpsc::Sender<Chunk>>,
    buffer: Vec<u8>,
}

impl Fan {
    fn new(replicas: Vec<mpsc::Sender<Chunk>>) -> Self {
        Fan { replicas, buffer: Vec::with_capacity(CHUNK_BYTES) }
    }

    fn send(&mut self, chunk: &Chunk) -> io::Result<()> {
        self.replicas.retain(|replica| replica.blocking_send(chunk.clone()).is_ok());
        if self.replicas.is_empty() { Err(io::ErrorKind::BrokenPipe.into()) } else { Ok(()) }
    }

    fn finish(mut self) -> io::Result<()> {
        self.flush()?;
        self.send(&Chunk::End)
    }
}

impl Write for Fan {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= CHUNK_BYTES {
            self.flush()?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let chunk = Chunk::Bytes(std::mem::take(&mut self.buffer).into());
        self.send(&chunk)
    }
}

/// Streams a moment to replicas, ended by `mark`.
pub fn stream_snapshot(
    server: &Arc<Server>,
    transfer: TransferId,
    moment: Moment,
    mark: ReplicationId,
    replicas: Vec<mpsc::Sender<Chunk>>,
) -> Transfer {
    let cancelled = Arc::new(AtomicBool::new(false));
    let (owner, flag) = (server.clone(), cancelled.clone());
    start(server, transfer, move || {
        let mut fan = Fan::new(replicas);
        write!(fan, "$EOF:{mark}\r\n")?;
        owner.write_rdb(moment, false, &mut fan, &AtomicU64::new(0), &flag)?;
        fan.write_all(mark.as_str().as_bytes())?;
        fan.finish()
    });
    Transfer { cancelled, path: None }
}

/// Writes a moment into a file, for replicas that have to know its length.
pub fn prepare_snapshot(server: &Arc<Server>, transfer: TransferId, moment: Moment) -> Transfer {
    let cancelled = Arc::new(AtomicBool::new(false));
    let path = PathBuf::from(format!("temp-sync-{}-{transfer}.rdb", std::process::id()));
    let (owner, flag, file) = (server.clone(), cancelled.clone(), path.clone());
    start(server, transfer, move || {
        let mut out = io::BufWriter::with_capacity(1 << 18, std::fs::File::create(&file)?);
        let written = owner.write_rdb(moment, false, &mut out, &AtomicU64::new(0), &flag);
        if written.is_err() || flag.load(Relaxed) {
            let _ = std::fs::remove_file(&file);
        }
        written?;
        let length = out.into_inner().map_err(io::IntoInnerError::into_error)?.metadata()?.len();
        let mut core = owner.core.write();
        owner.turn(&mut core, |roles, turn| roles.replication.transfer_prepared(transfer, length, turn));
        Ok(())
    });
    Transfer { cancelled, path: Some(path) }
}

/// Runs the making of a snapshot on a thread; a failure is reported.
fn start(server: &Arc<Server>, transfer: TransferId, make: impl FnOnce() -> io::Result<()> + Send + 'static) {
    let owner = server.clone();
    let fail = move |error: io::Error| {
        let mut core = owner.core.write();
        let reason = error.to_string();
        owner.turn(&mut core, |roles, turn| roles.replication.transfer_failed(transfer, &reason, turn));
    };
    let thread = std::thread::Builder::new().name("sync".into());
    // Without a thread the replicas time out and ask again.
    if let Err(error) = thread.spawn(move || {
        super::process::give_way();
        make().unwrap_or_else(fail)
    }) {
        tracing::error!("Cannot start a thread for a full sync: {error}");
    }
}

/// Sends a prepared snapshot to one replica.
pub fn send_prepared(transfer: &Transfer) -> mpsc::Receiver<Chunk> {
    let (sender, chunks) = chunk_channel();
    let Some(path) = transfer.path.clone() else { return chunks };
    // Opened here: the file may be removed while it is being sent.
    let opened = std::fs::File::open(&path);
    let send = move || -> io::Result<()> {
        let mut file = opened?;
        let mut fan = Fan::new(vec![sender]);
        let mut buffer = vec![0; CHUNK_BYTES];
        loop {
            match file.read(&mut buffer)? {
                0 => return fan.finish(),
                count => fan.write_all(&buffer[..count])?,
            }
        }
    };
    let thread = std::thread::Builder::new().name("sync".into());
    let spawned = thread.spawn(move || {
        super::process::give_way();
        if let Err(error) = send() {
            tracing::warn!("Sending a snapshot to a replica: {error}");
        }
    });
    if let Err(error) = spawned {
        tracing::error!("Cannot start a thread for a full sync: {error}");
    }
    chunks
}

/// What is sent when `out` is empty.
enum Source {
    Nothing,
    Snapshot(mpsc::Receiver<Chunk>),
    /// The stream behind this position.
    Stream(u64),
}

enum Event {
    Gone,
    Order(ToReplica),
    Read(usize),
    Chunk(Option<Chunk>),
    SnapshotSent,
    Behind,
}

struct Attached {
    server: Arc<Server>,
    client: Arc<Client>,
    socket: Socket,
    orders: UnboundedReceiver<ToReplica>,
    out: Vec<u8>,
    sent: usize,
    source: Source,
    snapshot_ended: bool,
    last: Option<(u64, Vec<u8>)>,
    is_ending: bool,
    input: Vec<u8>,
    read: Box<[u8]>,
    parser: RequestParser,
}

/// Serves the connection of a replica to its end. `out` is still to be sent, `input` was received already.
pub async fn serve(
    server: Arc<Server>,
    socket: Socket,
    session: Session,
    handover: Handover,
    out: Vec<u8>,
    input: Vec<u8>,
) {
    let client = session.client.clone();
    client.set(Traits::REPLICA, true);
    server.followers.write().push(client.clone());
    server.had_replicas.store(true, Relaxed);
    Attached {
        server: server.clone(),
        client: client.clone(),
        socket,
        orders: handover.orders,
        out,
        sent: 0,
        source: Source::Nothing,
        snapshot_ended: false,
        last: None,
        is_ending: false,
        input,
        read: vec![0; 4096].into_boxed_slice(),
        parser: RequestParser::new(),
    }
    .run()
    .await;
    server.followers.write().retain(|other| other.number != client.number);
    server.connection_closed(client.number).await;
    server.clients.remove(client.number);
}

impl Attached {
    async fn run(mut self) {
        loop {
            match poll_fn(|context| self.poll(context)).await {
                Event::Gone | Event::Order(ToReplica::Close) => return,
                Event::Order(ToReplica::Send(bytes)) => self.out.extend_from_slice(&bytes),
                Event::Order(ToReplica::StreamFrom(position)) => self.source = Source::Stream(position),
                Event::Order(ToReplica::SendAfterStream { position, bytes }) => {
                    self.last = Some((position, bytes));
                }
                Event::Order(ToReplica::Snapshot(chunks)) => self.source = Source::Snapshot(chunks),
                Event::Chunk(Some(Chunk::Bytes(bytes))) => {
                    self.out.extend_from_slice(&bytes);
                    let now_ms = self.server.uptime_ms();
                    self.server.roles.lock().replication.is_alive(self.client.number, now_ms);
                }
                Event::Chunk(Some(Chunk::End)) => {
                    self.source = Source::Nothing;
                    self.snapshot_ended = true;
                }
                Event::Chunk(None) => self.source = Source::Nothing,
                Event::SnapshotSent => {
                    self.snapshot_ended = false;
                    let number = self.client.number;
                    self.server.turn_soon(|roles, turn| roles.replication.snapshot_sent(number, turn)).await;
                }
                Event::Behind => {
                    if !self.take_stream().await {
                        tracing::warn!(
                            "The stream that a replica needs is not kept any more: {}",
                            self.client.address
                        );
                        return;
                    }
                }
                Event::Read(count) => {
                    self.client.figures.last_interaction_ms.store(self.server.now_ms(), Relaxed);
                    self.input.extend_from_slice(&self.read[..count]);
                    if !self.received().await {
                        return;
                    }
                }
            }
        }
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<Event> {
        self.client.register(context);
        if self.client.closing() != Close::No {
            return Poll::Ready(Event::Gone);
        }
        // Mail is only a nudge here: a replica gets nothing but the stream.
        self.client.take_mail(&mut Vec::new());
        match self.orders.poll_recv(context) {
            Poll::Ready(Some(order)) => return Poll::Ready(Event::Order(order)),
            Poll::Ready(None) => return Poll::Ready(Event::Gone),
            Poll::Pending => {}
        }
        while self.sent < self.out.len() {
            match self.socket.poll_write(context, &self.out[self.sent..]) {
                Poll::Ready(Ok(count)) if count > 0 => self.note_sent(count),
                Poll::Ready(_) => return Poll::Ready(Event::Gone),
                Poll::Pending => break,
            }
        }
        if self.out.is_empty() {
            if self.is_ending {
                return Poll::Ready(Event::Gone);
            }
            if self.snapshot_ended {
                return Poll::Ready(Event::SnapshotSent);
            }
            match &mut self.source {
                Source::Nothing => {}
                Source::Snapshot(chunks) => {
                    if let Poll::Ready(chunk) = chunks.poll_recv(context) {
                        return Poll::Ready(Event::Chunk(chunk));
                    }
                }
                Source::Stream(position) => {
                    let is_last = self.last.as_ref().is_some_and(|(last, _)| *last <= *position);
                    if is_last || *position < self.server.stream_end.load(Relaxed) {
                        return Poll::Ready(Event::Behind);
                    }
                }
            }
        }
        let mut buffer = ReadBuf::new(&mut self.read);
        match self.socket.poll_read(context, &mut buffer) {
            Poll::Ready(Ok(())) if !buffer.filled().is_empty() => {
                Poll::Ready(Event::Read(buffer.filled().len()))
            }
            Poll::Ready(_) => Poll::Ready(Event::Gone),
            Poll::Pending => Poll::Pending,
        }
    }

    fn note_sent(&mut self, count: usize) {
        self.sent += count;
        self.client.figures.bytes_out.fetch_add(count as u64, Relaxed);
        self.server.stats.replication_bytes_out.fetch_add(count as u64, Relaxed);
        if self.sent == self.out.len() {
            self.out.clear();
            self.sent = 0;
        }
        self.client.figures.output_buffer.store(self.out.len() - self.sent, Relaxed);
    }

    /// Takes the next piece of the stream. `false`: it is not kept.
    async fn take_stream(&mut self) -> bool {
        let Source::Stream(position) = self.source else { return true };
        self.server.roles.lock().replication.stream_sent(self.client.number, position);
        let mut most = STREAM_BYTES as u64;
        if let Some((last, bytes)) = &self.last {
            if *last <= position {
                self.out.extend_from_slice(bytes);
                self.is_ending = true;
                return true;
            }
            most = most.min(last - position);
        }
        let in_memory = loop {
            if let Some(core) = self.server.core.try_read_for(GUARD_PATIENCE) {
                let backlog = core.stream.backlog();
                break backlog.is_some_and(|backlog| backlog.read(position, most as usize, &mut self.out));
            }
            tokio::time::sleep(GUARD_PAUSE).await;
        };
        let kept = in_memory || self.server.read_aof(position, most as usize, &mut self.out);
        self.source = Source::Stream(position + self.out.len() as u64);
        kept
    }

    /// Acts on whole requests: acknowledgements. `false`: what came is no request.
    async fn received(&mut self) -> bool {
        let limits = Limits::client(1 << 20);
        loop {
            let mut arguments: Vec<Argument> = Vec::new();
            match self.parser.next(&mut self.input, &limits, &mut arguments) {
                Ok(Parsed::Request { .. }) => {
                    let args: Vec<Vec<u8>> =
                        arguments.iter().map(|argument| argument.of(&self.input).to_vec()).collect();
                    if args[0].eq_ignore_ascii_case(b"replconf") {
                        let number = self.client.number;
                        let event =
                            |roles: &mut super::roles::Roles, turn: &mut crate::replication::Turn<'_>| {
                                let args: Vec<&[u8]> = args[1..].iter().map(Vec::as_slice).collect();
                                roles.replication.replconf(number, &args, turn)
                            };
                        // Nothing is answered on a connection that carries the stream.
                        let _ = self.server.turn_soon(event).await;
                    } else {
                        self.refuse(&args);
                        return false;
                    }
                }
                Ok(Parsed::Nothing) => {}
                // It is busy loading what it got, and says that it lives.
                Ok(Parsed::EmptyLine) => {
                    let now_ms = self.server.uptime_ms();
                    self.server.roles.lock().replication.is_alive(self.client.number, now_ms);
                }
                Ok(Parsed::Incomplete { .. }) => {
                    let consumed = self.parser.consumed();
                    self.parser.discard(consumed);
                    self.input.drain(..consumed);
                    return self.input.len() < 1 << 20;
                }
                Err(_) => return false,
            }
        }
    }

    /// A reply would end up in the middle of the stream.
    fn refuse(&self, args: &[Vec<u8>]) {
        let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
        let name = match super::admission::find_entry(&self.server, &args) {
            Some(entry) => entry.full_name.clone(),
            None => String::from_utf8_lossy(&args[0][..args[0].len().min(64)]).to_lowercase(),
        };
        let client = super::commands::client::describe(&self.server, &self.client);
        let keys = super::admission::find_entry(&self.server, &args)
            .is_some_and(|entry| !entry.spec.keys.is_empty());
        if keys {
            tracing::warn!(
                "== CRITICAL == This primary is sending an error to its replica: 'Replica can't interact with the \
                 keyspace' after processing the command '{name}'"
            );
        }
        tracing::warn!("Replica generated a reply to command '{name}', disconnecting it: {client}");
    }
}
