//! Connected clients as the rest of the server sees them: identity, what others may read of them, and the mailbox
//! through which others speak to them.
//!
//! A connection's own state lives in its [`Session`](super::session::Session), on its reactor, without locks. What
//! stands here is shared between threads. It must not know commands or keys.
//!
//! Invariant: bytes put into a mailbox reach the socket in order, after the replies that the connection had made before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicI64, AtomicU8, AtomicU32, AtomicU64, AtomicUsize, Ordering::Relaxed,
};
use std::task::{Context, Waker};

use parking_lot::{Mutex, RwLock};

use crate::protocol::{Protocol, Reply, encode};

pub type ClientNumber = u64;

/// What a connection has become; one bit each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Traits(pub u32);

impl Traits {
    pub const MULTI: Traits = Traits(1 << 0);
    pub const BLOCKED: Traits = Traits(1 << 1);
    pub const PUBSUB: Traits = Traits(1 << 2);
    pub const MONITOR: Traits = Traits(1 << 3);
    pub const REPLICA: Traits = Traits(1 << 4);
    /// The link to this server's primary.
    pub const PRIMARY: Traits = Traits(1 << 5);
    pub const UNIX_SOCKET: Traits = Traits(1 << 6);
    /// Its script goes on on another thread.
    pub const AWAY: Traits = Traits(1 << 17);
    /// READONLY was sent.
    pub const READONLY: Traits = Traits(1 << 7);
    pub const NO_EVICT: Traits = Traits(1 << 8);
    pub const NO_TOUCH: Traits = Traits(1 << 9);
    /// A watched key has changed.
    pub const DIRTY_EXEC: Traits = Traits(1 << 10);
    pub const CLOSE_AFTER_REPLY: Traits = Traits(1 << 11);
    pub const CLOSE_ASAP: Traits = Traits(1 << 12);
    pub const REDIRECT_CAPABLE: Traits = Traits(1 << 13);
    pub const TRACKING: Traits = Traits(1 << 14);
    /// Held back by a pause or by a busy script.
    pub const POSTPONED: Traits = Traits(1 << 15);
    /// Has announced itself as a replica, so that replication knows of it.
    pub const ANNOUNCED: Traits = Traits(1 << 16);
}

/// Why a connection is to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Close {
    No = 0,
    /// Once what is to be sent has been sent.
    AfterReplies = 1,
    Now = 2,
}

/// How a waiting client is to go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unblock {
    /// Its reply lies in the mailbox.
    Answered,
    /// As if the time were over (CLIENT UNBLOCK … TIMEOUT).
    TimedOut,
    /// With an error (CLIENT UNBLOCK … ERROR).
    Error,
}

#[derive(Debug, Default)]
struct Mailbox {
    bytes: Vec<u8>,
    unblock: Option<Unblock>,
}

/// Texts that CLIENT LIST shows.
#[derive(Debug, Default, Clone)]
pub struct Labels {
    pub name: Vec<u8>,
    pub library_name: Vec<u8>,
    pub library_version: Vec<u8>,
    pub user: Vec<u8>,
}

/// Numbers that CLIENT LIST shows; the connection writes them, anybody reads them.
#[derive(Debug, Default)]
pub struct Figures {
    pub database: AtomicUsize,
    pub channels: AtomicUsize,
    pub patterns: AtomicUsize,
    pub shard_channels: AtomicUsize,
    /// Queued commands of a transaction; -1 outside of one.
    pub queued: AtomicI64,
    pub queued_bytes: AtomicUsize,
    pub watched: AtomicUsize,
    pub query_buffer: AtomicUsize,
    pub query_buffer_free: AtomicUsize,
    pub argument_bytes: AtomicUsize,
    pub output_buffer: AtomicUsize,
    /// 0 while it is under its soft limit.
    pub over_soft_limit_since_ms: AtomicU64,
    pub last_interaction_ms: AtomicU64,
    pub bytes_in: AtomicU64,
    pub bytes_out: AtomicU64,
    /// The last known command that it sent; `u32::MAX` before the first.
    pub last_command: AtomicU32,
    /// Commands that have ended.
    pub commands: AtomicU64,
    pub redirect: AtomicI64,
    /// Where the stream ended when this client had last written to it.
    pub last_write: AtomicU64,
}

/// A connected client.
#[derive(Debug)]
pub struct Client {
    pub number: ClientNumber,
    pub address: String,
    pub local_address: String,
    pub descriptor: i32,
    pub created_ms: u64,
    pub figures: Figures,
    pub labels: Mutex<Labels>,
    protocol: AtomicU8,
    traits: AtomicU32,
    close: AtomicU8,
    has_mail: AtomicBool,
    mailbox: Mutex<Mailbox>,
    waker: Mutex<Option<Waker>>,
}

