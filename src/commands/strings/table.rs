//! The table of the string commands.

use super::super::parse::{integer, is};
use super::edit::{add, append, decrby, incrbyfloat, setrange};
use super::lcs::lcs;
use super::{
    delifeq, get, getdel, getex, getrange, getset, mget, mset, msetex, msetnx, set, set_expiring, setnx,
    strlen,
};
use crate::command::{
    Args, Argument, ArgumentKind, BeginSearch, DataCommand, FindKeys, Flags, Group, KeyPosition, KeySpec,
    KeyUse, ReadFn, WriteFn,
};
use crate::commands::options::{KEEPTTL, NX, TIMES, XX};

const READ: KeyUse = KeyUse::RO.and(KeyUse::ACCESS);
const COUNTED: KeyUse = KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::UPDATE);
const OVERWRITTEN: KeyUse = KeyUse::OW.and(KeyUse::UPDATE);
const INSERTED: KeyUse = KeyUse::OW.and(KeyUse::INSERT);
const KEY_READ: &[KeySpec] = &[KeySpec::one(1, READ)];
const KEY_COUNTED: &[KeySpec] = &[KeySpec::one(1, COUNTED)];

const KEY: Argument = Argument::key();
const VALUE: Argument = Argument::new("value", ArgumentKind::String);
const DATA: Argument = Argument::block("data", &[KEY, VALUE]).multiple();
const START: Argument = Argument::new("start", ArgumentKind::Integer);
const END: Argument = Argument::new("end", ArgumentKind::Integer);
const EXPIRATION: Argument =
    Argument::one_of("expiration", &[TIMES[0], TIMES[1], TIMES[2], TIMES[3], KEEPTTL]).optional();

fn keys_of_set(args: &Args<'_>, keys: &mut Vec<KeyPosition>) {
    let gets = args.iter().skip(3).any(|word| is(word, "get"));
    keys.push(KeyPosition { index: 1, uses: if gets { COUNTED } else { OVERWRITTEN } });
}

const fn reading(function: ReadFn) -> DataCommand {
    DataCommand {
        group: Group::String,
        arity: 2,
        keys: KEY_READ,
        arguments: &[KEY],
        ..DataCommand::read(function)
    }
}

const fn writing(keys: &'static [KeySpec], function: WriteFn) -> DataCommand {
    DataCommand { group: Group::String, keys, flags: Flags::DENYOOM, ..DataCommand::write(function) }
}

const FAST_GROWING: Flags = Flags::DENYOOM.and(Flags::FAST);

