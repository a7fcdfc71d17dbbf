//! CLUSTER as a server answers it that is in none: known, documented, and refused, but for KEYSLOT, which is arithmetic.

use super::plain;
use crate::command::{Argument, ArgumentKind, Audience, Categories, Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::call::Call;
use crate::server::table::{HostCommand, HostOutcome};

const ADMIN: Flags = Flags::ADMIN.and(Flags::STALE).and(Flags::NO_ASYNC_LOADING);
const ADMIN_ALWAYS: Flags = Flags::ADMIN.and(Flags::STALE);
const SHOWN: Flags = Flags::LOADING.and(Flags::STALE);
const CHANGING: &[&str] = &["nondeterministic_output"];

const SLOT: Argument = Argument::new("slot", ArgumentKind::Integer);
const NODE_ID: Argument = Argument::new("node-id", ArgumentKind::String);
const FIRST_AND_LAST: &[Argument] =
    &[Argument::new("start-slot", ArgumentKind::Integer), Argument::new("end-slot", ArgumentKind::Integer)];
const RANGE: Argument = Argument::block("range", FIRST_AND_LAST).multiple();
const MIGRATION: &[Argument] = &[
    Argument::new("slotsrange-token", ArgumentKind::PureToken).after("SLOTSRANGE"),
    RANGE,
    Argument::new("node-token", ArgumentKind::PureToken).after("NODE"),
    NODE_ID,
];
const PER_SLOT: &str = "O(N), N being the number of slots";
const PER_NODE: &str = "O(N), N being the number of nodes";

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "cluster",
    summary: "Clusters. This server is in none.",
    since: "3.0.0",
    complexity: "Depends on subcommand",
    group: Group::Cluster,
    ..Command::container(SUBCOMMANDS)
}];

/// One that a server without cluster mode refuses.
const fn refused(name: &'static str, arity: i32, flags: Flags, summary: &'static str) -> HostCommand {
    Command { name, arity, summary, since: "3.0.0", ..plain(Group::Cluster, flags, refuse) }
}

