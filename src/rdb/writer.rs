//! Writing RDB.

use std::io::{self, Write};
use std::sync::Arc;

use super::{VERSION, VERSION_FIELD_EXPIRY, VERSION_STREAM_ACTIVITY, kind, opcode, packed_string, streams};
use crate::base::crc64::crc64;
use crate::base::lzf::Compressor;
use crate::base::number::parse_i64;
use crate::keyspace::{AccessPolicy, Entry, Snapshot, ValueRef};
use crate::scripting::{Registry, Script};
use crate::types::Hash;
use crate::types::element::{Element, TextBuffer};

/// What is saved.
pub struct Contents<'a> {
    /// Given up piece by piece while it is written: what the dataset has replaced since is kept no longer than needed. `None`:
    /// functions only.
    pub keyspace: Option<Snapshot>,
    pub functions: &'a Registry,
    /// Scripts that the stream knows; other servers skip them.
    pub scripts: &'a [Arc<Script>],
}

/// How it is saved.
#[derive(Debug, Clone, Copy)]
pub struct Options<'a> {
    pub compression: bool,
    pub checksum: bool,
    /// Fields of the header: `redis-ver`, `repl-id`, …
    pub aux: &'a [(&'a str, String)],
    pub now_ms: u64,
    /// Does it say when keys were last used, or how often? Only where eviction goes by it are they worth the bytes.
    pub access: bool,
}

/// Strings shorter than this are not worth compressing.
const LEAST_COMPRESSED: usize = 21;
/// Bytes collected before they are written out.
const CHUNK: usize = 64 * 1024;

/// Whether strings are compressed, and what that takes.
pub(super) struct Packing {
    compress: bool,
    /// Made when the first string is long enough.
    compressor: Option<Compressor>,
    /// The last compressed string.
    compressed: Vec<u8>,
}

impl Packing {
    pub(super) fn new(compress: bool) -> Self {
        Packing { compress, compressor: None, compressed: Vec::new() }
    }
}

struct Writer<'a> {
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
    checksum: Option<u64>,
}

impl Writer<'_> {
    fn flush(&mut self) -> io::Result<()> {
        if let Some(checksum) = &mut self.checksum {
            *checksum = crc64(*checksum, &self.buffer);
        }
        self.out.write_all(&self.buffer)?;
        self.buffer.clear();
        Ok(())
    }
}

/// Writes everything. `after_key` is called with the number of keys written so far and can end it by an error.
pub fn save(
    contents: Contents<'_>,
    options: &Options<'_>,
    out: &mut dyn Write,
    after_key: &mut dyn FnMut(u64) -> io::Result<()>,
) -> io::Result<()> {
    let access = contents.keyspace.as_ref().map(|keyspace| keyspace.settings().access);
    let access = access.filter(|_| options.access);
    let databases = contents.keyspace.map_or_else(Vec::new, Snapshot::into_databases);
    let expiring = |entry: &Entry| matches!(entry.value(), ValueRef::Hash(hash) if hash.expiring_len() > 0);
    let newer = databases
        .iter()
        .filter(|database| database.may_have_expiring_fields())
        .any(|database| database.entries().iter().any(expiring));
    let mut writer =
        Writer { out, buffer: Vec::with_capacity(CHUNK * 2), checksum: options.checksum.then_some(0) };
    let magic = if newer { format!("VALKEY{VERSION_FIELD_EXPIRY:03}") } else { format!("REDIS{VERSION:04}") };
    writer.buffer.extend_from_slice(magic.as_bytes());
    for (name, value) in options.aux {
        append_aux(&mut writer.buffer, name, value.as_bytes());
    }
    let mut packing = Packing::new(options.compression);
    for script in contents.scripts {
        append_aux(&mut writer.buffer, "lua", script.body());
    }
    for library in contents.functions.libraries() {
        writer.buffer.push(opcode::FUNCTION);
        append_string(&mut writer.buffer, library.code(), &mut packing);
    }
    let mut keys = 0;
    let databases = databases.into_iter().enumerate().filter(|(_, database)| !database.is_empty());
    for (index, database) in databases {
        writer.buffer.push(opcode::SELECT);
        append_len(&mut writer.buffer, index as u64);
        writer.buffer.push(opcode::RESIZE);
        append_len(&mut writer.buffer, database.len() as u64);
        append_len(&mut writer.buffer, database.expiring() as u64);
        database.into_entries().consume(|entry| {
            append_entry(&mut writer.buffer, entry, access, options.now_ms, &mut packing);
            if writer.buffer.len() >= CHUNK {
                writer.flush()?;
            }
            keys += 1;
            after_key(keys)
        })?;
    }
    writer.buffer.push(opcode::END);
    writer.flush()?;
    // A checksum of zero says that there is none.
    let checksum = writer.checksum.unwrap_or(0);
    writer.out.write_all(&checksum.to_le_bytes())
}

