//! An index of names of up to sixteen bytes, which is nearly all of them: a name is one number, compared at once.
//!
//! Invariant: no stored key is 0, the mark of an empty slot (a name has at least one byte).

use super::CommandId;

const SLOTS: usize = 1024;

#[derive(Debug)]
pub struct ShortNames {
    slots: Box<[(u128, CommandId)]>,
}

impl Default for ShortNames {
    fn default() -> Self {
        ShortNames { slots: vec![(0, CommandId(0)); SLOTS].into_boxed_slice() }
    }
}

impl ShortNames {
    /// All of `names` that are short. At most half of the slots are ever taken; names beyond that are left out.
    pub fn of<'n>(names: impl Iterator<Item = (&'n [u8], CommandId)>) -> Self {
        let mut index = ShortNames::default();
        let short = names.filter_map(|(name, id)| pack(name).map(|key| (key, id)));
        for (key, id) in short.take(SLOTS / 2) {
            let free = index
                .probe(key)
                .find(|slot| matches!(index.slots[*slot].0, found if found == 0 || found == key));
            if let Some(slot) = free {
                index.slots[slot] = (key, id);
            }
        }
        index
    }

    /// The command of a name in any case. `None` also for names that are not short.
    #[inline]
    pub fn get(&self, name: &[u8]) -> Option<CommandId> {
        let key = pack(name)?;
        for slot in self.probe(key) {
            match self.slots[slot] {
                (found, id) if found == key => return Some(id),
                (0, _) => return None,
                _ => {}
            }
        }
        None
    }

    fn probe(&self, key: u128) -> impl Iterator<Item = usize> + use<> {
        let folded = (key as u64) ^ ((key >> 64) as u64).rotate_left(32);
        // Fibonacci hashing: the high bits of the product depend on all bits of the key.
        let first = (folded.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 54) as usize;
        (0..SLOTS).map(move |step| (first + step) % SLOTS)
    }
}

/// The name in lower case as a number. `None`: it is empty or too long.
#[inline]
fn pack(name: &[u8]) -> Option<u128> {
    let mut bytes = [0u8; 16];
    bytes.get_mut(..name.len()).filter(|_| !name.is_empty())?.copy_from_slice(name);
    bytes.make_ascii_lowercase();
    Some(u128::from_le_bytes(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_in_any_case_and_only_whole() {
        let names = [&b"get"[..], b"getex", b"zremrangebyscore", b"georadiusbymember_ro"];
        let index = ShortNames::of(names.into_iter().zip((0..).map(CommandId)));
        assert_eq!(index.get(b"GeT"), Some(CommandId(0)));
        assert_eq!(index.get(b"getex"), Some(CommandId(1)));
        assert_eq!(index.get(b"ZREMRANGEBYSCORE"), Some(CommandId(2)));
        for missing in [&b""[..], b"ge", b"get\0x", b"georadiusbymember_ro", b"a name that is far too long"] {
            assert_eq!(index.get(missing), None, "{missing:?}");
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
