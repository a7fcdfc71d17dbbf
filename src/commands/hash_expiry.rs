//! Fields of hashes that expire: setting and taking away their time, asking for it, and the commands that get, set or
//! delete fields on the way.
//!
//! Invariants: replicas are told absolute moments, and a field that was given a moment in the past as deleted; conditions
//! have been decided and are not told.

use super::expiry::Condition;
use super::hashes::{DATA, FIELD, Hidden, NewExpiry, note_expired, reading, write_field, writing};
use super::options::{ExpireTime, KEEPTTL, NX, TIMES, XX, has_passed, invalid_expire_time};
use super::parse::{integer, is};
use crate::base::number;
use crate::command::{Args, Argument, ArgumentKind, DataCommand, Flags, KeySpec, KeyUse, ReadFn, WriteFn};
use crate::keyspace::{EventClasses, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::{Hash, Limits};

const NUMFIELDS: Argument = Argument::new("numfields", ArgumentKind::Integer);
const FIELDS: Argument = Argument::block("fields", &[NUMFIELDS, FIELD.multiple()]).after("FIELDS");
const FIELDS_DATA: Argument = Argument::block("fields", &[NUMFIELDS, DATA]).after("FIELDS");
const CONDITION: Argument =
    Argument::one_of("condition", &[NX, XX, Argument::word("GT"), Argument::word("LT")]).optional();
const COMPLEXITY: &str = "O(N), N being the number of fields named";

const fn setting(
    name: &'static str,
    summary: &'static str,
    arguments: &'static [Argument],
    function: WriteFn,
) -> DataCommand {
    DataCommand {
        name,
        summary,
        since: "9.0.0",
        complexity: COMPLEXITY,
        arity: -6,
        flags: Flags::FAST,
        arguments,
        ..writing(function)
    }
}

const fn asking(name: &'static str, summary: &'static str, function: ReadFn) -> DataCommand {
    DataCommand {
        name,
        summary,
        since: "9.0.0",
        complexity: COMPLEXITY,
        arity: -5,
        flags: Flags::FAST,
        arguments: const { &[Argument::key(), FIELDS] },
        ..reading(function)
    }
}

pub const COMMANDS: &[DataCommand] = &[
    setting(
        "hexpire",
        "Lets fields of a hash expire after a number of seconds.",
        &[Argument::key(), Argument::new("seconds", ArgumentKind::Integer), CONDITION, FIELDS],
        |transaction, args| expire(transaction, args, &HEXPIRE),
    ),
    setting(
        "hpexpire",
        "Lets fields of a hash expire after a number of milliseconds.",
        &[Argument::key(), Argument::new("milliseconds", ArgumentKind::Integer), CONDITION, FIELDS],
        |transaction, args| expire(transaction, args, &HPEXPIRE),
    ),
    setting(
        "hexpireat",
        "Lets fields of a hash expire at a moment in Unix seconds.",
        &[Argument::key(), Argument::new("unix-time-seconds", ArgumentKind::Integer), CONDITION, FIELDS],
        |transaction, args| expire(transaction, args, &HEXPIREAT),
    ),
    setting(
        "hpexpireat",
        "Lets fields of a hash expire at a moment in Unix milliseconds.",
        &[Argument::key(), Argument::new("unix-time-milliseconds", ArgumentKind::Integer), CONDITION, FIELDS],
        |transaction, args| expire(transaction, args, &HPEXPIREAT),
    ),
    DataCommand {
        arity: -5,
        ..setting("hpersist", "Lets fields of a hash expire no more.", &[Argument::key(), FIELDS], hpersist)
    },
    asking("httl", "The seconds that fields of a hash still live; -1: for ever, -2: no field.", |r, a| {
        times(r, a, true, seconds)
    }),
    asking(
        "hpttl",
        "The milliseconds that fields of a hash still live; -1: for ever, -2: no field.",
        |r, a| times(r, a, true, |ms| ms),
    ),
    asking(
        "hexpiretime",
        "When fields of a hash expire, in Unix seconds; -1: never, -2: no field.",
        |r, a| times(r, a, false, seconds),
    ),
    asking(
        "hpexpiretime",
        "When fields of a hash expire, in Unix milliseconds; -1: never, -2: no field.",
        |r, a| times(r, a, false, |ms| ms),
    ),
    DataCommand {
        arity: -5,
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::UPDATE))],
        ..setting(
            "hgetex",
            "The values of fields of a hash, whose expiry is set or taken away.",
            &[
                Argument::key(),
                Argument::one_of(
                    "expiration",
                    &[TIMES[0], TIMES[1], TIMES[2], TIMES[3], Argument::word("PERSIST")],
                )
                .optional(),
                FIELDS,
            ],
            hgetex,
        )
    },
    DataCommand {
        flags: Flags::DENYOOM.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::INSERT))],
        ..setting(
            "hsetex",
            "Sets fields of a hash with their expiry, if conditions on the key and the fields hold.",
            &[
                Argument::key(),
                Argument::one_of("key-condition", &[NX, XX]).optional(),
                Argument::one_of("fields-condition", &[Argument::word("FNX"), Argument::word("FXX")])
                    .optional(),
                Argument::one_of("expiration", &[TIMES[0], TIMES[1], TIMES[2], TIMES[3], KEEPTTL]).optional(),
                FIELDS_DATA,
            ],
            hsetex,
        )
    },
    DataCommand {
        since: "9.1.0",
        arity: -5,
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::DELETE))],
        ..setting(
            "hgetdel",
            "Deletes fields of a hash and answers the values they had.",
            &[Argument::key(), FIELDS],
            hgetdel,
        )
    },
];

