//! The script cache: the bodies of all scripts that can be called by their digest. Shared by everyone who
//! starts scripts; compiled forms are in the interpreters and do not concern it.
//!
//! Invariant: at most [`EVAL_CAPACITY`] scripts came by EVAL, the least recently used leave first; those loaded
//! with SCRIPT LOAD stay until a flush.

use std::hash::{Hash, Hasher};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

use hashbrown::HashMap;
use parking_lot::Mutex;
use sha1::{Digest, Sha1};

use super::flags::{ScriptFlags, script_shebang};
use super::statistics::ScriptStatistics;
use crate::protocol::ErrorReply;

/// How many scripts that came by EVAL are kept.
pub const EVAL_CAPACITY: usize = 500;

/// The SHA1 of a script's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ScriptDigest(pub [u8; 20]);

impl Hash for ScriptDigest {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // It is a hash already: any part of it is as good as all.
        state.write_u64(self.0.iter().take(8).fold(0, |bits, byte| bits << 8 | u64::from(*byte)));
    }
}

impl ScriptDigest {
    /// The digest of a body.
    pub fn of(body: &[u8]) -> Self {
        ScriptDigest(Sha1::digest(body).into())
    }

    /// Reads 40 hexadecimal digits of either case.
    pub fn parse(text: &[u8]) -> Option<Self> {
        let text: &[u8; 40] = text.try_into().ok()?;
        let mut digest = [0; 20];
        for (byte, pair) in digest.iter_mut().zip(text.chunks_exact(2)) {
            let digit = |byte: u8| (byte as char).to_digit(16);
            *byte = (digit(pair[0])? << 4 | digit(pair[1])?) as u8;
        }
        Some(ScriptDigest(digest))
    }

    /// 40 lowercase hexadecimal digits.
    pub fn hex(&self) -> [u8; 40] {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        let mut text = [0; 40];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }
}

/// A script's body, with what its first line declares. Never changes, but for what is counted.
#[derive(Debug, PartialEq, Eq)]
pub struct Script {
    digest: ScriptDigest,
    body: Arc<[u8]>,
    flags: ScriptFlags,
    shebang_len: usize,
    statistics: ScriptStatistics,
}

impl Script {
    /// Reads the first line of `body`. Whether the rest compiles is the engine's to say.
    pub fn new(body: impl Into<Arc<[u8]>>) -> Result<Self, ErrorReply> {
        let body = body.into();
        let shebang = script_shebang(&body)?;
        Ok(Script {
            digest: ScriptDigest::of(&body),
            body,
            flags: shebang.flags,
            shebang_len: shebang.len,
            statistics: ScriptStatistics::default(),
        })
    }

    pub fn digest(&self) -> ScriptDigest {
        self.digest
    }

    /// The whole body, as it was sent.
    pub fn body(&self) -> &Arc<[u8]> {
        &self.body
    }

    pub fn flags(&self) -> ScriptFlags {
        self.flags
    }

    /// What is counted of its runs.
    pub fn statistics(&self) -> &ScriptStatistics {
        &self.statistics
    }

    /// The part of the body that Lua compiles.
    pub(super) fn code(&self) -> &[u8] {
        &self.body[self.shebang_len..]
    }
}

/// How a script came into the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// By EVAL: it may be evicted.
    Eval,
    /// By SCRIPT LOAD, the stream or a file: it stays.
    Load,
}

#[derive(Default)]
struct Entries {
    scripts: HashMap<ScriptDigest, Entry, foldhash::fast::RandomState>,
    /// Counts uses; the order of the evictable scripts.
    clock: u64,
    evictable: usize,
    evicted: u64,
    body_bytes: usize,
}

/// What one thread remembers of the loaded script that it ran last, so as to find it again without a lock.
#[derive(Debug)]
pub struct RecentScript {
    generation: u64,
    name: [u8; 40],
    script: Arc<Script>,
}

struct Entry {
    script: Arc<Script>,
    origin: Origin,
    used: u64,
    /// Who follows this server's stream knows it too.
    in_stream: bool,
}

/// A script that was asked for by its digest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FoundScript {
    pub script: Arc<Script>,
    /// It is in use by its digest, and who follows this server's stream has not been told of it.
    pub is_to_be_told: bool,
}

