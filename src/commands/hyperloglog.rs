//! The HyperLogLog commands. How one counts is in `types::hyperloglog`; here it is a string at a key.
//!
//! Invariant: what was added before a corrupt string was noticed is told to replicas, like any other change.

use super::options::string_changed;
use super::parse::is;
use crate::command::{Args, Argument, ArgumentKind, Audience, DataCommand, Flags, Group, KeySpec, KeyUse};
use crate::keyspace::{Entry, EventClasses, Reader, StringValue, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::hyperloglog::{self, Corrupt, Union};

const ELEMENT: Argument = Argument::new("element", ArgumentKind::String).optional().multiple();

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "pfadd",
        summary: "Counts elements in a HyperLogLog.",
        since: "2.8.9",
        complexity: "O(1) for each element",
        group: Group::HyperLogLog,
        arity: -2,
        flags: Flags::DENYOOM.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::INSERT))],
        arguments: &[Argument::key(), ELEMENT],
        ..DataCommand::write(pfadd)
    },
    DataCommand {
        name: "pfcount",
        summary: "Estimates how many different elements one or several HyperLogLogs have counted.",
        since: "2.8.9",
        complexity: "O(N), N being the number of keys; little where one key was counted before",
        group: Group::HyperLogLog,
        arity: -2,
        keys: &[KeySpec::range(1, -1, 1, KeyUse::RW.and(KeyUse::ACCESS))
            .note("RW, since the estimate is kept in the value.")],
        arguments: &[Argument::key().multiple()],
        ..DataCommand::caching(pfcount, pfcount_kept)
    },
    DataCommand {
        name: "pfmerge",
        summary: "Merges HyperLogLogs into one.",
        since: "2.8.9",
        complexity: "O(N), N being the number of keys",
        group: Group::HyperLogLog,
        arity: -2,
        flags: Flags::DENYOOM,
        keys: &[
            KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::INSERT)),
            KeySpec::range(2, -1, 1, KeyUse::RO.and(KeyUse::ACCESS)),
        ],
        arguments: &[
            Argument::new("destkey", ArgumentKind::Key),
            Argument::new("sourcekey", ArgumentKind::Key).optional().multiple(),
        ],
        ..DataCommand::write(pfmerge)
    },
    DataCommand {
        name: "pfdebug",
        summary: "Looks into a HyperLogLog, or makes it dense.",
        since: "2.8.9",
        complexity: "N/A",
        group: Group::HyperLogLog,
        arity: 3,
        flags: Flags::DENYOOM.and(Flags::ADMIN),
        keys: &[KeySpec::one(2, KeyUse::RW.and(KeyUse::ACCESS))],
        arguments: &[Argument::new("subcommand", ArgumentKind::String), Argument::key()],
        audience: Audience::Servers,
        ..DataCommand::write(pfdebug)
    },
];

const NOT_ONE: ErrorReply = ErrorReply::new("WRONGTYPE Key is not a valid HyperLogLog string value.");

impl From<Corrupt> for ErrorReply {
    fn from(_: Corrupt) -> Self {
        ErrorReply::new("INVALIDOBJ Corrupted HLL object detected")
    }
}

/// The bytes of a HyperLogLog, if the string is one.
fn valid<'k>(value: StringValue<'k>) -> Result<&'k [u8], ErrorReply> {
    match value {
        StringValue::Bytes(bytes) if hyperloglog::is_valid(bytes) => Ok(bytes),
        _ => Err(NOT_ONE),
    }
}

/// The HyperLogLog at `key`, to be read.
fn look<'t>(transaction: &'t mut WriteTxn<'_>, key: &[u8]) -> Result<Option<&'t [u8]>, ErrorReply> {
    transaction.string(key)?.map(valid).transpose()
}

