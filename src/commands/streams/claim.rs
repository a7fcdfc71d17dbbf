//! XCLAIM and XAUTOCLAIM: what was given to one consumer becomes another's.

use super::read::{state_claim, state_group_id};
use super::{arguments, entry_reply, id_reply, no_group};
use crate::command::Args;
use crate::commands::parse::is;
use crate::keyspace::{EventClasses, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::stream::{Group, Log, Owner, Pending, StreamId};

/// What has become of entries that were pending.
#[derive(Default)]
struct Claims {
    /// What is answered for those that the consumer has now.
    replies: Vec<Reply<'static>>,
    /// Those that are no longer in the stream, and so no longer pending.
    deleted: Vec<StreamId>,
    /// What replicas are told: each as it is now, or was when it was deleted; and the identifier as it was given, if it was.
    effects: Vec<(Pending, Option<usize>)>,
    is_new_consumer: bool,
    last_id: StreamId,
    entries_read: Option<i64>,
}

/// How an entry is claimed.
#[derive(Clone, Copy)]
struct Terms {
    now_ms: i64,
    least_idle_ms: i64,
    delivered_ms: i64,
    deliveries: Option<u64>,
    /// Also what is not pending yet.
    force: bool,
    just_id: bool,
}

impl Claims {
    /// Makes the consumer if it is new, and notes that it was seen.
    fn owner(&mut self, group: &mut Group, consumer: &[u8], now_ms: i64) -> Option<Owner> {
        self.is_new_consumer = group.create_consumer(consumer, now_ms);
        group.update_consumer(consumer, |consumer| consumer.seen_ms = now_ms);
        Some(group.consumer(consumer)?.owner().clone())
    }

    /// Claims an entry. `given` is where its identifier stands in the call.
    fn claim(
        &mut self,
        group: &mut Group,
        log: &Log,
        id: StreamId,
        given: Option<usize>,
        owner: &Owner,
        terms: &Terms,
    ) {
        let pending = group.pending(id).cloned();
        let Some(entry) = log.get(id) else {
            if let Some(pending) = pending {
                group.acknowledge(id);
                self.deleted.push(id);
                self.effects.push((pending, given));
            }
            return;
        };
        let deliveries = match &pending {
            None if !terms.force => return,
            Some(pending) if is_too_fresh(pending, terms) => return,
            None => 1,
            Some(pending) => pending.deliveries,
        };
        let deliveries = match terms.deliveries {
            Some(given) => given,
            None if terms.just_id => deliveries,
            None => deliveries.wrapping_add(1),
        };
        let pending = Pending { id, delivered_ms: terms.delivered_ms, deliveries, owner: owner.clone() };
        group.assign(pending.clone());
        self.replies.push(if terms.just_id { id_reply(id) } else { entry_reply(entry).into_owned() });
        self.effects.push((pending, given));
    }

    /// Notes what became of the consumer and the group.
    fn finish(&mut self, group: &mut Group, consumer: &[u8], now_ms: i64) {
        if !self.replies.is_empty() {
            group.update_consumer(consumer, |consumer| consumer.active_ms = Some(now_ms));
        }
        (self.last_id, self.entries_read) = (group.last_id, group.entries_read);
    }

    /// Tells events and replicas.
    fn publish(&self, transaction: &mut WriteTxn<'_>, args: &Args<'_>) {
        let (key, group) = (args[1], args[2]);
        transaction.state_no_effect();
        if self.is_new_consumer {
            transaction.notify(EventClasses::STREAM, "xgroup-createconsumer", key);
            transaction.count_changes(1);
        }
        for (pending, given) in &self.effects {
            let text = pending.id.text();
            let id = given.map_or(text.as_slice(), |at| args[at]);
            state_claim(transaction, key, group, id, pending, self.last_id);
        }
        transaction.count_changes(self.effects.len() as u64);
    }
}

fn is_too_fresh(pending: &Pending, terms: &Terms) -> bool {
    terms.least_idle_ms > 0 && terms.now_ms.wrapping_sub(pending.delivered_ms) < terms.least_idle_ms
}

fn check_group(transaction: &mut WriteTxn<'_>, key: &[u8], group: &[u8]) -> Result<(), ErrorReply> {
    let found = transaction.stream(key)?.and_then(|stream| stream.group(group));
    found.map(drop).ok_or_else(|| no_group(key, group, b""))
}

// ---- XCLAIM ----

/// Reads what follows the identifiers. Returns the terms, and how far the group is to have come at least.
fn claim_options(args: &Args<'_>, terms: &mut Terms) -> Result<StreamId, ErrorReply> {
    let mut last_id = StreamId::MIN;
    let mut words = args.iter();
    while let Some(word) = words.next() {
        let more = words.as_slice().first();
        match more {
            _ if is(word, "force") => terms.force = true,
            _ if is(word, "justid") => terms.just_id = true,
            Some(value) if is(word, "idle") => {
                let idle = arguments::integer_or(value, "ERR Invalid IDLE option argument for XCLAIM")?;
                terms.delivered_ms = terms.now_ms.wrapping_sub(idle);
                words.next();
            }
            Some(value) if is(word, "time") => {
                terms.delivered_ms =
                    arguments::integer_or(value, "ERR Invalid TIME option argument for XCLAIM")?;
                words.next();
            }
            Some(value) if is(word, "retrycount") => {
                let count =
                    arguments::integer_or(value, "ERR Invalid RETRYCOUNT option argument for XCLAIM")?;
                terms.deliveries = u64::try_from(count).ok();
                words.next();
            }
            Some(value) if is(word, "lastid") => {
                last_id = arguments::id(value, 0)?;
                words.next();
            }
            _ => {
                let parts: [&[u8]; 3] = [b"ERR Unrecognized XCLAIM option '", word, b"'"];
                return Err(ErrorReply::from_text(parts.concat()));
            }
        }
    }
    // A moment that is none, or has not come yet, is now.
    if !(0..=terms.now_ms).contains(&terms.delivered_ms) {
        terms.delivered_ms = terms.now_ms;
    }
    Ok(last_id)
}

pub fn xclaim(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    const FIRST_ID: usize = 5;
    let (key, name, consumer) = (args[1], args[2], args[3]);
    check_group(transaction, key, name)?;
    let least_idle_ms =
        arguments::integer_or(args[4], "ERR Invalid min-idle-time argument for XCLAIM")?.max(0);
    let ids: Vec<StreamId> = args[FIRST_ID..].iter().map_while(|text| arguments::id(text, 0).ok()).collect();
    let now_ms = transaction.now_ms as i64;
    let mut terms =
        Terms { now_ms, least_idle_ms, delivered_ms: now_ms, deliveries: None, force: false, just_id: false };
    let least_last_id = claim_options(&args[FIRST_ID + ids.len()..], &mut terms)?;
    let Some(stream) = transaction.change_stream(key)? else { return Err(no_group(key, name, b"")) };
    let mut claims = Claims::default();
    let moved = stream.change_group(name, |group, log| {
        let moved = least_last_id > group.last_id;
        group.last_id = group.last_id.max(least_last_id);
        let Some(owner) = claims.owner(group, consumer, now_ms) else { return moved };
        for (index, id) in ids.iter().enumerate() {
            claims.claim(group, log, *id, Some(FIRST_ID + index), &owner, &terms);
        }
        claims.finish(group, consumer, now_ms);
        moved
    });
    claims.publish(transaction, args);
    if moved == Some(true) && claims.effects.is_empty() {
        state_group_id(transaction, key, name, claims.last_id, claims.entries_read);
        transaction.count_changes(1);
    }
    Ok(Reply::Array(claims.replies))
}

// ---- XAUTOCLAIM ----

/// How many pending entries are looked at for each that may be claimed.
const LOOKS_PER_CLAIM: usize = 10;
const MOST_CLAIMS: i64 = i64::MAX / 16;

pub fn xautoclaim(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, name, consumer) = (args[1], args[2], args[3]);
    let least_idle_ms =
        arguments::integer_or(args[4], "ERR Invalid min-idle-time argument for XAUTOCLAIM")?.max(0);
    let start = arguments::start(args[5])?;
    let (mut most, mut just_id) = (100, false);
    let mut words = args[6..].iter();
    while let Some(word) = words.next() {
        if is(word, "justid") {
            just_id = true;
        } else if let Some(count) = words.as_slice().first().filter(|_| is(word, "count")) {
            let error = "ERR COUNT must be > 0";
            most = arguments::integer_or(count, error)?;
            if !(1..=MOST_CLAIMS).contains(&most) {
                return Err(ErrorReply::new(error));
            }
            words.next();
        } else {
            return Err(ErrorReply::SYNTAX);
        }
    }
    check_group(transaction, key, name)?;
    let now_ms = transaction.now_ms as i64;
    let terms =
        Terms { now_ms, least_idle_ms, delivered_ms: now_ms, deliveries: None, force: false, just_id };
    let Some(stream) = transaction.change_stream(key)? else { return Err(no_group(key, name, b"")) };
    let mut claims = Claims::default();
    let cursor = stream.change_group(name, |group, log| {
        let owner = claims.owner(group, consumer, now_ms)?;
        let cursor = claims.claim_from(group, log, start, most as usize, &owner, &terms);
        claims.finish(group, consumer, now_ms);
        cursor
    });
    claims.publish(transaction, args);
    let deleted = claims.deleted.iter().map(|id| id_reply(*id)).collect();
    Ok(Reply::Array(vec![
        id_reply(cursor.flatten().unwrap_or_default()),
        Reply::Array(claims.replies),
        Reply::Array(deleted),
    ]))
}

impl Claims {
    /// Claims up to `most` entries from an identifier on; those that are gone count too. Returns where to go on.
    fn claim_from(
        &mut self,
        group: &mut Group,
        log: &Log,
        start: StreamId,
        most: usize,
        owner: &Owner,
        terms: &Terms,
    ) -> Option<StreamId> {
        // What is looked at stays as it was while it is claimed.
        let before = group.clone();
        let mut looks = most.saturating_mul(LOOKS_PER_CLAIM);
        for pending in before.pending_from(start) {
            if looks == 0 || self.effects.len() == most {
                return Some(pending.id);
            }
            looks -= 1;
            if log.get(pending.id).is_none() || !is_too_fresh(pending, terms) {
                self.claim(group, log, pending.id, None, owner, terms);
            }
        }
        None
    }
}
