//! When keys expire: EXPIRE and its kin, TTL and its kin, PERSIST.

use super::options::{self, ExpireTime, NX, XX, has_passed};
use super::parse::is;
use crate::command::{
    Args, Argument, ArgumentKind, Categories, DataCommand, Flags, Group, KeySpec, KeyUse, ReadFn, WriteFn,
};
use crate::keyspace::{Entry, EventClasses, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};

const KEY: Argument = Argument::key();
const READ: &[KeySpec] = &[KeySpec::one(1, KeyUse::RO.and(KeyUse::ACCESS))];
const UPDATED: &[KeySpec] = &[KeySpec::one(1, KeyUse::RW.and(KeyUse::UPDATE))];
const CONDITION: Argument =
    Argument::one_of("condition", &[NX, XX, Argument::word("GT"), Argument::word("LT")])
        .since("7.0.0")
        .optional();

const fn setting(function: WriteFn) -> DataCommand {
    DataCommand {
        group: Group::Generic,
        categories: Categories::KEYSPACE,
        arity: -3,
        flags: Flags::FAST,
        keys: UPDATED,
        ..DataCommand::write(function)
    }
}

const fn asking(function: ReadFn) -> DataCommand {
    DataCommand {
        group: Group::Generic,
        categories: Categories::KEYSPACE,
        arity: 2,
        flags: Flags::FAST,
        keys: READ,
        arguments: &[KEY],
        ..DataCommand::read(function)
    }
}

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "expire",
        summary: "Lets a key expire after so many seconds.",
        arguments: &[KEY, Argument::new("seconds", ArgumentKind::Integer), CONDITION],
        history: &[("7.0.0", "Conditions: NX, XX, GT, LT.")],
        ..setting(|transaction, args| expire(transaction, args, &EXPIRE))
    },
    DataCommand {
        name: "pexpire",
        summary: "Lets a key expire after so many milliseconds.",
        since: "2.6.0",
        arguments: &[KEY, Argument::new("milliseconds", ArgumentKind::Integer), CONDITION],
        history: &[("7.0.0", "Conditions: NX, XX, GT, LT.")],
        ..setting(|transaction, args| expire(transaction, args, &PEXPIRE))
    },
    DataCommand {
        name: "expireat",
        summary: "Lets a key expire at a moment in Unix seconds.",
        since: "1.2.0",
        arguments: &[KEY, Argument::new("unix-time-seconds", ArgumentKind::UnixTime), CONDITION],
        history: &[("7.0.0", "Conditions: NX, XX, GT, LT.")],
        ..setting(|transaction, args| expire(transaction, args, &EXPIREAT))
    },
    DataCommand {
        name: "pexpireat",
        summary: "Lets a key expire at a moment in Unix milliseconds.",
        since: "2.6.0",
        arguments: &[KEY, Argument::new("unix-time-milliseconds", ArgumentKind::UnixTime), CONDITION],
        history: &[("7.0.0", "Conditions: NX, XX, GT, LT.")],
        ..setting(|transaction, args| expire(transaction, args, &PEXPIREAT))
    },
    DataCommand {
        name: "persist",
        summary: "Lets a key live for ever.",
        since: "2.2.0",
        arity: 2,
        arguments: &[KEY],
        ..setting(|transaction, args| Ok(Reply::Integer(take_expiry(transaction, args[1]).into())))
    },
    DataCommand {
        name: "ttl",
        summary: "How many seconds a key has left; -1: no end, -2: no key.",
        tips: &["nondeterministic_output"],
        history: &[("2.8.0", "-2 is answered for a missing key.")],
        ..asking(|reader, args| {
            Ok(answer(reader, args, |at_ms, now_ms| rounded(at_ms.saturating_sub(now_ms))))
        })
    },
    DataCommand {
        name: "pttl",
        summary: "How many milliseconds a key has left; -1: no end, -2: no key.",
        since: "2.6.0",
        tips: &["nondeterministic_output"],
        history: &[("2.8.0", "-2 is answered for a missing key.")],
        ..asking(|reader, args| Ok(answer(reader, args, |at_ms, now_ms| at_ms.saturating_sub(now_ms))))
    },
    DataCommand {
        name: "expiretime",
        summary: "When a key expires, in Unix seconds; -1: never, -2: no key.",
        since: "7.0.0",
        ..asking(|reader, args| Ok(answer(reader, args, |at_ms, _| rounded(at_ms))))
    },
    DataCommand {
        name: "pexpiretime",
        summary: "When a key expires, in Unix milliseconds; -1: never, -2: no key.",
        since: "7.0.0",
        ..asking(|reader, args| Ok(answer(reader, args, |at_ms, _| at_ms)))
    },
];