/// The HyperLogLog at `key`, which is there, to be changed.
fn edited<'t>(transaction: &'t mut WriteTxn<'_>, key: &[u8]) -> Result<&'t mut Vec<u8>, ErrorReply> {
    transaction.change_entry(key).and_then(Entry::string_mut).ok_or(NOT_ONE)
}

/// Puts an empty one at `key` if there is nothing. `true`: there was nothing.
fn make_if_missing(transaction: &mut WriteTxn<'_>, key: &[u8]) -> Result<bool, ErrorReply> {
    if look(transaction, key)?.is_some() {
        return Ok(false);
    }
    transaction.insert_string(key, &hyperloglog::empty(), None);
    Ok(true)
}

fn pfadd(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let most_sparse = transaction.limits().hll_sparse_max_bytes;
    let mut changes = u64::from(make_if_missing(transaction, key)?);
    let value = edited(transaction, key)?;
    let mut added = Ok(());
    for element in &args[2..] {
        match hyperloglog::add(value, element, most_sparse) {
            Ok(changed) => changes += u64::from(changed),
            Err(corrupt) => {
                added = Err(corrupt);
                break;
            }
        }
    }
    if changes > 0 {
        hyperloglog::invalidate(value);
        transaction.changed(EventClasses::STRING, "pfadd", key, changes);
    }
    added?;
    Ok(Reply::Integer(i64::from(changes > 0)))
}

/// PFCOUNT where nothing may be written.
fn pfcount<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    if let [_, key] = args {
        let Some(value) = reader.string(key)? else { return Ok(Reply::Integer(0)) };
        let value = valid(value)?;
        let count = hyperloglog::cached(value).map_or_else(|| hyperloglog::count(value), Ok)?;
        return Ok(Reply::Integer(count as i64));
    }
    let mut union = Union::default();
    for key in &args[1..] {
        if let Some(value) = reader.string(key)? {
            union.add(valid(value)?)?;
        }
    }
    Ok(Reply::Integer(union.count() as i64))
}

/// PFCOUNT that keeps the estimate in the value, for the next one.
fn pfcount_kept(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    // Expired keys go, as with any command that may write.
    for key in &args[1..] {
        transaction.contains(key);
    }
    let Reply::Integer(count) = pfcount(&transaction.reader(), args)? else { return Ok(Reply::Integer(0)) };
    if let [_, key] = args
        && look(transaction, key)?.is_some_and(|value| hyperloglog::cached(value).is_none())
    {
        hyperloglog::set_cached(edited(transaction, key)?, count as u64);
        transaction.touched(key);
        transaction.count_changes(1);
    }
    Ok(Reply::Integer(count))
}

fn pfmerge(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let most_sparse = transaction.limits().hll_sparse_max_bytes;
    let mut union = Union::default();
    for key in &args[1..] {
        if let Some(value) = look(transaction, key)? {
            union.add(value)?;
        }
    }
    make_if_missing(transaction, key)?;
    union.write_to(edited(transaction, key)?, most_sparse)?;
    string_changed(transaction, "pfadd", key);
    Ok(Reply::Ok)
}

fn pfdebug(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (word, key) = (args[1], args[2]);
    let Some(value) = look(transaction, key)? else {
        return Err(ErrorReply::new("ERR The specified key does not exist"));
    };
    let was_dense = hyperloglog::is_dense(value);
    if is(word, "getreg") {
        make_dense(transaction, key, was_dense)?;
        let registers = look(transaction, key)?.map(hyperloglog::dense_registers);
        let registers = registers.into_iter().flatten();
        return Ok(Reply::Array(registers.map(|register| Reply::Integer(register.into())).collect()));
    }
    if is(word, "decode") {
        if was_dense {
            return Err(ErrorReply::new("ERR HLL encoding is not sparse"));
        }
        return Ok(Reply::Owned(hyperloglog::describe_sparse(value).into_bytes()));
    }
    if is(word, "encoding") {
        return Ok(Reply::Status(if was_dense { "dense" } else { "sparse" }.into()));
    }
    if is(word, "todense") {
        make_dense(transaction, key, was_dense)?;
        return Ok(Reply::Integer(i64::from(!was_dense)));
    }
    Err(ErrorReply::from_text([b"ERR Unknown PFDEBUG subcommand '", word, b"'"].concat()))
}

