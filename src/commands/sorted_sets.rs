//! Sorted sets: the commands on one of them. Those that combine several are in `sorted_set_algebra`.

use super::parse::{self, is};
use super::sets::element;
use super::sorted_set_range::{self as range, By, Range};
use crate::command::{
    Args, Argument, ArgumentKind, BlockOnKeys, DataCommand, Flags, Group, KeySpec, KeyUse, Outcome, ReadFn,
    WriteFn,
};
use crate::keyspace::{EventClasses, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Protocol, Reply};
use crate::types::sorted_set::Inserted;
use crate::types::{Kind, SortedSet};

pub(super) const READ: KeyUse = KeyUse::RO.and(KeyUse::ACCESS);
const POP: KeyUse = KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::DELETE);
const KEY_READ: &[KeySpec] = &[KeySpec::one(1, READ)];
const KEY_DELETE: &[KeySpec] = &[KeySpec::one(1, KeyUse::RW.and(KeyUse::DELETE))];
const KEY: Argument = Argument::key();
const MEMBER: Argument = Argument::new("member", ArgumentKind::String);
const MIN: Argument = Argument::new("min", ArgumentKind::Double);
const MAX: Argument = Argument::new("max", ArgumentKind::Double);
const COUNT: Argument = Argument::new("count", ArgumentKind::Integer).optional();
const TIMEOUT: Argument = Argument::new("timeout", ArgumentKind::Double);
const WHERE: Argument = Argument::one_of("where", &[Argument::word("MIN"), Argument::word("MAX")]);
const NUMKEYS: Argument = Argument::new("numkeys", ArgumentKind::Integer);
const POP_COUNT: Argument = Argument::new("count", ArgumentKind::Integer).after("COUNT").optional();

pub(super) const fn reading(function: ReadFn) -> DataCommand {
    DataCommand { group: Group::SortedSet, keys: KEY_READ, ..DataCommand::read(function) }
}

