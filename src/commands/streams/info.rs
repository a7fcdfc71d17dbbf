//! XINFO: what there is to know of a stream, its groups and their consumers.

use super::{arguments, entry_reply, id_reply, no_group_of_key, wrong_subcommand_arguments};
use crate::command::Args;
use crate::commands::parse::is;
use crate::keyspace::Reader;
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::stream::{Consumer, Direction, Group, Log, Pending, Stream, StreamId};

fn pair<'k>(name: &'static str, value: Reply<'k>) -> (Reply<'k>, Reply<'k>) {
    (Reply::Bulk(name.as_bytes()), value)
}

fn number(value: usize) -> Reply<'static> {
    Reply::Integer(value as i64)
}

fn number_or_nil(value: Option<i64>) -> Reply<'static> {
    value.map_or(Reply::Nil, Reply::Integer)
}

fn stream<'k>(reader: &Reader<'k>, key: &[u8]) -> Result<&'k Stream, ErrorReply> {
    reader.stream(key)?.ok_or(ErrorReply::NO_SUCH_KEY)
}

pub fn consumers<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let (key, name) = (args[2], args[3]);
    let group = stream(reader, key)?.group(name).ok_or_else(|| no_group_of_key(key, name))?;
    let now_ms = reader.now_ms as i64;
    let show = |consumer: &'k Consumer| {
        let inactive = consumer.active_ms.map_or(-1, |active| now_ms.wrapping_sub(active));
        Reply::Map(vec![
            pair("name", Reply::Bulk(consumer.name())),
            pair("pending", number(group.owned_count(consumer.owner()))),
            pair("idle", Reply::Integer(now_ms.wrapping_sub(consumer.seen_ms).max(0))),
            pair("inactive", Reply::Integer(inactive)),
        ])
    };
    Ok(Reply::Array(group.consumers().map(show).collect()))
}

pub fn groups<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let stream = stream(reader, args[2])?;
    let show = |(name, group): (&'k [u8], &'k Group)| {
        Reply::Map(vec![
            pair("name", Reply::Bulk(name)),
            pair("consumers", number(group.consumer_count())),
            pair("pending", number(group.pending_count())),
            pair("last-delivered-id", id_reply(group.last_id)),
            pair("entries-read", number_or_nil(group.entries_read)),
            pair("lag", number_or_nil(stream.log().lag(group))),
        ])
    };
    Ok(Reply::Array(stream.groups().map(show).collect()))
}

pub fn of_stream<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let stream = stream(reader, args[2])?;
    let full = match &args[3..] {
        [] => None,
        [word] if is(word, "full") => Some(10),
        [word, count_word, count] if is(word, "full") && is(count_word, "count") => {
            let count = arguments::integer_or(count, "ERR value is not an integer or out of range")?;
            Some(usize::try_from(count).unwrap_or(10))
        }
        _ => return Err(wrong_subcommand_arguments(args)),
    };
    let log = stream.log();
    let mut pairs = vec![
        pair("length", number(log.len())),
        pair("radix-tree-keys", number(log.node_count())),
        pair("radix-tree-nodes", number(radix_nodes(log.nodes().map(|node| node.first_id().to_bytes())))),
        pair("last-generated-id", id_reply(log.last_id)),
        pair("max-deleted-entry-id", id_reply(log.max_deleted_id)),
        pair("entries-added", Reply::Integer(log.entries_added as i64)),
        pair("recorded-first-entry-id", id_reply(log.first_id().unwrap_or_default())),
    ];
    match full {
        None => {
            let edge = |direction| {
                let first = log.range(StreamId::MIN, StreamId::MAX, direction).next();
                first.map_or(Reply::Nil, entry_reply)
            };
            pairs.push(pair("groups", number(stream.group_count())));
            pairs.push(pair("first-entry", edge(Direction::Forward)));
            pairs.push(pair("last-entry", edge(Direction::Backward)));
        }
        Some(count) => {
            let most = if count == 0 { usize::MAX } else { count };
            let entries = log.iter().take(most).map(entry_reply).collect();
            let groups = stream.groups().map(|(name, group)| full_group(name, group, log, most)).collect();
            pairs.push(pair("entries", Reply::Array(entries)));
            pairs.push(pair("groups", Reply::Array(groups)));
        }
    }
    Ok(Reply::Map(pairs))
}

