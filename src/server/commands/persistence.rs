//! Saving: SAVE, BGSAVE, BGREWRITEAOF, LASTSAVE, SHUTDOWN. What is saved and how is in `server::persistence`.

use std::sync::atomic::Ordering::Relaxed;

use super::{plain, reading, writing};
use crate::command::{Argument, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::blocking::Waiting;
use crate::server::call::{Call, Reads, Writes};
use crate::server::config::ShutdownOptions;
use crate::server::persistence::SavingKind;
use crate::server::table::{HostCommand, HostOutcome};

const SAVING: Flags = Flags::ADMIN.and(Flags::NOSCRIPT).and(Flags::NO_ASYNC_LOADING);

pub const COMMANDS: &[HostCommand] = &[
    HostCommand {
        name: "save",
        summary: "Saves the dataset into the RDB file, while everybody waits.",
        complexity: "O(N), N being the number of keys",
        arity: 1,
        ..reading(Group::Server, SAVING.and(Flags::NO_MULTI), save)
    },
    HostCommand {
        name: "bgsave",
        summary: "Saves the dataset into the RDB file, in the background.",
        arity: -1,
        arguments: &[Argument::one_of(
            "operation",
            &[Argument::word("SCHEDULE").since("3.2.2"), Argument::word("CANCEL").since("8.1.0")],
        )
        .optional()],
        history: &[("3.2.2", "SCHEDULE."), ("8.1.0", "CANCEL.")],
        ..reading(Group::Server, SAVING, bgsave)
    },
    HostCommand {
        name: "bgrewriteaof",
        summary: "Writes the AOF anew, in the background.",
        arity: 1,
        ..writing(Group::Server, SAVING, bgrewriteaof)
    },
    HostCommand {
        name: "lastsave",
        summary: "When the dataset was saved last, in Unix seconds.",
        arity: 1,
        flags: Flags::LOADING.and(Flags::STALE).and(Flags::FAST),
        categories: crate::command::Categories::ADMIN.and(crate::command::Categories::DANGEROUS),
        tips: &["nondeterministic_output"],
        ..plain(Group::Server, Flags::NONE, |call| {
            Ok(Reply::Integer(call.server().persistence.last_save_seconds.load(Relaxed) as i64).into())
        })
    },
    HostCommand {
        name: "shutdown",
        summary: "Ends the server, after saving if there are save points.",
        complexity: "O(N) when saving, N being the number of keys",
        arity: -1,
        arguments: &[Argument::one_of(
            "abort-selector",
            &[
                Argument::block(
                    "save-selector-block",
                    &[
                        Argument::one_of(
                            "save-selector",
                            &[Argument::word("NOSAVE"), Argument::word("SAVE")],
                        )
                        .optional(),
                        Argument::word("NOW").since("7.0.0").optional(),
                        Argument::word("FORCE").since("7.0.0").optional(),
                        Argument::word("SAFE").since("9.0.0").optional(),
                        Argument::word("FAILOVER").since("9.0.0").optional(),
                    ],
                ),
                Argument::word("ABORT").since("7.0.0"),
            ],
        )
        .optional()],
        history: &[("7.0.0", "NOW, FORCE and ABORT."), ("9.0.0", "SAFE and FAILOVER.")],
        ..plain(
            Group::Server,
            Flags::ADMIN
                .and(Flags::NOSCRIPT)
                .and(Flags::LOADING)
                .and(Flags::STALE)
                .and(Flags::NO_MULTI)
                .and(Flags::ALLOW_BUSY),
            shutdown,
        )
    },
];

fn save(call: &mut Call<'_, '_, Reads>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server();
    if server.saving_that_goes_on().is_some_and(|saving| saving.kind == SavingKind::Rdb) {
        return Err(ErrorReply::new("ERR Background save already in progress"));
    }
    match server.save_now(call.core()) {
        Ok(()) => Ok(Reply::Ok.into()),
        Err(_) => Err(ErrorReply::new("ERR")),
    }
}

fn bgsave(call: &mut Call<'_, '_, Reads>) -> Result<HostOutcome, ErrorReply> {
    let schedule = match &call.args[1..] {
        [] => false,
        [word] if word.eq_ignore_ascii_case(b"schedule") => true,
        [word] if word.eq_ignore_ascii_case(b"cancel") => return cancel(call),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let server = call.server();
    let saving = server.saving_that_goes_on();
    if saving.as_ref().is_some_and(|saving| saving.kind == SavingKind::Rdb) {
        return Err(ErrorReply::new("ERR Background save already in progress"));
    }
    let in_transaction = call.executor.in_unit();
    if saving.is_none() && !in_transaction {
        server.save_in_background(call.core());
        return Ok(Reply::Status("Background saving started".into()).into());
    }
    if !schedule && !in_transaction {
        return Err(ErrorReply::new(
            "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in order to schedule a BGSAVE whenever possible.",
        ));
    }
    server.persistence.save_is_scheduled.store(true, Relaxed);
    tracing::info!(
        "Background saving scheduled {}",
        if schedule { "due to user request" } else { "to run after transaction execution" }
    );
    Ok(Reply::Status("Background saving scheduled".into()).into())
}

fn cancel(call: &mut Call<'_, '_, Reads>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server();
    if server.cancel_saving(SavingKind::Rdb) {
        tracing::info!("Background saving will be aborted due to user request");
        return Ok(Reply::Status("Background saving cancelled".into()).into());
    }
    if server.persistence.save_is_scheduled.swap(false, Relaxed) {
        tracing::info!("Scheduled background saving will be cancelled due to user request");
        return Ok(Reply::Status("Scheduled background saving cancelled".into()).into());
    }
    Err(ErrorReply::new("ERR Background saving is currently not in progress or scheduled"))
}

fn bgrewriteaof(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server();
    let saving = server.saving_that_goes_on();
    if saving.as_ref().is_some_and(|saving| saving.kind == SavingKind::Aof) {
        return Err(ErrorReply::new("ERR Background append only file rewriting already in progress"));
    }
    server.forgive_rewrite_failures();
    // Within a transaction it waits for the end, so that it holds all of it or nothing.
    if saving.is_some() || call.executor.in_unit() {
        server.persistence.rewrite_is_scheduled.store(true, Relaxed);
        tracing::info!("Background append only file rewriting scheduled.");
        return Ok(Reply::Status("Background append only file rewriting scheduled".into()).into());
    }
    match server.rewrite_aof(call.core_mut()) {
        Ok(_) => Ok(Reply::Status("Background append only file rewriting started".into()).into()),
        Err(_) => Err(ErrorReply::new(
            "ERR Can't execute an AOF background rewriting. Please check the server logs for more information.",
        )),
    }
}

fn shutdown(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let mut options = ShutdownOptions::default();
    let mut abort = false;
    for word in &call.args[1..] {
        if word.eq_ignore_ascii_case(b"abort") {
            abort = true;
        } else if !options.add(word) {
            return Err(ErrorReply::SYNTAX);
        }
    }
    if (options.save && options.nosave) || (abort && call.args.len() > 2) {
        return Err(ErrorReply::SYNTAX);
    }
    let server = call.server();
    if abort {
        if server.shutdown.abort() {
            return Ok(Reply::Ok.into());
        }
        return Err(ErrorReply::new("ERR No shutdown in progress."));
    }
    if options.failover {
        return Err(ErrorReply::new("ERR SHUTDOWN FAILOVER is only supported in cluster mode."));
    }
    if call.executor.hold_write().is_err() {
        if options.nosave {
            // What the busy script has done so far is given up with everything else.
            tracing::info!("User requested shutdown...");
            server.leave();
            std::process::exit(0);
        }
        return Err(server.scripts_running.busy_error());
    }
    let shown = super::client::describe(server, &call.session.client);
    server.shutdown.ask(options, &call.session.client, shown);
    // If the server does not end, the client is told so.
    Ok(HostOutcome::Wait(Waiting {
        timeout: None,
        on_timeout: Box::new(|_| Reply::Error(ErrorReply::new("ERR Errors trying to SHUTDOWN. Check logs."))),
        interruptible: false,
    }))
}
