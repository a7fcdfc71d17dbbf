//! An index of names of up to sixteen bytes, which is nearly all of them: a name is one number, compared at once.
//!
//! Invariants: no stored key has the length 0, the mark of an empty slot; a name is stored in small letters and in
//! capitals, so that only other spellings cost a conversion.

use super::CommandId;

const SLOTS: usize = 2048;

/// A name of up to sixteen bytes: its first and its last bytes, which overlap in most, and its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Key {
    head: u64,
    tail: u64,
    length: usize,
}

#[derive(Debug)]
pub struct ShortNames {
    slots: Box<[(Key, CommandId)]>,
}

impl Default for ShortNames {
    fn default() -> Self {
        ShortNames { slots: vec![(Key::default(), CommandId(0)); SLOTS].into_boxed_slice() }
    }
}

impl ShortNames {
    /// All of `names` that are short. At most half of the slots are ever taken; names beyond that are left out.
    pub fn of<'n>(names: impl Iterator<Item = (&'n [u8], CommandId)>) -> Self {
        let mut index = ShortNames::default();
        for (name, id) in names.filter(|(name, _)| Key::of(name).is_some()).take(SLOTS / 4) {
            for spelling in [name.to_ascii_lowercase(), name.to_ascii_uppercase()] {
                index.insert(&spelling, id);
            }
        }
        index
    }

    fn insert(&mut self, name: &[u8], id: CommandId) {
        let Some(key) = Key::of(name) else { return };
        let is_free = |slot: &usize| self.slots[*slot].0.length == 0 || self.slots[*slot].0 == key;
        if let Some(slot) = probe(key).find(is_free) {
            self.slots[slot] = (key, id);
        }
    }

    /// The command of a name in any case. `None` also for names that are not short.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<CommandId> {
        let key = Key::of(name)?;
        self.find(key).or_else(|| {
            let lower = key.to_lower();
            if lower == key { None } else { self.find(lower) }
        })
    }

    #[inline]
    fn find(&self, key: Key) -> Option<CommandId> {
        for slot in probe(key) {
            let (found, id) = self.slots[slot];
            if found == key {
                return Some(id);
            }
            if found.length == 0 {
                return None;
            }
        }
        None
    }
}

fn probe(key: Key) -> impl Iterator<Item = usize> {
    let folded = key.head ^ key.tail.rotate_left(32) ^ key.length as u64;
    // Fibonacci hashing: the high bits of the product depend on all bits of the key.
    let first = (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 53) as usize;
    (0..SLOTS).map(move |step| (first + step) % SLOTS)
}

impl Key {
    /// `None`: the name is empty or too long.
    #[inline]
    fn of(name: &[u8]) -> Option<Key> {
        let length = name.len();
        let (head, tail) = match length {
            8..=16 => (u64::from_le_bytes(*name.first_chunk()?), u64::from_le_bytes(*name.last_chunk()?)),
            4..=7 => {
                let head = u32::from_le_bytes(*name.first_chunk()?);
                (head.into(), u32::from_le_bytes(*name.last_chunk()?).into())
            }
            1..=3 => {
                let (first, middle, last) = (name[0], name[length / 2], name[length - 1]);
                (u64::from(first) | u64::from(middle) << 8, last.into())
            }
            _ => return None,
        };
        Some(Key { head, tail, length })
    }

    fn to_lower(self) -> Key {
        Key { head: lower(self.head), tail: lower(self.tail), ..self }
    }
}

/// Turns each of the eight bytes that is an ASCII capital into its small letter.
#[inline]
fn lower(bytes: u64) -> u64 {
    const EACH: u64 = 0x0101_0101_0101_0101;
    let low_bits = bytes & (0x7f * EACH);
    // Adding brings the high bit of a byte up if its low bits are at least 'A', or beyond 'Z'.
    let from_a = low_bits + (0x80 - u64::from(b'A')) * EACH;
    let beyond_z = low_bits + (0x80 - u64::from(b'Z') - 1) * EACH;
    let capital = from_a & !beyond_z & !bytes & (0x80 * EACH);
    bytes | capital >> 2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_only_whole() {
        let names = [&b"get"[..], b"getex", b"zremrangebyscore", b"georadiusbymember_ro"];
        let index = ShortNames::of(names.into_iter().zip((0..).map(CommandId)));
        assert_eq!(index.get(b"GeT"), Some(CommandId(0)));
        assert_eq!(index.get(b"GET"), Some(CommandId(0)));
        assert_eq!(index.get(b"getex"), Some(CommandId(1)));
        assert_eq!(index.get(b"ZREMRANGEBYSCORE"), Some(CommandId(2)));
        for missing in [
            &b""[..],
            b"ge",
            b"gett",
            b"gtt",
            b"get\0x",
            b"getexx",
            b"zremrangebyscor",
            b"georadiusbymember_ro",
            b"a name that is far too long",
        ] {
            assert_eq!(index.get(missing), None, "{missing:?}");
        }
    }

    #[test]
    fn only_capitals_become_small() {
        for byte in 0..=255u8 {
            for place in 0..8 {
                let bytes = u64::from(byte) << (8 * place);
                assert_eq!(lower(bytes), u64::from(byte.to_ascii_lowercase()) << (8 * place), "{byte}");
            }
        }
    }

    #[test]
    fn many_names_are_all_found() {
        let names: Vec<String> = (0..500).map(|number| format!("command{number}")).collect();
        let index = ShortNames::of(names.iter().map(|name| name.as_bytes()).zip((0..).map(CommandId)));
        for (number, name) in names.iter().enumerate() {
            assert_eq!(index.get(name.as_bytes()), Some(CommandId(number as u16)));
        }
    }
}
