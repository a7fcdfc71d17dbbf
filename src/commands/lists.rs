//! Lists: pushing, popping, looking and changing; moving elements between lists and waiting for them.
//!
//! Invariants: a list without elements is never left under its key; a call that waited is told to replicas as the call
//! that does not wait.

use super::parse::{self, index_range, integer, is, positive_or};
use super::sets::element;
use crate::base::number;
use crate::command::{
    Args, Argument, ArgumentKind, BlockOnKeys, BlockingFn, DataCommand, Flags, Group, KeySpec, KeyUse,
    Outcome, ReadFn, WriteFn,
};
use crate::keyspace::{EventClasses, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::element::{Element, OwnedElement, TextBuffer};
use crate::types::list::{Direction, End};
use crate::types::{Kind, List};

const POP: KeyUse = KeyUse::RW.and(KeyUse::ACCESS).and(KeyUse::DELETE);
const KEY_READ: &[KeySpec] = &[KeySpec::one(1, KeyUse::RO.and(KeyUse::ACCESS))];
const KEY_INSERT: &[KeySpec] = &[KeySpec::one(1, KeyUse::RW.and(KeyUse::INSERT))];
const KEY_DELETE: &[KeySpec] = &[KeySpec::one(1, KeyUse::RW.and(KeyUse::DELETE))];
const KEY_POP: &[KeySpec] = &[KeySpec::one(1, POP)];
const KEYS_POP: &[KeySpec] = &[KeySpec::range(1, -2, 1, POP)];
const KEYS_MOVE: &[KeySpec] = &[KeySpec::one(1, POP), KeySpec::one(2, KeyUse::RW.and(KeyUse::INSERT))];

const KEY: Argument = Argument::key();
const ELEMENT: Argument = Argument::new("element", ArgumentKind::String);
const INDEX: Argument = Argument::new("index", ArgumentKind::Integer);
const START: Argument = Argument::new("start", ArgumentKind::Integer);
const STOP: Argument = Argument::new("stop", ArgumentKind::Integer);
const COUNT: Argument = Argument::new("count", ArgumentKind::Integer);
const NUMKEYS: Argument = Argument::new("numkeys", ArgumentKind::Integer);
const TIMEOUT: Argument = Argument::new("timeout", ArgumentKind::Double);
const SOURCE: Argument = Argument::new("source", ArgumentKind::Key);
const DESTINATION: Argument = Argument::new("destination", ArgumentKind::Key);
const ENDS: &[Argument] = &[Argument::word("LEFT"), Argument::word("RIGHT")];
const WHERE: Argument = Argument::one_of("where", ENDS);
const WHEREFROM: Argument = Argument::one_of("wherefrom", ENDS);
const WHERETO: Argument = Argument::one_of("whereto", ENDS);
const POP_COUNT: Argument = COUNT.after("COUNT").optional();

const PUSH_COMPLEXITY: &str = "O(N), N being the number of elements added";
const POP_COMPLEXITY: &str = "O(N), N being the number of elements returned";
const KEYS_COMPLEXITY: &str = "O(N), N being the number of keys";
const POP_KEYS_COMPLEXITY: &str = "O(N+M), N being the number of keys and M the number of elements returned";

const fn reading(function: ReadFn) -> DataCommand {
    DataCommand { group: Group::List, keys: KEY_READ, ..DataCommand::read(function) }
}

const fn writing(function: WriteFn) -> DataCommand {
    DataCommand { group: Group::List, ..DataCommand::write(function) }
}

const fn blocking(function: BlockingFn) -> DataCommand {
    DataCommand { group: Group::List, ..DataCommand::blocking(function) }
}

const fn pushing(
    name: &'static str,
    summary: &'static str,
    since: &'static str,
    history: &'static [(&'static str, &'static str)],
    function: WriteFn,
) -> DataCommand {
    DataCommand {
        name,
        summary,
        since,
        history,
        complexity: PUSH_COMPLEXITY,
        arity: -3,
        flags: Flags::DENYOOM.and(Flags::FAST),
        keys: KEY_INSERT,
        arguments: const { &[KEY, ELEMENT.multiple()] },
        ..writing(function)
    }
}

const fn popping(name: &'static str, summary: &'static str, function: WriteFn) -> DataCommand {
    DataCommand {
        name,
        summary,
        complexity: POP_COMPLEXITY,
        arity: -2,
        flags: Flags::FAST,
        keys: KEY_POP,
        arguments: const { &[KEY, COUNT.since("6.2.0").optional()] },
        history: &[("6.2.0", "Takes a count.")],
        ..writing(function)
    }
}

const fn waiting_pop(name: &'static str, summary: &'static str, function: BlockingFn) -> DataCommand {
    DataCommand {
        name,
        summary,
        since: "2.0.0",
        complexity: KEYS_COMPLEXITY,
        arity: -3,
        keys: KEYS_POP,
        arguments: const { &[KEY.multiple(), TIMEOUT] },
        history: &[("6.0.0", "The timeout may have a fraction.")],
        ..blocking(function)
    }
}

pub const COMMANDS: &[DataCommand] = &[
    pushing(
        "lpush",
        "Puts elements at the head of a list, which is made if there is none.",
        "1.0.0",
        &[("2.4.0", "Takes several elements.")],
        |t, a| push(t, a, End::Front, false),
    ),
    pushing(
        "rpush",
        "Puts elements at the tail of a list, which is made if there is none.",
        "1.0.0",
        &[("2.4.0", "Takes several elements.")],
        |t, a| push(t, a, End::Back, false),
    ),
    pushing(
        "lpushx",
        "Puts elements at the head of a list that exists.",
        "2.2.0",
        &[("4.0.0", "Takes several elements.")],
        |t, a| push(t, a, End::Front, true),
    ),
    pushing(
        "rpushx",
        "Puts elements at the tail of a list that exists.",
        "2.2.0",
        &[("4.0.0", "Takes several elements.")],
        |t, a| push(t, a, End::Back, true),
    ),
    popping("lpop", "Takes elements from the head of a list, and the list with its last one.", |t, a| {
        pop(t, a, End::Front)
    }),
    popping("rpop", "Takes elements from the tail of a list, and the list with its last one.", |t, a| {
        pop(t, a, End::Back)
    }),
    DataCommand {
        name: "llen",
        summary: "The number of elements of a list.",
        arity: 2,
        flags: Flags::FAST,
        keys: &[KeySpec::one(1, KeyUse::RO)],
        arguments: &[KEY],
        ..reading(|reader, args| Ok(Reply::Integer(reader.list(args[1])?.map_or(0, List::len) as i64)))
    },
    DataCommand {
        name: "lindex",
        summary: "The element at an index of a list.",
        complexity: "O(log(N)), N being the length of the list",
        arity: 3,
        arguments: &[KEY, INDEX],
        ..reading(lindex)
    },
    DataCommand {
        name: "lset",
        summary: "Replaces the element at an index of a list.",
        complexity: "O(log(N)), N being the length of the list",
        arity: 4,
        flags: Flags::DENYOOM,
        keys: &[KeySpec::one(1, KeyUse::RW.and(KeyUse::UPDATE))],
        arguments: &[KEY, INDEX, ELEMENT],
        ..writing(lset)
    },
    DataCommand {
        name: "lrange",
        summary: "The elements in a range of indexes of a list.",
        complexity: "O(log(N)+M), N being the length of the list and M the number of elements returned",
        arity: 4,
        arguments: &[KEY, START, STOP],
        ..reading(lrange)
    },
    DataCommand {
        name: "ltrim",
        summary: "Keeps only the elements in a range of indexes of a list.",
        complexity: "O(N), N being the number of elements removed",
        arity: 4,
        keys: KEY_DELETE,
        arguments: &[KEY, START, STOP],
        ..writing(ltrim)
    },
    DataCommand {
        name: "lrem",
        summary: "Removes elements that equal a value from a list, and the list with its last one.",
        complexity: "O(N), N being the length of the list",
        arity: 4,
        keys: KEY_DELETE,
        arguments: &[KEY, COUNT, ELEMENT],
        ..writing(lrem)
    },
    DataCommand {
        name: "linsert",
        summary: "Puts an element before or after another one of a list.",
        since: "2.2.0",
        complexity: "O(N), N being the number of elements before the pivot",
        arity: 5,
        flags: Flags::DENYOOM,
        keys: KEY_INSERT,
        arguments: &[
            KEY,
            Argument::one_of("where", &[Argument::word("BEFORE"), Argument::word("AFTER")]),
            Argument::new("pivot", ArgumentKind::String),
            ELEMENT,
        ],
        ..writing(linsert)
    },
    DataCommand {
        name: "lpos",
        summary: "The indexes at which a list has an element.",
        since: "6.0.6",
        complexity: "O(N), N being the number of elements looked at",
        arity: -3,
        arguments: &[
            KEY,
            ELEMENT,
            Argument::new("rank", ArgumentKind::Integer).after("RANK").optional(),
            Argument::new("num-matches", ArgumentKind::Integer).after("COUNT").optional(),
            Argument::new("len", ArgumentKind::Integer).after("MAXLEN").optional(),
        ],
        ..reading(lpos)
    },
    DataCommand {
        name: "lmove",
        summary: "Moves an element from one end of a list to one end of another.",
        since: "6.2.0",
        arity: 5,
        flags: Flags::DENYOOM,
        keys: KEYS_MOVE,
        arguments: &[SOURCE, DESTINATION, WHEREFROM, WHERETO],
        ..writing(|transaction, args| {
            let (from, to) = (end(args[3])?, end(args[4])?);
            Ok(move_element(transaction, args[1], args[2], from, to)?.unwrap_or(Reply::Nil))
        })
    },
    DataCommand {
        name: "rpoplpush",
        summary: "Moves the last element of a list to the head of another.",
        since: "1.2.0",
        arity: 3,
        flags: Flags::DENYOOM,
        keys: KEYS_MOVE,
        arguments: &[SOURCE, DESTINATION],
        ..writing(|transaction, args| {
            Ok(move_element(transaction, args[1], args[2], End::Back, End::Front)?.unwrap_or(Reply::Nil))
        })
    },
    DataCommand {
        name: "lmpop",
        summary: "Takes elements from one end of the first list that is not empty.",
        since: "7.0.0",
        complexity: POP_KEYS_COMPLEXITY,
        arity: -4,
        keys: &[KeySpec::counted(1, POP)],
        arguments: &[NUMKEYS, KEY.multiple(), WHERE, POP_COUNT],
        ..writing(|transaction, args| {
            let wanted = Wanted::parse(&args[1..])?;
            Ok(pop_first(transaction, &wanted)?.unwrap_or(Reply::NilArray))
        })
    },
    waiting_pop(
        "blpop",
        "Takes an element from the head of the first list that has one, or waits.",
        |t, a| waiting_pop_one(t, a, End::Front),
    ),
    waiting_pop(
        "brpop",
        "Takes an element from the tail of the first list that has one, or waits.",
        |t, a| waiting_pop_one(t, a, End::Back),
    ),
    DataCommand {
        name: "blmove",
        summary: "Moves an element from one end of a list to one end of another, or waits for one.",
        since: "6.2.0",
        arity: 6,
        flags: Flags::DENYOOM,
        keys: KEYS_MOVE,
        arguments: &[SOURCE, DESTINATION, WHEREFROM, WHERETO, TIMEOUT],
        ..blocking(|transaction, args| {
            let (from, to) = (end(args[3])?, end(args[4])?);
            let timeout_ms = parse::timeout_ms(args[5])?;
            let effect: &[&[u8]] = &[b"LMOVE", args[1], args[2], args[3], args[4]];
            waiting_move(transaction, effect, from, to, timeout_ms)
        })
    },
    DataCommand {
        name: "brpoplpush",
        summary: "Moves the last element of a list to the head of another, or waits for one.",
        since: "2.2.0",
        arity: 4,
        flags: Flags::DENYOOM,
        keys: KEYS_MOVE,
        arguments: &[SOURCE, DESTINATION, TIMEOUT],
        history: &[("6.0.0", "The timeout may have a fraction.")],
        ..blocking(|transaction, args| {
            let timeout_ms = parse::timeout_ms(args[3])?;
            let effect: &[&[u8]] = &[b"RPOPLPUSH", args[1], args[2]];
            waiting_move(transaction, effect, End::Back, End::Front, timeout_ms)
        })
    },
    DataCommand {
        name: "blmpop",
        summary: "Takes elements from one end of the first list that is not empty, or waits.",
        since: "7.0.0",
        complexity: POP_KEYS_COMPLEXITY,
        arity: -5,
        keys: &[KeySpec::counted(2, POP)],
        arguments: &[TIMEOUT, NUMKEYS, KEY.multiple(), WHERE, POP_COUNT],
        ..blocking(|transaction, args| {
            let wanted = Wanted::parse(&args[2..])?;
            let timeout_ms = parse::timeout_ms(args[1])?;
            Ok(match pop_first(transaction, &wanted)? {
                Some(reply) => reply.into(),
                None => wait(wanted.keys, timeout_ms, Reply::NilArray),
            })
        })
    },
];

/// The word for one end.
fn end(word: &[u8]) -> Result<End, ErrorReply> {
    match () {
        () if is(word, "left") => Ok(End::Front),
        () if is(word, "right") => Ok(End::Back),
        () => Err(ErrorReply::SYNTAX),
    }
}

/// The index from the head that `index` names, negative ones counting from the tail.
fn from_head(index: i64, length: usize) -> Option<usize> {
    let index = if index < 0 { index.checked_add(length as i64)? } else { index };
    usize::try_from(index).ok().filter(|index| *index < length)
}

/// A count whose sign says from which end.
fn signed_count(text: &[u8]) -> Result<(usize, Direction), ErrorReply> {
    let count = integer(text)?;
    if count == i64::MIN {
        let (least, most) = (-i64::MAX, i64::MAX);
        let text = format!("ERR value is out of range, value must between {least} and {most}");
        return Err(ErrorReply::from_text(text));
    }
    let direction = if count < 0 { Direction::Backward } else { Direction::Forward };
    Ok((count.unsigned_abs() as usize, direction))
}

fn owned(element: OwnedElement) -> Reply<'static> {
    match element {
        OwnedElement::Bytes(bytes) => Reply::Owned(bytes),
        OwnedElement::Integer(number) => Reply::BulkInteger(number),
    }
}

