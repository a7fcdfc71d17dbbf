//! Sets.

use std::collections::HashSet;

use super::parse::{self, positive_or};
use crate::command::{
    Args, Argument, ArgumentKind, DataCommand, Flags, Group, KeySpec, KeyUse, ReadFn, WriteFn,
};
use crate::keyspace::entry::Collection;
use crate::keyspace::{Entry, EventClasses, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::element::{Element, TextBuffer};
use crate::types::{Limits, Set};

const READ: KeyUse = KeyUse::RO.and(KeyUse::ACCESS);
const KEY_READ: &[KeySpec] = &[KeySpec::one(1, READ)];
const KEYS_READ: &[KeySpec] = &[KeySpec::range(1, -1, 1, READ)];
const STORE: &[KeySpec] = &[KeySpec::one(1, KeyUse::OW.and(KeyUse::UPDATE)), KeySpec::range(2, -1, 1, READ)];
const MEMBER: Argument = Argument::new("member", ArgumentKind::String);
const COUNT: Argument = Argument::new("count", ArgumentKind::Integer).optional();
const DESTINATION: Argument = Argument::new("destination", ArgumentKind::Key);

const fn reading(function: ReadFn) -> DataCommand {
    DataCommand { group: Group::Set, keys: KEY_READ, ..DataCommand::read(function) }
}

const fn writing(function: WriteFn) -> DataCommand {
    DataCommand { group: Group::Set, ..DataCommand::write(function) }
}

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "sadd",
        summary: "Adds members to a set, which is made if there is none.",
        complexity: "O(1) for each member",
        arity: -3,
        flags: Flags::DENYOOM.and(Flags::FAST),
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::INSERT))],
        arguments: &[Argument::key(), MEMBER.multiple()],
        history: &[("2.4.0", "Takes several members.")],
        ..writing(sadd)
    },
    DataCommand {
        name: "srem",
        summary: "Removes members from a set, and the set with its last one.",
        complexity: "O(N), N being the number of members to remove",
        arity: -3,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::DELETE))],
        arguments: &[Argument::key(), MEMBER.multiple()],
        history: &[("2.4.0", "Takes several members.")],
        ..writing(srem)
    },
    DataCommand {
        name: "smove",
        summary: "Moves a member from one set to another.",
        arity: 4,
        flags: Flags::FAST,
        keys: &[
            KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::DELETE)),
            KeySpec::one(2, KeyUse::RW.and(KeyUse::INSERT)),
        ],
        arguments: &[Argument::new("source", ArgumentKind::Key), DESTINATION, MEMBER],
        ..writing(smove)
    },
    DataCommand {
        name: "spop",
        summary: "Takes members out of a set at random.",
        complexity: "O(1) without a count, otherwise O(N), N being the count",
        arity: -2,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::DELETE))],
        arguments: &[Argument::key(), COUNT.since("3.2.0")],
        tips: &["nondeterministic_output"],
        history: &[("3.2.0", "Takes a count.")],
        ..writing(spop)
    },
    DataCommand {
        name: "sismember",
        summary: "Whether something is a member of a set.",
        arity: 3,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RO)],
        arguments: &[Argument::key(), MEMBER],
        ..reading(sismember)
    },
    DataCommand {
        name: "smismember",
        summary: "Whether several things are members of a set.",
        since: "6.2.0",
        complexity: "O(N), N being the number of members asked for",
        arity: -3,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, READ)],
        arguments: &[Argument::key(), MEMBER.multiple()],
        ..reading(smismember)
    },
    DataCommand {
        name: "scard",
        summary: "The number of members of a set.",
        arity: 2,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RO)],
        arguments: &[Argument::key()],
        ..reading(|reader, args| Ok(Reply::Integer(reader.set(args[1])?.map_or(0, Set::len) as i64)))
    },
    DataCommand {
        name: "smembers",
        summary: "All members of a set.",
        complexity: "O(N), N being the number of members",
        arity: 2,
        arguments: &[Argument::key()],
        tips: &["nondeterministic_output_order"],
        ..reading(|reader, args| {
            Ok(Reply::Set(
                reader.set(args[1])?.map_or_else(Vec::new, |set| set.iter().map(element).collect()),
            ))
        })
    },
    DataCommand {
        name: "srandmember",
        summary: "Members of a set chosen at random, which stay in it.",
        complexity: "O(1) without a count, otherwise O(N), N being the count",
        arity: -2,
        arguments: &[Argument::key(), COUNT.since("2.6.0")],
        tips: &["nondeterministic_output"],
        history: &[("2.6.0", "Takes a count.")],
        ..reading(srandmember)
    },
    DataCommand {
        name: "sinter",
        summary: "The members that all sets have.",
        complexity: "O(N*M), N being the size of the smallest set and M the number of sets",
        arity: -2,
        keys: KEYS_READ,
        arguments: &[Argument::key().multiple()],
        tips: &["nondeterministic_output_order"],
        ..reading(|reader, args| combined(reader, args, intersect))
    },
    DataCommand {
        name: "sunion",
        summary: "The members that any of the sets has.",
        complexity: "O(N), N being the number of members of all sets",
        arity: -2,
        keys: KEYS_READ,
        arguments: &[Argument::key().multiple()],
        tips: &["nondeterministic_output_order"],
        ..reading(|reader, args| combined(reader, args, unite))
    },
    DataCommand {
        name: "sdiff",
        summary: "The members of the first set that no other one has.",
        complexity: "O(N), N being the number of members of all sets",
        arity: -2,
        keys: KEYS_READ,
        arguments: &[Argument::key().multiple()],
        tips: &["nondeterministic_output_order"],
        ..reading(|reader, args| combined(reader, args, subtract))
    },
    DataCommand {
        name: "sintercard",
        summary: "How many members all sets have in common, up to a limit.",
        since: "7.0.0",
        complexity: "O(N*M), N being the size of the smallest set and M the number of sets",
        arity: -3,
        keys: &[KeySpec::counted(1, READ)],
        arguments: &[
            Argument::new("numkeys", ArgumentKind::Integer),
            Argument::key().multiple(),
            Argument::new("limit", ArgumentKind::Integer).after("LIMIT").optional(),
        ],
        ..reading(sintercard)
    },
    DataCommand {
        name: "sinterstore",
        summary: "Stores the members that all sets have.",
        complexity: "O(N*M), N being the size of the smallest set and M the number of sets",
        arity: -3,
        flags: Flags::DENYOOM,
        keys: STORE,
        arguments: &[DESTINATION, Argument::key().multiple()],
        ..writing(|transaction, args| store(transaction, args, "sinterstore", intersect))
    },
    DataCommand {
        name: "sunionstore",
        summary: "Stores the members that any of the sets has.",
        complexity: "O(N), N being the number of members of all sets",
        arity: -3,
        flags: Flags::DENYOOM,
        keys: STORE,
        arguments: &[DESTINATION, Argument::key().multiple()],
        ..writing(|transaction, args| store(transaction, args, "sunionstore", unite))
    },
    DataCommand {
        name: "sdiffstore",
        summary: "Stores the members of the first set that no other one has.",
        complexity: "O(N), N being the number of members of all sets",
        arity: -3,
        flags: Flags::DENYOOM,
        keys: STORE,
        arguments: &[DESTINATION, Argument::key().multiple()],
        ..writing(|transaction, args| store(transaction, args, "sdiffstore", subtract))
    },
];

