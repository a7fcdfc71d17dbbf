//! Hashes: fields with values under one key.

use std::collections::HashSet;

use super::parse::{self, is};
use super::sets::element;
use crate::base::number::LongDouble;
use crate::command::{
    Args, Argument, ArgumentKind, DataCommand, Flags, Group, KeySpec, KeyUse, ReadFn, WriteFn,
};
use crate::keyspace::{EventClasses, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Protocol, Reply};
use crate::types::Hash;
use crate::types::hash::Field;

const READ: &[KeySpec] = &[KeySpec::one(1, KeyUse::RO.and(KeyUse::ACCESS))];
const LOOK: &[KeySpec] = &[KeySpec::one(1, KeyUse::RO)];
const UPDATE: &[KeySpec] = &[KeySpec::one(1, KeyUse::RW.and(KeyUse::UPDATE))];
const INCREMENT: &[KeySpec] = &[KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::UPDATE))];
const KEY: Argument = Argument::key();
const FIELD: Argument = Argument::new("field", ArgumentKind::String);
const VALUE: Argument = Argument::new("value", ArgumentKind::String);
const DATA: Argument = Argument::block("data", &[FIELD, VALUE]).multiple();

const fn reading(keys: &'static [KeySpec], function: ReadFn) -> DataCommand {
    DataCommand { group: Group::Hash, since: "2.0.0", keys, ..DataCommand::read(function) }
}

const fn writing(keys: &'static [KeySpec], function: WriteFn) -> DataCommand {
    DataCommand { group: Group::Hash, since: "2.0.0", keys, ..DataCommand::write(function) }
}

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "hset",
        summary: "Sets fields of a hash, which is made if there is none.",
        complexity: "O(N), N being the number of fields",
        arity: -4,
        flags: Flags::DENYOOM.and(Flags::FAST),
        arguments: &[KEY, DATA],
        ..writing(UPDATE, |transaction, args| Ok(Reply::Integer(set_fields(transaction, args)?)))
    },
    DataCommand {
        name: "hmset",
        summary: "Sets fields of a hash.",
        complexity: "O(N), N being the number of fields",
        arity: -4,
        flags: Flags::DENYOOM.and(Flags::FAST),
        arguments: &[KEY, DATA],
        ..writing(UPDATE, |transaction, args| set_fields(transaction, args).map(|_| Reply::Ok))
    },
    DataCommand {
        name: "hsetnx",
        summary: "Sets a field of a hash if it is not there.",
        arity: 4,
        flags: Flags::DENYOOM.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::INSERT))],
        arguments: &[KEY, FIELD, VALUE],
        ..writing(UPDATE, hsetnx)
    },
    DataCommand {
        name: "hincrby",
        summary: "Adds a whole number to the value of a field.",
        arity: 4,
        flags: Flags::DENYOOM.and(Flags::FAST),
        arguments: &[KEY, FIELD, Argument::new("increment", ArgumentKind::Integer)],
        ..writing(INCREMENT, hincrby)
    },
    DataCommand {
        name: "hincrbyfloat",
        summary: "Adds a number to the value of a field.",
        since: "2.6.0",
        arity: 4,
        flags: Flags::DENYOOM.and(Flags::FAST),
        arguments: &[KEY, FIELD, Argument::new("increment", ArgumentKind::Double)],
        ..writing(INCREMENT, hincrbyfloat)
    },
    DataCommand {
        name: "hdel",
        summary: "Deletes fields of a hash, and the hash with its last one.",
        complexity: "O(N), N being the number of fields to delete",
        arity: -3,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::DELETE))],
        arguments: &[KEY, FIELD.multiple()],
        ..writing(UPDATE, hdel)
    },
    DataCommand {
        name: "hget",
        summary: "The value of a field.",
        arity: 3,
        flags: Flags::FAST,
        arguments: &[KEY, FIELD],
        ..reading(READ, |reader, args| {
            let hash = reader.hash(args[1])?;
            Ok(hash.and_then(|hash| hash.get(args[2])).map_or(Reply::Nil, element))
        })
    },
    DataCommand {
        name: "hmget",
        summary: "The values of fields.",
        complexity: "O(N), N being the number of fields",
        arity: -3,
        flags: Flags::FAST,
        arguments: &[KEY, FIELD.multiple()],
        ..reading(READ, |reader, args| {
            let hash = reader.hash(args[1])?;
            let value = |field: &&[u8]| hash.and_then(|hash| hash.get(field)).map_or(Reply::Nil, element);
            Ok(Reply::Array(args[2..].iter().map(value).collect()))
        })
    },
    DataCommand {
        name: "hgetall",
        summary: "All fields of a hash with their values.",
        complexity: "O(N), N being the size of the hash",
        arity: 2,
        arguments: &[KEY],
        ..reading(READ, |reader, args| {
            let fields = reader.hash(args[1])?.into_iter().flat_map(Hash::iter);
            Ok(Reply::Map(fields.map(|field| (element(field.name), element(field.value))).collect()))
        })
    },
    DataCommand {
        name: "hkeys",
        summary: "All fields of a hash.",
        complexity: "O(N), N being the size of the hash",
        arity: 2,
        arguments: &[KEY],
        ..reading(READ, |reader, args| {
            let fields = reader.hash(args[1])?.into_iter().flat_map(Hash::iter);
            Ok(Reply::Array(fields.map(|field| element(field.name)).collect()))
        })
    },
    DataCommand {
        name: "hvals",
        summary: "All values of a hash.",
        complexity: "O(N), N being the size of the hash",
        arity: 2,
        arguments: &[KEY],
        ..reading(READ, |reader, args| {
            let fields = reader.hash(args[1])?.into_iter().flat_map(Hash::iter);
            Ok(Reply::Array(fields.map(|field| element(field.value)).collect()))
        })
    },
    DataCommand {
        name: "hlen",
        summary: "The number of fields of a hash.",
        arity: 2,
        flags: Flags::FAST,
        arguments: &[KEY],
        ..reading(LOOK, |reader, args| Ok(Reply::Integer(reader.hash(args[1])?.map_or(0, Hash::len) as i64)))
    },
    DataCommand {
        name: "hstrlen",
        summary: "The length of the value of a field.",
        since: "3.2.0",
        arity: 3,
        flags: Flags::FAST,
        arguments: &[KEY, FIELD],
        ..reading(LOOK, |reader, args| {
            let value = reader.hash(args[1])?.and_then(|hash| hash.get(args[2]));
            Ok(Reply::Integer(value.map_or(0, |value| value.text_len()) as i64))
        })
    },
    DataCommand {
        name: "hexists",
        summary: "Whether a hash has a field.",
        arity: 3,
        flags: Flags::FAST,
        arguments: &[KEY, FIELD],
        ..reading(LOOK, |reader, args| {
            let has = reader.hash(args[1])?.is_some_and(|hash| hash.contains(args[2]));
            Ok(Reply::Integer(i64::from(has)))
        })
    },
    DataCommand {
        name: "hrandfield",
        summary: "Fields of a hash chosen at random.",
        since: "6.2.0",
        complexity: "O(N), N being the number of fields returned",
        arity: -2,
        arguments: &[
            KEY,
            Argument::block(
                "options",
                &[Argument::new("count", ArgumentKind::Integer), Argument::word("WITHVALUES").optional()],
            )
            .optional(),
        ],
        ..reading(READ, hrandfield)
    },
];

