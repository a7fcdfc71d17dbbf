//! Options that commands of several families take: when something is to expire, cursors, database numbers.

use super::parse::{self, is};
use crate::base::number;
use crate::command::{Argument, ArgumentKind};
use crate::keyspace::{EventClasses, KeyExpiry, WriteTxn};
use crate::protocol::ErrorReply;

/// A moment as `EX`, `PX`, `EXAT` and `PXAT` give it. Not read yet: the errors of the number come after those of syntax.
#[derive(Debug, Clone, Copy)]
pub struct ExpireTime<'a> {
    pub text: &'a [u8],
    pub in_seconds: bool,
    /// Unix time; otherwise from now.
    pub absolute: bool,
}

impl<'a> ExpireTime<'a> {
    /// The option that `word` names, with its value.
    pub fn option(word: &[u8], value: &'a [u8]) -> Option<ExpireTime<'a>> {
        let (in_seconds, absolute) = match () {
            () if is(word, "ex") => (true, false),
            () if is(word, "px") => (false, false),
            () if is(word, "exat") => (true, true),
            () if is(word, "pxat") => (false, true),
            () => return None,
        };
        Some(ExpireTime { text: value, in_seconds, absolute })
    }

    /// Must replicas be told another text than the client gave?
    pub fn is_pxat(self) -> bool {
        self.absolute && !self.in_seconds
    }

    /// Unix time in milliseconds; it must be positive. `command` is named in the error.
    pub fn at_ms(self, now_ms: u64, command: &str) -> Result<u64, ErrorReply> {
        match self.signed_at_ms(now_ms, command)? {
            (given, at_ms) if given > 0 => Ok(at_ms as u64),
            _ => Err(invalid_expire_time(command)),
        }
    }

    /// As [`ExpireTime::at_ms`], of any sign: the number given, and the moment.
    pub fn signed_at_ms(self, now_ms: u64, command: &str) -> Result<(i64, i64), ErrorReply> {
        let given = parse::integer(self.text)?;
        let unit = if self.in_seconds { 1000 } else { 1 };
        let base = if self.absolute { 0 } else { now_ms as i64 };
        let at_ms = given.checked_mul(unit).and_then(|ms| ms.checked_add(base));
        Ok((given, at_ms.ok_or_else(|| invalid_expire_time(command))?))
    }
}

pub fn invalid_expire_time(command: &str) -> ErrorReply {
    ErrorReply::from_text(format!("ERR invalid expire time in '{command}' command"))
}

/// Has this moment passed, for one who may delete what has expired? A replica and a loader take it as it is.
pub fn has_passed(transaction: &WriteTxn<'_>, at_ms: i64) -> bool {
    transaction.expiry == KeyExpiry::Delete && at_ms <= transaction.now_ms as i64
}

/// Deletes a key that was given a moment in the past: a change, of which replicas are told as of any that has expired.
pub fn delete_as_expired(transaction: &mut WriteTxn<'_>, key: &[u8]) {
    if transaction.contains(key) {
        transaction.expire(key);
        transaction.count_changes(1);
        transaction.state_no_effect();
    }
}

/// A cursor of SCAN and its kin.
pub fn cursor(text: &[u8]) -> Result<u64, ErrorReply> {
    number::parse_u64(text).ok_or(ErrorReply::new("ERR invalid cursor"))
}

/// A 32-bit integer.
pub fn small_integer(text: &[u8]) -> Result<i32, ErrorReply> {
    i32::try_from(parse::integer(text)?).map_err(|_| {
        ErrorReply::new("ERR value is out of range, value must between -2147483648 and 2147483647")
    })
}

/// The number of a database that there is.
pub fn database(transaction: &WriteTxn<'_>, text: &[u8]) -> Result<usize, ErrorReply> {
    existing_database(transaction, small_integer(text)?)
}

pub fn existing_database(transaction: &WriteTxn<'_>, index: i32) -> Result<usize, ErrorReply> {
    usize::try_from(index)
        .ok()
        .filter(|index| *index < transaction.keyspace().database_count())
        .ok_or(ErrorReply::new("ERR DB index is out of range"))
}

/// Notes, for a key whose string was changed, all that follows from it.
pub fn string_changed(transaction: &mut WriteTxn<'_>, event: &'static str, key: &[u8]) {
    transaction.changed(EventClasses::STRING, event, key, 1);
}

// ---- As COMMAND DOCS shows them ----

pub const NX: Argument = Argument::word("NX");
pub const XX: Argument = Argument::word("XX");
pub const KEEPTTL: Argument = Argument::word("KEEPTTL");

/// EX, PX, EXAT and PXAT.
pub const TIMES: [Argument; 4] = [
    Argument::new("seconds", ArgumentKind::Integer).after("EX"),
    Argument::new("milliseconds", ArgumentKind::Integer).after("PX"),
    Argument::new("unix-time-seconds", ArgumentKind::UnixTime).after("EXAT"),
    Argument::new("unix-time-milliseconds", ArgumentKind::UnixTime).after("PXAT"),
];
