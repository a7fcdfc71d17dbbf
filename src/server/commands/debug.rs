//! DEBUG: what tests and people who look for faults need. Refused unless `enable-debug-command` allows it.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use crate::base::glob::{self, Case};
use crate::base::number::{parse_f64, parse_i64};
use crate::command::{Audience, Command, Flags, Group};
use crate::keyspace::{Digest, Entry, ValueRef};
use crate::protocol::{ErrorReply, Reply};
use crate::server::admission::Conditions;
use crate::server::blocking::Waiting;
use crate::server::call::{Call, Writes};
use crate::server::client::Unblock;
use crate::server::config::{ProtectedAction, parse_memory};
use crate::server::table::{HostCommand, HostHandler, HostOutcome, WritingFn};

const FLAGS: Flags =
    Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE).and(Flags::PROTECTED);

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "debug",
    summary: "For tests and for people who look for faults.",
    complexity: "Depends on subcommand",
    group: Group::Server,
    arity: -2,
    flags: FLAGS,
    audience: Audience::Servers,
    ..Command::host(HostHandler::Writing(debug))
}];

const HELP: &[&str] = &[
    "AOF-FLUSH-SLEEP <microseconds>",
    "    Sleep so long before the AOF is written, each time.",
    "CHANGE-REPL-ID",
    "    Give the stream a new name, so that replicas get the whole dataset when they connect next.",
    "CONFIG-REWRITE-FORCE-ALL",
    "    Like CONFIG REWRITE, with every directive.",
    "DELAY-RDB-CLIENT-FREE-SECONDS <seconds>",
    "    How long the stream behind a snapshot, sent on a connection of its own, is kept for the replica to ask for it.",
    "DICT-RESIZING <0|1>",
    "    Accepted, without effect: tables grow and shrink by segments.",
    "DIGEST",
    "    Return a digest of the whole dataset.",
    "DIGEST-VALUE <key> [<key> ...]",
    "    Return a digest of each value.",
    "ERROR <string>",
    "    Return the string as an error.",
    "HTSTATS <database> [FULL]",
    "    Return how large the table of a database is.",
    "HTSTATS-KEY <key> [FULL]",
    "    Return how large the table of a value is.",
    "LISTPACK <key>",
    "    Write what is known of a value to the log.",
    "LOADAOF",
    "    Put what the AOF holds in place of the dataset.",
    "LOG <message>",
    "    Write the message to the log.",
    "OBJECT <key>",
    "    Return how a value is kept.",
    "PANIC",
    "    End the process by a panic.",
    "PAUSE-AFTER-FORK <0|1>",
    "    Stop the process by SIGSTOP where a full sync has begun, on either side.",
    "PAUSE-CRON <0|1>",
    "    Stop what the server does by itself.",
    "POPULATE <count> [<prefix>] [<size>]",
    "    Make <count> strings named <prefix>:<number>.",
    "PROTOCOL <type>",
    "    Return a value of a type of the protocol: string, integer, double, null, array, set, map, attrib, push,",
    "    verbatim, true, false, bignum.",
    "REPLICATE <command> [<arg> ...]",
    "    Put a command into the stream, without running it.",
    "RELOAD [NOSAVE] [NOFLUSH] [MERGE]",
    "    Save the RDB file (not with NOSAVE) and load it again, in place of the dataset or (NOFLUSH) beside it; with",
    "    MERGE it may replace what has the same name.",
    "REPLYBUFFER (PEAK-RESET-TIME <NEVER|RESET|milliseconds> | RESIZING <0|1>)",
    "    Accepted, without effect: reply buffers have no peaks to be reset.",
    "SEGFAULT",
    "    End the process by SIGSEGV.",
    "QUICKLIST-PACKED-THRESHOLD <size>",
    "    Elements of lists that are this large get a node of their own, until the configuration changes; 0 is the default.",
    "SET-ACTIVE-EXPIRE <0|1>",
    "    Whether keys are deleted by themselves when their time has passed.",
    "SET-DISABLE-DENY-SCRIPTS <0|1>",
    "    Whether scripts may call what is not for scripts.",
    "SLEEP <seconds>",
    "    Stop the server for a time.",
    "STRINGMATCH-LEN <length> <pattern>",
    "    Match the pattern against so many letters; return whether it fits.",
];

