//! Commands on keys whatever they hold: deleting, renaming, copying, moving, listing; OBJECT; and on whole databases.

mod table;

pub use table::COMMANDS;

use super::options::{database, existing_database, small_integer};
use super::parse::is;
use crate::base::glob::{Case, matches};
use crate::command::Args;
use crate::keyspace::{AccessPolicy, Entry, EventClasses, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};

type Read<'k> = CommandResult<'k>;
type Written = CommandResult<'static>;

const SAME_OBJECT: ErrorReply = ErrorReply::new("ERR source and destination objects are the same");

// ---- Reading ----

/// The entry of a key, found without being used.
fn untouched<'k>(reader: &Reader<'k>, key: &[u8]) -> Option<&'k Entry> {
    Reader { touch: false, ..*reader }.lookup(key)
}

fn exists<'k>(reader: &Reader<'k>, args: &Args<'_>) -> Read<'k> {
    Ok(Reply::Integer(args[1..].iter().filter(|key| untouched(reader, key).is_some()).count() as i64))
}

fn touch<'k>(reader: &Reader<'k>, args: &Args<'_>) -> Read<'k> {
    // A use even for a client whose other commands are none.
    let reader = Reader { touch: true, ..*reader };
    Ok(Reply::Integer(args[1..].iter().filter(|key| reader.lookup(key).is_some()).count() as i64))
}

fn kind<'k>(reader: &Reader<'k>, args: &Args<'_>) -> Read<'k> {
    Ok(Reply::Status(untouched(reader, args[1]).map_or("none", |entry| entry.kind().name()).into()))
}

fn keys<'k>(reader: &Reader<'k>, args: &Args<'_>) -> Read<'k> {
    let pattern = args[1];
    let wanted = |key: &[u8]| pattern == b"*" || matches(pattern, key, Case::Sensitive);
    let live = reader.database().entries().iter().filter(|entry| !reader.is_expired(entry));
    Ok(Reply::Array(live.map(Entry::key).filter(|key| wanted(key)).map(Reply::Bulk).collect()))
}

fn randomkey<'k>(reader: &Reader<'k>, _: &Args<'_>) -> Read<'k> {
    const PATIENCE: usize = 100;
    let entries = reader.database().entries();
    let mut random = fastrand::Rng::new();
    // Where nearly all have expired, one that has must do, as nothing better is found soon.
    for attempt in 0..PATIENCE {
        let Some(entry) = entries.random(&mut random) else { break };
        if reader.peek(entry.key()).is_some() || attempt == PATIENCE - 1 {
            return Ok(Reply::Bulk(entry.key()));
        }
    }
    Ok(Reply::Nil)
}

fn dbsize<'k>(reader: &Reader<'k>, _: &Args<'_>) -> Read<'k> {
    Ok(Reply::Integer(reader.database().len() as i64))
}

/// OBJECT's subcommands answer from the entry, or that there is none.
fn object<'k>(
    reader: &Reader<'k>,
    args: &Args<'_>,
    answer: impl FnOnce(&'k Entry) -> CommandResult<'k>,
) -> Read<'k> {
    untouched(reader, args[2]).map_or(Ok(Reply::Nil), answer)
}

fn idle_time<'k>(reader: &Reader<'k>, entry: &Entry) -> Read<'k> {
    match reader.settings().access {
        AccessPolicy::Lru => Ok(Reply::Integer(AccessPolicy::idle_seconds(entry, reader.now_ms) as i64)),
        AccessPolicy::Lfu { .. } => Err(ErrorReply::new(
            "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching between \
             policies at runtime LRU and LFU data will take some time to adjust.",
        )),
    }
}

fn frequency<'k>(reader: &Reader<'k>, entry: &Entry) -> Read<'k> {
    match reader.settings().access {
        access @ AccessPolicy::Lfu { .. } => {
            Ok(Reply::Integer(i64::from(access.frequency(entry, reader.now_ms))))
        }
        AccessPolicy::Lru => Err(ErrorReply::new(
            "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when switching \
             between policies at runtime LRU and LFU data will take some time to adjust.",
        )),
    }
}

// ---- Deleting ----

fn delete(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let mut deleted = 0;
    for key in &args[1..] {
        if transaction.delete(key) {
            transaction.count_changes(1);
            deleted += 1;
        }
    }
    Ok(Reply::Integer(deleted))
}

/// The argument of FLUSHDB and FLUSHALL. Large databases are dropped by a background thread either way.
fn flush(transaction: &mut WriteTxn<'_>, args: &Args<'_>, database: Option<usize>) -> Written {
    match &args[1..] {
        [] => {}
        [how] if is(how, "sync") || is(how, "async") => {}
        _ => return Err(ErrorReply::SYNTAX),
    }
    let removed = transaction.flush(database);
    transaction.count_changes(removed as u64);
    // Replicas are told even if there was nothing: they may have something.
    transaction.state_effect(args);
    Ok(Reply::Ok)
}