// ---- Pushing and popping ----

fn push_event(end: End) -> &'static str {
    if end == End::Front { "lpush" } else { "rpush" }
}

fn push(
    transaction: &mut WriteTxn<'_>,
    args: &Args<'_>,
    end: End,
    must_exist: bool,
) -> CommandResult<'static> {
    let (key, elements) = (args[1], &args[2..]);
    let limits = transaction.limits();
    let list = match must_exist {
        false => transaction.list_or_new(key, List::new)?,
        true => match transaction.change_list(key)? {
            Some(list) => list,
            None => return Ok(Reply::Integer(0)),
        },
    };
    list.push(end, elements, &limits);
    let length = list.len();
    transaction.changed(EventClasses::LIST, push_event(end), key, elements.len() as u64);
    Ok(Reply::Integer(length as i64))
}

/// What follows when elements were taken from one end of a list.
fn popped(transaction: &mut WriteTxn<'_>, key: &[u8], end: End, count: usize) {
    let event = if end == End::Front { "lpop" } else { "rpop" };
    transaction.changed(EventClasses::LIST, event, key, count as u64);
    transaction.remove_if_empty(key);
}

fn pop_one(
    transaction: &mut WriteTxn<'_>,
    key: &[u8],
    end: End,
) -> Result<Option<Reply<'static>>, ErrorReply> {
    let limits = transaction.limits();
    let Some(list) = transaction.change_list(key)? else { return Ok(None) };
    let Some(element) = list.pop(end, &limits) else { return Ok(None) };
    popped(transaction, key, end, 1);
    Ok(Some(owned(element)))
}