// ---- Reading arguments ----

/// `numfields` and what follows it: `words` words for each field.
fn counted<'a, 'b>(args: &'b [&'a [u8]], words: usize) -> Result<&'b [&'a [u8]], ErrorReply> {
    let (number, rest) = args.split_first().ok_or(NO_FIELDS)?;
    let number = usize::try_from(integer(number)?).ok().filter(|number| *number > 0);
    match number.and_then(|number| number.checked_mul(words)) {
        Some(expected) if expected == rest.len() => Ok(rest),
        _ => Err(NO_FIELDS),
    }
}

const NO_FIELDS: ErrorReply =
    ErrorReply::new("ERR numfields should be greater than 0 and match the provided number of fields");

/// The options before the word FIELDS, and what follows it.
fn split_at_fields<'a, 'b>(args: &'b [&'a [u8]]) -> Result<(&'b [&'a [u8]], &'b [&'a [u8]]), ErrorReply> {
    let place = args.iter().position(|word| is(word, "fields")).ok_or(NO_FIELDS)?;
    match &args[place + 1..] {
        [] => Err(NO_FIELDS),
        rest => Ok((&args[..place], rest)),
    }
}

/// `FIELDS numfields field [field …]` where nothing may stand before.
fn only_fields<'a, 'b>(args: &'b [&'a [u8]]) -> Result<&'b [&'a [u8]], ErrorReply> {
    match args {
        [word, rest @ ..] if is(word, "fields") => counted(rest, 1),
        _ => Err(ErrorReply::SYNTAX),
    }
}

fn moment(time: ExpireTime<'_>, now_ms: u64, command: &str) -> Result<i64, ErrorReply> {
    match time.signed_at_ms(now_ms, command)? {
        (given, at_ms) if given >= 0 => Ok(at_ms),
        _ => Err(invalid_expire_time(command)),
    }
}

fn decimal(number: i64) -> Vec<u8> {
    let mut text = Vec::new();
    number::append_i64(&mut text, number);
    text
}

// ---- Setting and taking away ----

/// How the four commands differ.
struct Form {
    name: &'static str,
    in_seconds: bool,
    absolute: bool,
}

