//! BITFIELD and BITFIELD_RO: integers of any width at any bit of a string.
//!
//! Invariant: all operations of a call are read and checked before the first is carried out.

use super::bitmaps::{bit_offset, grown};
use super::options::string_changed;
use super::parse::{integer, is};
use crate::base::number::parse_i64;
use crate::command::{Args, Argument, ArgumentKind, DataCommand, Flags, Group, KeyPosition, KeySpec, KeyUse};
use crate::keyspace::{KeyExpiry, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};

const ENCODING: Argument = Argument::new("encoding", ArgumentKind::String);
const OFFSET: Argument = Argument::new("offset", ArgumentKind::Integer);
const GET: Argument = Argument::block("get-block", &[ENCODING, OFFSET]).after("GET");
const OVERFLOW: Argument = Argument::one_of(
    "overflow-block",
    &[Argument::word("WRAP"), Argument::word("SAT"), Argument::word("FAIL")],
)
.after("OVERFLOW")
.optional();
const SET: Argument =
    Argument::block("set-block", &[ENCODING, OFFSET, Argument::new("value", ArgumentKind::Integer)])
        .after("SET");
const INCRBY: Argument =
    Argument::block("incrby-block", &[ENCODING, OFFSET, Argument::new("increment", ArgumentKind::Integer)])
        .after("INCRBY");
const WRITES: KeyUse = KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::UPDATE);
const READS: KeyUse = KeyUse::RO.and(KeyUse::ACCESS);

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "bitfield",
        summary: "Reads and changes integers of any width in a string.",
        since: "3.2.0",
        complexity: "O(1) for each operation",
        group: Group::Bitmap,
        arity: -2,
        flags: Flags::DENYOOM,
        keys: &[KeySpec::one(1, WRITES.and(KeyUse::VARIABLE_FLAGS)).note("With GET alone it only reads.")],
        keys_of: Some(keys_of_bitfield),
        arguments: &[
            Argument::key(),
            Argument::one_of(
                "operation",
                &[
                    GET,
                    Argument::block(
                        "write",
                        &[OVERFLOW, Argument::one_of("write-operation", &[SET, INCRBY])],
                    ),
                ],
            )
            .optional()
            .multiple(),
        ],
        ..DataCommand::write(bitfield)
    },
    DataCommand {
        name: "bitfield_ro",
        summary: "Reads integers of any width in a string.",
        since: "6.0.0",
        complexity: "O(1) for each operation",
        group: Group::Bitmap,
        arity: -2,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, READS)],
        arguments: &[Argument::key(), GET.optional().multiple_token()],
        ..DataCommand::read(bitfield_ro)
    },
];

/// A call that only gets does not change its key.
fn keys_of_bitfield(args: &Args<'_>, keys: &mut Vec<KeyPosition>) {
    let mut words = args.get(2..).unwrap_or_default();
    let mut uses = READS;
    while let [word, rest @ ..] = words {
        if is(word, "get") && rest.len() >= 2 {
            words = &rest[2..];
        } else if is(word, "overflow") && !rest.is_empty() {
            words = &rest[1..];
        } else {
            uses = WRITES;
            break;
        }
    }
    keys.push(KeyPosition { index: 1, uses });
}