/// Sets the fields and returns how many are new.
fn set_fields(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Result<i64, ErrorReply> {
    if !args.len().is_multiple_of(2) {
        let name = String::from_utf8_lossy(args[0]).to_lowercase();
        return Err(ErrorReply::from_text(format!("ERR wrong number of arguments for '{name}' command")));
    }
    let key = args[1];
    let limits = transaction.limits();
    let hash = transaction.hash_or_new(key, Hash::new)?;
    hash.prepare(&args[2..], &limits);
    let pairs = args[2..].chunks_exact(2);
    let count = pairs.len();
    let new = pairs.filter(|pair| hash.set(pair[0], pair[1], &limits)).count();
    transaction.changed(EventClasses::HASH, "hset", key, count as u64);
    Ok(new as i64)
}

fn hsetnx(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, field, value) = (args[1], args[2], args[3]);
    if transaction.hash(key)?.is_some_and(|hash| hash.contains(field)) {
        return Ok(Reply::Integer(0));
    }
    let limits = transaction.limits();
    let hash = transaction.hash_or_new(key, Hash::new)?;
    hash.prepare(&[field, value], &limits);
    hash.set(field, value, &limits);
    transaction.changed(EventClasses::HASH, "hset", key, 1);
    Ok(Reply::Integer(1))
}

