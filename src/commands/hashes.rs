//! Hashes: setting, getting, counting and choosing fields. What their expiry is about is in `hash_expiry`.
//!
//! Invariants: a hash without fields is never left under its key; a field whose time has passed is never shown, though it
//! counts for HLEN until it is deleted, as in Valkey.

use std::collections::HashSet;

use super::parse::{integer, is};
use super::sets::element;
use crate::base::number;
use crate::base::number::LongDouble;
use crate::command::{
    Args, Argument, ArgumentKind, DataCommand, Flags, Group, KeySpec, KeyUse, ReadFn, WriteFn,
};
use crate::keyspace::{EventClasses, KeyExpiry, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Protocol, Reply};
use crate::types::element::TextBuffer;
use crate::types::hash::Field;
use crate::types::{Hash, Limits};

const KEY_READ: &[KeySpec] = &[KeySpec::one(1, KeyUse::RO.and(KeyUse::ACCESS))];
const KEY_LOOK: &[KeySpec] = &[KeySpec::one(1, KeyUse::RO)];
const KEY_UPDATE: &[KeySpec] = &[KeySpec::one(1, KeyUse::RW.and(KeyUse::UPDATE))];
const KEY_INCREMENT: &[KeySpec] = &[KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::UPDATE))];

const KEY: Argument = Argument::key();
pub(super) const FIELD: Argument = Argument::new("field", ArgumentKind::String);
pub(super) const VALUE: Argument = Argument::new("value", ArgumentKind::String);
pub(super) const DATA: Argument = Argument::block("data", &[FIELD, VALUE]).multiple();

const SET_COMPLEXITY: &str = "O(N), N being the number of fields set";
const ALL_COMPLEXITY: &str = "O(N), N being the number of fields of the hash";

pub(super) const fn reading(function: ReadFn) -> DataCommand {
    DataCommand { group: Group::Hash, since: "2.0.0", keys: KEY_READ, ..DataCommand::read(function) }
}

pub(super) const fn writing(function: WriteFn) -> DataCommand {
    DataCommand { group: Group::Hash, since: "2.0.0", keys: KEY_UPDATE, ..DataCommand::write(function) }
}

