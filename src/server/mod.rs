//! The running server: reactors, connections, configuration, INFO, signals.
//!
//! Invariant: everything two threads may touch stands in [`Server`]; everything that changes in step with the dataset
//! stands in [`core::Core`], behind the one guard.

pub mod admission;
mod aof;
mod aof_reading;
mod aof_rewriting;
mod apply;
pub mod blocking;
pub mod call;
pub mod client;
pub mod command_line;
pub mod command_log;
pub mod commands;
pub mod commandstats;
pub mod config;
pub mod connection;
pub mod core;
mod cron;
pub mod execute;
pub mod functions;
mod health;
pub mod histogram;
pub mod latency;
mod lazy_free;
pub mod link;
pub mod loading;
pub mod log;
mod lolwut;
pub mod memory;
mod missing_scripts;
pub mod monitors;
mod output_limits;
pub mod persistence;
mod process;
pub mod pubsub;
mod rates;
pub mod reactor;
mod redaction;
pub mod replicas;
pub mod roles;
pub mod script;
mod script_workers;
pub mod scripts_running;
pub mod session;
pub mod shutdown;
pub mod start;
pub mod stats;
mod steady_file;
pub mod table;
mod transaction;
pub mod users;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc::UnboundedSender;

use self::admission::{Conditions, Hold};
use self::client::{Client, Clients};
use self::command_log::CommandLog;
use self::commandstats::CommandStats;
use self::config::{Config, MaxmemoryPolicy, SharedConfig};
use self::core::Core;
use self::latency::LatencyMonitor;
use self::monitors::Monitors;
use self::persistence::Persistence;
use self::pubsub::PubSub;
use self::rates::Rates;
use self::roles::Roles;
use self::scripts_running::ScriptsRunning;
use self::stats::Stats;
use self::table::{Entry, Table};
use self::users::SharedUsers;
use crate::base::clock::{Clock, SystemClock};
use crate::keyspace::{AccessPolicy, Counters, EventClasses, LazyFree, Settings, Watchers};
use crate::protocol::ErrorReply;
use crate::scripting::{EngineSettings, ScriptCache};
use crate::types::Limits;

/// The server, shared by all its threads.
pub struct Server {
    /// All commands. Lives as long as the process, so that entries can be pointed at from anywhere.
    pub table: &'static Table,
    pub config: Arc<SharedConfig>,
    pub core: RwLock<Core>,
    pub functions: functions::Functions,
    /// Those of the dataset: to be reached while a script holds it.
    pub watchers: Watchers,
    /// When it was last looked whether memory is over its limit.
    pub memory_looked_at_ms: AtomicU64,
    pub clock: SystemClock,
    pub started_ms: u64,
    pub clients: Clients,
    pub users: SharedUsers,
    pub pubsub: PubSub,
    pub conditions: Conditions,
    pub stats: Stats,
    pub command_log: CommandLog,
    pub latency: LatencyMonitor,
    pub monitors: Monitors,
    pub rates: Rates,
    pub persistence: Persistence,
    /// Replication and failover. Locked after the dataset, never before it.
    pub roles: Mutex<Roles>,
    /// The connections of replicas, woken when the stream grows.
    pub followers: RwLock<Vec<Arc<Client>>>,
    /// The end of the stream, for those who look without the guard.
    pub stream_end: AtomicU64,
    /// The offset at which some replica may be too far behind.
    pub over_limit_at: AtomicU64,
    /// Is a snapshot being written for replicas?
    pub full_sync_is_saving: AtomicBool,
    /// Has there been a replica since the server was started?
    pub had_replicas: AtomicBool,
    /// DEBUG PAUSE-AFTER-FORK.
    pub pause_after_snapshot: AtomicBool,
    /// DEBUG DELAY-RDB-CLIENT-FREE-SECONDS.
    pub rdb_client_grace_ms: AtomicU64,
    pub born: Instant,
    /// The bodies of EVAL scripts. Functions are part of the dataset and stand in [`core::Core`].
    pub scripts: ScriptCache,
    pub scripts_running: ScriptsRunning,
    /// One set per reactor.
    pub reactor_counters: Vec<Arc<Counters>>,
    /// One set per reactor.
    pub reactor_stats: Vec<Arc<CommandStats>>,
    /// Calls that were answered on behalf of waiting clients.
    pub unblocked_stats: Arc<CommandStats>,
    /// What threads for scripts count, also those that have ended.
    pub worker_counts: Mutex<Vec<(Arc<Counters>, Arc<CommandStats>)>>,
    pub script_workers: script_workers::ScriptWorkers,
    /// Scripts that are debugged on a copy of the dataset.
    pub rehearsals: Arc<AtomicUsize>,
    pub missing_scripts: missing_scripts::MissingScripts,
    /// Directives where the engines of all threads read them.
    pub engine_settings: Arc<EngineSettings>,
    /// Connections whose requests are held back.
    held: Mutex<Vec<Arc<Client>>>,
    /// 40 hex digits, another at each start.
    pub run_id: String,
    pub cron_loops: AtomicU64,
    /// What the end of the server waits for.
    pub shutdown: shutdown::Shutdown,
    /// Connections of MIGRATE that are kept.
    pub migrations: commands::migrate::Connections,
    pub memory_at_start: u64,
    /// The file that the server was started with, absolute.
    pub config_file: Option<PathBuf>,
    /// Where new listening sockets are handed to whoever accepts on them.
    pub listening: Mutex<Option<UnboundedSender<Vec<std::net::TcpListener>>>>,
    /// Handles of those in use, by which they are closed.
    pub listeners: Mutex<Vec<std::net::TcpListener>>,
    /// DEBUG SET-ACTIVE-EXPIRE 0.
    pub active_expire_is_off: AtomicBool,
    /// `latency-tracking no`.
    pub latency_tracking_is_off: AtomicBool,
    /// DEBUG PAUSE-CRON 1.
    pub cron_is_off: AtomicBool,
    /// DEBUG SET-DISABLE-DENY-SCRIPTS 1: scripts may call what is not for scripts.
    pub deny_scripts_is_off: AtomicBool,
}

