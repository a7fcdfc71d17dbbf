//! Scripts and functions: EVAL and its kin, FCALL, SCRIPT. How a script runs is in `server::script`.

use std::sync::Arc;

use super::{plain, writing};
use crate::base::number::parse_i64;
use crate::command::{Argument, ArgumentKind, Command, Flags, Group, KeySpec, KeyUse};
use crate::protocol::{ErrorReply, Reply};
use crate::scripting::{Origin, Script, ScriptDigest};
use crate::server::call::{Call, Writes};
use crate::server::script::debugged::{DebugMode, Target};
use crate::server::script::{Program, ScriptRequest};
use crate::server::scripts_running::Kill;
use crate::server::table::{HostCommand, HostHandler, HostOutcome, ScriptFn};
use std::sync::atomic::Ordering::Relaxed;

const RUNNING: Flags =
    Flags::NOSCRIPT.and(Flags::SKIP_MONITOR).and(Flags::NO_MANDATORY_KEYS).and(Flags::STALE);
const NOTE: &str = "What a script does with its keys is not known, so this is the most that it may do.";
const KEYS: &[KeySpec] =
    &[KeySpec::counted(2, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::UPDATE)).note(NOTE)];
const KEYS_READ: &[KeySpec] = &[KeySpec::counted(2, KeyUse::RO.and(KeyUse::ACCESS)).note(NOTE)];
const COMPLEXITY: &str = "Depends on the script";

const fn call_arguments(first: Argument) -> [Argument; 4] {
    [
        first,
        Argument::new("numkeys", ArgumentKind::Integer),
        Argument::key().optional().multiple(),
        Argument::new("arg", ArgumentKind::String).optional().multiple(),
    ]
}

const SCRIPT_ARGUMENTS: &[Argument] = &call_arguments(Argument::new("script", ArgumentKind::String));
const SHA1_ARGUMENTS: &[Argument] = &call_arguments(Argument::new("sha1", ArgumentKind::String));
const FUNCTION_ARGUMENTS: &[Argument] = &call_arguments(Argument::new("function", ArgumentKind::String));

pub const COMMANDS: &[HostCommand] = &[
    HostCommand {
        name: "eval",
        summary: "Runs a script.",
        since: "2.6.0",
        arguments: SCRIPT_ARGUMENTS,
        ..script_that_may_write(|call| eval(call, false))
    },
    HostCommand {
        name: "evalsha",
        summary: "Runs a script that the server knows, by its SHA1 digest.",
        since: "2.6.0",
        arguments: SHA1_ARGUMENTS,
        ..script_that_may_write(|call| evalsha(call, false))
    },
    HostCommand {
        name: "eval_ro",
        summary: "Runs a script that only reads.",
        since: "7.0.0",
        arguments: SCRIPT_ARGUMENTS,
        ..reading(|call| eval(call, true))
    },
    HostCommand {
        name: "evalsha_ro",
        summary: "Runs a script that only reads and that the server knows, by its SHA1 digest.",
        since: "7.0.0",
        arguments: SHA1_ARGUMENTS,
        ..reading(|call| evalsha(call, true))
    },
    HostCommand {
        name: "fcall",
        summary: "Runs a function.",
        since: "7.0.0",
        arguments: FUNCTION_ARGUMENTS,
        ..script_that_may_write(|call| fcall(call, false))
    },
    HostCommand {
        name: "fcall_ro",
        summary: "Runs a function that only reads.",
        since: "7.0.0",
        arguments: FUNCTION_ARGUMENTS,
        ..reading(|call| fcall(call, true))
    },
    HostCommand {
        name: "script",
        summary: "The scripts that the server knows.",
        since: "2.6.0",
        complexity: "Depends on subcommand",
        group: Group::Scripting,
        ..Command::container(SCRIPT_COMMANDS)
    },
];