pub(super) const fn writing(function: WriteFn) -> DataCommand {
    DataCommand { group: Group::SortedSet, ..DataCommand::write(function) }
}

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "zadd",
        summary: "Adds members with scores to a sorted set, or changes their scores.",
        since: "1.2.0",
        complexity: "O(log(N)) for each member, N being the size of the sorted set",
        arity: -4,
        flags: Flags::DENYOOM.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::UPDATE))],
        arguments: &[
            KEY,
            Argument::one_of("condition", &[Argument::word("NX"), Argument::word("XX")])
                .since("3.0.2")
                .optional(),
            Argument::one_of("comparison", &[Argument::word("GT"), Argument::word("LT")])
                .since("6.2.0")
                .optional(),
            Argument { name: "change", ..Argument::word("CH") }.since("3.0.2").optional(),
            Argument { name: "increment", ..Argument::word("INCR") }.since("3.0.2").optional(),
            Argument::block("data", &[Argument::new("score", ArgumentKind::Double), MEMBER]).multiple(),
        ],
        history: &[
            ("2.4.0", "Takes several members."),
            ("3.0.2", "NX, XX, CH and INCR."),
            ("6.2.0", "GT and LT."),
        ],
        ..writing(zadd)
    },
    DataCommand {
        name: "zincrby",
        summary: "Adds to the score of a member.",
        since: "1.2.0",
        complexity: "O(log(N)), N being the size of the sorted set",
        arity: 4,
        flags: Flags::DENYOOM.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::UPDATE))],
        arguments: &[KEY, Argument::new("increment", ArgumentKind::Integer), MEMBER],
        ..writing(zincrby)
    },
    DataCommand {
        name: "zrem",
        summary: "Removes members from a sorted set, and it with its last one.",
        since: "1.2.0",
        complexity: "O(M*log(N)), N being the size of the sorted set and M the number of members to remove",
        arity: -3,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::DELETE))],
        arguments: &[KEY, MEMBER.multiple()],
        history: &[("2.4.0", "Takes several members.")],
        ..writing(zrem)
    },
    removal(
        "zremrangebyscore",
        "Removes the members in a range of scores.",
        "1.2.0",
        &[KEY, MIN, MAX],
        |t, a| remove_range(t, a, "zremrangebyscore", By::Score),
    ),
    removal(
        "zremrangebyrank",
        "Removes the members in a range of ranks.",
        "2.0.0",
        &[KEY, Argument::new("start", ArgumentKind::Integer), Argument::new("stop", ArgumentKind::Integer)],
        |t, a| remove_range(t, a, "zremrangebyrank", By::Rank),
    ),
    removal(
        "zremrangebylex",
        "Removes the members in a range of names.",
        "2.8.9",
        &[KEY, Argument::new("min", ArgumentKind::String), Argument::new("max", ArgumentKind::String)],
        |t, a| remove_range(t, a, "zremrangebylex", By::Name),
    ),
    DataCommand {
        name: "zcard",
        summary: "The number of members of a sorted set.",
        since: "1.2.0",
        arity: 2,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RO)],
        arguments: &[KEY],
        ..reading(|reader, args| {
            Ok(Reply::Integer(reader.sorted_set(args[1])?.map_or(0, SortedSet::len) as i64))
        })
    },
    DataCommand {
        name: "zscore",
        summary: "The score of a member.",
        since: "1.2.0",
        arity: 3,
        flags: Flags::FAST,
        arguments: &[KEY, MEMBER],
        ..reading(|reader, args| {
            let score = reader.sorted_set(args[1])?.and_then(|set| set.score(args[2]));
            Ok(score.map_or(Reply::Nil, Reply::Double))
        })
    },
    DataCommand {
        name: "zmscore",
        summary: "The scores of several members.",
        since: "6.2.0",
        complexity: "O(N), N being the number of members asked for",
        arity: -3,
        flags: Flags::FAST,
        arguments: &[KEY, MEMBER.multiple()],
        ..reading(|reader, args| {
            let set = reader.sorted_set(args[1])?;
            let score =
                |member: &&[u8]| set.and_then(|set| set.score(member)).map_or(Reply::Nil, Reply::Double);
            Ok(Reply::Array(args[2..].iter().map(score).collect()))
        })
    },
    DataCommand {
        name: "zrank",
        summary: "The rank of a member, counted from the lowest score.",
        since: "2.0.0",
        complexity: "O(log(N)), N being the size of the sorted set",
        arity: -3,
        flags: Flags::FAST,
        arguments: &[KEY, MEMBER, Argument::word("WITHSCORE").optional()],
        history: &[("7.2.0", "WITHSCORE.")],
        ..reading(|reader, args| rank(reader, args, false))
    },
    DataCommand {
        name: "zrevrank",
        summary: "The rank of a member, counted from the highest score.",
        since: "2.0.0",
        complexity: "O(log(N)), N being the size of the sorted set",
        arity: -3,
        flags: Flags::FAST,
        arguments: &[KEY, MEMBER, Argument::word("WITHSCORE").optional()],
        history: &[("7.2.0", "WITHSCORE.")],
        ..reading(|reader, args| rank(reader, args, true))
    },
    DataCommand {
        name: "zcount",
        summary: "How many members have scores in a range.",
        since: "2.0.0",
        complexity: "O(log(N)), N being the size of the sorted set",
        arity: 4,
        flags: Flags::FAST,
        arguments: &[KEY, MIN, MAX],
        ..reading(|reader, args| count(reader, args, By::Score))
    },
    DataCommand {
        name: "zlexcount",
        summary: "How many members have names in a range.",
        since: "2.8.9",
        complexity: "O(log(N)), N being the size of the sorted set",
        arity: 4,
        flags: Flags::FAST,
        arguments: &[
            KEY,
            Argument::new("min", ArgumentKind::String),
            Argument::new("max", ArgumentKind::String),
        ],
        ..reading(|reader, args| count(reader, args, By::Name))
    },
    DataCommand {
        name: "zrandmember",
        summary: "Members chosen at random, which stay in the sorted set.",
        since: "6.2.0",
        complexity: "O(N), N being the number of members returned",
        arity: -2,
        arguments: &[
            KEY,
            Argument::block(
                "options",
                &[Argument::new("count", ArgumentKind::Integer), Argument::word("WITHSCORES").optional()],
            )
            .optional(),
        ],
        tips: &["nondeterministic_output"],
        ..reading(zrandmember)
    },
    DataCommand {
        name: "zpopmin",
        summary: "Takes out the members with the lowest scores.",
        since: "5.0.0",
        complexity: "O(log(N)*M), N being the size of the sorted set and M the number of members taken",
        arity: -2,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, POP)],
        arguments: &[KEY, COUNT],
        ..writing(|transaction, args| pop_command(transaction, args, Side::Min))
    },
    DataCommand {
        name: "zpopmax",
        summary: "Takes out the members with the highest scores.",
        since: "5.0.0",
        complexity: "O(log(N)*M), N being the size of the sorted set and M the number of members taken",
        arity: -2,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, POP)],
        arguments: &[KEY, COUNT],
        ..writing(|transaction, args| pop_command(transaction, args, Side::Max))
    },
    DataCommand {
        name: "zmpop",
        summary: "Takes members out of the first sorted set that has some.",
        since: "7.0.0",
        complexity: "O(K) + O(M*log(N)), K being the number of keys, N the size of the sorted set, M the count",
        group: Group::SortedSet,
        arity: -4,
        keys: &[KeySpec::counted(1, POP)],
        arguments: &[NUMKEYS, KEY.multiple(), WHERE, POP_COUNT],
        ..DataCommand::write(|transaction, args| {
            let (keys, side, count) = multi_pop(&args[1..])?;
            Ok(pop_first(transaction, keys, side, count)?.unwrap_or(Reply::NilArray))
        })
    },
    DataCommand {
        name: "bzmpop",
        summary: "Takes members out of the first sorted set that has some, or waits until one has.",
        since: "7.0.0",
        complexity: "O(K) + O(M*log(N)), K being the number of keys, N the size of the sorted set, M the count",
        group: Group::SortedSet,
        arity: -5,
        keys: &[KeySpec::counted(2, POP)],
        arguments: &[TIMEOUT, NUMKEYS, KEY.multiple(), WHERE, POP_COUNT],
        ..DataCommand::blocking(|transaction, args| {
            let timeout_ms = parse::timeout_ms(args[1])?;
            let (keys, side, count) = multi_pop(&args[2..])?;
            match pop_first(transaction, keys, side, count)? {
                Some(reply) => Ok(reply.into()),
                None => Ok(wait(keys, timeout_ms)),
            }
        })
    },
    DataCommand {
        name: "bzpopmin",
        summary: "Takes out the member with the lowest score, or waits until there is one.",
        since: "5.0.0",
        complexity: "O(log(N)), N being the size of the sorted set",
        group: Group::SortedSet,
        arity: -3,
        flags: Flags::FAST,
        keys: &[KeySpec::range(1, -2, 1, POP)],
        arguments: &[KEY.multiple(), TIMEOUT],
        history: &[("6.0.0", "The timeout may have a fraction.")],
        ..DataCommand::blocking(|transaction, args| blocking_pop(transaction, args, Side::Min))
    },
    DataCommand {
        name: "bzpopmax",
        summary: "Takes out the member with the highest score, or waits until there is one.",
        since: "5.0.0",
        complexity: "O(log(N)), N being the size of the sorted set",
        group: Group::SortedSet,
        arity: -3,
        flags: Flags::FAST,
        keys: &[KeySpec::range(1, -2, 1, POP)],
        arguments: &[KEY.multiple(), TIMEOUT],
        history: &[("6.0.0", "The timeout may have a fraction.")],
        ..DataCommand::blocking(|transaction, args| blocking_pop(transaction, args, Side::Max))
    },
];

