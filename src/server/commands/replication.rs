//! Commands of replication: REPLICAOF, REPLCONF, PSYNC, SYNC, ROLE, WAIT, WAITAOF, FAILOVER.
//!
//! They put words into the state machines and answer what these say; nothing is decided here.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{plain, reading, writing};
use crate::command::{Argument, ArgumentKind, Audience, Categories, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::replication::wait::{self, WaitRequest};
use crate::replication::{Accepted, ReplconfReply, ReplicaOf, SyncRequest, Turn};
use crate::server::blocking::Waiting;
use crate::server::call::{Call, Reads, Writes};
use crate::server::client::Traits;
use crate::server::execute::publish_unit;
use crate::server::replicas::Handover;
use crate::server::roles::Roles;
use crate::server::session::Origin;
use crate::server::table::{HostCommand, HostOutcome};

const ADMIN: Flags = Flags::ADMIN.and(Flags::NOSCRIPT);

pub const COMMANDS: &[HostCommand] = &[
    HostCommand { name: "replicaof", since: "5.0.0", ..REPLICAOF },
    HostCommand {
        name: "slaveof",
        audience: Audience::Nobody { since: "5.0.0", replaced_by: "`REPLICAOF`" },
        ..REPLICAOF
    },
    HostCommand {
        name: "replconf",
        summary: "What primaries and replicas tell each other of themselves.",
        since: "3.0.0",
        arity: -1,
        audience: Audience::Servers,
        ..plain(Group::Server, ADMIN.and(Flags::LOADING).and(Flags::STALE).and(Flags::ALLOW_BUSY), replconf)
    },
    HostCommand {
        name: "psync",
        summary: "Makes the connection a replica's, which goes on where it stopped if that is possible.",
        since: "2.8.0",
        arity: -3,
        arguments: &[
            Argument::new("replicationid", ArgumentKind::String),
            Argument::new("offset", ArgumentKind::Integer),
        ],
        ..writing(Group::Server, SYNC_FLAGS, sync)
    },
    HostCommand {
        name: "sync",
        summary: "Makes the connection a replica's, which gets the whole dataset.",
        arity: 1,
        ..writing(Group::Server, SYNC_FLAGS, sync)
    },
    HostCommand {
        name: "role",
        summary: "The role of the server in replication.",
        since: "2.8.12",
        arity: 1,
        categories: Categories::ADMIN.and(Categories::DANGEROUS),
        ..reading(Group::Server, Flags::NOSCRIPT.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST), role)
    },
    HostCommand {
        name: "wait",
        summary: "Waits until so many replicas have what was written.",
        since: "3.0.0",
        group: Group::Generic,
        arity: 3,
        arguments: &[
            Argument::new("numreplicas", ArgumentKind::Integer),
            Argument::new("timeout", ArgumentKind::Integer),
        ],
        categories: Categories::CONNECTION,
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        ..writing(Group::Server, Flags::BLOCKING, wait)
    },
    HostCommand {
        name: "waitaof",
        summary: "Waits until what was written is on so many disks.",
        since: "7.2.0",
        group: Group::Generic,
        arity: 4,
        arguments: &[
            Argument::new("numlocal", ArgumentKind::Integer),
            Argument::new("numreplicas", ArgumentKind::Integer),
            Argument::new("timeout", ArgumentKind::Integer),
        ],
        categories: Categories::CONNECTION,
        tips: &["request_policy:all_shards", "response_policy:agg_min"],
        ..writing(Group::Server, Flags::BLOCKING, waitaof)
    },
    HostCommand {
        name: "failover",
        summary: "Hands the role of primary to a replica that has everything.",
        since: "6.2.0",
        arity: -1,
        arguments: &[
            Argument::block(
                "target",
                &[
                    Argument::new("host", ArgumentKind::String),
                    Argument::new("port", ArgumentKind::Integer),
                    Argument::new("force", ArgumentKind::PureToken).after("FORCE").optional(),
                ],
            )
            .after("TO")
            .optional(),
            Argument::new("abort", ArgumentKind::PureToken).after("ABORT").optional(),
            Argument::new("milliseconds", ArgumentKind::Integer).after("TIMEOUT").optional(),
        ],
        ..plain(Group::Server, ADMIN.and(Flags::STALE), failover)
    },
];

const SYNC_FLAGS: Flags = ADMIN.and(Flags::NO_ASYNC_LOADING).and(Flags::NO_MULTI);

const REPLICAOF: HostCommand = HostCommand {
    name: "replicaof",
    summary: "Makes the server a replica of another, or a primary again.",
    arity: 3,
    arguments: &[Argument::one_of(
        "args",
        &[
            Argument::block(
                "host-port",
                &[Argument::new("host", ArgumentKind::String), Argument::new("port", ArgumentKind::Integer)],
            ),
            Argument::block("no-one", &[Argument::word("NO"), Argument::word("ONE")]),
        ],
    )],
    ..writing(Group::Server, ADMIN.and(Flags::STALE).and(Flags::NO_ASYNC_LOADING), replicaof)
};

