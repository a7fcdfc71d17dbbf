//! XREAD and XREADGROUP: what is newer than an identifier in one of several streams, or waiting for it.

use super::{arguments, entry_reply, id_reply, no_group};
use crate::command::{Args, BlockOnKeys, Outcome};
use crate::commands::parse::is;
use crate::keyspace::{EventClasses, Reader, WriteTxn};
use crate::protocol::{ErrorReply, Protocol, Reply};
use crate::types::Kind;
use crate::types::stream::{Direction, Group, Log, Owner, Pending, StreamId};

/// What is asked for, in the words of the call.
struct Call<'a, 'b> {
    args: &'b Args<'a>,
    /// Most entries of each stream.
    most: usize,
    /// Milliseconds to wait, 0 for ever; `None`: not at all.
    block_ms: Option<u64>,
    acknowledges: bool,
    group: Option<(&'a [u8], &'a [u8])>,
    keys: &'b [&'a [u8]],
    ids: &'b [&'a [u8]],
}

fn timeout_ms(text: &[u8]) -> Result<u64, ErrorReply> {
    let given = arguments::integer_or(text, "ERR timeout is not an integer or out of range")?;
    if given > LONGEST_MS {
        return Err(ErrorReply::new("ERR timeout is out of range"));
    }
    u64::try_from(given).map_err(|_| ErrorReply::new("ERR timeout is negative"))
}

/// What ends later than this is at no moment that a clock can show.
const LONGEST_MS: i64 = i64::MAX - (1 << 41);