impl Client {
    pub fn new(
        number: ClientNumber,
        address: String,
        local_address: String,
        descriptor: i32,
        now_ms: u64,
    ) -> Self {
        let client = Client {
            number,
            address,
            local_address,
            descriptor,
            created_ms: now_ms,
            figures: Figures::default(),
            labels: Mutex::new(Labels { user: b"default".to_vec(), ..Labels::default() }),
            protocol: AtomicU8::new(2),
            traits: AtomicU32::new(0),
            close: AtomicU8::new(Close::No as u8),
            has_mail: AtomicBool::new(false),
            mailbox: Mutex::default(),
            waker: Mutex::default(),
        };
        client.figures.queued.store(-1, Relaxed);
        client.figures.last_command.store(u32::MAX, Relaxed);
        client.figures.redirect.store(-1, Relaxed);
        client.figures.last_interaction_ms.store(now_ms, Relaxed);
        client
    }

    pub fn protocol(&self) -> Protocol {
        if self.protocol.load(Relaxed) == 3 { Protocol::Resp3 } else { Protocol::Resp2 }
    }

    pub fn set_protocol(&self, protocol: Protocol) {
        self.protocol.store(if protocol == Protocol::Resp3 { 3 } else { 2 }, Relaxed);
    }

    pub fn is(&self, trait_: Traits) -> bool {
        self.traits.load(Relaxed) & trait_.0 != 0
    }

    pub fn set(&self, trait_: Traits, on: bool) {
        if on {
            self.traits.fetch_or(trait_.0, Relaxed);
        } else {
            self.traits.fetch_and(!trait_.0, Relaxed);
        }
    }

    // ---- The mailbox ----

    /// Sends a reply or a push to this client from outside of its own command.
    pub fn send(&self, reply: &Reply<'_>) {
        encode::encode(reply, self.protocol(), &mut self.mailbox.lock().bytes);
        self.notify();
    }

    /// Sends bytes that are encoded already.
    pub fn send_bytes(&self, bytes: &[u8]) {
        self.mailbox.lock().bytes.extend_from_slice(bytes);
        self.notify();
    }

    /// Lets a waiting client go on; its reply, if `Answered`, was sent before.
    pub fn unblock(&self, how: Unblock) {
        self.mailbox.lock().unblock.get_or_insert(how);
        self.notify();
    }

    pub fn has_mail(&self) -> bool {
        self.has_mail.load(Relaxed)
    }

    /// Lets the task of the connection look again at what it waits for.
    pub fn nudge(&self) {
        self.notify();
    }

    /// Bytes waiting in the mailbox.
    pub fn mail_len(&self) -> usize {
        if self.has_mail() { self.mailbox.lock().bytes.len() } else { 0 }
    }

    /// Moves the mail behind `out`.
    pub fn take_mail(&self, out: &mut Vec<u8>) -> Option<Unblock> {
        if !self.has_mail.swap(false, Relaxed) {
            return None;
        }
        let mut mailbox = self.mailbox.lock();
        out.append(&mut mailbox.bytes);
        mailbox.bytes.shrink_to(1 << 16);
        mailbox.unblock.take()
    }

    // ---- Ending it ----

    pub fn close(&self, how: Close) {
        self.close.fetch_max(how as u8, Relaxed);
        self.set(if how == Close::Now { Traits::CLOSE_ASAP } else { Traits::CLOSE_AFTER_REPLY }, true);
        self.notify();
    }

    pub fn closing(&self) -> Close {
        match self.close.load(Relaxed) {
            0 => Close::No,
            1 => Close::AfterReplies,
            _ => Close::Now,
        }
    }

    // ---- Waking ----

    /// The task of the connection is to be woken by mail and by `close`.
    pub fn register(&self, context: &Context<'_>) {
        let mut waker = self.waker.lock();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(context.waker())) {
            *waker = Some(context.waker().clone());
        }
    }

    fn notify(&self) {
        self.has_mail.store(true, Relaxed);
        self.wake();
    }

    /// Wakes the task of the connection.
    pub fn wake(&self) {
        // The lock orders this against `register`: mail put in before is seen by the task woken now.
        let waker = self.waker.lock();
        if let Some(waker) = &*waker {
            waker.wake_by_ref();
        }
    }
}

/// All connected clients, by number.
#[derive(Debug, Default)]
pub struct Clients {
    by_number: RwLock<BTreeMap<ClientNumber, Arc<Client>>>,
    last_number: AtomicU64,
}

impl Clients {
    /// A number no client had before.
    pub fn next_number(&self) -> ClientNumber {
        self.last_number.fetch_add(1, Relaxed) + 1
    }

    pub fn add(&self, client: Arc<Client>) {
        self.by_number.write().insert(client.number, client);
    }

    pub fn remove(&self, number: ClientNumber) {
        self.by_number.write().remove(&number);
    }

    pub fn get(&self, number: ClientNumber) -> Option<Arc<Client>> {
        self.by_number.read().get(&number).cloned()
    }

    pub fn len(&self) -> usize {
        self.by_number.read().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All of them now, in order of connection.
    pub fn all(&self) -> Vec<Arc<Client>> {
        self.by_number.read().values().cloned().collect()
    }
}
