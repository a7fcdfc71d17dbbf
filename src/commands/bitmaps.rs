//! Strings as arrays of bits: SETBIT, GETBIT, BITCOUNT, BITPOS, BITOP. Bit 0 is the uppermost of the first byte.
//!
//! Invariant: a bit that is set in place costs one byte, however long the string, unless a snapshot shares it.

use super::options::string_changed;
use super::parse::{integer, is};
use crate::base::number::parse_i64;
use crate::command::{Args, Argument, ArgumentKind, DataCommand, Flags, Group, KeySpec, KeyUse, ReadFn};
use crate::keyspace::{Entry, KeyExpiry, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};

const KEY: Argument = Argument::key();
const READ: &[KeySpec] = &[KeySpec::one(1, KeyUse::RO.and(KeyUse::ACCESS))];
const UNIT: Argument =
    Argument::one_of("unit", &[Argument::word("BYTE"), Argument::word("BIT")]).since("7.0.0").optional();
const RANGE: Argument = Argument::block(
    "range",
    &[
        Argument::new("start", ArgumentKind::Integer),
        Argument::block("end-unit-block", &[Argument::new("end", ArgumentKind::Integer), UNIT]).optional(),
    ],
)
.optional();

const fn reading(function: ReadFn) -> DataCommand {
    DataCommand { group: Group::Bitmap, keys: READ, ..DataCommand::read(function) }
}

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "setbit",
        summary: "Sets or clears a bit of a string, which grows if need be.",
        since: "2.2.0",
        group: Group::Bitmap,
        arity: 4,
        flags: Flags::DENYOOM,
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::UPDATE))],
        arguments: &[
            KEY,
            Argument::new("offset", ArgumentKind::Integer),
            Argument::new("value", ArgumentKind::Integer),
        ],
        ..DataCommand::write(setbit)
    },
    DataCommand {
        name: "getbit",
        summary: "A bit of a string.",
        since: "2.2.0",
        arity: 3,
        flags: Flags::FAST,
        arguments: &[KEY, Argument::new("offset", ArgumentKind::Integer)],
        ..reading(getbit)
    },
    DataCommand {
        name: "bitcount",
        summary: "How many bits of a string are set.",
        since: "2.6.0",
        complexity: "O(N), N being the length of the range",
        arity: -2,
        arguments: &[KEY, RANGE],
        history: &[("7.0.0", "BYTE and BIT."), ("8.0.0", "The end of the range may be left out.")],
        ..reading(bitcount)
    },
    DataCommand {
        name: "bitpos",
        summary: "Where in a string the first bit is that is set, or that is not.",
        since: "2.8.7",
        complexity: "O(N), N being the length of the range",
        arity: -3,
        arguments: &[KEY, Argument::new("bit", ArgumentKind::Integer), RANGE],
        history: &[("7.0.0", "BYTE and BIT.")],
        ..reading(bitpos)
    },
    DataCommand {
        name: "bitop",
        summary: "Stores what an operation on the bits of several strings gives.",
        since: "2.6.0",
        complexity: "O(N), N being the length of the longest string, for each of them",
        group: Group::Bitmap,
        arity: -4,
        flags: Flags::DENYOOM,
        keys: &[
            KeySpec::one(2, KeyUse::OW.and(KeyUse::UPDATE)),
            KeySpec::range(3, -1, 1, KeyUse::RO.and(KeyUse::ACCESS)),
        ],
        arguments: &[
            Argument::one_of(
                "operation",
                &[Argument::word("AND"), Argument::word("OR"), Argument::word("XOR"), Argument::word("NOT")],
            ),
            Argument::new("destkey", ArgumentKind::Key),
            KEY.multiple(),
        ],
        ..DataCommand::write(bitop)
    },
];

const OFFSET_ERROR: ErrorReply = ErrorReply::new("ERR bit offset is not an integer or out of range");
const BIT_ERROR: ErrorReply = ErrorReply::new("ERR bit is not an integer or out of range");

