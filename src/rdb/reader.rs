//! Reading RDB.

use std::io::{self, Read};

use super::encodings::{self, Packed};
use super::{FIRST_VALKEY, NEWEST, NEWEST_REDIS, kind, opcode, packed_string, streams};
use crate::base::crc64::crc64;
use crate::base::lzf;
use crate::base::number::parse_f64;
use crate::keyspace::entry::Collection;
use crate::keyspace::{AccessPolicy, Entry, Keyspace, Settings};
use crate::types::{Hash, Limits, List, Set, SortedSet};

/// Why an RDB cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum RdbError {
    #[error("Short read or OOM loading DB. Unrecoverable error, aborting now. ({0})")]
    Io(#[from] io::Error),
    #[error("Wrong signature trying to load DB from file")]
    Signature,
    #[error("Can't handle RDB format version {0}")]
    Version(String),
    #[error("Wrong RDB checksum expected: ({expected:x}) but got ({found:x}). Aborting now. RDB CRC error")]
    Checksum { expected: u64, found: u64 },
    #[error("Unknown RDB encoding type {0}")]
    UnknownKind(u8),
    #[error("The RDB file contains module data, or a type that this server does not have: {0}")]
    Unsupported(&'static str),
    #[error("Internal error in RDB: {0}")]
    Corrupt(&'static str),
    #[error("The loading was ended: {0}")]
    Ended(String),
}

/// How to read.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// Databases of the new dataset.
    pub databases: usize,
    pub settings: Settings,
    pub now_ms: u64,
    /// A primary leaves out keys whose time has passed; a replica keeps what its primary has.
    pub drop_expired: bool,
    pub checksum: bool,
}

/// What an RDB held.
#[derive(Debug)]
pub struct Loaded {
    pub keyspace: Keyspace,
    /// The code of each function library.
    pub libraries: Vec<Vec<u8>>,
    /// The bodies of scripts.
    pub scripts: Vec<Vec<u8>>,
    /// Fields of the header.
    pub aux: Vec<(String, Vec<u8>)>,
    pub keys: u64,
    pub expired: u64,
    /// The keys that were left out since their time had passed, and their databases.
    pub dropped: Vec<(usize, Vec<u8>)>,
    /// Keys left out since they were collections without elements, which a sound server does not write.
    pub empty: Vec<Vec<u8>>,
    /// Bytes read, the checksum included.
    pub bytes: u64,
}

impl Loaded {
    pub fn aux(&self, name: &str) -> Option<&[u8]> {
        self.aux.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_slice())
    }
}

/// Bytes asked of the source at once.
const CHUNK: usize = 64 * 1024;
/// What is made room for on the word of a length alone.
const TRUSTED: usize = 1 << 20;

/// A source that counts and sums what was taken from it. It never reads beyond the end of the RDB unless it may.
pub(super) struct Source<'a> {
    input: &'a mut dyn Read,
    buffer: Vec<u8>,
    at: usize,
    checksum: u64,
    taken: u64,
    sums: bool,
}