/// An integer of 1 to 64 bits; unsigned ones have at most 63.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Encoding {
    signed: bool,
    bits: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overflow {
    Wrap,
    Saturate,
    Fail,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Action {
    Get,
    Set(i64, Overflow),
    Add(i64, Overflow),
}

#[derive(Debug, Clone, Copy)]
struct Operation {
    encoding: Encoding,
    /// The first bit.
    offset: u64,
    action: Action,
}

impl Encoding {
    fn parse(text: &[u8]) -> Result<Encoding, ErrorReply> {
        let error = ErrorReply::new(
            "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.",
        );
        let (signed, most, digits) = match text {
            [b'i', digits @ ..] => (true, 64, digits),
            [b'u', digits @ ..] => (false, 63, digits),
            _ => return Err(error),
        };
        let bits = parse_i64(digits).filter(|bits| (1..=most).contains(bits)).ok_or(error)?;
        Ok(Encoding { signed, bits: bits as u32 })
    }

    /// The least and the greatest number that fit.
    fn bounds(self) -> (i128, i128) {
        if self.signed {
            (-(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1)
        } else {
            (0, (1 << self.bits) - 1)
        }
    }

    /// The number that the lowest bits of `number` are.
    fn wrap(self, number: i128) -> i128 {
        let shift = 128 - self.bits;
        if self.signed { number << shift >> shift } else { ((number as u128) << shift >> shift) as i128 }
    }

    /// A number brought into the bounds. `None`: it does not fit, and that is a failure.
    fn fit(self, number: i128, overflow: Overflow) -> Option<i128> {
        let (least, greatest) = self.bounds();
        if (least..=greatest).contains(&number) {
            return Some(number);
        }
        match overflow {
            Overflow::Wrap => Some(self.wrap(number)),
            Overflow::Saturate => Some(number.clamp(least, greatest)),
            Overflow::Fail => None,
        }
    }

    /// The least numbers of 64 bits are taken for too large ones where they are set saturated. Replicas of either make must agree,
    /// since they are told the call.
    fn as_valkey_sets(self, number: i128, overflow: Overflow) -> i128 {
        let (_, greatest) = self.bounds();
        let is_taken_for_large = self.bits < 64 && greatest - number > i128::from(i64::MAX);
        if overflow == Overflow::Saturate && is_taken_for_large { greatest } else { number }
    }

    /// The number at a bit of `bytes`, behind which zeros follow.
    fn read(self, bytes: &[u8], offset: u64) -> i128 {
        let mut window = [0; 16];
        let from = bytes.get((offset / 8) as usize..).unwrap_or_default();
        let length = from.len().min(9);
        window[..length].copy_from_slice(&from[..length]);
        let bits = u128::from_be_bytes(window) << (offset % 8) >> (128 - self.bits);
        self.wrap(bits as i128)
    }

    /// Writes a number that fits to a bit of `bytes`, which reach that far.
    fn write(self, bytes: &mut [u8], offset: u64, number: i128) {
        let first = (offset / 8) as usize;
        let end = ((offset + u64::from(self.bits)).div_ceil(8) as usize).min(bytes.len());
        let place = &mut bytes[first..end];
        let mut window = [0; 16];
        window[..place.len()].copy_from_slice(place);
        let shift = 128 - self.bits - (offset % 8) as u32;
        let mask = ((1u128 << self.bits) - 1) << shift;
        let bits = u128::from_be_bytes(window) & !mask | (number as u128) << shift & mask;
        place.copy_from_slice(&bits.to_be_bytes()[..place.len()]);
    }
}

/// Reads the operations of a call.
fn operations(
    mut words: &[&[u8]],
    expiry: KeyExpiry,
    max_string_length: usize,
) -> Result<Vec<Operation>, ErrorReply> {
    let mut operations = Vec::new();
    let mut overflow = Overflow::Wrap;
    while let [word, rest @ ..] = words {
        let (length, action): (_, fn(i64, Overflow) -> Action) = match rest.len() {
            2.. if is(word, "get") => (2, |_, _| Action::Get),
            3.. if is(word, "set") => (3, Action::Set),
            3.. if is(word, "incrby") => (3, Action::Add),
            1.. if is(word, "overflow") => {
                overflow = match () {
                    () if is(rest[0], "wrap") => Overflow::Wrap,
                    () if is(rest[0], "sat") => Overflow::Saturate,
                    () if is(rest[0], "fail") => Overflow::Fail,
                    () => return Err(ErrorReply::new("ERR Invalid OVERFLOW type specified")),
                };
                words = &rest[1..];
                continue;
            }
            _ => return Err(ErrorReply::SYNTAX),
        };
        let encoding = Encoding::parse(rest[0])?;
        let offset = bit_offset(rest[1], Some(encoding.bits.into()), expiry, max_string_length)?;
        let number = if length == 3 { integer(rest[2])? } else { 0 };
        operations.push(Operation { encoding, offset, action: action(number, overflow) });
        words = &rest[length..];
    }
    Ok(operations)
}

fn got(bytes: &[u8], operation: &Operation) -> Reply<'static> {
    Reply::Integer(operation.encoding.read(bytes, operation.offset) as i64)
}

fn read_all(bytes: &[u8], operations: &[Operation]) -> Reply<'static> {
    Reply::Array(operations.iter().map(|operation| got(bytes, operation)).collect())
}