/// Takes up to `count` elements; the one nearest to the end comes first. `None`: there is no list.
fn pop_many(
    transaction: &mut WriteTxn<'_>,
    key: &[u8],
    end: End,
    count: usize,
) -> Result<Option<Vec<Reply<'static>>>, ErrorReply> {
    let limits = transaction.limits();
    let Some(list) = transaction.change_list(key)? else { return Ok(None) };
    let length = list.len();
    let count = count.min(length);
    let (first, direction, start) = match end {
        End::Front => (0, Direction::Forward, 0),
        End::Back => (length.saturating_sub(1), Direction::Backward, length - count),
    };
    let taken = list.iter_from(first, direction).take(count).map(|element| owned(element.to_owned()));
    let taken = taken.collect();
    list.remove_range(start, count, &limits);
    popped(transaction, key, end, count);
    Ok(Some(taken))
}

fn pop(transaction: &mut WriteTxn<'_>, args: &Args<'_>, end: End) -> CommandResult<'static> {
    let key = args[1];
    let count = match &args[2..] {
        [] => return Ok(pop_one(transaction, key, end)?.unwrap_or(Reply::Nil)),
        [count] => positive_or(count, ErrorReply::MUST_BE_POSITIVE)?,
        _ => {
            let name = if end == End::Front { "lpop" } else { "rpop" };
            let text = format!("ERR wrong number of arguments for '{name}' command");
            return Err(ErrorReply::from_text(text));
        }
    };
    if count == 0 {
        let list = transaction.list(key)?;
        return Ok(if list.is_some() { Reply::Array(Vec::new()) } else { Reply::NilArray });
    }
    Ok(pop_many(transaction, key, end, count)?.map_or(Reply::NilArray, Reply::Array))
}

