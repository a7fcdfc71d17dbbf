//! The table of the commands on keys.

use super::{
    copy, dbsize, delete, exists, flush, frequency, idle_time, keys, kind, move_key, object, randomkey,
    rename, swapdb, touch,
};
use crate::command::{
    Argument, ArgumentKind, Categories, DataCommand, DatabaseArguments, Flags, Group, KeySpec, KeyUse,
    ReadFn, WriteFn,
};
use crate::protocol::Reply;

const KEY: Argument = Argument::key();
const NEW_KEY: Argument = Argument::new("newkey", ArgumentKind::Key);
const FLUSH_TYPE: Argument = Argument::one_of(
    "flush-type",
    &[Argument::word("ASYNC").since("4.0.0"), Argument::word("SYNC").since("6.2.0")],
)
.optional();

const KEY_ASKED: &[KeySpec] = &[KeySpec::one(1, KeyUse::RO)];
const KEYS_ASKED: &[KeySpec] = &[KeySpec::range(1, -1, 1, KeyUse::RO)];
const OBJECT_KEY: &[KeySpec] = &[KeySpec::one(2, KeyUse::RO)];
const KEYS_DELETED: &[KeySpec] = &[KeySpec::range(1, -1, 1, KeyUse::RM.and(KeyUse::DELETE))];
const RENAMED: KeySpec = KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::DELETE));

const fn reading(function: ReadFn) -> DataCommand {
    DataCommand { group: Group::Generic, categories: Categories::KEYSPACE, ..DataCommand::read(function) }
}

const fn writing(function: WriteFn) -> DataCommand {
    DataCommand { group: Group::Generic, categories: Categories::KEYSPACE, ..DataCommand::write(function) }
}

/// On whole databases.
const fn sweeping(function: WriteFn) -> DataCommand {
    DataCommand {
        group: Group::Server,
        categories: Categories::KEYSPACE.and(Categories::DANGEROUS),
        ..DataCommand::write(function)
    }
}

