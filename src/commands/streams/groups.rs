//! XGROUP and XACK.

use super::{arguments, no_group_of_key, wrong_subcommand_arguments};
use crate::command::Args;
use crate::commands::parse::{self, is};
use crate::keyspace::{EventClasses, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::stream::{Group, Stream, StreamId};

const NO_KEY: ErrorReply = ErrorReply::new(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the MKSTREAM \
     option to create an empty stream automatically.",
);

/// What follows the identifier in CREATE and SETID.
struct Options {
    makes_stream: bool,
    entries_read: Option<i64>,
}

impl Options {
    fn parse(args: &Args<'_>, creates: bool) -> Result<Options, ErrorReply> {
        let mut options = Options { makes_stream: false, entries_read: None };
        let mut at = 5;
        while at < args.len() {
            if creates && is(args[at], "mkstream") {
                options.makes_stream = true;
                at += 1;
            } else if is(args[at], "entriesread") && at + 1 < args.len() {
                options.entries_read = match parse::integer(args[at + 1])? {
                    -1 => None,
                    read @ 0.. => Some(read),
                    _ => return Err(ErrorReply::new("ERR value for ENTRIESREAD must be positive or -1")),
                };
                at += 2;
            } else {
                return Err(wrong_subcommand_arguments(args));
            }
        }
        Ok(options)
    }
}

/// The last identifier of the stream of a key, if there is one.
fn last_id(transaction: &mut WriteTxn<'_>, key: &[u8]) -> Result<Option<StreamId>, ErrorReply> {
    Ok(transaction.stream(key)?.map(|stream| stream.log().last_id))
}

/// Refuses a call whose key or group is not there.
fn check_group(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Result<(), ErrorReply> {
    let (key, group) = (args[2], args[3]);
    match transaction.stream(key)? {
        None => Err(NO_KEY),
        Some(stream) if stream.group(group).is_none() => Err(no_group_of_key(key, group)),
        Some(_) => Ok(()),
    }
}

fn done(transaction: &mut WriteTxn<'_>, event: &'static str, key: &[u8]) {
    transaction.notify(EventClasses::STREAM, event, key);
    transaction.count_changes(1);
}

pub fn create(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let options = Options::parse(args, true)?;
    let (key, name) = (args[2], args[3]);
    let last_id = last_id(transaction, key)?;
    if last_id.is_none() && !options.makes_stream {
        return Err(NO_KEY);
    }
    let id = match args[4] {
        b"$" => last_id.unwrap_or_default(),
        text => arguments::id(text, 0)?,
    };
    if args.len() > 8 {
        return Err(wrong_subcommand_arguments(args));
    }
    if last_id.is_none() {
        transaction.touched(key);
    }
    let stream = transaction.stream_or_new(key, Stream::new)?;
    if !stream.add_group(name, Group::new(id, options.entries_read)) {
        return Err(ErrorReply::new("BUSYGROUP Consumer Group name already exists"));
    }
    done(transaction, "xgroup-create", key);
    Ok(Reply::Ok)
}

pub fn set_id(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let options = Options::parse(args, false)?;
    check_group(transaction, args)?;
    if !matches!(args.len(), 5 | 7) {
        return Err(wrong_subcommand_arguments(args));
    }
    let (key, name) = (args[2], args[3]);
    let id = match args[4] {
        b"$" => last_id(transaction, key)?.unwrap_or_default(),
        text => arguments::id_or_extreme(text, 0)?,
    };
    let Some(stream) = transaction.change_stream(key)? else { return Err(NO_KEY) };
    stream.change_group(name, |group, _| {
        group.last_id = id;
        group.entries_read = options.entries_read;
    });
    done(transaction, "xgroup-setid", key);
    Ok(Reply::Ok)
}

pub fn destroy(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, name) = (args[2], args[3]);
    let Some(stream) = transaction.stream(key)? else { return Err(NO_KEY) };
    if stream.group(name).is_none() {
        return Ok(Reply::Integer(0));
    }
    let Some(stream) = transaction.change_stream(key)? else { return Err(NO_KEY) };
    stream.remove_group(name);
    done(transaction, "xgroup-destroy", key);
    // Those that wait for the group are to learn that it is gone.
    transaction.wake(key);
    Ok(Reply::Integer(1))
}

pub fn create_consumer(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    check_group(transaction, args)?;
    let (key, name, consumer) = (args[2], args[3], args[4]);
    let now_ms = transaction.now_ms as i64;
    let Some(stream) = transaction.change_stream(key)? else { return Err(NO_KEY) };
    let is_new = stream.change_group(name, |group, _| group.create_consumer(consumer, now_ms));
    if is_new != Some(true) {
        return Ok(Reply::Integer(0));
    }
    done(transaction, "xgroup-createconsumer", key);
    Ok(Reply::Integer(1))
}

pub fn delete_consumer(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    check_group(transaction, args)?;
    let (key, name, consumer) = (args[2], args[3], args[4]);
    let Some(stream) = transaction.change_stream(key)? else { return Err(NO_KEY) };
    let owned = stream.change_group(name, |group, _| group.delete_consumer(consumer)).flatten();
    let Some(owned) = owned else { return Ok(Reply::Integer(0)) };
    done(transaction, "xgroup-delconsumer", key);
    Ok(Reply::Integer(owned as i64))
}

pub fn xack(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, name) = (args[1], args[2]);
    if transaction.stream(key)?.and_then(|stream| stream.group(name)).is_none() {
        return Ok(Reply::Integer(0));
    }
    let ids = args[3..].iter().map(|text| arguments::id(text, 0)).collect::<Result<Vec<_>, _>>()?;
    let Some(stream) = transaction.change_stream(key)? else { return Ok(Reply::Integer(0)) };
    let count = stream
        .change_group(name, |group, _| ids.into_iter().filter(|id| group.acknowledge(*id)).count())
        .unwrap_or(0);
    transaction.count_changes(count as u64);
    Ok(Reply::Integer(count as i64))
}