/// A handle to the cache; clones share it.
#[derive(Clone, Default)]
pub struct ScriptCache {
    entries: Arc<Mutex<Entries>>,
    /// Counts the times that loaded scripts were taken away.
    generation: Arc<AtomicU64>,
}

impl ScriptCache {
    /// The script with this digest, which counts as used now.
    pub fn get(&self, digest: &ScriptDigest) -> Option<Arc<Script>> {
        self.entries.lock().used(digest).map(|entry| entry.script.clone())
    }

    /// The script whose digest has these hexadecimal digits; counts as used.
    pub fn find(&self, name: &[u8], recent: &mut Option<RecentScript>) -> Option<FoundScript> {
        let generation = self.generation.load(Acquire);
        if let Some(recent) = recent
            && recent.generation == generation
            && recent.name == name
        {
            return Some(FoundScript { script: recent.script.clone(), is_to_be_told: false });
        }
        let digest = ScriptDigest::parse(name)?;
        let mut entries = self.entries.lock();
        let entry = entries.used(&digest)?;
        // What may be evicted has to be seen to be in use.
        if entry.origin == Origin::Load
            && let Ok(name) = name.try_into()
        {
            *recent = Some(RecentScript { generation, name, script: entry.script.clone() });
        }
        Some(FoundScript { script: entry.script.clone(), is_to_be_told: !entry.in_stream })
    }

    /// Who follows this server's stream is being told of the script.
    pub fn note_told(&self, digest: &ScriptDigest) {
        if let Some(entry) = self.entries.lock().scripts.get_mut(digest) {
            entry.in_stream = true;
        }
    }

    /// The script and its origin, without counting as a use.
    pub fn peek(&self, digest: &ScriptDigest) -> Option<(Arc<Script>, Origin)> {
        let entries = self.entries.lock();
        entries.scripts.get(digest).map(|entry| (entry.script.clone(), entry.origin))
    }

    /// Adds a script that compiles. One that is there and is now loaded with `Origin::Load` is no longer
    /// evicted; nothing makes a loaded one evictable again. Returns the cached script.
    pub fn insert(&self, script: Arc<Script>, origin: Origin) -> Arc<Script> {
        let mut entries = self.entries.lock();
        entries.clock += 1;
        let now = entries.clock;
        if let Some(entry) = entries.scripts.get_mut(&script.digest) {
            entry.used = now;
            let promoted = origin == Origin::Load && entry.origin == Origin::Eval;
            if promoted {
                entry.origin = Origin::Load;
                entry.in_stream = true;
            }
            let script = entry.script.clone();
            entries.evictable -= usize::from(promoted);
            return script;
        }
        if origin == Origin::Eval {
            if entries.evictable >= EVAL_CAPACITY {
                entries.evict();
            }
            entries.evictable += 1;
        }
        entries.body_bytes += script.body.len();
        let in_stream = origin == Origin::Load;
        entries.scripts.insert(script.digest, Entry { script: script.clone(), origin, used: now, in_stream });
        script
    }

    /// SCRIPT FLUSH.
    pub fn clear(&self) {
        let mut entries = self.entries.lock();
        entries.scripts = HashMap::default();
        entries.evictable = 0;
        entries.body_bytes = 0;
        self.generation.fetch_add(1, Release);
    }

    /// All loaded scripts and those by EVAL, in no order: for full syncs and AOF bases.
    pub fn all(&self) -> Vec<(Arc<Script>, Origin)> {
        let entries = self.entries.lock();
        entries.scripts.values().map(|entry| (entry.script.clone(), entry.origin)).collect()
    }

    /// How many scripts are cached.
    pub fn len(&self) -> usize {
        self.entries.lock().scripts.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many scripts were evicted since the start or CONFIG RESETSTAT (`evicted_scripts`).
    pub fn evicted(&self) -> u64 {
        self.entries.lock().evicted
    }

    /// Counts evictions from zero again.
    pub fn reset_evicted(&self) {
        self.entries.lock().evicted = 0;
    }

    /// The bytes that bodies and their entries take (`used_memory_scripts`).
    pub fn memory(&self) -> usize {
        let entries = self.entries.lock();
        let each = std::mem::size_of::<Entry>()
            + std::mem::size_of::<ScriptDigest>()
            + std::mem::size_of::<Script>();
        entries.body_bytes + entries.scripts.len() * each
    }
}

impl Entries {
    fn used(&mut self, digest: &ScriptDigest) -> Option<&mut Entry> {
        self.clock += 1;
        let entry = self.scripts.get_mut(digest)?;
        entry.used = self.clock;
        Some(entry)
    }