const ADDS: Flags = Flags::DENYOOM.and(Flags::FAST);

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "hset",
        summary: "Sets fields of a hash, which is made if there is none, and counts the new ones.",
        complexity: SET_COMPLEXITY,
        arity: -4,
        flags: ADDS,
        arguments: &[KEY, DATA],
        history: &[("4.0.0", "Takes several fields.")],
        ..writing(|transaction, args| Ok(Reply::Integer(set_fields(transaction, args, "hset")?)))
    },
    DataCommand {
        name: "hmset",
        summary: "Sets fields of a hash, which is made if there is none.",
        complexity: SET_COMPLEXITY,
        arity: -4,
        flags: ADDS,
        arguments: &[KEY, DATA],
        ..writing(|transaction, args| set_fields(transaction, args, "hmset").map(|_| Reply::Ok))
    },
    DataCommand {
        name: "hsetnx",
        summary: "Sets a field of a hash if the hash does not have it.",
        arity: 4,
        flags: ADDS,
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::INSERT))],
        arguments: &[KEY, FIELD, VALUE],
        ..writing(hsetnx)
    },
    DataCommand {
        name: "hget",
        summary: "The value of a field of a hash.",
        arity: 3,
        flags: Flags::FAST,
        arguments: &[KEY, FIELD],
        ..reading(|reader, args| {
            let field = hash(reader, args[1])?.and_then(|hash| hash.get(args[2]));
            Ok(value_or_nil(field))
        })
    },
    DataCommand {
        name: "hmget",
        summary: "The values of several fields of a hash.",
        complexity: "O(N), N being the number of fields asked for",
        arity: -3,
        flags: Flags::FAST,
        arguments: &[KEY, FIELD.multiple()],
        ..reading(|reader, args| {
            let hash = hash(reader, args[1])?;
            let value = |name: &&[u8]| value_or_nil(hash.and_then(|hash| hash.get(name)));
            Ok(Reply::Array(args[2..].iter().map(value).collect()))
        })
    },
    DataCommand {
        name: "hgetall",
        summary: "All fields of a hash with their values.",
        complexity: ALL_COMPLEXITY,
        arity: 2,
        arguments: &[KEY],
        tips: &["nondeterministic_output_order"],
        ..reading(|reader, args| {
            let pairs = fields(reader, args[1])?.map(|field| (element(field.name), element(field.value)));
            Ok(Reply::Map(pairs.collect()))
        })
    },
    DataCommand {
        name: "hkeys",
        summary: "The names of all fields of a hash.",
        complexity: ALL_COMPLEXITY,
        arity: 2,
        arguments: &[KEY],
        tips: &["nondeterministic_output_order"],
        ..reading(|reader, args| {
            Ok(Reply::Array(fields(reader, args[1])?.map(|field| element(field.name)).collect()))
        })
    },
    DataCommand {
        name: "hvals",
        summary: "The values of all fields of a hash.",
        complexity: ALL_COMPLEXITY,
        arity: 2,
        arguments: &[KEY],
        tips: &["nondeterministic_output_order"],
        ..reading(|reader, args| {
            Ok(Reply::Array(fields(reader, args[1])?.map(|field| element(field.value)).collect()))
        })
    },
    DataCommand {
        name: "hlen",
        summary: "The number of fields of a hash.",
        arity: 2,
        flags: Flags::FAST,
        keys: KEY_LOOK,
        arguments: &[KEY],
        ..reading(|reader, args| Ok(Reply::Integer(reader.hash(args[1])?.map_or(0, Hash::len) as i64)))
    },
    DataCommand {
        name: "hexists",
        summary: "Whether a hash has a field.",
        arity: 3,
        flags: Flags::FAST,
        keys: KEY_LOOK,
        arguments: &[KEY, FIELD],
        ..reading(|reader, args| {
            let field = hash(reader, args[1])?.and_then(|hash| hash.get(args[2]));
            Ok(Reply::Integer(i64::from(field.is_some())))
        })
    },
    DataCommand {
        name: "hstrlen",
        summary: "The length of the value of a field of a hash.",
        since: "3.2.0",
        arity: 3,
        flags: Flags::FAST,
        keys: KEY_LOOK,
        arguments: &[KEY, FIELD],
        ..reading(|reader, args| {
            let field = hash(reader, args[1])?.and_then(|hash| hash.get(args[2]));
            Ok(Reply::Integer(field.map_or(0, |field| field.value.text_len()) as i64))
        })
    },
    DataCommand {
        name: "hdel",
        summary: "Deletes fields of a hash, and the hash with its last one.",
        complexity: "O(N), N being the number of fields to delete",
        arity: -3,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::DELETE))],
        arguments: &[KEY, FIELD.multiple()],
        history: &[("2.4.0", "Takes several fields.")],
        ..writing(hdel)
    },
    DataCommand {
        name: "hincrby",
        summary: "Adds an integer to the value of a field of a hash; 0 if there is none.",
        arity: 4,
        flags: ADDS,
        keys: KEY_INCREMENT,
        arguments: &[KEY, FIELD, Argument::new("increment", ArgumentKind::Integer)],
        ..writing(hincrby)
    },
    DataCommand {
        name: "hincrbyfloat",
        summary: "Adds a number to the value of a field of a hash; 0 if there is none.",
        since: "2.6.0",
        arity: 4,
        flags: ADDS,
        keys: KEY_INCREMENT,
        arguments: &[KEY, FIELD, Argument::new("increment", ArgumentKind::Double)],
        ..writing(hincrbyfloat)
    },
    DataCommand {
        name: "hrandfield",
        summary: "Fields of a hash chosen at random, which stay in it.",
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
        tips: &["nondeterministic_output"],
        ..reading(hrandfield)
    },
];

// ---- Hashes as a call sees them ----

/// Which fields a call does not see: those whose time came no later than this moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Hidden {
    until_ms: i64,
}