const SUBCOMMANDS: &[HostCommand] = &[
    HostCommand {
        complexity: PER_SLOT,
        arguments: &[SLOT.multiple()],
        ..refused("addslots", -3, ADMIN, "Gives slots to this node.")
    },
    HostCommand {
        since: "7.0.0",
        complexity: PER_SLOT,
        arguments: &[RANGE],
        ..refused("addslotsrange", -4, ADMIN, "Gives ranges of slots to this node.")
    },
    HostCommand {
        tips: CHANGING,
        ..refused("bumpepoch", 2, ADMIN, "Moves the epoch of the configuration on.")
    },
    HostCommand {
        since: "9.0.0",
        complexity: "O(N), N being the number of migrations",
        ..refused("cancelslotmigrations", 2, ADMIN, "Gives up all migrations of slots.")
    },
    HostCommand {
        complexity: "O(N), N being the number of reports",
        arguments: &[NODE_ID],
        tips: CHANGING,
        history: &[("9.0.0", "Reports about a node that has failed do not count.")],
        ..refused("count-failure-reports", 3, ADMIN_ALWAYS, "How many reports there are that a node fails.")
    },
    HostCommand {
        arguments: &[SLOT],
        ..refused("countkeysinslot", 3, Flags::STALE, "How many keys a slot has.")
    },
    HostCommand {
        complexity: PER_SLOT,
        arguments: &[SLOT.multiple()],
        ..refused("delslots", -3, ADMIN, "Takes slots from this node.")
    },
    HostCommand {
        since: "7.0.0",
        complexity: PER_SLOT,
        arguments: &[RANGE],
        ..refused("delslotsrange", -4, ADMIN, "Takes ranges of slots from this node.")
    },
    HostCommand {
        arguments: &[
            Argument::one_of("options", &[Argument::word("FORCE"), Argument::word("TAKEOVER")]).optional()
        ],
        ..refused("failover", -2, ADMIN, "Makes a replica the primary of its slots.")
    },
    HostCommand {
        since: "9.0.0",
        complexity: "O(N), N being the number of keys",
        categories: Categories::KEYSPACE,
        arguments: &[
            SLOT,
            Argument::one_of("flush-type", &[Argument::word("ASYNC"), Argument::word("SYNC")]).optional(),
        ],
        ..refused(
            "flushslot",
            -3,
            Flags::WRITE.and(Flags::ADMIN).and(Flags::NO_ASYNC_LOADING),
            "Deletes the keys of a slot.",
        )
    },
    refused("flushslots", 2, ADMIN, "Takes all slots from this node."),
    HostCommand { arguments: &[NODE_ID], ..refused("forget", 3, ADMIN, "Forgets a node.") },
    HostCommand {
        complexity: "O(N), N being the number of keys asked for",
        arguments: &[SLOT, Argument::new("count", ArgumentKind::Integer)],
        tips: CHANGING,
        ..refused("getkeysinslot", 4, Flags::STALE, "Keys of a slot.")
    },
    HostCommand {
        since: "9.0.0",
        complexity: "O(N), N being the number of migrations",
        ..refused("getslotmigrations", 2, ADMIN, "The migrations of slots.")
    },
    HostCommand { since: "5.0.0", ..refused("help", 2, SHOWN, "What the subcommands do.") },
    HostCommand { tips: CHANGING, ..refused("info", 2, SHOWN, "The state of the cluster.") },
    HostCommand {
        name: "keyslot",
        summary: "The slot that a key would have in a cluster.",
        since: "3.0.0",
        complexity: "O(N), N being the length of the key",
        arity: 3,
        arguments: &[Argument::new("key", ArgumentKind::String)],
        ..plain(Group::Cluster, Flags::STALE, |call| Ok(Reply::Integer(slot_of(call.args[2]).into()).into()))
    },
    HostCommand {
        since: "7.0.0",
        complexity: PER_NODE,
        tips: CHANGING,
        ..refused("links", 2, Flags::STALE, "The connections between nodes.")
    },
    HostCommand {
        arguments: &[
            Argument::new("ip", ArgumentKind::String),
            Argument::new("port", ArgumentKind::Integer),
            Argument::new("cluster-bus-port", ArgumentKind::Integer).since("4.0.0").optional(),
        ],
        history: &[("4.0.0", "The port of the cluster bus.")],
        ..refused("meet", -4, ADMIN, "Lets a node join.")
    },
    HostCommand {
        since: "9.0.0",
        complexity: PER_SLOT,
        arguments: &[Argument::block("migration-group", MIGRATION).multiple()],
        ..refused("migrateslots", -4, ADMIN, "Moves slots to other nodes.")
    },
    refused("myid", 2, SHOWN, "The name of this node."),
    HostCommand {
        since: "7.2.0",
        tips: CHANGING,
        ..refused("myshardid", 2, SHOWN, "The name of this shard.")
    },
    HostCommand {
        complexity: PER_NODE,
        tips: CHANGING,
        ..refused("nodes", 2, SHOWN, "The nodes, as this one sees them.")
    },
    HostCommand {
        since: "5.0.0",
        complexity: "O(N), N being the number of replicas",
        arguments: &[NODE_ID],
        tips: CHANGING,
        ..refused("replicas", 3, ADMIN_ALWAYS, "The replicas of a primary.")
    },
    HostCommand {
        arguments: &[Argument::one_of(
            "args",
            &[
                NODE_ID,
                Argument::block("no-one", &[Argument::word("NO"), Argument::word("ONE")]).since("9.0.0"),
            ],
        )],
        history: &[("9.0.0", "NO ONE.")],
        ..refused("replicate", -3, ADMIN, "Makes this node the replica of a primary.")
    },
    HostCommand {
        complexity: PER_NODE,
        arguments: &[
            Argument::one_of("reset-type", &[Argument::word("HARD"), Argument::word("SOFT")]).optional()
        ],
        ..refused("reset", -2, ADMIN_ALWAYS.and(Flags::NOSCRIPT), "Takes this node out of its cluster.")
    },
    refused("saveconfig", 2, ADMIN, "Writes the cluster's configuration."),
    HostCommand {
        arguments: &[Argument::new("config-epoch", ArgumentKind::Integer)],
        ..refused("set-config-epoch", 3, ADMIN, "Sets the epoch of a new node.")
    },
    HostCommand {
        arguments: &[
            SLOT,
            Argument::one_of(
                "subcommand",
                &[
                    Argument::new("importing", ArgumentKind::String).shown("node-id").after("IMPORTING"),
                    Argument::new("migrating", ArgumentKind::String).shown("node-id").after("MIGRATING"),
                    Argument::new("node", ArgumentKind::String).shown("node-id").after("NODE"),
                    Argument::word("STABLE"),
                ],
            ),
            Argument::new("timeout", ArgumentKind::Integer).after("TIMEOUT").since("8.0.0").optional(),
        ],
        history: &[("8.0.0", "TIMEOUT.")],
        ..refused("setslot", -4, ADMIN, "Gives a slot to a node, or says that it moves.")
    },
    HostCommand {
        since: "7.0.0",
        complexity: PER_NODE,
        tips: CHANGING,
        history: &[("9.1.0", "The shard's name and where nodes are.")],
        ..refused("shards", 2, SHOWN, "The shards with their slots and nodes.")
    },
    HostCommand {
        complexity: "O(N), N being the number of replicas",
        audience: Audience::Nobody { since: "5.0.0", replaced_by: "`CLUSTER REPLICAS`" },
        arguments: &[NODE_ID],
        tips: CHANGING,
        ..refused("slaves", 3, ADMIN_ALWAYS, "The replicas of a primary: the older name of CLUSTER REPLICAS.")
    },
    HostCommand {
        since: "8.0.0",
        complexity: "O(N), N being the number of slots, and O(N*log(N)) to order them",
        arguments: &[Argument::one_of(
            "filter",
            &[
                Argument::block("slotsrange", FIRST_AND_LAST).after("SLOTSRANGE"),
                Argument::block(
                    "orderby",
                    &[
                        Argument::new("metric", ArgumentKind::String),
                        Argument::new("limit", ArgumentKind::Integer).after("LIMIT").optional(),
                        Argument::one_of("order", &[Argument::word("ASC"), Argument::word("DESC")])
                            .optional(),
                    ],
                )
                .after("ORDERBY"),
            ],
        )],
        tips: &["nondeterministic_output", "request_policy:all_shards"],
        ..refused("slot-stats", -4, SHOWN, "What was counted of slots.")
    },
    HostCommand {
        complexity: PER_NODE,
        tips: CHANGING,
        history: &[
            ("4.0.0", "The nodes' names."),
            ("7.0.0", "What else is known of their addresses."),
            ("9.1.0", "Where nodes are."),
        ],
        ..refused("slots", 2, SHOWN, "The slots with their nodes.")
    },
    HostCommand {
        since: "9.0.0",
        complexity: "Depends on subcommand",
        audience: Audience::Servers,
        ..refused("syncslots", -3, ADMIN, "Moves the keys of slots between nodes.")
    },
];

fn refuse(_call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    Err(ErrorReply::new("ERR This instance has cluster support disabled"))
}

/// CRC16 (XMODEM) of the key, or of what stands between its first braces if that is not empty, modulo 16384.
fn slot_of(key: &[u8]) -> u16 {
    let tag = memchr::memchr(b'{', key).and_then(|open| {
        let inside = &key[open + 1..];
        inside.get(..memchr::memchr(b'}', inside)?)
    });
    let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
    let crc = hashed.iter().fold(0u16, |crc, byte| {
        (0..8).fold(
            crc ^ u16::from(*byte) << 8,
            |crc, _| if crc >> 15 == 1 { crc << 1 ^ 0x1021 } else { crc << 1 },
        )
    });
    crc % 16384
}

#[cfg(test)]
mod tests {
    use super::slot_of;

    #[test]
    fn slots_are_those_of_the_cluster_specification() {
        assert_eq!(slot_of(b"123456789"), 0x31c3);
        assert_eq!(slot_of(b"a"), 15495);
        assert_eq!(slot_of(b"x{a}y{b}"), slot_of(b"a"));
        assert_ne!(slot_of(b"{}a"), slot_of(b"a"));
        assert_eq!(slot_of(b""), 0);
    }
}
