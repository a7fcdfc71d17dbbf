//! Strings: reading them, setting them with and without conditions, and counting.
//!
//! Invariant: replicas are told absolute moments and unconditional forms only where Valkey tells them so too; see
//! [`told_without`].

mod edit;
mod lcs;
mod table;

pub use table::COMMANDS;

use super::options::{self, ExpireTime, has_passed, string_changed};
use super::parse::is;
use crate::command::Args;
use crate::keyspace::{Entry, EventClasses, Reader, StringValue, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};

type Read<'k> = CommandResult<'k>;
type Written = CommandResult<'static>;

// ---- Reading ----

fn get<'k>(reader: &Reader<'k>, args: &Args<'_>) -> Read<'k> {
    Ok(match reader.string(args[1])? {
        Some(value) => value.reply(),
        None => Reply::Nil,
    })
}

fn mget<'k>(reader: &Reader<'k>, args: &Args<'_>) -> Read<'k> {
    // A key of another type is no string, and so is answered like one that is missing.
    let value = |key: &&[u8]| reader.string(key).ok().flatten().map_or(Reply::Nil, StringValue::reply);
    Ok(Reply::Array(args[1..].iter().map(value).collect()))
}

fn strlen<'k>(reader: &Reader<'k>, args: &Args<'_>) -> Read<'k> {
    Ok(Reply::Integer(reader.string(args[1])?.map_or(0, StringValue::len) as i64))
}

fn getrange<'k>(reader: &Reader<'k>, args: &Args<'_>) -> Read<'k> {
    let (start, end) = (super::parse::integer(args[2])?, super::parse::integer(args[3])?);
    let Some(value) = reader.string(args[1])? else { return Ok(Reply::Bulk(b"")) };
    let range = byte_range(start, end, value.len());
    Ok(match value {
        StringValue::Bytes(bytes) => Reply::Bulk(bytes.get(range).unwrap_or_default()),
        StringValue::Integer(_) => Reply::Owned(value.text().get(range).unwrap_or_default().to_vec()),
    })
}

/// The bytes from `start` to `end`, both included and negative ones counting from the end. Unlike in lists, an end
/// that lies before the first byte means the first byte.
fn byte_range(start: i64, end: i64, length: usize) -> std::ops::Range<usize> {
    if start < 0 && end < 0 && start > end {
        return 0..0;
    }
    let length = length as i64;
    let from_end = |index: i64| if index < 0 { index.saturating_add(length).max(0) } else { index };
    let (start, end) = (from_end(start), from_end(end).min(length - 1));
    if start > end { 0..0 } else { start as usize..end as usize + 1 }
}

// ---- Setting ----

/// What must hold for SET to set.
#[derive(Debug, Clone, Copy)]
enum Condition<'a> {
    Missing,
    Present,
    /// There is a string, and it is this one.
    Equal(&'a [u8]),
}

/// What becomes of the expiry.
#[derive(Debug, Clone, Copy, Default)]
enum Expiration<'a> {
    /// It goes, as the old value does.
    #[default]
    None,
    Keep,
    At(ExpireTime<'a>),
}

#[derive(Debug, Default)]
struct SetOptions<'a> {
    condition: Option<Condition<'a>>,
    expiration: Expiration<'a>,
    get: bool,
}

/// Which options a command knows; `MSETEX` compares and answers nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    All,
    WithoutValues,
}