const HEXPIRE: Form = Form { name: "hexpire", in_seconds: true, absolute: false };
const HPEXPIRE: Form = Form { name: "hpexpire", in_seconds: false, absolute: false };
const HEXPIREAT: Form = Form { name: "hexpireat", in_seconds: true, absolute: true };
const HPEXPIREAT: Form = Form { name: "hpexpireat", in_seconds: false, absolute: true };

/// What came of it for one field, as it is answered.
const NO_FIELD: i64 = -2;
const NO_EXPIRY: i64 = -1;
const REFUSED: i64 = 0;
const SET: i64 = 1;
const DELETED: i64 = 2;

fn expire(transaction: &mut WriteTxn<'_>, args: &Args<'_>, form: &Form) -> CommandResult<'static> {
    let key = args[1];
    let (condition, fields) = split_at_fields(&args[3..])?;
    let condition = Condition::parse(condition)?;
    let fields = counted(fields, 1)?;
    let time = ExpireTime { text: args[2], in_seconds: form.in_seconds, absolute: form.absolute };
    let at_ms = moment(time, transaction.now_ms, form.name)?;
    let (limits, hidden) = (transaction.limits(), Hidden::from(transaction));
    let passed = has_passed(transaction, at_ms);
    let Some(hash) = transaction.change_hash(key)? else {
        return Ok(Reply::Array(fields.iter().map(|_| Reply::Integer(NO_FIELD)).collect()));
    };
    let mut answers = Vec::with_capacity(fields.len());
    let mut changed = Vec::new();
    for name in fields {
        let Some(field) = hidden.get(hash, name) else {
            answers.push(NO_FIELD);
            continue;
        };
        if !condition.holds(field.expire_at_ms.map(|at_ms| at_ms.max(0) as u64), at_ms) {
            answers.push(REFUSED);
            continue;
        }
        if passed {
            hash.remove(name);
        } else {
            hash.set_expiry(name, Some(at_ms), &limits);
        }
        answers.push(if passed { DELETED } else { SET });
        changed.push(*name);
    }
    if !changed.is_empty() {
        if passed {
            state_deletion(transaction, key, &changed);
        } else if !time.is_pxat() {
            let at_ms = decimal(at_ms);
            let mut told = args.to_vec();
            (told[0], told[2]) = (b"HPEXPIREAT", &at_ms);
            transaction.state_effect(&told);
        }
        let event = if passed { "hexpired" } else { "hexpire" };
        transaction.changed(EventClasses::HASH, event, key, changed.len() as u64);
        transaction.remove_if_empty(key);
        if !passed {
            transaction.field_expires(key, at_ms.max(0) as u64);
        }
    }
    Ok(Reply::Array(answers.into_iter().map(Reply::Integer).collect()))
}

fn state_deletion(transaction: &mut WriteTxn<'_>, key: &[u8], fields: &[&[u8]]) {
    transaction.state_effect(&[&[b"HDEL", key], fields].concat());
}

/// Takes away the expiry of a field that is seen.
fn persist(hash: &mut Hash, name: &[u8], hidden: Hidden, limits: &Limits) -> i64 {
    match hidden.get(hash, name).map(|field| field.expire_at_ms) {
        None => NO_FIELD,
        Some(None) => NO_EXPIRY,
        Some(Some(_)) => {
            hash.set_expiry(name, None, limits);
            SET
        }
    }
}

fn hpersist(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let fields = only_fields(&args[2..])?;
    let (limits, hidden) = (transaction.limits(), Hidden::from(transaction));
    let answers: Vec<i64> = match transaction.change_hash(key)? {
        None => fields.iter().map(|_| NO_FIELD).collect(),
        Some(hash) => fields.iter().map(|name| persist(hash, name, hidden, &limits)).collect(),
    };
    let changed = answers.iter().filter(|answer| **answer == SET).count();
    if changed > 0 {
        transaction.changed(EventClasses::HASH, "hpersist", key, changed as u64);
    }
    Ok(Reply::Array(answers.into_iter().map(Reply::Integer).collect()))
}