// ---- Moving ----

/// Runs `change` with another database selected.
fn in_database<R>(
    transaction: &mut WriteTxn<'_>,
    database: usize,
    change: impl FnOnce(&mut WriteTxn<'_>) -> R,
) -> R {
    let selected = std::mem::replace(&mut transaction.database, database);
    let result = change(transaction);
    transaction.database = selected;
    result
}

/// Puts in an entry as a new one, even if there is one of its key: it was not changed but has gone.
fn insert_anew(transaction: &mut WriteTxn<'_>, entry: Entry) {
    let old = transaction.remove(entry.key());
    transaction.discard_if_any(old);
    transaction.insert(entry);
}

/// Puts in an entry that was elsewhere, and leaves its access clock as it was.
fn insert_as_used(transaction: &mut WriteTxn<'_>, entry: Entry) {
    let (key, clock) = (entry.key().to_vec(), entry.access_clock());
    insert_anew(transaction, entry);
    let database = transaction.keyspace().database(transaction.database);
    if let Some(entry) = database.get(&key) {
        entry.set_access_clock(clock);
    }
}

/// RENAME, and RENAMENX, which does nothing if the new key is there. `true`: it was renamed, or is the same.
fn rename(
    transaction: &mut WriteTxn<'_>,
    args: &Args<'_>,
    only_if_missing: bool,
) -> Result<bool, ErrorReply> {
    let (key, new_key) = (args[1], args[2]);
    let renamed = transaction.lookup(key).ok_or(ErrorReply::NO_SUCH_KEY)?.with_key(new_key);
    if key == new_key {
        return Ok(!only_if_missing);
    }
    if transaction.contains(new_key) && only_if_missing {
        return Ok(false);
    }
    insert_as_used(transaction, renamed);
    transaction.remove(key);
    transaction.touched(key);
    transaction.touched(new_key);
    transaction.notify(EventClasses::GENERIC, "rename_from", key);
    transaction.notify(EventClasses::GENERIC, "rename_to", new_key);
    transaction.count_changes(1);
    Ok(true)
}

fn move_key(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let (key, source) = (args[1], transaction.database);
    let target = database(transaction, args[2])?;
    if source == target {
        return Err(SAME_OBJECT);
    }
    let Some(entry) = transaction.lookup(key).map(|entry| entry.with_key(key)) else {
        return Ok(Reply::Integer(0));
    };
    if in_database(transaction, target, |transaction| transaction.contains(key)) {
        return Ok(Reply::Integer(0));
    }
    in_database(transaction, target, |transaction| insert_as_used(transaction, entry));
    transaction.remove(key);
    transaction.changed(EventClasses::GENERIC, "move_from", key, 1);
    in_database(transaction, target, |transaction| {
        transaction.changed(EventClasses::GENERIC, "move_to", key, 0);
    });
    Ok(Reply::Integer(1))
}

fn copy(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let (key, new_key, source) = (args[1], args[2], transaction.database);
    let (mut target, mut replace) = (source, false);
    let mut rest = &args[3..];
    while let [word, after @ ..] = rest {
        rest = match after {
            _ if is(word, "replace") => {
                replace = true;
                after
            }
            [index, after @ ..] if is(word, "db") => {
                target = database(transaction, index)?;
                after
            }
            _ => return Err(ErrorReply::SYNTAX),
        };
    }
    if source == target && key == new_key {
        return Err(SAME_OBJECT);
    }
    let Some(copy) = transaction.lookup(key).map(|entry| entry.with_key(new_key)) else {
        return Ok(Reply::Integer(0));
    };
    let copied = in_database(transaction, target, |transaction| {
        if transaction.contains(new_key) && !replace {
            return false;
        }
        insert_anew(transaction, copy);
        transaction.changed(EventClasses::GENERIC, "copy_to", new_key, 1);
        true
    });
    Ok(Reply::Integer(copied.into()))
}

fn swapdb(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let one = small_integer(args[1]).map_err(|_| ErrorReply::new("ERR invalid first DB index"))?;
    let other = small_integer(args[2]).map_err(|_| ErrorReply::new("ERR invalid second DB index"))?;
    let (one, other) = (existing_database(transaction, one)?, existing_database(transaction, other)?);
    transaction.swap_databases(one, other);
    transaction.count_changes(1);
    Ok(Reply::Ok)
}

#[cfg(test)]
mod tests;
