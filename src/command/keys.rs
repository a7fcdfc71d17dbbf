//! Where the keys of a call are: key specifications, as COMMAND INFO shows them, and their evaluation.
//!
//! Invariant: evaluation never reads past the arguments, whatever a client sent.

use super::Args;

/// What a command does with a key, as COMMAND INFO names it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUse(pub u16);

impl KeyUse {
    /// Reads the value and changes nothing.
    pub const RO: KeyUse = KeyUse(1 << 0);
    /// Changes the value, depending on what it was.
    pub const RW: KeyUse = KeyUse(1 << 1);
    /// Overwrites the value without looking.
    pub const OW: KeyUse = KeyUse(1 << 2);
    /// Deletes the key.
    pub const RM: KeyUse = KeyUse(1 << 3);
    /// Returns, copies or uses the user data in the value.
    pub const ACCESS: KeyUse = KeyUse(1 << 4);
    pub const UPDATE: KeyUse = KeyUse(1 << 5);
    pub const INSERT: KeyUse = KeyUse(1 << 6);
    pub const DELETE: KeyUse = KeyUse(1 << 7);
    /// The argument is no key, but is routed like one (a shard channel).
    pub const NOT_KEY: KeyUse = KeyUse(1 << 8);
    /// The specification may miss keys.
    pub const INCOMPLETE: KeyUse = KeyUse(1 << 9);
    /// Which flags hold depends on the other arguments.
    pub const VARIABLE_FLAGS: KeyUse = KeyUse(1 << 10);

    const NAMES: [&'static str; 11] = [
        "RO",
        "RW",
        "OW",
        "RM",
        "access",
        "update",
        "insert",
        "delete",
        "not_key",
        "incomplete",
        "variable_flags",
    ];

    pub const fn and(self, other: KeyUse) -> KeyUse {
        KeyUse(self.0 | other.0)
    }

    pub const fn has(self, other: KeyUse) -> bool {
        self.0 & other.0 == other.0
    }

    /// Does the call see user data of the key (ACL's `%R~`)?
    pub const fn reads(self) -> bool {
        self.0 & KeyUse::ACCESS.0 != 0
    }

    /// Does the call change the key (ACL's `%W~`)?
    pub const fn writes(self) -> bool {
        self.0 & (KeyUse::INSERT.0 | KeyUse::DELETE.0 | KeyUse::UPDATE.0) != 0
    }

    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMES.iter().enumerate().filter(move |(bit, _)| self.0 & (1 << bit) != 0).map(|(_, name)| *name)
    }
}

impl std::ops::BitOr for KeyUse {
    type Output = KeyUse;

    fn bitor(self, other: KeyUse) -> KeyUse {
        self.and(other)
    }
}

/// Where the search begins.
#[derive(Debug, Clone, Copy)]
pub enum BeginSearch {
    Index(usize),
    /// After the keyword, searched from this index (negative: from the end, backwards).
    Keyword(&'static str, i32),
    Unknown,
}

/// How keys follow from where the search began.
#[derive(Debug, Clone, Copy)]
pub enum FindKeys {
    /// `last` is relative to the begin; negative counts from the end. `limit`: with `last` -1, only the first 1/limit of the
    /// arguments are keys.
    Range {
        last: i32,
        step: usize,
        limit: usize,
    },
    /// A number of keys stands at `count` (relative to the begin), the first key at `first`.
    Count {
        count: usize,
        first: usize,
        step: usize,
    },
    Unknown,
}

#[derive(Debug, Clone, Copy)]
pub struct KeySpec {
    pub uses: KeyUse,
    pub begin: BeginSearch,
    pub find: FindKeys,
    /// Why the uses are what they are, where that is not plain; empty otherwise.
    pub note: &'static str,
}

impl KeySpec {
    /// One key at `index`.
    pub const fn one(index: usize, uses: KeyUse) -> KeySpec {
        KeySpec {
            uses,
            begin: BeginSearch::Index(index),
            find: FindKeys::Range { last: 0, step: 1, limit: 0 },
            note: "",
        }
    }