// ---- Asking ----

/// Milliseconds as seconds, to the nearest.
fn seconds(milliseconds: i64) -> i64 {
    milliseconds / 1000 + i64::from(milliseconds % 1000 >= 500)
}

fn times<'k>(
    reader: &Reader<'k>,
    args: &Args<'_>,
    from_now: bool,
    unit: fn(i64) -> i64,
) -> CommandResult<'k> {
    // Another error than HPERSIST's for a number that does not fit.
    let fields = only_fields(&args[2..]).map_err(|e| if e == NO_FIELDS { ErrorReply::SYNTAX } else { e })?;
    let base = if from_now { reader.now_ms as i64 } else { 0 };
    let hash = super::hashes::hash(reader, args[1])?;
    let answer = |name: &&[u8]| match hash.and_then(|hash| hash.get(name)).map(|field| field.expire_at_ms) {
        None => NO_FIELD,
        Some(None) => NO_EXPIRY,
        Some(Some(at_ms)) => unit(at_ms.saturating_sub(base).max(0)),
    };
    Ok(Reply::Array(fields.iter().map(answer).map(Reply::Integer).collect()))
}

// ---- Getting, setting and deleting on the way ----

/// What HGETEX does with the expiry of the fields it gets.
#[derive(Clone, Copy)]
enum Change<'a> {
    Nothing,
    Persist,
    Expire(ExpireTime<'a>),
}