/// An element as a bulk string.
pub(super) fn element(element: Element<'_>) -> Reply<'_> {
    match element {
        Element::Bytes(bytes) => Reply::Bulk(bytes),
        Element::Integer(number) => Reply::BulkInteger(number),
    }
}

fn sadd(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, members) = (args[1], &args[2..]);
    let limits = transaction.limits();
    let set = transaction.set_or_new(key, || Set::new(members[0], members.len(), &limits))?;
    set.prepare(members.len(), &limits);
    let added = members.iter().filter(|member| set.insert(member, &limits)).count();
    if added > 0 {
        transaction.changed(EventClasses::SET, "sadd", key, added as u64);
    }
    Ok(Reply::Integer(added as i64))
}

fn srem(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let Some(set) = transaction.change_set(key)? else { return Ok(Reply::Integer(0)) };
    let removed = args[2..].iter().filter(|member| set.remove(member)).count();
    if removed > 0 {
        transaction.changed(EventClasses::SET, "srem", key, removed as u64);
        transaction.remove_if_empty(key);
    }
    Ok(Reply::Integer(removed as i64))
}

fn smove(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (source, destination, member) = (args[1], args[2], args[3]);
    let Some(set) = transaction.set(source)? else { return Ok(Reply::Integer(0)) };
    let has = set.contains(member);
    transaction.set(destination)?;
    if source == destination {
        return Ok(Reply::Integer(i64::from(has)));
    }
    if !has {
        return Ok(Reply::Integer(0));
    }
    if let Some(set) = transaction.change_set(source)? {
        set.remove(member);
    }
    transaction.notify(EventClasses::SET, "srem", source);
    transaction.remove_if_empty(source);
    transaction.touched(source);
    transaction.count_changes(1);
    let limits = transaction.limits();
    let set = transaction.set_or_new(destination, || Set::new(member, 1, &limits))?;
    if set.insert(member, &limits) {
        transaction.changed(EventClasses::SET, "sadd", destination, 1);
    }
    transaction.touched(destination);
    Ok(Reply::Integer(1))
}

