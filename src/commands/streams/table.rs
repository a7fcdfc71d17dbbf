//! The table of the stream commands.

use super::{claim, edit, groups, info, pending, range, read};
use crate::command::{
    Argument, ArgumentKind, BeginSearch, DataCommand, FindKeys, Flags, Group, KeySpec, KeyUse, ReadFn,
    WriteFn,
};
use crate::types::stream::Direction;

const READ: KeyUse = KeyUse::RO.and(KeyUse::ACCESS);
const UPDATE: KeyUse = KeyUse::RW.and(KeyUse::UPDATE);
const DELETE: KeyUse = KeyUse::RW.and(KeyUse::DELETE);
const INSERT: KeyUse = KeyUse::RW.and(KeyUse::INSERT);
const KEY_READ: &[KeySpec] = &[KeySpec::one(1, READ)];
const KEY_UPDATE: &[KeySpec] = &[KeySpec::one(1, UPDATE)];
const KEY_DELETE: &[KeySpec] = &[KeySpec::one(1, DELETE)];
const INFO_KEY: &[KeySpec] = &[KeySpec::one(2, READ)];

/// The first half of what follows STREAMS.
const fn keys_after_streams(from: i32) -> KeySpec {
    KeySpec {
        uses: READ,
        begin: BeginSearch::Keyword("STREAMS", from),
        find: FindKeys::Range { last: -1, step: 1, limit: 2 },
        note: "",
    }
}

const KEY: Argument = Argument::key();
const ID: Argument = Argument::new("id", ArgumentKind::String);
const GROUP: Argument = Argument::new("group", ArgumentKind::String);
const CONSUMER: Argument = Argument::new("consumer", ArgumentKind::String);
const START: Argument = Argument::new("start", ArgumentKind::String);
const END: Argument = Argument::new("end", ArgumentKind::String);
const COUNT: Argument = Argument::new("count", ArgumentKind::Integer).after("COUNT").optional();
const MIN_IDLE_TIME: Argument = Argument::new("min-idle-time", ArgumentKind::String);
const MILLISECONDS: Argument = Argument::new("milliseconds", ArgumentKind::Integer).after("BLOCK").optional();
const JUSTID: Argument = Argument::word("JUSTID").optional();
const ENTRIES_READ: Argument =
    Argument::new("entriesread", ArgumentKind::Integer).shown("entries-read").after("ENTRIESREAD").optional();
const GROUP_ID: Argument =
    Argument::one_of("id-selector", &[ID, Argument::new("new-id", ArgumentKind::PureToken).after("$")]);
const TRIM: Argument = Argument::block(
    "trim",
    &[
        Argument::one_of("strategy", &[Argument::word("MAXLEN"), Argument::word("MINID").since("6.2.0")]),
        Argument::one_of(
            "operator",
            &[
                Argument::new("equal", ArgumentKind::PureToken).after("="),
                Argument::new("approximately", ArgumentKind::PureToken).after("~"),
            ],
        )
        .optional(),
        Argument::new("threshold", ArgumentKind::String),
        Argument::new("count", ArgumentKind::Integer).after("LIMIT").since("6.2.0").optional(),
    ],
);
const STREAMS: Argument = Argument::block("streams", &[KEY.multiple(), ID.multiple()]).after("STREAMS");

const fn reading(function: ReadFn) -> DataCommand {
    DataCommand { group: Group::Stream, since: "5.0.0", keys: KEY_READ, ..DataCommand::read(function) }
}

const fn writing(function: WriteFn) -> DataCommand {
    DataCommand { group: Group::Stream, since: "5.0.0", ..DataCommand::write(function) }
}

const fn ranging(name: &'static str, summary: &'static str, function: ReadFn) -> DataCommand {
    DataCommand {
        name,
        summary,
        complexity: "O(log(N)+M), N being the number of entries and M the number of those returned",
        arity: -4,
        history: &[("6.2.0", "The ends may be left out of the range.")],
        ..reading(function)
    }
}