impl<'a, 'b> Call<'a, 'b> {
    fn parse(args: &'b Args<'a>, of_group: bool) -> Result<Self, ErrorReply> {
        let mut call = Call {
            args,
            most: usize::MAX,
            block_ms: None,
            acknowledges: false,
            group: None,
            keys: &[],
            ids: &[],
        };
        let mut at = 1;
        while at < args.len() {
            let (word, more) = (args[at], args.len() - at - 1);
            if is(word, "block") && more > 0 {
                at += 1;
                call.block_ms = Some(timeout_ms(args[at])?);
            } else if is(word, "count") && more > 0 {
                at += 1;
                call.most = match arguments::count(args[at])? {
                    0 => usize::MAX,
                    count => count,
                };
            } else if is(word, "streams") && more > 0 {
                call.set_streams(&args[at + 1..], of_group)?;
                break;
            } else if is(word, "group") && more > 1 {
                if !of_group {
                    return Err(ErrorReply::new(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                call.group = Some((args[at + 1], args[at + 2]));
                at += 2;
            } else if is(word, "noack") {
                if !of_group {
                    return Err(ErrorReply::new(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                call.acknowledges = true;
            } else {
                return Err(ErrorReply::SYNTAX);
            }
            at += 1;
        }
        if call.keys.is_empty() {
            return Err(ErrorReply::SYNTAX);
        }
        if of_group && call.group.is_none() {
            return Err(ErrorReply::new("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(call)
    }

    fn set_streams(&mut self, words: &'b [&'a [u8]], of_group: bool) -> Result<(), ErrorReply> {
        if words.len() % 2 == 1 {
            let (name, symbol) = if of_group { ("xreadgroup", '>') } else { ("xread", '$') };
            return Err(ErrorReply::from_text(format!(
                "ERR Unbalanced '{name}' list of streams: for each stream key an ID or '{symbol}' must be specified."
            )));
        }
        (self.keys, self.ids) = words.split_at(words.len() / 2);
        Ok(())
    }

    /// What is answered if there is something, and else.
    fn outcome<'k>(
        &self,
        found: Vec<(Reply<'k>, Reply<'k>)>,
        protocol: Protocol,
        args: Option<Vec<Vec<u8>>>,
    ) -> Outcome<'k> {
        if !found.is_empty() {
            return Outcome::Reply(match protocol {
                Protocol::Resp2 => Reply::Array(
                    found.into_iter().map(|(key, entries)| Reply::Array(vec![key, entries])).collect(),
                ),
                Protocol::Resp3 => Reply::Map(found),
            });
        }
        let Some(timeout_ms) = self.block_ms else { return Outcome::Reply(Reply::NilArray) };
        Outcome::Block(BlockOnKeys {
            keys: self.keys.iter().map(|key| key.to_vec()).collect(),
            kind: Kind::Stream,
            wakes_without: self.group.is_some(),
            args,
            timeout_ms,
            on_timeout: Reply::NilArray,
            when_denied: Reply::NilArray,
        })
    }
}

// ---- XREAD ----

pub fn xread<'k>(reader: &Reader<'k>, args: &Args<'_>) -> Result<Outcome<'k>, ErrorReply> {
    let call = Call::parse(args, false)?;
    let mut wanted = Vec::with_capacity(call.keys.len());
    for (key, text) in call.keys.iter().zip(call.ids) {
        let stream = reader.stream(key)?;
        let last_id = stream.map_or(StreamId::MIN, |stream| stream.log().last_id);
        let after = match *text {
            b"$" => last_id,
            // The last entry is what comes after the one before it.
            b"+" => last_id.previous().unwrap_or_default(),
            b">" => {
                return Err(ErrorReply::new(
                    "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> \
                     <consumer> option.",
                ));
            }
            text => arguments::id(text, 0)?,
        };
        wanted.push((stream, after));
    }
    let mut found = Vec::new();
    for (key, (stream, after)) in call.keys.iter().zip(&wanted) {
        let (Some(stream), Some(start)) = (stream, after.next()) else { continue };
        let mut entries = stream.log().range(start, StreamId::MAX, Direction::Forward).peekable();
        if entries.peek().is_some() {
            let entries = entries.take(call.most).map(entry_reply).collect();
            found.push((Reply::Owned(key.to_vec()), Reply::Array(entries)));
        }
    }
    // What comes after now is to be the same when it has come.
    let args = call.ids.contains(&&b"$"[..]).then(|| {
        let ids_at = args.len() - call.ids.len();
        let mut args: Vec<Vec<u8>> = call.args.iter().map(|arg| arg.to_vec()).collect();
        for (index, (_, after)) in wanted.iter().enumerate().filter(|(index, _)| call.ids[*index] == b"$") {
            args[ids_at + index] = after.text();
        }
        args
    });
    Ok(call.outcome(found, reader.protocol, args))
}

// ---- XREADGROUP ----

/// Where a consumer wants to read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum From {
    /// What nobody of the group was given yet.
    New,
    /// What it was given itself, after this identifier.
    Owned(StreamId),
}

fn meaningless(symbol: &str) -> ErrorReply {
    ErrorReply::from_text(format!(
        "ERR The {symbol} ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer \
         by specifying a proper ID, or use the > ID to get new messages. The {symbol} ID would just return an empty \
         result set."
    ))
}

pub fn xreadgroup(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> Result<Outcome<'static>, ErrorReply> {
    let call = Call::parse(args, true)?;
    let Some((group, consumer)) = call.group else { return Err(ErrorReply::SYNTAX) };
    let mut wanted = Vec::with_capacity(call.keys.len());
    for (key, text) in call.keys.iter().zip(call.ids) {
        if transaction.stream(key)?.and_then(|stream| stream.group(group)).is_none() {
            return Err(no_group(key, group, b" in XREADGROUP with GROUP option"));
        }
        wanted.push(match *text {
            b"$" => return Err(meaningless("$")),
            b"+" => return Err(meaningless("+")),
            b">" => From::New,
            text => match arguments::id(text, 0)? {
                StreamId::MAX => From::New,
                id => From::Owned(id),
            },
        });
    }
    transaction.state_no_effect();
    let mut found = Vec::new();
    for (key, from) in call.keys.iter().zip(wanted) {
        if let Some(entries) = read_one(transaction, &call, key, (group, consumer), from)? {
            transaction.count_changes(1);
            found.push((Reply::Owned(key.to_vec()), Reply::Array(entries)));
        }
    }
    Ok(call.outcome(found, transaction.protocol, None))
}

/// What a consumer gets of one stream; `None` if there is nothing new.
fn read_one(
    transaction: &mut WriteTxn<'_>,
    call: &Call<'_, '_>,
    key: &[u8],
    (group_name, consumer): (&[u8], &[u8]),
    from: From,
) -> Result<Option<Vec<Reply<'static>>>, ErrorReply> {
    let now_ms = transaction.now_ms as i64;
    let Some(stream) = transaction.change_stream(key)? else { return Ok(None) };
    let mut delivery = Delivery {
        most: call.most,
        is_pending: !call.acknowledges,
        now_ms,
        claims: Vec::new(),
        moved_to: None,
    };
    let done = stream.change_group(group_name, |group, log| {
        let is_new = group.create_consumer(consumer, now_ms);
        group.update_consumer(consumer, |consumer| consumer.seen_ms = now_ms);
        let owner = group.consumer(consumer)?.owner().clone();
        let entries = match from {
            From::Owned(id) => Some(delivery.again(group, log, &owner, id)),
            From::New => delivery.new_entries(group, log, &owner),
        };
        Some((is_new, entries))
    });
    let Some((is_new, entries)) = done.flatten() else { return Ok(None) };
    if is_new {
        transaction.notify(EventClasses::STREAM, "xgroup-createconsumer", key);
        transaction.count_changes(1);
        if call.acknowledges {
            transaction.state_effect(&[b"XGROUP", b"CREATECONSUMER", key, group_name, consumer]);
        }
    }
    for (pending, last_id) in &delivery.claims {
        state_claim(transaction, key, group_name, &pending.id.text(), pending, *last_id);
    }
    if let Some((last_id, entries_read)) = delivery.moved_to {
        state_group_id(transaction, key, group_name, last_id, entries_read);
    }
    Ok(entries)
}

/// The delivery of entries of one stream to one consumer.
struct Delivery {
    most: usize,
    /// Is what is delivered to be acknowledged?
    is_pending: bool,
    now_ms: i64,
    /// What was given to the consumer, and how far the group had come then.
    claims: Vec<(Pending, StreamId)>,
    /// How far the group has come, and how many entries it has read.
    moved_to: Option<(StreamId, Option<i64>)>,
}

impl Delivery {
    /// Entries that the group has not read.
    fn new_entries(&mut self, group: &mut Group, log: &Log, owner: &Owner) -> Option<Vec<Reply<'static>>> {
        let start = group.last_id.next()?;
        let first_id = log.first_id()?;
        let mut replies = Vec::new();
        for entry in log.range(start, StreamId::MAX, Direction::Forward).take(self.most) {
            let id = entry.id;
            // Nothing between the last entry that was read and this one is missing.
            let follows = group.last_id >= first_id && !log.has_deleted_from(group.last_id);
            let counted = group.entries_read.filter(|_| follows);
            group.entries_read = counted.map(|read| read.wrapping_add(1)).or_else(|| log.entries_up_to(id));
            group.last_id = id;
            self.moved_to = Some((id, group.entries_read));
            replies.push(entry_reply(entry).into_owned());
            if self.is_pending {
                let owner = owner.clone();
                let pending = Pending { id, delivered_ms: self.now_ms, deliveries: 1, owner };
                group.assign(pending.clone());
                self.claims.push((pending, id));
            }
        }
        if !self.claims.is_empty() {
            group.update_consumer(owner.name(), |consumer| consumer.active_ms = Some(self.now_ms));
        }
        (!replies.is_empty()).then_some(replies)
    }

    /// Entries that the consumer owns. Of those that are no longer there the identifier is told.
    fn again(&self, group: &mut Group, log: &Log, owner: &Owner, after: StreamId) -> Vec<Reply<'static>> {
        let start = after.next().unwrap_or(StreamId::MAX);
        let owned: Vec<Pending> = group.owned_from(owner, start).take(self.most).cloned().collect();
        let replies = owned.into_iter().map(|pending| match log.get(pending.id) {
            Some(entry) => {
                let deliveries = pending.deliveries.wrapping_add(1);
                group.assign(Pending { delivered_ms: self.now_ms, deliveries, ..pending });
                entry_reply(entry).into_owned()
            }
            None => Reply::Array(vec![id_reply(pending.id), Reply::NilArray]),
        });
        replies.collect()
    }
}

// ---- What replicas are told of groups ----

/// Tells that an entry belongs to a consumer now.
pub fn state_claim(
    transaction: &mut WriteTxn<'_>,
    key: &[u8],
    group: &[u8],
    id: &[u8],
    pending: &Pending,
    last_id: StreamId,
) {
    let (mut time, mut count) = (itoa::Buffer::new(), itoa::Buffer::new());
    transaction.state_effect(&[
        b"XCLAIM",
        key,
        group,
        pending.owner.name(),
        b"0",
        id,
        b"TIME",
        time.format(pending.delivered_ms).as_bytes(),
        b"RETRYCOUNT",
        count.format(pending.deliveries).as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        &last_id.text(),
    ]);
}

/// Tells how far a group has read.
pub fn state_group_id(
    transaction: &mut WriteTxn<'_>,
    key: &[u8],
    group: &[u8],
    last_id: StreamId,
    entries_read: Option<i64>,
) {
    let mut read = itoa::Buffer::new();
    transaction.state_effect(&[
        b"XGROUP",
        b"SETID",
        key,
        group,
        &last_id.text(),
        b"ENTRIESREAD",
        read.format(entries_read.unwrap_or(-1)).as_bytes(),
    ]);
}