/// The place of a bit that may be counted in units of `unit` bits (`#3`). It lies within the longest string allowed, for those who
/// are subject to that.
pub(super) fn bit_offset(
    text: &[u8],
    unit: Option<u64>,
    expiry: KeyExpiry,
    max_string_length: usize,
) -> Result<u64, ErrorReply> {
    let (digits, unit) = match (text, unit) {
        ([b'#', digits @ ..], Some(unit)) => (digits, unit),
        _ => (text, 1),
    };
    let offset = parse_i64(digits).and_then(|offset| u64::try_from(offset).ok()?.checked_mul(unit));
    let offset = offset.filter(|offset| i64::try_from(*offset).is_ok()).ok_or(OFFSET_ERROR)?;
    // What the primary or a file says was allowed where it came from.
    let is_free = expiry == KeyExpiry::Ignore;
    if is_free || ((offset / 8) as usize) < max_string_length { Ok(offset) } else { Err(OFFSET_ERROR) }
}

/// The string at `key` to be edited, of at least so many bytes, and whether it had fewer or is new. Zeros are added.
pub(super) fn grown<'t>(
    transaction: &'t mut WriteTxn<'_>,
    key: &[u8],
    length: usize,
) -> Result<(&'t mut Vec<u8>, bool), ErrorReply> {
    if transaction.string(key)?.is_none() {
        transaction.insert_string(key, b"", None);
    }
    let string = transaction.change_entry(key).and_then(Entry::string_mut).ok_or(ErrorReply::WRONG_TYPE)?;
    let grows = string.len() < length;
    if string.is_empty() {
        // Zeros that the allocator has anyway need not be written.
        *string = vec![0; length];
    } else if grows {
        string.resize(length, 0);
    }
    Ok((string, grows))
}

fn setbit(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let longest = transaction.settings().max_string_length;
    let offset = bit_offset(args[2], None, transaction.expiry, longest)?;
    let bit = match parse_i64(args[3]) {
        Some(bit @ 0..=1) => bit as u8,
        _ => return Err(BIT_ERROR),
    };
    let at = (offset / 8) as usize;
    let shift = 7 - offset % 8;
    let (string, grew) = grown(transaction, key, at + 1)?;
    let old = string[at] >> shift & 1;
    string[at] = string[at] & !(1 << shift) | bit << shift;
    if grew || old != bit {
        string_changed(transaction, "setbit", key);
    }
    Ok(Reply::Integer(old.into()))
}

fn getbit<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let offset = bit_offset(args[2], None, reader.expiry, reader.settings().max_string_length)?;
    let Some(value) = reader.string(args[1])? else { return Ok(Reply::Integer(0)) };
    let byte = value.text().get((offset / 8) as usize).copied().unwrap_or_default();
    Ok(Reply::Integer((byte >> (7 - offset % 8) & 1).into()))
}

/// A range of bits as its bounds are given, to be applied to a string.
struct BitRange {
    start: i64,
    /// To the end of the string, unless given.
    end: Option<i64>,
    in_bits: bool,
}

impl BitRange {
    const ALL: BitRange = BitRange { start: 0, end: None, in_bits: false };

    /// Reads `[start [end [BYTE|BIT]]]`.
    fn parse(words: &[&[u8]]) -> Result<BitRange, ErrorReply> {
        let unit = |word: &[u8]| match () {
            () if is(word, "bit") => Ok(true),
            () if is(word, "byte") => Ok(false),
            () => Err(ErrorReply::SYNTAX),
        };
        Ok(match words {
            [] => BitRange::ALL,
            [start] => BitRange { start: integer(start)?, end: None, in_bits: false },
            [start, end] => BitRange { start: integer(start)?, end: Some(integer(end)?), in_bits: false },
            [start, end, word] => {
                let start = integer(start)?;
                let in_bits = unit(word)?;
                BitRange { start, end: Some(integer(end)?), in_bits }
            }
            _ => return Err(ErrorReply::SYNTAX),
        })
    }

    /// The bits of a string of `length` bytes that the range names; empty if none.
    fn of(&self, length: usize) -> std::ops::Range<usize> {
        let units = length as i64 * if self.in_bits { 8 } else { 1 };
        let from_end = |index: i64| if index < 0 { index.saturating_add(units).max(0) } else { index };
        let start = from_end(self.start);
        let end = self.end.map_or(units - 1, |end| from_end(end).min(units - 1));
        let bits = if self.in_bits { 1 } else { 8 };
        if start > end { 0..0 } else { start as usize * bits..(end as usize + 1) * bits }
    }
}

