//! Publish and subscribe: SUBSCRIBE and its kin, PUBLISH, SPUBLISH, PUBSUB.

use std::sync::atomic::Ordering::Relaxed;

use super::{plain, writing};
use crate::command::{
    Argument, ArgumentKind, BeginSearch, ChannelArguments, Command, FindKeys, Flags, Group, KeySpec, KeyUse,
};
use crate::protocol::{ErrorReply, Reply};
use crate::server::Server;
use crate::server::call::{Call, Writes};
use crate::server::pubsub::Subject;
use crate::server::session::Session;
use crate::server::table::{HostCommand, HostOutcome};

const SUBSCRIBING: Flags = Flags::PUBSUB.and(Flags::NOSCRIPT).and(Flags::LOADING).and(Flags::STALE);
const PUBLISHING: Flags =
    Flags::PUBSUB.and(Flags::LOADING).and(Flags::STALE).and(Flags::FAST).and(Flags::MAY_REPLICATE);
const LOOKING: Flags = Flags::PUBSUB.and(Flags::LOADING).and(Flags::STALE);
const SHARD_CHANNEL: KeySpec = KeySpec {
    uses: KeyUse::NOT_KEY,
    begin: BeginSearch::Index(1),
    note: "",
    find: FindKeys::Range { last: -1, step: 1, limit: 0 },
};
const CHANNELS: &[Argument] = &[Argument::new("channel", ArgumentKind::String).multiple()];
const SHARD_CHANNELS: &[Argument] = &[Argument::new("shardchannel", ArgumentKind::String).multiple()];
const PATTERNS: &[Argument] = &[Argument::new("pattern", ArgumentKind::Pattern).multiple()];