const fn of_group(
    name: &'static str,
    summary: &'static str,
    arity: i32,
    uses: &'static [KeySpec],
    function: WriteFn,
) -> DataCommand {
    DataCommand { name, summary, arity, keys: uses, ..writing(function) }
}

const XGROUP: &[DataCommand] = &[
    DataCommand {
        flags: Flags::DENYOOM,
        arguments: &[KEY, GROUP, GROUP_ID, Argument::word("MKSTREAM").optional(), ENTRIES_READ],
        history: &[("7.0.0", "Takes how many entries the group has read.")],
        ..of_group(
            "create",
            "Makes a consumer group.",
            -5,
            const { &[KeySpec::one(2, INSERT)] },
            groups::create,
        )
    },
    DataCommand {
        since: "6.2.0",
        flags: Flags::DENYOOM,
        arguments: &[KEY, GROUP, CONSUMER],
        ..of_group(
            "createconsumer",
            "Makes a consumer of a group.",
            5,
            const { &[KeySpec::one(2, INSERT)] },
            groups::create_consumer,
        )
    },
    DataCommand {
        arguments: &[KEY, GROUP, CONSUMER],
        ..of_group(
            "delconsumer",
            "Takes away a consumer of a group, and what it has not acknowledged.",
            5,
            const { &[KeySpec::one(2, DELETE)] },
            groups::delete_consumer,
        )
    },
    DataCommand {
        complexity: "O(N), N being the number of entries that are not acknowledged",
        arguments: &[KEY, GROUP],
        ..of_group(
            "destroy",
            "Takes away a consumer group.",
            4,
            const { &[KeySpec::one(2, DELETE)] },
            groups::destroy,
        )
    },
    DataCommand {
        arguments: &[KEY, GROUP, GROUP_ID, ENTRIES_READ],
        history: &[("7.0.0", "Takes how many entries the group has read.")],
        ..of_group(
            "setid",
            "Sets how far a group has read.",
            -5,
            const { &[KeySpec::one(2, UPDATE)] },
            groups::set_id,
        )
    },
    DataCommand::help(
        "5.0.0",
        Group::Stream,
        &[
            "CREATE <key> <group> <id|$> [MKSTREAM] [ENTRIESREAD <count>]",
            "    Make a group that reads what comes after an identifier ($: after now), and with",
            "    MKSTREAM the stream too if there is none.",
            "CREATECONSUMER <key> <group> <consumer>",
            "    Make a consumer of a group.",
            "DELCONSUMER <key> <group> <consumer>",
            "    Take away a consumer, and what it has not acknowledged.",
            "DESTROY <key> <group>",
            "    Take away a group.",
            "SETID <key> <group> <id|$> [ENTRIESREAD <count>]",
            "    Set how far a group has read.",
        ],
    ),
];

