//! One server: the real state machines, around a dataset and a stream small enough to look through.
//!
//! What it keeps is in `storage`. A process that is killed leaves its disk as it is, a machine that crashes what was synced,
//! and perhaps some of the rest.

use crate::dataset::{Moment, Unit, parse_command};
use crate::network::{Happening, Network, NodeId, SocketId};
use crate::storage::{Policy, StartError, Storage, Work};
use bytes::Bytes;
use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use understudy::base::file::{Crash, MemoryFileSystem};
use understudy::failover::{
    CommandClass, Coordinator, PauseGate, RoleFile, RoleState, RoleSync, WriteScript,
};
use understudy::protocol::ErrorReply;
use understudy::replication::{
    Accepted, Action, Address, Attempt, FailoverPhase, Framing, History, LinkSettings, LoadStrategy,
    OutputLimit, PrimarySettings, ReplconfReply, Replication, ReplicationId, Role, Settings, StreamView,
    SyncRequest, Turn,
};

/// How a node differs from others.
#[derive(Debug, Clone)]
pub struct Character {
    /// Behaves like a server that knows nothing of `+FOLLOW` and leaves a GETACK out of its answer.
    pub plain: bool,
    pub diskless: bool,
    pub policy: Policy,
    pub load: LoadStrategy,
    pub sync_delay_ms: u64,
    /// Snapshots come on connections of their own.
    pub dual_channel: bool,
}

/// What a client was promised.
#[derive(Debug, Clone)]
pub struct Promise {
    pub database: usize,
    pub key: String,
    pub value: String,
}

#[derive(Default)]
struct Incoming {
    /// Where its stream has got to, once it receives it.
    stream: Option<u64>,
    input: Vec<u8>,
}

pub struct Node {
    pub id: NodeId,
    pub life: u32,
    pub alive: bool,
    pub character: Character,
    pub replication: Replication,
    pub gate: PauseGate,
    pub coordinator: Coordinator,
    pub storage: Storage,
    /// `replicaof` of its configuration.
    configured: Option<Address>,
    role_file: RoleFile,
    /// Changes of the role that are on their way to the disk.
    role_syncs: VecDeque<RoleSync>,
    /// The history that its disk was found to hold, to be compared with the others'.
    pub found: Option<ReplicationId>,
    /// What counted as on the disk when it was killed.
    claimed: u64,
    /// What of its log was compared: of which history, from where, up to where.
    pub compared: Option<(ReplicationId, u64, u64)>,
    incoming: BTreeMap<SocketId, Incoming>,
    links: BTreeMap<Attempt, SocketId>,
    stream_input: Vec<u8>,
    /// The database that the link's session has selected.
    link_database: usize,
    loader: Option<Vec<u8>>,
    prepared: BTreeMap<u64, Vec<u8>>,
    released: bool,
    pub parked: Vec<Promise>,
    pub accepted: Vec<(ReplicationId, Promise)>,
    pub script: Option<Vec<Promise>>,
    pub trace: Vec<String>,
    ids: u64,
}

pub fn host(id: NodeId) -> String {
    format!("10.0.0.{id}")
}

pub fn node_of(address: &Address) -> Option<NodeId> {
    address.host.strip_prefix("10.0.0.")?.parse().ok()
}

fn settings(id: NodeId, character: &Character) -> Settings {
    Settings {
        primary: PrimarySettings {
            diskless_sync: character.diskless,
            dual_channel: character.dual_channel,
            rdb_client_grace_ms: 3_000,
            diskless_sync_delay_ms: character.sync_delay_ms,
            ping_period_ms: 1_000,
            timeout_ms: 4_000,
            backlog_ttl_ms: 30_000,
            output_limit: OutputLimit { hard_bytes: 1 << 20, soft_bytes: 0, soft_ms: 0 },
            ..PrimarySettings::default()
        },
        link: LinkSettings {
            user: None,
            password: None,
            announce_ip: Some(host(id)),
            announce_port: 6379,
            version: "9.1.0",
            follow_failover: !character.plain,
            timeout_ms: 4_000,
            load: character.load,
            dual_channel: character.dual_channel,
            early_limit_bytes: 0,
        },
    }
}

fn fresh_id(id: NodeId, counter: &mut u64) -> ReplicationId {
    *counter += 1;
    let mut random = [0; 20];
    random[0] = id as u8 + 1;
    random[12..].copy_from_slice(&counter.to_be_bytes());
    ReplicationId::from_random(random)
}