    /// Keys from `index` to `last` (relative to `index`, or negative from the end), every `step`.
    pub const fn range(index: usize, last: i32, step: usize, uses: KeyUse) -> KeySpec {
        KeySpec {
            uses,
            begin: BeginSearch::Index(index),
            find: FindKeys::Range { last, step, limit: 0 },
            note: "",
        }
    }

    /// A count at `index`, the keys right after it.
    pub const fn counted(index: usize, uses: KeyUse) -> KeySpec {
        KeySpec {
            uses,
            begin: BeginSearch::Index(index),
            find: FindKeys::Count { count: 0, first: 1, step: 1 },
            note: "",
        }
    }

    /// Keys that no specification can find.
    pub const fn unknown(uses: KeyUse, note: &'static str) -> KeySpec {
        KeySpec { uses, begin: BeginSearch::Unknown, find: FindKeys::Unknown, note }
    }

    pub const fn note(self, note: &'static str) -> KeySpec {
        KeySpec { note, ..self }
    }

    fn positions(&self, args: &Args<'_>, out: &mut Vec<KeyPosition>) -> Result<(), ()> {
        let Some(begin) = self.begin_index(args)? else { return Ok(()) };
        match self.find {
            FindKeys::Range { last, step, limit } => {
                let last = if last >= 0 {
                    begin + last as usize
                } else if limit > 1 {
                    begin + (args.len() - begin) / limit - 1
                } else {
                    args.len().checked_sub(last.unsigned_abs() as usize).ok_or(())?
                };
                if last >= args.len() || last < begin {
                    return Err(());
                }
                out.extend((begin..=last).step_by(step).map(|index| KeyPosition { index, uses: self.uses }));
            }
            FindKeys::Count { count, first, step } => {
                let text = args.get(begin + count).ok_or(())?;
                let number: usize = std::str::from_utf8(text).ok().and_then(|t| t.parse().ok()).ok_or(())?;
                let first = begin + first;
                let end = number.checked_mul(step).and_then(|n| n.checked_add(first)).ok_or(())?;
                if number == 0 || end - step >= args.len() {
                    return Err(());
                }
                out.extend((first..end).step_by(step).map(|index| KeyPosition { index, uses: self.uses }));
            }
            FindKeys::Unknown => return Err(()),
        }
        Ok(())
    }

    /// `None`: the keyword is not there, so there are no keys by this specification.
    fn begin_index(&self, args: &Args<'_>) -> Result<Option<usize>, ()> {
        match self.begin {
            BeginSearch::Index(index) if index < args.len() => Ok(Some(index)),
            BeginSearch::Index(_) => Err(()),
            BeginSearch::Keyword(word, from) => {
                let is_word = |index: &usize| args[*index].eq_ignore_ascii_case(word.as_bytes());
                let found = if from >= 0 {
                    (from as usize..args.len()).find(is_word)
                } else {
                    let start = args.len().saturating_sub(from.unsigned_abs() as usize);
                    (1..=start.min(args.len() - 1)).rev().find(is_word)
                };
                Ok(found.map(|index| index + 1).filter(|index| *index < args.len()))
            }
            BeginSearch::Unknown => Err(()),
        }
    }
}

/// One key of a call: its index in the arguments, and what the command does with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyPosition {
    pub index: usize,
    pub uses: KeyUse,
}

/// The keys of a call by `specs`, in order. `Err`: the arguments do not fit the specifications.
#[expect(clippy::result_unit_err, reason = "the caller's error text says all there is")]
pub fn key_positions(specs: &[KeySpec], args: &Args<'_>) -> Result<Vec<KeyPosition>, ()> {
    let mut positions = Vec::new();
    for spec in specs.iter().filter(|spec| !spec.uses.has(KeyUse::NOT_KEY)) {
        match (spec.positions(args, &mut positions), spec.uses.has(KeyUse::INCOMPLETE)) {
            (Ok(()), _) | (Err(()), true) => {}
            (Err(()), false) => return Err(()),
        }
    }
    Ok(positions)
}

/// Where keys are as older clients understand it: the first, the last (negative: from the end) and the step. All 0: nowhere
/// that this can say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct KeyRange {
    pub first: usize,
    pub last: i32,
    pub step: usize,
    /// Are these all the keys?
    pub is_whole: bool,
}

