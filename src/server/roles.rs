//! The driver of replication and failover: gives events to their state machines and does what these ask for.
//!
//! Everything that happens to a server's role goes through [`Server::turn`], with the dataset's guard held: the machines
//! and the stream move in one step. Lock order: the dataset, the roles, the AOF.
//!
//! Invariant: actions are performed in order and before the next event; what cannot be done at once (sockets, threads)
//! is put into the ordered channel of the task that does it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};

use super::Server;
use super::admission::{Conditions, Hold};
use super::client::{Client, Close, Traits, Unblock};
use super::config::{Config, PrimaryAddress, ReplDisklessLoad, Text};
use super::core::Core;
use super::lazy_free;
use super::link::ToLink;
use super::loading::history_of;
use super::persistence::spawn;
use super::replicas::{self, ToReplica, Transfer};
use super::scripts_running::Kill;
use crate::base::file::SystemFileSystem;
use crate::base::random::{Random, fill_secret};
use crate::failover::{
    CommandClass, Coordinator, PauseGate, Purpose, RoleFile, RoleState, RoleSync, Scope, WriteScript,
};
use crate::keyspace::Keyspace;
use crate::protocol::{ErrorReply, Reply};
use crate::rdb::Loaded;
use crate::replication::wait::{WaitReply, WaitRequest};
use crate::replication::{
    Action, Address, Attempt, ConnectionId, FailoverPhase, Framing, History, Level, LinkSettings,
    LoadStrategy, Meanwhile, OutputLimit, PrimarySettings, ReplconfReply, Replication, ReplicationId, Role,
    Settings, StreamView, TransferId, Turn,
};
use crate::stream::{Backlog, NO_REPLID};

/// A connection to a primary that is to be made, on the first reactor.
#[derive(Debug)]
pub struct LinkOrder {
    pub attempt: Attempt,
    pub address: Address,
    pub orders: UnboundedReceiver<ToLink>,
}

/// The state machines, and the tasks that carry out what they decide.
pub struct Roles {
    pub replication: Replication,
    pub coordinator: Coordinator,
    pub gate: PauseGate,
    attached: HashMap<ConnectionId, UnboundedSender<ToReplica>>,
    transfers: HashMap<TransferId, Transfer>,
    /// Connections to the primary: one, or two while a snapshot comes on its own.
    open: Vec<(Attempt, UnboundedSender<ToLink>)>,
    /// Where links are made. `None` before the server runs.
    links: Option<UnboundedSender<LinkOrder>>,
    /// The dataset of a full sync, until the stream goes on behind it.
    loaded: Option<Loaded>,
    /// `None` before the server runs.
    role_file: Option<RoleFile>,
    /// The role that a failover gave this server before it was restarted.
    remembered: Option<RoleState>,
    /// Keys that were left out of the dataset when it was loaded, since their time had passed.
    pub dropped: Vec<(usize, Vec<u8>)>,
    /// What is to be done as soon as the dataset is free.
    postponed: Vec<Action>,
}

impl Roles {
    pub fn new(config: &Config, replid: &[u8]) -> Self {
        let history = History::new(ReplicationId::parse(replid).unwrap_or_else(fresh_id));
        Roles {
            replication: Replication::new(settings(config), history, Role::Primary, 0),
            coordinator: Coordinator::default(),
            gate: PauseGate::default(),
            attached: HashMap::new(),
            role_file: None,
            remembered: None,
            dropped: Vec::new(),
            postponed: Vec::new(),
            transfers: HashMap::new(),
            open: Vec::new(),
            links: None,
            loaded: None,
        }
    }

    /// Is this the connection to the primary that is in use?
    pub fn is_current_link(&self, attempt: Attempt) -> bool {
        self.open.iter().any(|(current, _)| *current == attempt)
    }

    /// The channel of a connection that asks to become a replica's.
    pub fn attach(&mut self, connection: ConnectionId) -> UnboundedReceiver<ToReplica> {
        let (sender, orders) = mpsc::unbounded_channel();
        self.attached.insert(connection, sender);
        orders
    }

    pub fn detach(&mut self, connection: ConnectionId) {
        self.attached.remove(&connection);
    }