impl Source<'_> {
    fn fill(&mut self, least: usize) -> Result<(), RdbError> {
        if self.sums {
            self.checksum = crc64(self.checksum, &self.buffer[..self.at]);
        }
        self.buffer.drain(..self.at);
        self.at = 0;
        let have = self.buffer.len();
        self.buffer.resize(have.max(least).max(CHUNK), 0);
        let mut filled = have;
        while filled < least {
            match self.input.read(&mut self.buffer[filled..]) {
                Ok(0) => {
                    self.buffer.truncate(filled);
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    self.buffer.truncate(filled);
                    return Err(error.into());
                }
            }
        }
        self.buffer.truncate(filled);
        Ok(())
    }

    /// The next `count` bytes, at most [`TRUSTED`].
    fn take(&mut self, count: usize) -> Result<&[u8], RdbError> {
        if self.buffer.len() - self.at < count {
            self.fill(count)?;
        }
        self.at += count;
        self.taken += count as u64;
        Ok(&self.buffer[self.at - count..self.at])
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], RdbError> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, RdbError> {
        Ok(self.array::<1>()?[0])
    }

    /// `count` bytes, however many: room is made as they arrive.
    fn bytes(&mut self, count: u64) -> Result<Vec<u8>, RdbError> {
        let count = usize::try_from(count).map_err(|_| RdbError::Corrupt("a length is beyond memory"))?;
        let mut bytes = Vec::with_capacity(count.min(TRUSTED));
        while bytes.len() < count {
            let part = (count - bytes.len()).min(TRUSTED);
            bytes.extend_from_slice(self.take(part)?);
        }
        Ok(bytes)
    }

    /// A length, or the first byte of a specially written string.
    fn length_or_special(&mut self) -> Result<Result<u64, u8>, RdbError> {
        let first = self.byte()?;
        Ok(match first >> 6 {
            0 => Ok(u64::from(first & 0x3f)),
            1 => Ok(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            2 if first == 0x80 => Ok(u64::from(u32::from_be_bytes(self.array()?))),
            2 if first == 0x81 => Ok(u64::from_be_bytes(self.array()?)),
            2 => return Err(RdbError::Corrupt("unknown length encoding")),
            _ => Err(first),
        })
    }

    pub(super) fn length(&mut self) -> Result<u64, RdbError> {
        self.length_or_special()?.map_err(|_| RdbError::Corrupt("a length was expected"))
    }

    pub(super) fn string(&mut self) -> Result<Vec<u8>, RdbError> {
        let number = match self.length_or_special()? {
            Ok(length) => return self.bytes(length),
            Err(packed_string::INT8) => i64::from(i8::from_le_bytes(self.array()?)),
            Err(packed_string::INT16) => i64::from(i16::from_le_bytes(self.array()?)),
            Err(packed_string::INT32) => i64::from(i32::from_le_bytes(self.array()?)),
            Err(packed_string::LZF) => {
                let compressed = self.length()?;
                let length = usize::try_from(self.length()?)
                    .map_err(|_| RdbError::Corrupt("a length is beyond memory"))?;
                let compressed = self.bytes(compressed)?;
                // One byte of LZF makes at most 264: a larger claim is a lie, not a reason to make room.
                if length / 264 > compressed.len() {
                    return Err(RdbError::Corrupt("invalid LZF compressed string"));
                }
                return lzf::decompress(&compressed, length)
                    .map_err(|_| RdbError::Corrupt("invalid LZF compressed string"));
            }
            Err(_) => return Err(RdbError::Corrupt("unknown string encoding")),
        };
        Ok(itoa::Buffer::new().format(number).as_bytes().to_vec())
    }

    /// A score as old versions wrote it: as text.
    fn text_score(&mut self) -> Result<f64, RdbError> {
        match self.byte()? {
            253 => Ok(f64::NAN),
            254 => Ok(f64::INFINITY),
            255 => Ok(f64::NEG_INFINITY),
            length => {
                parse_f64(self.take(usize::from(length))?).ok_or(RdbError::Corrupt("a score is no number"))
            }
        }
    }
}

/// What precedes a key.
#[derive(Default)]
struct Preamble {
    expire_at_ms: Option<u64>,
    idle_seconds: Option<u64>,
    frequency: Option<u8>,
    /// When the consumers of a stream last got entries.
    active_times: Option<Vec<u8>>,
}

/// Reads a whole RDB. `after_key` is called with the bytes and keys read so far and can end it by an error.
pub fn load(
    input: &mut dyn Read,
    options: &Options,
    after_key: &mut dyn FnMut(u64, u64) -> Result<(), RdbError>,
) -> Result<Loaded, RdbError> {
    let mut source =
        Source { input, buffer: Vec::new(), at: 0, checksum: 0, taken: 0, sums: options.checksum };
    let version = read_version(&mut source, options.settings.takes_other_versions)?;
    let mut loaded = Loaded {
        keyspace: Keyspace::new(options.databases, options.settings),
        libraries: Vec::new(),
        scripts: Vec::new(),
        aux: Vec::new(),
        keys: 0,
        expired: 0,
        dropped: Vec::new(),
        empty: Vec::new(),
        bytes: 0,
    };
    let mut database = 0;
    let mut preamble = Preamble::default();
    loop {
        match source.byte()? {
            opcode::END => break,
            opcode::SELECT => {
                database = source.length()? as usize;
                if database >= options.databases {
                    return Err(RdbError::Corrupt(
                        "the data file was created with more databases than are configured",
                    ));
                }
            }
            opcode::RESIZE => {
                source.length()?;
                source.length()?;
            }
            opcode::SLOT_INFO => {
                for _ in 0..3 {
                    source.length()?;
                }
            }
            opcode::AUX => {
                let name = String::from_utf8_lossy(&source.string()?).into_owned();
                let value = source.string()?;
                match name.as_str() {
                    "lua" => loaded.scripts.push(value),
                    streams::ACTIVE_TIMES => preamble.active_times = Some(value),
                    _ => loaded.aux.push((name, value)),
                }
            }
            opcode::FUNCTION => loaded.libraries.push(source.string()?),
            opcode::FUNCTION_EARLY => {
                return Err(RdbError::Unsupported("functions of a pre-release version"));
            }
            opcode::MODULE_AUX => return Err(RdbError::Unsupported("module data")),
            opcode::EXPIRE_MS => preamble.expire_at_ms = Some(u64::from_le_bytes(source.array()?)),
            opcode::EXPIRE_SECONDS => {
                preamble.expire_at_ms = Some(u64::from(u32::from_le_bytes(source.array()?)) * 1000);
            }
            opcode::IDLE => preamble.idle_seconds = Some(source.length()?),
            opcode::FREQUENCY => preamble.frequency = Some(source.byte()?),
            kind if is_foreign_kind(version, kind) => return Err(RdbError::UnknownKind(kind)),
            kind => {
                let key = source.string()?;
                let entry = read_value(&mut source, kind, &key, &options.settings.limits)?;
                put(&mut loaded, database, key, entry, std::mem::take(&mut preamble), options);
                after_key(source.taken, loaded.keys)?;
            }
        }
    }
    check_sum(&mut source, version, options)?;
    loaded.bytes = source.taken;
    Ok(loaded)
}

