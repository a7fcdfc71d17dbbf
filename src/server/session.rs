//! The state of one connection, private to its reactor: no locks, not `Send`.
//!
//! Invariant: `out` holds whole replies only, in the order of the requests.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::client::{Client, Traits};
use super::command_log::CostlyCall;
use super::script::debugged::DebugMode;
use super::table::Entry;
use super::users::Identity;
use crate::command::Flags;
use crate::keyspace::WatchFlag;
use crate::protocol::{CommandResult, Protocol, Reply, encode};

/// A command queued by MULTI.
#[derive(Debug)]
pub struct Queued {
    pub entry: &'static Entry,
    /// The entry's, or fewer: a script may turn out to only read.
    pub flags: Flags,
    pub args: Vec<Vec<u8>>,
}

/// A transaction being put together.
#[derive(Debug, Default)]
pub struct Transaction {
    pub queued: Vec<Queued>,
    /// A command was refused while queueing: EXEC answers EXECABORT.
    pub refused: bool,
    pub bytes: usize,
}

/// CLIENT REPLY.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReplyMode {
    On,
    Off,
    /// The next command gets no reply.
    SkipNext,
    /// The running one gets none.
    Skip,
}

/// What a session runs commands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// A client.
    Client,
    /// A running script: inner commands.
    Script,
    /// A script that is debugged on a copy of the dataset: inner commands that nobody else sees.
    Rehearsal,
    /// The stream of this server's primary.
    Primary,
    /// The AOF being loaded.
    Loader,
}

impl Origin {
    /// Does nobody but who runs the commands see that they are run?
    pub fn is_unseen(self) -> bool {
        matches!(self, Origin::Rehearsal | Origin::Loader)
    }
}

#[derive(Debug)]
pub struct Session {
    pub client: Arc<Client>,
    pub origin: Origin,
    pub database: usize,
    /// What replies are shaped for. A script's commands have their own.
    pub protocol: Protocol,
    pub authenticated: bool,
    pub identity: Identity,
    pub transaction: Option<Transaction>,
    pub watched: Vec<(usize, Vec<u8>)>,
    pub watch_flag: WatchFlag,
    pub reply_mode: ReplyMode,
    pub channels: std::collections::HashSet<Vec<u8>>,
    pub patterns: std::collections::HashSet<Vec<u8>>,
    pub shard_channels: std::collections::HashSet<Vec<u8>>,
    /// SCRIPT DEBUG.
    pub debug: DebugMode,
    /// Encoded replies, not sent yet.
    pub out: Vec<u8>,
    /// Where in `out` the reply of the running command begins.
    pub reply_start: usize,
    /// ASKING and READONLY matter in clusters; READONLY also to `CLIENT CAPA redirect`.
    pub readonly: bool,
    /// Announced `CLIENT CAPA redirect`.
    pub redirect: bool,
    pub touch: bool,
    /// CLIENT IMPORT-SOURCE.
    pub import_source: bool,
    /// The command that took longest of those that the running script has called, if it took long.
    pub costliest: Option<Box<CostlyCall>>,
    /// How a command of the primary's stream failed, which it should not.
    pub refusal: Option<crate::protocol::ErrorReply>,
}

impl Session {
    pub fn new(client: Arc<Client>, origin: Origin) -> Self {
        Session {
            client,
            origin,
            database: 0,
            protocol: Protocol::Resp2,
            authenticated: false,
            identity: Identity::unchecked(),
            transaction: None,
            watched: Vec::new(),
            watch_flag: WatchFlag::default(),
            reply_mode: ReplyMode::On,
            debug: DebugMode::Off,
            channels: Default::default(),
            patterns: Default::default(),
            shard_channels: Default::default(),
            out: Vec::new(),
            reply_start: 0,
            readonly: false,
            redirect: false,
            touch: true,
            import_source: false,
            costliest: None,
            refusal: None,
        }
    }

    /// What a script of this session needs of it when it goes on on another thread.
    pub fn for_script(&self) -> Session {
        Session {
            database: self.database,
            protocol: self.protocol,
            authenticated: self.authenticated,
            identity: self.identity.clone(),
            touch: self.touch,
            ..Session::new(self.client.clone(), self.origin)
        }
    }

    pub fn protocol(&self) -> Protocol {
        self.protocol
    }

    /// The client chose a protocol: pushes of others follow it too.
    pub fn set_protocol(&mut self, protocol: Protocol) {
        self.protocol = protocol;
        self.client.set_protocol(protocol);
    }

    pub fn select(&mut self, database: usize) {
        self.database = database;
        self.client.figures.database.store(database, Relaxed);
    }

    /// Puts a reply behind those already made, unless CLIENT REPLY says not to.
    #[inline]
    pub fn reply(&mut self, reply: &Reply<'_>) {
        if self.origin == Origin::Primary
            && let Reply::Error(error) = reply
        {
            self.refusal = Some(error.clone());
        }
        if self.reply_mode == ReplyMode::On
            && matches!(self.origin, Origin::Client | Origin::Script | Origin::Rehearsal)
        {
            encode::encode(reply, self.protocol(), &mut self.out);
        }
    }

    /// As [`reply`](Self::reply), of what a command returned.
    #[inline]
    pub fn answer(&mut self, result: &CommandResult<'_>) {
        match result {
            Ok(reply) => self.reply(reply),
            Err(error) => self.reply(&Reply::Error(error.clone())),
        }
    }

    /// The call that CLIENT REPLY SKIP was for is over.
    pub fn skipped(&mut self) {
        if self.reply_mode == ReplyMode::Skip {
            self.reply_mode = ReplyMode::On;
        }
    }

    /// As [`reply`](Self::reply), of what CLIENT REPLY does not keep back: messages of subscriptions.
    pub fn push(&mut self, reply: &Reply<'_>) {
        encode::encode(reply, self.protocol(), &mut self.out);
    }

    /// The bytes of the running command's reply so far.
    pub fn reply_bytes(&self) -> usize {
        self.out.len().saturating_sub(self.reply_start)
    }

    /// Is the client in the state in which RESP2 allows only (P|S)SUBSCRIBE and its kin?
    pub fn is_subscribed(&self) -> bool {
        !(self.channels.is_empty() && self.patterns.is_empty() && self.shard_channels.is_empty())
    }

    pub fn note_subscriptions(&self) {
        let figures = &self.client.figures;
        figures.channels.store(self.channels.len(), Relaxed);
        figures.patterns.store(self.patterns.len(), Relaxed);
        figures.shard_channels.store(self.shard_channels.len(), Relaxed);
        self.client.set(Traits::PUBSUB, self.is_subscribed());
    }
}