const fn about_object(function: ReadFn) -> DataCommand {
    DataCommand { arity: 3, keys: OBJECT_KEY, arguments: &[KEY], ..reading(function) }
}

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "del",
        summary: "Deletes keys.",
        complexity: "O(N), N being the number of keys; large values are given back in the background",
        arity: -2,
        keys: KEYS_DELETED,
        arguments: &[KEY.multiple()],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        ..writing(delete)
    },
    DataCommand {
        name: "unlink",
        summary: "Deletes keys, whatever their size without delay.",
        since: "4.0.0",
        complexity: "O(N), N being the number of keys; large values are given back in the background",
        arity: -2,
        flags: Flags::FAST,
        keys: KEYS_DELETED,
        arguments: &[KEY.multiple()],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        ..writing(delete)
    },
    DataCommand {
        name: "exists",
        summary: "How many of the keys there are.",
        complexity: "O(N), N being the number of keys",
        arity: -2,
        flags: Flags::FAST,
        keys: KEYS_ASKED,
        arguments: &[KEY.multiple()],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        history: &[("3.0.3", "Takes several keys.")],
        ..reading(exists)
    },
    DataCommand {
        name: "type",
        summary: "The type of what a key holds.",
        arity: 2,
        flags: Flags::FAST,
        keys: KEY_ASKED,
        arguments: &[KEY],
        ..reading(kind)
    },
    DataCommand {
        name: "touch",
        summary: "Marks keys as used just now, and answers how many there are.",
        since: "3.2.1",
        complexity: "O(N), N being the number of keys",
        arity: -2,
        flags: Flags::FAST,
        keys: KEYS_ASKED,
        arguments: &[KEY.multiple()],
        tips: &["request_policy:multi_shard", "response_policy:agg_sum"],
        ..reading(touch)
    },
    DataCommand {
        name: "rename",
        summary: "Gives a key another name; what had that name goes.",
        arity: 3,
        keys: &[RENAMED, KeySpec::one(2, KeyUse::OW.and(KeyUse::UPDATE))],
        arguments: &[KEY, NEW_KEY],
        ..writing(|transaction, args| rename(transaction, args, false).map(|_| Reply::Ok))
    },
    DataCommand {
        name: "renamenx",
        summary: "Gives a key another name if nothing has it.",
        arity: 3,
        flags: Flags::FAST,
        keys: &[RENAMED, KeySpec::one(2, KeyUse::OW.and(KeyUse::INSERT))],
        arguments: &[KEY, NEW_KEY],
        history: &[("3.2.0", "The new name may be the old one.")],
        ..writing(|transaction, args| {
            rename(transaction, args, true).map(|renamed| Reply::Integer(renamed.into()))
        })
    },
    DataCommand {
        name: "copy",
        summary: "Copies a key to another name, in another database if asked.",
        since: "6.2.0",
        complexity: "O(1): copies share their elements until one is changed",
        arity: -3,
        flags: Flags::DENYOOM,
        keys: &[
            KeySpec::one(1, KeyUse::RO.and(KeyUse::ACCESS)),
            KeySpec::one(2, KeyUse::OW.and(KeyUse::UPDATE)),
        ],
        databases: DatabaseArguments::After("DB", 4),
        arguments: &[
            Argument::new("source", ArgumentKind::Key),
            Argument::new("destination", ArgumentKind::Key),
            Argument::new("destination-db", ArgumentKind::Integer).after("DB").optional(),
            Argument::word("REPLACE").optional(),
        ],
        ..writing(copy)
    },
    DataCommand {
        name: "move",
        summary: "Moves a key to another database.",
        arity: 3,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::UPDATE))],
        databases: DatabaseArguments::At(&[2]),
        arguments: &[KEY, Argument::new("db", ArgumentKind::Integer)],
        ..writing(move_key)
    },
    DataCommand {
        name: "randomkey",
        summary: "A key of the database, chosen at random.",
        tips: &["request_policy:all_shards", "response_policy:special", "nondeterministic_output"],
        ..reading(randomkey)
    },
    DataCommand {
        name: "keys",
        summary: "All keys that match a pattern.",
        complexity: "O(N), N being the number of keys in the database",
        arity: 2,
        categories: Categories::KEYSPACE.and(Categories::DANGEROUS),
        arguments: &[Argument::new("pattern", ArgumentKind::Pattern)],
        tips: &["request_policy:all_shards", "nondeterministic_output_order"],
        ..reading(keys)
    },
    DataCommand {
        name: "object",
        summary: "How a value is kept and when it was used.",
        since: "2.2.3",
        complexity: "Depends on subcommand",
        ..DataCommand::container(OBJECT)
    },
    DataCommand {
        name: "dbsize",
        summary: "The number of keys in the database.",
        group: Group::Server,
        flags: Flags::FAST,
        tips: &["request_policy:all_shards", "response_policy:agg_sum"],
        ..reading(dbsize)
    },
    DataCommand {
        name: "flushdb",
        summary: "Deletes all keys of the database.",
        complexity: "O(1): the keys are given back in the background",
        arity: -1,
        arguments: &[FLUSH_TYPE],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        history: &[("4.0.0", "ASYNC."), ("6.2.0", "SYNC.")],
        ..sweeping(|transaction, args| {
            let database = transaction.database;
            flush(transaction, args, Some(database))
        })
    },
    DataCommand {
        name: "flushall",
        summary: "Deletes all keys of all databases.",
        complexity: "O(1): the keys are given back in the background",
        arity: -1,
        flags: Flags::ALL_DBS,
        arguments: &[FLUSH_TYPE],
        tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
        history: &[("4.0.0", "ASYNC."), ("6.2.0", "SYNC.")],
        ..sweeping(|transaction, args| flush(transaction, args, None))
    },
    DataCommand {
        name: "swapdb",
        summary: "Lets two databases change places.",
        since: "4.0.0",
        complexity: "O(N), N being the number of clients that watch keys of the two or wait for them",
        arity: 3,
        flags: Flags::FAST,
        databases: DatabaseArguments::At(&[1, 2]),
        arguments: &[
            Argument::new("index1", ArgumentKind::Integer),
            Argument::new("index2", ArgumentKind::Integer),
        ],
        ..sweeping(swapdb)
    },
];

const OBJECT: &[DataCommand] = &[
    DataCommand {
        name: "encoding",
        summary: "How a value is kept.",
        since: "2.2.3",
        tips: &["nondeterministic_output"],
        ..about_object(|reader, args| {
            object(reader, args, |entry| Ok(Reply::Bulk(entry.encoding().as_bytes())))
        })
    },
    DataCommand {
        name: "freq",
        summary: "How often a key was used lately, on a logarithmic scale.",
        since: "4.0.0",
        tips: &["nondeterministic_output"],
        ..about_object(|reader, args| object(reader, args, |entry| frequency(reader, entry)))
    },
    DataCommand {
        categories: Categories::KEYSPACE,
        ..DataCommand::help("6.2.0", Group::Generic, OBJECT_HELP)
    },
    DataCommand {
        name: "idletime",
        summary: "How many seconds ago a key was last used.",
        since: "2.2.3",
        tips: &["nondeterministic_output"],
        ..about_object(|reader, args| object(reader, args, |entry| idle_time(reader, entry)))
    },
    DataCommand {
        name: "refcount",
        summary: "How many share a value: always one.",
        since: "2.2.3",
        tips: &["nondeterministic_output"],
        ..about_object(|reader, args| object(reader, args, |_| Ok(Reply::Integer(1))))
    },
];

const OBJECT_HELP: &[&str] = &[
    "ENCODING <key>",
    "    Return the form in which the value of <key> is kept.",
    "FREQ <key>",
    "    Return how often <key> was used lately, on a logarithmic scale. Needs an LFU maxmemory policy.",
    "IDLETIME <key>",
    "    Return how many seconds ago <key> was last used. Needs a maxmemory policy other than LFU.",
    "REFCOUNT <key>",
    "    Return how many share the value of <key>.",
];