// ---- Looking ----

fn lindex<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let Some(list) = reader.list(args[1])? else { return Ok(Reply::Nil) };
    let index = from_head(integer(args[2])?, list.len());
    Ok(index.and_then(|index| list.get(index)).map_or(Reply::Nil, element))
}

fn lrange<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let (start, stop) = (integer(args[2])?, integer(args[3])?);
    let Some(list) = reader.list(args[1])? else { return Ok(Reply::Array(Vec::new())) };
    let range = index_range(start, stop, list.len());
    let elements = list.iter_from(range.start, Direction::Forward).take(range.len());
    Ok(Reply::Array(elements.map(element).collect()))
}

/// What LPOS looks for beside the element.
struct Search {
    /// How many matches are passed over.
    skip: usize,
    direction: Direction,
    /// `None`: one index is wanted, not an array of them.
    count: Option<usize>,
    /// How many elements are looked at.
    most: usize,
}

impl Search {
    fn parse(options: &Args<'_>) -> Result<Search, ErrorReply> {
        let mut search = Search { skip: 0, direction: Direction::Forward, count: None, most: usize::MAX };
        let unlimited = |count: usize| if count == 0 { usize::MAX } else { count };
        for option in options.chunks(2) {
            match option {
                [word, rank] if is(word, "rank") => {
                    let (rank, direction) = signed_count(rank)?;
                    search.skip = rank.checked_sub(1).ok_or(ErrorReply::new(
                        "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or \
                         use negative to start from the end of the list",
                    ))?;
                    search.direction = direction;
                }
                [word, count] if is(word, "count") => {
                    let error = ErrorReply::new("ERR COUNT can't be negative");
                    search.count = Some(unlimited(positive_or(count, error)?));
                }
                [word, most] if is(word, "maxlen") => {
                    let error = ErrorReply::new("ERR MAXLEN can't be negative");
                    search.most = unlimited(positive_or(most, error)?);
                }
                _ => return Err(ErrorReply::SYNTAX),
            }
        }
        Ok(search)
    }
}

