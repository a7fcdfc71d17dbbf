//! Clients that wait: for keys (BLPOP and its kin), for replicas (WAIT), for a pause to end.
//!
//! A call that waits for keys is kept here whole. Whoever holds the write guard when a key changed runs it again on
//! behalf of its client, so it is served at the moment of the change, on any reactor, first come first served.
//!
//! Invariant: a client in `Core::blocked` stands in the queue of each of its keys, and nowhere else.

use std::sync::Arc;
use std::time::Duration;

use super::client::{Client, ClientNumber, Unblock};
use super::core::Core;
use super::table::Entry;
use super::{Server, commandstats, users};
use crate::command::{Args, BlockOnKeys, BlockingFn, BlockingReadFn, Outcome};
use crate::keyspace::{KeyExpiry, Reader, WriteTxn};
use crate::protocol::{ErrorReply, Reply};

/// How a connection waits.
pub struct Waiting {
    pub timeout: Option<Duration>,
    /// Makes the reply when the time is over.
    pub on_timeout: Box<dyn FnOnce(&Arc<Server>) -> Reply<'static>>,
    /// May FAILOVER, a demotion or CLIENT UNBLOCK end it?
    pub interruptible: bool,
}

impl std::fmt::Debug for Waiting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Waiting").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}

/// What runs when a call is tried again.
#[derive(Debug, Clone, Copy)]
pub enum WaitingFn {
    Write(BlockingFn),
    Read(BlockingReadFn),
}

/// A call that waits for keys.
#[derive(Debug)]
pub struct BlockedCall {
    pub client: Arc<Client>,
    pub entry: &'static Entry,
    pub function: WaitingFn,
    pub args: Vec<Vec<u8>>,
    pub database: usize,
    pub block: BlockOnKeys,
    /// Was it answered without bytes (CLIENT REPLY OFF)?
    pub silent: bool,
}

impl Core {
    /// Lets `call` wait for its keys.
    pub fn block(&mut self, call: BlockedCall) {
        for key in &call.block.keys {
            self.writes.waited.wait(call.client.number, call.database, key);
        }
        self.blocked.insert(call.client.number, call);
    }

    /// How many keys a client waits for that learns it too when the key is gone.
    pub fn keys_that_wake_without(&self) -> usize {
        let calls = self.blocked.values().filter(|call| call.block.wakes_without);
        let keys = calls.flat_map(|call| call.block.keys.iter().map(|key| (call.database, key)));
        keys.collect::<std::collections::HashSet<_>>().len()
    }

    /// Forgets the waiting call of a client, if it has one.
    pub fn forget_blocked(&mut self, client: ClientNumber) -> Option<BlockedCall> {
        let call = self.blocked.remove(&client)?;
        for key in &call.block.keys {
            self.writes.waited.forget(client, call.database, key);
        }
        Some(call)
    }

    /// Ends every wait for keys with an error: the node is a replica now.
    pub fn interrupt_blocked(&mut self, server: &Server, error: &ErrorReply) {
        let clients: Vec<_> = self.blocked.keys().copied().collect();
        for client in clients {
            if let Some(call) = self.forget_blocked(client) {
                let reply = Reply::Error(error.clone());
                commandstats::record_unblocked(server, &call.client, Duration::ZERO, &reply);
                call.client.send(&reply);
                call.client.unblock(Unblock::Answered);
            }
        }
    }
}

/// Serves the clients that wait for keys which have changed, until no key is ready.
pub fn serve_ready(server: &Arc<Server>, core: &mut Core, now_ms: u64, expiry: KeyExpiry) {
    while core.writes.waited.has_ready() {
        for (database, key) in core.writes.waited.take_ready() {
            for client in core.writes.waited.queue(database, &key) {
                serve_one(server, core, client, database, &key, now_ms, expiry);
            }
        }
    }
}

fn serve_one(
    server: &Arc<Server>,
    core: &mut Core,
    number: ClientNumber,
    database: usize,
    key: &[u8],
    now_ms: u64,
    expiry: KeyExpiry,
) {
    let Some(call) = core.blocked.get(&number) else { return };
    if !call.block.wakes_without && !holds_kind(core, call, database, key, now_ms, expiry) {
        return;
    }
    let Some(call) = core.blocked.remove(&number) else { return };
    let args: Vec<&[u8]> = call.args.iter().map(Vec::as_slice).collect();
    let began = std::time::Instant::now();
    // The users may have changed since the call began to wait.
    if let Err(error) = users::check_waiting(server, &call.client, call.entry, &args, call.database) {
        commandstats::record_unblocked_rejected(server, call.entry, &error);
        drop(args);
        return answer(server, core, call, &Reply::Error(error));
    }
    let reply = match try_again(core, &call, &args, now_ms, expiry) {
        Ok(Outcome::Block(_)) => {
            drop(args);
            core.blocked.insert(number, call);
            return;
        }
        Ok(Outcome::Reply(reply)) => reply,
        Err(error) => Reply::Error(error),
    };
    let elapsed = began.elapsed();
    commandstats::record_unblocked(server, &call.client, elapsed, &reply);
    let nanoseconds = elapsed.as_nanos() as u64;
    server.command_log.look_at_time(server, &call.client, call.entry, &args, nanoseconds, None);
    server.command_log.look_at_sizes(server, &call.client, call.entry, &args, (usize::MAX, 0));
    drop(args);
    answer(server, core, call, &reply);
}

fn try_again(
    core: &mut Core,
    call: &BlockedCall,
    args: &Args<'_>,
    now_ms: u64,
    expiry: KeyExpiry,
) -> Result<Outcome<'static>, ErrorReply> {
    match call.function {
        WaitingFn::Write(function) => {
            let mut transaction = WriteTxn::new(&mut core.keyspace, &mut core.writes, call.database, now_ms);
            transaction.protocol = call.client.protocol();
            transaction.expiry = expiry;
            transaction.call(args, |transaction| function(transaction, args))
        }
        WaitingFn::Read(function) => {
            let reader = reader(core, call, call.database, now_ms, expiry);
            Ok(match function(&reader, args)? {
                Outcome::Reply(reply) => Outcome::Reply(reply.into_owned()),
                Outcome::Block(block) => Outcome::Block(block),
            })
        }
    }
}

/// Ends the wait of a call that is out of `Core::blocked` already.
fn answer(server: &Arc<Server>, core: &mut Core, call: BlockedCall, reply: &Reply<'_>) {
    for key in &call.block.keys {
        core.writes.waited.forget(call.client.number, call.database, key);
    }
    super::execute::publish_unit(server, core);
    if !call.silent {
        call.client.send(reply);
    }
    call.client.unblock(Unblock::Answered);
}

fn holds_kind(
    core: &Core,
    call: &BlockedCall,
    database: usize,
    key: &[u8],
    now_ms: u64,
    expiry: KeyExpiry,
) -> bool {
    reader(core, call, database, now_ms, expiry)
        .peek(key)
        .is_some_and(|entry| entry.kind() == call.block.kind)
}

/// To look whether a call can be served is no access: a key whose time has passed is deleted by the next command that meets
/// it.
fn reader<'c>(
    core: &'c Core,
    call: &BlockedCall,
    database: usize,
    now_ms: u64,
    expiry: KeyExpiry,
) -> Reader<'c> {
    Reader {
        keyspace: &core.keyspace,
        database,
        now_ms,
        protocol: call.client.protocol(),
        expiry: if expiry == KeyExpiry::Delete { KeyExpiry::Hide } else { expiry },
        touch: false,
        counters: None,
    }
}
