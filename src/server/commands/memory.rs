//! MEMORY: what keys cost, and what the allocator has.

use std::sync::atomic::Ordering::Relaxed;

use super::{plain, reading};
use crate::base::number::parse_i64;
use crate::command::{Argument, ArgumentKind, Command, Flags, Group, KeySpec, KeyUse};
use crate::protocol::{ErrorReply, Reply};
use crate::server::Server;
use crate::server::call::{Call, Reads};
use crate::server::client::Traits;
use crate::server::core::Core;
use crate::server::memory;
use crate::server::table::{HostCommand, HostOutcome};

const REPORT_TIPS: &[&str] =
    &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"];
const SUBCOMMAND_SINCE: &str = "4.0.0";

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "memory",
    summary: "What keys cost, and what the allocator has.",
    since: SUBCOMMAND_SINCE,
    complexity: "Depends on subcommand",
    group: Group::Server,
    ..Command::container(&[
        HostCommand {
            name: "doctor",
            since: SUBCOMMAND_SINCE,
            arity: 2,
            summary: "A report of what is wrong with the memory, with advice.",
            tips: REPORT_TIPS,
            ..plain(Group::Server, Flags::NONE, |call| {
                let report = report(call.server());
                Ok(Reply::Verbatim(*b"txt", report.into_bytes()).into())
            })
        },
        Command::help(SUBCOMMAND_SINCE, Group::Server, HELP),
        HostCommand {
            name: "malloc-stats",
            since: SUBCOMMAND_SINCE,
            arity: 2,
            summary: "The allocator's own report.",
            complexity: "Depends on how much is allocated",
            tips: REPORT_TIPS,
            ..plain(Group::Server, Flags::LOADING, |_| {
                Ok(Reply::Verbatim(*b"txt", memory::allocator_report()).into())
            })
        },
        HostCommand {
            name: "purge",
            since: SUBCOMMAND_SINCE,
            arity: 2,
            summary: "Lets the allocator give back what is free.",
            complexity: "Depends on how much is allocated",
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..plain(Group::Server, Flags::LOADING, |_| {
                if memory::purge() {
                    Ok(Reply::Ok.into())
                } else {
                    Err(ErrorReply::new("ERR Error purging dirty pages"))
                }
            })
        },
        HostCommand {
            name: "stats",
            since: SUBCOMMAND_SINCE,
            arity: 2,
            summary: "Where the memory goes.",
            tips: REPORT_TIPS,
            ..reading(Group::Server, Flags::NONE, |call| {
                let server = call.server();
                Ok(stats(server, call.core()).into())
            })
        },
        HostCommand {
            name: "usage",
            since: SUBCOMMAND_SINCE,
            summary: "The bytes that a key and its value take.",
            complexity: "O(N), N being the number of samples",
            keys: &[KeySpec::one(2, KeyUse::RO)],
            arguments: &[
                Argument::key(),
                Argument::new("count", ArgumentKind::Integer).after("SAMPLES").optional(),
            ],
            arity: -3,
            ..reading(Group::Server, Flags::READONLY, usage)
        },
    ])
}];

const HELP: &[&str] = &[
    "DOCTOR",
    "    Return a report of what is wrong with the memory, with advice.",
    "MALLOC-STATS",
    "    Return the allocator's own report.",
    "PURGE",
    "    Let the allocator give back what is free.",
    "STATS",
    "    Return where the memory goes.",
    "USAGE <key> [SAMPLES <count>]",
    "    Return the bytes that a key and its value take, judged by <count> elements (5 unless given, 0: all).",
];

fn usage(call: &mut Call<'_, '_, Reads>) -> Result<HostOutcome, ErrorReply> {
    let samples = match &call.args[3..] {
        [] => 5,
        [word, count] if word.eq_ignore_ascii_case(b"samples") => {
            let count = parse_i64(count).ok_or(ErrorReply::NOT_AN_INTEGER)?;
            usize::try_from(count).map_err(|_| ErrorReply::SYNTAX)?
        }
        _ => return Err(ErrorReply::SYNTAX),
    };
    let (key, database) = (call.args[2], call.session.database);
    let entry = call.core().keyspace.database(database).get(key);
    Ok(entry.map_or(Reply::Nil, |entry| Reply::Integer(entry.allocated_bytes(samples) as i64)).into())
}

