//! The nodes, their clients and their troubles; and what must be true of them.

use crate::network::{Happening, Network, NodeId, SocketId};
use crate::node::{Character, Node, Promise, host};
use crate::storage::Policy;
use crate::truth::{Claim, Truth};
use std::collections::BTreeMap;
use understudy::base::file::Crash;
use understudy::failover::Scope;
use understudy::replication::{Address, FailoverPhase, LoadStrategy, ReplicaOf, ReplicationId};

/// How the world treats its nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Connections break, processes are killed and machines crash, but every write is synced and operators are careful.
    Careful,
    /// The same without failovers, and disks fill up and fail.
    Durable,
    /// Anything goes.
    Rough,
}

const CHAOS_MS: u64 = 20_000;
const HEAL_MS: u64 = 60_000;

#[derive(Debug, Default)]
pub struct Coverage {
    pub failovers: usize,
    pub promises: usize,
    pub partial: usize,
    pub full: usize,
    pub followed: usize,
    pub doubts: usize,
    /// Full syncs on two connections.
    pub dual: usize,
}

impl Coverage {
    pub fn add(&mut self, other: &Coverage) {
        self.failovers += other.failovers;
        self.promises += other.promises;
        self.partial += other.partial;
        self.full += other.full;
        self.followed += other.followed;
        self.doubts += other.doubts;
        self.dual += other.dual;
    }
}

pub struct World {
    mode: Mode,
    network: Network,
    nodes: Vec<Node>,
    /// What is to happen to nodes that stand still, in order.
    frozen: BTreeMap<NodeId, Vec<Happening>>,
    /// Do links and nodes stand still now and then?
    stalls: bool,
    chaos: bool,
    next_key: u64,
    writers: BTreeMap<ReplicationId, NodeId>,
    promises: Vec<Promise>,
    truth: Truth,
    printed: usize,
    doubts: usize,
    pub print_trace: bool,
    lines: Vec<String>,
}

impl World {
    pub fn new(mode: Mode, seed: u64) -> Self {
        let mut network = Network::new(seed);
        let count = network.random.usize(2..=4);
        let nodes = (0..count)
            .map(|id| {
                let character = Character {
                    plain: network.random.u8(..4) == 0,
                    diskless: network.random.u8(..4) != 0,
                    policy: Policy {
                        always: mode != Mode::Rough || network.random.bool(),
                        annotates: network.random.u8(..4) == 0,
                        backlog_size: if network.random.bool() { 300 } else { 1 << 20 },
                    },
                    load: if network.random.bool() { LoadStrategy::Swap } else { LoadStrategy::FlushFirst },
                    // Not drawn, so that seeds of old findings keep their meaning.
                    dual_channel: seed % 4 == 3,
                    sync_delay_ms: if network.random.bool() { 0 } else { 200 },
                };
                Node::new(id, character, (id > 0).then_some(0), network.now_ms)
            })
            .collect();
        for node in 0..count {
            network.at(0, Happening::Tick { node, life: 0 });
        }
        network.at(5, Happening::Write);
        network.at(2_000, Happening::Trouble);
        World {
            mode,
            network,
            nodes,
            frozen: BTreeMap::new(),
            stalls: false,
            chaos: true,
            next_key: 0,
            writers: BTreeMap::new(),
            promises: Vec::new(),
            truth: Truth::default(),
            printed: 0,
            doubts: 0,
            print_trace: false,
            lines: Vec::new(),
        }
    }

    /// A world in which links and nodes also stand still for a time.
    pub fn with_stalls(mode: Mode, seed: u64) -> Self {
        World { stalls: true, ..World::new(mode, seed) }
    }

    pub fn has_stalls(&self) -> bool {
        self.stalls
    }

    pub fn trace(&self) -> Vec<String> {
        self.lines.clone()
    }