const fn removal(
    name: &'static str,
    summary: &'static str,
    since: &'static str,
    arguments: &'static [Argument],
    function: WriteFn,
) -> DataCommand {
    DataCommand {
        name,
        summary,
        since,
        complexity: "O(log(N)+M), N being the size of the sorted set and M the number of members removed",
        arity: 4,
        keys: KEY_DELETE,
        arguments,
        ..writing(function)
    }
}

// ---- ZADD and ZINCRBY ----

#[derive(Debug, Clone, Copy, Default)]
struct AddOptions {
    only_new: bool,
    only_existing: bool,
    only_greater: bool,
    only_less: bool,
    count_changed: bool,
    increment: bool,
}

impl AddOptions {
    /// Reads the options and returns them with the score-member pairs that follow.
    fn parse<'a, 'b>(args: &'b [&'a [u8]]) -> Result<(Self, &'b [&'a [u8]]), ErrorReply> {
        let mut options = AddOptions::default();
        let mut rest = args;
        while let [word, after @ ..] = rest {
            match word.to_ascii_lowercase().as_slice() {
                b"nx" => options.only_new = true,
                b"xx" => options.only_existing = true,
                b"gt" => options.only_greater = true,
                b"lt" => options.only_less = true,
                b"ch" => options.count_changed = true,
                b"incr" => options.increment = true,
                _ => break,
            }
            rest = after;
        }
        if rest.is_empty() || !rest.len().is_multiple_of(2) {
            return Err(ErrorReply::SYNTAX);
        }
        if options.only_new && options.only_existing {
            return Err(ErrorReply::new("ERR XX and NX options at the same time are not compatible"));
        }
        let comparisons = [options.only_new, options.only_greater, options.only_less];
        if comparisons.iter().filter(|given| **given).count() > 1 {
            return Err(ErrorReply::new("ERR GT, LT, and/or NX options at the same time are not compatible"));
        }
        if options.increment && rest.len() > 2 {
            return Err(ErrorReply::new("ERR INCR option supports a single increment-element pair"));
        }
        Ok((options, rest))
    }

    /// The score that a member is to get; `None`: it is left alone.
    fn decide(self, old: Option<f64>, given: f64) -> Result<Option<f64>, ErrorReply> {
        let Some(old) = old else { return Ok((!self.only_existing).then_some(given)) };
        if self.only_new {
            return Ok(None);
        }
        let new = if self.increment { old + given } else { given };
        if new.is_nan() {
            return Err(ErrorReply::new("ERR resulting score is not a number (NaN)"));
        }
        let refused = (self.only_greater && new <= old) || (self.only_less && new >= old);
        Ok((!refused).then_some(new))
    }
}

