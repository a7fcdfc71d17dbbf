//! INFO: what the server knows of itself, in sections of `name:value` lines.

use std::fmt::{Display, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::command::{Argument, ArgumentKind, Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::scripting::ScriptTotals;
use crate::server::Server;
use crate::server::admission::Conditions;
use crate::server::call::{Call, Reads};
use crate::server::client::Traits;
use crate::server::command_line::VALKEY_VERSION;
use crate::server::core::Core;
use crate::server::lazy_free;
use crate::server::persistence::{Saving, SavingKind};
use crate::server::pubsub::Subject;
use crate::server::table::{HostCommand, HostHandler, HostOutcome};

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "info",
    summary: "What the server knows of itself.",
    group: Group::Server,
    arity: -1,
    flags: Flags::LOADING.and(Flags::STALE),
    categories: crate::command::Categories::DANGEROUS,
    arguments: &[Argument::new("section", ArgumentKind::String).optional().multiple()],
    tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
    history: &[("7.0.0", "Takes several sections.")],
    ..Command::host(HostHandler::Reading(info))
}];

/// A section: its name, whether INFO without arguments shows it, and what writes it.
struct Section {
    name: &'static str,
    title: &'static str,
    shown: Shown,
    write: fn(&mut Lines, &Arc<Server>, &Core),
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Shown {
    Default,
    All,
}

const SECTIONS: &[Section] = &[
    Section { name: "server", title: "Server", shown: Shown::Default, write: server_section },
    Section { name: "clients", title: "Clients", shown: Shown::Default, write: clients },
    Section { name: "memory", title: "Memory", shown: Shown::Default, write: memory },
    Section { name: "persistence", title: "Persistence", shown: Shown::Default, write: persistence },
    Section { name: "stats", title: "Stats", shown: Shown::Default, write: stats },
    Section { name: "replication", title: "Replication", shown: Shown::Default, write: replication },
    Section { name: "cpu", title: "CPU", shown: Shown::Default, write: cpu },
    Section { name: "commandstats", title: "Commandstats", shown: Shown::All, write: commandstats },
    Section { name: "latencystats", title: "Latencystats", shown: Shown::All, write: latencystats },
    Section { name: "scriptstats", title: "Scriptstats", shown: Shown::All, write: scriptstats },
    Section { name: "errorstats", title: "Errorstats", shown: Shown::Default, write: errorstats },
    Section {
        name: "cluster",
        title: "Cluster",
        shown: Shown::Default,
        write: |lines, _, _| lines.put("cluster_enabled", 0),
    },
    Section { name: "keyspace", title: "Keyspace", shown: Shown::Default, write: keyspace },
];

/// Lines of `name:value`, each ended by CRLF.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn put(&mut self, name: impl Display, value: impl Display) {
        // Writing to a String cannot fail.
        let _ = write!(self.0, "{name}:{value}\r\n");
    }

    /// A number of bytes, and the same for people.
    fn put_bytes(&mut self, name: &str, bytes: u64) {
        self.put(name, bytes);
        self.put(format_args!("{name}_human"), human(bytes));
    }
}