    pub fn coverage(&self) -> Coverage {
        let count = |text: &str| self.lines.iter().filter(|line| line.contains(text)).count();
        Coverage {
            failovers: count("PRIMARY MODE enabled (failover request"),
            promises: self.promises.len(),
            partial: count("Successful partial resynchronization"),
            full: count("sync: Finished with success"),
            followed: count(": following"),
            doubts: self.doubts,
            dual: count("using main channel"),
        }
    }

    pub fn run(&mut self) {
        let chaos_end_ms = self.network.now_ms + CHAOS_MS;
        self.advance(chaos_end_ms);
        self.chaos = false;
        self.heal();
        let heal_end_ms = self.network.now_ms + HEAL_MS;
        self.advance(heal_end_ms);
        self.check_convergence();
    }

    fn advance(&mut self, end_ms: u64) {
        while let Some(happening) = self.network.next(end_ms) {
            self.happen(happening);
            self.after_each();
        }
    }

    fn after_each(&mut self) {
        for node in &mut self.nodes {
            for (id, promise) in node.accepted.drain(..) {
                let writer = *self.writers.entry(id).or_insert(node.id);
                assert_eq!(writer, node.id, "two primaries accept writes in history {id}");
                self.promises.push(promise);
            }
            let lie = node.trace.iter().find(|line| line.ends_with("not counted."));
            assert_eq!(lie, None, "an honest replica was taken for a liar");
            self.lines.append(&mut node.trace);
            compare(node, &mut self.truth);
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].alive && self.nodes[node].has_stopped() {
                self.kill(node);
            }
        }
        if self.print_trace {
            self.lines[self.printed..].iter().for_each(|line| eprintln!("{line}"));
            self.printed = self.lines.len();
        }
        if self.mode != Mode::Rough {
            let primaries: Vec<_> =
                self.nodes.iter().filter(|node| node.is_primary()).map(|node| node.id).collect();
            assert!(primaries.len() <= 1, "more than one primary: {primaries:?}");
        }
    }

    fn living(&self, node: NodeId, life: u32) -> bool {
        self.nodes[node].alive && self.nodes[node].life == life
    }

    fn can_act(&self, node: NodeId) -> bool {
        self.nodes[node].alive && !self.frozen.contains_key(&node)
    }

    /// The node that something happens to.
    fn concerned(&self, happening: &Happening) -> Option<NodeId> {
        match happening {
            Happening::Tick { node, .. }
            | Happening::ConnectDone { node, .. }
            | Happening::SnapshotSent { node, .. }
            | Happening::TransferPrepared { node, .. }
            | Happening::LoadDone { node, .. }
            | Happening::Work { node, .. }
            | Happening::RoleSynced { node, .. }
            | Happening::ScriptEnds { node, .. } => Some(*node),
            Happening::Deliver { socket, to_server, .. } | Happening::Closed { socket, to_server } => {
                let socket = self.network.sockets.get(socket)?;
                Some(if *to_server { socket.server } else { socket.client })
            }
            Happening::Thaw { .. } | Happening::DiskHeals { .. } | Happening::Write | Happening::Trouble => {
                None
            }
        }
    }

    fn thaw(&mut self, node: NodeId) {
        for happening in self.frozen.remove(&node).unwrap_or_default() {
            self.happen(happening);
            self.after_each();
        }
    }

    fn happen(&mut self, happening: Happening) {
        if let Some(frozen) = self.concerned(&happening).and_then(|node| self.frozen.get_mut(&node)) {
            frozen.push(happening);
            return;
        }
        match happening {
            Happening::Tick { node, life } if self.living(node, life) => self.tick(node, life),
            Happening::ConnectDone { node, life, attempt, target } if self.living(node, life) => {
                self.connect(node, attempt, target);
            }
            Happening::Deliver { socket, to_server, bytes } => self.deliver(socket, to_server, bytes),
            Happening::Closed { socket, to_server } => self.closed(socket, to_server),
            Happening::SnapshotSent { node, life, socket } if self.living(node, life) => {
                self.nodes[node].turn(&mut self.network, |replication, _, _, turn| {
                    replication.snapshot_sent(socket, turn)
                });
            }
            Happening::TransferPrepared { node, life, transfer } if self.living(node, life) => {
                self.transfer_prepared(node, transfer);
            }
            Happening::LoadDone { node, life, attempt } if self.living(node, life) => {
                self.nodes[node].load_done(attempt, &mut self.network);
            }
            Happening::ScriptEnds { node, life } if self.living(node, life) => {
                self.nodes[node].end_script(&mut self.network);
            }
            Happening::Work { node, life, work } if self.living(node, life) => {
                self.nodes[node].work(work, &mut self.network);
            }
            Happening::RoleSynced { node, life } if self.living(node, life) => self.nodes[node].role_synced(),
            Happening::DiskHeals { node } => self.heal_disk(node),
            Happening::Thaw { node } => self.thaw(node),
            Happening::Write => self.client_write(),
            Happening::Trouble => self.trouble(),
            _ => {}
        }
    }

    fn tick(&mut self, node: NodeId, life: u32) {
        self.nodes[node].tick(&mut self.network);
        self.network.at(100, Happening::Tick { node, life });
    }

    fn transfer_prepared(&mut self, node: NodeId, transfer: u64) {
        let broken = self.network.random.u8(..8) == 0;
        let node = &mut self.nodes[node];
        let Some(length) = node.prepared_length(transfer) else { return };
        node.turn(&mut self.network, |replication, _, _, turn| {
            if broken {
                replication.transfer_failed(transfer, "disk full", turn);
            } else {
                replication.transfer_prepared(transfer, length, turn);
            }
        });
    }

    fn connect(&mut self, node: NodeId, attempt: u64, target: Option<NodeId>) {
        let refused = self.chaos && self.network.random.u8(..20) == 0;
        let Some(target) = target.filter(|target| !refused && self.nodes[*target].alive) else {
            return self.nodes[node].link_is_lost(attempt, &mut self.network);
        };
        let client = (node, self.nodes[node].life, attempt);
        let socket = self.network.open(client, (target, self.nodes[target].life));
        self.nodes[target].accept_connection(socket);
        if !self.nodes[node].link_is_up(attempt, socket, &mut self.network) {
            self.network.close(socket, true);
        }
    }

    fn deliver(&mut self, id: SocketId, to_server: bool, bytes: Vec<u8>) {
        let Some(socket) = self.network.sockets.get(&id).cloned().filter(|_| !self.network.is_cut(id)) else {
            return;
        };
        if to_server && self.living(socket.server, socket.server_life) {
            self.nodes[socket.server].client_sent(id, socket.client, &bytes, &mut self.network);
        } else if !to_server && self.living(socket.client, socket.client_life) {
            self.nodes[socket.client].primary_sent(socket.attempt, bytes, &mut self.network);
        }
    }

    fn closed(&mut self, id: SocketId, to_server: bool) {
        let Some(socket) = self.network.sockets.get(&id).cloned() else { return };
        if to_server && self.living(socket.server, socket.server_life) {
            self.nodes[socket.server].incoming_closed(id, &mut self.network);
        } else if !to_server && self.living(socket.client, socket.client_life) {
            self.nodes[socket.client].link_is_lost(socket.attempt, &mut self.network);
        }
    }

    fn promise(&mut self) -> Promise {
        self.next_key += 1;
        let database = self.network.random.usize(..3);
        Promise {
            database,
            key: format!("key{}", self.next_key),
            value: self.network.random.u32(..).to_string(),
        }
    }

    fn client_write(&mut self) {
        if !self.chaos {
            return;
        }
        let node = self.network.random.usize(..self.nodes.len());
        let promise = self.promise();
        if self.can_act(node) {
            self.nodes[node].write(promise, &mut self.network);
        }
        let delay_ms = self.network.random.u64(0..20);
        self.network.at(delay_ms, Happening::Write);
    }

    fn trouble(&mut self) {
        if !self.chaos {
            return;
        }
        let node = self.network.random.usize(..self.nodes.len());
        let rough = self.mode == Mode::Rough;
        match self.network.random.u8(..if self.stalls { 22 } else { 18 }) {
            0..=3 if self.mode != Mode::Durable => self.failover(node),
            4 | 5 => {
                let sockets: Vec<SocketId> = self.network.sockets.keys().rev().take(4).copied().collect();
                if !sockets.is_empty() {
                    let pick = self.network.random.usize(..sockets.len());
                    self.network.cut(sockets[pick]);
                }
            }
            6 | 7 => self.kill_or_restart(node),
            8 => self.script(node),
            9 => self.pause(node),
            // REPLICAOF is no command for a busy server: it waits for the script.
            10 if rough && self.can_act(node) && self.nodes[node].script.is_none() => {
                let other = self.network.random.usize(..self.nodes.len());
                let request = if other == node {
                    ReplicaOf::NoOne
                } else {
                    ReplicaOf::Primary(Address::new(host(other), 6379))
                };
                self.replicaof(node, &request);
            }
            11 if rough && self.can_act(node) => {
                let _refused =
                    self.nodes[node].turn(&mut self.network, |replication, coordinator, gate, turn| {
                        coordinator.command(&[b"ABORT"], replication, gate, turn)
                    });
            }
            12 | 13 if self.can_act(node) => self.nodes[node].storage.rewrite_is_scheduled = true,
            14..=16 => self.trouble_disk(node),
            18 | 19 => self.stall(),
            20 | 21 => self.freeze(node),
            _ => {}
        }
        let delay_ms = self.network.random.u64(0..700);
        self.network.at(delay_ms, Happening::Trouble);
    }

    /// A connection delivers nothing in one direction for a time that may be longer than anybody waits.
    fn stall(&mut self) {
        let sockets: Vec<SocketId> = self.network.sockets.keys().rev().take(4).copied().collect();
        if sockets.is_empty() {
            return;
        }
        let pick = sockets[self.network.random.usize(..sockets.len())];
        let (to_server, stall_ms) = (self.network.random.bool(), self.network.random.u64(1..6_000));
        self.network.stall(pick, to_server, stall_ms);
    }

    /// A node stands still, as by a machine that sleeps, and does not know it afterwards.
    fn freeze(&mut self, node: NodeId) {
        if self.can_act(node) {
            self.frozen.insert(node, Vec::new());
            let freeze_ms = self.network.random.u64(1..6_000);
            self.network.at(freeze_ms, Happening::Thaw { node });
        }
    }

    fn replicaof(&mut self, node: NodeId, request: &ReplicaOf) -> bool {
        self.nodes[node]
            .turn(&mut self.network, |replication, _, _, turn| {
                replication.replicaof(request, 0, "operator", turn)
            })
            .is_ok()
    }

    fn failover(&mut self, hint: NodeId) {
        let Some(node) = self.nodes.iter().position(|node| node.is_primary() && self.can_act(node.id)) else {
            return;
        };
        let target = host(hint);
        let mut arguments: Vec<&[u8]> = Vec::new();
        if hint != node {
            arguments.extend([b"TO".as_slice(), target.as_bytes(), b"6379"]);
        }
        match self.network.random.u8(..4) {
            0 if self.mode == Mode::Rough && hint != node => {
                arguments.extend([b"FORCE".as_slice(), b"TIMEOUT", b"300"]);
            }
            // Without a timeout a target that never comes back holds the writes until it is aborted: careful
            // operators always give one.
            0 | 1 => arguments.extend([b"TIMEOUT".as_slice(), b"500"]),
            _ => arguments.extend([b"TIMEOUT".as_slice(), b"3000"]),
        }
        let _refused = self.nodes[node].turn(&mut self.network, |replication, coordinator, gate, turn| {
            coordinator.command(&arguments, replication, gate, turn)
        });
    }

    fn kill_or_restart(&mut self, node: NodeId) {
        if !self.nodes[node].alive {
            self.nodes[node].restart(&mut self.network);
        } else if !self.is_spared(node) {
            self.kill(node);
        }
    }

    /// A primary whose base is not written yet has no AOF to come back with.
    fn is_spared(&self, node: NodeId) -> bool {
        let node = &self.nodes[node];
        self.mode != Mode::Rough && node.is_primary() && !node.storage.synced.is_whole()
    }

    fn kill(&mut self, node: NodeId) {
        // What it had not seen yet, it never will.
        self.frozen.remove(&node);
        let process_only =
            self.mode != Mode::Rough && self.nodes[node].role_is_on_its_way() || self.network.random.bool();
        let crash = match self.network.random.u8(..3) {
            _ if process_only => Crash::KeepAll,
            0 => Crash::LoseUnsynced,
            _ => Crash::Torn { seed: self.network.random.u64(..) },
        };
        self.lines.push(format!("{} {node}: killed, {crash:?}", self.network.now_ms));
        self.nodes[node].kill(crash);
        let sockets: Vec<SocketId> = self
            .network
            .sockets
            .iter()
            .filter(|(_, socket)| socket.client == node || socket.server == node)
            .map(|(id, _)| *id)
            .collect();
        sockets.into_iter().for_each(|socket| self.network.cut(socket));
    }

    /// A disk takes few bytes at a time, is full, does not sync, or stops with its machine in the middle of something.
    fn trouble_disk(&mut self, node: NodeId) {
        let random = &mut self.network.random;
        let disk = &self.nodes[node].storage.disk;
        match random.u8(..4) {
            0 => disk.limit_append(Some(random.usize(1..40))),
            1 if self.mode != Mode::Careful => disk.limit_space(Some(random.usize(..2_000))),
            2 if self.mode != Mode::Careful => disk.fail_sync(true),
            _ if self.nodes[node].alive && !self.is_spared(node) => {
                disk.stop_after(Some(self.network.random.u64(1..60)));
            }
            _ => {}
        }
        let delay_ms = self.network.random.u64(..4_000);
        self.network.at(delay_ms, Happening::DiskHeals { node });
    }

    fn heal_disk(&mut self, node: NodeId) {
        let disk = &self.nodes[node].storage.disk;
        disk.limit_append(None);
        disk.limit_space(None);
        disk.fail_sync(false);
        disk.stop_after(None);
    }

    fn script(&mut self, node: NodeId) {
        let writes = (0..3).map(|_| self.promise()).collect();
        if self.can_act(node) && self.nodes[node].begin_script(writes, self.network.now_ms) {
            let life = self.nodes[node].life;
            let delay_ms = self.network.random.u64(1..1_500);
            self.network.at(delay_ms, Happening::ScriptEnds { node, life });
        }
    }

    fn pause(&mut self, node: NodeId) {
        if self.frozen.contains_key(&node) {
            return;
        }
        let now_ms = self.network.now_ms;
        let scope = if self.network.random.bool() { Scope::All } else { Scope::Write };
        let until_ms = now_ms + self.network.random.u64(1..500);
        self.nodes[node].gate.pause(understudy::failover::Purpose::Client, scope, Some(until_ms), now_ms);
    }

    /// Troubles end: everyone is back, and after rough treatment an operator says who is primary.
    fn heal(&mut self) {
        for node in 0..self.nodes.len() {
            self.thaw(node);
            self.heal_disk(node);
            if !self.nodes[node].alive {
                assert!(self.nodes[node].restart(&mut self.network), "node {node} does not start");
            }
            self.nodes[node].end_script(&mut self.network);
        }
        if self.mode != Mode::Rough {
            let settled_ms = self.network.now_ms + 10_000;
            self.advance(settled_ms);
            return self.resolve_doubts();
        }
        for node in 0..self.nodes.len() {
            if self.nodes[node].replication.failover_phase() != FailoverPhase::None {
                let result =
                    self.nodes[node].turn(&mut self.network, |replication, coordinator, gate, turn| {
                        coordinator.command(&[b"ABORT"], replication, gate, turn)
                    });
                assert_eq!(result, Ok(()));
            }
        }
        // An aborted failover's request may still be on its way to its target: wait for it, then decide.
        let settled_ms = self.network.now_ms + 3_000;
        self.advance(settled_ms);
        assert!(self.replicaof(0, &ReplicaOf::NoOne));
        for node in 1..self.nodes.len() {
            assert!(self.replicaof(node, &ReplicaOf::Primary(Address::new(host(0), 6379))));
        }
    }

    /// A server that cannot find out whether its failover succeeded waits for an operator, who looks who is primary.
    fn resolve_doubts(&mut self) {
        let Some(primary) = self.nodes.iter().position(Node::is_primary) else { return };
        for node in 0..self.nodes.len() {
            if self.nodes[node].replication.failover_phase() == FailoverPhase::InProgress {
                // Writes that are held back must not be taken in the moment in which it is a primary again.
                let now_ms = self.network.now_ms;
                self.nodes[node].gate.pause(
                    understudy::failover::Purpose::Client,
                    Scope::Write,
                    Some(now_ms + 1_000),
                    now_ms,
                );
                let result =
                    self.nodes[node].turn(&mut self.network, |replication, coordinator, gate, turn| {
                        coordinator.command(&[b"ABORT"], replication, gate, turn)
                    });
                assert_eq!(result, Ok(()));
                assert!(self.replicaof(node, &ReplicaOf::Primary(Address::new(host(primary), 6379))));
                self.doubts += 1;
            }
        }
    }

    fn check_convergence(&mut self) {
        let primaries: Vec<&Node> = self.nodes.iter().filter(|node| node.is_primary()).collect();
        let [primary] = primaries.as_slice() else { panic!("{} primaries", primaries.len()) };
        for node in &self.nodes {
            assert_eq!(node.replication.failover_phase(), FailoverPhase::None, "node {}", node.id);
            assert!(node.parked.is_empty(), "node {} still holds writes back", node.id);
            assert!(
                node.storage.data == primary.storage.data,
                "node {} has another dataset than {}",
                node.id,
                primary.id
            );
            assert_eq!(
                node.replication.history().id(),
                primary.replication.history().id(),
                "node {}",
                node.id
            );
            // The last PING may still be on its way.
            assert!(
                primary.end() - node.end() <= 14 * 4,
                "node {}: {} of {}",
                node.id,
                node.end(),
                primary.end()
            );
            if let Some(link) = node.replication.link() {
                assert!(link.is_connected(), "node {} is {:?}", node.id, link.state());
            }
        }
        if self.mode != Mode::Rough {
            for promise in &self.promises {
                let found = primary.storage.data.get(promise.database, &promise.key);
                assert_eq!(
                    found,
                    Some(promise.value.as_str()),
                    "the acknowledged write of {} is lost",
                    promise.key
                );
            }
        }
    }
}

/// Compares what came since the last time with what others have of the same history.
fn compare(node: &mut Node, truth: &mut Truth) {
    if !node.alive {
        return;
    }
    let storage = &node.storage;
    let claim = |id, from: u64| Claim {
        who: node.id,
        id,
        start: from,
        bytes: &storage.log[(from - storage.log_start) as usize..],
        digest: storage.data.digest(),
    };
    // What the disk says it has, before anything else happened.
    if let Some(found) = node.found.take().filter(|_| node.compared.is_none()) {
        truth.check(&claim(found, storage.log_start));
    }
    let history = node.replication.history();
    if !history.is_continuable() {
        node.compared = None;
        return;
    }
    let id = history.id();
    let from = match node.compared {
        Some((compared, start, end)) if compared == id && start == storage.log_start => end,
        _ => storage.log_start,
    };
    truth.check(&claim(id, from));
    node.compared = Some((id, storage.log_start, storage.log_end()));
}