fn read_version(source: &mut Source<'_>, takes_others: bool) -> Result<u16, RdbError> {
    let magic = source.array::<9>()?;
    let (digits, family) = match &magic {
        [b'R', b'E', b'D', b'I', b'S', digits @ ..] => (&digits[..], 1..FIRST_VALKEY),
        [b'V', b'A', b'L', b'K', b'E', b'Y', digits @ ..] => (&digits[..], FIRST_VALKEY..1000),
        _ => return Err(RdbError::Signature),
    };
    let text = String::from_utf8_lossy(digits).into_owned();
    let version = text.parse().map_err(|_| RdbError::Version(text))?;
    if family.contains(&version) && (takes_others || is_known(version)) {
        return Ok(version);
    }
    Err(RdbError::Version(version.to_string()))
}

/// Is this a version of which all is known?
fn is_known(version: u16) -> bool {
    (1..=NEWEST_REDIS).contains(&version) || (FIRST_VALKEY..=NEWEST).contains(&version)
}

/// Types that mean something else in the later versions of Redis.
fn is_foreign_kind(version: u16, of: u8) -> bool {
    (NEWEST_REDIS + 1..FIRST_VALKEY).contains(&version) && of > kind::STREAM_3
}

fn put(
    loaded: &mut Loaded,
    database: usize,
    key: Vec<u8>,
    entry: Option<Entry>,
    preamble: Preamble,
    options: &Options,
) {
    let Some(mut entry) = entry else { return loaded.empty.push(key) };
    if options.drop_expired && preamble.expire_at_ms.is_some_and(|at| at <= options.now_ms) {
        loaded.expired += 1;
        return loaded.dropped.push((database, key));
    }
    entry.set_expiry(preamble.expire_at_ms);
    if let (Some(times), Some(stream)) = (&preamble.active_times, entry.stream_mut()) {
        streams::set_active_times(stream, times);
    }
    let policy = options.settings.access;
    entry.set_access_clock(match (policy, preamble.frequency, preamble.idle_seconds) {
        (AccessPolicy::Lfu { .. }, Some(frequency), _) => {
            AccessPolicy::clock_of_frequency(frequency, options.now_ms)
        }
        (AccessPolicy::Lru, _, Some(idle)) => AccessPolicy::clock_of_idle(idle, options.now_ms),
        _ => policy.fresh(options.now_ms),
    });
    loaded.keyspace.insert_loaded(database, entry);
    loaded.keys += 1;
}

fn check_sum(source: &mut Source<'_>, version: u16, options: &Options) -> Result<(), RdbError> {
    if version < 5 {
        return Ok(());
    }
    let found = if options.checksum { crc64(source.checksum, &source.buffer[..source.at]) } else { 0 };
    source.sums = false;
    let expected = u64::from_le_bytes(source.array()?);
    if options.checksum && expected != 0 && expected != found {
        return Err(RdbError::Checksum { expected, found });
    }
    Ok(())
}

