//! Virtual time and a network that delays, splits and drops: in order within a connection, in any order between two.

use crate::storage::Work;
use std::collections::{BTreeMap, BinaryHeap, HashMap};

pub type NodeId = usize;
pub type SocketId = u64;

/// What happens at a moment.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    Tick {
        node: NodeId,
        life: u32,
    },
    ConnectDone {
        node: NodeId,
        life: u32,
        attempt: u64,
        target: Option<NodeId>,
    },
    Deliver {
        socket: SocketId,
        to_server: bool,
        bytes: Vec<u8>,
    },
    /// The other side closed, after everything it sent before.
    Closed {
        socket: SocketId,
        to_server: bool,
    },
    SnapshotSent {
        node: NodeId,
        life: u32,
        socket: SocketId,
    },
    TransferPrepared {
        node: NodeId,
        life: u32,
        transfer: u64,
    },
    LoadDone {
        node: NodeId,
        life: u32,
        attempt: u64,
    },
    ScriptEnds {
        node: NodeId,
        life: u32,
    },
    /// Work of the disk took its time.
    Work {
        node: NodeId,
        life: u32,
        work: Work,
    },
    /// A change of the role reaches the disk.
    RoleSynced {
        node: NodeId,
        life: u32,
    },
    /// A disk has room again, and takes what it is given.
    DiskHeals {
        node: NodeId,
    },
    /// A node that stood still goes on, with all that came meanwhile.
    Thaw {
        node: NodeId,
    },
    Write,
    Trouble,
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
struct Entry(std::cmp::Reverse<(u64, u64)>, Happening);

/// A connection from a replica (its client side) to the server it follows.
#[derive(Debug, Clone)]
pub struct Socket {
    pub client: NodeId,
    pub client_life: u32,
    pub attempt: u64,
    pub server: NodeId,
    pub server_life: u32,
    /// Nothing in a direction arrives before this.
    free_at: [u64; 2],
    slow: u64,
}

pub struct Network {
    pub now_ms: u64,
    pub random: fastrand::Rng,
    queue: BinaryHeap<Entry>,
    sequence: u64,
    next_socket: SocketId,
    pub sockets: BTreeMap<SocketId, Socket>,
    /// Sockets whose loss is decided: what is on the way does not arrive.
    cut: HashMap<SocketId, ()>,
}

impl Network {
    pub fn new(seed: u64) -> Self {
        Network {
            now_ms: 1_000,
            random: fastrand::Rng::with_seed(seed),
            queue: BinaryHeap::new(),
            sequence: 0,
            next_socket: 1,
            sockets: BTreeMap::new(),
            cut: HashMap::new(),
        }
    }

    pub fn at(&mut self, delay_ms: u64, happening: Happening) {
        self.sequence += 1;
        self.queue.push(Entry(std::cmp::Reverse((self.now_ms + delay_ms, self.sequence)), happening));
    }

    /// The next happening up to `end_ms`; time moves to it.
    pub fn next(&mut self, end_ms: u64) -> Option<Happening> {
        if self.queue.peek()?.0.0.0 > end_ms {
            self.now_ms = end_ms;
            return None;
        }
        let Entry(at, happening) = self.queue.pop()?;
        self.now_ms = at.0.0;
        Some(happening)
    }

    pub fn open(&mut self, socket: (NodeId, u32, u64), server: (NodeId, u32)) -> SocketId {
        let id = self.next_socket;
        self.next_socket += 1;
        let slow = if self.random.u8(..8) == 0 { 200 } else { 10 };
        let (client, client_life, attempt) = socket;
        let (server, server_life) = server;
        let free_at = [self.now_ms; 2];
        self.sockets.insert(id, Socket { client, client_life, attempt, server, server_life, free_at, slow });
        id
    }

    /// Sends in pieces, each after the one before.
    pub fn send(&mut self, id: SocketId, to_server: bool, bytes: &[u8]) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let take = if self.random.bool() { rest.len() } else { self.random.usize(1..=rest.len()) };
            let (piece, after) = rest.split_at(take);
            rest = after;
            self.deliver(id, to_server, Happening::Deliver { socket: id, to_server, bytes: piece.to_vec() });
        }
    }

    /// Closes after what was sent before.
    pub fn close(&mut self, id: SocketId, to_server: bool) {
        self.deliver(id, to_server, Happening::Closed { socket: id, to_server });
    }

    fn deliver(&mut self, id: SocketId, to_server: bool, happening: Happening) {
        let Some(socket) = self.sockets.get_mut(&id) else { return };
        let direction = usize::from(to_server);
        let arrives = (self.now_ms + self.random.u64(0..=socket.slow)).max(socket.free_at[direction]);
        socket.free_at[direction] = arrives;
        self.at(arrives - self.now_ms, happening);
    }

    /// One direction stands still for a time; nothing is lost, and nobody hears of it.
    pub fn stall(&mut self, id: SocketId, to_server: bool, stall_ms: u64) {
        let now_ms = self.now_ms;
        if let Some(socket) = self.sockets.get_mut(&id) {
            let free_at = &mut socket.free_at[usize::from(to_server)];
            *free_at = (*free_at).max(now_ms) + stall_ms;
        }
    }

    /// The connection breaks: bytes on the way are lost, both sides hear of it some time.
    pub fn cut(&mut self, id: SocketId) {
        if !self.sockets.contains_key(&id) || self.cut.insert(id, ()).is_some() {
            return;
        }
        for to_server in [false, true] {
            let delay_ms = self.random.u64(0..300);
            self.at(delay_ms, Happening::Closed { socket: id, to_server });
        }
    }

    pub fn is_cut(&self, id: SocketId) -> bool {
        self.cut.contains_key(&id)
    }
}