pub const COMMANDS: &[DataCommand] = &[
    DataCommand { name: "get", summary: "The string at a key.", flags: Flags::FAST, ..reading(get) },
    DataCommand {
        name: "strlen",
        summary: "The length of a string in bytes.",
        since: "2.2.0",
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RO)],
        ..reading(strlen)
    },
    DataCommand {
        name: "mget",
        summary: "The strings at several keys.",
        complexity: "O(N), N being the number of keys",
        arity: -2,
        flags: Flags::FAST,
        keys: &[KeySpec::range(1, -1, 1, READ)],
        arguments: &[KEY.multiple()],
        tips: &["request_policy:multi_shard"],
        ..reading(mget)
    },
    DataCommand {
        name: "getrange",
        summary: "A part of a string.",
        since: "2.4.0",
        complexity: "O(N), N being the length of the part",
        arity: 4,
        arguments: &[KEY, START, END],
        ..reading(getrange)
    },
    DataCommand {
        name: "substr",
        summary: "A part of a string: the older name of GETRANGE.",
        complexity: "O(N), N being the length of the part",
        arity: 4,
        arguments: &[KEY, START, END],
        ..reading(getrange)
    },
    DataCommand {
        name: "lcs",
        summary: "The longest common subsequence of two strings.",
        since: "7.0.0",
        complexity: "O(N*M), N and M being the lengths of the strings",
        arity: -3,
        keys: &[KeySpec::range(1, 1, 1, READ)],
        arguments: &[
            Argument::new("key1", ArgumentKind::Key),
            Argument::new("key2", ArgumentKind::Key),
            Argument::word("LEN").optional(),
            Argument::word("IDX").optional(),
            Argument::new("min-match-len", ArgumentKind::Integer).after("MINMATCHLEN").optional(),
            Argument::word("WITHMATCHLEN").optional(),
        ],
        ..reading(lcs)
    },
    DataCommand {
        name: "set",
        summary: "Sets a string, whatever the key held; on a condition and with an expiry, if asked.",
        arity: -3,
        arguments: &[
            KEY,
            VALUE,
            Argument::one_of(
                "condition",
                &[
                    NX.since("2.6.12"),
                    XX.since("2.6.12"),
                    Argument {
                        summary: "Set only if this is the value.",
                        ..Argument::new("comparison-value", ArgumentKind::String)
                    }
                    .after("IFEQ")
                    .since("8.1.0"),
                ],
            )
            .optional(),
            Argument::word("GET").since("6.2.0").optional(),
            Argument::one_of(
                "expiration",
                &[
                    TIMES[0].since("2.6.12"),
                    TIMES[1].since("2.6.12"),
                    TIMES[2].since("6.2.0"),
                    TIMES[3].since("6.2.0"),
                    KEEPTTL.since("6.0.0"),
                ],
            )
            .optional(),
        ],
        keys_of: Some(keys_of_set),
        history: &[
            ("2.6.12", "EX, PX, NX and XX."),
            ("6.0.0", "KEEPTTL."),
            ("6.2.0", "GET, EXAT and PXAT."),
            ("7.0.0", "NX and GET together."),
            ("8.1.0", "IFEQ."),
        ],
        ..writing(
            &[KeySpec::one(1, COUNTED.and(KeyUse::VARIABLE_FLAGS))
                .note("RW and access are for GET; without it the key is overwritten.")],
            set,
        )
    },
    DataCommand {
        name: "setnx",
        summary: "Sets a string if there is no such key.",
        arity: 3,
        flags: FAST_GROWING,
        arguments: &[KEY, VALUE],
        ..writing(&[KeySpec::one(1, INSERTED)], setnx)
    },
    DataCommand {
        name: "setex",
        summary: "Sets a string that expires after so many seconds.",
        since: "2.0.0",
        arity: 4,
        arguments: &[KEY, Argument::new("seconds", ArgumentKind::Integer), VALUE],
        ..writing(&[KeySpec::one(1, OVERWRITTEN)], |transaction, args| set_expiring(transaction, args, true))
    },
    DataCommand {
        name: "psetex",
        summary: "Sets a string that expires after so many milliseconds.",
        since: "2.6.0",
        arity: 4,
        arguments: &[KEY, Argument::new("milliseconds", ArgumentKind::Integer), VALUE],
        ..writing(&[KeySpec::one(1, OVERWRITTEN)], |transaction, args| set_expiring(transaction, args, false))
    },
    DataCommand {
        name: "getset",
        summary: "Sets a string and answers the old one.",
        arity: 3,
        flags: FAST_GROWING,
        arguments: &[KEY, VALUE],
        ..writing(&[KeySpec::one(1, COUNTED)], getset)
    },
    DataCommand {
        name: "getex",
        summary: "The string at a key, whose expiry is changed.",
        since: "6.2.0",
        arity: -2,
        flags: Flags::FAST,
        arguments: &[
            KEY,
            Argument::one_of(
                "expiration",
                &[TIMES[0], TIMES[1], TIMES[2], TIMES[3], Argument::word("PERSIST")],
            )
            .optional(),
        ],
        ..writing(&[KeySpec::one(1, COUNTED).note("RW and update are for the expiry.")], getex)
    },
    DataCommand {
        name: "getdel",
        summary: "The string at a key, which is deleted.",
        since: "6.2.0",
        arity: 2,
        flags: Flags::FAST,
        arguments: &[KEY],
        ..writing(&[KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::DELETE))], getdel)
    },
    DataCommand {
        name: "delifeq",
        summary: "Deletes a key if it holds this string.",
        since: "9.0.0",
        arity: 3,
        flags: Flags::FAST,
        arguments: &[KEY, VALUE],
        ..writing(&[KeySpec::one(1, KeyUse::RM.and(KeyUse::DELETE))], delifeq)
    },
    DataCommand {
        name: "mset",
        summary: "Sets several strings.",
        since: "1.0.1",
        complexity: "O(N), N being the number of keys",
        arity: -3,
        arguments: &[DATA],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        ..writing(&[KeySpec::range(1, -1, 2, OVERWRITTEN)], mset)
    },
    DataCommand {
        name: "msetnx",
        summary: "Sets several strings if there is none of the keys.",
        since: "1.0.1",
        complexity: "O(N), N being the number of keys",
        arity: -3,
        arguments: &[DATA],
        ..writing(&[KeySpec::range(1, -1, 2, INSERTED)], msetnx)
    },
    DataCommand {
        name: "msetex",
        summary: "Sets several strings, on a condition and with an expiry, if asked.",
        since: "9.1.0",
        complexity: "O(N), N being the number of keys",
        arity: -4,
        flags: Flags::DENYOOM,
        arguments: &[
            Argument::new("numkeys", ArgumentKind::Integer),
            DATA,
            Argument::one_of("condition", &[NX, XX]).optional(),
            EXPIRATION,
        ],
        tips: &["request_policy:multi_shard", "response_policy:all_succeeded"],
        ..writing(
            &[KeySpec {
                uses: OVERWRITTEN,
                begin: BeginSearch::Index(1),
                note: "",
                find: FindKeys::Count { count: 0, first: 1, step: 2 },
            }],
            msetex,
        )
    },
    DataCommand {
        name: "append",
        summary: "Appends to a string.",
        since: "2.0.0",
        complexity: "O(1) for each byte appended, amortised",
        arity: 3,
        flags: FAST_GROWING,
        arguments: &[KEY, VALUE],
        ..writing(&[KeySpec::one(1, KeyUse::RW.and(KeyUse::INSERT))], append)
    },
    DataCommand {
        name: "setrange",
        summary: "Overwrites a part of a string, which grows if need be.",
        since: "2.2.0",
        complexity: "O(N), N being the length of the part, and of what is filled with zeros",
        arity: 4,
        arguments: &[KEY, Argument::new("offset", ArgumentKind::Integer), VALUE],
        ..writing(&[KeySpec::one(1, KeyUse::RW.and(KeyUse::UPDATE))], setrange)
    },
    DataCommand {
        name: "incr",
        summary: "Adds one to a number.",
        ..counting(|transaction, args| add(transaction, args[1], 1))
    },
    DataCommand {
        name: "decr",
        summary: "Subtracts one from a number.",
        ..counting(|transaction, args| add(transaction, args[1], -1))
    },
    DataCommand {
        name: "incrby",
        summary: "Adds to a number.",
        arity: 3,
        arguments: &[KEY, Argument::new("increment", ArgumentKind::Integer)],
        ..counting(|transaction, args| add(transaction, args[1], integer(args[2])?))
    },
    DataCommand {
        name: "decrby",
        summary: "Subtracts from a number.",
        arity: 3,
        arguments: &[KEY, Argument::new("decrement", ArgumentKind::Integer)],
        ..counting(decrby)
    },
    DataCommand {
        name: "incrbyfloat",
        summary: "Adds to a number that may have a fraction.",
        since: "2.6.0",
        arity: 3,
        arguments: &[KEY, Argument::new("increment", ArgumentKind::Double)],
        ..counting(incrbyfloat)
    },
];

const fn counting(function: WriteFn) -> DataCommand {
    DataCommand { arity: 2, flags: FAST_GROWING, arguments: &[KEY], ..writing(KEY_COUNTED, function) }
}