/// Fields as Valkey names them; those of what is not here (cluster links, tables that are rehashed) are 0.
fn stats(server: &Server, core: &Core) -> Reply<'static> {
    let memory = server.memory();
    let (mut replicas, mut normal) = (0, 0);
    for client in server.clients.all() {
        let figures = &client.figures;
        let buffers = figures.query_buffer.load(Relaxed)
            + figures.output_buffer.load(Relaxed)
            + figures.queued_bytes.load(Relaxed)
            + client.mail_len();
        *if client.is(Traits::REPLICA) { &mut replicas } else { &mut normal } += buffers as u64;
    }
    let backlog = core.stream.backlog().map_or(0, |backlog| backlog.memory()) as u64;
    let (scripts, functions) = (server.scripts.memory() as u64, server.functions.get().memory() as u64);
    let tables: Vec<(usize, u64)> = core
        .keyspace
        .databases()
        .iter()
        .enumerate()
        .map(|(index, database)| (index, database.entries().memory_usage() as u64))
        // One that was never used has no table, an empty one may have.
        .filter(|(_, bytes)| *bytes > 0)
        .collect();
    let table_bytes: u64 = tables.iter().map(|(_, bytes)| bytes).sum();
    let overhead = memory.at_start + replicas + normal + backlog + scripts + functions + table_bytes;
    let keys = core.keyspace.len() as u64;
    let dataset = memory.used.saturating_sub(overhead);
    let net = memory.used.saturating_sub(memory.at_start);
    let integer = |number: u64| Reply::Integer(i64::try_from(number).unwrap_or(i64::MAX));
    let share = |part: u64, whole: u64| Reply::Double(part as f64 * 100.0 / whole.max(1) as f64);
    let ratio = |part: u64, whole: u64| Reply::Double(part as f64 / whole.max(1) as f64);
    let mut fields: Vec<(String, Reply<'static>)> = Vec::new();
    let mut put = |name: &str, value: Reply<'static>| fields.push((name.to_owned(), value));
    put("peak.allocated", integer(memory.peak));
    put("total.allocated", integer(memory.used));
    put("startup.allocated", integer(memory.at_start));
    put("replication.backlog", integer(backlog));
    put("replicas.repl.buffer", integer(0));
    put("clients.slaves", integer(replicas));
    put("clients.normal", integer(normal));
    put("cluster.links", integer(0));
    put("cluster.slot_import", integer(0));
    put("cluster.slot_export", integer(0));
    put("aof.buffer", integer(0));
    put("lua.caches", integer(scripts));
    put("functions.caches", integer(functions));
    for (index, bytes) in &tables {
        let parts = [("overhead.hashtable.main", *bytes), ("overhead.hashtable.expires", 0)];
        let parts = parts.map(|(name, bytes)| (Reply::Bulk(name.as_bytes()), integer(bytes)));
        put(&format!("db.{index}"), Reply::Map(parts.into()));
    }
    put("overhead.db.hashtable.lut", integer(table_bytes));
    put("overhead.db.hashtable.rehashing", integer(0));
    put("overhead.total", integer(overhead));
    put("db.dict.rehashing.count", integer(0));
    put("keys.count", integer(keys));
    put("keys.bytes-per-key", integer(net.checked_div(keys).unwrap_or(0)));
    put("dataset.bytes", integer(dataset));
    put("dataset.percentage", share(dataset, net));
    put("peak.percentage", share(memory.used, memory.peak));
    put("allocator.allocated", integer(memory.used));
    put("allocator.active", integer(memory.active));
    put("allocator.resident", integer(memory.allocator_resident));
    put("allocator.muzzy", integer(0));
    put("allocator-fragmentation.ratio", ratio(memory.active, memory.used));
    put("allocator-fragmentation.bytes", integer(memory.active.saturating_sub(memory.used)));
    put("allocator-rss.ratio", ratio(memory.allocator_resident, memory.active));
    put("allocator-rss.bytes", integer(memory.allocator_resident.saturating_sub(memory.active)));
    put("rss-overhead.ratio", ratio(memory.resident, memory.allocator_resident));
    put("rss-overhead.bytes", integer(memory.resident.saturating_sub(memory.allocator_resident)));
    put("fragmentation", ratio(memory.resident, memory.used));
    put("fragmentation.bytes", integer(memory.resident.saturating_sub(memory.used)));
    Reply::Map(fields.into_iter().map(|(name, value)| (Reply::text(name), value)).collect())
}

/// Below this there is nothing to judge.
const LITTLE: u64 = 5 << 20;
/// What a difference must come to before it is worth a word.
const MUCH: u64 = 10 << 20;

fn report(server: &Server) -> String {
    let memory = server.memory();
    if memory.used < LITTLE {
        return "There is too little in this instance to judge its memory by: fill it first.\n".into();
    }
    let mut findings = Vec::new();
    if memory.peak > memory.used / 2 * 3 {
        findings.push(format!(
            "At its peak the server used {} bytes, now {}: memory of the peak may still count as in use by the process.",
            memory.peak, memory.used
        ));
    }
    if memory.active > memory.used / 10 * 11 && memory.active - memory.used > MUCH {
        findings.push(format!(
            "Fragmentation: the allocator's pages hold {} bytes more than is in use. A restart or a lasting change of \
             what is stored evens that out.",
            memory.active - memory.used
        ));
    }
    if memory.allocator_resident > memory.active / 10 * 11 && memory.allocator_resident - memory.active > MUCH
    {
        findings.push(format!(
            "The allocator has {} bytes that it does not need: MEMORY PURGE gives them back.",
            memory.allocator_resident - memory.active
        ));
    }
    if memory.resident > memory.allocator_resident / 10 * 11
        && memory.resident - memory.allocator_resident > MUCH
    {
        findings.push(format!(
            "The process has {} bytes beside the allocator's, as scripts that need much memory cause.",
            memory.resident - memory.allocator_resident
        ));
    }
    if findings.is_empty() {
        return "Nothing is wrong with the memory of this instance.\n".into();
    }
    let lines = findings.iter().map(|finding| format!(" * {finding}\n"));
    format!("Found in the memory of this instance:\n\n{}", lines.collect::<String>())
}