const XINFO: &[DataCommand] = &[
    DataCommand {
        name: "consumers",
        summary: "The consumers of a group.",
        complexity: "O(N), N being the number of consumers",
        arity: 4,
        keys: INFO_KEY,
        arguments: &[KEY, GROUP],
        tips: &["nondeterministic_output"],
        history: &[("7.2.0", "Says when a consumer last got entries, beside when it last asked.")],
        ..reading(info::consumers)
    },
    DataCommand {
        name: "groups",
        summary: "The groups of a stream.",
        complexity: "O(N), N being the number of groups",
        arity: 3,
        keys: INFO_KEY,
        arguments: &[KEY],
        history: &[("7.0.0", "Says how many entries a group has read, and how many it has not.")],
        ..reading(info::groups)
    },
    DataCommand {
        name: "stream",
        summary: "What there is to know of a stream.",
        complexity: "O(N), N being the number of nodes that hold the entries",
        arity: -3,
        keys: INFO_KEY,
        arguments: &[KEY, Argument::block("full-block", &[Argument::word("FULL"), COUNT]).optional()],
        history: &[
            ("6.0.0", "May tell everything."),
            ("7.0.0", "Tells of deleted entries, and how many a group has read and has not."),
            ("7.2.0", "Says when a consumer last got entries, beside when it last asked."),
        ],
        ..reading(info::of_stream)
    },
    DataCommand::help(
        "5.0.0",
        Group::Stream,
        &[
            "CONSUMERS <key> <group>",
            "    The consumers of a group.",
            "GROUPS <key>",
            "    The groups of a stream.",
            "STREAM <key> [FULL [COUNT <count>]]",
            "    What there is to know of a stream.",
        ],
    ),
];

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "xadd",
        summary: "Adds an entry to a stream, which is made if there is none.",
        complexity: "O(1), and O(N) where N entries are trimmed",
        arity: -5,
        flags: Flags::DENYOOM.and(Flags::FAST),
        keys: &[KeySpec::one(1, UPDATE).note("update, since it may trim")],
        arguments: &[
            KEY,
            Argument::word("NOMKSTREAM").since("6.2.0").optional(),
            TRIM.optional(),
            Argument::one_of(
                "id-selector",
                &[Argument::new("auto-id", ArgumentKind::PureToken).after("*"), ID],
            ),
            Argument::block(
                "data",
                &[Argument::new("field", ArgumentKind::String), Argument::new("value", ArgumentKind::String)],
            )
            .multiple(),
        ],
        tips: &["nondeterministic_output"],
        history: &[
            ("6.2.0", "Can leave a missing stream missing, trim by identifier, and limit a trim."),
            ("7.0.0", "Takes a time whose next number is to be chosen."),
        ],
        ..writing(edit::xadd)
    },
    DataCommand {
        name: "xdel",
        summary: "Deletes entries of a stream.",
        complexity: "O(log(N)) for each entry",
        arity: -3,
        flags: Flags::FAST,
        keys: KEY_DELETE,
        arguments: &[KEY, ID.multiple()],
        ..writing(edit::xdel)
    },
    DataCommand {
        name: "xtrim",
        summary: "Deletes the oldest entries of a stream.",
        complexity: "O(N), N being the number of entries deleted",
        arity: -4,
        keys: KEY_DELETE,
        arguments: &[KEY, TRIM],
        tips: &["nondeterministic_output"],
        history: &[("6.2.0", "Can trim by identifier, and limit a trim.")],
        ..writing(edit::xtrim)
    },
    DataCommand {
        name: "xsetid",
        summary: "Sets what a stream remembers of entries that it no longer has; servers tell each other with it.",
        arity: -3,
        flags: Flags::DENYOOM.and(Flags::FAST),
        keys: KEY_UPDATE,
        arguments: &[
            KEY,
            Argument::new("last-id", ArgumentKind::String),
            Argument::new("entries-added", ArgumentKind::Integer)
                .after("ENTRIESADDED")
                .since("7.0.0")
                .optional(),
            Argument::new("max-deleted-id", ArgumentKind::String)
                .after("MAXDELETEDID")
                .since("7.0.0")
                .optional(),
        ],
        history: &[("7.0.0", "Takes the number of entries added, and the highest identifier deleted.")],
        ..writing(edit::xsetid)
    },
    DataCommand {
        name: "xlen",
        summary: "The number of entries of a stream.",
        arity: 2,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RO)],
        arguments: &[KEY],
        ..reading(range::xlen)
    },
    DataCommand {
        arguments: &[KEY, START, END, COUNT],
        ..ranging("xrange", "The entries of a stream in a range of identifiers.", |reader, args| {
            range::xrange(reader, args, Direction::Forward)
        })
    },
    DataCommand {
        arguments: &[KEY, END, START, COUNT],
        ..ranging(
            "xrevrange",
            "The entries of a stream in a range of identifiers, the newest first.",
            |reader, args| range::xrange(reader, args, Direction::Backward),
        )
    },
    DataCommand {
        name: "xread",
        summary: "The entries of streams after given identifiers, or waits for some.",
        since: "5.0.0",
        complexity: "O(log(N)+M) for each stream, N being its length and M the number of entries returned",
        group: Group::Stream,
        arity: -4,
        keys: &[keys_after_streams(1)],
        arguments: &[COUNT, MILLISECONDS, STREAMS],
        ..DataCommand::blocking_read(read::xread)
    },
    DataCommand {
        name: "xreadgroup",
        summary: "Entries of streams that a consumer of a group gets now, or has not acknowledged; or waits for some.",
        since: "5.0.0",
        complexity: "O(log(N)+M) for each stream, N being its length and M the number of entries returned",
        group: Group::Stream,
        arity: -7,
        keys: &[keys_after_streams(4)],
        arguments: &[
            Argument::block("group-block", &[GROUP, CONSUMER]).after("GROUP"),
            COUNT,
            MILLISECONDS,
            Argument::word("NOACK").optional(),
            STREAMS,
        ],
        ..DataCommand::blocking(read::xreadgroup)
    },
    DataCommand {
        name: "xgroup",
        summary: "Commands about consumer groups.",
        since: "5.0.0",
        complexity: "That of the subcommand.",
        group: Group::Stream,
        ..DataCommand::container(XGROUP)
    },
    DataCommand {
        complexity: "O(log(N)) for each entry, N being the number of those not acknowledged",
        flags: Flags::FAST,
        arguments: &[KEY, GROUP, ID.multiple()],
        ..of_group("xack", "Acknowledges entries that a group was given.", -4, KEY_UPDATE, groups::xack)
    },
    DataCommand {
        complexity: "O(log(N)) for each entry, N being the number of those not acknowledged",
        flags: Flags::FAST,
        arguments: &[
            KEY,
            GROUP,
            CONSUMER,
            MIN_IDLE_TIME,
            ID.multiple(),
            Argument::new("ms", ArgumentKind::Integer).after("IDLE").optional(),
            Argument::new("unix-time-milliseconds", ArgumentKind::UnixTime).after("TIME").optional(),
            Argument::new("count", ArgumentKind::Integer).after("RETRYCOUNT").optional(),
            Argument::word("FORCE").optional(),
            JUSTID,
            Argument::new("lastid", ArgumentKind::String).after("LASTID").optional(),
        ],
        tips: &["nondeterministic_output"],
        ..of_group(
            "xclaim",
            "Gives entries that are not acknowledged to another consumer.",
            -6,
            KEY_UPDATE,
            claim::xclaim,
        )
    },
    DataCommand {
        since: "6.2.0",
        complexity: "O(N), N being the number of entries looked at",
        flags: Flags::FAST,
        arguments: &[KEY, GROUP, CONSUMER, MIN_IDLE_TIME, START, COUNT, JUSTID],
        tips: &["nondeterministic_output"],
        history: &[("7.0.0", "Tells which entries are no longer in the stream.")],
        ..of_group(
            "xautoclaim",
            "Gives entries that have not been acknowledged for some time to another consumer.",
            -6,
            KEY_DELETE,
            claim::xautoclaim,
        )
    },
    DataCommand {
        name: "xpending",
        summary: "The entries that a group was given and has not acknowledged.",
        complexity: "O(log(N)+M), N being the number of these and M the number of those looked at",
        arity: -3,
        arguments: &[
            KEY,
            GROUP,
            Argument::block(
                "filters",
                &[
                    Argument::new("min-idle-time", ArgumentKind::Integer)
                        .after("IDLE")
                        .since("6.2.0")
                        .optional(),
                    START,
                    END,
                    Argument::new("count", ArgumentKind::Integer),
                    CONSUMER.optional(),
                ],
            )
            .optional(),
        ],
        tips: &["nondeterministic_output"],
        history: &[("6.2.0", "Takes how long entries have waited, and leaves ends out of the range.")],
        ..reading(pending::xpending)
    },
    DataCommand {
        name: "xinfo",
        summary: "Commands that tell of streams.",
        since: "5.0.0",
        complexity: "That of the subcommand.",
        group: Group::Stream,
        ..DataCommand::container(XINFO)
    },
];