fn replicaof(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let request = ReplicaOf::parse(call.args[1], call.args[2])?;
    let server = call.server().clone();
    let client = call.session.client.clone();
    let info = super::client::describe(&server, &client);
    // What the transaction around this wrote, it wrote as a primary.
    publish_unit(&server, call.core_mut());
    let answer = server.turn(call.core_mut(), |roles, turn| {
        roles.replication.replicaof(&request, client.number, &info, turn)
    })?;
    Ok(Reply::Status(answer.into()).into())
}

fn replconf(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let client = call.session.client.clone();
    client.set(Traits::ANNOUNCED, true);
    match call.server().announced(client.number, &call.args[1..]) {
        ReplconfReply::Ok => Ok(Reply::Ok.into()),
        ReplconfReply::Error(error) => Err(error),
        ReplconfReply::Silent | ReplconfReply::SendAck => Ok(Reply::None.into()),
    }
}

fn sync(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    if call.session.origin != Origin::Client {
        return Err(ErrorReply::SYNTAX);
    }
    let server = call.server().clone();
    let client = call.session.client.clone();
    let info = super::client::describe(&server, &client);
    let peer_ip = client.address.rsplit_once(':').map_or("", |(ip, _)| ip).trim_matches(['[', ']']);
    let request = SyncRequest {
        connection: client.number,
        peer_ip,
        client_info: &info,
        psync: call.entry.spec.name.eq("psync").then_some(&call.args[1..]),
        has_pending_output: !call.session.out.is_empty(),
        on_disk_from: server.aof_readable_from(),
    };
    client.set(Traits::ANNOUNCED, true);
    let orders = server.turn(call.core_mut(), |roles, turn| {
        let orders = roles.attach(client.number);
        let accepted = roles.replication.sync(&request, turn);
        if accepted != Ok(Accepted::Attached) {
            roles.detach(client.number);
        }
        accepted.map(|accepted| (accepted == Accepted::Attached).then_some(orders))
    })?;
    Ok(match orders {
        Some(orders) => HostOutcome::Replicate(Handover { orders }),
        None => Reply::Status(Accepted::DUAL_CHANNEL_REPLY.into()).into(),
    })
}

fn role(call: &mut Call<'_, '_, Reads>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server().clone();
    let stream = server.stream_view(call.core());
    let reply = crate::replication::info::role(&server.roles.lock().replication, &stream);
    Ok(reply.into())
}

fn failover(call: &mut Call<'_, '_>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server().clone();
    let args = &call.args[1..];
    let event = |roles: &mut Roles, turn: &mut Turn<'_>| {
        roles.coordinator.command(args, &mut roles.replication, &mut roles.gate, turn)
    };
    if call.executor.hold_write().is_err() {
        // A script runs, perhaps for long: the failover begins by waiting for its end.
        server.beside_script(event).unwrap_or_else(|| Err(server.scripts_running.busy_error()))?;
    } else {
        server.turn(call.executor.core_mut(), event)?;
    }
    Ok(Reply::Ok.into())
}

fn wait(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server().clone();
    let now_ms = server.uptime_ms();
    let request = wait::parse_wait([call.args[1], call.args[2]], server.is_replica(), now_ms)?;
    wait_for(call, request, now_ms)
}

fn waitaof(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    let server = call.server().clone();
    let now_ms = server.uptime_ms();
    let args = [call.args[1], call.args[2], call.args[3]];
    let has_aof = server.persistence.has_aof();
    let request = wait::parse_waitaof(args, server.is_replica(), has_aof, now_ms)?;
    wait_for(call, request, now_ms)
}

fn wait_for(
    call: &mut Call<'_, '_, Writes>,
    request: WaitRequest,
    now_ms: u64,
) -> Result<HostOutcome, ErrorReply> {
    let server = call.server().clone();
    let client = call.session.client.number;
    let last_write = call.session.client.figures.last_write.load(Relaxed);
    let timeout =
        request.deadline_ms.map(|deadline_ms| Duration::from_millis(deadline_ms.saturating_sub(now_ms)));
    // The connection's own timer is finer than the machine's ticks.
    let request = WaitRequest { deadline_ms: None, ..request };
    let may_block = call.session.origin == Origin::Client && !call.executor.in_unit();
    let (position, answer) = server.turn(call.core_mut(), |roles, turn| {
        // What others wrote since is not waited for. After a full sync the stream may be shorter.
        let position = last_write.min(turn.stream.end);
        (position, roles.replication.wait(client, position, request, may_block, turn))
    });
    if let Some(answer) = answer {
        return Ok(Reply::from(answer).into());
    }
    let on_timeout = move |server: &std::sync::Arc<crate::server::Server>| {
        server.answer_now(client, position, request).map_or(Reply::Integer(0), Reply::from)
    };
    Ok(HostOutcome::Wait(Waiting { timeout, on_timeout: Box::new(on_timeout), interruptible: true }))
}
