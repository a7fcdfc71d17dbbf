//! The directives: one line each, from which the fields of [`Config`], their defaults, and everything that
//! CONFIG GET, SET, REWRITE and the configuration file do with them are derived. The set and the defaults are
//! those of Valkey 9.1.2, read from the answers of that server, and Understudy's own at the end.
//!
//! Invariants (each with a test): names and aliases are unique, every default passes its own rules, the
//! bounds of a number fit its field.

use super::checks;
use super::directive::{Directive, Effect, Empty, Flags, Kind, NumberFormat};
use super::values::*;

const KB: u64 = 1024;
const MB: u64 = 1024 * KB;
const GB: u64 = 1024 * MB;
const I32_MAX: i128 = i32::MAX as i128;
const I32_MIN: i128 = i32::MIN as i128;
const I64_MAX: i128 = i64::MAX as i128;
const U64_MAX: i128 = u64::MAX as i128;

const NO_DEFRAGMENTATION: &str = "Active defragmentation cannot be enabled: it requires a server compiled with a modified Jemalloc like the one shipped by default with the source distribution";

const NO_CLUSTER: &str = "this server does not run in cluster mode";

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

macro_rules! kind {
    ($field:ident: $type:ty, bool) => {
        Kind::Bool { get: |config| config.$field, set: |config, value| config.$field = value, refuse_yes: None }
    };
    ($field:ident: $type:ty, bool($reason:expr)) => {
        Kind::Bool { get: |config| config.$field, set: |config, value| config.$field = value, refuse_yes: Some($reason) }
    };
    ($field:ident: $type:ty, integer($min:expr, $max:expr)) => { kind!(@number $field: $type, Decimal, $min, $max) };
    ($field:ident: $type:ty, memory($min:expr, $max:expr)) => { kind!(@number $field: $type, Memory, $min, $max) };
    ($field:ident: $type:ty, octal($min:expr, $max:expr)) => { kind!(@number $field: $type, Octal, $min, $max) };
    (@number $field:ident: $type:ty, $format:ident, $min:expr, $max:expr) => {
        Kind::Number {
            format: NumberFormat::$format,
            min: $min,
            max: $max,
            get: |config| i128::from(config.$field),
            // The bounds have been checked and fit the type, so this never keeps the old value.
            set: |config, value| config.$field = <$type>::try_from(value).unwrap_or(config.$field),
        }
    };
    ($field:ident: $type:ty, choice) => {
        Kind::Choice {
            names: <$type as Choice>::NAMES,
            get: |config| config.$field.name(),
            set: |config, name| match Choice::from_name(name) {
                Some(value) => {
                    config.$field = value;
                    true
                }
                None => false,
            },
        }
    };
    ($field:ident: $type:ty, text($empty:ident)) => { kind!(@text $field, $empty, None) };
    ($field:ident: $type:ty, text($empty:ident, $check:path)) => { kind!(@text $field, $empty, Some($check)) };
    (@text $field:ident, $empty:ident, $check:expr) => {
        Kind::Text {
            empty: Empty::$empty,
            check: $check,
            get: |config| &config.$field,
            set: |config, value| config.$field = value,
        }
    };
    ($field:ident: $type:ty, special) => {
        Kind::Special { get: |config| &config.$field, get_mut: |config| &mut config.$field }
    };
}