/// The bytes that hold a range of bits. Bits of the first and the last that are outside of it are those of `outside`.
fn bytes_of(value: &[u8], bits: std::ops::Range<usize>, outside: u8) -> (Option<u8>, &[u8], Option<u8>) {
    let (first, last) = (bits.start / 8, bits.end.div_ceil(8));
    let inside = |at: usize| {
        let from = if at == first { 0xff >> (bits.start % 8) } else { 0xff };
        let to = if at + 1 == last { 0xffu8.wrapping_shl((8 * last - bits.end) as u32) } else { 0xff };
        from & to
    };
    let masked = |at: usize| {
        let mask = inside(at);
        (mask != 0xff).then(|| value[at] & mask | outside & !mask)
    };
    let head = masked(first);
    let tail = if last > first + 1 { masked(last - 1) } else { None };
    let middle = first + usize::from(head.is_some())..last - usize::from(tail.is_some());
    (head, &value[middle], tail)
}

fn bitcount<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let range = BitRange::parse(&args[2..])?;
    let Some(value) = reader.string(args[1])? else { return Ok(Reply::Integer(0)) };
    // Both from the end and the wrong way round: nothing, even if both would be moved to the first byte.
    if range.start < 0 && range.end.is_some_and(|end| end < 0 && range.start > end) {
        return Ok(Reply::Integer(0));
    }
    let value = value.text();
    let bits = range.of(value.len());
    if bits.is_empty() {
        return Ok(Reply::Integer(0));
    }
    let (head, middle, tail) = bytes_of(&value, bits, 0);
    let edges = [head, tail].into_iter().flatten().map(u8::count_ones).sum::<u32>();
    Ok(Reply::Integer(ones(middle) as i64 + i64::from(edges)))
}

fn ones(bytes: &[u8]) -> u64 {
    let (words, rest) = bytes.as_chunks::<8>();
    words.iter().map(|word| u64::from(u64::from_ne_bytes(*word).count_ones())).sum::<u64>()
        + rest.iter().map(|byte| u64::from(byte.count_ones())).sum::<u64>()
}

fn bitpos<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let bit = integer(args[2])?;
    if !(0..=1).contains(&bit) {
        return Err(ErrorReply::new("ERR The bit argument must be 1 or 0."));
    }
    let range = BitRange::parse(&args[3..])?;
    let Some(value) = reader.string(args[1])? else { return Ok(Reply::Integer(-bit)) };
    let value = value.text();
    let bits = range.of(value.len());
    if bits.is_empty() {
        return Ok(Reply::Integer(-1));
    }
    // A byte in which nothing is to be found.
    let skipped = if bit == 0 { 0xff } else { 0 };
    let (head, middle, tail) = bytes_of(&value, bits.clone(), skipped);
    let first = bits.start / 8;
    let middle_at = first + usize::from(head.is_some());
    let found = head.filter(|byte| *byte != skipped).map(|byte| (first, byte));
    let found = found.or_else(|| {
        let at = first_other(middle, skipped)?;
        Some((middle_at + at, middle[at]))
    });
    let found = found.or_else(|| Some((middle_at + middle.len(), tail.filter(|byte| *byte != skipped)?)));
    Ok(Reply::Integer(match found {
        Some((at, byte)) => at as i64 * 8 + i64::from((byte ^ skipped).leading_zeros()),
        // Without an end, what follows a string are zeros.
        None if bit == 0 && range.end.is_none() => bits.end as i64,
        None => -1,
    }))
}

/// Where the first byte is that is not `skipped`.
fn first_other(bytes: &[u8], skipped: u8) -> Option<usize> {
    let (words, rest) = bytes.as_chunks::<32>();
    let word = words.iter().position(|word| *word != [skipped; 32]);
    let from = word.unwrap_or(words.len()) * 32;
    debug_assert!(word.is_some() || bytes.len() - from == rest.len());
    bytes[from..].iter().position(|byte| *byte != skipped).map(|at| from + at)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    And,
    Or,
    Xor,
    Not,
}