const SCRIPT_COMMANDS: &[HostCommand] = &[
    HostCommand {
        name: "debug",
        summary: "Lets the scripts that follow be debugged, or not.",
        since: "3.2.0",
        arity: -3,
        arguments: &[
            Argument::one_of("mode", &[Argument::word("YES"), Argument::word("SYNC"), Argument::word("NO")]),
            Argument::new("engine", ArgumentKind::String).since("9.1.0").optional(),
        ],
        ..plain(Group::Scripting, Flags::NOSCRIPT, script_debug)
    },
    HostCommand {
        name: "load",
        summary: "Makes a script known, so that it can be run by its digest.",
        since: "2.6.0",
        complexity: "O(N), N being the length of the script",
        arity: 3,
        arguments: &[Argument::new("script", ArgumentKind::String)],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        ..writing(Group::Scripting, Flags::NOSCRIPT.and(Flags::STALE), script_load)
    },
    HostCommand {
        name: "exists",
        summary: "Whether scripts are known, by their digests.",
        since: "2.6.0",
        complexity: "O(N), N being the number of digests",
        arity: -3,
        arguments: &[Argument::new("sha1", ArgumentKind::String).multiple()],
        tips: &["request_policy:all_shards", "response_policy:agg_logical_and"],
        ..plain(Group::Scripting, Flags::NOSCRIPT.and(Flags::STALE), script_exists)
    },
    HostCommand {
        name: "show",
        summary: "The text of a script that is known.",
        since: "8.0.0",
        arity: 3,
        arguments: &[Argument::new("sha1", ArgumentKind::String)],
        ..plain(Group::Scripting, Flags::NOSCRIPT.and(Flags::STALE), script_show)
    },
    HostCommand {
        name: "flush",
        summary: "Forgets all scripts.",
        since: "2.6.0",
        complexity: "O(N), N being the number of scripts",
        arity: -2,
        arguments: &[Argument::one_of("flush-type", &[Argument::word("ASYNC"), Argument::word("SYNC")])
            .since("6.2.0")
            .optional()],
        tips: &["request_policy:all_nodes", "response_policy:all_succeeded"],
        history: &[("6.2.0", "ASYNC and SYNC.")],
        ..plain(Group::Scripting, Flags::NOSCRIPT.and(Flags::STALE), script_flush)
    },
    HostCommand {
        name: "kill",
        summary: "Ends the running script.",
        since: "2.6.0",
        arity: -2,
        tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
        ..plain(Group::Scripting, Flags::NOSCRIPT.and(Flags::ALLOW_BUSY), |call| kill(call, false))
    },
    Command::help("5.0.0", Group::Scripting, HELP),
];

const HELP: &[&str] = &[
    "DEBUG (YES|SYNC|NO) [<engine>]",
    "    Let the next script of this connection be debugged: on a copy of the dataset, on the dataset, or not.",
    "EXISTS <sha1> [<sha1> ...]",
    "    Return whether scripts are known, by their digests.",
    "FLUSH [ASYNC|SYNC]",
    "    Forget all scripts.",
    "KILL [ROLLBACK]",
    "    End the running script; with ROLLBACK also one that has written, which is undone.",
    "LOAD <script>",
    "    Make a script known without running it.",
    "SHOW <sha1>",
    "    Return the text of a script.",
];

const fn script_that_may_write(function: ScriptFn) -> HostCommand {
    Command {
        group: Group::Scripting,
        arity: -3,
        complexity: COMPLEXITY,
        flags: RUNNING.and(Flags::MAY_REPLICATE),
        keys: KEYS,
        ..Command::host(HostHandler::Script(function))
    }
}

const fn reading(function: ScriptFn) -> HostCommand {
    Command {
        group: Group::Scripting,
        arity: -3,
        complexity: COMPLEXITY,
        flags: RUNNING.and(Flags::READONLY),
        keys: KEYS_READ,
        ..Command::host(HostHandler::Script(function))
    }
}

/// The number of keys, checked against the arguments.
fn key_count(call: &Call<'_, '_>) -> Result<usize, ErrorReply> {
    let Some(count) = parse_i64(call.args[2]) else { return Err(ErrorReply::NOT_AN_INTEGER) };
    if count > (call.args.len() - 3) as i64 {
        return Err(ErrorReply::new("ERR Number of keys can't be greater than number of args"));
    }
    usize::try_from(count).map_err(|_| ErrorReply::new("ERR Number of keys can't be negative"))
}

fn request(program: Program, key_count: usize, by_read_only_command: bool) -> ScriptRequest {
    ScriptRequest { program, first_key: 3, key_count, by_read_only_command, is_to_be_told: false }
}

fn eval(call: &mut Call<'_, '_>, read_only: bool) -> Result<ScriptRequest, ErrorReply> {
    if let Some(target) = call.session.debug.target()
        && call.session.transaction.is_none()
    {
        return eval_debugged(call, read_only, target);
    }
    let keys = key_count(call)?;
    let body = call.args[1];
    let server = call.server();
    let digest = ScriptDigest::of(body);
    let script = match server.scripts.get(&digest) {
        Some(script) => script,
        None => {
            let script = Arc::new(Script::new(body)?);
            call.executor.reactor.engine.borrow_mut().compile(&script)?;
            server.scripts.insert(script, Origin::Eval)
        }
    };
    Ok(request(Program::Script(script), keys, read_only))
}

/// The script is not kept: that it compiles is seen when it begins.
#[cold]
fn eval_debugged(
    call: &mut Call<'_, '_>,
    read_only: bool,
    target: Target,
) -> Result<ScriptRequest, ErrorReply> {
    if call.executor.in_unit() {
        return Err(ErrorReply::new("ERR A script that is part of a transaction can't be debugged"));
    }
    call.session.debug = DebugMode::Begun(target);
    let keys = key_count(call)?;
    let script = Arc::new(Script::new(call.args[1])?);
    Ok(request(Program::Script(script), keys, read_only))
}