    /// The loader of a full sync has finished.
    pub fn finished_loading(
        &mut self,
        attempt: Attempt,
        result: Result<Loaded, String>,
        turn: &mut Turn<'_>,
    ) {
        if !self.is_current_link(attempt) {
            return;
        }
        let result = result.map(|loaded| self.loaded = Some(loaded));
        self.replication.loaded(attempt, result, turn);
    }

    fn to_replica(&self, connection: ConnectionId, order: ToReplica) {
        if let Some(orders) = self.attached.get(&connection) {
            // A task that has ended has reported that its connection is closed, or is about to.
            orders.send(order).ok();
        }
    }

    fn to_link(&self, attempt: Attempt, order: ToLink) {
        if let Some((_, orders)) = self.open.iter().find(|(current, _)| *current == attempt) {
            orders.send(order).ok();
        }
    }
}

fn fresh_id() -> ReplicationId {
    let mut random = [0; 20];
    if fill_secret(&mut random).is_err() {
        // Only has to be unlike any other.
        let seed = std::hash::RandomState::new().build_hasher().finish();
        Random::from_seed(seed).fill(&mut random);
    }
    ReplicationId::from_random(random)
}

fn wire(id: &str) -> [u8; 40] {
    id.as_bytes().try_into().unwrap_or(NO_REPLID)
}

/// What of the configuration replication depends on.
pub fn settings(config: &Config) -> Settings {
    let ms = |seconds: u32| u64::from(seconds) * 1000;
    let text = |text: &Text| (!text.is_empty()).then(|| text.as_bytes().to_vec());
    let limit = config.client_output_buffer_limit.replica;
    Settings {
        primary: PrimarySettings {
            diskless_sync: config.repl_diskless_sync,
            dual_channel: config.dual_channel_replication_enabled,
            rdb_client_grace_ms: RDB_CLIENT_GRACE_MS,
            diskless_sync_delay_ms: ms(config.repl_diskless_sync_delay_seconds),
            diskless_sync_max_replicas: config.repl_diskless_sync_max_replicas as usize,
            ping_period_ms: ms(config.repl_ping_replica_period_seconds),
            timeout_ms: ms(config.repl_timeout_seconds),
            backlog_ttl_ms: if config.appendonly {
                0
            } else {
                config.repl_backlog_ttl_seconds.saturating_mul(1000)
            },
            min_replicas_to_write: config.min_replicas_to_write as usize,
            min_replicas_max_lag_seconds: config.min_replicas_max_lag_seconds.into(),
            output_limit: OutputLimit {
                // What the backlog may hold anyway costs nothing more.
                hard_bytes: match limit.hard_bytes {
                    0 => 0,
                    hard_bytes => hard_bytes.max(config.repl_backlog_size),
                },
                soft_bytes: limit.soft_bytes,
                soft_ms: limit.soft_seconds.saturating_mul(1000),
            },
        },
        link: LinkSettings {
            user: text(&config.primaryuser),
            password: text(&config.primaryauth),
            announce_ip: (!config.replica_announce_ip.is_empty())
                .then(|| config.replica_announce_ip.to_str().into_owned()),
            announce_port: if config.replica_announce_port == 0 {
                config.port
            } else {
                config.replica_announce_port
            },
            version: super::command_line::VALKEY_VERSION,
            follow_failover: config.replica_follow_failover,
            timeout_ms: ms(config.repl_timeout_seconds),
            load: match config.repl_diskless_load {
                ReplDisklessLoad::FlushBeforeLoad => LoadStrategy::FlushFirst,
                ReplDisklessLoad::SwapDb => LoadStrategy::Swap,
                _ => LoadStrategy::Aside,
            },
            dual_channel: config.dual_channel_replication_enabled,
            early_limit_bytes: limit.hard_bytes,
        },
    }
}

/// How long Valkey waits for the main connection behind a snapshot that went out on its own.
pub const RDB_CLIENT_GRACE_MS: u64 = 60_000;
/// How long a thread sleeps on the guard before it lets its other tasks run.
pub const GUARD_PATIENCE: Duration = Duration::from_micros(500);
/// How long a task then sleeps: a script may hold the dataset on this very thread.
pub const GUARD_PAUSE: Duration = Duration::from_millis(1);