fn lpos<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let search = Search::parse(&args[3..])?;
    let nothing = if search.count.is_some() { Reply::Array(Vec::new()) } else { Reply::Nil };
    let Some(list) = reader.list(args[1])? else { return Ok(nothing) };
    let last = list.len().saturating_sub(1);
    let backward = search.direction == Direction::Backward;
    let wanted = Element::from_text(args[2]);
    let mut indexes = list
        .iter_from(if backward { last } else { 0 }, search.direction)
        .take(search.most)
        .enumerate()
        .filter(|(_, element)| *element == wanted)
        .skip(search.skip)
        .map(|(passed, _)| Reply::Integer(if backward { last - passed } else { passed } as i64));
    Ok(match search.count {
        Some(count) => Reply::Array(indexes.take(count).collect()),
        None => indexes.next().unwrap_or(nothing),
    })
}

// ---- Changing ----

fn lset(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, value) = (args[1], args[3]);
    let limits = transaction.limits();
    let Some(list) = transaction.change_list(key)? else { return Err(ErrorReply::NO_SUCH_KEY) };
    let index = integer(args[2])?;
    let index = from_head(index, list.len()).unwrap_or(usize::MAX);
    if !list.set(index, value, &limits) {
        return Err(ErrorReply::INDEX_OUT_OF_RANGE);
    }
    transaction.changed(EventClasses::LIST, "lset", key, 1);
    Ok(Reply::Ok)
}