/// The role that the server starts in, as `Server::remember_role` and `begin_role` find it.
fn role_at_start(configured: Option<&Address>, remembered: Option<&RoleState>) -> Role {
    match (configured, remembered) {
        (_, Some(state)) => state.role(),
        (None, None) => Role::Primary,
        (Some(primary), None) => Role::Replica(primary.clone()),
    }
}

impl Node {
    pub fn new(id: NodeId, character: Character, primary: Option<NodeId>, now_ms: u64) -> Self {
        let mut ids = 0;
        let stored = fresh_id(id, &mut ids);
        let configured = primary.map(|primary| Address::new(host(primary), 6379));
        let disk = MemoryFileSystem::new();
        let (role_file, _) = open_role_file(&disk, configured.clone());
        let role = role_at_start(configured.as_ref(), None);
        let Ok(storage) = Storage::start(disk, character.policy, wire(stored), primary.is_some()) else {
            panic!("a new disk has no faults")
        };
        Node {
            id,
            life: 0,
            alive: true,
            replication: Replication::new(settings(id, &character), History::new(stored), role, now_ms),
            character,
            gate: PauseGate::default(),
            coordinator: Coordinator::default(),
            storage,
            configured,
            role_file,
            role_syncs: VecDeque::new(),
            found: None,
            claimed: 0,
            compared: None,
            incoming: BTreeMap::new(),
            links: BTreeMap::new(),
            stream_input: Vec::new(),
            link_database: 0,
            loader: None,
            prepared: BTreeMap::new(),
            released: false,
            parked: Vec::new(),
            accepted: Vec::new(),
            script: None,
            trace: Vec::new(),
            ids,
        }
    }

    pub fn end(&self) -> u64 {
        self.storage.stream.offset()
    }

    /// Did its disk stop it?
    pub fn has_stopped(&self) -> bool {
        self.storage.has_exited || self.storage.disk.is_stopped()
    }

    /// Is a change of the role not on the disk yet?
    pub fn role_is_on_its_way(&self) -> bool {
        !self.role_syncs.is_empty()
    }

    pub fn is_primary(&self) -> bool {
        !self.replication.is_replica()
    }

    pub fn has_link(&self, attempt: Attempt) -> bool {
        self.links.contains_key(&attempt)
    }

    fn view(&self) -> StreamView {
        let stream = &self.storage.stream;
        StreamView {
            end: stream.offset(),
            kept_from: stream.backlog().map(|backlog| backlog.first_offset()),
            fsynced: Some(self.storage.synced.offset()),
            database: stream.selected().unwrap_or(0),
        }
    }