pub const COMMANDS: &[HostCommand] = &[
    HostCommand {
        name: "subscribe",
        summary: "Listens for messages on channels.",
        since: "2.0.0",
        complexity: "O(N), N being the number of channels",
        channels: ChannelArguments::All,
        arity: -2,
        arguments: CHANNELS,
        ..plain(Group::PubSub, SUBSCRIBING, |call| subscribe(call, Subject::Channel))
    },
    HostCommand {
        name: "psubscribe",
        summary: "Listens for messages on channels whose names match patterns.",
        since: "2.0.0",
        complexity: "O(N), N being the number of patterns",
        channels: ChannelArguments::AllPatterns,
        arity: -2,
        arguments: PATTERNS,
        ..plain(Group::PubSub, SUBSCRIBING, |call| subscribe(call, Subject::Pattern))
    },
    HostCommand {
        name: "ssubscribe",
        summary: "Listens for messages on shard channels.",
        since: "7.0.0",
        complexity: "O(N), N being the number of shard channels",
        channels: ChannelArguments::All,
        arity: -2,
        arguments: SHARD_CHANNELS,
        keys: &[SHARD_CHANNEL],
        ..plain(Group::PubSub, SUBSCRIBING, |call| subscribe(call, Subject::ShardChannel))
    },
    HostCommand {
        name: "unsubscribe",
        summary: "Stops listening on channels, or on all of them.",
        since: "2.0.0",
        complexity: "O(N), N being the number of channels",
        arity: -1,
        arguments: &[CHANNELS[0].optional()],
        ..plain(Group::PubSub, SUBSCRIBING, |call| unsubscribe(call, Subject::Channel))
    },
    HostCommand {
        name: "punsubscribe",
        summary: "Stops listening by patterns, or by all of them.",
        since: "2.0.0",
        complexity: "O(N), N being the number of patterns",
        arity: -1,
        arguments: &[PATTERNS[0].optional()],
        ..plain(Group::PubSub, SUBSCRIBING, |call| unsubscribe(call, Subject::Pattern))
    },
    HostCommand {
        name: "sunsubscribe",
        summary: "Stops listening on shard channels, or on all of them.",
        since: "7.0.0",
        complexity: "O(N), N being the number of shard channels",
        arity: -1,
        arguments: &[SHARD_CHANNELS[0].optional()],
        keys: &[SHARD_CHANNEL],
        ..plain(Group::PubSub, SUBSCRIBING, |call| unsubscribe(call, Subject::ShardChannel))
    },
    HostCommand {
        name: "publish",
        summary: "Sends a message to a channel.",
        since: "2.0.0",
        complexity: "O(N+M), N being the number of its subscribers and M the number of patterns",
        channels: ChannelArguments::First,
        arity: 3,
        arguments: &[
            Argument::new("channel", ArgumentKind::String),
            Argument::new("message", ArgumentKind::String),
        ],
        ..writing(Group::PubSub, PUBLISHING, publish)
    },
    HostCommand {
        name: "spublish",
        summary: "Sends a message to a shard channel.",
        since: "7.0.0",
        complexity: "O(N), N being the number of its subscribers",
        channels: ChannelArguments::First,
        arity: 3,
        arguments: &[
            Argument::new("shardchannel", ArgumentKind::String),
            Argument::new("message", ArgumentKind::String),
        ],
        keys: &[KeySpec::one(1, KeyUse::NOT_KEY)],
        ..writing(Group::PubSub, PUBLISHING, spublish)
    },
    HostCommand {
        name: "pubsub",
        summary: "What is subscribed to.",
        since: "2.8.0",
        complexity: "Depends on subcommand",
        group: Group::PubSub,
        ..Command::container(&[
            HostCommand {
                name: "channels",
                summary: "The channels with subscribers.",
                since: "2.8.0",
                complexity: "O(N), N being the number of channels",
                arity: -2,
                arguments: &[Argument::new("pattern", ArgumentKind::Pattern).optional()],
                ..plain(Group::PubSub, LOOKING, |call| channels(call, Subject::Channel))
            },
            HostCommand {
                name: "numsub",
                summary: "How many subscribers channels have.",
                since: "2.8.0",
                complexity: "O(N), N being the number of channels",
                arity: -2,
                arguments: &[Argument::new("channel", ArgumentKind::String).optional().multiple()],
                ..plain(Group::PubSub, LOOKING, |call| numbers(call, Subject::Channel))
            },
            HostCommand {
                name: "numpat",
                summary: "How many patterns are subscribed to.",
                since: "2.8.0",
                arity: 2,
                ..plain(Group::PubSub, LOOKING, |call| {
                    Ok(Reply::Integer(call.server().pubsub.name_count(Subject::Pattern) as i64).into())
                })
            },
            HostCommand {
                name: "shardchannels",
                summary: "The shard channels with subscribers.",
                since: "7.0.0",
                complexity: "O(N), N being the number of shard channels",
                arity: -2,
                arguments: &[Argument::new("pattern", ArgumentKind::Pattern).optional()],
                ..plain(Group::PubSub, LOOKING, |call| channels(call, Subject::ShardChannel))
            },
            HostCommand {
                name: "shardnumsub",
                summary: "How many subscribers shard channels have.",
                since: "7.0.0",
                complexity: "O(N), N being the number of shard channels",
                arity: -2,
                arguments: &[Argument::new("shardchannel", ArgumentKind::String).optional().multiple()],
                ..plain(Group::PubSub, LOOKING, |call| numbers(call, Subject::ShardChannel))
            },
            Command::help("6.2.0", Group::PubSub, HELP),
        ])
    },
];

const HELP: &[&str] = &[
    "CHANNELS [<pattern>]",
    "    Return the channels with at least one subscriber, of those that match <pattern>.",
    "NUMPAT",
    "    Return the number of subscribed patterns.",
    "NUMSUB [<channel> ...]",
    "    Return the number of subscribers of each channel.",
    "SHARDCHANNELS [<pattern>]",
    "    Return the shard channels with at least one subscriber, of those that match <pattern>.",
    "SHARDNUMSUB [<shardchannel> ...]",
    "    Return the number of subscribers of each shard channel.",
];

fn subscribe(call: &mut Call<'_, '_>, subject: Subject) -> Result<HostOutcome, ErrorReply> {
    // Within a transaction RESP2 could not tell the message from the reply; Valkey allows it there, and refuses it
    // only to clients that must not block.
    for name in &call.args[1..] {
        if names(call.session, subject).insert(name.to_vec()) {
            call.executor.server.pubsub.subscribe(subject, name, &call.session.client);
        }
        let word: &[u8] = match subject {
            Subject::Channel => b"subscribe",
            Subject::Pattern => b"psubscribe",
            Subject::ShardChannel => b"ssubscribe",
        };
        confirm(call.session, subject, word, Some(name));
    }
    call.session.note_subscriptions();
    call.executor.server.recheck_subscriptions(call.session);
    Ok(Reply::None.into())
}