impl<'a> Change<'a> {
    fn parse(mut options: &[&'a [u8]]) -> Result<Change<'a>, ErrorReply> {
        let mut change = Change::Nothing;
        while let [word, rest @ ..] = options {
            options = rest;
            change = match change {
                Change::Nothing | Change::Persist if is(word, "persist") => Change::Persist,
                Change::Persist => return Err(ErrorReply::SYNTAX),
                Change::Nothing => Change::Expire(expire_time(None, word, &mut options)?),
                Change::Expire(before) => Change::Expire(expire_time(Some(before), word, &mut options)?),
            };
        }
        Ok(change)
    }
}

/// The option `word`, whose value comes next in `rest`. The same option may come again; the last one counts.
fn expire_time<'a>(
    before: Option<ExpireTime<'a>>,
    word: &[u8],
    rest: &mut &[&'a [u8]],
) -> Result<ExpireTime<'a>, ErrorReply> {
    let (value, others) = rest.split_first().ok_or(ErrorReply::SYNTAX)?;
    *rest = others;
    let time = ExpireTime::option(word, value).ok_or(ErrorReply::SYNTAX)?;
    let is_same =
        |before: ExpireTime<'_>| before.in_seconds == time.in_seconds && before.absolute == time.absolute;
    if before.is_none_or(is_same) { Ok(time) } else { Err(ErrorReply::SYNTAX) }
}

/// Takes a field that is seen out of a hash and gives its value.
fn take(hash: &mut Hash, name: &[u8], hidden: Hidden) -> Option<Vec<u8>> {
    let value = hidden.get(hash, name)?.value.to_vec();
    hash.remove(name);
    Some(value)
}

fn hgetex(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let (options, fields) = split_at_fields(&args[2..])?;
    let change = Change::parse(options)?;
    let fields = counted(fields, 1)?;
    // A wrong type is told before a wrong moment.
    transaction.hash(key)?;
    let at_ms = match change {
        Change::Expire(time) => Some(moment(time, transaction.now_ms, "hgetex")?),
        Change::Nothing | Change::Persist => None,
    };
    let (limits, hidden) = (transaction.limits(), Hidden::from(transaction));
    let passed = at_ms.is_some_and(|at_ms| has_passed(transaction, at_ms));
    let value = |value: Option<Vec<u8>>| value.map_or(Reply::Nil, Reply::Owned);
    if matches!(change, Change::Nothing) {
        let hash = transaction.hash(key)?;
        let get =
            |name: &&[u8]| hash.and_then(|hash| hidden.get(hash, name)).map(|field| field.value.to_vec());
        return Ok(Reply::Array(fields.iter().map(get).map(value).collect()));
    }
    let Some(hash) = transaction.change_hash(key)? else {
        return Ok(Reply::Array(fields.iter().map(|_| Reply::Nil).collect()));
    };
    let mut values = Vec::with_capacity(fields.len());
    let mut changed = Vec::new();
    for name in fields {
        let found = hidden.get(hash, name).map(|field| field.value.to_vec());
        let is_changed = found.is_some()
            && match at_ms {
                Some(_) if passed => hash.remove(name),
                Some(at_ms) => hash.set_expiry(name, Some(at_ms), &limits),
                None => persist(hash, name, hidden, &limits) == SET,
            };
        values.push(value(found));
        if is_changed {
            changed.push(*name);
        }
    }
    if !changed.is_empty() {
        let number = decimal(changed.len() as i64);
        let event = match at_ms {
            Some(_) if passed => {
                state_deletion(transaction, key, &changed);
                "hexpired"
            }
            Some(at_ms) => {
                let moment_ms = at_ms.max(0) as u64;
                let at_ms = decimal(at_ms);
                let head: &[&[u8]] = &[b"HPEXPIREAT", key, &at_ms, b"FIELDS", &number];
                transaction.state_effect(&[head, &changed].concat());
                transaction.field_expires(key, moment_ms);
                "hexpire"
            }
            None => {
                let head: &[&[u8]] = &[b"HPERSIST", key, b"FIELDS", &number];
                transaction.state_effect(&[head, &changed].concat());
                "hpersist"
            }
        };
        transaction.changed(EventClasses::HASH, event, key, changed.len() as u64);
        transaction.remove_if_empty(key);
    }
    Ok(Reply::Array(values))
}

fn hgetdel(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let fields = only_fields(&args[2..])?;
    let hidden = Hidden::from(transaction);
    let Some(hash) = transaction.change_hash(key)? else {
        return Ok(Reply::Array(fields.iter().map(|_| Reply::Nil).collect()));
    };
    let values: Vec<_> = fields.iter().map(|name| take(hash, name, hidden)).collect();
    let removed = values.iter().flatten().count();
    if removed > 0 {
        transaction.changed(EventClasses::HASH, "hdel", key, removed as u64);
        transaction.remove_if_empty(key);
    }
    Ok(Reply::Array(values.into_iter().map(|value| value.map_or(Reply::Nil, Reply::Owned)).collect()))
}

/// What HSETEX demands and what becomes of the expiry.
#[derive(Default)]
struct SetOptions<'a> {
    /// Must the key be there (`true`), or not be there?
    key: Option<bool>,
    /// Must all fields be there, or none?
    fields: Option<bool>,
    keep: bool,
    time: Option<ExpireTime<'a>>,
}