impl Server {
    pub fn config(&self) -> Arc<Config> {
        self.config.current()
    }

    pub fn now_ms(&self) -> u64 {
        self.clock.unix_ms().max(0) as u64
    }

    pub fn now_us(&self) -> u64 {
        self.clock.unix_us().max(0) as u64
    }

    /// May nothing expire now: a replica, or a pause of writes?
    pub fn expiry_is_off(&self) -> bool {
        self.conditions.has(Conditions::REPLICA | Conditions::PAUSED)
    }

    /// What a write is answered on a read-only replica.
    pub fn readonly_error(&self) -> ErrorReply {
        ErrorReply::new("READONLY You can't write against a read only replica.")
    }

    /// Is there a user of this name?
    pub fn has_user(&self, name: &[u8]) -> bool {
        self.users.current().get(name).is_some()
    }

    /// Sends a message to the subscribers of a channel.
    pub fn publish(&self, channel: &[u8], message: &[u8]) -> usize {
        self.pubsub.publish(channel, message)
    }

    /// Keeps a client whose request is held back; it tries again after the returned time at the latest, or when
    /// [`let_go`](Self::let_go) is called.
    pub fn hold(&self, hold: Hold, client: &Arc<Client>) -> Option<Duration> {
        self.held.lock().push(client.clone());
        match hold {
            Hold::Script => Some(
                self.scripts_running.patience(Duration::from_millis(self.config().busy_reply_threshold_ms)),
            ),
            // The answer lets it go.
            Hold::Pause | Hold::Primary => None,
        }
    }

    /// Lets all clients that are held back try again.
    pub fn let_go(&self) {
        for client in std::mem::take(&mut *self.held.lock()) {
            client.nudge();
        }
    }

    /// Forgets what a client waits for. While a script holds the dataset that takes until its end.
    pub async fn forget_waiting(&self, client: &Client) {
        loop {
            let core = self.core.try_write_for(execute::LOCK_PATIENCE);
            if let Some(mut core) = core {
                core.forget_blocked(client.number);
                break;
            }
            self.scripts_running.ended().await;
        }
        self.stop_waiting(client);
    }

    /// Gives the stream's new bytes to the AOF and to the replicas.
    pub fn hand_over(self: &Arc<Self>, core: &mut Core) {
        if core.stream.has_for_aof() {
            let bytes = core.stream.take_for_aof();
            self.write_aof(&bytes);
        }
        self.stream_moved(core);
    }

    /// Replicas or the disk have confirmed more of the stream.
    pub fn acknowledged(self: &Arc<Self>) {
        let mut core = self.core.write();
        self.turn(&mut core, |roles, turn| roles.replication.fsynced(turn));
    }