fn human(bytes: u64) -> String {
    let units = [(1u64 << 40, "T"), (1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")];
    match units.iter().find(|(size, _)| bytes >= *size) {
        Some((size, unit)) => format!("{:.2}{unit}", bytes as f64 / *size as f64),
        None => format!("{bytes}B"),
    }
}

fn info(call: &mut Call<'_, '_, Reads>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server().clone();
    let wanted: Vec<String> =
        call.args[1..].iter().map(|word| String::from_utf8_lossy(word).to_ascii_lowercase()).collect();
    let asked = |word: &str| wanted.iter().any(|other| other == word);
    let all = asked("all") || asked("everything");
    let default = wanted.is_empty() || asked("default");
    let core = call.core();
    let mut lines = Lines::default();
    for section in SECTIONS {
        let shown = match section.shown {
            Shown::Default => default || all,
            Shown::All => all,
        };
        if shown || asked(section.name) {
            if !lines.0.is_empty() {
                lines.0 += "\r\n";
            }
            lines.0 += &format!("# {}\r\n", section.title);
            (section.write)(&mut lines, &server, core);
        }
    }
    Ok(Reply::Verbatim(*b"txt", lines.0.into_bytes()).into())
}

fn server_section(lines: &mut Lines, server: &Arc<Server>, _core: &Core) {
    let config = server.config();
    let uptime = server.uptime_seconds();
    lines.put("redis_version", "7.2.4");
    lines.put("server_name", "valkey");
    lines.put("valkey_version", VALKEY_VERSION);
    lines.put("valkey_release_stage", "ga");
    lines.put("understudy_version", env!("CARGO_PKG_VERSION"));
    lines.put("redis_git_sha1", "00000000");
    lines.put("redis_git_dirty", 0);
    lines.put("redis_build_id", "0");
    lines.put(if config.extended_redis_compatibility { "redis_mode" } else { "server_mode" }, "standalone");
    lines.put("os", format_args!("{} {}", std::env::consts::OS, std::env::consts::ARCH));
    lines.put("arch_bits", usize::BITS);
    lines.put("monotonic_clock", "POSIX clock_gettime");
    lines.put("multiplexing_api", "epoll");
    lines.put("gcc_version", "0.0.0");
    lines.put("process_id", std::process::id());
    lines.put("process_supervised", "no");
    lines.put("run_id", &server.run_id);
    lines.put("tcp_port", config.port);
    lines.put("server_time_usec", server.now_us());
    lines.put("uptime_in_seconds", uptime);
    lines.put("uptime_in_days", uptime / 86400);
    lines.put("hz", config.hz);
    lines.put("configured_hz", config.hz);
    lines.put("clients_hz", config.hz);
    if let Some(left) = server.shutdown.milliseconds_left(server.now_ms()) {
        lines.put("shutdown_in_milliseconds", left);
    }
    lines.put("lru_clock", (server.now_ms() / 1000) & 0xff_ffff);
    lines.put("executable", std::env::current_exe().unwrap_or_default().display());
    lines.put("config_file", server.config_file.as_deref().unwrap_or("".as_ref()).display());
    lines.put("io_threads_active", u8::from(server.reactor_stats.len() > 1));
    lines.put("availability_zone", config.availability_zone.to_str());
}

fn clients(lines: &mut Lines, server: &Arc<Server>, core: &Core) {
    let all = server.clients.all();
    let count = |trait_| all.iter().filter(|client| client.is(trait_)).count();
    lines.put("connected_clients", all.len() - count(Traits::REPLICA));
    lines.put("cluster_connections", 0);
    lines.put("maxclients", server.config().maxclients);
    let most = |of: fn(&crate::server::client::Client) -> usize| {
        all.iter().map(|client| of(client)).max().unwrap_or(0)
    };
    lines.put("client_recent_max_input_buffer", most(|client| client.figures.query_buffer.load(Relaxed)));
    lines.put("client_recent_max_output_buffer", most(|client| client.figures.output_buffer.load(Relaxed)));
    lines.put("blocked_clients", super::client::blocked_count(&all));
    lines.put("tracking_clients", count(Traits::TRACKING));
    lines.put("pubsub_clients", count(Traits::PUBSUB));
    lines.put(
        "watching_clients",
        all.iter().filter(|client| client.figures.watched.load(Relaxed) > 0).count(),
    );
    lines.put("clients_in_timeout_table", count(Traits::BLOCKED));
    lines.put("total_watched_keys", core.writes.watchers.key_count());
    lines.put("total_blocking_keys", core.writes.waited.key_count());
    lines.put("total_blocking_keys_on_nokey", core.keys_that_wake_without());
}

fn memory(lines: &mut Lines, server: &Arc<Server>, core: &Core) {
    let config = server.config();
    let memory = server.memory();
    lines.put_bytes("used_memory", memory.used);
    lines.put_bytes("used_memory_rss", memory.resident);
    lines.put_bytes("used_memory_peak", memory.peak);
    lines.put("used_memory_peak_perc", format_args!("{:.2}%", percent(memory.used, memory.peak)));
    lines.put("used_memory_overhead", memory.at_start);
    lines.put("used_memory_startup", memory.at_start);
    let dataset = memory.used.saturating_sub(memory.at_start);
    lines.put("used_memory_dataset", dataset);
    lines.put("used_memory_dataset_perc", format_args!("{:.2}%", percent(dataset, memory.used)));
    lines.put("allocator_allocated", memory.used);
    lines.put("allocator_active", memory.active);
    lines.put("allocator_resident", memory.resident);
    lines.put("number_of_cached_scripts", server.scripts.len());
    lines.put_bytes("used_memory_scripts", server.scripts.memory() as u64);
    lines.put_bytes("maxmemory", config.maxmemory);
    lines.put("maxmemory_policy", crate::server::config::Choice::name(config.maxmemory_policy));
    lines.put(
        "mem_fragmentation_ratio",
        format_args!("{:.2}", memory.resident as f64 / memory.used.max(1) as f64),
    );
    lines.put("mem_fragmentation_bytes", memory.resident.saturating_sub(memory.used));
    lines.put("mem_not_counted_for_evict", 0);
    lines.put("mem_clients_slaves", 0);
    lines.put("mem_clients_normal", 0);
    // One copy of the stream serves the backlog and all replicas.
    let stream = core.stream.backlog().map_or(0, |backlog| backlog.memory());
    lines.put("mem_replication_backlog", stream);
    lines.put("mem_total_replication_buffers", stream);
    lines.put("mem_allocator", "jemalloc-5.3.0");
    lines.put("mem_overhead_db_hashtable_rehashing", 0);
    lines.put("lazyfree_pending_objects", lazy_free::pending());
    lines.put("lazyfreed_objects", lazy_free::freed());
}

fn percent(part: u64, whole: u64) -> f64 {
    part as f64 * 100.0 / whole.max(1) as f64
}

fn persistence(lines: &mut Lines, server: &Arc<Server>, core: &Core) {
    let persistence = &server.persistence;
    let saving = persistence.saving();
    let of = |kind| saving.as_ref().filter(|saving| saving.kind == kind);
    let word = |ok: bool| if ok { "ok" } else { "err" };
    let seconds =
        |saving: Option<&Saving>| saving.map_or(-1, |saving| saving.started.elapsed().as_secs() as i64);
    let loading = server.conditions.has(Conditions::LOADING);
    lines.put("loading", u8::from(loading));
    lines.put("async_loading", u8::from(server.conditions.has(Conditions::ASYNC_LOADING)));
    let copied = saving.as_ref().map_or(0, Saving::copied_bytes);
    lines.put("current_cow_peak", copied);
    lines.put("current_cow_size", copied);
    lines.put("current_cow_size_age", 0);
    let (written, total) =
        saving.as_ref().map_or((0, 0), |saving| (saving.keys_written.load(Relaxed), saving.keys_total));
    lines.put("current_fork_perc", format_args!("{:.2}", percent(written, total.max(1))));
    lines.put("current_save_keys_processed", written);
    lines.put("current_save_keys_total", total);
    let changes = core.writes.changes.saturating_sub(persistence.changes_at_save.load(Relaxed));
    lines.put("rdb_changes_since_last_save", changes);
    let for_replicas = server.full_sync_is_saving.load(Relaxed);
    lines.put("rdb_bgsave_in_progress", u8::from(of(SavingKind::Rdb).is_some() || for_replicas));
    lines.put("rdb_last_save_time", persistence.last_save_seconds.load(Relaxed));
    lines.put("rdb_last_bgsave_status", word(persistence.last_save_ok.load(Relaxed)));
    lines.put("rdb_last_bgsave_time_sec", persistence.last_save_took_seconds.load(Relaxed));
    lines.put("rdb_current_bgsave_time_sec", seconds(of(SavingKind::Rdb)));
    lines.put("rdb_saves", persistence.saves.load(Relaxed));
    lines.put("rdb_last_cow_size", persistence.last_save_copied_bytes.load(Relaxed));
    lines.put("rdb_last_load_keys_expired", persistence.loading.keys_expired.load(Relaxed));
    lines.put("rdb_last_load_keys_loaded", persistence.loading.keys_loaded.load(Relaxed));
    let has_aof = persistence.has_aof();
    lines.put("aof_enabled", u8::from(has_aof));
    lines.put("aof_rewrite_in_progress", u8::from(of(SavingKind::Aof).is_some()));
    lines.put("aof_rewrite_scheduled", u8::from(persistence.rewrite_is_scheduled.load(Relaxed)));
    lines.put("aof_last_rewrite_time_sec", persistence.last_rewrite_took_seconds.load(Relaxed));
    lines.put("aof_current_rewrite_time_sec", seconds(of(SavingKind::Aof)));
    lines.put("aof_last_bgrewrite_status", word(persistence.last_rewrite_ok.load(Relaxed)));
    lines.put("aof_rewrites", persistence.rewrites.load(Relaxed));
    lines.put("aof_last_write_status", word(persistence.aof_write_ok.load(Relaxed)));
    lines.put("aof_last_cow_size", persistence.last_rewrite_copied_bytes.load(Relaxed));
    if has_aof {
        lines.put("aof_current_size", persistence.aof_size.load(Relaxed));
        lines.put("aof_base_size", persistence.aof_base_size.load(Relaxed));
        lines.put("aof_pending_rewrite", u8::from(persistence.rewrite_is_scheduled.load(Relaxed)));
        lines.put("aof_buffer_length", persistence.aof_pending());
        lines.put("aof_pending_bio_fsync", u8::from(persistence.aof_is_syncing.load(Relaxed)));
        lines.put("aof_delayed_fsync", persistence.aof_delayed_syncs.load(Relaxed));
    }
    if loading {
        let progress = &persistence.loading;
        let (done, all) = (progress.loaded_bytes.load(Relaxed), progress.total_bytes.load(Relaxed));
        lines.put("loading_start_time", progress.since_seconds.load(Relaxed));
        lines.put("loading_total_bytes", all);
        lines.put("loading_loaded_bytes", done);
        lines.put("loading_loaded_perc", format_args!("{:.2}", percent(done, all)));
    }
}

fn stats(lines: &mut Lines, server: &Arc<Server>, core: &Core) {
    let stats = &server.stats;
    let (hits, misses) = server.hits_and_misses();
    lines.put("total_connections_received", stats.connections.load(Relaxed));
    lines.put("total_commands_processed", server.commands_processed());
    let rates = server.rates.now();
    lines.put("instantaneous_ops_per_sec", rates.commands);
    lines.put("total_net_input_bytes", stats.bytes_in.load(Relaxed));
    lines.put("total_net_output_bytes", stats.bytes_out.load(Relaxed));
    lines.put("total_net_repl_input_bytes", stats.replication_bytes_in.load(Relaxed));
    lines.put("total_net_repl_output_bytes", stats.replication_bytes_out.load(Relaxed));
    let kilobytes = |bytes: u64| format!("{:.2}", bytes as f64 / 1024.0);
    lines.put("instantaneous_input_kbps", kilobytes(rates.bytes_in));
    lines.put("instantaneous_output_kbps", kilobytes(rates.bytes_out));
    lines.put("instantaneous_input_repl_kbps", kilobytes(rates.replication_bytes_in));
    lines.put("instantaneous_output_repl_kbps", kilobytes(rates.replication_bytes_out));
    lines.put("rejected_connections", stats.rejected_connections.load(Relaxed));
    lines.put("sync_full", stats.full_syncs.load(Relaxed));
    lines.put("sync_partial_ok", stats.partial_syncs.load(Relaxed));
    lines.put("sync_partial_err", stats.partial_syncs_refused.load(Relaxed));
    lines.put("expired_keys", core.writes.expired_keys);
    lines.put("expired_fields", core.writes.expired_fields);
    lines.put("expired_stale_perc", "0.00");
    lines.put("expired_time_cap_reached_count", stats.expire_time_cap_reached.load(Relaxed));
    lines.put("expire_cycle_cpu_milliseconds", stats.expire_cycle_milliseconds.load(Relaxed));
    lines.put("evicted_keys", stats.evicted_keys.load(Relaxed));
    lines.put("evicted_clients", stats.evicted_clients.load(Relaxed));
    lines.put("evicted_scripts", server.scripts.evicted());
    lines.put("keyspace_hits", hits);
    lines.put("keyspace_misses", misses);
    lines.put("pubsub_channels", server.pubsub.name_count(Subject::Channel));
    lines.put("pubsub_patterns", server.pubsub.name_count(Subject::Pattern));
    lines.put("pubsubshard_channels", server.pubsub.name_count(Subject::ShardChannel));
    // Nothing forks: what stands for it is that a moment of the dataset is held fast.
    lines.put("latest_fork_usec", server.persistence.last_moment_us.load(Relaxed));
    lines.put("total_forks", server.persistence.moments.load(Relaxed));
    lines.put("migrate_cached_sockets", server.migrations.len());
    lines.put("tracking_total_keys", 0);
    lines.put("tracking_total_items", 0);
    lines.put("tracking_total_prefixes", 0);
    lines.put("unexpected_error_replies", 0);
    lines.put("total_error_replies", stats.error_replies.load(Relaxed));
    lines.put("client_query_buffer_limit_disconnections", stats.query_buffer_disconnections.load(Relaxed));
    lines.put("client_output_buffer_limit_disconnections", stats.output_buffer_disconnections.load(Relaxed));
    for (reason, name) in super::acl::DENIED {
        let count = reason.map_or(0, |reason| server.users.denied(reason));
        lines.put(format_args!("acl_access_denied_{name}"), count);
    }
}

fn replication(lines: &mut Lines, server: &Arc<Server>, core: &Core) {
    let config = server.config();
    let shown = crate::replication::info::Shown {
        priority: config.replica_priority.into(),
        read_only: config.replica_read_only,
        announced: config.replica_announced,
        backlog_size: config.repl_backlog_size,
        unapplied_bytes: server
            .clients
            .all()
            .iter()
            .filter(|client| client.is(Traits::PRIMARY))
            .map(|client| client.figures.query_buffer.load(Relaxed) as u64)
            .sum(),
    };
    let stream = server.stream_view(core);
    let roles = server.roles.lock();
    lines.0 += &crate::replication::info::info(&roles.replication, &stream, &shown, server.uptime_ms());
}

fn cpu(lines: &mut Lines, _server: &Arc<Server>, _core: &Core) {
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    let usage = crate::server::process::resource_usage();
    lines.put("used_cpu_sys", format_args!("{:.6}", seconds(usage.ru_stime)));
    lines.put("used_cpu_user", format_args!("{:.6}", seconds(usage.ru_utime)));
    lines.put("used_cpu_sys_children", "0.000000");
    lines.put("used_cpu_user_children", "0.000000");
}

/// One line for each script and function that ever ran.
fn scriptstats(lines: &mut Lines, server: &Arc<Server>, _core: &Core) {
    let mut scripts = server.scripts.all();
    scripts.sort_by_key(|(script, _)| script.digest());
    for (script, _) in &scripts {
        let digest = script.digest().hex();
        put_totals(lines, "script", &String::from_utf8_lossy(&digest), script.statistics().totals());
    }
    for library in server.functions.get().libraries() {
        for function in library.functions() {
            let name = format!("{}.{}", library.name(), function.name);
            put_totals(lines, "function", &name, function.statistics.totals());
        }
    }
}

fn put_totals(lines: &mut Lines, kind: &str, name: &str, totals: Option<ScriptTotals>) {
    let Some(totals) = totals else { return };
    let ScriptTotals { calls, failed, killed, undone, microseconds, slices, commands, writes, .. } = totals;
    lines.put(
        format_args!("{kind}_{name}"),
        format_args!(
            "calls={calls},failed={failed},killed={killed},rolled_back={undone},usec={microseconds},usec_per_call={:.2},\
             p50_usec={},p99_usec={},slices={slices},commands={commands},writes={writes},reply_bytes={}",
            microseconds as f64 / calls as f64,
            totals.p50_us,
            totals.p99_us,
            totals.reply_bytes,
        ),
    );
}

fn commandstats(lines: &mut Lines, server: &Arc<Server>, _core: &Core) {
    let sets = server.all_stats();
    for entry in server.table.entries() {
        let sum = |of: fn(&crate::server::commandstats::CommandCounters) -> u64| -> u64 {
            sets.iter().map(|set| of(set.of(entry.id))).sum()
        };
        let calls = sum(|counters| counters.calls.load(Relaxed));
        let rejected = sum(|counters| counters.rejected.load(Relaxed));
        let failed = sum(|counters| counters.failed.load(Relaxed));
        if calls + rejected + failed == 0 {
            continue;
        }
        let microseconds = sum(|counters| counters.nanoseconds.load(Relaxed)) / 1000;
        lines.put(
            format_args!("cmdstat_{}", entry.full_name),
            format_args!(
                "calls={calls},usec={microseconds},usec_per_call={:.2},rejected_calls={rejected},failed_calls={failed}",
                microseconds as f64 / calls.max(1) as f64
            ),
        );
    }
}

fn latencystats(lines: &mut Lines, server: &Arc<Server>, _core: &Core) {
    let config = server.config();
    if !config.latency_tracking {
        return;
    }
    for entry in server.table.entries() {
        let counts = server.latencies(entry);
        if counts.total > 0 {
            let percentiles = config
                .latency_tracking_info_percentiles
                .0
                .iter()
                .map(|percent| format!("p{percent}={:.3}", counts.percentile(*percent) as f64 / 1000.0));
            lines.put(
                format_args!("latency_percentiles_usec_{}", entry.full_name),
                percentiles.collect::<Vec<_>>().join(","),
            );
        }
    }
}

fn errorstats(lines: &mut Lines, server: &Arc<Server>, _core: &Core) {
    for (code, count) in server.stats.errors() {
        lines
            .put(format_args!("errorstat_{}", String::from_utf8_lossy(&code)), format_args!("count={count}"));
    }
}

fn keyspace(lines: &mut Lines, server: &Arc<Server>, core: &Core) {
    let now_ms = server.now_ms();
    for (index, database) in
        core.keyspace.databases().iter().enumerate().filter(|(_, database)| !database.is_empty())
    {
        lines.put(
            format_args!("db{index}"),
            format_args!(
                "keys={},expires={},avg_ttl={}",
                database.len(),
                database.expiring(),
                database.average_ttl_ms(now_ms)
            ),
        );
    }
}