macro_rules! directives {
    ($(
        $(#[$doc:meta])*
        $name:literal $(/ $alias:literal)? => $field:ident: $type:ty = $default:expr,
        $kind:ident $(($($arg:tt)*))?
        $(, [$($flag:ident),+])?
        $(, apply $effect:ident)?;
    )*) => {
        /// The values of all directives. Plain data: cheap to read, cloned by whoever changes it.
        #[derive(Debug, Clone)]
        pub struct Config {
            $($(#[$doc])* #[doc = concat!("\n\nDirective `", $name, "`.")] pub $field: $type,)*
            /// `rename-command` lines, in their order.
            pub renamed_commands: Vec<RenamedCommand>,
            /// `user` lines, in their order. What users are now, the ACL knows.
            pub users: Vec<UserLine>,
        }

        impl Default for Config {
            fn default() -> Self {
                Config { $($field: $default,)* renamed_commands: Vec::new(), users: Vec::new() }
            }
        }

        /// All directives, in the order in which CONFIG GET answers and CONFIG REWRITE appends them.
        pub static DIRECTIVES: &[Directive] = &[$(
            Directive {
                name: $name,
                alias: optional!($($alias)?),
                flags: Flags::NONE$($(.with(Flags::$flag))+)?,
                effect: optional!($(Effect::$effect)?),
                kind: kind!($field: $type, $kind $(($($arg)*))?),
            },
        )*];
    };
}

directives! {
    // Network
    /// 0 means no TCP at all.
    "port" => port: u16 = 6379, integer(0, 65535), apply Port;
    "bind" => bind: BindAddresses = BindAddresses::default(), special, [MULTI], apply Bind;
    "bind-source-addr" => bind_source_addr: Text = Text::default(), text(Unset);
    "unixsocket" => unixsocket: Text = Text::default(), text(Unset), [IMMUTABLE];
    "unixsocketgroup" => unixsocketgroup: Text = Text::default(), text(Unset), [IMMUTABLE];
    /// Mode bits; 0 leaves them to the umask.
    "unixsocketperm" => unixsocketperm: u32 = 0, octal(0, 0o777), [IMMUTABLE];
    "protected-mode" => protected_mode: bool = true, bool;
    "tcp-backlog" => tcp_backlog: u32 = 511, integer(0, I32_MAX), [IMMUTABLE];
    /// In seconds; 0 turns it off.
    "tcp-keepalive" => tcp_keepalive_seconds: u32 = 300, integer(0, I32_MAX);
    /// Seconds after which an idle client is closed; 0 means never.
    "timeout" => timeout_seconds: u32 = 0, integer(0, I32_MAX);
    "mptcp" => mptcp: bool = false, bool, [IMMUTABLE];
    "socket-mark-id" => socket_mark_id: u32 = 0, integer(0, u32::MAX as i128), [IMMUTABLE];
    "max-new-connections-per-cycle" => max_new_connections_per_cycle: u32 = 10, integer(1, 1000);
    "max-new-tls-connections-per-cycle" => max_new_tls_connections_per_cycle: u32 = 1, integer(1, 1000);
    "maxclients" => maxclients: u32 = 10_000, integer(1, u32::MAX as i128), apply Maxclients;
    "maxmemory-clients" => maxmemory_clients: ClientsMemoryLimit = ClientsMemoryLimit::Bytes(0), special, apply MaxmemoryClients;
    "client-output-buffer-limit" => client_output_buffer_limit: OutputBufferLimits = OutputBufferLimits::default(), special, [MULTI];
    "client-query-buffer-limit" => client_query_buffer_limit: u64 = GB, memory(MB as i128, I64_MAX);
    "proto-max-bulk-len" => proto_max_bulk_len: u64 = 512 * MB, memory(MB as i128, I64_MAX);
    "requirepass" => requirepass: Text = Text::default(), text(Unset), [SENSITIVE], apply Requirepass;
    "availability-zone" => availability_zone: Text = Text::default(), text(Value);
    "extended-redis-compatibility" => extended_redis_compatibility: bool = false, bool, apply RedisCompatibility;

    // Process
    "daemonize" => daemonize: bool = false, bool, [IMMUTABLE];
    "supervised" => supervised: SupervisedMode = SupervisedMode::No, choice, [IMMUTABLE];
    "pidfile" => pidfile: Text = Text::default(), text(Unset), [IMMUTABLE];
    "set-proc-title" => set_proc_title: bool = true, bool, [IMMUTABLE];
    "proc-title-template" => proc_title_template: Text = Text::from("{title} {listen-addr} {server-mode}"), text(Value, checks::proc_title_template), apply ProcessTitle;
    "always-show-logo" => always_show_logo: bool = false, bool, [IMMUTABLE];
    "databases" => databases: u32 = 16, integer(1, I32_MAX), [IMMUTABLE];
    /// How often a second the server looks after itself; always 1 to 500.
    "hz" => hz: u32 = 10, integer(0, I32_MAX), apply Hz;
    "dynamic-hz" => dynamic_hz: bool = true, bool, [HIDDEN];
    "io-threads" => io_threads: u32 = 1, integer(1, 256), apply IoThreads;
    "io-threads-always-active" => io_threads_always_active: bool = false, bool, [HIDDEN];
    "events-per-io-thread" => events_per_io_thread: u32 = 2, integer(0, I32_MAX), [HIDDEN];
    "min-io-threads-avoid-copy-reply" => min_io_threads_avoid_copy_reply: u32 = 7, integer(0, I32_MAX), [HIDDEN];
    "min-string-size-avoid-copy-reply" => min_string_size_avoid_copy_reply: u32 = 16384, integer(0, I32_MAX), [HIDDEN];
    "min-string-size-avoid-copy-reply-threaded" => min_string_size_avoid_copy_reply_threaded: u32 = 65536, integer(0, I32_MAX), [HIDDEN];
    "prefetch-batch-max-size" => prefetch_batch_max_size: u32 = 16, integer(0, 128);
    "server-cpulist" / "server_cpulist" => server_cpulist: Text = Text::default(), text(Unset), [IMMUTABLE];
    "bio-cpulist" / "bio_cpulist" => bio_cpulist: Text = Text::default(), text(Unset), [IMMUTABLE];
    "aof-rewrite-cpulist" / "aof_rewrite_cpulist" => aof_rewrite_cpulist: Text = Text::default(), text(Unset), [IMMUTABLE];
    "bgsave-cpulist" / "bgsave_cpulist" => bgsave_cpulist: Text = Text::default(), text(Unset), [IMMUTABLE];
    "oom-score-adj" => oom_score_adj: OomScoreAdj = OomScoreAdj::No, choice, apply OomScoreAdj;
    "oom-score-adj-values" => oom_score_adj_values: OomScoreAdjValues = OomScoreAdjValues::default(), special, [MULTI], apply OomScoreAdj;
    "disable-thp" => disable_thp: bool = true, bool, [IMMUTABLE];
    "locale-collate" => locale_collate: Text = Text::default(), text(Value, checks::locale), apply LocaleCollate;
    "ignore-warnings" => ignore_warnings: Text = Text::default(), text(Value);
    "crash-log-enabled" => crash_log_enabled: bool = true, bool, apply CrashLog;
    "crash-memcheck-enabled" => crash_memcheck_enabled: bool = true, bool;
    "use-exit-on-panic" => use_exit_on_panic: bool = false, bool, [HIDDEN];
    /// In milliseconds; 0 turns it off.
    "watchdog-period" => watchdog_period_ms: u32 = 0, integer(0, I32_MAX), [HIDDEN], apply Watchdog;
    "shutdown-timeout" => shutdown_timeout_seconds: u32 = 10, integer(0, I32_MAX);
    "shutdown-on-sigint" => shutdown_on_sigint: ShutdownOptions = ShutdownOptions::default(), special, [MULTI];
    "shutdown-on-sigterm" => shutdown_on_sigterm: ShutdownOptions = ShutdownOptions::default(), special, [MULTI];
    "enable-protected-configs" => enable_protected_configs: ProtectedAction = ProtectedAction::No, choice, [IMMUTABLE];
    "enable-debug-command" => enable_debug_command: ProtectedAction = ProtectedAction::No, choice, [IMMUTABLE];
    "enable-module-command" => enable_module_command: ProtectedAction = ProtectedAction::No, choice, [IMMUTABLE];
    "enable-debug-assert" => enable_debug_assert: bool = false, bool, [IMMUTABLE, HIDDEN];
    "debug-context" => debug_context: Text = Text::default(), text(Value), [HIDDEN];

    // Log
    "loglevel" => loglevel: LogLevel = LogLevel::Notice, choice, apply Logging;
    /// Empty: the standard output.
    "logfile" => logfile: Text = Text::default(), text(Value), [IMMUTABLE];
    "log-format" => log_format: LogFormat = LogFormat::Legacy, choice, apply Logging;
    "log-timestamp-format" => log_timestamp_format: LogTimestampFormat = LogTimestampFormat::Legacy, choice, apply Logging;
    "hide-user-data-from-log" => hide_user_data_from_log: bool = true, bool, apply Logging;
    "syslog-enabled" => syslog_enabled: bool = false, bool, [IMMUTABLE];
    "syslog-ident" => syslog_ident: Text = Text::from("valkey"), text(Value), [IMMUTABLE];
    "syslog-facility" => syslog_facility: SyslogFacility = SyslogFacility::Local0, choice, [IMMUTABLE];

    // Memory and eviction
    /// In bytes; 0 means no limit.
    "maxmemory" => maxmemory: u64 = 0, memory(0, U64_MAX), apply Maxmemory;
    "maxmemory-policy" => maxmemory_policy: MaxmemoryPolicy = MaxmemoryPolicy::Noeviction, choice, apply Eviction;
    "maxmemory-samples" => maxmemory_samples: u32 = 5, integer(1, 64), apply Eviction;
    "maxmemory-eviction-tenacity" => maxmemory_eviction_tenacity: u32 = 10, integer(0, 100), apply Eviction;
    "lfu-log-factor" => lfu_log_factor: u32 = 10, integer(0, I32_MAX), apply Eviction;
    /// In minutes.
    "lfu-decay-time" => lfu_decay_time_minutes: u32 = 1, integer(0, I32_MAX), apply Eviction;
    "active-expire-effort" => active_expire_effort: u32 = 1, integer(1, 10);
    "lazyfree-lazy-eviction" => lazyfree_lazy_eviction: bool = true, bool;
    "lazyfree-lazy-expire" => lazyfree_lazy_expire: bool = true, bool;
    "lazyfree-lazy-server-del" => lazyfree_lazy_server_del: bool = true, bool;
    "lazyfree-lazy-user-del" => lazyfree_lazy_user_del: bool = true, bool;
    "lazyfree-lazy-user-flush" => lazyfree_lazy_user_flush: bool = true, bool;
    "activerehashing" => activerehashing: bool = true, bool;
    "activedefrag" => activedefrag: bool = false, bool(NO_DEFRAGMENTATION);
    "active-defrag-cycle-min" => active_defrag_cycle_min: u32 = 1, integer(1, 99);
    "active-defrag-cycle-max" => active_defrag_cycle_max: u32 = 25, integer(1, 99);
    "active-defrag-cycle-us" => active_defrag_cycle_us: u32 = 500, integer(0, 100_000);
    "active-defrag-threshold-lower" => active_defrag_threshold_lower: u32 = 10, integer(0, 1000);
    "active-defrag-threshold-upper" => active_defrag_threshold_upper: u32 = 100, integer(0, 1000);
    "active-defrag-ignore-bytes" => active_defrag_ignore_bytes: u64 = 100 * MB, memory(1, I64_MAX);
    "active-defrag-max-scan-fields" => active_defrag_max_scan_fields: u64 = 1000, integer(1, I64_MAX);
    "jemalloc-bg-thread" => jemalloc_bg_thread: bool = true, bool, apply JemallocBackgroundThread;
    "tracking-table-max-keys" => tracking_table_max_keys: u64 = 1_000_000, integer(0, I64_MAX);
    "hash-seed" => hash_seed: Text = Text::default(), text(Value), [IMMUTABLE];
    "notify-keyspace-events" => notify_keyspace_events: KeyspaceEvents = KeyspaceEvents::default(), special;
    "import-mode" => import_mode: bool = false, bool;

    // Encodings
    "hash-max-listpack-entries" / "hash-max-ziplist-entries" => hash_max_listpack_entries: u64 = 512, integer(0, I64_MAX), apply EncodingLimits;
    "hash-max-listpack-value" / "hash-max-ziplist-value" => hash_max_listpack_value: u64 = 64, memory(0, I64_MAX), apply EncodingLimits;
    "list-max-listpack-size" / "list-max-ziplist-size" => list_max_listpack_size: i32 = -2, integer(I32_MIN, I32_MAX), apply EncodingLimits;
    "list-compress-depth" => list_compress_depth: u32 = 0, integer(0, I32_MAX), apply EncodingLimits;
    "set-max-intset-entries" => set_max_intset_entries: u64 = 512, integer(0, I64_MAX), apply EncodingLimits;
    "set-max-listpack-entries" => set_max_listpack_entries: u64 = 128, integer(0, I64_MAX), apply EncodingLimits;
    "set-max-listpack-value" => set_max_listpack_value: u64 = 64, integer(0, I64_MAX), apply EncodingLimits;
    "zset-max-listpack-entries" / "zset-max-ziplist-entries" => zset_max_listpack_entries: u64 = 128, integer(0, I64_MAX), apply EncodingLimits;
    "zset-max-listpack-value" / "zset-max-ziplist-value" => zset_max_listpack_value: u64 = 64, memory(0, I64_MAX), apply EncodingLimits;
    "stream-node-max-bytes" => stream_node_max_bytes: u64 = 4096, memory(0, I64_MAX), apply EncodingLimits;
    "stream-node-max-entries" => stream_node_max_entries: u64 = 100, integer(0, I64_MAX), apply EncodingLimits;
    "hll-sparse-max-bytes" => hll_sparse_max_bytes: u64 = 3000, memory(0, I64_MAX), apply EncodingLimits;

    // Persistence
    "dir" => dir: Directory = Directory::default(), special, [PROTECTED, DENY_LOADING], apply Directory;
    "save" => save: SavePoints = SavePoints::built_in(), special, [MULTI];
    "dbfilename" => dbfilename: Text = Text::from("dump.rdb"), text(Value, checks::dbfilename), [PROTECTED];
    "rdbcompression" => rdbcompression: bool = true, bool;
    "rdbchecksum" => rdbchecksum: bool = true, bool, [IMMUTABLE];
    "rdb-del-sync-files" => rdb_del_sync_files: bool = false, bool;
    "rdb-save-incremental-fsync" => rdb_save_incremental_fsync: bool = true, bool;
    "rdb-version-check" => rdb_version_check: RdbVersionCheck = RdbVersionCheck::Strict, choice;
    "stop-writes-on-bgsave-error" => stop_writes_on_bgsave_error: bool = true, bool;
    "sanitize-dump-payload" => sanitize_dump_payload: SanitizeDumpPayload = SanitizeDumpPayload::No, choice, [HIDDEN];
    /// Microseconds slept for each key saved; -n sleeps 1 µs once per n keys.
    "rdb-key-save-delay" => rdb_key_save_delay_us: i32 = 0, integer(I32_MIN, I32_MAX), [HIDDEN];
    /// Microseconds slept for each key loaded; -n sleeps 1 µs once per n keys.
    "key-load-delay" => key_load_delay_us: i32 = 0, integer(I32_MIN, I32_MAX), [HIDDEN];
    "loading-process-events-interval-bytes" => loading_process_events_interval_bytes: u64 = 2 * MB, integer(KB as i128, I32_MAX), [HIDDEN];
    "appendonly" => appendonly: bool = false, bool, [DENY_LOADING], apply AppendOnly;
    "appendfsync" => appendfsync: AppendFsync = AppendFsync::EverySecond, choice, apply AppendFsync;
    "appendfilename" => appendfilename: Text = Text::from("appendonly.aof"), text(Value, checks::appendfilename), [IMMUTABLE];
    "appenddirname" => appenddirname: Text = Text::from("appendonlydir"), text(Value, checks::appenddirname), [IMMUTABLE];
    "no-appendfsync-on-rewrite" => no_appendfsync_on_rewrite: bool = false, bool;
    /// 0 turns automatic rewrites off.
    "auto-aof-rewrite-percentage" => auto_aof_rewrite_percentage: u32 = 100, integer(0, I32_MAX);
    "auto-aof-rewrite-min-size" => auto_aof_rewrite_min_size: u64 = 64 * MB, memory(0, I64_MAX);
    "aof-load-truncated" => aof_load_truncated: bool = true, bool;
    "aof-use-rdb-preamble" => aof_use_rdb_preamble: bool = true, bool;
    "aof-timestamp-enabled" => aof_timestamp_enabled: bool = false, bool;
    "aof-rewrite-incremental-fsync" => aof_rewrite_incremental_fsync: bool = true, bool;
    "aof-disable-auto-gc" => aof_disable_auto_gc: bool = false, bool, [HIDDEN], apply AofHistory;

    // Replication
    "replicaof" / "slaveof" => replicaof: Option<PrimaryAddress> = None, special, [IMMUTABLE, MULTI];
    "primaryauth" / "masterauth" => primaryauth: Text = Text::default(), text(Unset), [SENSITIVE];
    "primaryuser" / "masteruser" => primaryuser: Text = Text::default(), text(Unset), [SENSITIVE];
    "replica-read-only" / "slave-read-only" => replica_read_only: bool = true, bool;
    "replica-serve-stale-data" / "slave-serve-stale-data" => replica_serve_stale_data: bool = true, bool;
    "replica-lazy-flush" / "slave-lazy-flush" => replica_lazy_flush: bool = true, bool;
    "replica-ignore-maxmemory" / "slave-ignore-maxmemory" => replica_ignore_maxmemory: bool = true, bool;
    "replica-ignore-disk-write-errors" => replica_ignore_disk_write_errors: bool = false, bool;
    "replica-priority" / "slave-priority" => replica_priority: u32 = 100, integer(0, I32_MAX);
    "replica-announced" => replica_announced: bool = true, bool;
    "replica-announce-ip" / "slave-announce-ip" => replica_announce_ip: Text = Text::default(), text(Unset);
    "replica-announce-port" / "slave-announce-port" => replica_announce_port: u16 = 0, integer(0, 65535);
    "repl-timeout" => repl_timeout_seconds: u32 = 60, integer(1, I32_MAX);
    "repl-ping-replica-period" / "repl-ping-slave-period" => repl_ping_replica_period_seconds: u32 = 10, integer(1, I32_MAX);
    "repl-backlog-size" => repl_backlog_size: u64 = 10 * MB, memory(1, I64_MAX), apply ReplicationBacklogSize;
    /// 0 means that the backlog is never given up.
    "repl-backlog-ttl" => repl_backlog_ttl_seconds: u64 = 3600, integer(0, I64_MAX);
    "repl-disable-tcp-nodelay" => repl_disable_tcp_nodelay: bool = false, bool;
    "repl-diskless-sync" => repl_diskless_sync: bool = true, bool;
    "repl-diskless-sync-delay" => repl_diskless_sync_delay_seconds: u32 = 5, integer(0, I32_MAX);
    "repl-diskless-sync-max-replicas" => repl_diskless_sync_max_replicas: u32 = 0, integer(0, I32_MAX);
    "repl-diskless-load" => repl_diskless_load: ReplDisklessLoad = ReplDisklessLoad::Disabled, choice, [DENY_LOADING];
    "repl-mptcp" => repl_mptcp: bool = false, bool, [IMMUTABLE];
    "dual-channel-replication-enabled" => dual_channel_replication_enabled: bool = false, bool;
    "min-replicas-to-write" / "min-slaves-to-write" => min_replicas_to_write: u32 = 0, integer(0, I32_MAX), apply GoodReplicas;
    "min-replicas-max-lag" / "min-slaves-max-lag" => min_replicas_max_lag_seconds: u32 = 10, integer(0, I32_MAX), apply GoodReplicas;
    "propagation-error-behavior" => propagation_error_behavior: PropagationErrorBehavior = PropagationErrorBehavior::Ignore, choice;

    // Scripts
    "busy-reply-threshold" / "lua-time-limit" => busy_reply_threshold_ms: u64 = 5000, integer(0, I64_MAX);
    "lua-enable-deprecated-api" => lua_enable_deprecated_api: bool = false, bool, [HIDDEN, PROTECTED];
    "lua-enable-insecure-api" => lua_enable_insecure_api: bool = false, bool, [HIDDEN, PROTECTED];

    // Observability
    /// In microseconds; -1 turns it off.
    "commandlog-execution-slower-than" / "slowlog-log-slower-than" => commandlog_execution_slower_than_us: i64 = 10_000, integer(-1, I64_MAX);
    "commandlog-slow-execution-max-len" / "slowlog-max-len" => commandlog_slow_execution_max_len: u64 = 128, integer(0, I64_MAX), apply CommandLog;
    /// In bytes; -1 turns it off.
    "commandlog-request-larger-than" => commandlog_request_larger_than: i64 = MB as i64, integer(-1, I64_MAX);
    "commandlog-large-request-max-len" => commandlog_large_request_max_len: u64 = 128, integer(0, I64_MAX), apply CommandLog;
    /// In bytes; -1 turns it off.
    "commandlog-reply-larger-than" => commandlog_reply_larger_than: i64 = MB as i64, integer(-1, I64_MAX);
    "commandlog-large-reply-max-len" => commandlog_large_reply_max_len: u64 = 128, integer(0, I64_MAX), apply CommandLog;
    /// 0 turns it off.
    "latency-monitor-threshold" => latency_monitor_threshold_ms: u64 = 0, integer(0, I64_MAX);
    "latency-tracking" => latency_tracking: bool = true, bool, apply LatencyTracking;
    "latency-tracking-info-percentiles" => latency_tracking_info_percentiles: Percentiles = Percentiles::default(), special, [MULTI];

    // ACL
    "aclfile" => aclfile: Text = Text::default(), text(Value), [IMMUTABLE];
    "acllog-max-len" => acllog_max_len: u64 = 128, integer(0, I64_MAX), apply AclLog;
    "acl-pubsub-default" => acl_pubsub_default: AclPubsubDefault = AclPubsubDefault::Resetchannels, choice;

    // TLS
    "tls-port" => tls_port: u16 = 0, integer(0, 65535), apply TlsPort;
    "tls-cluster" => tls_cluster: bool = false, bool, apply Tls;
    "tls-replication" => tls_replication: bool = false, bool, apply Tls;
    "tls-auth-clients" => tls_auth_clients: TlsAuthClients = TlsAuthClients::Yes, choice;
    "tls-auth-clients-user" => tls_auth_clients_user: TlsAuthClientsUser = TlsAuthClientsUser::Off, choice;
    "tls-auto-reload-interval" => tls_auto_reload_interval_seconds: u32 = 0, integer(0, I32_MAX);
    "tls-prefer-server-ciphers" => tls_prefer_server_ciphers: bool = false, bool, apply Tls;
    "tls-session-caching" => tls_session_caching: bool = true, bool, apply Tls;
    "tls-session-cache-size" => tls_session_cache_size: u32 = 20480, integer(0, I32_MAX), apply Tls;
    "tls-session-cache-timeout" => tls_session_cache_timeout_seconds: u32 = 300, integer(0, I32_MAX), apply Tls;
    "tls-cert-file" => tls_cert_file: Text = Text::default(), text(Unset), [VOLATILE], apply Tls;
    "tls-key-file" => tls_key_file: Text = Text::default(), text(Unset), [VOLATILE], apply Tls;
    "tls-key-file-pass" => tls_key_file_pass: Text = Text::default(), text(Unset), [SENSITIVE], apply Tls;
    "tls-client-cert-file" => tls_client_cert_file: Text = Text::default(), text(Unset), [VOLATILE], apply Tls;
    "tls-client-key-file" => tls_client_key_file: Text = Text::default(), text(Unset), [VOLATILE], apply Tls;
    "tls-client-key-file-pass" => tls_client_key_file_pass: Text = Text::default(), text(Unset), [SENSITIVE], apply Tls;
    "tls-dh-params-file" => tls_dh_params_file: Text = Text::default(), text(Unset), [VOLATILE], apply Tls;
    "tls-ca-cert-file" => tls_ca_cert_file: Text = Text::default(), text(Unset), [VOLATILE], apply Tls;
    "tls-ca-cert-dir" => tls_ca_cert_dir: Text = Text::default(), text(Unset), [VOLATILE], apply Tls;
    "tls-protocols" => tls_protocols: Text = Text::default(), text(Unset), apply Tls;
    "tls-ciphers" => tls_ciphers: Text = Text::default(), text(Unset), apply Tls;
    "tls-ciphersuites" => tls_ciphersuites: Text = Text::default(), text(Unset), apply Tls;

    // RDMA: known, stored, without effect.
    "rdma-bind" => rdma_bind: Text = Text::default(), text(Unset), [IMMUTABLE];
    "rdma-port" => rdma_port: u16 = 0, integer(0, 65535), [IMMUTABLE];
    "rdma-rx-size" => rdma_rx_size: u32 = MB as u32, integer(64 * KB as i128, 16 * MB as i128), [IMMUTABLE];
    "rdma-completion-vector" => rdma_completion_vector: i32 = -1, integer(-1, 1024), [IMMUTABLE];

    // Cluster: known and stored, without effect while `cluster-enabled` is no.
    "cluster-enabled" => cluster_enabled: bool = false, bool(NO_CLUSTER), [IMMUTABLE];
    "cluster-config-file" => cluster_config_file: Text = Text::from("nodes.conf"), text(Value, checks::cluster_config_file), [IMMUTABLE];
    "cluster-config-save-behavior" => cluster_config_save_behavior: ClusterConfigSaveBehavior = ClusterConfigSaveBehavior::Sync, choice;
    "cluster-databases" => cluster_databases: u32 = 1, integer(1, I32_MAX), [IMMUTABLE];
    "cluster-port" => cluster_port: u16 = 0, integer(0, 65535), [IMMUTABLE];
    "cluster-node-timeout" => cluster_node_timeout_ms: u64 = 15_000, integer(0, I64_MAX);
    "cluster-manual-failover-timeout" => cluster_manual_failover_timeout_ms: u32 = 5000, integer(1, I32_MAX);
    "cluster-ping-interval" => cluster_ping_interval_ms: u64 = 0, integer(0, I64_MAX), [HIDDEN];
    "cluster-message-gossip-perc" => cluster_message_gossip_percent: u32 = 10, integer(1, 100), [HIDDEN];
    "cluster-migration-barrier" => cluster_migration_barrier: u32 = 1, integer(0, I32_MAX);
    "cluster-replica-validity-factor" / "cluster-slave-validity-factor" => cluster_replica_validity_factor: u32 = 10, integer(0, I32_MAX);
    "cluster-replica-no-failover" / "cluster-slave-no-failover" => cluster_replica_no_failover: bool = false, bool;
    "cluster-require-full-coverage" => cluster_require_full_coverage: bool = true, bool;
    "cluster-allow-reads-when-down" => cluster_allow_reads_when_down: bool = false, bool;
    "cluster-allow-pubsubshard-when-down" => cluster_allow_pubsubshard_when_down: bool = true, bool;
    "cluster-allow-replica-migration" => cluster_allow_replica_migration: bool = true, bool;
    "cluster-link-sendbuf-limit" => cluster_link_sendbuf_limit: u64 = 0, memory(0, U64_MAX);
    "cluster-blacklist-ttl" => cluster_blacklist_ttl_seconds: u64 = 60, integer(0, I64_MAX);
    "cluster-slot-stats-enabled" => cluster_slot_stats_enabled: bool = false, bool;
    "cluster-slot-migration-log-max-len" => cluster_slot_migration_log_max_len: u64 = 1000, integer(0, I64_MAX);
    "slot-migration-max-failover-repl-bytes" => slot_migration_max_failover_repl_bytes: i64 = 0, memory(-1, I64_MAX);
    "cluster-preferred-endpoint-type" => cluster_preferred_endpoint_type: ClusterPreferredEndpointType = ClusterPreferredEndpointType::Ip, choice;
    "cluster-announce-ip" => cluster_announce_ip: Text = Text::default(), text(Unset, checks::cluster_announce_ip);
    "cluster-announce-client-ipv4" => cluster_announce_client_ipv4: Text = Text::default(), text(Unset, checks::ipv4);
    "cluster-announce-client-ipv6" => cluster_announce_client_ipv6: Text = Text::default(), text(Unset, checks::ipv6);
    "cluster-announce-hostname" => cluster_announce_hostname: Text = Text::default(), text(Unset, checks::hostname);
    "cluster-announce-human-nodename" => cluster_announce_human_nodename: Text = Text::default(), text(Unset, checks::node_name);
    "cluster-announce-port" => cluster_announce_port: u16 = 0, integer(0, 65535);
    "cluster-announce-bus-port" => cluster_announce_bus_port: u16 = 0, integer(0, 65535);
    "cluster-announce-tls-port" => cluster_announce_tls_port: u16 = 0, integer(0, 65535);
    "cluster-announce-client-port" => cluster_announce_client_port: u16 = 0, integer(0, 65535);
    "cluster-announce-client-tls-port" => cluster_announce_client_tls_port: u16 = 0, integer(0, 65535);

    // Understudy's own
    "read-only-scripts" => read_only_scripts: ReadOnlyScripts = ReadOnlyScripts::Snapshot, choice;
    "replica-scripts" => replica_scripts: ReplicaScripts = ReplicaScripts::ReadOnly, choice;
    /// After how long a script that has written is rolled back; 0 means never.
    "busy-script-rollback-after" => busy_script_rollback_after_ms: u64 = 0, integer(0, I64_MAX);
    /// Memory that one script may use, in bytes; 0 means no limit.
    "script-max-memory" => script_max_memory: u64 = 0, memory(0, I64_MAX), apply Scripts;
    /// Threads for read-only scripts that are known to be slow.
    "read-only-script-threads" => read_only_script_threads: u32 = 2, integer(1, 256), apply Scripts;
    /// After a coordinated failover the other replicas follow the new primary by themselves.
    "replica-follow-failover" => replica_follow_failover: bool = true, bool;
}