fn hincrby(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, field) = (args[1], args[2]);
    let increment = parse::integer(args[3])?;
    let old = match transaction.hash(key)?.and_then(|hash| hash.get(field)) {
        None => 0,
        Some(value) => value.as_integer().ok_or(ErrorReply::new("ERR hash value is not an integer"))?,
    };
    let new =
        old.checked_add(increment).ok_or(ErrorReply::new("ERR increment or decrement would overflow"))?;
    put(transaction, key, field, itoa::Buffer::new().format(new).as_bytes())?;
    transaction.changed(EventClasses::HASH, "hincrby", key, 1);
    Ok(Reply::Integer(new))
}

fn hincrbyfloat(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, field) = (args[1], args[2]);
    let increment = LongDouble::parse(args[3]).ok_or(ErrorReply::NOT_A_FLOAT)?;
    if !increment.is_finite() {
        return Err(ErrorReply::new("ERR value is NaN or Infinity"));
    }
    let old = match transaction.hash(key)?.and_then(|hash| hash.get(field)) {
        None => LongDouble::parse(b"0"),
        Some(value) => LongDouble::parse(&value.to_vec()),
    };
    let sum = old.ok_or(ErrorReply::new("ERR hash value is not a float"))? + increment;
    if !sum.is_finite() {
        return Err(ErrorReply::new("ERR increment would produce NaN or Infinity"));
    }
    let text = sum.format();
    put(transaction, key, field, &text)?;
    transaction.changed(EventClasses::HASH, "hincrbyfloat", key, 1);
    // The sum, not the increment, so that every machine comes to the same digits.
    transaction.state_effect(&[b"HSET", key, field, &text]);
    Ok(Reply::Owned(text))
}

/// Sets a field and keeps its expiry.
fn put(transaction: &mut WriteTxn<'_>, key: &[u8], field: &[u8], value: &[u8]) -> Result<(), ErrorReply> {
    let limits = transaction.limits();
    let hash = transaction.hash_or_new(key, Hash::new)?;
    hash.prepare(&[field, value], &limits);
    hash.set_keeping_expiry(field, value, &limits);
    Ok(())
}

fn hdel(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let Some(hash) = transaction.change_hash(key)? else { return Ok(Reply::Integer(0)) };
    let removed = args[2..].iter().filter(|field| hash.remove(field)).count();
    if removed > 0 {
        transaction.changed(EventClasses::HASH, "hdel", key, removed as u64);
        transaction.remove_if_empty(key);
    }
    Ok(Reply::Integer(removed as i64))
}

fn hrandfield<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let mut random = fastrand::Rng::new();
    let hash = reader.hash(args[1])?;
    let (count, with_values) = match &args[2..] {
        [] => {
            let chosen = hash.and_then(|hash| hash.random(&mut random));
            return Ok(chosen.map_or(Reply::Nil, |field| element(field.name)));
        }
        [count] => (parse::integer(count)?, false),
        [count, word] if is(word, "withvalues") => (parse::integer(count)?, true),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let bound = if with_values { i64::MAX / 2 } else { i64::MAX };
    if count < -bound || count > bound {
        return Err(ErrorReply::OUT_OF_RANGE);
    }
    let Some(hash) = hash else { return Ok(Reply::Array(Vec::new())) };
    let fields: Vec<Field<'k>> = if count < 0 {
        (0..count.unsigned_abs()).map_while(|_| hash.random(&mut random)).collect()
    } else {
        choose(hash, count as usize, &mut random)
    };
    Ok(Reply::Array(match (with_values, reader.protocol) {
        (false, _) => fields.into_iter().map(|field| element(field.name)).collect(),
        (true, Protocol::Resp2) => {
            fields.into_iter().flat_map(|field| [element(field.name), element(field.value)]).collect()
        }
        (true, Protocol::Resp3) => fields
            .into_iter()
            .map(|field| Reply::Array(vec![element(field.name), element(field.value)]))
            .collect(),
    }))
}

/// `count` different fields, fairly.
fn choose<'k>(hash: &'k Hash, count: usize, random: &mut fastrand::Rng) -> Vec<Field<'k>> {
    if count >= hash.len() {
        return hash.iter().collect();
    }
    if count * 3 > hash.len() {
        let mut all: Vec<Field<'k>> = hash.iter().collect();
        random.shuffle(&mut all);
        all.truncate(count);
        return all;
    }
    let mut seen = HashSet::with_capacity(count);
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        let Some(field) = hash.random(random) else { break };
        if seen.insert(field.name.to_vec()) {
            chosen.push(field);
        }
    }
    chosen
}
