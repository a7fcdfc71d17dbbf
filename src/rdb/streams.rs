//! Streams in RDB. Source: rdb.c of Valkey, value types 15, 19 and 21; the nodes are listpacks there.
//!
//! In files the second form is written, which Redis 7.0 reads. It does not say when a consumer last got entries, only when
//! it last asked; where the two differ, a field of the file's own, which other servers pass over, says so before the key. A
//! payload of DUMP has no such fields, so there the third form is used where it is needed.
//!
//! Invariant: what is read is a sound stream or an error: identifiers ascend, whatever is pending has an owner.

use std::collections::BTreeMap;

use super::reader::{RdbError, Source};
use super::writer::{Packing, append_len, append_string};
use super::{encodings, kind};
use crate::types::Element;
use crate::types::stream::{Consumer, Group, Node, Pending, Stream, StreamId};

/// The field of a file that holds, for the stream whose key follows, when each consumer last got entries: eight bytes each,
/// Unix time in milliseconds or -1, in the order in which the stream lists groups and consumers.
pub(super) const ACTIVE_TIMES: &str = "stream-active-times";

const NEVER: i64 = -1;

// ---- Writing ----

/// Do consumers have another time than that of the second form?
pub(super) fn has_active_times(stream: &Stream) -> bool {
    consumers(stream).any(|consumer| consumer.active_ms != Some(consumer.seen_ms))
}

/// The value of [`ACTIVE_TIMES`].
pub(super) fn active_times(stream: &Stream) -> Vec<u8> {
    consumers(stream).flat_map(|consumer| consumer.active_ms.unwrap_or(NEVER).to_le_bytes()).collect()
}

fn consumers(stream: &Stream) -> impl Iterator<Item = &Consumer> {
    stream.groups().flat_map(|(_, group)| group.consumers())
}

/// Appends a stream, in the third form `with_active_times`, else in the second. Returns the type of the value.
pub(super) fn append(
    out: &mut Vec<u8>,
    stream: &Stream,
    with_active_times: bool,
    packing: &mut Packing,
) -> u8 {
    let log = stream.log();
    append_len(out, log.node_count() as u64);
    for node in log.nodes() {
        append_string(out, &node.first_id().to_bytes(), packing);
        append_string(out, &listpack(node), packing);
    }
    append_len(out, log.len() as u64);
    append_id(out, log.last_id);
    append_id(out, log.first_id().unwrap_or_default());
    append_id(out, log.max_deleted_id);
    append_len(out, log.entries_added);
    append_len(out, stream.group_count() as u64);
    for (name, group) in stream.groups() {
        append_string(out, name, packing);
        append_id(out, group.last_id);
        append_len(out, group.entries_read.unwrap_or(NEVER) as u64);
        append_len(out, group.pending_count() as u64);
        for pending in group.pending_from(StreamId::MIN) {
            out.extend_from_slice(&pending.id.to_bytes());
            out.extend_from_slice(&pending.delivered_ms.to_le_bytes());
            append_len(out, pending.deliveries);
        }
        append_len(out, group.consumer_count() as u64);
        for consumer in group.consumers() {
            append_string(out, consumer.name(), packing);
            out.extend_from_slice(&consumer.seen_ms.to_le_bytes());
            if with_active_times {
                out.extend_from_slice(&consumer.active_ms.unwrap_or(NEVER).to_le_bytes());
            }
            append_len(out, group.owned_count(consumer.owner()) as u64);
            for pending in group.owned_from(consumer.owner(), StreamId::MIN) {
                out.extend_from_slice(&pending.id.to_bytes());
            }
        }
    }
    if with_active_times { kind::STREAM_3 } else { kind::STREAM_2 }
}

fn append_id(out: &mut Vec<u8>, id: StreamId) {
    append_len(out, id.ms);
    append_len(out, id.seq);
}

/// A node as a listpack.
fn listpack(node: &Node) -> Vec<u8> {
    let mut bytes = vec![0; 6];
    let mut count = 0;
    for element in node.listpack_elements() {
        encodings::append_listpack_element(&mut bytes, element);
        count += 1;
    }
    bytes.push(0xff);
    let size = bytes.len() as u32;
    bytes[..4].copy_from_slice(&size.to_le_bytes());
    // So many that the field cannot say are counted by whoever wants to know.
    let count = u16::try_from(count).unwrap_or(u16::MAX);
    bytes[4..6].copy_from_slice(&count.to_le_bytes());
    bytes
}

// ---- Reading ----