    /// One event of the state machines, followed by the coordinator's step, and all that comes of it.
    pub fn turn<R>(
        &mut self,
        network: &mut Network,
        event: impl FnOnce(&mut Replication, &mut Coordinator, &mut PauseGate, &mut Turn<'_>) -> R,
    ) -> R {
        let mut actions = Vec::new();
        let view = self.view();
        let script = if self.script.is_some() { WriteScript::Running } else { WriteScript::None };
        let (id, ids) = (self.id, &mut self.ids);
        let mut fresh = || fresh_id(id, ids);
        let mut turn =
            Turn { now_ms: network.now_ms, stream: view, fresh_id: &mut fresh, actions: &mut actions };
        let result = event(&mut self.replication, &mut self.coordinator, &mut self.gate, &mut turn);
        self.coordinator.step(script, &mut self.replication, &mut self.gate, &mut turn);
        let frozen = self.replication.failover_phase() != FailoverPhase::None;
        self.replication.end_of_round(frozen, &mut turn);
        let foreseen = turn.stream;
        for action in &actions {
            if let Action::RoleChanged { role, by_failover } = action {
                self.store_role(role, *by_failover, network);
            }
        }
        if actions.iter().any(Action::replaces_dataset) {
            self.storage.leave_files(self.replication.is_replica());
        }
        if self.replication.history().name_stream(&mut self.storage.stream) {
            self.storage.note_history(network.now_ms);
        }
        // Stream bytes are applied in turns of their own: those move on from what this turn saw.
        let applies = actions.iter().any(|action| matches!(action, Action::ApplyStream { .. }));
        for action in actions {
            self.perform(action, network);
        }
        if !applies {
            assert_eq!(
                foreseen.end,
                self.end(),
                "node {}: the view of the stream and the stream differ",
                self.id
            );
        }
        let needed = self.replication.primary().oldest_needed();
        self.storage.stream.keep_from(needed.unwrap_or(u64::MAX));
        self.storage.hand_over(network.now_ms);
        if self.has_stopped() {
            return result;
        }
        self.pump(network);
        if std::mem::take(&mut self.released) {
            for promise in std::mem::take(&mut self.parked) {
                self.write(promise, network);
            }
        }
        result
    }

    fn store_role(&mut self, role: &Role, by_failover: bool, network: &mut Network) {
        let replid = self.replication.history().id();
        // The server logs an error.
        if let Ok(Some(sync)) = self.role_file.note(role, by_failover, replid) {
            self.role_syncs.push_back(sync);
            let delay_ms = network.random.u64(0..50);
            network.at(delay_ms, Happening::RoleSynced { node: self.id, life: self.life });
        }
    }

    fn perform(&mut self, action: Action, network: &mut Network) {
        let life = self.life;
        let node = self.id;
        match action {
            Action::Log(_, text) => self.trace.push(format!("{} {node}: {text}", network.now_ms)),
            Action::Send { connection, bytes } => network.send(connection, false, &bytes),
            Action::StreamFrom { connection, position } => {
                assert!(
                    position == self.end() || self.storage.read(position).is_some(),
                    "node {node}: stream from {position}"
                );
                if let Some(incoming) = self.incoming.get_mut(&connection) {
                    incoming.stream = Some(position);
                }
            }
            Action::SendAfterStream { connection, position, bytes } => {
                assert_eq!(position, self.end());
                self.pump(network);
                network.send(connection, false, &bytes);
                self.close_incoming(connection, network);
            }
            Action::Close { connection } | Action::CloseOverLimit { connection } => {
                self.close_incoming(connection, network)
            }
            Action::StartTransfer { transfer, framing, connections, .. } => {
                let snapshot = self.storage.moment().save();
                let Framing::EofMark(mark) = framing else {
                    self.prepared.insert(transfer, snapshot);
                    let delay_ms = network.random.u64(0..300);
                    return network.at(delay_ms, Happening::TransferPrepared { node, life, transfer });
                };
                let framed =
                    [format!("$EOF:{mark}\r\n").as_bytes(), &snapshot, mark.as_str().as_bytes()].concat();
                for socket in connections {
                    network.send(socket, false, &framed);
                    let delay_ms = network.random.u64(0..100);
                    network.at(delay_ms, Happening::SnapshotSent { node, life, socket });
                }
            }
            Action::SendPrepared { connection: socket, transfer } => {
                network.send(socket, false, &self.prepared[&transfer]);
                let delay_ms = network.random.u64(0..100);
                network.at(delay_ms, Happening::SnapshotSent { node, life, socket });
            }
            Action::EndTransfer { transfer } => drop(self.prepared.remove(&transfer)),
            Action::AppendToStream(record) => {
                let selected = self.storage.stream.selected();
                self.storage.stream.append_received(record, selected);
            }
            // A replica's stream is its primary's: nothing may be put into it.
            Action::ReselectDatabase if self.replication.is_replica() => {}
            Action::ReselectDatabase => self.storage.stream.forget_selected(),
            Action::CreateBacklog => self.storage.stream.start_backlog(self.character.policy.backlog_size),
            Action::FreeBacklog => drop(self.storage.stream.take_backlog()),
            Action::Connect { attempt, address } => {
                let delay_ms = network.random.u64(1..60);
                network
                    .at(delay_ms, Happening::ConnectDone { node, life, attempt, target: node_of(&address) });
            }
            Action::Disconnect { attempt } => {
                if let Some(socket) = self.links.remove(&attempt) {
                    network.close(socket, true);
                }
                self.stream_input.clear();
            }
            Action::SendToPrimary { attempt, bytes } => {
                if let Some(socket) = self.links.get(&attempt) {
                    network.send(*socket, true, &bytes);
                }
            }
            Action::BeginLoad { .. } => self.loader = Some(Vec::new()),
            Action::FeedLoader { bytes, .. } => {
                self.loader.as_mut().expect("a load began").extend_from_slice(&bytes)
            }
            Action::FinishLoad { attempt } => {
                let delay_ms = network.random.u64(0..500);
                network.at(delay_ms, Happening::LoadDone { node, life, attempt });
            }
            Action::AbortLoad { .. } => self.loader = None,
            Action::FlushDataset => self.storage.flush(wire(self.replication.history().id())),
            Action::ReplaceDataset { position } => {
                let loaded = self.loader.take().expect("a load ended");
                let moment = Moment::load(&loaded).expect("checked before");
                let id = self.replication.history().id();
                self.storage.replace(moment, wire(id), position, self.replication.is_replica());
            }
            Action::KeepFlushed => self.storage.begin_anew(self.replication.is_replica()),
            Action::ApplyStream { attempt, bytes } => {
                self.stream_input.extend_from_slice(&bytes);
                self.apply_stream(attempt, network);
            }
            Action::RollBackWriteScript => self.script = None,
            Action::ReleasePaused => self.released = true,
            Action::RoleChanged { .. }
            | Action::UnblockForDemotion
            | Action::FinishWait { .. }
            | Action::PausePoint => {}
        }
    }

    fn close_incoming(&mut self, socket: SocketId, network: &mut Network) {
        if self.incoming.remove(&socket).is_some() {
            network.close(socket, false);
            network.at(0, Happening::Closed { socket, to_server: true });
        }
    }

    /// Sends what the replicas have not had.
    fn pump(&mut self, network: &mut Network) {
        let end = self.end();
        let mut lost = Vec::new();
        for (&socket, incoming) in &mut self.incoming {
            while let Some(position) = incoming.stream.filter(|position| *position < end) {
                let Some(bytes) = self.storage.read(position) else {
                    lost.push(socket);
                    break;
                };
                network.send(socket, false, &bytes);
                let position = position + bytes.len() as u64;
                incoming.stream = Some(position);
                self.replication.stream_sent(socket, position);
            }
        }
        for socket in lost {
            self.trace.push(format!("{} {}: a replica is too far behind", network.now_ms, self.id));
            self.close_incoming(socket, network);
        }
    }

    /// Applies whole units of the primary's stream.
    fn apply_stream(&mut self, attempt: Attempt, network: &mut Network) {
        while self.has_link(attempt) && !self.stream_input.is_empty() && !self.has_stopped() {
            if self.stream_input[0] != b'*' {
                let Some(line) = take_line(&mut self.stream_input) else { return };
                self.turn(network, |replication, _, _, turn| replication.link_line(attempt, &line, turn));
                continue;
            }
            let Some(unit) = Unit::parse(&self.stream_input) else { return };
            let bytes: Vec<u8> = self.stream_input.drain(..unit.length).collect();
            let asks = unit.asks();
            if asks && self.character.plain {
                self.turn(network, |replication, _, _, turn| replication.acknowledge(turn));
            }
            if let Some(database) = self.storage.stream.selected() {
                self.link_database = database;
            }
            unit.apply(&mut self.storage.data, &mut self.link_database);
            self.storage.stream.append_received(&bytes, Some(self.link_database));
            if asks && !self.character.plain {
                self.turn(network, |replication, _, _, turn| replication.acknowledge(turn));
            } else {
                self.turn(network, |_, _, _, _| ());
            }
        }
    }

    /// A client's write: accepted, parked or refused.
    pub fn write(&mut self, promise: Promise, network: &mut Network) {
        if self.script.is_some() || self.gate.holds(CommandClass::Write, network.now_ms) {
            self.parked.push(promise);
        } else if self.is_primary() && self.storage.is_healthy() && !self.has_stopped() {
            self.accept(vec![promise], network);
        }
    }

    /// Writes in one unit. They are acknowledged unless the disk ends the process before.
    fn accept(&mut self, promises: Vec<Promise>, network: &mut Network) {
        let id = self.replication.history().id();
        self.storage.append(&promises);
        self.turn(network, |_, _, _, _| ());
        if !self.has_stopped() {
            self.accepted.extend(promises.into_iter().map(|promise| (id, promise)));
        }
    }

    /// A script that writes begins: nothing of it is visible until it ends.
    pub fn begin_script(&mut self, writes: Vec<Promise>, now_ms: u64) -> bool {
        let may = self.script.is_none()
            && self.is_primary()
            && self.storage.is_healthy()
            && !self.gate.holds(CommandClass::Write, now_ms);
        if may {
            self.script = Some(writes);
        }
        may
    }

    pub fn end_script(&mut self, network: &mut Network) {
        let Some(writes) = self.script.take() else { return };
        assert!(self.is_primary(), "node {}: the role changed under a write script", self.id);
        self.accept(writes, network);
        if !self.gate.holds(CommandClass::Write, network.now_ms) {
            for promise in std::mem::take(&mut self.parked) {
                self.write(promise, network);
            }
        }
    }

    /// What comes with time; work of the disk that began ends a little later.
    pub fn tick(&mut self, network: &mut Network) {
        let now_ms = network.now_ms;
        self.turn(network, |replication, _, gate, turn| {
            if gate.expire(now_ms) {
                turn.actions.push(Action::ReleasePaused);
            }
            replication.fsynced(turn);
            replication.tick(turn);
        });
        for work in self.storage.tick(self.replication.is_replica(), now_ms) {
            self.later(work, network);
        }
    }

    fn later(&mut self, work: Work, network: &mut Network) {
        let delay_ms = if network.random.u8(..8) == 0 {
            network.random.u64(0..3_000)
        } else {
            network.random.u64(0..30)
        };
        network.at(delay_ms, Happening::Work { node: self.id, life: self.life, work });
    }

    pub fn work(&mut self, work: Work, network: &mut Network) {
        if self.storage.work(work, self.replication.is_replica(), network.now_ms) {
            self.later(work, network);
        }
        self.turn(network, |replication, _, _, turn| replication.fsynced(turn));
    }

    pub fn role_synced(&mut self) {
        if let Some(sync) = self.role_syncs.pop_front() {
            // The server logs an error.
            let _ = sync.run();
        }
    }

    pub fn accept_connection(&mut self, socket: SocketId) {
        self.incoming.insert(socket, Incoming::default());
    }

    pub fn link_is_up(&mut self, attempt: Attempt, socket: SocketId, network: &mut Network) -> bool {
        if self.replication.link().is_none_or(|link| !link.is_current(attempt)) {
            return false;
        }
        self.links.insert(attempt, socket);
        self.link_database = 0;
        self.turn(network, |replication, _, _, turn| replication.link_connected(attempt, turn));
        true
    }

    pub fn primary_sent(&mut self, attempt: Attempt, bytes: Vec<u8>, network: &mut Network) {
        let bytes = Bytes::from(bytes);
        self.turn(network, |replication, _, _, turn| replication.link_received(attempt, bytes, turn));
    }

    pub fn link_is_lost(&mut self, attempt: Attempt, network: &mut Network) {
        self.turn(network, |replication, _, _, turn| {
            replication.link_lost(attempt, "connection closed", turn)
        });
    }

    pub fn incoming_closed(&mut self, socket: SocketId, network: &mut Network) {
        self.incoming.remove(&socket);
        self.turn(network, |replication, _, _, turn| replication.closed(socket, turn));
    }

    /// Bytes of a connection that is, or wants to be, a replica's.
    pub fn client_sent(&mut self, socket: SocketId, peer: NodeId, bytes: &[u8], network: &mut Network) {
        let Some(incoming) = self.incoming.get_mut(&socket) else { return };
        incoming.input.extend_from_slice(bytes);
        while let Some(incoming) = self.incoming.get_mut(&socket) {
            let Some(&first) = incoming.input.first() else { return };
            if first != b'*' {
                let Some(line) = take_line(&mut incoming.input) else { return };
                assert!(line.is_empty() || line == b"SYNC", "node {}: {line:?}", self.id);
                if line == b"SYNC" && self.character.dual_channel {
                    self.sync(socket, peer, None, network);
                }
                continue;
            }
            let Some((length, words)) = parse_command(&incoming.input) else { return };
            incoming.input.drain(..length);
            let words: Vec<String> =
                words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect();
            self.client_command(socket, peer, &words, network);
        }
    }

    fn client_command(&mut self, socket: SocketId, peer: NodeId, words: &[String], network: &mut Network) {
        let arguments: Vec<&[u8]> = words.iter().skip(1).map(String::as_bytes).collect();
        let reply = match words[0].as_str() {
            "PING" => Some("+PONG\r\n".to_owned()),
            "REPLCONF" => {
                match self
                    .turn(network, |replication, _, _, turn| replication.replconf(socket, &arguments, turn))
                {
                    ReplconfReply::Ok => Some("+OK\r\n".to_owned()),
                    ReplconfReply::Error(error) => Some(error_line(&error)),
                    ReplconfReply::Silent | ReplconfReply::SendAck => None,
                }
            }
            "PSYNC" => return self.sync(socket, peer, Some(&arguments), network),
            other => panic!("node {}: {other}", self.id),
        };
        if let Some(reply) = reply {
            network.send(socket, false, reply.as_bytes());
        }
    }

    fn sync(&mut self, socket: SocketId, peer: NodeId, psync: Option<&[&[u8]]>, network: &mut Network) {
        let request = SyncRequest {
            connection: socket,
            peer_ip: &host(peer),
            client_info: "a node",
            psync,
            has_pending_output: false,
            on_disk_from: self.storage.readable_from(),
        };
        let reply = match self.turn(network, |replication, _, _, turn| replication.sync(&request, turn)) {
            Ok(Accepted::Attached) => return,
            Ok(Accepted::DualChannel) => format!("+{}\r\n", Accepted::DUAL_CHANNEL_REPLY),
            Err(error) => error_line(&error),
        };
        network.send(socket, false, reply.as_bytes());
    }

    pub fn load_done(&mut self, attempt: Attempt, network: &mut Network) {
        if self.replication.link().is_none_or(|link| !link.is_current(attempt)) {
            return;
        }
        let result = match self.loader.as_deref().map(Moment::load) {
            Some(Some(_)) => Ok(()),
            _ => Err("damaged snapshot".to_owned()),
        };
        self.turn(network, |replication, _, _, turn| replication.loaded(attempt, result, turn));
    }

    /// The length of a snapshot that was prepared and is still wanted.
    pub fn prepared_length(&self, transfer: u64) -> Option<u64> {
        self.prepared.get(&transfer).map(|snapshot| snapshot.len() as u64)
    }

    /// Everything in memory is gone, and of the disk what the crash takes.
    pub fn kill(&mut self, crash: Crash) {
        self.alive = false;
        self.incoming.clear();
        self.links.clear();
        self.stream_input.clear();
        self.loader = None;
        self.prepared.clear();
        self.parked.clear();
        self.script = None;
        self.role_syncs.clear();
        let synced = &self.storage.synced;
        self.claimed = if synced.is_whole() { synced.offset() } else { 0 };
        self.storage.disk = self.storage.disk.crash(crash);
    }

    /// Comes back from its disk, in the order of the server. `false`: the disk does not let it.
    pub fn restart(&mut self, network: &mut Network) -> bool {
        let disk = self.storage.disk.clone();
        let (role_file, remembered) = open_role_file(&disk, self.configured.clone());
        let role = role_at_start(self.configured.as_ref(), remembered.as_ref());
        let is_replica = role != Role::Primary;
        let unknown = wire(fresh_id(self.id, &mut self.ids));
        self.storage = match Storage::start(disk, self.character.policy, unknown, is_replica) {
            Ok(storage) => storage,
            Err(StartError::Disk(error)) => {
                self.trace.push(format!("{} {}: cannot start: {error}", network.now_ms, self.id));
                return false;
            }
        };
        self.role_file = role_file;
        let stored = ReplicationId::parse(self.storage.stream.replid()).expect("an id");
        self.found = Some(stored);
        let position = self.storage.stream.backlog().map(|_| self.end());
        assert!(position.unwrap_or(0) >= self.claimed, "node {}: {} was synced", self.id, self.claimed);
        let target_id = remembered.as_ref().and_then(RoleState::replid);
        let fresh = fresh_id(self.id, &mut self.ids);
        let text = format!("starts as {role:?} at {position:?} of {stored}");
        self.trace.push(format!("{} {}: {text}", network.now_ms, self.id));
        let history = History::after_restart(&role, stored, position, target_id, fresh);
        self.alive = true;
        self.life += 1;
        self.compared = None;
        self.replication =
            Replication::new(settings(self.id, &self.character), history, role, network.now_ms);
        self.gate = PauseGate::default();
        self.coordinator = Coordinator::resume(&self.replication, &mut self.gate, network.now_ms);
        let (node, life) = (self.id, self.life);
        network.at(1, Happening::Tick { node, life });
        true
    }
}

fn open_role_file(disk: &MemoryFileSystem, configured: Option<Address>) -> (RoleFile, Option<RoleState>) {
    RoleFile::open(Arc::new(disk.clone()), PathBuf::from("role-6379.state"), configured)
}

fn wire(id: ReplicationId) -> [u8; 40] {
    id.as_str().as_bytes().try_into().expect("forty digits")
}

fn error_line(error: &ErrorReply) -> String {
    format!("-{}\r\n", String::from_utf8_lossy(&error.0))
}

fn take_line(input: &mut Vec<u8>) -> Option<Vec<u8>> {
    let at = input.iter().position(|byte| *byte == b'\n')?;
    let line: Vec<u8> = input.drain(..=at).collect();
    Some(line.strip_suffix(b"\r\n").or(line.strip_suffix(b"\n"))?.to_vec())
}