impl Server {
    /// One event of the state machines, and all that comes of it.
    pub fn turn<R>(
        self: &Arc<Self>,
        core: &mut Core,
        event: impl FnOnce(&mut Roles, &mut Turn<'_>) -> R,
    ) -> R {
        let mut guard = self.roles.lock();
        let roles = &mut *guard;
        let mut actions = std::mem::take(&mut roles.postponed);
        let mut fresh = fresh_id;
        let mut turn = Turn {
            now_ms: self.uptime_ms(),
            stream: self.stream_view(core),
            fresh_id: &mut fresh,
            actions: &mut actions,
        };
        let result = event(roles, &mut turn);
        // Whoever holds the guard knows that no script is between two slices.
        roles.coordinator.step(WriteScript::None, &mut roles.replication, &mut roles.gate, &mut turn);
        let frozen = roles.replication.failover_phase() != FailoverPhase::None;
        roles.replication.end_of_round(frozen, &mut turn);
        // First the role: a server that ends between the two must not come back as a replica that knows the history of its
        // promotion, which nobody could continue.
        for action in &actions {
            if let Action::RoleChanged { role, by_failover } = action {
                store_role(roles, role, *by_failover);
            }
        }
        // The files must not go by the name of a dataset that they do not hold.
        if actions.iter().any(Action::replaces_dataset) && self.persistence.has_aof() {
            self.leave_aof_files(core);
        }
        if roles.replication.history().name_stream(&mut core.stream) && self.persistence.has_aof() {
            self.note_history(core);
        }
        let mut release = false;
        for action in actions {
            release |= self.perform(roles, core, action);
        }
        core.stream.keep_from(roles.replication.primary().oldest_needed().unwrap_or(u64::MAX));
        self.note_conditions(roles);
        let bytes = if core.stream.has_for_aof() { core.stream.take_for_aof() } else { Vec::new() };
        if !bytes.is_empty() {
            self.write_aof(&bytes);
        }
        drop(guard);
        self.stream_moved(core);
        if release {
            self.let_go();
        }
        result
    }

    /// The same from a task, which must not block its thread.
    pub async fn turn_soon<R>(self: &Arc<Self>, event: impl FnOnce(&mut Roles, &mut Turn<'_>) -> R) -> R {
        loop {
            if let Some(mut core) = self.core.try_write_for(GUARD_PATIENCE) {
                return self.turn(&mut core, event);
            }
            tokio::time::sleep(GUARD_PAUSE).await;
        }
    }

    /// The connection of a replica, or of one that had announced itself as one, is closed. That is known at once, also
    /// while a script holds the dataset: it may wait for just that. What has to be done about it is done after the script.
    pub async fn connection_closed(self: &Arc<Self>, connection: ConnectionId) {
        let closed = |roles: &mut Roles, turn: &mut Turn<'_>| {
            roles.detach(connection);
            roles.replication.closed(connection, turn);
        };
        loop {
            if let Some(mut core) = self.core.try_write_for(GUARD_PATIENCE) {
                return self.turn(&mut core, closed);
            }
            if self.scripts_running.holds() {
                let mut guard = self.roles.lock();
                let roles = &mut *guard;
                let ((), mut actions) = self.turn_beside(roles, closed);
                roles.postponed.append(&mut actions);
                return;
            }
            tokio::time::sleep(GUARD_PAUSE).await;
        }
    }

    /// One event while a script holds the dataset: of the stream only its end is known. Returns also what is to be done,
    /// which nobody has begun to do.
    fn turn_beside<R>(
        &self,
        roles: &mut Roles,
        event: impl FnOnce(&mut Roles, &mut Turn<'_>) -> R,
    ) -> (R, Vec<Action>) {
        let mut actions = Vec::new();
        let mut fresh = fresh_id;
        let stream =
            StreamView { end: self.stream_end.load(Relaxed), kept_from: None, fsynced: None, database: 0 };
        let mut turn = Turn { now_ms: self.uptime_ms(), stream, fresh_id: &mut fresh, actions: &mut actions };
        let result = event(roles, &mut turn);
        self.note_conditions(roles);
        (result, actions)
    }

    /// Milliseconds of a clock that never goes back.
    pub fn uptime_ms(&self) -> u64 {
        self.born.elapsed().as_millis() as u64
    }

    pub fn stream_view(&self, core: &Core) -> StreamView {
        StreamView {
            end: core.stream.offset(),
            kept_from: core.stream.backlog().map(|backlog| backlog.first_offset()),
            fsynced: self.persistence.has_aof().then(|| self.persistence.aof_synced.offset()),
            database: core.stream.selected().unwrap_or(0),
        }
    }

    /// REPLCONF of a connection that is not a replica's yet: announcements only, which need no dataset.
    pub fn announced(&self, connection: ConnectionId, arguments: &[&[u8]]) -> ReplconfReply {
        let mut fresh = fresh_id;
        let mut actions = Vec::new();
        let stream = StreamView { end: 0, kept_from: None, fsynced: None, database: 0 };
        let mut turn = Turn { now_ms: self.uptime_ms(), stream, fresh_id: &mut fresh, actions: &mut actions };
        self.roles.lock().replication.replconf(connection, arguments, &mut turn)
    }

    /// Performs one action. Returns whether clients that are held back are to try again.
    fn perform(self: &Arc<Self>, roles: &mut Roles, core: &mut Core, action: Action) -> bool {
        match action {
            Action::Log(Level::Debug, text) => tracing::trace!("{text}"),
            Action::Log(Level::Notice, text) => tracing::info!("{text}"),
            Action::Log(Level::Warning, text) => tracing::warn!("{text}"),
            Action::Send { connection, bytes } => roles.to_replica(connection, ToReplica::Send(bytes)),
            Action::StreamFrom { connection, position } => {
                roles.to_replica(connection, ToReplica::StreamFrom(position));
            }
            Action::SendAfterStream { connection, position, bytes } => {
                roles.to_replica(connection, ToReplica::SendAfterStream { position, bytes });
            }
            Action::Close { connection } => roles.to_replica(connection, ToReplica::Close),
            Action::CloseOverLimit { connection } => {
                self.stats.output_buffer_disconnections.fetch_add(1, Relaxed);
                roles.to_replica(connection, ToReplica::Close);
            }
            Action::StartTransfer { transfer, framing, filter, connections } => {
                self.persistence.moments.fetch_add(1, Relaxed);
                let mut moment = self.moment(core);
                if filter.without_data {
                    let settings = *core.keyspace.settings();
                    moment.snapshot = Keyspace::new(core.keyspace.database_count(), settings).snapshot();
                }
                if filter.without_functions {
                    moment.functions = Arc::default();
                    moment.scripts.clear();
                }
                let transfer_state = match framing {
                    Framing::EofMark(mark) => {
                        let mut senders = Vec::new();
                        for connection in connections {
                            let (sender, chunks) = replicas::chunk_channel();
                            senders.push(sender);
                            roles.to_replica(connection, ToReplica::Snapshot(chunks));
                        }
                        replicas::stream_snapshot(self, transfer, moment, mark, senders)
                    }
                    Framing::Length => replicas::prepare_snapshot(self, transfer, moment),
                };
                roles.transfers.insert(transfer, transfer_state);
                self.pause_point();
            }
            Action::SendPrepared { connection, transfer } => {
                if let Some(transfer) = roles.transfers.get(&transfer) {
                    let chunks = replicas::send_prepared(transfer);
                    roles.to_replica(connection, ToReplica::Snapshot(chunks));
                }
            }
            Action::EndTransfer { transfer } => {
                if let Some(transfer) = roles.transfers.remove(&transfer) {
                    transfer.end();
                }
            }
            Action::FinishWait { connection, reply } => {
                if let Some(client) = self.clients.get(connection) {
                    client.send(&reply.into());
                    client.unblock(Unblock::Answered);
                }
            }
            Action::AppendToStream(record) => {
                let selected = core.stream.selected();
                core.stream.append_received(record, selected);
            }
            // A replica's stream is its primary's: nothing may be put into it.
            Action::ReselectDatabase if roles.replication.is_replica() => {}
            Action::ReselectDatabase => core.stream.forget_selected(),
            Action::CreateBacklog => core.stream.start_backlog(self.config().repl_backlog_size as usize),
            Action::FreeBacklog => lazy_free::drop_later(0, core.stream.take_backlog()),
            Action::Connect { attempt, address } => {
                let (sender, orders) = mpsc::unbounded_channel();
                roles.open.push((attempt, sender));
                if let Some(links) = &roles.links {
                    links.send(LinkOrder { attempt, address, orders }).ok();
                }
            }
            Action::Disconnect { attempt } => roles.open.retain(|(current, _)| *current != attempt),
            Action::SendToPrimary { attempt, bytes } => roles.to_link(attempt, ToLink::Send(bytes)),
            Action::BeginLoad { attempt, length, meanwhile } => {
                self.note_loading(meanwhile);
                roles.to_link(attempt, ToLink::BeginLoad { length });
            }
            Action::FeedLoader { attempt, bytes } => roles.to_link(attempt, ToLink::Feed(bytes)),
            Action::FinishLoad { attempt } => roles.to_link(attempt, ToLink::FinishLoad),
            Action::AbortLoad { attempt } => {
                self.note_loading(Meanwhile::Unseen);
                if let Some(loaded) = roles.loaded.take() {
                    lazy_free::drop_later(loaded.keyspace.len(), loaded.keyspace);
                }
                roles.to_link(attempt, ToLink::AbortLoad);
            }
            Action::ApplyStream { attempt, bytes } => roles.to_link(attempt, ToLink::Apply(bytes)),
            Action::PausePoint => self.pause_point(),
            Action::FlushDataset => self.flush_for_load(roles, core),
            Action::ReplaceDataset { position } => self.replace_dataset(roles, core, position),
            Action::KeepFlushed if self.persistence.has_aof() => self.begin_aof_anew(core),
            Action::KeepFlushed => {}
            Action::RoleChanged { role, .. } => self.note_role(&role),
            Action::UnblockForDemotion => self.interrupt_waiting(core),
            Action::RollBackWriteScript => self.roll_back_script(),
            Action::ReleasePaused => return true,
        }
        false
    }

    /// What clients are to see of a full sync that begins to load, or has ended.
    fn note_loading(&self, meanwhile: Meanwhile) {
        self.conditions.set(Conditions::LOADING, meanwhile == Meanwhile::Loading);
        self.conditions.set(Conditions::ASYNC_LOADING, meanwhile == Meanwhile::Old);
    }

    fn pause_point(&self) {
        if self.pause_after_snapshot.load(Relaxed) {
            super::process::stop();
        }
    }

    fn flush_for_load(&self, roles: &Roles, core: &mut Core) {
        let empty = Keyspace::new(core.keyspace.database_count(), *core.keyspace.settings());
        let old = std::mem::replace(&mut core.keyspace, empty);
        lazy_free::drop_later(old.len(), old);
        core.writes.touch_all(&core.keyspace);
        let offset = core.stream.offset();
        core.stream.adopt(wire(roles.replication.history().id().as_str()), offset);
        core.stream.start_backlog(self.config().repl_backlog_size as usize);
    }

    fn replace_dataset(self: &Arc<Self>, roles: &mut Roles, core: &mut Core, position: u64) {
        let Some(loaded) = roles.loaded.take() else { return };
        self.note_loading(Meanwhile::Unseen);
        let selected = history_of(&loaded).map_or(0, |(_, _, database)| database);
        if let Err(error) = self.adopt(core, loaded, false) {
            // The loader has tried the libraries, so this is no matter of what the primary sent.
            tracing::error!("Cannot take over the dataset of the primary: {error}");
        }
        core.stream.adopt(wire(roles.replication.history().id().as_str()), position);
        core.stream.start_backlog(self.config().repl_backlog_size as usize);
        core.stream.append_received(b"", Some(selected));
        if self.persistence.has_aof() {
            self.begin_aof_anew(core);
        }
    }

    /// The AOF of a dataset that was replaced begins again with the new one.
    fn begin_aof_anew(self: &Arc<Self>, core: &mut Core) {
        self.leave_aof_files(core);
        match self.rewrite_aof(core) {
            Ok(true) => return,
            Ok(false) => {}
            Err(error) => tracing::error!("Cannot rewrite the AOF after a full sync: {error}"),
        }
        self.persistence.rewrite_is_scheduled.store(true, Relaxed);
    }

    /// Clients that wait, for keys or for replicas, are told and closed: what they wait for does not come here.
    fn interrupt_waiting(&self, core: &mut Core) {
        let error = ErrorReply::new(
            "UNBLOCKED force unblock from blocking operation, instance state changed (master -> replica?)",
        );
        let waiting: Vec<_> =
            self.clients.all().into_iter().filter(|client| client.is(Traits::BLOCKED)).collect();
        let for_keys: Vec<_> = core.blocked.keys().copied().collect();
        core.interrupt_blocked(self, &error);
        for client in waiting {
            if !for_keys.contains(&client.number) {
                client.send(&Reply::Error(error.clone()));
                client.unblock(Unblock::Answered);
            }
            client.close(Close::AfterReplies);
        }
    }

    fn note_role(&self, role: &Role) {
        let address = match role {
            Role::Primary => None,
            Role::Replica(address) | Role::HandingOver(address) => {
                Some(PrimaryAddress { host: Text::from(address.host.as_str()), port: address.port })
            }
        };
        self.config.update(|config| config.replicaof = address);
    }

    /// Directives that the roles go by have changed.
    pub fn refresh_roles(&self) {
        let mut roles = self.roles.lock();
        roles.replication.set_settings(settings(&self.config()));
        self.note_conditions(&roles);
    }

    /// Takes over what admission reads without locks.
    fn note_conditions(&self, roles: &Roles) {
        let config = self.config();
        let now_ms = self.uptime_ms();
        let replication = &roles.replication;
        let is_down = replication.link().is_some_and(|link| !link.is_connected());
        let conditions = &self.conditions;
        conditions.set(Conditions::REPLICA, replication.is_replica());
        conditions.set(Conditions::STALE, is_down && !config.replica_serve_stale_data);
        conditions.set(Conditions::PAUSED, roles.gate.scope(now_ms).is_some());
        let too_few = !replication.is_replica() && replication.primary().check_good_replicas(now_ms).is_err();
        conditions.set(Conditions::TOO_FEW_REPLICAS, too_few);
        self.over_limit_at.store(replication.primary().over_limit_at(), Relaxed);
        self.full_sync_is_saving.store(replication.primary().is_saving(), Relaxed);
        let statistics = replication.primary().statistics();
        self.stats.full_syncs.store(statistics.full, Relaxed);
        self.stats.partial_syncs.store(statistics.partial_ok, Relaxed);
        self.stats.partial_syncs_refused.store(statistics.partial_err, Relaxed);
    }

    /// Finds out, before the dataset is loaded, which role the server begins in: a failover's if there was one, or that of
    /// the configuration.
    pub fn remember_role(&self) {
        let config = self.config();
        let configured =
            config.replicaof.as_ref().map(|primary| Address::new(primary.host.to_str(), primary.port));
        // Servers that share a folder have other ports.
        let path = PathBuf::from(format!("role-{}.state", config.port));
        let (role_file, remembered) = RoleFile::open(Arc::new(SystemFileSystem), path, configured);
        if let Some(state) = &remembered {
            let role = state.role();
            tracing::info!("The role is that of the last failover: {role:?}");
            self.note_role(&role);
        }
        let mut roles = self.roles.lock();
        (roles.role_file, roles.remembered) = (Some(role_file), remembered);
        drop(roles);
        self.conditions.set(Conditions::REPLICA, self.config().replicaof.is_some());
    }

    /// Writes the configuration, and with it the role, by `write`: from then on a failover is compared with that.
    pub fn write_role<E>(&self, write: impl FnOnce() -> Result<(), E>) -> Result<(), E> {
        // Locked meanwhile, so that the role that is written is the one that is noted.
        let mut guard = self.roles.lock();
        let roles = &mut *guard;
        write()?;
        let (role, replid) = (roles.replication.role(), roles.replication.history().id());
        if let Some(file) = &mut roles.role_file {
            role_stored(file.note_configured(&role, replid));
        }
        Ok(())
    }

    /// Begins the role that [`remember_role`](Self::remember_role) found, with the dataset that was loaded.
    pub fn begin_role(self: &Arc<Self>, links: UnboundedSender<LinkOrder>) {
        let config = self.config();
        self.refresh_memory_limit();
        let remembered = self.roles.lock().remembered.take();
        let role = match (&config.replicaof, &remembered) {
            (_, Some(state)) => state.role(),
            (None, None) => Role::Primary,
            (Some(primary), None) => Role::Replica(Address::new(primary.host.to_str(), primary.port)),
        };
        let target_id = remembered.as_ref().and_then(RoleState::replid);
        let mut core = self.core.write();
        let stored = ReplicationId::parse(core.stream.replid()).unwrap_or_else(fresh_id);
        let position = core.stream.backlog().map(|_| core.stream.offset());
        let history = History::after_restart(&role, stored, position, target_id, fresh_id());
        let now_ms = self.uptime_ms();
        self.turn(&mut core, |roles, turn| {
            roles.links = Some(links);
            roles.replication = Replication::new(settings(&config), history, role, now_ms);
            roles.coordinator = Coordinator::resume(&roles.replication, &mut roles.gate, now_ms);
            roles.replication.tick(turn);
        });
        let dropped = std::mem::take(&mut self.roles.lock().dropped);
        if !self.is_replica() {
            // Replicas that go on from here may have another database selected than what was saved says.
            core.stream.forget_selected();
            for (database, key) in dropped {
                core.stream.append_deletion(database, &key);
            }
            self.hand_over(&mut core);
        }
    }

    /// Whatever comes with time, ten times a second.
    pub async fn tick_roles(self: Arc<Self>) {
        loop {
            tokio::time::sleep(Duration::from_millis(100)).await;
            if let Some(mut core) = self.core.try_write_for(GUARD_PATIENCE) {
                let mut settings = settings(&self.config());
                settings.primary.rdb_client_grace_ms = self.rdb_client_grace_ms.load(Relaxed);
                let now_ms = self.uptime_ms();
                let ended = self.turn(&mut core, |roles, turn| {
                    roles.replication.set_settings(settings);
                    roles.replication.fsynced(turn);
                    roles.replication.tick(turn);
                    roles.gate.expire(now_ms)
                });
                if ended {
                    self.let_go();
                }
            } else if self.scripts_running.holds() {
                self.beside_script(|_, _| ());
            }
        }
    }

    /// One event of the coordinator while a script holds the dataset: a failover begins or is given up, its time runs
    /// out, or the script is rolled back for it. `None`: a role is changing, for which the dataset must be free.
    pub fn beside_script<R>(&self, event: impl FnOnce(&mut Roles, &mut Turn<'_>) -> R) -> Option<R> {
        let mut guard = self.roles.lock();
        let roles = &mut *guard;
        if roles.replication.failover_phase() == FailoverPhase::InProgress {
            return None;
        }
        let (result, actions) = self.turn_beside(roles, |roles, turn| {
            let result = event(roles, turn);
            roles.coordinator.step(WriteScript::Running, &mut roles.replication, &mut roles.gate, turn);
            result
        });
        drop(guard);
        // Before the handover nothing else can be asked for.
        for action in actions {
            match action {
                Action::Log(_, text) => tracing::info!("{text}"),
                Action::RollBackWriteScript => self.roll_back_script(),
                Action::ReleasePaused => self.let_go(),
                _ => {}
            }
        }
        Some(result)
    }

    fn roll_back_script(&self) {
        if let Some(script) = self.scripts_running.holder() {
            script.stop(Kill::Rollback);
        }
    }

    // ---- Pauses ----

    /// Does the pause that is in force hold back a call, given what it and the commands queued before it may do?
    pub fn pause_holds(&self, writes: bool, may_replicate: bool) -> bool {
        let class = match (writes, may_replicate) {
            (true, _) => CommandClass::Write,
            (false, true) => CommandClass::MayReplicate,
            (false, false) => CommandClass::Read,
        };
        self.roles.lock().gate.holds(class, self.uptime_ms())
    }

    /// CLIENT PAUSE.
    pub fn pause_clients(&self, timeout_ms: u64, only_writes: bool) {
        let now_ms = self.uptime_ms();
        let scope = if only_writes { Scope::Write } else { Scope::All };
        self.roles.lock().gate.pause(Purpose::Client, scope, Some(now_ms.saturating_add(timeout_ms)), now_ms);
        self.conditions.set(Conditions::PAUSED, true);
    }

    /// CLIENT UNPAUSE.
    pub fn unpause_clients(&self) {
        let now_ms = self.uptime_ms();
        let release = {
            let mut roles = self.roles.lock();
            let release = roles.gate.unpause(Purpose::Client, now_ms);
            self.conditions.set(Conditions::PAUSED, roles.gate.scope(now_ms).is_some());
            release
        };
        if release {
            self.let_go();
        }
    }

    /// Where a client that understands it is sent from a replica. While a failover hands over it has to wait: neither
    /// node is a primary then. `None`: this is no replica.
    pub fn redirection(&self) -> Option<Result<Hold, ErrorReply>> {
        let roles = self.roles.lock();
        let link = roles.replication.link()?;
        if roles.replication.failover_phase() == FailoverPhase::InProgress {
            return Some(Ok(Hold::Pause));
        }
        Some(Err(ErrorReply::from_text(format!("REDIRECT {}", link.address()))))
    }

    /// The primary that this replica follows.
    pub fn primary_address(&self) -> Option<Address> {
        self.roles.lock().replication.link().map(|link| link.address().clone())
    }

    /// The stream may be longer: the tasks of replicas are woken.
    pub fn stream_moved(self: &Arc<Self>, core: &mut Core) {
        let offset = core.stream.offset();
        if self.stream_end.swap(offset, Relaxed) != offset {
            for client in self.followers.read().iter() {
                client.nudge();
            }
            if core.stream.backlog().is_some_and(Backlog::is_stretched) {
                // A busy stream would grow until the next turn of the roles by what has been sent long since.
                let needed = self.roles.lock().replication.primary().oldest_needed();
                core.stream.keep_from(needed.unwrap_or(u64::MAX));
            }
            if offset >= self.over_limit_at.load(Relaxed) {
                self.turn(core, |roles, turn| roles.replication.check_limits(turn));
            }
        }
    }

    /// What a client that waits would be told now.
    pub fn answer_now(
        &self,
        connection: ConnectionId,
        position: u64,
        request: WaitRequest,
    ) -> Option<WaitReply> {
        let mut fresh = fresh_id;
        let stream = StreamView {
            end: self.stream_end.load(Relaxed),
            kept_from: None,
            fsynced: self.persistence.has_aof().then(|| self.persistence.aof_synced.offset()),
            database: 0,
        };
        let turn = Turn { now_ms: self.uptime_ms(), stream, fresh_id: &mut fresh, actions: &mut Vec::new() };
        self.roles.lock().replication.wait(connection, position, request, false, &turn)
    }

    /// A connection that may have announced itself, or waited, is gone.
    pub fn stop_waiting(&self, client: &Client) {
        self.roles.lock().replication.stop_waiting(client.number);
    }
}

/// The role is to last over a restart, if a failover gave it.
fn store_role(roles: &mut Roles, role: &Role, by_failover: bool) {
    let replid = roles.replication.history().id();
    if let Some(file) = &mut roles.role_file {
        role_stored(file.note(role, by_failover, replid));
    }
}

fn role_stored(result: std::io::Result<Option<RoleSync>>) {
    match result {
        Ok(None) => {}
        // Clients wait for the failover: they do not wait for the disk.
        Ok(Some(sync)) => spawn("role-sync", move || {
            if let Err(error) = sync.run() {
                tracing::warn!("The role cannot be brought to the disk: {error}");
            }
        }),
        Err(error) => tracing::warn!("The role cannot be stored: {error}"),
    }
}