/// What of the specifications a range can say: of several the plain ones that follow each other.
pub fn key_range(specs: &[KeySpec]) -> KeyRange {
    let mut range = KeyRange { is_whole: true, ..KeyRange::default() };
    for spec in specs {
        let (BeginSearch::Index(first), FindKeys::Range { last, step, .. }) = (spec.begin, spec.find) else {
            range.is_whole = false;
            continue;
        };
        let last = if last >= 0 { first as i32 + last } else { last };
        range.is_whole &= !spec.uses.has(KeyUse::INCOMPLETE);
        if specs.len() == 1 {
            return KeyRange { first, last, step, ..range };
        }
        if step != 1 || (range.first != 0 && range.last + 1 != first as i32) {
            range.is_whole = false;
            continue;
        }
        if range.first == 0 {
            range.first = first;
            range.step = 1;
        }
        range.last = last;
    }
    range
}

#[cfg(test)]
mod tests {
    use super::*;

    fn indexes(specs: &[KeySpec], line: &str) -> Result<Vec<usize>, ()> {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        key_positions(specs, &args).map(|keys| keys.iter().map(|key| key.index).collect())
    }

    #[test]
    fn ranges_counts_and_keywords() {
        assert_eq!(indexes(&[KeySpec::one(1, KeyUse::RO)], "get a"), Ok(vec![1]));
        assert_eq!(indexes(&[KeySpec::one(1, KeyUse::RO)], "get"), Err(()));
        assert_eq!(indexes(&[KeySpec::range(1, -1, 2, KeyUse::OW)], "mset a 1 b 2"), Ok(vec![1, 3]));
        assert_eq!(indexes(&[KeySpec::range(1, -2, 1, KeyUse::RW)], "blpop a b 0"), Ok(vec![1, 2]));
        assert_eq!(indexes(&[KeySpec::counted(2, KeyUse::RW)], "eval x 2 a b c"), Ok(vec![3, 4]));
        assert_eq!(indexes(&[KeySpec::counted(2, KeyUse::RW)], "eval x 4 a b c"), Err(()));
        assert_eq!(indexes(&[KeySpec::counted(2, KeyUse::RW)], "eval x 18446744073709551615 a"), Err(()));
        let streams = KeySpec {
            uses: KeyUse::RO,
            begin: BeginSearch::Keyword("STREAMS", 1),
            find: FindKeys::Range { last: -1, step: 1, limit: 2 },
            note: "",
        };
        assert_eq!(indexes(&[streams], "xread count 1 streams a b 0 0"), Ok(vec![4, 5]));
        assert_eq!(indexes(&[streams], "xread streams a"), Err(()));
        assert_eq!(indexes(&[streams], "xread count 1"), Ok(vec![]));
        assert_eq!(indexes(&[KeySpec::range(2, -2, 1, KeyUse::RW)], "x a b"), Err(()));
    }

    #[test]
    fn ranges_of_older_clients() {
        let range = |specs: &[KeySpec]| {
            let range = key_range(specs);
            (range.first, range.last, range.step, range.is_whole)
        };
        let read = KeyUse::RO;
        let incomplete = read.and(KeyUse::INCOMPLETE);
        assert_eq!(range(&[]), (0, 0, 0, true));
        assert_eq!(range(&[KeySpec::one(2, read)]), (2, 2, 1, true));
        assert_eq!(range(&[KeySpec::range(1, -1, 2, read)]), (1, -1, 2, true));
        assert_eq!(range(&[KeySpec::one(1, incomplete)]), (1, 1, 1, false));
        assert_eq!(range(&[KeySpec::one(1, read), KeySpec::one(2, read)]), (1, 2, 1, true));
        assert_eq!(range(&[KeySpec::one(1, read), KeySpec::range(2, -1, 1, read)]), (1, -1, 1, true));
        assert_eq!(range(&[KeySpec::one(1, read), KeySpec::counted(2, read)]), (1, 1, 1, false));
        assert_eq!(range(&[KeySpec::counted(1, read)]), (0, 0, 0, false));
    }
}