fn zadd(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (options, pairs) = AddOptions::parse(&args[2..])?;
    add(transaction, args[1], options, pairs)
}

fn zincrby(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    // Valkey reads options of ZADD here too, after which the pair is incomplete.
    if ["nx", "xx", "gt", "lt", "ch", "incr"].iter().any(|option| is(args[2], option)) {
        return Err(ErrorReply::SYNTAX);
    }
    let options = AddOptions { increment: true, ..AddOptions::default() };
    add(transaction, args[1], options, &args[2..])
}

fn add(
    transaction: &mut WriteTxn<'_>,
    key: &[u8],
    options: AddOptions,
    pairs: &[&[u8]],
) -> CommandResult<'static> {
    let scores = pairs.chunks_exact(2).map(|pair| parse::float(pair[0])).collect::<Result<Vec<_>, _>>()?;
    let limits = transaction.limits();
    if options.only_existing && transaction.sorted_set(key)?.is_none() {
        return Ok(if options.increment { Reply::Nil } else { Reply::Integer(0) });
    }
    let longest = pairs.chunks_exact(2).map(|pair| pair[1].len()).max().unwrap_or(0);
    let set =
        transaction.sorted_set_or_new(key, || SortedSet::with_expected(scores.len(), longest, &limits))?;
    let (mut added, mut updated, mut last) = (0, 0, None);
    let mut failure = None;
    for (pair, given) in pairs.chunks_exact(2).zip(scores) {
        match options.decide(set.score(pair[1]), given) {
            Ok(Some(score)) => {
                match set.insert(pair[1], score, &limits) {
                    Inserted::Added => added += 1,
                    Inserted::Updated => updated += 1,
                    Inserted::Unchanged => {}
                }
                last = Some(score);
            }
            Ok(None) => {}
            Err(error) => {
                failure = Some(error);
                break;
            }
        }
    }
    // Nothing may have been put into what was made for it.
    let is_empty = set.is_empty();
    if added + updated > 0 {
        let event = if options.increment { "zincr" } else { "zadd" };
        transaction.changed(EventClasses::SORTEDSET, event, key, added + updated);
    }
    if is_empty {
        transaction.remove(key);
    }
    match failure {
        Some(error) => Err(error),
        None if options.increment => Ok(last.map_or(Reply::Nil, Reply::Double)),
        None if options.count_changed => Ok(Reply::Integer((added + updated) as i64)),
        None => Ok(Reply::Integer(added as i64)),
    }
}

// ---- Removing ----

fn zrem(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let Some(set) = transaction.change_sorted_set(key)? else { return Ok(Reply::Integer(0)) };
    let removed = args[2..].iter().filter(|member| set.remove(member).is_some()).count();
    if removed > 0 {
        transaction.changed(EventClasses::SORTEDSET, "zrem", key, removed as u64);
        transaction.remove_if_empty(key);
    }
    Ok(Reply::Integer(removed as i64))
}