impl<'a> SetOptions<'a> {
    fn parse(mut words: &[&'a [u8]]) -> Result<SetOptions<'a>, ErrorReply> {
        let mut options = SetOptions::default();
        let demand = |slot: &mut Option<bool>, wanted: bool| match slot.replace(wanted) {
            Some(before) if before != wanted => Err(ErrorReply::SYNTAX),
            _ => Ok(()),
        };
        while let [word, rest @ ..] = words {
            words = rest;
            match () {
                () if is(word, "nx") => demand(&mut options.key, false)?,
                () if is(word, "xx") => demand(&mut options.key, true)?,
                () if is(word, "fnx") => demand(&mut options.fields, false)?,
                () if is(word, "fxx") => demand(&mut options.fields, true)?,
                () if is(word, "keepttl") && options.time.is_none() => options.keep = true,
                () if !options.keep => {
                    options.time = Some(expire_time(options.time, word, &mut words)?);
                }
                () => return Err(ErrorReply::SYNTAX),
            }
        }
        Ok(options)
    }

    /// Must replicas be told something else than what the client said?
    fn is_told_otherwise(&self) -> bool {
        self.key.is_some() || self.fields.is_some() || self.time.is_some_and(|time| !time.is_pxat())
    }

    /// Do the conditions on the fields hold?
    fn fields_hold(&self, hash: Option<&Hash>, data: &[&[u8]], hidden: Hidden) -> bool {
        let seen = |name: &[u8]| hash.is_some_and(|hash| hidden.get(hash, name).is_some());
        self.fields.is_none_or(|wanted| data.iter().step_by(2).all(|name| seen(name) == wanted))
    }
}

fn hsetex(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let (words, fields) = split_at_fields(&args[2..])?;
    let options = SetOptions::parse(words)?;
    let data = counted(fields, 2)?;
    let hidden = Hidden::from(transaction);
    // A key that is not as demanded is told before a wrong moment, fields that are not after it.
    let is_there = transaction.hash(key)?.is_some();
    if options.key.is_some_and(|wanted| wanted != is_there) {
        return Ok(Reply::Integer(0));
    }
    let at_ms = options.time.map(|time| moment(time, transaction.now_ms, "hsetex")).transpose()?;
    if !options.fields_hold(transaction.hash(key)?, data, hidden) {
        return Ok(Reply::Integer(0));
    }
    if at_ms.is_some_and(|at_ms| has_passed(transaction, at_ms)) {
        set_expired(transaction, key, data)?;
        return Ok(Reply::Integer(1));
    }
    let limits = transaction.limits();
    let expiry = match at_ms {
        Some(at_ms) => NewExpiry::At(at_ms),
        None if options.keep => NewExpiry::Keep,
        None => NewExpiry::Never,
    };
    let hash = transaction.hash_or_new(key, Hash::new)?;
    let mut met_expired = Vec::new();
    for pair in data.chunks_exact(2) {
        if write_field(hash, (pair[0], pair[1]), expiry, hidden, &limits).was_expired {
            met_expired.push(pair[0]);
        }
    }
    note_expired(transaction, key, !met_expired.is_empty());
    // A replica would keep the expiry of a field that was gone here.
    let tell_deletion = options.keep && !met_expired.is_empty();
    if tell_deletion {
        state_deletion(transaction, key, &met_expired);
    }
    if options.is_told_otherwise() || tell_deletion {
        let at_ms = at_ms.map(decimal);
        let mut told: Vec<&[u8]> = args[..2].to_vec();
        match &at_ms {
            Some(at_ms) => told.extend([b"PXAT", at_ms.as_slice()]),
            None if options.keep => told.push(b"KEEPTTL"),
            None => {}
        }
        told.extend_from_slice(&args[2 + words.len()..]);
        transaction.state_effect(&told);
    }
    transaction.changed(EventClasses::HASH, "hset", key, data.len() as u64 / 2);
    if let Some(at_ms) = at_ms {
        transaction.field_expires(key, at_ms.max(0) as u64);
    }
    if at_ms.is_some() {
        transaction.notify(EventClasses::HASH, "hexpire", key);
    }
    Ok(Reply::Integer(1))
}

/// Sets fields with a moment in the past: they go, whether they were seen or not.
fn set_expired(transaction: &mut WriteTxn<'_>, key: &[u8], data: &[&[u8]]) -> Result<(), ErrorReply> {
    let hash = transaction.hash_or_new(key, Hash::new)?;
    let removed: Vec<&[u8]> = data.iter().step_by(2).copied().filter(|name| hash.remove(name)).collect();
    if !removed.is_empty() {
        state_deletion(transaction, key, &removed);
        transaction.touched(key);
        transaction.count_changes(removed.len() as u64);
    }
    for event in ["hset", "hexpire", "hexpired"] {
        transaction.notify(EventClasses::HASH, event, key);
    }
    transaction.remove_if_empty(key);
    Ok(())
}

#[cfg(test)]
mod tests;