impl Hidden {
    /// What a call at `now_ms` does not see; the stream being applied sees all.
    fn new(expiry: KeyExpiry, now_ms: u64) -> Hidden {
        let until_ms = match expiry {
            KeyExpiry::Ignore => i64::MIN,
            KeyExpiry::Delete | KeyExpiry::Hide => now_ms as i64,
        };
        Hidden { until_ms }
    }

    pub(super) fn from(transaction: &WriteTxn<'_>) -> Hidden {
        Hidden::new(transaction.expiry, transaction.now_ms)
    }

    pub(super) fn shows(self, field: &Field<'_>) -> bool {
        field.expire_at_ms.is_none_or(|at| at > self.until_ms)
    }

    /// The field of that name, if it is shown.
    pub(super) fn get<'h>(self, hash: &'h Hash, name: &[u8]) -> Option<Field<'h>> {
        hash.get_field(name).filter(|field| self.shows(field))
    }
}

/// A hash to read, with what of it is not seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct LiveHash<'k> {
    hash: &'k Hash,
    hidden: Hidden,
}

impl<'k> LiveHash<'k> {
    pub(super) fn get(self, name: &[u8]) -> Option<Field<'k>> {
        self.hidden.get(self.hash, name)
    }

    fn iter(self) -> impl Iterator<Item = Field<'k>> {
        self.hash.iter().filter(move |field| self.hidden.shows(field))
    }

    /// A field at random. With very many hidden ones it may not find one.
    fn random(self, random: &mut fastrand::Rng) -> Option<Field<'k>> {
        (0..100).map_while(|_| self.hash.random(random)).find(|field| self.hidden.shows(field))
    }
}

pub(super) fn hash<'k>(reader: &Reader<'k>, key: &[u8]) -> Result<Option<LiveHash<'k>>, ErrorReply> {
    let hidden = Hidden::new(reader.expiry, reader.now_ms);
    Ok(reader.hash(key)?.map(|hash| LiveHash { hash, hidden }))
}

fn fields<'k>(reader: &Reader<'k>, key: &[u8]) -> Result<impl Iterator<Item = Field<'k>>, ErrorReply> {
    Ok(hash(reader, key)?.into_iter().flat_map(LiveHash::iter))
}