impl<'a> SetOptions<'a> {
    /// Reads `words`. An option may come twice, the last one counts; those that exclude each other are an error.
    fn parse(words: &[&'a [u8]], known: Known) -> Result<Self, ErrorReply> {
        let mut options = SetOptions::default();
        let mut rest = words;
        while let [word, after @ ..] = rest {
            rest = after;
            match (options.condition, options.expiration) {
                (None | Some(Condition::Missing), _) if is(word, "nx") => {
                    options.condition = Some(Condition::Missing);
                }
                (None | Some(Condition::Present), _) if is(word, "xx") => {
                    options.condition = Some(Condition::Present);
                }
                (None, _) if known == Known::All && is(word, "ifeq") => {
                    let [value, after @ ..] = rest else { return Err(ErrorReply::SYNTAX) };
                    options.condition = Some(Condition::Equal(value));
                    rest = after;
                }
                _ if known == Known::All && is(word, "get") => options.get = true,
                (_, Expiration::None | Expiration::Keep) if is(word, "keepttl") => {
                    options.expiration = Expiration::Keep;
                }
                (_, old @ (Expiration::None | Expiration::At(_))) => {
                    options.expiration = Expiration::At(another_time(old, word, &mut rest)?);
                }
                _ => return Err(ErrorReply::SYNTAX),
            }
        }
        Ok(options)
    }

    fn expire_at_ms(&self, now_ms: u64, command: &str) -> Result<Option<u64>, ErrorReply> {
        match self.expiration {
            Expiration::At(time) => time.at_ms(now_ms, command).map(Some),
            Expiration::None | Expiration::Keep => Ok(None),
        }
    }
}

/// A time option, which may replace one of the same name only.
fn another_time<'a>(
    old: Expiration<'a>,
    word: &[u8],
    rest: &mut &[&'a [u8]],
) -> Result<ExpireTime<'a>, ErrorReply> {
    let [value, after @ ..] = *rest else { return Err(ErrorReply::SYNTAX) };
    let time = ExpireTime::option(word, value).ok_or(ErrorReply::SYNTAX)?;
    if let Expiration::At(old) = old
        && (old.in_seconds, old.absolute) != (time.in_seconds, time.absolute)
    {
        return Err(ErrorReply::SYNTAX);
    }
    *rest = after;
    Ok(time)
}

fn set(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let [_, key, value, words @ ..] = args else { return Err(ErrorReply::SYNTAX) };
    if words.is_empty() {
        store(transaction, key, value, None);
        return Ok(Reply::Ok);
    }
    set_with_options(transaction, args, SetOptions::parse(words, Known::All)?)
}

fn set_with_options(transaction: &mut WriteTxn<'_>, args: &Args<'_>, options: SetOptions<'_>) -> Written {
    let (key, value) = (args[1], args[2]);
    let expire_at_ms = options.expire_at_ms(transaction.now_ms, "set")?;
    let compared = match options.condition {
        Some(Condition::Equal(wanted)) => Some(wanted),
        _ => None,
    };
    // Only who reads the old value minds its type.
    let (found, equal, old) = if options.get || compared.is_some() {
        let old = transaction.string(key)?;
        let equal = old.is_some_and(|old| compared.is_some_and(|wanted| *old.text() == *wanted));
        let reply =
            if options.get { old.map_or(Reply::Nil, StringValue::reply).into_owned() } else { Reply::Nil };
        (old.is_some(), equal, reply)
    } else {
        (transaction.contains(key), false, Reply::Nil)
    };
    let met = match options.condition {
        None => true,
        Some(Condition::Missing) => !found,
        Some(Condition::Present) => found,
        Some(Condition::Equal(_)) => equal,
    };
    if !met {
        return Ok(old);
    }
    let reply = if options.get { old } else { Reply::Ok };
    if let Some(at_ms) = expire_at_ms
        && has_passed(transaction, at_ms as i64)
    {
        options::delete_as_expired(transaction, key);
        return Ok(reply);
    }
    let expiry = match options.expiration {
        Expiration::Keep => transaction.lookup(key).and_then(Entry::expire_at_ms),
        Expiration::None | Expiration::At(_) => expire_at_ms,
    };
    store(transaction, key, value, expiry);
    match (options.expiration, expire_at_ms) {
        (Expiration::At(time), Some(at_ms)) => {
            transaction.notify(EventClasses::GENERIC, "expire", key);
            if !time.is_pxat() {
                tell_set(transaction, key, value, at_ms);
            }
        }
        _ if options.get => {
            let told = told_without(args, 3, |word| is(word, "get"));
            transaction.state_effect(&told);
        }
        _ => {}
    }
    Ok(reply)
}