fn make_dense(transaction: &mut WriteTxn<'_>, key: &[u8], was_dense: bool) -> Result<(), ErrorReply> {
    if !was_dense {
        hyperloglog::make_dense(edited(transaction, key)?)?;
        transaction.touched(key);
        transaction.count_changes(1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::commands::testing::TestData;
    use crate::keyspace::{KeyExpiry, Reader};
    use crate::protocol::{Protocol, Reply};

    #[test]
    fn counting_and_merging() {
        let mut data = TestData::new();
        data.check(
            r#"
            pfcount nothing => (integer) 0
            pfadd h => (integer) 1
            pfadd h => (integer) 0
            pfadd h a b c => (integer) 1
            pfadd h c b => (integer) 0
            pfcount h => (integer) 3
            pfcount h => (integer) 3
            pfadd g c d => (integer) 1
            pfcount h g nothing => (integer) 4
            pfmerge u h g => OK
            pfcount u => (integer) 4
            pfmerge new => OK
            pfcount new => (integer) 0
            pfdebug encoding h => sparse
            pfdebug decode new => "Z:16384"
            pfdebug todense h => (integer) 1
            pfdebug todense h => (integer) 0
            pfdebug encoding h => dense
            pfdebug decode h => (error) ERR HLL encoding is not sparse
            pfdebug nonsense h => (error) ERR Unknown PFDEBUG subcommand 'nonsense'
            pfdebug encoding nothing => (error) ERR The specified key does not exist
            set s text => OK
            pfadd s a => (error) WRONGTYPE Key is not a valid HyperLogLog string value.
            sadd t a => (integer) 1
            pfcount t h => (error) WRONGTYPE Operation against a key holding the wrong kind of value
            "#,
        );
    }

    #[test]
    fn an_estimate_is_kept_once_and_told_to_replicas() {
        let mut data = TestData::new();
        data.check("pfadd h a b => (integer) 1");
        data.effects();
        data.check("pfcount h => (integer) 2");
        assert_eq!(data.effects(), ["pfcount h"]);
        data.check("pfcount h => (integer) 2\npfcount h h => (integer) 2");
        assert!(data.effects().is_empty());
        data.check("pfadd h a => (integer) 0\npfmerge h => OK");
        assert_eq!(data.effects(), ["pfmerge h"]);
        assert_eq!(data.events(), ["new h", "pfadd h", "pfadd h"]);
    }

    #[test]
    fn a_replica_estimates_without_keeping() {
        let mut data = TestData::new();
        data.check("pfadd h a b => (integer) 1");
        let reader = Reader {
            keyspace: &data.keyspace,
            database: 0,
            now_ms: data.now_ms,
            protocol: Protocol::Resp2,
            expiry: KeyExpiry::Hide,
            touch: true,
            counters: None,
        };
        for _ in 0..2 {
            let reply = super::pfcount(&reader, &[b"pfcount", b"h"]);
            assert!(matches!(reply, Ok(Reply::Integer(2))));
        }
    }

    #[test]
    fn corrupt_ones_are_refused() {
        let mut data = TestData::new();
        let corrupt = [b"HYLL\x01\0\0\0\0\0\0\0\0\0\0\x80".as_slice(), b"\x7f\xf0"].concat();
        data.run_args(&[b"set", b"h", &corrupt]);
        let error = "(error) INVALIDOBJ Corrupted HLL object detected";
        for line in ["pfcount h", "pfcount h h", "pfmerge u h", "pfdebug getreg h", "pfdebug todense h"] {
            assert_eq!(data.run(line), error, "{line}");
        }
        assert_eq!(data.run("exists u"), "(integer) 0");
    }
}