    /// Drops the least recently used script that came by EVAL. A walk over the whole cache: it happens once for
    /// each new EVAL body, which costs more to compile.
    fn evict(&mut self) {
        let oldest = self.scripts.iter().filter(|(_, entry)| entry.origin == Origin::Eval);
        let oldest = oldest.min_by_key(|(_, entry)| entry.used).map(|(digest, _)| *digest);
        if let Some(entry) = oldest.and_then(|digest| self.scripts.remove(&digest)) {
            self.body_bytes -= entry.script.body.len();
            self.evictable -= 1;
            self.evicted += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script(body: &str) -> Arc<Script> {
        Arc::new(Script::new(body.as_bytes()).expect("a script"))
    }

    #[test]
    fn digests_are_read_in_either_case() {
        let digest = ScriptDigest::of(b"return 1");
        assert_eq!(&digest.hex(), b"e0e1f9fabfc9d4800c877a703b823ac0578ff8db");
        assert_eq!(ScriptDigest::parse(b"E0E1F9FABFC9D4800C877A703B823AC0578FF8DB"), Some(digest));
        assert_eq!(ScriptDigest::parse(b"e0e1"), None);
        assert_eq!(ScriptDigest::parse(&[b'g'; 40]), None);
    }

    #[test]
    fn the_least_recently_used_eval_script_leaves() {
        let cache = ScriptCache::default();
        let loaded = cache.insert(script("return 'loaded'"), Origin::Load);
        let first = cache.insert(script("return 0"), Origin::Eval);
        let second = cache.insert(script("return 1"), Origin::Eval);
        for n in 2..EVAL_CAPACITY {
            cache.insert(script(&format!("return {n}")), Origin::Eval);
        }
        assert_eq!((cache.len(), cache.evicted()), (EVAL_CAPACITY + 1, 0));
        cache.get(&first.digest()).expect("cached");
        cache.insert(script("return 'one more'"), Origin::Eval);
        assert_eq!((cache.len(), cache.evicted()), (EVAL_CAPACITY + 1, 1));
        assert!(cache.peek(&second.digest()).is_none());
        assert!(cache.peek(&first.digest()).is_some());
        assert!(cache.peek(&loaded.digest()).is_some());
    }

    #[test]
    fn loading_promotes_and_flushing_clears() {
        let cache = ScriptCache::default();
        let one = cache.insert(script("return 1"), Origin::Eval);
        let again = cache.clone().insert(script("return 1"), Origin::Load);
        assert!(Arc::ptr_eq(&one, &again));
        cache.insert(script("return 1"), Origin::Eval);
        assert_eq!(cache.peek(&one.digest()).map(|(_, origin)| origin), Some(Origin::Load));
        assert!(cache.memory() > 8);
        cache.clear();
        assert!(cache.is_empty());
        assert_eq!(cache.memory(), 0);
        cache.insert(script("return 1"), Origin::Eval);
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn a_loaded_script_is_remembered_until_a_flush_and_one_by_eval_is_not() {
        let cache = ScriptCache::default();
        let name = |script: &Script| script.digest().hex();
        let loaded = cache.insert(script("return 1"), Origin::Load);
        let by_eval = cache.insert(script("return 2"), Origin::Eval);
        let mut recent = None;
        let found =
            |script: &Arc<Script>, is_to_be_told| Some(FoundScript { script: script.clone(), is_to_be_told });
        assert_eq!(cache.find(&name(&by_eval), &mut recent), found(&by_eval, true));
        assert!(recent.is_none(), "its uses must be counted");
        for _ in 0..2 {
            assert_eq!(cache.find(&name(&loaded), &mut recent), found(&loaded, false));
            assert!(recent.is_some());
        }
        cache.note_told(&by_eval.digest());
        assert_eq!(cache.find(&name(&by_eval), &mut recent), found(&by_eval, false));
        cache.clone().clear();
        assert_eq!(cache.find(&name(&loaded), &mut recent), None);
    }
}