/// The payload of DUMP: the value, the version, a checksum.
pub fn dump(entry: &Entry) -> Vec<u8> {
    dump_in_form(entry, true)
}

/// The same, such that Redis 7.0 reads it too: without the times at which a stream's consumers last got entries. Only a
/// hash with fields that expire has no such form.
pub(super) fn dump_in_old_form(entry: &Entry) -> Vec<u8> {
    dump_in_form(entry, false)
}

fn dump_in_form(entry: &Entry, with_active_times: bool) -> Vec<u8> {
    let mut payload = Vec::new();
    let kind_at = payload.len();
    payload.push(0);
    let packing = &mut Packing::new(true);
    payload[kind_at] = match entry.value() {
        ValueRef::Stream(stream) => {
            let with_active_times = with_active_times && streams::has_active_times(stream);
            streams::append(&mut payload, stream, with_active_times, packing)
        }
        _ => append_value(&mut payload, entry, packing),
    };
    let version = match payload[kind_at] {
        kind::HASH_EXPIRING => VERSION_FIELD_EXPIRY,
        kind::STREAM_3 => VERSION_STREAM_ACTIVITY,
        _ => VERSION,
    };
    payload.extend_from_slice(&version.to_le_bytes());
    let checksum = crc64(0, &payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

/// The payload of FUNCTION DUMP: all libraries, the version, a checksum.
pub fn dump_functions(functions: &Registry) -> Vec<u8> {
    let mut payload = Vec::new();
    let mut packing = Packing::new(true);
    for library in functions.libraries() {
        payload.push(opcode::FUNCTION);
        append_string(&mut payload, library.code(), &mut packing);
    }
    payload.extend_from_slice(&VERSION.to_le_bytes());
    let checksum = crc64(0, &payload);
    payload.extend_from_slice(&checksum.to_le_bytes());
    payload
}

fn append_aux(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.push(opcode::AUX);
    let mut plain = Packing::new(false);
    append_string(out, name.as_bytes(), &mut plain);
    append_string(out, value, &mut plain);
}

fn append_entry(
    out: &mut Vec<u8>,
    entry: &Entry,
    access: Option<AccessPolicy>,
    now_ms: u64,
    packing: &mut Packing,
) {
    if let Some(at) = entry.expire_at_ms() {
        out.push(opcode::EXPIRE_MS);
        out.extend_from_slice(&at.to_le_bytes());
    }
    match access {
        Some(policy @ AccessPolicy::Lfu { .. }) => {
            out.push(opcode::FREQUENCY);
            out.push(policy.frequency(entry, now_ms) as u8);
        }
        Some(AccessPolicy::Lru) => {
            // Only what has been idle is worth the bytes.
            let idle = AccessPolicy::idle_seconds(entry, now_ms);
            if idle > 0 {
                out.push(opcode::IDLE);
                append_len(out, idle);
            }
        }
        None => {}
    }
    if let ValueRef::Stream(stream) = entry.value()
        && streams::has_active_times(stream)
    {
        append_aux(out, streams::ACTIVE_TIMES, &streams::active_times(stream));
    }
    let kind_at = out.len();
    out.push(0);
    append_string(out, entry.key(), packing);
    out[kind_at] = append_value(out, entry, packing);
}

/// Appends a value and returns its type.
fn append_value(out: &mut Vec<u8>, entry: &Entry, packing: &mut Packing) -> u8 {
    match entry.value() {
        ValueRef::String(bytes) => {
            append_string(out, bytes, packing);
            kind::STRING
        }
        ValueRef::Integer(number) => {
            append_integer(out, number);
            kind::STRING
        }
        ValueRef::List(list) => {
            append_len(out, list.len() as u64);
            list.iter().for_each(|element| append_element(out, element, packing));
            kind::LIST
        }
        ValueRef::Set(set) => {
            append_len(out, set.len() as u64);
            set.iter().for_each(|member| append_element(out, member, packing));
            kind::SET
        }
        ValueRef::SortedSet(sorted_set) => {
            append_len(out, sorted_set.len() as u64);
            // From the highest to the lowest, so that a reader adds each at the front of what it has.
            for rank in (0..sorted_set.len()).rev() {
                let Some((member, score)) = sorted_set.get(rank) else { break };
                append_element(out, member, packing);
                out.extend_from_slice(&score.to_le_bytes());
            }
            kind::SORTED_SET_BINARY
        }
        ValueRef::Hash(hash) => append_hash(out, hash, packing),
        ValueRef::Stream(stream) => streams::append(out, stream, false, packing),
    }
}

fn append_hash(out: &mut Vec<u8>, hash: &Hash, packing: &mut Packing) -> u8 {
    let expiring = hash.expiring_len() > 0;
    append_len(out, hash.len() as u64);
    for field in hash.iter() {
        append_element(out, field.name, packing);
        append_element(out, field.value, packing);
        if expiring {
            out.extend_from_slice(&field.expire_at_ms.unwrap_or(-1).to_le_bytes());
        }
    }
    if expiring { kind::HASH_EXPIRING } else { kind::HASH }
}

fn append_element(out: &mut Vec<u8>, element: Element<'_>, packing: &mut Packing) {
    match element {
        Element::Bytes(bytes) => append_string(out, bytes, packing),
        Element::Integer(number) => append_integer(out, number),
    }
}

fn append_integer(out: &mut Vec<u8>, number: i64) {
    if let Ok(number) = i8::try_from(number) {
        out.push(packed_string::INT8);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i16::try_from(number) {
        out.push(packed_string::INT16);
        out.extend_from_slice(&number.to_le_bytes());
    } else if let Ok(number) = i32::try_from(number) {
        out.push(packed_string::INT32);
        out.extend_from_slice(&number.to_le_bytes());
    } else {
        let mut buffer = TextBuffer::new();
        let text = Element::Integer(number).text(&mut buffer).to_vec();
        append_len(out, text.len() as u64);
        out.extend_from_slice(&text);
    }
}

pub(super) fn append_string(out: &mut Vec<u8>, bytes: &[u8], packing: &mut Packing) {
    // Longer texts are beyond 32 bits, which is all that the format has for integers.
    if bytes.len() <= 11
        && let Some(number) = parse_i64(bytes).filter(|number| i32::try_from(*number).is_ok())
    {
        return append_integer(out, number);
    }
    if packing.compress && bytes.len() >= LEAST_COMPRESSED && append_compressed(out, bytes, packing) {
        return;
    }
    append_len(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

/// Appends `bytes` compressed. `false`: that would be no shorter, and nothing was appended.
fn append_compressed(out: &mut Vec<u8>, bytes: &[u8], packing: &mut Packing) -> bool {
    let compressor = packing.compressor.get_or_insert_default();
    packing.compressed.clear();
    if !compressor.compress(bytes, bytes.len() - 4, &mut packing.compressed) {
        return false;
    }
    out.push(packed_string::LZF);
    append_len(out, packing.compressed.len() as u64);
    append_len(out, bytes.len() as u64);
    out.extend_from_slice(&packing.compressed);
    true
}

pub(super) fn append_len(out: &mut Vec<u8>, len: u64) {
    if len < 1 << 6 {
        out.push(len as u8);
    } else if len < 1 << 14 {
        out.extend_from_slice(&(0x4000 | len as u16).to_be_bytes());
    } else if let Ok(len) = u32::try_from(len) {
        out.push(0x80);
        out.extend_from_slice(&len.to_be_bytes());
    } else {
        out.push(0x81);
        out.extend_from_slice(&len.to_be_bytes());
    }
}