fn remove_range(
    transaction: &mut WriteTxn<'_>,
    args: &Args<'_>,
    event: &'static str,
    by: By,
) -> CommandResult<'static> {
    let key = args[1];
    let range = Range::parse(by, args[2], args[3], false)?;
    let Some(set) = transaction.change_sorted_set(key)? else { return Ok(Reply::Integer(0)) };
    let ranks = range.ranks(set);
    let removed = ranks.len();
    if removed > 0 {
        set.remove_ranks(ranks);
        transaction.changed(EventClasses::SORTEDSET, event, key, removed as u64);
        transaction.remove_if_empty(key);
    }
    Ok(Reply::Integer(removed as i64))
}

// ---- Looking ----

fn rank<'k>(reader: &Reader<'k>, args: &Args<'_>, reverse: bool) -> CommandResult<'k> {
    let with_score = match &args[3..] {
        [] => false,
        [word] if is(word, "withscore") => true,
        [_] => return Err(ErrorReply::SYNTAX),
        _ => {
            let name = if reverse { "zrevrank" } else { "zrank" };
            return Err(ErrorReply::from_text(format!("ERR wrong number of arguments for '{name}' command")));
        }
    };
    let missing = if with_score { Reply::NilArray } else { Reply::Nil };
    let Some(set) = reader.sorted_set(args[1])? else { return Ok(missing) };
    let found = if reverse { set.reverse_rank(args[2]) } else { set.rank(args[2]) };
    Ok(match found {
        None => missing,
        Some((rank, score)) if with_score => {
            Reply::Array(vec![Reply::Integer(rank as i64), Reply::Double(score)])
        }
        Some((rank, _)) => Reply::Integer(rank as i64),
    })
}

fn count<'k>(reader: &Reader<'k>, args: &Args<'_>, by: By) -> CommandResult<'k> {
    let range = Range::parse(by, args[2], args[3], false)?;
    let count = reader.sorted_set(args[1])?.map_or(0, |set| range.ranks(set).len());
    Ok(Reply::Integer(count as i64))
}

fn zrandmember<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let mut random = fastrand::Rng::new();
    let set = reader.sorted_set(args[1])?;
    let (count, with_scores) = match &args[2..] {
        [] => {
            let chosen = set.and_then(|set| set.random(&mut random));
            return Ok(chosen.map_or(Reply::Nil, |(member, _)| element(member)));
        }
        [count] => (parse::integer(count)?, false),
        [count, word] if is(word, "withscores") => (parse::integer(count)?, true),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let bound = if with_scores { i64::MAX / 2 } else { i64::MAX };
    if count < -bound || count > bound {
        return Err(ErrorReply::OUT_OF_RANGE);
    }
    let Some(set) = set else { return Ok(Reply::Array(Vec::new())) };
    let size = set.len();
    let ranks: Vec<usize> = if count < 0 {
        (0..count.unsigned_abs()).map(|_| random.usize(..size)).collect()
    } else if count as usize >= size {
        (0..size).collect()
    } else {
        distinct(size, count as usize, &mut random)
    };
    let pairs = ranks.into_iter().filter_map(|rank| set.get(rank));
    Ok(range::reply(reader.protocol, pairs, with_scores))
}

/// `count` different numbers below `size`, fairly (Floyd's sampling).
fn distinct(size: usize, count: usize, random: &mut fastrand::Rng) -> Vec<usize> {
    let mut chosen = std::collections::HashSet::with_capacity(count);
    let mut order = Vec::with_capacity(count);
    for top in size - count..size {
        let candidate = random.usize(..=top);
        let number = if chosen.insert(candidate) { candidate } else { top };
        chosen.insert(number);
        order.push(number);
    }
    random.shuffle(&mut order);
    order
}

// ---- Popping ----

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Min,
    Max,
}

/// Takes up to `count` members out of a sorted set. `None`: there is none.
fn pop(
    transaction: &mut WriteTxn<'_>,
    key: &[u8],
    side: Side,
    count: usize,
) -> Result<Option<Vec<(Vec<u8>, f64)>>, ErrorReply> {
    let Some(set) = transaction.change_sorted_set(key)? else { return Ok(None) };
    let take = |set: &mut SortedSet| match side {
        Side::Min => set.pop_min(),
        Side::Max => set.pop_max(),
    };
    let count = count.min(set.len());
    let popped: Vec<_> =
        (0..count).map_while(|_| take(set)).map(|(member, score)| (member.into_vec(), score)).collect();
    if !popped.is_empty() {
        let event = if side == Side::Min { "zpopmin" } else { "zpopmax" };
        transaction.changed(EventClasses::SORTEDSET, event, key, popped.len() as u64);
        transaction.remove_if_empty(key);
    }
    Ok(Some(popped))
}