fn value_or_nil(field: Option<Field<'_>>) -> Reply<'_> {
    field.map_or(Reply::Nil, |field| element(field.value))
}

// ---- Setting ----

/// What becomes of the expiry of a field that is set.
#[derive(Debug, Clone, Copy)]
pub(super) enum NewExpiry {
    Never,
    At(i64),
    /// As it was, if the field is there.
    Keep,
}

/// What setting a field came to.
pub(super) struct Written {
    pub(super) is_new: bool,
    /// There was one, but its time had passed.
    pub(super) was_expired: bool,
}

pub(super) fn write_field(
    hash: &mut Hash,
    (name, value): (&[u8], &[u8]),
    expiry: NewExpiry,
    hidden: Hidden,
    limits: &Limits,
) -> Written {
    let any_expire = hash.expiring_len() > 0;
    let was_expired = any_expire && hash.get_field(name).is_some_and(|field| !hidden.shows(&field));
    let is_new = match expiry {
        NewExpiry::Keep if any_expire && !was_expired => hash.set_keeping_expiry(name, value, limits),
        NewExpiry::Keep | NewExpiry::Never => hash.set(name, value, limits),
        NewExpiry::At(at_ms) => {
            let is_new = hash.set(name, value, limits);
            hash.set_expiry(name, Some(at_ms), limits);
            is_new
        }
    };
    Written { is_new: is_new || was_expired, was_expired }
}

/// Notes that fields whose time had passed were met and are gone.
pub(super) fn note_expired(transaction: &mut WriteTxn<'_>, key: &[u8], any: bool) {
    if any {
        transaction.notify(EventClasses::HASH, "hexpired", key);
    }
}

/// `key field value [field value …]`: how many of the fields are new.
fn set_fields(transaction: &mut WriteTxn<'_>, args: &Args<'_>, name: &str) -> Result<i64, ErrorReply> {
    let (key, data) = (args[1], &args[2..]);
    if !data.len().is_multiple_of(2) {
        let text = format!("ERR wrong number of arguments for '{name}' command");
        return Err(ErrorReply::from_text(text));
    }
    let (limits, hidden) = (transaction.limits(), Hidden::from(transaction));
    let hash = transaction.hash_or_new(key, Hash::new)?;
    hash.prepare(data, &limits);
    let (mut created, mut met_expired) = (0, false);
    for pair in data.chunks_exact(2) {
        let written = write_field(hash, (pair[0], pair[1]), NewExpiry::Never, hidden, &limits);
        created += i64::from(written.is_new);
        met_expired |= written.was_expired;
    }
    note_expired(transaction, key, met_expired);
    transaction.changed(EventClasses::HASH, "hset", key, data.len() as u64 / 2);
    Ok(created)
}

fn hsetnx(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, name, value) = (args[1], args[2], args[3]);
    let (limits, hidden) = (transaction.limits(), Hidden::from(transaction));
    let hash = transaction.hash_or_new(key, Hash::new)?;
    if hidden.get(hash, name).is_some() {
        return Ok(Reply::Integer(0));
    }
    // Where fields expire, a replica may still see one that is gone here.
    let any_expire = hash.expiring_len() > 0;
    hash.prepare(&args[2..], &limits);
    let written = write_field(hash, (name, value), NewExpiry::Never, hidden, &limits);
    note_expired(transaction, key, written.was_expired);
    transaction.changed(EventClasses::HASH, "hset", key, 1);
    if any_expire {
        transaction.state_effect(&[b"HSET", key, name, value]);
    }
    Ok(Reply::Integer(1))
}

fn hdel(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let hidden = Hidden::from(transaction);
    let Some(hash) = transaction.change_hash(key)? else { return Ok(Reply::Integer(0)) };
    let remove = |name: &&&[u8]| hidden.get(hash, name).is_some() && hash.remove(name);
    let removed = args[2..].iter().filter(remove).count();
    if removed > 0 {
        transaction.changed(EventClasses::HASH, "hdel", key, removed as u64);
        transaction.remove_if_empty(key);
    }
    Ok(Reply::Integer(removed as i64))
}

// ---- Counting ----

fn hincrby(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let increment = integer(args[3])?;
    let hidden = Hidden::from(transaction);
    let field = transaction.hash(args[1])?.and_then(|hash| hidden.get(hash, args[2]));
    let old = match field {
        Some(field) => field.value.as_integer().ok_or(ErrorReply::new("ERR hash value is not an integer"))?,
        None => 0,
    };
    let overflow = ErrorReply::new("ERR increment or decrement would overflow");
    let new = old.checked_add(increment).ok_or(overflow)?;
    let mut text = Vec::new();
    number::append_i64(&mut text, new);
    let was_plain = replace_number(transaction, args, &text, "hincrby")?;
    if !was_plain {
        state_number(transaction, args, &text)?;
    }
    Ok(Reply::Integer(new))
}

fn hincrbyfloat(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let increment = LongDouble::parse(args[3]).ok_or(ErrorReply::NOT_A_FLOAT)?;
    if !increment.is_finite() {
        return Err(ErrorReply::new("ERR value is NaN or Infinity"));
    }
    let hidden = Hidden::from(transaction);
    let field = transaction.hash(args[1])?.and_then(|hash| hidden.get(hash, args[2]));
    let old = match field {
        Some(field) => LongDouble::parse(field.value.text(&mut TextBuffer::new()))
            .ok_or(ErrorReply::new("ERR hash value is not a float"))?,
        None => LongDouble::ZERO,
    };
    let new = old + increment;
    if !new.is_finite() {
        return Err(ErrorReply::new("ERR increment would produce NaN or Infinity"));
    }
    let text = new.format();
    replace_number(transaction, args, &text, "hincrbyfloat")?;
    // The sum is told, not the summand: another machine might round otherwise.
    state_number(transaction, args, &text)?;
    Ok(Reply::Owned(text))
}