impl Operation {
    fn parse(word: &[u8]) -> Result<Operation, ErrorReply> {
        Ok(match () {
            () if is(word, "and") => Operation::And,
            () if is(word, "or") => Operation::Or,
            () if is(word, "xor") => Operation::Xor,
            () if is(word, "not") => Operation::Not,
            () => return Err(ErrorReply::SYNTAX),
        })
    }

    /// Works `other`, after which zeros follow, into `result`, which is at least as long.
    fn apply(self, result: &mut [u8], other: &[u8]) {
        let (common, rest) = result.split_at_mut(other.len());
        let pairs = common.iter_mut().zip(other);
        match self {
            Operation::And => {
                pairs.for_each(|(byte, other)| *byte &= other);
                rest.fill(0);
            }
            Operation::Or => pairs.for_each(|(byte, other)| *byte |= other),
            Operation::Xor => pairs.for_each(|(byte, other)| *byte ^= other),
            Operation::Not => {}
        }
    }
}

fn bitop(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let operation = Operation::parse(args[1])?;
    let (target, sources) = (args[2], &args[3..]);
    if operation == Operation::Not && sources.len() != 1 {
        return Err(ErrorReply::new("ERR BITOP NOT must be called with a single source key."));
    }
    // Expired ones go first, so that all can be looked at together.
    for key in sources {
        transaction.string(key)?;
    }
    let result = combined(&transaction.reader(), operation, sources)?;
    let length = result.len();
    if length > 0 {
        transaction.insert_string(target, b"", None);
        *grown(transaction, target, 0)?.0 = result;
        string_changed(transaction, "set", target);
    } else if transaction.delete(target) {
        transaction.count_changes(1);
    }
    Ok(Reply::Integer(length as i64))
}

