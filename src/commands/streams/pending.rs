//! XPENDING: what a group was given and has not acknowledged.

use super::{arguments, id_reply, no_group};
use crate::command::Args;
use crate::commands::parse::{self, is};
use crate::keyspace::Reader;
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::stream::{Group, Pending, StreamId};

/// The longer form: which entries, and of whom.
struct Filter<'a> {
    least_idle_ms: i64,
    start: StreamId,
    end: StreamId,
    most: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    fn parse(words: &Args<'a>) -> Result<Filter<'a>, ErrorReply> {
        let (least_idle_ms, words) = match words {
            [word, idle, rest @ ..] if is(word, "idle") => {
                let idle = parse::integer(idle)?;
                if rest.len() < 3 {
                    return Err(ErrorReply::SYNTAX);
                }
                (idle, rest)
            }
            words => (0, words),
        };
        let [start, end, count, rest @ ..] = words else { return Err(ErrorReply::SYNTAX) };
        let most = arguments::count(count)?;
        let (start, end) = (arguments::start(start)?, arguments::end(end)?);
        Ok(Filter { least_idle_ms, start, end, most, consumer: rest.first().copied() })
    }

    fn has(&self, pending: &Pending, now_ms: i64) -> bool {
        self.least_idle_ms == 0 || now_ms.wrapping_sub(pending.delivered_ms) >= self.least_idle_ms
    }
}

pub fn xpending<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let filter = match args.len() {
        3 => None,
        6..=9 => Some(Filter::parse(&args[3..])?),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let group = reader.stream(args[1])?.and_then(|stream| stream.group(args[2]));
    let group = group.ok_or_else(|| no_group(args[1], args[2], b""))?;
    let Some(filter) = filter else { return Ok(summary(group)) };
    let now_ms = reader.now_ms as i64;
    let from_consumer = match filter.consumer {
        None => None,
        Some(name) => match group.consumer(name) {
            Some(consumer) => Some(group.owned_from(consumer.owner(), filter.start)),
            None => return Ok(Reply::Array(Vec::new())),
        },
    };
    let show = |pending: &'k Pending| {
        Reply::Array(vec![
            id_reply(pending.id),
            Reply::Bulk(pending.owner.name()),
            Reply::Integer(now_ms.wrapping_sub(pending.delivered_ms).max(0)),
            Reply::Integer(pending.deliveries as i64),
        ])
    };
    let within = |pending: &&Pending| pending.id <= filter.end;
    let wanted = |pending: &&Pending| filter.has(pending, now_ms);
    Ok(Reply::Array(match from_consumer {
        Some(owned) => owned.take_while(within).filter(wanted).take(filter.most).map(show).collect(),
        None => {
            let all = group.pending_from(filter.start);
            all.take_while(within).filter(wanted).take(filter.most).map(show).collect()
        }
    }))
}

/// How many entries, the lowest and the highest, and how many of each consumer.
fn summary(group: &Group) -> Reply<'_> {
    let first = group.pending_from(StreamId::MIN).next();
    let (Some(first), Some(last)) = (first, group.last_pending()) else {
        return Reply::Array(vec![Reply::Integer(0), Reply::Nil, Reply::Nil, Reply::NilArray]);
    };
    let consumers = group.consumers().map(|consumer| (consumer, group.owned_count(consumer.owner())));
    let consumers = consumers.filter(|(_, count)| *count > 0).map(|(consumer, count)| {
        Reply::Array(vec![Reply::Bulk(consumer.name()), Reply::BulkInteger(count as i64)])
    });
    Reply::Array(vec![
        Reply::Integer(group.pending_count() as i64),
        id_reply(first.id),
        id_reply(last.id),
        Reply::Array(consumers.collect()),
    ])
}