/// Puts a number in the place of the one that was; its expiry stays. Tells whether no field of the hash could expire.
fn replace_number(
    transaction: &mut WriteTxn<'_>,
    args: &Args<'_>,
    text: &[u8],
    event: &'static str,
) -> Result<bool, ErrorReply> {
    let (key, name) = (args[1], args[2]);
    let (limits, hidden) = (transaction.limits(), Hidden::from(transaction));
    let hash = transaction.hash_or_new(key, Hash::new)?;
    let was_plain = hash.expiring_len() == 0;
    let written = write_field(hash, (name, text), NewExpiry::Keep, hidden, &limits);
    note_expired(transaction, key, written.was_expired);
    transaction.changed(EventClasses::HASH, event, key, 1);
    Ok(was_plain)
}

/// States the new number of a field as an effect, with the moment at which the field expires.
fn state_number(transaction: &mut WriteTxn<'_>, args: &Args<'_>, text: &[u8]) -> Result<(), ErrorReply> {
    let (key, name) = (args[1], args[2]);
    match transaction.hash(key)?.and_then(|hash| hash.expire_at_ms(name)) {
        None => transaction.state_effect(&[b"HSET", key, name, text]),
        Some(at_ms) => {
            let mut moment = Vec::new();
            number::append_i64(&mut moment, at_ms);
            transaction.state_effect(&[b"HSETEX", key, b"PXAT", &moment, b"FIELDS", b"1", name, text]);
        }
    }
    Ok(())
}

// ---- Choosing ----

fn hrandfield<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let (key, options) = (args[1], &args[2..]);
    let mut random = fastrand::Rng::new();
    let [count, options @ ..] = options else {
        let field = hash(reader, key)?.and_then(|hash| hash.random(&mut random));
        return Ok(field.map_or(Reply::Nil, |field| element(field.name)));
    };
    let count = integer(count)?;
    if count == i64::MIN {
        let (least, most) = (-i64::MAX, i64::MAX);
        let text = format!("ERR value is out of range, value must between {least} and {most}");
        return Err(ErrorReply::from_text(text));
    }
    let with_values = match options {
        [] => false,
        [word] if is(word, "withvalues") => true,
        _ => return Err(ErrorReply::SYNTAX),
    };
    // With the values the reply is twice as long.
    if with_values && !(-(i64::MAX / 2)..=i64::MAX / 2).contains(&count) {
        return Err(ErrorReply::OUT_OF_RANGE);
    }
    let Some(hash) = hash(reader, key)? else { return Ok(Reply::Array(Vec::new())) };
    let chosen = if count < 0 {
        (0..count.unsigned_abs()).map_while(|_| hash.random(&mut random)).collect()
    } else {
        choose(hash, count as usize, &mut random)
    };
    Ok(chosen_reply(chosen, with_values, reader.protocol))
}

/// `count` different fields, fairly.
fn choose<'k>(hash: LiveHash<'k>, count: usize, random: &mut fastrand::Rng) -> Vec<Field<'k>> {
    let size = hash.hash.len();
    if count >= size {
        return hash.iter().collect();
    }
    // To draw again and again is slow when many of the fields are wanted, or can be seen no more.
    if count * 3 > size || hash.hash.expiring_len() > 0 {
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

fn chosen_reply<'k>(chosen: Vec<Field<'k>>, with_values: bool, protocol: Protocol) -> Reply<'k> {
    let pair = |field: Field<'k>| vec![element(field.name), element(field.value)];
    Reply::Array(match (with_values, protocol) {
        (false, _) => chosen.into_iter().map(|field| element(field.name)).collect(),
        (true, Protocol::Resp2) => chosen.into_iter().flat_map(pair).collect(),
        (true, Protocol::Resp3) => chosen.into_iter().map(|field| Reply::Array(pair(field))).collect(),
    })
}

#[cfg(test)]
mod tests;
