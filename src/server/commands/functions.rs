//! FUNCTION: libraries of functions, which are part of the dataset. How a function runs is in `server::script`.

use std::sync::Arc;

use super::{plain, writing};
use crate::base::glob::{self, Case};
use crate::command::{Argument, ArgumentKind, Command, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::rdb;
use crate::scripting::engine::NoHost;
use crate::scripting::{ENGINE_NAME, Function, LOAD_TIME_LIMIT, Library, Registry};
use crate::server::call::{Call, Writes};
use crate::server::table::{HostCommand, HostOutcome};

const WRITING: Flags = Flags::NOSCRIPT.and(Flags::WRITE);
const LOOKING: Flags = Flags::NOSCRIPT;
const LIBRARY: Argument = Argument::new("library-name", ArgumentKind::String);
const FLUSH_MODE: Argument =
    Argument::one_of("flush-type", &[Argument::word("ASYNC"), Argument::word("SYNC")]).optional();

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "function",
    summary: "Libraries of functions.",
    since: "7.0.0",
    complexity: "Depends on subcommand",
    group: Group::Scripting,
    ..Command::container(&[
        HostCommand {
            name: "load",
            summary: "Adds a library.",
            since: "7.0.0",
            complexity: "O(1), if its code needs no time",
            arity: -3,
            arguments: &[
                Argument::word("REPLACE").optional(),
                Argument::new("function-code", ArgumentKind::String),
            ],
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..writing(Group::Scripting, WRITING.and(Flags::DENYOOM), load)
        },
        HostCommand {
            name: "delete",
            summary: "Deletes a library and its functions.",
            since: "7.0.0",
            arity: 3,
            arguments: &[LIBRARY],
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..writing(Group::Scripting, WRITING, delete)
        },
        HostCommand {
            name: "flush",
            summary: "Deletes all libraries.",
            since: "7.0.0",
            complexity: "O(N), N being the number of functions",
            arity: -2,
            arguments: &[FLUSH_MODE],
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..writing(Group::Scripting, WRITING, flush)
        },
        HostCommand {
            name: "restore",
            summary: "Adds the libraries of a payload of FUNCTION DUMP.",
            since: "7.0.0",
            complexity: "O(N), N being the number of functions in the payload",
            arity: -3,
            arguments: &[
                Argument::new("serialized-value", ArgumentKind::String),
                Argument::one_of(
                    "policy",
                    &[Argument::word("FLUSH"), Argument::word("APPEND"), Argument::word("REPLACE")],
                )
                .optional(),
            ],
            tips: &["request_policy:all_shards", "response_policy:all_succeeded"],
            ..writing(Group::Scripting, WRITING.and(Flags::DENYOOM), restore)
        },
        HostCommand {
            name: "dump",
            summary: "All libraries as one payload.",
            since: "7.0.0",
            complexity: "O(N), N being the number of functions",
            arity: 2,
            ..plain(Group::Scripting, LOOKING, |call| {
                Ok(Reply::Owned(rdb::dump_functions(&call.server().functions.get())).into())
            })
        },
        HostCommand {
            name: "list",
            summary: "The libraries and their functions.",
            since: "7.0.0",
            complexity: "O(N), N being the number of functions",
            arity: -2,
            arguments: &[
                Argument::new("library-name-pattern", ArgumentKind::String).after("LIBRARYNAME").optional(),
                Argument::word("WITHCODE").optional(),
            ],
            tips: &["nondeterministic_output_order"],
            ..plain(Group::Scripting, LOOKING, list)
        },
        HostCommand {
            name: "stats",
            summary: "The running function, and the engines.",
            since: "7.0.0",
            arity: 2,
            tips: &["nondeterministic_output", "request_policy:all_shards", "response_policy:special"],
            ..plain(Group::Scripting, LOOKING.and(Flags::ALLOW_BUSY), stats)
        },
        HostCommand {
            name: "kill",
            summary: "Ends the running function.",
            since: "7.0.0",
            arity: -2,
            tips: &["request_policy:all_shards", "response_policy:one_succeeded"],
            ..plain(Group::Scripting, LOOKING.and(Flags::ALLOW_BUSY), |call| {
                super::scripting::kill(call, true)
            })
        },
        Command::help("7.0.0", Group::Scripting, HELP),
    ])
}];

const HELP: &[&str] = &[
    "LOAD [REPLACE] <FUNCTION CODE>",
    "    Add a library; with REPLACE it may take the place of one of the same name.",
    "DELETE <LIBRARY NAME>",
    "    Delete a library.",
    "LIST [LIBRARYNAME PATTERN] [WITHCODE]",
    "    Return the libraries and their functions, with their code if asked for.",
    "STATS",
    "    Return the running function, its command and how long it has run, and the engines.",
    "KILL [ROLLBACK]",
    "    End the running function; with ROLLBACK also one that has written, which is undone.",
    "FLUSH [ASYNC|SYNC]",
    "    Delete all libraries.",
    "DUMP",
    "    Return all libraries as one payload for FUNCTION RESTORE.",
    "RESTORE <PAYLOAD> [FLUSH|APPEND|REPLACE]",
    "    Add the libraries of a payload: in place of all present ones, beside them (unless a name is taken), or in",
    "    place of those of the same name.",
];

/// Puts a registry in place and records the command that led to it.
fn publish(call: &mut Call<'_, '_, Writes>, registry: Registry) {
    let server = call.server();
    server.functions.set(call.core_mut(), Arc::new(registry));
    let args = call.args;
    let mut transaction = call.transaction();
    transaction.count_changes(1);
    transaction.state_effect(args);
}