/// The call without the options that mean nothing to a replica.
fn told_without<'a>(args: &Args<'a>, from: usize, meaningless: impl Fn(&[u8]) -> bool) -> Vec<&'a [u8]> {
    let (head, options) = args.split_at(from);
    head.iter().chain(options.iter().filter(|word| !meaningless(word))).copied().collect()
}

fn tell_set(transaction: &mut WriteTxn<'_>, key: &[u8], value: &[u8], at_ms: u64) {
    let mut digits = itoa::Buffer::new();
    transaction.state_effect(&[b"SET", key, value, b"PXAT", digits.format(at_ms).as_bytes()]);
}

/// Sets a string, with the event and the change counted.
fn store(transaction: &mut WriteTxn<'_>, key: &[u8], value: &[u8], expire_at_ms: Option<u64>) {
    transaction.insert_string(key, value, expire_at_ms);
    string_changed(transaction, "set", key);
}

fn setnx(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    if transaction.contains(args[1]) {
        return Ok(Reply::Integer(0));
    }
    store(transaction, args[1], args[2], None);
    Ok(Reply::Integer(1))
}

/// SETEX and PSETEX.
fn set_expiring(transaction: &mut WriteTxn<'_>, args: &Args<'_>, in_seconds: bool) -> Written {
    let (key, value) = (args[1], args[3]);
    let time = ExpireTime { text: args[2], in_seconds, absolute: false };
    let at_ms = time.at_ms(transaction.now_ms, if in_seconds { "setex" } else { "psetex" })?;
    store(transaction, key, value, Some(at_ms));
    transaction.notify(EventClasses::GENERIC, "expire", key);
    tell_set(transaction, key, value, at_ms);
    Ok(Reply::Ok)
}

fn getset(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let old = transaction.string(args[1])?.map_or(Reply::Nil, StringValue::reply).into_owned();
    store(transaction, args[1], args[2], None);
    transaction.state_effect(&[b"SET", args[1], args[2]]);
    Ok(old)
}

fn getdel(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let Some(value) = transaction.string(args[1])? else { return Ok(Reply::Nil) };
    let value = value.reply().into_owned();
    delete_told(transaction, args[1]);
    Ok(value)
}

fn delifeq(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let equal = transaction.string(args[1])?.is_some_and(|value| *value.text() == *args[2]);
    if equal {
        delete_told(transaction, args[1]);
    }
    Ok(Reply::Integer(equal.into()))
}

fn delete_told(transaction: &mut WriteTxn<'_>, key: &[u8]) {
    transaction.delete(key);
    transaction.count_changes(1);
    transaction.state_effect(&[b"DEL", key]);
}

/// What GETEX does to the expiry.
#[derive(Debug, Clone, Copy)]
enum GetexOption<'a> {
    Nothing,
    Persist,
    At(ExpireTime<'a>),
}

impl<'a> GetexOption<'a> {
    fn parse(words: &[&'a [u8]]) -> Result<Self, ErrorReply> {
        let mut option = GetexOption::Nothing;
        let mut rest = words;
        while let [word, after @ ..] = rest {
            rest = after;
            option = match option {
                GetexOption::Nothing | GetexOption::Persist if is(word, "persist") => GetexOption::Persist,
                GetexOption::Nothing => GetexOption::At(another_time(Expiration::None, word, &mut rest)?),
                GetexOption::At(old) => GetexOption::At(another_time(Expiration::At(old), word, &mut rest)?),
                GetexOption::Persist => return Err(ErrorReply::SYNTAX),
            };
        }
        Ok(option)
    }
}

fn getex(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let key = args[1];
    let option = GetexOption::parse(&args[2..])?;
    let at_ms = match option {
        GetexOption::At(time) => Some((time, time.at_ms(transaction.now_ms, "getex")?)),
        GetexOption::Nothing | GetexOption::Persist => None,
    };
    let Some(value) = transaction.string(key)? else { return Ok(Reply::Nil) };
    let value = value.reply().into_owned();
    if let Some((time, at_ms)) = at_ms {
        if time.absolute && has_passed(transaction, at_ms as i64) {
            options::delete_as_expired(transaction, key);
        } else {
            transaction.set_expiry(key, Some(at_ms));
            transaction.changed(EventClasses::GENERIC, "expire", key, 1);
            let mut digits = itoa::Buffer::new();
            transaction.state_effect(&[b"PEXPIREAT", key, digits.format(at_ms).as_bytes()]);
        }
    } else if matches!(option, GetexOption::Persist) && super::expiry::take_expiry(transaction, key) {
        transaction.state_effect(&[b"PERSIST", key]);
    }
    Ok(value)
}

// ---- Several keys ----

fn pairs<'a, 'b>(words: &'b [&'a [u8]]) -> impl Iterator<Item = (&'a [u8], &'a [u8])> + 'b {
    words.chunks_exact(2).map(|pair| (pair[0], pair[1]))
}