fn full_group<'k>(name: &'k [u8], group: &'k Group, log: &Log, most: usize) -> Reply<'k> {
    let pending = group.pending_from(StreamId::MIN).take(most).map(|pending| {
        let mut parts = pending_parts(pending);
        parts.insert(1, Reply::Bulk(pending.owner.name()));
        Reply::Array(parts)
    });
    let consumers = group.consumers().map(|consumer| {
        let owned = group.owned_from(consumer.owner(), StreamId::MIN).take(most);
        Reply::Map(vec![
            pair("name", Reply::Bulk(consumer.name())),
            pair("seen-time", Reply::Integer(consumer.seen_ms)),
            pair("active-time", Reply::Integer(consumer.active_ms.unwrap_or(-1))),
            pair("pel-count", number(group.owned_count(consumer.owner()))),
            pair("pending", Reply::Array(owned.map(|one| Reply::Array(pending_parts(one))).collect())),
        ])
    });
    Reply::Map(vec![
        pair("name", Reply::Bulk(name)),
        pair("last-delivered-id", id_reply(group.last_id)),
        pair("entries-read", number_or_nil(group.entries_read)),
        pair("lag", number_or_nil(log.lag(group))),
        pair("pel-count", number(group.pending_count())),
        pair("pending", Reply::Array(pending.collect())),
        pair("consumers", Reply::Array(consumers.collect())),
    ])
}

fn pending_parts(pending: &Pending) -> Vec<Reply<'static>> {
    vec![
        id_reply(pending.id),
        Reply::Integer(pending.delivered_ms),
        Reply::Integer(pending.deliveries as i64),
    ]
}

/// How many nodes the radix tree has in which Valkey keeps ascending keys of 16 bytes. Source of its shape: the comments in
/// rax.c. A node for each key's end, one for each place at which keys part, and one for each run of bytes between these.
fn radix_nodes(keys: impl Iterator<Item = [u8; 16]>) -> usize {
    // The depths at which the key before parts from others, rising, and the number of nodes above and beside it.
    let mut parting: Vec<usize> = Vec::new();
    let mut nodes = 0;
    let mut before: Option<[u8; 16]> = None;
    // A run from where keys part at `from` to the node at `to`, the byte that they part by not counted.
    let run = |from: Option<&usize>, to: usize| usize::from(from.map_or(0, |from| from + 1) < to);
    for key in keys {
        if let Some(before) = before {
            let common = before.iter().zip(&key).take_while(|(one, other)| one == other).count();
            // The end of the key before hangs below the deepest place at which it parts from one of its neighbours.
            let mut below = before.len();
            while let Some(depth) = parting.pop_if(|depth| *depth > common) {
                nodes += 1 + run(Some(&depth), below);
                below = depth;
            }
            nodes += 1 + run(Some(&common), below);
            if parting.last() != Some(&common) {
                parting.push(common);
            }
        }
        before = Some(key);
    }
    let Some(last) = before else { return 1 };
    let mut below = last.len();
    while let Some(depth) = parting.pop() {
        nodes += 1 + run(Some(&depth), below);
        below = depth;
    }
    nodes + 1 + run(None, below)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(bytes: &[u8]) -> [u8; 16] {
        let mut key = [0; 16];
        key[..bytes.len()].copy_from_slice(bytes);
        key
    }

    #[test]
    fn shapes_of_a_radix_tree() {
        let count = |keys: &[&[u8]]| radix_nodes(keys.iter().map(|bytes| key(bytes)));
        assert_eq!(count(&[]), 1);
        // The run of sixteen bytes, and the end.
        assert_eq!(count(&[b"a"]), 2);
        // They part at the root: two runs, two ends.
        assert_eq!(count(&[b"a", b"b"]), 5);
        // A run to where they part.
        assert_eq!(count(&[b"aa", b"ab"]), 6);
        assert_eq!(count(&[b"a", b"b", b"c"]), 7);
        // b and c part at the root, ca and cb below it at once.
        assert_eq!(count(&[b"b", b"ca", b"cb"]), 8);
    }
}