fn spop(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let count = match &args[2..] {
        [] => None,
        [count] => Some(positive_or(count, ErrorReply::MUST_BE_POSITIVE)?),
        _ => return Err(ErrorReply::SYNTAX),
    };
    let Some(set) = transaction.set(key)? else {
        return Ok(if count.is_some() { Reply::Set(Vec::new()) } else { Reply::Nil });
    };
    let size = set.len();
    let wanted = count.unwrap_or(1).min(size);
    if wanted == 0 {
        return Ok(Reply::Set(Vec::new()));
    }
    let mut popped = Vec::with_capacity(wanted);
    let mut random = fastrand::Rng::new();
    if wanted == size && count.is_some() {
        popped.extend(set.iter().map(|member| member.to_vec()));
        transaction.remove(key);
        transaction.notify(EventClasses::SET, "spop", key);
        transaction.notify(EventClasses::GENERIC, "del", key);
        transaction.touched(key);
        let name: &[u8] = if transaction.settings().lazy_free.server_delete { b"UNLINK" } else { b"DEL" };
        transaction.state_effect(&[name, key]);
    } else {
        let Some(set) = transaction.change_set(key)? else { return Ok(Reply::Nil) };
        popped.extend((0..wanted).map_while(|_| set.pop_random(&mut random)).map(|member| member.into_vec()));
        transaction.notify(EventClasses::SET, "spop", key);
        state_removals(transaction, key, &popped);
        transaction.remove_if_empty(key);
        transaction.touched(key);
    }
    transaction.count_changes(wanted as u64);
    Ok(match count {
        Some(_) => Reply::Set(popped.into_iter().map(Reply::Owned).collect()),
        None => popped.pop().map_or(Reply::Nil, Reply::Owned),
    })
}

/// What was chosen at random is told by name, in commands of bounded length.
fn state_removals(transaction: &mut WriteTxn<'_>, key: &[u8], members: &[Vec<u8>]) {
    for members in members.chunks(1024) {
        let mut effect: Vec<&[u8]> = vec![b"SREM", key];
        effect.extend(members.iter().map(Vec::as_slice));
        transaction.state_effect(&effect);
    }
}

fn sismember<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let is = reader.set(args[1])?.is_some_and(|set| set.contains(args[2]));
    Ok(Reply::Integer(i64::from(is)))
}

fn smismember<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let set = reader.set(args[1])?;
    let is = |member: &&[u8]| Reply::Integer(i64::from(set.is_some_and(|set| set.contains(member))));
    Ok(Reply::Array(args[2..].iter().map(is).collect()))
}

fn srandmember<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let mut random = fastrand::Rng::new();
    let set = reader.set(args[1])?;
    let count = match &args[2..] {
        [] => return Ok(set.and_then(|set| set.random(&mut random)).map_or(Reply::Nil, element)),
        [count] => parse::integer_in(count, -i64::MAX / 2, i64::MAX / 2)?,
        _ => return Err(ErrorReply::SYNTAX),
    };
    let Some(set) = set else { return Ok(Reply::Array(Vec::new())) };
    if count < 0 {
        let chosen = (0..count.unsigned_abs()).map_while(|_| set.random(&mut random)).map(element);
        return Ok(Reply::Array(chosen.collect()));
    }
    Ok(Reply::Array(choose(set, count as usize, &mut random)))
}