/// Reads a stream of a form.
pub(super) fn read(source: &mut Source<'_>, of: u8) -> Result<Stream, RdbError> {
    let mut stream = Stream::new();
    read_nodes(source, &mut stream)?;
    let log = stream.log_mut();
    if source.length()? != log.len() as u64 {
        return Err(RdbError::Corrupt("a stream has another length than its nodes"));
    }
    log.last_id = read_id(source)?;
    if of == kind::STREAM {
        log.entries_added = log.len() as u64;
    } else {
        // The first identifier follows from the nodes.
        read_id(source)?;
        log.max_deleted_id = read_id(source)?;
        log.entries_added = source.length()?;
    }
    if log.last_live_id().is_some_and(|last| last > log.last_id) {
        return Err(RdbError::Corrupt("a stream has entries beyond its last"));
    }
    for _ in 0..source.length()? {
        let name = source.string()?;
        let group = read_group(source, &stream, of)?;
        if !stream.add_group(&name, group) {
            return Err(RdbError::Corrupt("a stream has a group twice"));
        }
    }
    Ok(stream)
}

fn read_nodes(source: &mut Source<'_>, stream: &mut Stream) -> Result<(), RdbError> {
    for _ in 0..source.length()? {
        let first = source.string()?;
        let first = first.try_into().map_err(|_| RdbError::Corrupt("a stream's node has no identifier"))?;
        let block = source.string()?;
        let elements = encodings::listpack(&block)?;
        let elements = elements.iter().map(|element| match *element {
            encodings::Packed::Bytes(bytes) => Element::Bytes(bytes),
            encodings::Packed::Integer(number) => Element::Integer(number),
        });
        let node = Node::from_listpack(StreamId::from_bytes(first), elements)
            .map_err(|_| RdbError::Corrupt("a stream's node is broken"))?;
        // One of which all entries are deleted says nothing.
        if let Some(node) = node
            && !stream.log_mut().push_node(node)
        {
            return Err(RdbError::Corrupt("a stream's nodes do not ascend"));
        }
    }
    Ok(())
}

fn read_id(source: &mut Source<'_>) -> Result<StreamId, RdbError> {
    Ok(StreamId::new(source.length()?, source.length()?))
}

fn read_raw_id(source: &mut Source<'_>) -> Result<StreamId, RdbError> {
    Ok(StreamId::from_bytes(source.array()?))
}

fn read_group(source: &mut Source<'_>, stream: &Stream, of: u8) -> Result<Group, RdbError> {
    let last_id = read_id(source)?;
    let entries_read = match of {
        kind::STREAM => stream.log().entries_up_to(last_id),
        // All above is how older versions wrote that it is not known.
        _ => i64::try_from(source.length()?).ok(),
    };
    let mut group = Group::new(last_id, entries_read);
    let mut pending = BTreeMap::new();
    for _ in 0..source.length()? {
        let id = read_raw_id(source)?;
        let delivered_ms = i64::from_le_bytes(source.array()?);
        if pending.insert(id, (delivered_ms, source.length()?)).is_some() {
            return Err(RdbError::Corrupt("an entry is pending twice"));
        }
    }
    for _ in 0..source.length()? {
        read_consumer(source, &mut group, &mut pending, of)?;
    }
    if pending.is_empty() { Ok(group) } else { Err(RdbError::Corrupt("a pending entry has no consumer")) }
}

/// Reads a consumer and takes what it owns out of `pending`: time and count of deliveries.
fn read_consumer(
    source: &mut Source<'_>,
    group: &mut Group,
    pending: &mut BTreeMap<StreamId, (i64, u64)>,
    of: u8,
) -> Result<(), RdbError> {
    let name = source.string()?;
    let seen_ms = i64::from_le_bytes(source.array()?);
    let active_ms = if of == kind::STREAM_3 { i64::from_le_bytes(source.array()?) } else { seen_ms };
    if !group.create_consumer(&name, seen_ms) {
        return Err(RdbError::Corrupt("a group has a consumer twice"));
    }
    group.update_consumer(&name, |consumer| consumer.active_ms = time(active_ms));
    let owner = group.consumer(&name).map(|consumer| consumer.owner().clone());
    let owner = owner.ok_or(RdbError::Corrupt("a group has lost a consumer"))?;
    for _ in 0..source.length()? {
        let id = read_raw_id(source)?;
        let (delivered_ms, deliveries) =
            pending.remove(&id).ok_or(RdbError::Corrupt("a consumer owns what is not pending"))?;
        group.assign(Pending { id, delivered_ms, deliveries, owner: owner.clone() });
    }
    Ok(())
}

fn time(ms: i64) -> Option<i64> {
    (ms != NEVER).then_some(ms)
}

/// Sets the times that [`ACTIVE_TIMES`] gave; what is not for this stream is passed over.
pub(super) fn set_active_times(stream: &mut Stream, times: &[u8]) {
    let (times, rest) = times.as_chunks::<8>();
    if times.len() != consumers(stream).count() || !rest.is_empty() {
        return;
    }
    let names = stream.groups().flat_map(|(name, group)| {
        group.consumers().map(move |consumer| (name.to_vec(), consumer.name().to_vec()))
    });
    let names: Vec<(Vec<u8>, Vec<u8>)> = names.collect();
    for ((group, consumer), active_ms) in names.iter().zip(times) {
        let active_ms = time(i64::from_le_bytes(*active_ms));
        stream.change_group(group, |group, _| {
            group.update_consumer(consumer, |consumer| consumer.active_ms = active_ms);
        });
    }
}
