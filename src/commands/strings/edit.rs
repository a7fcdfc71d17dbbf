//! Changing strings in place: APPEND, SETRANGE, and the counters.

use super::{Written, string_changed};
use crate::base::number::{LongDouble, parse_i64};
use crate::command::Args;
use crate::commands::parse::integer;
use crate::keyspace::{Entry, StringValue, WriteTxn};
use crate::protocol::{ErrorReply, Reply};

/// Refuses a string that would get longer than is allowed.
fn check_length(transaction: &WriteTxn<'_>, length: usize, more: usize) -> Result<(), ErrorReply> {
    let most = transaction.settings().max_string_length;
    if length.checked_add(more).is_some_and(|total| total <= most) {
        Ok(())
    } else {
        Err(ErrorReply::new("ERR string exceeds maximum allowed size (proto-max-bulk-len)"))
    }
}

/// The string at `key` to be edited. It is there and a string, as the caller has looked.
fn edited<'t>(transaction: &'t mut WriteTxn<'_>, key: &[u8]) -> Result<&'t mut Vec<u8>, ErrorReply> {
    transaction.change_entry(key).and_then(Entry::string_mut).ok_or(ErrorReply::WRONG_TYPE)
}

pub fn append(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let (key, more) = (args[1], args[2]);
    let length = match transaction.string(key)?.map(StringValue::len) {
        None => {
            transaction.insert_string(key, more, None);
            more.len()
        }
        Some(length) => {
            check_length(transaction, length, more.len())?;
            edited(transaction, key)?.extend_from_slice(more);
            length + more.len()
        }
    };
    string_changed(transaction, "append", key);
    Ok(Reply::Integer(length as i64))
}

pub fn setrange(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let (key, part) = (args[1], args[3]);
    let offset =
        usize::try_from(integer(args[2])?).map_err(|_| ErrorReply::new("ERR offset is out of range"))?;
    let length = transaction.string(key)?.map(StringValue::len);
    if part.is_empty() {
        return Ok(Reply::Integer(length.unwrap_or(0) as i64));
    }
    check_length(transaction, offset, part.len())?;
    let end = offset + part.len();
    if length.is_none() {
        transaction.insert_string(key, b"", None);
    }
    let string = edited(transaction, key)?;
    if string.len() < end {
        string.resize(end, 0);
    }
    string[offset..end].copy_from_slice(part);
    let length = string.len();
    string_changed(transaction, "setrange", key);
    Ok(Reply::Integer(length as i64))
}

/// INCR and its kin.
pub fn add(transaction: &mut WriteTxn<'_>, key: &[u8], increment: i64) -> Written {
    let new = match transaction.change_entry(key) {
        Some(entry) => {
            let old = match StringValue::of(entry)? {
                StringValue::Integer(number) => number,
                // An edited string is not kept as a number, but may be one.
                StringValue::Bytes(text) => parse_i64(text).ok_or(ErrorReply::NOT_AN_INTEGER)?,
            };
            let overflow = ErrorReply::new("ERR increment or decrement would overflow");
            let new = old.checked_add(increment).ok_or(overflow)?;
            entry.set_integer(new);
            new
        }
        None => {
            transaction.insert(Entry::integer(key, increment, None));
            increment
        }
    };
    string_changed(transaction, "incrby", key);
    Ok(Reply::Integer(new))
}

pub fn decrby(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let decrement = integer(args[2])?;
    let increment = decrement.checked_neg().ok_or(ErrorReply::new("ERR decrement would overflow"))?;
    add(transaction, args[1], increment)
}

pub fn incrbyfloat(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Written {
    let key = args[1];
    let old = match transaction.string(key)? {
        None => LongDouble::ZERO,
        Some(value) => LongDouble::parse(&value.text()).ok_or(ErrorReply::NOT_A_FLOAT)?,
    };
    let new = old + LongDouble::parse(args[2]).ok_or(ErrorReply::NOT_A_FLOAT)?;
    if !new.is_finite() {
        return Err(ErrorReply::new("ERR increment would produce NaN or Infinity"));
    }
    let text = new.format();
    match transaction.change_entry(key) {
        Some(entry) => entry.set_string(&text),
        None => transaction.insert_string(key, &text, None),
    }
    string_changed(transaction, "incrbyfloat", key);
    // Sums of floats depend on the machine: replicas are told the result.
    transaction.state_effect(&[b"SET", key, &text, b"KEEPTTL"]);
    Ok(Reply::Owned(text))
}