/// As long as the longest of the strings.
fn combined(reader: &Reader<'_>, operation: Operation, keys: &[&[u8]]) -> Result<Vec<u8>, ErrorReply> {
    let mut sources = Vec::with_capacity(keys.len());
    for key in keys {
        sources.push(reader.string(key)?.map(|value| value.text()).unwrap_or_default());
    }
    let length = sources.iter().map(|source| source.len()).max().unwrap_or_default();
    let mut result = Vec::with_capacity(length);
    if let [first, others @ ..] = sources.as_slice() {
        result.extend_from_slice(first);
        result.resize(length, 0);
        others.iter().for_each(|other| operation.apply(&mut result, other));
    }
    if operation == Operation::Not {
        result.iter_mut().for_each(|byte| *byte = !*byte);
    }
    Ok(result)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::TestData;
    use crate::keyspace::Settings;
    use proptest::prelude::*;

    #[test]
    fn single_bits() {
        let mut data = TestData::new();
        data.check(
            r#"
            setbit b 7 1 => (integer) 0
            get b => "\x01"
            setbit b 7 1 => (integer) 1
            getbit b 7 => (integer) 1
            getbit b 1000 => (integer) 0
            getbit nothing 0 => (integer) 0
            setbit b 23 0 => (integer) 0
            get b => "\x01\x00\x00"
            set n 1 => OK
            setbit n 6 1 => (integer) 0
            get n => "3"
            setbit b -1 1 => (error) ERR bit offset is not an integer or out of range
            setbit b 4294967296 1 => (error) ERR bit offset is not an integer or out of range
            setbit b 0 2 => (error) ERR bit is not an integer or out of range
            setbit b #1 1 => (error) ERR bit offset is not an integer or out of range
            sadd s a => (integer) 1
            setbit s 0 1 => (error) WRONGTYPE Operation against a key holding the wrong kind of value
            "#,
        );
        data.keyspace.set_settings(Settings { max_string_length: 2, ..*data.keyspace.settings() });
        data.check("setbit c 15 1 => (integer) 0");
        data.check("setbit c 16 1 => (error) ERR bit offset is not an integer or out of range");
        // The primary allowed it.
        data.expiry = KeyExpiry::Ignore;
        data.check("setbit c 16 1 => (integer) 0");
    }

    #[test]
    fn what_changes_nothing_has_no_effect() {
        let mut data = TestData::new();
        data.check("setbit b 1 0 => (integer) 0");
        assert_eq!(
            (data.effects(), data.events()),
            (vec!["setbit b 1 0".into()], vec!["new b".into(), "setbit b".into()])
        );
        data.check("setbit b 1 0 => (integer) 0\nbitop or nothing neither nor => (integer) 0");
        assert_eq!((data.effects().len(), data.events().len()), (0, 0));
        data.check(
            "bitop not b b => (integer) 1\nbitop and b nothing => (integer) 0\nexists b => (integer) 0",
        );
        assert_eq!(data.effects(), ["bitop not b b", "bitop and b nothing"]);
        assert_eq!(data.events(), ["set b", "del b"]);
    }

    #[test]
    fn a_bit_is_set_in_place() {
        let mut data = TestData::new();
        data.run("setbit b 80000000 1");
        let place = |data: &TestData| match data.keyspace.database(0).get(b"b").map(Entry::value) {
            Some(crate::keyspace::ValueRef::String(bytes)) => bytes.as_ptr(),
            _ => panic!("a string"),
        };
        let before = place(&data);
        data.run("setbit b 5 1");
        assert_eq!(place(&data), before);
        let snapshot = data.keyspace.snapshot();
        data.run("setbit b 6 1");
        assert_ne!(place(&data), before);
        drop(snapshot);
    }

    /// Bit by bit, as one would write it down.
    fn model_bits(value: &[u8]) -> Vec<bool> {
        value.iter().flat_map(|byte| (0..8).map(move |bit| byte >> (7 - bit) & 1 == 1)).collect()
    }

    proptest! {
        #[test]
        fn counts_and_positions(value in proptest::collection::vec(prop_oneof![Just(0u8), Just(255), any::<u8>()], 0..100),
            start in -900i64..900, end in proptest::option::of(-900i64..900), in_bits: bool) {
            let range = BitRange { start, end, in_bits };
            let bits = range.of(value.len());
            let all = model_bits(&value);
            prop_assert!(bits.is_empty() || bits.end <= all.len());
            if !bits.is_empty() {
                let (head, middle, tail) = bytes_of(&value, bits.clone(), 0);
                let edges: u32 = [head, tail].into_iter().flatten().map(u8::count_ones).sum();
                let counted = ones(middle) + u64::from(edges);
                prop_assert_eq!(counted, all[bits.clone()].iter().filter(|bit| **bit).count() as u64);
            }
            let mut data = TestData::new();
            data.run_args(&[b"set", b"b", &value]);
            // A numeric text is kept as a number, whose bits are those of its text.
            for bit in [false, true] {
                let mut words = vec!["bitpos".to_owned(), "b".into(), u8::from(bit).to_string(), start.to_string()];
                words.extend(end.map(|end| end.to_string()));
                if end.is_some() && in_bits {
                    words.push("bit".into());
                }
                let range = BitRange { in_bits: in_bits && end.is_some(), ..range };
                let bits = range.of(value.len());
                let found = bits.clone().find(|at| all[*at] == bit).map(|at| at as i64);
                let open = !bit && end.is_none() && !bits.is_empty();
                let expected = found.unwrap_or(if open { all.len() as i64 } else { -1 });
                let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
                prop_assert_eq!(data.run_args(&words), format!("(integer) {expected}"));
            }
        }

        #[test]
        fn operations(sources in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 1..6)) {
            let mut data = TestData::new();
            let names: Vec<String> = (0..sources.len()).map(|index| format!("s{index}")).collect();
            for (name, source) in names.iter().zip(&sources) {
                data.run_args(&[b"set", name.as_bytes(), source]);
            }
            let length = sources.iter().map(Vec::len).max().unwrap_or_default();
            let at = |source: &Vec<u8>, index: usize| source.get(index).copied().unwrap_or_default();
            for (operation, f) in [("and", (|a, b| a & b) as fn(u8, u8) -> u8), ("or", |a, b| a | b), ("xor", |a, b| a ^ b)] {
                let model: Vec<u8> =
                    (0..length).map(|index| sources.iter().map(|source| at(source, index)).reduce(f).unwrap_or_default()).collect();
                data.run(&format!("bitop {operation} d {}", names.join(" ")));
                let expected = if length == 0 { "(nil)".to_owned() } else { format!("\"{}\"", model.escape_ascii()) };
                prop_assert_eq!(data.run("get d"), expected);
            }
        }
    }
}