/// The effect of a pop, whichever command made it.
fn state_pop(transaction: &mut WriteTxn<'_>, key: &[u8], side: Side, count: Option<usize>) {
    let name: &[u8] = if side == Side::Min { b"ZPOPMIN" } else { b"ZPOPMAX" };
    match count {
        Some(count) => transaction.state_effect(&[name, key, itoa::Buffer::new().format(count).as_bytes()]),
        None => transaction.state_effect(&[name, key]),
    }
}

fn pop_command(transaction: &mut WriteTxn<'_>, args: &Args<'_>, side: Side) -> CommandResult<'static> {
    let count = match &args[2..] {
        [] => None,
        [count] => Some(parse::positive_or(count, ErrorReply::MUST_BE_POSITIVE)?),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let popped = pop(transaction, args[1], side, count.unwrap_or(1))?.unwrap_or_default();
    let pairs = popped.into_iter().map(|(member, score)| (Reply::Owned(member), Reply::Double(score)));
    // With a count RESP3 has pairs, without one both protocols have a flat array.
    Ok(if count.is_some() && transaction.protocol == Protocol::Resp3 {
        Reply::Array(pairs.map(|(member, score)| Reply::Array(vec![member, score])).collect())
    } else {
        Reply::Array(pairs.flat_map(|(member, score)| [member, score]).collect())
    })
}

/// `numkeys key [key …] MIN|MAX [COUNT count]`.
fn multi_pop<'a, 'b>(args: &'b [&'a [u8]]) -> Result<(&'b [&'a [u8]], Side, usize), ErrorReply> {
    let (keys, rest) = match parse::counted_keys(args) {
        Err(error) if error.0.starts_with(b"ERR Number of keys") => return Err(ErrorReply::SYNTAX),
        other => other?,
    };
    let (side, rest) = match rest {
        [word, rest @ ..] if is(word, "min") => (Side::Min, rest),
        [word, rest @ ..] if is(word, "max") => (Side::Max, rest),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let count = match rest {
        [] => 1,
        [word, count, rest @ ..] if is(word, "count") => {
            let error = ErrorReply::new("ERR count should be greater than 0");
            match parse::positive_or(count, error.clone())? {
                0 => return Err(error),
                _ if !rest.is_empty() => return Err(ErrorReply::SYNTAX),
                count => count,
            }
        }
        _ => return Err(ErrorReply::SYNTAX),
    };
    Ok((keys, side, count))
}

fn pop_first(
    transaction: &mut WriteTxn<'_>,
    keys: &[&[u8]],
    side: Side,
    count: usize,
) -> Result<Option<Reply<'static>>, ErrorReply> {
    for key in keys {
        let Some(popped) = pop(transaction, key, side, count)? else { continue };
        state_pop(transaction, key, side, Some(popped.len()));
        let pairs = popped
            .into_iter()
            .map(|(member, score)| Reply::Array(vec![Reply::Owned(member), Reply::Double(score)]))
            .collect();
        return Ok(Some(Reply::Array(vec![Reply::Owned(key.to_vec()), Reply::Array(pairs)])));
    }
    Ok(None)
}

fn blocking_pop(
    transaction: &mut WriteTxn<'_>,
    args: &Args<'_>,
    side: Side,
) -> Result<Outcome<'static>, ErrorReply> {
    let (keys, timeout) = (&args[1..args.len() - 1], args[args.len() - 1]);
    let timeout_ms = parse::timeout_ms(timeout)?;
    for key in keys {
        let Some(popped) = pop(transaction, key, side, 1)? else { continue };
        state_pop(transaction, key, side, None);
        let mut reply = vec![Reply::Owned(key.to_vec())];
        for (member, score) in popped {
            reply.extend([Reply::Owned(member), Reply::Double(score)]);
        }
        return Ok(Reply::Array(reply).into());
    }
    Ok(wait(keys, timeout_ms))
}

fn wait(keys: &[&[u8]], timeout_ms: u64) -> Outcome<'static> {
    Outcome::Block(BlockOnKeys {
        keys: keys.iter().map(|key| key.to_vec()).collect(),
        kind: Kind::SortedSet,
        wakes_without: false,
        args: None,
        timeout_ms,
        on_timeout: Reply::NilArray,
        when_denied: Reply::NilArray,
    })
}