/// Reads the payload of DUMP into an entry of `key`. `None`: a collection without elements.
pub fn restore(payload: &[u8], key: &[u8], settings: &Settings) -> Result<Option<Entry>, RdbError> {
    let (value, version) = payload_of(payload, settings.takes_other_versions)?;
    let mut input = value;
    let mut source =
        Source { input: &mut input, buffer: Vec::new(), at: 0, checksum: 0, taken: 0, sums: false };
    let kind = source.byte()?;
    if is_foreign_kind(version, kind) {
        return Err(RdbError::UnknownKind(kind));
    }
    let entry = read_value(&mut source, kind, key, &settings.limits)?;
    let all = source.taken as usize == value.len();
    if all { Ok(entry) } else { Err(RdbError::Corrupt("bytes are left over")) }
}

/// The codes of the libraries in a payload of FUNCTION DUMP.
pub fn restore_functions(payload: &[u8], settings: &Settings) -> Result<Vec<Vec<u8>>, RdbError> {
    let (mut input, _) = payload_of(payload, settings.takes_other_versions)?;
    let length = input.len() as u64;
    let mut source =
        Source { input: &mut input, buffer: Vec::new(), at: 0, checksum: 0, taken: 0, sums: false };
    let mut codes = Vec::new();
    while source.taken < length {
        match source.byte()? {
            opcode::FUNCTION => codes.push(source.string()?),
            _ => return Err(RdbError::Corrupt("a function library was expected")),
        }
    }
    Ok(codes)
}

/// What a payload holds before its version and checksum, which are checked; and the version.
fn payload_of(payload: &[u8], takes_others: bool) -> Result<(&[u8], u16), RdbError> {
    let (rest, checksum) = payload.split_last_chunk::<8>().ok_or(RdbError::Signature)?;
    let (value, version) = rest.split_last_chunk::<2>().ok_or(RdbError::Signature)?;
    let version = u16::from_le_bytes(*version);
    if version == 0 || !(takes_others || is_known(version)) {
        return Err(RdbError::Version(version.to_string()));
    }
    let (expected, found) = (u64::from_le_bytes(*checksum), crc64(0, rest));
    if expected != found {
        return Err(RdbError::Checksum { expected, found });
    }
    Ok((value, version))
}

/// `None`: a collection without elements.
fn read_value(
    source: &mut Source<'_>,
    of: u8,
    key: &[u8],
    limits: &Limits,
) -> Result<Option<Entry>, RdbError> {
    let collection = match of {
        kind::STRING => return Ok(Some(Entry::string(key, &source.string()?, None))),
        kind::LIST | kind::LIST_ZIPLIST | kind::LIST_QUICKLIST | kind::LIST_QUICKLIST_LISTPACK => {
            let list = read_list(source, of, limits)?;
            (!list.is_empty()).then_some(Collection::List(list))
        }
        kind::SET | kind::SET_INTSET | kind::SET_LISTPACK => {
            read_set(source, of, limits)?.map(Collection::Set)
        }
        kind::SORTED_SET | kind::SORTED_SET_BINARY | kind::SORTED_SET_ZIPLIST | kind::SORTED_SET_LISTPACK => {
            let sorted_set = read_sorted_set(source, of, limits)?;
            (!sorted_set.is_empty()).then_some(Collection::SortedSet(sorted_set))
        }
        kind::HASH | kind::HASH_ZIPMAP | kind::HASH_ZIPLIST | kind::HASH_LISTPACK | kind::HASH_EXPIRING => {
            let hash = read_hash(source, of, limits)?;
            (!hash.is_empty()).then_some(Collection::Hash(hash))
        }
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 => {
            Some(Collection::Stream(streams::read(source, of)?))
        }
        6 | 7 => return Err(RdbError::Unsupported("a module's value")),
        unknown => return Err(RdbError::UnknownKind(unknown)),
    };
    Ok(collection.map(|collection| Entry::collection(key, collection, None)))
}

fn read_list(source: &mut Source<'_>, of: u8, limits: &Limits) -> Result<List, RdbError> {
    let mut list = List::new();
    let mut push_all = |elements: Vec<Packed<'_>>| {
        for element in elements {
            element.with_text(|text| list.push_back(text, limits));
        }
    };
    match of {
        kind::LIST_ZIPLIST => push_all(encodings::ziplist(&source.string()?)?),
        kind::LIST_QUICKLIST => {
            for _ in 0..source.length()? {
                push_all(encodings::ziplist(&source.string()?)?);
            }
        }
        kind::LIST_QUICKLIST_LISTPACK => {
            for _ in 0..source.length()? {
                let container = source.length()?;
                let node = source.string()?;
                match container {
                    1 => push_all(vec![Packed::Bytes(&node)]),
                    2 => push_all(encodings::listpack(&node)?),
                    _ => return Err(RdbError::Corrupt("unknown quicklist node")),
                }
            }
        }
        _ => {
            for _ in 0..source.length()? {
                push_all(vec![Packed::Bytes(&source.string()?)]);
            }
        }
    }
    Ok(list)
}