fn mset(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    if args.len().is_multiple_of(2) {
        return Err(ErrorReply::new("ERR wrong number of arguments for 'mset' command"));
    }
    pairs(&args[1..]).for_each(|(key, value)| store(transaction, key, value, None));
    Ok(Reply::Ok)
}

fn msetnx(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    if args.len().is_multiple_of(2) {
        return Err(ErrorReply::new("ERR wrong number of arguments for 'msetnx' command"));
    }
    if pairs(&args[1..]).any(|(key, _)| transaction.contains(key)) {
        return Ok(Reply::Integer(0));
    }
    pairs(&args[1..]).for_each(|(key, value)| store(transaction, key, value, None));
    Ok(Reply::Integer(1))
}

fn msetex(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let count =
        super::parse::positive_or(args[1], ErrorReply::new("ERR invalid numkeys value or out of range"))?;
    if !(1..=i32::MAX as usize / 2).contains(&count) {
        return Err(ErrorReply::new("ERR invalid numkeys value or out of range"));
    }
    let (data, words) = args[2..].split_at_checked(count * 2).ok_or(ErrorReply::SYNTAX)?;
    let options = SetOptions::parse(words, Known::WithoutValues)?;
    let expire_at_ms = options.expire_at_ms(transaction.now_ms, "msetex")?;
    let met = match options.condition {
        Some(Condition::Missing) => !pairs(data).any(|(key, _)| transaction.contains(key)),
        Some(Condition::Present) => pairs(data).all(|(key, _)| transaction.contains(key)),
        Some(Condition::Equal(_)) | None => true,
    };
    if !met {
        return Ok(Reply::Integer(0));
    }
    for (key, value) in pairs(data) {
        let expiry = match options.expiration {
            Expiration::Keep => transaction.lookup(key).and_then(Entry::expire_at_ms),
            Expiration::None | Expiration::At(_) => expire_at_ms,
        };
        store(transaction, key, value, expiry);
        if expire_at_ms.is_some() {
            transaction.notify(EventClasses::GENERIC, "expire", key);
        }
    }
    if let (Expiration::At(time), Some(at_ms)) = (options.expiration, expire_at_ms)
        && !time.is_pxat()
    {
        tell_last_time(transaction, args, at_ms);
    }
    Ok(Reply::Integer(1))
}

/// The call with its last time option, the one that counts, made absolute.
fn tell_last_time(transaction: &mut WriteTxn<'_>, args: &Args<'_>, at_ms: u64) {
    let mut digits = itoa::Buffer::new();
    let mut told = args.to_vec();
    // A value of an option is a number here and so never looks like one of these words.
    if let Some(place) = told.iter().rposition(|word| is(word, "ex") || is(word, "px") || is(word, "exat"))
        && let [.., option, value] = &mut told[..place + 2]
    {
        (*option, *value) = (b"PXAT", digits.format(at_ms).as_bytes());
    }
    transaction.state_effect(&told);
}

#[cfg(test)]
mod tests;