fn evalsha(call: &mut Call<'_, '_>, read_only: bool) -> Result<ScriptRequest, ErrorReply> {
    if call.session.debug != DebugMode::Off {
        return Err(ErrorReply::new("ERR Please use EVAL instead of EVALSHA for debugging"));
    }
    let keys = key_count(call)?;
    let recent = &mut call.executor.reactor.recent_script.borrow_mut();
    match call.server().scripts.find(call.args[1], recent) {
        Some(found) => Ok(ScriptRequest {
            is_to_be_told: found.is_to_be_told,
            ..request(Program::Script(found.script), keys, read_only)
        }),
        None => Err(NO_SCRIPT),
    }
}

pub const NO_SCRIPT: ErrorReply = ErrorReply::new("NOSCRIPT No matching script.");

fn fcall(call: &mut Call<'_, '_>, read_only: bool) -> Result<ScriptRequest, ErrorReply> {
    let recent = &mut call.executor.reactor.recent_function.borrow_mut();
    let Some((registry, handle)) = call.server().functions.find(call.args[1], recent) else {
        return Err(ErrorReply::new("ERR Function not found"));
    };
    let keys = match parse_i64(call.args[2]) {
        None => return Err(ErrorReply::new("ERR Bad number of keys provided")),
        Some(_) => key_count(call)?,
    };
    Ok(request(Program::Function(registry, handle), keys, read_only))
}

fn script_debug(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    if !call.session.out.is_empty() {
        return Err(ErrorReply::new("ERR SCRIPT DEBUG must be called outside a pipeline"));
    }
    match &call.args[3..] {
        [] => {}
        [engine] if engine.eq_ignore_ascii_case(b"lua") => {}
        [engine] => {
            let text = [b"ERR No scripting engine found with name '", *engine, b"' to enable debug"];
            return Err(ErrorReply::from_text(text.concat()));
        }
        _ => return Err(super::wrong_subcommand_arguments(call)),
    }
    match call.args[2].to_ascii_lowercase().as_slice() {
        b"no" => call.session.debug = DebugMode::Off,
        b"yes" => call.session.debug = DebugMode::Armed(Target::Copy),
        b"sync" => call.session.debug = DebugMode::Armed(Target::Dataset),
        _ => return Err(ErrorReply::new("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
    }
    Ok(Reply::Ok.into())
}

fn script_load(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let script = Arc::new(Script::new(call.args[2])?);
    call.executor.reactor.engine.borrow_mut().compile(&script)?;
    let hex = script.digest().hex();
    call.server().scripts.insert(script, Origin::Load);
    // It changes no key, but whoever takes over must know it.
    let args = call.args;
    call.transaction().state_effect(args);
    Ok(Reply::Owned(hex.to_vec()).into())
}

fn script_exists(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let scripts = &call.server().scripts;
    let known = call.args[2..].iter().map(|text| {
        let known = ScriptDigest::parse(text).is_some_and(|digest| scripts.peek(&digest).is_some());
        Reply::Integer(i64::from(known))
    });
    Ok(Reply::Array(known.collect()).into())
}

fn script_show(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let script = ScriptDigest::parse(call.args[2]).and_then(|digest| call.server().scripts.peek(&digest));
    script.map(|(script, _)| Reply::Owned(script.body().to_vec()).into()).ok_or(NO_SCRIPT)
}

fn script_flush(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let fits = match &call.args[2..] {
        [] => true,
        [mode] => mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async"),
        _ => false,
    };
    if !fits {
        return Err(ErrorReply::new("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    call.server().scripts.clear();
    call.executor.reactor.engine.borrow_mut().clear();
    Ok(Reply::Ok.into())
}

/// SCRIPT KILL [ROLLBACK] and FUNCTION KILL [ROLLBACK].
pub fn kill(call: &mut Call<'_, '_>, function: bool) -> Result<HostOutcome, ErrorReply> {
    let rollback = match &call.args[2..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"rollback") => true,
        _ => return Err(super::wrong_arguments(call)),
    };
    let running = call.server().scripts_running.all();
    let candidates = || running.iter().filter(|script| script.is_function == function);
    // Of several, the one for which others wait; then the first that nobody has ended yet.
    let script = candidates()
        .find(|script| script.holds.load(Relaxed))
        .or_else(|| candidates().find(|script| script.kill() == Kill::No))
        .or_else(|| candidates().next());
    let Some(script) = script else {
        return Err(if running.is_empty() {
            ErrorReply::new("NOTBUSY No scripts in execution right now.")
        } else if function {
            ErrorReply::new(
                "BUSY Valkey is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
            )
        } else {
            ErrorReply::new(
                "BUSY Valkey is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
            )
        });
    };
    if script.is_replicated {
        return Err(ErrorReply::new(
            "UNKILLABLE The busy script was sent by a master instance in the context of replication and cannot be killed.",
        ));
    }
    if !script.stop(if rollback { Kill::Rollback } else { Kill::Yes }) {
        return Err(ErrorReply::new(
            "UNKILLABLE Sorry the script already executed write commands against the dataset. You can either wait the \
             script termination or kill the server in a hard way using the SHUTDOWN NOSAVE command.",
        ));
    }
    Ok(Reply::Ok.into())
}