fn ltrim(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, start, stop) = (args[1], integer(args[2])?, integer(args[3])?);
    let limits = transaction.limits();
    let Some(list) = transaction.change_list(key)? else { return Ok(Reply::Ok) };
    let kept = index_range(start, stop, list.len());
    let removed = list.len() - kept.len();
    list.trim(kept.start, kept.len(), &limits);
    if removed == 0 {
        transaction.notify(EventClasses::LIST, "ltrim", key);
        return Ok(Reply::Ok);
    }
    transaction.changed(EventClasses::LIST, "ltrim", key, removed as u64);
    transaction.remove_if_empty(key);
    Ok(Reply::Ok)
}

fn lrem(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    let (count, direction) = signed_count(args[2])?;
    let limits = transaction.limits();
    let Some(list) = transaction.change_list(key)? else { return Ok(Reply::Integer(0)) };
    let removed = list.remove_matching(args[3], count, direction, &limits);
    if removed > 0 {
        transaction.changed(EventClasses::LIST, "lrem", key, removed as u64);
        transaction.remove_if_empty(key);
    }
    Ok(Reply::Integer(removed as i64))
}

fn linsert(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (key, pivot, value) = (args[1], args[3], args[4]);
    let offset = match args[2] {
        word if is(word, "before") => 0,
        word if is(word, "after") => 1,
        _ => return Err(ErrorReply::SYNTAX),
    };
    let limits = transaction.limits();
    let Some(list) = transaction.change_list(key)? else { return Ok(Reply::Integer(0)) };
    // The form may change even if there is no pivot, as OBJECT ENCODING shows.
    list.prepare(&[value], &limits);
    let Some(index) = list.position(pivot) else { return Ok(Reply::Integer(-1)) };
    list.insert(index + offset, value, &limits);
    let length = list.len();
    transaction.changed(EventClasses::LIST, "linsert", key, 1);
    Ok(Reply::Integer(length as i64))
}

/// Moves an element; both keys may name the same list. `None`: there is no source.
fn move_element(
    transaction: &mut WriteTxn<'_>,
    source: &[u8],
    destination: &[u8],
    from: End,
    to: End,
) -> Result<Option<Reply<'static>>, ErrorReply> {
    if transaction.list(source)?.is_none() {
        return Ok(None);
    }
    transaction.list(destination)?;
    let limits = transaction.limits();
    let rotates = source == destination;
    let element = transaction
        .change_list(source)?
        .and_then(|list| if rotates { list.rotate(from, to, &limits) } else { list.pop(from, &limits) });
    let Some(element) = element else { return Ok(None) };
    let mut buffer = TextBuffer::new();
    let text = element.as_element().text(&mut buffer).to_vec();
    if !rotates {
        transaction.list_or_new(destination, List::new)?.push(to, &[&text], &limits);
    }
    // The move counts as one change: the one that `popped` counts.
    transaction.changed(EventClasses::LIST, push_event(to), destination, 0);
    popped(transaction, source, from, 1);
    Ok(Some(Reply::Owned(text)))
}