fn load(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let (replace, code) = match &call.args[2..] {
        [code] => (false, *code),
        [word, code] if word.eq_ignore_ascii_case(b"replace") => (true, *code),
        [option, _, ..] => {
            let mut text = b"ERR Unknown option given: ".to_vec();
            text.extend_from_slice(option);
            return Err(ErrorReply::from_text(text));
        }
        [] => return Err(super::wrong_arguments(call)),
    };
    let present = call.server().functions.get();
    // What comes from a file or the primary was accepted there.
    let is_client = call.session.origin == crate::server::session::Origin::Client;
    let limit = is_client.then_some(LOAD_TIME_LIMIT);
    let mut engine = call.executor.reactor.engine.borrow_mut();
    let (registry, library) = engine.load_library(&present, code, replace, limit, &mut NoHost)?;
    drop(engine);
    publish(call, registry);
    Ok(Reply::text(library.name()).into())
}

fn delete(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let name = call.args[2];
    let registry = call.server().functions.get().without(name)?;
    publish(call, registry);
    Ok(Reply::Ok.into())
}

fn flush(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let fits = match &call.args[2..] {
        [] => true,
        [mode] => mode.eq_ignore_ascii_case(b"sync") || mode.eq_ignore_ascii_case(b"async"),
        _ => return Err(super::wrong_subcommand_arguments(call)),
    };
    if !fits {
        return Err(ErrorReply::new("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    publish(call, Registry::default());
    Ok(Reply::Ok.into())
}

fn restore(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let (flush, replace) = match &call.args[3..] {
        [] => (false, false),
        [word] => match word.to_ascii_lowercase().as_slice() {
            b"append" => (false, false),
            b"replace" => (false, true),
            b"flush" => (true, false),
            _ => {
                return Err(ErrorReply::new(
                    "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
                ));
            }
        },
        _ => return Err(super::wrong_subcommand_arguments(call)),
    };
    let codes =
        rdb::restore_functions(call.args[2], &super::super::keyspace_settings(&call.server().config()))
            .map_err(|_| ErrorReply::new("ERR DUMP payload version or checksum are wrong"))?;
    let mut restored = Registry::default();
    for code in &codes {
        let mut engine = call.executor.reactor.engine.borrow_mut();
        restored = engine.load_library(&restored, code, false, Some(LOAD_TIME_LIMIT), &mut NoHost)?.0;
    }
    let registry = if flush { restored } else { call.server().functions.get().joined(&restored, replace)? };
    publish(call, registry);
    Ok(Reply::Ok.into())
}

fn list(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let (mut pattern, mut with_code) = (None, false);
    let mut rest = &call.args[2..];
    while let [word, after @ ..] = rest {
        rest = after;
        if !with_code && word.eq_ignore_ascii_case(b"withcode") {
            with_code = true;
        } else if pattern.is_none() && word.eq_ignore_ascii_case(b"libraryname") {
            let [given, after @ ..] = after else {
                return Err(ErrorReply::new("ERR library name argument was not given"));
            };
            pattern = Some(*given);
            rest = after;
        } else {
            let mut text = b"ERR Unknown argument ".to_vec();
            text.extend_from_slice(word);
            return Err(ErrorReply::from_text(text));
        }
    }
    let functions = call.server().functions.get();
    let wanted = |library: &&Arc<Library>| {
        pattern.is_none_or(|pattern| glob::matches(pattern, library.name().as_bytes(), Case::Insensitive))
    };
    Ok(Reply::Array(
        functions.libraries().filter(wanted).map(|library| describe(library, with_code)).collect(),
    )
    .into())
}

fn describe(library: &Library, with_code: bool) -> Reply<'static> {
    let field = |name: &'static str, value| (Reply::Bulk(name.as_bytes()), value);
    let mut fields = vec![
        field("library_name", Reply::text(library.name())),
        field("engine", Reply::text(ENGINE_NAME)),
        field("functions", Reply::Array(library.functions().iter().map(describe_function).collect())),
    ];
    if with_code {
        fields.push(field("library_code", Reply::Owned(library.code().to_vec())));
    }
    Reply::Map(fields)
}

fn describe_function(function: &Function) -> Reply<'static> {
    let field = |name: &'static str, value| (Reply::Bulk(name.as_bytes()), value);
    let flags = function.flags.names().map(|name| Reply::Status(name.into())).collect();
    Reply::Map(vec![
        field("name", Reply::text(function.name.clone())),
        field(
            "description",
            function.description.as_ref().map_or(Reply::Nil, |text| Reply::Owned(text.to_vec())),
        ),
        field("flags", Reply::Set(flags)),
    ])
}

fn stats(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let field = |name: &'static str, value| (Reply::Bulk(name.as_bytes()), value);
    let server = call.server();
    let running = server.scripts_running.all().into_iter().find(|script| script.is_function);
    let running = running.map_or(Reply::Nil, |script| {
        Reply::Map(vec![
            field("name", Reply::text(script.name.clone())),
            field("command", Reply::Array(script.command.iter().cloned().map(Reply::Owned).collect())),
            field("duration_ms", Reply::Integer(script.started.elapsed().as_millis() as i64)),
        ])
    });
    let functions = server.functions.get();
    let (libraries, functions) = (functions.library_count(), functions.function_count());
    let engine = Reply::Map(vec![
        field("libraries_count", Reply::Integer(libraries as i64)),
        field("functions_count", Reply::Integer(functions as i64)),
    ]);
    let engines = Reply::Map(vec![(Reply::text(ENGINE_NAME), engine)]);
    Ok(Reply::Map(vec![field("running_script", running), field("engines", engines)]).into())
}