type Subcommand = (&'static str, WritingFn);

const SUBCOMMANDS: &[Subcommand] = &[
    ("aof-flush-sleep", |call| {
        let pause_us = parse_i64(argument(call, 2)?).and_then(|pause_us| u64::try_from(pause_us).ok());
        let pause_us = pause_us.ok_or(ErrorReply::NOT_AN_INTEGER)?;
        call.server().persistence.aof_pause_us.store(pause_us, Relaxed);
        Ok(Reply::Ok.into())
    }),
    ("sleep", sleep),
    ("set-active-expire", |call| flag(call, |server| &server.active_expire_is_off, true)),
    ("set-disable-deny-scripts", |call| flag(call, |server| &server.deny_scripts_is_off, false)),
    ("pause-after-fork", |call| flag(call, |server| &server.pause_after_snapshot, false)),
    ("delay-rdb-client-free-seconds", |call| {
        let seconds = parse_i64(argument(call, 2)?).and_then(|seconds| u64::try_from(seconds).ok());
        let seconds = seconds.ok_or(ErrorReply::NOT_AN_INTEGER)?;
        call.server().rdb_client_grace_ms.store(seconds.saturating_mul(1000), Relaxed);
        Ok(Reply::Ok.into())
    }),
    ("replicate", |call| {
        argument(call, 2)?;
        let args = &call.args[2..];
        call.core_mut().stream.append_control(args);
        Ok(Reply::Ok.into())
    }),
    ("pause-cron", |call| flag(call, |server| &server.cron_is_off, false)),
    ("dict-resizing", |call| argument(call, 2).map(|_| Reply::Ok.into())),
    ("replybuffer", reply_buffer),
    ("quicklist-packed-threshold", packed_threshold),
    ("htstats", table_of_database),
    ("htstats-key", table_of_key),
    ("listpack", listpack),
    ("stringmatch-len", match_letters),
    ("segfault", |call| {
        argument_count(call, 2)?;
        crate::server::process::die_by(libc::SIGSEGV)
    }),
    ("panic", |call| {
        argument_count(call, 2)?;
        tracing::error!("Panic triggered by DEBUG PANIC");
        crate::server::process::die_by(libc::SIGABRT)
    }),
    ("change-repl-id", |call| {
        argument_count(call, 2)?;
        tracing::info!("Changing replication IDs after receiving change-repl-id");
        let server = call.server();
        server.turn(call.core_mut(), |roles, turn| roles.replication.rename_stream(turn));
        Ok(Reply::Ok.into())
    }),
    ("digest", |call| {
        let now_ms = call.executor.now_ms;
        Ok(Reply::Status(Digest::of_keyspace(&call.core().keyspace, now_ms).hex().into()).into())
    }),
    ("digest-value", digest_values),
    ("object", object),
    ("populate", populate),
    ("reload", reload),
    ("loadaof", load_aof),
    ("protocol", protocol),
    ("log", |call| {
        let message = String::from_utf8_lossy(argument(call, 2)?).into_owned();
        tracing::warn!("DEBUG LOG: {message}");
        Ok(Reply::Ok.into())
    }),
    ("error", |call| Err(ErrorReply::from_text(argument(call, 2)?.to_vec()))),
    ("config-rewrite-force-all", |call| super::config::rewrite_file(call.server(), true)),
    ("help", |call| Ok(crate::command::help_reply(call.args[0], HELP).into())),
];

fn debug(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let allowed = match call.server().config().enable_debug_command {
        ProtectedAction::Yes => true,
        ProtectedAction::Local => super::config::is_local(call.session),
        ProtectedAction::No => false,
    };
    if !allowed {
        return Err(ErrorReply::new(
            "ERR DEBUG command not allowed. If the enable-debug-command option is set to \"local\", you can run it \
             from a local connection, otherwise you need to set this option in the configuration file, and then \
             restart the server.",
        ));
    }
    let name = call.args[1].to_ascii_lowercase();
    match SUBCOMMANDS.iter().find(|(known, _)| known.as_bytes() == name) {
        Some((_, function)) => function(call),
        None => Err(super::wrong_subcommand_arguments(call)),
    }
}

fn argument<'a>(call: &Call<'a, '_, Writes>, index: usize) -> Result<&'a [u8], ErrorReply> {
    call.args.get(index).copied().ok_or_else(|| super::wrong_subcommand_arguments(call))
}

fn sleep(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let seconds = parse_f64(argument(call, 2)?).filter(|seconds| (0.0..1e9).contains(seconds));
    let seconds = seconds.ok_or(ErrorReply::NOT_A_FLOAT)?;
    // The whole server is to stand still, so the dataset is held.
    call.core_mut();
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(Reply::Ok.into())
}

fn flag(
    call: &mut Call<'_, '_, Writes>,
    of: fn(&crate::server::Server) -> &std::sync::atomic::AtomicBool,
    off_value: bool,
) -> Result<HostOutcome, ErrorReply> {
    let on = parse_i64(argument(call, 2)?).ok_or(ErrorReply::NOT_AN_INTEGER)? != 0;
    of(call.server()).store(on != off_value, Relaxed);
    Ok(Reply::Ok.into())
}

fn digest_values(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let (args, database, now_ms) = (call.args, call.session.database, call.executor.now_ms);
    let database = call.core().keyspace.database(database);
    let digest =
        |key: &&[u8]| database.get(key).map(|entry| Digest::of_value(entry, now_ms)).unwrap_or_default();
    let digests = args[2..].iter().map(|key| Reply::Status(digest(key).hex().into()));
    Ok(Reply::Array(digests.collect()).into())
}

fn object(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let (key, database, now_ms) = (argument(call, 2)?, call.session.database, call.executor.now_ms);
    let core = call.core();
    let Some(entry) = core.keyspace.database(database).get(key) else { return Err(ErrorReply::NO_SUCH_KEY) };
    let length = crate::rdb::dump(entry).len().saturating_sub(11);
    Ok(Reply::Status(
        format!(
            "Value at:{:p} refcount:1 encoding:{} serializedlength:{length} lru:{} lru_seconds_idle:{}",
            std::ptr::from_ref(entry.key()).cast::<u8>(),
            entry.encoding(),
            entry.access_clock(),
            crate::keyspace::AccessPolicy::idle_seconds(entry, now_ms),
        )
        .into(),
    )
    .into())
}

fn populate(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let count = parse_i64(argument(call, 2)?).filter(|count| *count >= 0).ok_or(ErrorReply::OUT_OF_RANGE)?;
    let prefix = call.args.get(3).copied().unwrap_or(b"key");
    let size = match call.args.get(4) {
        Some(size) => {
            parse_i64(size).and_then(|size| usize::try_from(size).ok()).ok_or(ErrorReply::OUT_OF_RANGE)?
        }
        None => 0,
    };
    let mut transaction = call.transaction();
    for number in 0..count {
        let mut key = prefix.to_vec();
        key.extend_from_slice(format!(":{number}").as_bytes());
        if transaction.contains(&key) {
            continue;
        }
        let mut value = format!("value:{number}").into_bytes();
        if size > 0 {
            value.resize(size, 0);
        }
        transaction.insert_string(&key, &value, None);
        transaction.touched(&key);
    }
    Ok(Reply::Ok.into())
}

fn reload(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let (mut nosave, mut noflush, mut merge) = (false, false, false);
    for word in &call.args[2..] {
        match word.to_ascii_lowercase().as_slice() {
            b"nosave" => nosave = true,
            b"noflush" => noflush = true,
            b"merge" => merge = true,
            _ => {
                return Err(ErrorReply::new(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    let server = call.server();
    let core = call.core_mut();
    if !nosave && server.save_now(core).is_err() {
        return Err(ErrorReply::new("ERR"));
    }
    match if noflush { server.reload_beside(core, merge) } else { server.reload(core) } {
        Ok(()) => {
            tracing::warn!("DB reloaded by DEBUG RELOAD");
            Ok(Reply::Ok.into())
        }
        Err(error) => Err(ErrorReply::from_text(format!(
            "ERR Error trying to load the RDB dump, check server logs: {error}"
        ))),
    }
}

/// On a thread, as at the start of the server, so that others are answered LOADING and not kept waiting.
fn load_aof(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    argument_count(call, 2)?;
    let (server, client) = (call.server().clone(), call.session.client.clone());
    server.conditions.set(Conditions::LOADING, true);
    let begun = std::thread::Builder::new().name("loader".into()).spawn(move || {
        let reply = match server.reload_aof() {
            Ok(()) => Reply::Ok,
            Err(error) => Reply::Error(ErrorReply::from_text(format!(
                "ERR Error trying to load the AOF files, check server logs: {error}"
            ))),
        };
        client.send(&reply);
        client.unblock(Unblock::Answered);
    });
    begun.map_err(|error| ErrorReply::from_text(format!("ERR Can't start a thread: {error}")))?;
    Ok(HostOutcome::Wait(Waiting {
        timeout: None,
        on_timeout: Box::new(|_| Reply::Error(ErrorReply::new("ERR still loading"))),
        interruptible: false,
    }))
}

fn argument_count(call: &Call<'_, '_, Writes>, count: usize) -> Result<(), ErrorReply> {
    if call.args.len() == count { Ok(()) } else { Err(super::wrong_subcommand_arguments(call)) }
}

fn reply_buffer(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    argument_count(call, 4)?;
    let value = call.args[3];
    match call.args[2].to_ascii_lowercase().as_slice() {
        b"resizing" => {}
        b"peak-reset-time" => {
            let word = value.eq_ignore_ascii_case(b"never") || value.eq_ignore_ascii_case(b"reset");
            if !word && parse_i64(value).is_none() {
                return Err(ErrorReply::NOT_AN_INTEGER);
            }
        }
        _ => return Err(super::wrong_subcommand_arguments(call)),
    }
    Ok(Reply::Ok.into())
}

fn packed_threshold(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let bytes = parse_memory(argument(call, 2)?).filter(|bytes| *bytes < 1 << 32);
    let bytes = bytes
        .ok_or(ErrorReply::new("ERR argument must be a memory value bigger than 1 and smaller than 4gb"))?;
    let keyspace = &mut call.core_mut().keyspace;
    let mut settings = *keyspace.settings();
    settings.limits.quicklist_packed_threshold = bytes as usize;
    keyspace.set_settings(settings);
    Ok(Reply::Ok.into())
}

fn table_text(elements: usize, bytes: usize) -> String {
    let slots = bytes / std::mem::size_of::<usize>();
    format!(
        "Hash table 0 stats (main hash table):
 table size: {slots}
 number of elements: {elements}
"
    )
}

fn table_of_database(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let index = parse_i64(argument(call, 2)?).ok_or(ErrorReply::NOT_AN_INTEGER)?;
    let core = call.core();
    let count = core.keyspace.database_count();
    let index = usize::try_from(index).ok().filter(|index| *index < count);
    let database = core.keyspace.database(index.ok_or(ErrorReply::new("ERR Out of range database"))?);
    let main = table_text(database.len(), database.entries().memory_usage());
    // Expiries stand in the entries themselves; an index of moments finds what is due.
    let text = format!(
        "[Dictionary HT]
{main}[Expires HT]
 number of elements: {}
",
        database.expiring()
    );
    Ok(Reply::Verbatim(*b"txt", text.into_bytes()).into())
}

fn table_of_key(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let entry = entry_of_key(call)?;
    if entry.encoding() != "hashtable" && entry.encoding() != "skiplist" {
        return Err(ErrorReply::new(
            "ERR The value stored at the specified key is not represented using an hash table",
        ));
    }
    let elements = match entry.value() {
        ValueRef::Set(set) => set.len(),
        ValueRef::Hash(hash) => hash.len(),
        ValueRef::SortedSet(set) => set.len(),
        _ => 0,
    };
    let text = table_text(elements, entry.allocated_bytes(0));
    Ok(Reply::Verbatim(*b"txt", text.into_bytes()).into())
}

fn entry_of_key<'c>(call: &'c mut Call<'_, '_, Writes>) -> Result<&'c Entry, ErrorReply> {
    let (key, database) = (argument(call, 2)?, call.session.database);
    call.core().keyspace.database(database).get(key).ok_or(ErrorReply::NO_SUCH_KEY)
}

fn listpack(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let entry = entry_of_key(call)?;
    tracing::warn!("DEBUG LISTPACK: {} of {} bytes", entry.encoding(), entry.allocated_bytes(0));
    Ok(Reply::Status("Listpack structure printed on stdout".into()).into())
}

/// Whether a pattern matches a long text, and how long that takes, is what a hostile pattern is judged by.
fn match_letters(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    argument_count(call, 4)?;
    let length = parse_i64(call.args[2]).and_then(|length| usize::try_from(length).ok());
    let length = length.filter(|length| *length <= 1 << 30).ok_or(ErrorReply::NOT_AN_INTEGER)?;
    let fits = glob::matches(call.args[3], &vec![b'a'; length], Case::Sensitive);
    Ok(Reply::Integer(fits.into()).into())
}

fn protocol(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let three = || vec![Reply::Integer(0), Reply::Integer(1), Reply::Integer(2)];
    let reply = match argument(call, 2)?.to_ascii_lowercase().as_slice() {
        b"string" => Reply::text("Hello World"),
        b"integer" => Reply::Integer(12345),
        // The number that clients' tests expect here.
        b"double" => Reply::Double(f64::from(3141) / 1000.0),
        b"null" => Reply::Nil,
        b"array" => Reply::Array(three()),
        b"set" => Reply::Set(three()),
        b"map" => {
            Reply::Map((0..3).map(|number| (Reply::Integer(number), Reply::Bool(number == 1))).collect())
        }
        b"attrib" => {
            let popularity = Reply::Array(vec![Reply::text("key:123"), Reply::Integer(90)]);
            let text = Reply::text("Some real reply following the attribute");
            Reply::Attributed(vec![(Reply::text("key-popularity"), popularity)], Box::new(text))
        }
        b"push" => Reply::Push(vec![Reply::text("server-cpu-usage"), Reply::Integer(42)]),
        b"verbatim" => Reply::Verbatim(*b"txt", b"This is a verbatim\nstring".to_vec()),
        b"true" => Reply::Bool(true),
        b"false" => Reply::Bool(false),
        b"bignum" => Reply::BigNumber(b"1234567999999999999999999999999999999".to_vec()),
        _ => {
            return Err(ErrorReply::new(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|double|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    };
    Ok(reply.into())
}