fn unsubscribe(call: &mut Call<'_, '_>, subject: Subject) -> Result<HostOutcome, ErrorReply> {
    let given = call.args[1..].iter().map(|name| name.to_vec()).collect();
    let named: Vec<Vec<u8>> =
        if call.args.len() > 1 { given } else { names(call.session, subject).iter().cloned().collect() };
    let word: &[u8] = match subject {
        Subject::Channel => b"unsubscribe",
        Subject::Pattern => b"punsubscribe",
        Subject::ShardChannel => b"sunsubscribe",
    };
    for name in &named {
        if names(call.session, subject).remove(name) {
            call.executor.server.pubsub.unsubscribe(subject, name, call.session.client.number);
        }
        confirm(call.session, subject, word, Some(name));
    }
    if named.is_empty() {
        confirm(call.session, subject, word, None);
    }
    call.session.note_subscriptions();
    Ok(Reply::None.into())
}

fn names(session: &mut Session, subject: Subject) -> &mut std::collections::HashSet<Vec<u8>> {
    match subject {
        Subject::Channel => &mut session.channels,
        Subject::Pattern => &mut session.patterns,
        Subject::ShardChannel => &mut session.shard_channels,
    }
}

/// Sends the push that confirms a change: the word, the name, and how many subscriptions of its sort there are now.
fn confirm(session: &mut Session, subject: Subject, word: &[u8], name: Option<&[u8]>) {
    let count = match subject {
        Subject::Channel | Subject::Pattern => session.channels.len() + session.patterns.len(),
        Subject::ShardChannel => session.shard_channels.len(),
    };
    let name = name.map_or(Reply::Nil, |name| Reply::Owned(name.to_vec()));
    session.push(&Reply::Push(vec![Reply::Owned(word.to_vec()), name, Reply::Integer(count as i64)]));
}

/// Ends all subscriptions of a session, without a word to its client.
pub fn leave(server: &Server, session: &mut Session) {
    for subject in [Subject::Channel, Subject::Pattern, Subject::ShardChannel] {
        for name in std::mem::take(names(session, subject)) {
            server.pubsub.unsubscribe(subject, &name, session.client.number);
        }
    }
    session.note_subscriptions();
}

fn publish(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    publish_at_end(call, false)
}

fn spublish(call: &mut Call<'_, '_, Writes>) -> Result<HostOutcome, ErrorReply> {
    publish_at_end(call, true)
}

/// A script that is undone, or a transaction half done, has said nothing: the message goes out when the unit has ended.
fn publish_at_end(call: &mut Call<'_, '_, Writes>, to_shard: bool) -> Result<HostOutcome, ErrorReply> {
    let args = call.args;
    let receivers = call.server().pubsub.receivers(args[1], to_shard);
    // Without anybody to hear it there, it would only keep a primary that comes back from going on where its replicas,
    // which follow another now, left it.
    let is_for_replicas = call.server().had_replicas.load(Relaxed);
    let mut transaction = call.transaction();
    if receivers > 0 {
        transaction.publish(args[1], args[2], to_shard);
    }
    if is_for_replicas {
        transaction.state_effect(args);
    }
    Ok(Reply::Integer(receivers as i64).into())
}

fn channels(call: &mut Call<'_, '_>, subject: Subject) -> Result<HostOutcome, ErrorReply> {
    if call.args.len() > 3 {
        return Err(super::wrong_subcommand_arguments(call));
    }
    let names = call.server().pubsub.names(subject, call.args.get(2).copied());
    Ok(Reply::Array(names.into_iter().map(Reply::Owned).collect()).into())
}

fn numbers(call: &mut Call<'_, '_>, subject: Subject) -> Result<HostOutcome, ErrorReply> {
    let pubsub = &call.server().pubsub;
    let pairs = call.args[2..].iter().flat_map(|name| {
        [Reply::Owned(name.to_vec()), Reply::Integer(pubsub.subscriber_count(subject, name) as i64)]
    });
    // A flat array in both protocols, as in Valkey.
    Ok(Reply::Array(pairs.collect()).into())
}
