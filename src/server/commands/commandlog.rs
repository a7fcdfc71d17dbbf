//! COMMANDLOG and SLOWLOG: the calls that stood out. SLOWLOG is the part of it that was there first.

use crate::base::number::parse_i64;
use crate::command::{Argument, ArgumentKind, Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::call::Call;
use crate::server::command_log::{Log, LoggedCall, Standout};
use crate::server::table::{HostCommand, HostHandler, HostOutcome, PlainFn};

const ADMIN: Flags = Flags::ADMIN.and(Flags::LOADING).and(Flags::STALE);
const COMPLEXITY: &str = "O(N), N being the number of entries";
const GET_TIPS: &[&str] = &["request_policy:all_nodes", "nondeterministic_output"];
const LEN_TIPS: &[&str] = &["request_policy:all_nodes", "response_policy:agg_sum", "nondeterministic_output"];
const RESET_TIPS: &[&str] = &["request_policy:all_nodes", "response_policy:all_succeeded"];
const TYPE: Argument = Argument::one_of(
    "type",
    &[Argument::word("SLOW"), Argument::word("LARGE-REQUEST"), Argument::word("LARGE-REPLY")],
);

pub const COMMANDS: &[HostCommand] = &[
    HostCommand {
        name: "commandlog",
        summary: "The commands that were slow or large.",
        since: "8.1.0",
        complexity: "Depends on subcommand",
        group: Group::Server,
        ..Command::container(&[
            HostCommand {
                name: "get",
                summary: "The newest entries of a log.",
                since: "8.1.0",
                complexity: COMPLEXITY,
                arity: 4,
                arguments: &[Argument::new("count", ArgumentKind::Integer), TYPE],
                tips: GET_TIPS,
                ..command(|call| {
                    let count = count(call.args[2])?;
                    Ok(newest(log(call, call.args[3])?, count).into())
                })
            },
            HostCommand {
                name: "len",
                summary: "How many entries a log has.",
                since: "8.1.0",
                arity: 3,
                arguments: &[TYPE],
                tips: LEN_TIPS,
                ..command(|call| Ok(Reply::Integer(log(call, call.args[2])?.len() as i64).into()))
            },
            HostCommand {
                name: "reset",
                summary: "Forgets the entries of a log.",
                since: "8.1.0",
                complexity: COMPLEXITY,
                arity: 3,
                arguments: &[TYPE],
                tips: RESET_TIPS,
                ..command(|call| {
                    log(call, call.args[2])?.clear();
                    Ok(Reply::Ok.into())
                })
            },
            Command::help("8.1.0", Group::Server, HELP),
        ])
    },
    HostCommand {
        name: "slowlog",
        summary: "The log of slow commands.",
        since: "2.2.12",
        complexity: "Depends on subcommand",
        group: Group::Server,
        ..Command::container(&[
            HostCommand {
                name: "get",
                summary: "The newest slow commands.",
                since: "2.2.12",
                complexity: COMPLEXITY,
                arity: -2,
                arguments: &[Argument::new("count", ArgumentKind::Integer).optional()],
                tips: GET_TIPS,
                history: &[("4.0.0", "The client's address and name are answered too.")],
                ..command(slowlog_get)
            },
            HostCommand {
                name: "len",
                summary: "How many slow commands are kept.",
                since: "2.2.12",
                arity: 2,
                tips: LEN_TIPS,
                ..command(|call| Ok(Reply::Integer(slow_log(call).len() as i64).into()))
            },
            HostCommand {
                name: "reset",
                summary: "Forgets the slow commands.",
                since: "2.2.12",
                complexity: COMPLEXITY,
                arity: 2,
                tips: RESET_TIPS,
                ..command(|call| {
                    slow_log(call).clear();
                    Ok(Reply::Ok.into())
                })
            },
            Command::help("6.2.0", Group::Server, SLOWLOG_HELP),
        ])
    },
];

const HELP: &[&str] = &[
    "GET <count> <type>",
    "    Return the newest <count> entries of a log (-1 means all). An entry is: its number, when it was, how many",
    "    microseconds it took (slow) or how many bytes it had (large-request, large-reply), the arguments, the client's",
    "    address and name.",
    "LEN <type>",
    "    Return how many entries a log has.",
    "RESET <type>",
    "    Forget the entries of a log.",
];

const SLOWLOG_HELP: &[&str] = &[
    "GET [<count>]",
    "    Return the newest <count> entries (10 unless given, -1 means all). An entry is: its number, when it was,",
    "    how many microseconds it took, the arguments, the client's address and name.",
    "LEN",
    "    Return how many entries there are.",
    "RESET",
    "    Forget all entries.",
];

const fn command(function: PlainFn) -> HostCommand {
    Command { group: Group::Server, flags: ADMIN, ..Command::host(HostHandler::Plain(function)) }
}

fn slow_log<'s>(call: &Call<'_, 's>) -> &'s Log {
    call.server().command_log.of(Standout::Slow)
}

fn log<'s>(call: &Call<'_, 's>, kind: &[u8]) -> Result<&'s Log, ErrorReply> {
    let standout = match kind.to_ascii_lowercase().as_slice() {
        b"slow" => Standout::Slow,
        b"large-request" => Standout::LargeRequest,
        b"large-reply" => Standout::LargeReply,
        _ => {
            return Err(ErrorReply::new(
                "ERR type should be one of the following: slow, large-request, large-reply",
            ));
        }
    };
    Ok(call.server().command_log.of(standout))
}

fn count(text: &[u8]) -> Result<usize, ErrorReply> {
    match parse_i64(text) {
        Some(-1) => Ok(usize::MAX),
        Some(count @ 0..) => Ok(count as usize),
        _ => Err(ErrorReply::new("ERR count should be greater than or equal to -1")),
    }
}

fn slowlog_get(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let count = match &call.args[2..] {
        [] => 10,
        [text] => count(text)?,
        _ => return Err(super::wrong_subcommand_arguments(call)),
    };
    Ok(newest(slow_log(call), count).into())
}

fn newest(log: &Log, count: usize) -> Reply<'static> {
    Reply::Array(log.newest(count).into_iter().map(entry).collect())
}

fn entry(call: LoggedCall) -> Reply<'static> {
    Reply::Array(vec![
        Reply::Integer(call.number as i64),
        Reply::Integer(call.unix_seconds as i64),
        Reply::Integer(call.value as i64),
        Reply::Array(call.args.into_iter().map(Reply::Owned).collect()),
        Reply::text(call.address),
        Reply::Owned(call.client_name),
    ])
}