// ---- Several keys, and waiting ----

/// What LMPOP and BLMPOP are asked for.
struct Wanted<'a, 'b> {
    keys: &'b [&'a [u8]],
    end: End,
    count: usize,
}

impl<'a, 'b> Wanted<'a, 'b> {
    /// `numkeys key [key …] LEFT|RIGHT [COUNT count]`.
    fn parse(args: &'b [&'a [u8]]) -> Result<Self, ErrorReply> {
        let positive = |text: &[u8], error: ErrorReply| match positive_or(text, error.clone())? {
            0 => Err(error),
            number => Ok(number),
        };
        let Some((numkeys, rest)) = args.split_first() else { return Err(ErrorReply::SYNTAX) };
        let numkeys = positive(numkeys, ErrorReply::new("ERR numkeys should be greater than 0"))?;
        let Some((keys, [word, options @ ..])) = rest.split_at_checked(numkeys) else {
            return Err(ErrorReply::SYNTAX);
        };
        let end = end(word)?;
        let count = match options {
            [] => 1,
            [word, count, rest @ ..] if is(word, "count") => {
                let count = positive(count, ErrorReply::new("ERR count should be greater than 0"))?;
                if !rest.is_empty() {
                    return Err(ErrorReply::SYNTAX);
                }
                count
            }
            _ => return Err(ErrorReply::SYNTAX),
        };
        Ok(Wanted { keys, end, count })
    }
}

fn pop_name(end: End) -> &'static [u8] {
    if end == End::Front { b"LPOP" } else { b"RPOP" }
}

/// The key and what was taken from it; `None` if no key holds a list.
fn pop_first(
    transaction: &mut WriteTxn<'_>,
    wanted: &Wanted<'_, '_>,
) -> Result<Option<Reply<'static>>, ErrorReply> {
    for key in wanted.keys {
        let Some(taken) = pop_many(transaction, key, wanted.end, wanted.count)? else { continue };
        let mut count = Vec::new();
        number::append_u64(&mut count, taken.len() as u64);
        transaction.state_effect(&[pop_name(wanted.end), key, &count]);
        return Ok(Some(Reply::Array(vec![Reply::Owned(key.to_vec()), Reply::Array(taken)])));
    }
    Ok(None)
}

fn waiting_pop_one(
    transaction: &mut WriteTxn<'_>,
    args: &Args<'_>,
    end: End,
) -> Result<Outcome<'static>, ErrorReply> {
    let (keys, timeout) = (&args[1..args.len() - 1], args[args.len() - 1]);
    let timeout_ms = parse::timeout_ms(timeout)?;
    for key in keys {
        let Some(element) = pop_one(transaction, key, end)? else { continue };
        transaction.state_effect(&[pop_name(end), key]);
        return Ok(Reply::Array(vec![Reply::Owned(key.to_vec()), element]).into());
    }
    Ok(wait(keys, timeout_ms, Reply::NilArray))
}

/// Moves an element between the lists that `effect` names after its own name, and states that effect.
fn waiting_move(
    transaction: &mut WriteTxn<'_>,
    effect: &[&[u8]],
    from: End,
    to: End,
    timeout_ms: u64,
) -> Result<Outcome<'static>, ErrorReply> {
    let (source, destination) = (effect[1], effect[2]);
    let Some(reply) = move_element(transaction, source, destination, from, to)? else {
        return Ok(wait(&[source], timeout_ms, Reply::Nil));
    };
    transaction.state_effect(effect);
    Ok(reply.into())
}

/// `when_denied`: the reply of the variant that does not block, when there is nothing.
fn wait(keys: &[&[u8]], timeout_ms: u64, when_denied: Reply<'static>) -> Outcome<'static> {
    Outcome::Block(BlockOnKeys {
        keys: keys.iter().map(|key| key.to_vec()).collect(),
        kind: Kind::List,
        wakes_without: false,
        args: None,
        timeout_ms,
        on_timeout: Reply::NilArray,
        when_denied,
    })
}

#[cfg(test)]
mod tests;