fn bitfield_ro<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let operations = operations(&args[2..], reader.expiry, reader.settings().max_string_length)?;
    if operations.iter().any(|operation| operation.action != Action::Get) {
        return Err(ErrorReply::new("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    let value = reader.string(args[1])?.map(|value| value.text()).unwrap_or_default();
    Ok(read_all(&value, &operations))
}

fn bitfield(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let longest = transaction.settings().max_string_length;
    let operations = operations(&args[2..], transaction.expiry, longest)?;
    let ends = operations
        .iter()
        .filter(|operation| operation.action != Action::Get)
        .map(|operation| operation.offset + u64::from(operation.encoding.bits));
    let Some(end) = ends.max() else {
        let value = transaction.string(key)?.map(|value| value.text()).unwrap_or_default();
        return Ok(read_all(&value, &operations));
    };
    let (string, mut changed) = grown(transaction, key, end.div_ceil(8) as usize)?;
    let replies = operations.iter().map(|operation| {
        let (encoding, offset) = (operation.encoding, operation.offset);
        let old = encoding.read(string, offset);
        let (number, overflow) = match operation.action {
            Action::Get => return got(string, operation),
            // An unsigned field takes a negative number for a very large one.
            Action::Set(number, overflow) if encoding.signed => {
                (encoding.as_valkey_sets(number.into(), overflow), overflow)
            }
            Action::Set(number, overflow) => (i128::from(number as u64), overflow),
            Action::Add(number, overflow) => (old + i128::from(number), overflow),
        };
        let Some(new) = encoding.fit(number, overflow) else { return Reply::Nil };
        encoding.write(string, offset, new);
        changed |= old != new;
        let answered = if matches!(operation.action, Action::Set(..)) { old } else { new };
        Reply::Integer(answered as i64)
    });
    let reply = Reply::Array(replies.collect());
    if changed {
        string_changed(transaction, "setbit", key);
    }
    Ok(reply)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::TestData;
    use proptest::prelude::*;

    #[test]
    fn fields() {
        let mut data = TestData::new();
        data.check(
            r#"
            bitfield b => []
            bitfield b get u8 0 => [(integer) 0]
            exists b => (integer) 0
            bitfield b set u8 0 255 get i8 0 get u4 #1 => [(integer) 0, (integer) -1, (integer) 15]
            bitfield b incrby u8 0 10 => [(integer) 9]
            bitfield b overflow sat incrby u8 0 1000 incrby i4 4 100 => [(integer) 255, (integer) 7]
            bitfield b overflow fail incrby u8 0 100 set u8 0 1 => [(nil), (integer) 247]
            bitfield b set i64 1 -9223372036854775808 get i64 1 => [(integer) 144115188075855872, (integer) -9223372036854775808]
            bitfield b overflow sat set u4 0 -1 get u4 0 => [(integer) 4, (integer) 15]
            bitfield b overflow sat set i8 0 -200 get i8 0 => [(integer) -16, (integer) -128]
            bitfield b overflow sat set i8 0 -9223372036854775808 get i8 0 => [(integer) -128, (integer) 127]
            bitfield b set u4 0 15 => [(integer) 7]
            bitfield_ro b get u4 0 => [(integer) 15]
            bitfield_ro b set u4 0 1 => (error) ERR BITFIELD_RO only supports the GET subcommand
            bitfield b get u64 0 => (error) ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
            bitfield b get i65 0 => (error) ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 is.
            bitfield b get u8 -1 => (error) ERR bit offset is not an integer or out of range
            bitfield b get u8 #4611686018427387904 => (error) ERR bit offset is not an integer or out of range
            bitfield b overflow maybe => (error) ERR Invalid OVERFLOW type specified
            bitfield b get u8 => (error) ERR syntax error
            "#,
        );
    }

    #[test]
    fn effects_are_those_that_change_something() {
        let mut data = TestData::new();
        data.check("bitfield b overflow fail set u2 0 7 => [(nil)]");
        // The key is there, so replicas must know.
        assert_eq!(data.effects(), ["bitfield b overflow fail set u2 0 7"]);
        data.check("bitfield b set u2 0 0 get u2 0 => [(integer) 0, (integer) 0]");
        data.check("bitfield b get u2 0 => [(integer) 0]");
        assert!(data.effects().is_empty());
        data.check("bitfield b set u2 0 3 => [(integer) 0]");
        assert_eq!(data.effects(), ["bitfield b set u2 0 3"]);
    }

    proptest! {
        /// Against bits that are moved one by one.
        #[test]
        fn numbers_lie_where_they_are_put(mut bytes in proptest::collection::vec(any::<u8>(), 20..30), offset in 0u64..90,
            bits in 1u32..=64, signed: bool, number: i64) {
            let encoding = Encoding { signed, bits: if signed { bits } else { bits.min(63) } };
            let get = |bytes: &[u8], at: u64| bytes[(at / 8) as usize] >> (7 - at % 8) & 1;
            let before = bytes.clone();
            let number = encoding.wrap(number.into());
            encoding.write(&mut bytes, offset, number);
            prop_assert_eq!(encoding.read(&bytes, offset), number);
            for at in 0..bytes.len() as u64 * 8 {
                let expected = if (offset..offset + u64::from(encoding.bits)).contains(&at) {
                    (number >> (offset + u64::from(encoding.bits) - 1 - at) & 1) as u8
                } else {
                    get(&before, at)
                };
                prop_assert_eq!(get(&bytes, at), expected, "bit {}", at);
            }
        }
    }
}