/// `count` different members, fairly.
fn choose<'k>(set: &'k Set, count: usize, random: &mut fastrand::Rng) -> Vec<Reply<'k>> {
    if count >= set.len() {
        return set.iter().map(element).collect();
    }
    if count * 3 > set.len() {
        let mut all: Vec<Reply<'k>> = set.iter().map(element).collect();
        random.shuffle(&mut all);
        all.truncate(count);
        return all;
    }
    let mut seen = HashSet::with_capacity(count);
    let mut chosen = Vec::with_capacity(count);
    while chosen.len() < count {
        let Some(member) = set.random(random) else { break };
        if seen.insert(member.to_vec()) {
            chosen.push(element(member));
        }
    }
    chosen
}

// ---- Combining sets ----

/// How members of several sets (`None`: no such key) are combined. The members are visited once each.
type Combine = for<'k> fn(&[Option<&'k Set>], &mut dyn FnMut(Element<'k>));

fn intersect<'k>(sets: &[Option<&'k Set>], visit: &mut dyn FnMut(Element<'k>)) {
    let Some(mut sets) = sets.iter().copied().collect::<Option<Vec<&Set>>>() else { return };
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else { return };
    let mut buffer = TextBuffer::new();
    for member in smallest.iter() {
        let text = member.text(&mut buffer);
        if others.iter().all(|set| set.contains(text)) {
            visit(member);
        }
    }
}

fn unite<'k>(sets: &[Option<&'k Set>], visit: &mut dyn FnMut(Element<'k>)) {
    let mut buffer = TextBuffer::new();
    for (index, set) in sets.iter().enumerate() {
        for member in set.iter().flat_map(|set| set.iter()) {
            let text = member.text(&mut buffer);
            if !sets[..index].iter().flatten().any(|earlier| earlier.contains(text)) {
                visit(member);
            }
        }
    }
}

fn subtract<'k>(sets: &[Option<&'k Set>], visit: &mut dyn FnMut(Element<'k>)) {
    let Some((Some(first), others)) = sets.split_first() else { return };
    let mut buffer = TextBuffer::new();
    for member in first.iter() {
        let text = member.text(&mut buffer);
        if !others.iter().flatten().any(|set| set.contains(text)) {
            visit(member);
        }
    }
}

fn combined<'k>(reader: &Reader<'k>, args: &Args<'_>, combine: Combine) -> CommandResult<'k> {
    let sets = args[1..].iter().map(|key| reader.set(key)).collect::<Result<Vec<_>, _>>()?;
    let mut members = Vec::new();
    combine(&sets, &mut |member| members.push(element(member)));
    Ok(Reply::Set(members))
}

fn store(
    transaction: &mut WriteTxn<'_>,
    args: &Args<'_>,
    event: &'static str,
    combine: Combine,
) -> CommandResult<'static> {
    let (destination, sources) = (args[1], &args[2..]);
    // Looking deletes what has expired, before anything is borrowed.
    for key in sources {
        transaction.set(key)?;
    }
    let limits = transaction.limits();
    let result = {
        let reader = transaction.reader();
        let sets = sources.iter().map(|key| reader.set(key)).collect::<Result<Vec<_>, _>>()?;
        let mut result: Option<Set> = None;
        let mut buffer = TextBuffer::new();
        combine(&sets, &mut |member| add(&mut result, member, &mut buffer, &limits));
        result
    };
    let Some(set) = result else {
        if transaction.delete(destination) {
            transaction.count_changes(1);
        }
        return Ok(Reply::Integer(0));
    };
    let size = set.len();
    transaction.insert(Entry::collection(destination, Collection::Set(set), None));
    transaction.changed(EventClasses::SET, event, destination, 1);
    Ok(Reply::Integer(size as i64))
}

fn add(result: &mut Option<Set>, member: Element<'_>, buffer: &mut TextBuffer, limits: &Limits) {
    let text = member.text(buffer);
    result.get_or_insert_with(|| Set::new(text, 0, limits)).insert(text, limits);
}

fn sintercard<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let (keys, rest) = parse::counted_keys(&args[1..])?;
    let limit = match rest {
        [] => usize::MAX,
        [word, limit] if word.eq_ignore_ascii_case(b"limit") => {
            match positive_or(limit, ErrorReply::new("ERR LIMIT can't be negative"))? {
                0 => usize::MAX,
                limit => limit,
            }
        }
        _ => return Err(ErrorReply::SYNTAX),
    };
    let sets = keys.iter().map(|key| reader.set(key)).collect::<Result<Vec<_>, _>>()?;
    let mut count = 0usize;
    intersect(&sets, &mut |_| count += 1);
    Ok(Reply::Integer(count.min(limit) as i64))
}