fn read_set(source: &mut Source<'_>, of: u8, limits: &Limits) -> Result<Option<Set>, RdbError> {
    let mut set: Option<Set> = None;
    let mut add = |member: &[u8], expected: usize| {
        let set = set.get_or_insert_with(|| Set::new(member, expected, limits));
        if set.insert(member, limits) { Ok(()) } else { Err(RdbError::Corrupt("a set has a member twice")) }
    };
    match of {
        kind::SET_INTSET | kind::SET_LISTPACK => {
            let block = source.string()?;
            let members = if of == kind::SET_INTSET {
                encodings::intset(&block)?
            } else {
                encodings::listpack(&block)?
            };
            let expected = members.len();
            for member in members {
                member.with_text(|text| add(text, expected))?;
            }
        }
        _ => {
            let count = source.length()?;
            let expected = usize::try_from(count).unwrap_or(usize::MAX);
            for _ in 0..count {
                add(&source.string()?, expected.min(TRUSTED))?;
            }
        }
    }
    Ok(set)
}

fn read_sorted_set(source: &mut Source<'_>, of: u8, limits: &Limits) -> Result<SortedSet, RdbError> {
    let mut sorted_set = SortedSet::new();
    let mut add = |member: &[u8], score: f64| {
        if score.is_nan() {
            return Err(RdbError::Corrupt("a score is not a number"));
        }
        let before = sorted_set.len();
        sorted_set.insert(member, score, limits);
        if sorted_set.len() > before {
            Ok(())
        } else {
            Err(RdbError::Corrupt("a sorted set has a member twice"))
        }
    };
    match of {
        kind::SORTED_SET_ZIPLIST | kind::SORTED_SET_LISTPACK => {
            let block = source.string()?;
            let listpack = of == kind::SORTED_SET_LISTPACK;
            let elements = if listpack { encodings::listpack(&block)? } else { encodings::ziplist(&block)? };
            if elements.len() % 2 != 0 {
                return Err(RdbError::Corrupt("a member without a score"));
            }
            for pair in elements.chunks_exact(2) {
                let score = match pair[1] {
                    Packed::Integer(number) => number as f64,
                    Packed::Bytes(text) => {
                        parse_f64(text).ok_or(RdbError::Corrupt("a score is no number"))?
                    }
                };
                pair[0].with_text(|member| add(member, score))?;
            }
        }
        _ => {
            for _ in 0..source.length()? {
                let member = source.string()?;
                let score = match of {
                    kind::SORTED_SET_BINARY => f64::from_le_bytes(source.array()?),
                    _ => source.text_score()?,
                };
                add(&member, score)?;
            }
        }
    }
    Ok(sorted_set)
}

fn read_hash(source: &mut Source<'_>, of: u8, limits: &Limits) -> Result<Hash, RdbError> {
    let mut hash = Hash::new();
    let mut add = |name: &[u8], value: &[u8], expire_at_ms: i64| {
        if !hash.set(name, value, limits) {
            return Err(RdbError::Corrupt("a hash has a field twice"));
        }
        if expire_at_ms >= 0 {
            hash.set_expiry(name, Some(expire_at_ms), limits);
        }
        Ok(())
    };
    match of {
        kind::HASH_ZIPMAP | kind::HASH_ZIPLIST | kind::HASH_LISTPACK => {
            let block = source.string()?;
            let elements = match of {
                kind::HASH_ZIPMAP => encodings::zipmap(&block)?,
                kind::HASH_ZIPLIST => encodings::ziplist(&block)?,
                _ => encodings::listpack(&block)?,
            };
            if elements.len() % 2 != 0 {
                return Err(RdbError::Corrupt("a field without a value"));
            }
            for pair in elements.chunks_exact(2) {
                pair[0].with_text(|name| pair[1].with_text(|value| add(name, value, -1)))?;
            }
        }
        _ => {
            for _ in 0..source.length()? {
                let (name, value) = (source.string()?, source.string()?);
                let expiry = if of == kind::HASH_EXPIRING { i64::from_le_bytes(source.array()?) } else { -1 };
                add(&name, &value, expiry)?;
            }
        }
    }
    Ok(hash)
}