    pub fn is_replica(&self) -> bool {
        self.conditions.has(Conditions::REPLICA)
    }

    /// The counters of all calls, set by set: reactors, threads for scripts, and calls that waited.
    pub fn all_stats(&self) -> Vec<Arc<CommandStats>> {
        let of_workers: Vec<_> = self.worker_counts.lock().iter().map(|(_, stats)| stats.clone()).collect();
        self.reactor_stats.iter().cloned().chain(of_workers).chain([self.unblocked_stats.clone()]).collect()
    }

    /// The counters of lookups, set by set.
    pub fn all_counters(&self) -> Vec<Arc<Counters>> {
        let of_workers: Vec<_> =
            self.worker_counts.lock().iter().map(|(counters, _)| counters.clone()).collect();
        self.reactor_counters.iter().cloned().chain(of_workers).collect()
    }

    /// Lookups of all reactors that found their key, and those that did not.
    pub fn hits_and_misses(&self) -> (u64, u64) {
        self.all_counters()
            .iter()
            .map(|counters| counters.hits_and_misses())
            .fold((0, 0), |(hits, misses), (more_hits, more_misses)| (hits + more_hits, misses + more_misses))
    }

    pub fn uptime_seconds(&self) -> u64 {
        self.now_ms().saturating_sub(self.started_ms) / 1000
    }

    /// How long the calls of a command took, on all reactors.
    pub fn latencies(&self, entry: &Entry) -> histogram::Counts {
        let mut counts = histogram::Counts::default();
        for set in self.all_stats() {
            set.of(entry.id).latencies.add_to(&mut counts);
        }
        counts
    }

    /// Calls ever processed.
    pub fn commands_processed(&self) -> u64 {
        let sets = self.all_stats();
        sets.iter()
            .map(|set| {
                self.table.entries().iter().map(|entry| set.of(entry.id).calls.load(Relaxed)).sum::<u64>()
            })
            .sum()
    }
}

/// What of the configuration the dataset depends on.
pub fn keyspace_settings(config: &Config) -> Settings {
    let access = match config.maxmemory_policy {
        MaxmemoryPolicy::AllkeysLfu | MaxmemoryPolicy::VolatileLfu => AccessPolicy::Lfu {
            log_factor: config.lfu_log_factor,
            decay_minutes: config.lfu_decay_time_minutes,
        },
        _ => AccessPolicy::Lru,
    };
    Settings {
        limits: Limits {
            hash_max_listpack_entries: config.hash_max_listpack_entries as usize,
            hash_max_listpack_value: config.hash_max_listpack_value as usize,
            zset_max_listpack_entries: config.zset_max_listpack_entries as usize,
            zset_max_listpack_value: config.zset_max_listpack_value as usize,
            set_max_intset_entries: config.set_max_intset_entries as usize,
            set_max_listpack_entries: config.set_max_listpack_entries as usize,
            set_max_listpack_value: config.set_max_listpack_value as usize,
            list_max_listpack_size: config.list_max_listpack_size,
            list_compress_depth: config.list_compress_depth,
            quicklist_packed_threshold: 0,
            hll_sparse_max_bytes: config.hll_sparse_max_bytes as usize,
            stream_node_max_bytes: config.stream_node_max_bytes as usize,
            stream_node_max_entries: config.stream_node_max_entries as usize,
        },
        events: event_classes(config.notify_keyspace_events),
        access,
        lazy_free: LazyFree {
            expire: config.lazyfree_lazy_expire,
            server_delete: config.lazyfree_lazy_server_del,
            user_delete: config.lazyfree_lazy_user_del,
            user_flush: config.lazyfree_lazy_user_flush,
            eviction: config.lazyfree_lazy_eviction,
        },
        max_string_length: config.proto_max_bulk_len as usize,
        takes_other_versions: config.rdb_version_check == config::RdbVersionCheck::Relaxed,
    }
}

fn event_classes(events: config::KeyspaceEvents) -> EventClasses {
    let classes = EventClasses::parse(&events.to_letters()).unwrap_or_default();
    // The letters as CONFIG GET answers them leave `n` out beside `A`.
    let new = events.contains(config::KeyspaceEvents::NEW_KEY);
    classes.and(if new { EventClasses::NEW } else { EventClasses::NONE })
}
