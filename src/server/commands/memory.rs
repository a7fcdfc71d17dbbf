//! MEMORY: what keys cost.

use crate::base::number::parse_i64;
use crate::command::{Argument, ArgumentKind, Command, Flags, Group, KeySpec, KeyUse};
use crate::protocol::{ErrorReply, Reply};
use crate::server::call::{Call, Reads};
use crate::server::table::{HostCommand, HostHandler, HostOutcome};

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "memory",
    summary: "What keys cost.",
    since: "4.0.0",
    complexity: "Depends on subcommand",
    group: Group::Server,
    ..Command::container(&[
        HostCommand {
            name: "usage",
            summary: "The bytes that a key and its value take.",
            since: "4.0.0",
            complexity: "O(N), N being the number of samples",
            group: Group::Server,
            arity: -3,
            flags: Flags::READONLY,
            keys: &[KeySpec::one(2, KeyUse::RO)],
            arguments: &[
                Argument::key(),
                Argument::new("count", ArgumentKind::Integer).after("SAMPLES").optional(),
            ],
            ..Command::host(HostHandler::Reading(usage))
        },
        HostCommand {
            name: "help",
            summary: "What MEMORY understands.",
            since: "4.0.0",
            group: Group::Server,
            arity: 2,
            flags: Flags::LOADING.and(Flags::STALE),
            ..Command::host(HostHandler::Plain(|call| Ok(super::help(call, HELP).into())))
        },
    ])
}];

const HELP: &[&str] = &[
    "USAGE <key> [SAMPLES <count>]",
    "    Return the bytes that a key and its value take, judged by <count> elements (5 unless given, 0: all).",
];

fn usage(call: &mut Call<'_, '_, Reads>) -> Result<HostOutcome, ErrorReply> {
    let samples = match &call.args[3..] {
        [] => 5,
        [word, count] if word.eq_ignore_ascii_case(b"samples") => {
            let count = parse_i64(count).ok_or(ErrorReply::NOT_AN_INTEGER)?;
            usize::try_from(count).map_err(|_| ErrorReply::SYNTAX)?
        }
        _ => return Err(ErrorReply::SYNTAX),
    };
    let (key, database) = (call.args[2], call.session.database);
    let entry = call.core().keyspace.database(database).get(key);
    Ok(entry.map_or(Reply::Nil, |entry| Reply::Integer(entry.allocated_bytes(samples) as i64)).into())
}