/// How the four commands differ.
struct Form {
    name: &'static str,
    in_seconds: bool,
    absolute: bool,
}

const EXPIRE: Form = Form { name: "expire", in_seconds: true, absolute: false };
const PEXPIRE: Form = Form { name: "pexpire", in_seconds: false, absolute: false };
const EXPIREAT: Form = Form { name: "expireat", in_seconds: true, absolute: true };
const PEXPIREAT: Form = Form { name: "pexpireat", in_seconds: false, absolute: true };

/// What the present expiry must be.
#[derive(Debug, Clone, Copy, Default)]
pub struct Condition {
    missing: bool,
    present: bool,
    later: bool,
    earlier: bool,
}

impl Condition {
    pub fn parse(words: &[&[u8]]) -> Result<Condition, ErrorReply> {
        let mut condition = Condition::default();
        for word in words {
            match () {
                () if is(word, "nx") => condition.missing = true,
                () if is(word, "xx") => condition.present = true,
                () if is(word, "gt") => condition.later = true,
                () if is(word, "lt") => condition.earlier = true,
                () => return Err(ErrorReply::from_text([b"ERR Unsupported option ", *word].concat())),
            }
        }
        if condition.missing && (condition.present || condition.later || condition.earlier) {
            return Err(ErrorReply::new(
                "ERR NX and XX, GT or LT options at the same time are not compatible",
            ));
        }
        if condition.later && condition.earlier {
            return Err(ErrorReply::new("ERR GT and LT options at the same time are not compatible"));
        }
        Ok(condition)
    }

    /// Does it hold for a key, or a field, that expires at `current` (`None`: never, which is later than any moment)?
    pub fn holds(self, current: Option<u64>, new_ms: i64) -> bool {
        let current = current.map(|at_ms| i64::try_from(at_ms).unwrap_or(i64::MAX));
        let refused = [
            self.missing && current.is_some(),
            self.present && current.is_none(),
            self.later && current.is_none_or(|current| new_ms <= current),
            self.earlier && current.is_some_and(|current| new_ms >= current),
        ];
        !refused.contains(&true)
    }
}

fn expire(transaction: &mut WriteTxn<'_>, args: &Args<'_>, form: &Form) -> CommandResult<'static> {
    let (key, text) = (args[1], args[2]);
    let condition = Condition::parse(&args[3..])?;
    let time = ExpireTime { text, in_seconds: form.in_seconds, absolute: form.absolute };
    let (_, at_ms) = time.signed_at_ms(transaction.now_ms, form.name)?;
    let Some(current) = transaction.lookup(key).map(Entry::expire_at_ms) else {
        return Ok(Reply::Integer(0));
    };
    if !condition.holds(current, at_ms) {
        return Ok(Reply::Integer(0));
    }
    if has_passed(transaction, at_ms) {
        options::delete_as_expired(transaction, key);
        return Ok(Reply::Integer(1));
    }
    transaction.set_expiry(key, Some(at_ms.max(0) as u64));
    transaction.changed(EventClasses::GENERIC, "expire", key, 1);
    if !time.is_pxat() {
        let mut digits = itoa::Buffer::new();
        let mut told = args.to_vec();
        (told[0], told[2]) = (b"PEXPIREAT", digits.format(at_ms).as_bytes());
        transaction.state_effect(&told);
    }
    Ok(Reply::Integer(1))
}

/// Takes the expiry of a key away. `false`: there is no key, or it has none.
pub fn take_expiry(transaction: &mut WriteTxn<'_>, key: &[u8]) -> bool {
    if transaction.lookup(key).and_then(Entry::expire_at_ms).is_none() {
        return false;
    }
    transaction.set_expiry(key, None);
    transaction.changed(EventClasses::GENERIC, "persist", key, 1);
    true
}

/// Answers from the moment a key expires and the present one, both Unix milliseconds.
fn answer<'k>(reader: &Reader<'k>, args: &Args<'_>, number: fn(u64, u64) -> u64) -> Reply<'k> {
    // Asking when a key ends is no use of it.
    let reader = Reader { touch: false, ..*reader };
    Reply::Integer(match reader.lookup(args[1]).map(Entry::expire_at_ms) {
        None => -2,
        Some(None) => -1,
        Some(Some(at_ms)) => i64::try_from(number(at_ms, reader.now_ms)).unwrap_or(i64::MAX),
    })
}

/// Milliseconds as seconds, to the nearest.
fn rounded(milliseconds: u64) -> u64 {
    milliseconds.saturating_add(500) / 1000
}

#[cfg(test)]
mod tests;
