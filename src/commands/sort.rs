//! SORT and SORT_RO.
//!
//! Whether the user may read the keys that BY and GET make up is not known here: `unnamed_reads` says that a call
//! would, and admission refuses it.

use std::borrow::Cow;
use std::cmp::Ordering;

use super::parse::{integer, is};
use crate::base::number::parse_f64;
use crate::command::{
    Args, Argument, ArgumentKind, Categories, DataCommand, Flags, Group, KeyPosition, KeySpec, KeyUse,
};
use crate::keyspace::entry::Collection;
use crate::keyspace::{Entry, EventClasses, KeyExpiry, Reader, StringValue, ValueRef, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::List;
use crate::types::element::{Element, TextBuffer};
use crate::types::list::{Direction, End};

const KEY: Argument = Argument::key();
const BY: Argument =
    Argument::new("by-pattern", ArgumentKind::Pattern).shown("pattern").key_spec(1).after("BY").optional();
const LIMIT: Argument = Argument::block(
    "limit",
    &[Argument::new("offset", ArgumentKind::Integer), Argument::new("count", ArgumentKind::Integer)],
)
.after("LIMIT")
.optional();
const GET: Argument = Argument::new("get-pattern", ArgumentKind::Pattern)
    .shown("pattern")
    .key_spec(1)
    .after("GET")
    .optional()
    .multiple_token();
const ORDER: Argument =
    Argument::one_of("order", &[Argument::word("ASC"), Argument::word("DESC")]).optional();
const ALPHA: Argument = Argument { name: "sorting", ..Argument::word("ALPHA") }.optional();
const STORE: Argument = Argument::new("destination", ArgumentKind::Key).key_spec(2).after("STORE").optional();

const SORTED: KeySpec = KeySpec::one(1, KeyUse::RO.and(KeyUse::ACCESS));
const MADE_UP: KeySpec =
    KeySpec::unknown(KeyUse::RO.and(KeyUse::ACCESS), "The keys that the elements make up with BY and GET.");
const STORE_USES: KeyUse = KeyUse::OW.and(KeyUse::UPDATE);
const STORED: KeySpec = KeySpec::unknown(STORE_USES, "The key after STORE, which may stand anywhere.");

const CATEGORIES: Categories =
    Categories::SET.and(Categories::SORTEDSET).and(Categories::LIST).and(Categories::DANGEROUS);
const COMPLEXITY: &str =
    "O(N+M*log(M)), N being the number of elements and M of those answered; O(N) if nothing is to be sorted";

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "sort",
        summary: "Sorts the elements of a list, a set or a sorted set, and answers or stores them.",
        complexity: COMPLEXITY,
        group: Group::Generic,
        arity: -2,
        flags: Flags::DENYOOM,
        unnamed_reads: Some(|args| unnamed_reads(args, true)),
        categories: CATEGORIES,
        keys: &[SORTED, MADE_UP, STORED],
        keys_of: Some(keys_of_sort),
        arguments: &[KEY, BY, LIMIT, GET, ORDER, ALPHA, STORE],
        ..DataCommand::write(sort)
    },
    DataCommand {
        name: "sort_ro",
        summary: "Sorts the elements of a list, a set or a sorted set, and answers them.",
        since: "7.0.0",
        complexity: COMPLEXITY,
        group: Group::Generic,
        arity: -2,
        unnamed_reads: Some(|args| unnamed_reads(args, false)),
        categories: CATEGORIES,
        keys: &[SORTED, MADE_UP],
        keys_of: Some(|_, keys| keys.push(KeyPosition { index: 1, uses: SORTED.uses })),
        arguments: &[KEY, BY, LIMIT, GET, ORDER, ALPHA],
        ..DataCommand::read(sort_ro)
    },
];

/// The sorted key, and that of the last STORE.
fn keys_of_sort(args: &Args<'_>, keys: &mut Vec<KeyPosition>) {
    keys.push(KeyPosition { index: 1, uses: SORTED.uses });
    let (mut index, mut stored) = (2, None);
    while let Some(word) = args.get(index) {
        index += match () {
            () if is(word, "limit") => 3,
            () if is(word, "get") || is(word, "by") => 2,
            // A destination may be named like an option, so it is stepped over.
            () if is(word, "store") && index + 1 < args.len() => {
                stored = Some(index + 1);
                2
            }
            () => 1,
        };
    }
    keys.extend(stored.map(|index| KeyPosition { index, uses: STORED.uses }));
}

#[derive(Debug)]
struct Options<'a> {
    descending: bool,
    alpha: bool,
    offset: i64,
    /// Negative: all.
    count: i64,
    by: Option<&'a [u8]>,
    get: Vec<&'a [u8]>,
    store: Option<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a [u8]], may_store: bool) -> Result<Self, ErrorReply> {
        Self::parse_each(words, may_store, |_| {})
    }

    /// Parses, and tells of each option that may make up keys as it is met.
    fn parse_each(
        words: &[&'a [u8]],
        may_store: bool,
        mut met: impl FnMut(Lookup<'a>),
    ) -> Result<Self, ErrorReply> {
        let mut options = Options {
            descending: false,
            alpha: false,
            offset: 0,
            count: -1,
            by: None,
            get: Vec::new(),
            store: None,
        };
        let mut rest = words;
        while let [word, after @ ..] = rest {
            rest = match after {
                after if is(word, "asc") || is(word, "desc") => {
                    options.descending = is(word, "desc");
                    after
                }
                after if is(word, "alpha") => {
                    options.alpha = true;
                    after
                }
                [offset, count, after @ ..] if is(word, "limit") => {
                    (options.offset, options.count) = (integer(offset)?, integer(count)?);
                    after
                }
                [key, after @ ..] if may_store && is(word, "store") => {
                    options.store = Some(key);
                    after
                }
                [pattern, after @ ..] if is(word, "by") => {
                    met(Lookup::By(pattern));
                    options.by = Some(pattern);
                    after
                }
                [pattern, after @ ..] if is(word, "get") => {
                    met(Lookup::Get);
                    options.get.push(pattern);
                    after
                }
                _ => return Err(ErrorReply::SYNTAX),
            };
        }
        Ok(options)
    }

    /// A constant pattern gives all elements the same weight: they are not to be sorted.
    fn keeps_order(&self) -> bool {
        self.by.is_some_and(|pattern| !pattern.contains(&b'*'))
    }

    /// Which of `length` elements are wanted.
    fn limit(&self, length: usize) -> std::ops::Range<usize> {
        let start = usize::try_from(self.offset).unwrap_or(0).min(length);
        let count = usize::try_from(self.count).unwrap_or(length);
        start..start.saturating_add(count).min(length)
    }
}

/// The first option that makes up keys to read, if the call gets so far.
fn unnamed_reads(args: &Args<'_>, may_store: bool) -> Option<ErrorReply> {
    let mut found = None;
    let words = args.get(2..)?;
    // What stops the parser stops it after an option that is refused, if that came first.
    let _ = Options::parse_each(words, may_store, |option| {
        let error = match option {
            Lookup::By(pattern) if pattern.contains(&b'*') => Some("BY"),
            Lookup::By(_) => None,
            Lookup::Get => Some("GET"),
        };
        found = found.or(error);
    });
    found.map(|option| {
        ErrorReply::from_text(format!(
            "ERR {option} option of SORT denied due to insufficient ACL permissions."
        ))
    })
}

/// An option that may make up keys.
enum Lookup<'a> {
    By(&'a [u8]),
    Get,
}

fn sort_ro<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let options = Options::parse(&args[2..], false)?;
    Ok(Reply::Array(sorted(reader, args[1], &options)?.into_iter().map(reply).collect()))
}

fn sort(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let options = Options::parse(&args[2..], true)?;
    // If its time has passed it is deleted here, where that can be done.
    transaction.lookup(args[1]);
    let limits = transaction.limits();
    let Some(destination) = options.store else {
        let found = sorted(&transaction.reader(), args[1], &options)?;
        return Ok(Reply::Array(found.into_iter().map(|found| reply(found).into_owned()).collect()));
    };
    let texts: Vec<Vec<u8>> = sorted(&transaction.reader(), args[1], &options)?
        .into_iter()
        .map(|found| found.map_or_else(Vec::new, |element| element.to_vec()))
        .collect();
    if texts.is_empty() {
        if transaction.delete(destination) {
            transaction.count_changes(1);
        }
        return Ok(Reply::Integer(0));
    }
    let mut list = List::new();
    list.push(End::Back, &texts, &limits);
    let old = transaction.insert(Entry::collection(destination, Collection::List(list), None));
    transaction.discard_if_any(old);
    transaction.changed(EventClasses::LIST, "sortstore", destination, texts.len() as u64);
    Ok(Reply::Integer(texts.len() as i64))
}

fn reply<'k>(found: Option<Element<'k>>) -> Reply<'k> {
    match found {
        None => Reply::Nil,
        Some(Element::Bytes(bytes)) => Reply::Bulk(bytes),
        Some(Element::Integer(number)) => Reply::BulkInteger(number),
    }
}

/// The elements in order, or what GET makes of each.
fn sorted<'k>(
    reader: &Reader<'k>,
    key: &[u8],
    options: &Options<'_>,
) -> Result<Vec<Option<Element<'k>>>, ErrorReply> {
    let elements = ordered(reader, key, options)?;
    if options.get.is_empty() {
        return Ok(elements.into_iter().map(Some).collect());
    }
    let got = |element: Element<'k>| options.get.iter().map(move |pattern| follow(reader, pattern, element));
    Ok(elements.into_iter().flat_map(got).collect())
}

fn ordered<'k>(
    reader: &Reader<'k>,
    key: &[u8],
    options: &Options<'_>,
) -> Result<Vec<Element<'k>>, ErrorReply> {
    let direction = if options.descending { Direction::Backward } else { Direction::Forward };
    let elements: Vec<Element<'k>> = match reader.lookup(key).map(Entry::value) {
        None => Vec::new(),
        Some(ValueRef::List(list)) if options.keeps_order() => {
            let range = options.limit(list.len());
            let first = if options.descending {
                (list.len() - 1).checked_sub(range.start)
            } else {
                Some(range.start)
            };
            let wanted = first.map(|first| list.iter_from(first, direction).take(range.len()));
            return Ok(wanted.into_iter().flatten().collect());
        }
        Some(ValueRef::SortedSet(set)) if options.keeps_order() => {
            let range = options.limit(set.len());
            let first =
                if options.descending { (set.len() - 1).checked_sub(range.start) } else { Some(range.start) };
            let wanted = first.map(|first| set.iter_from(first, direction).take(range.len()));
            return Ok(wanted.into_iter().flatten().map(|(member, _)| member).collect());
        }
        Some(ValueRef::List(list)) => list.iter().collect(),
        Some(ValueRef::Set(set)) => set.iter().collect(),
        Some(ValueRef::SortedSet(set)) => set.iter().map(|(member, _)| member).collect(),
        Some(ValueRef::String(_) | ValueRef::Integer(_) | ValueRef::Hash(_) | ValueRef::Stream(_)) => {
            return Err(ErrorReply::WRONG_TYPE);
        }
    };
    let range = options.limit(elements.len());
    let ascending = |order: Ordering| if options.descending { order.reverse() } else { order };
    let mut weighted = weigh(reader, elements, options)?;
    let compare = |a: &(Element<'k>, Weight<'k>), b: &(Element<'k>, Weight<'k>)| {
        ascending(a.1.compare(&b.1).then_with(|| a.1.break_tie(a.0, b.0)))
    };
    // Of a few only those have to be in order.
    if range.len() < weighted.len() / 8 && range.end > 0 && range.end < weighted.len() {
        weighted.select_nth_unstable_by(range.end - 1, compare);
        weighted.truncate(range.end);
    }
    weighted.sort_by(compare);
    Ok(weighted.drain(range).map(|(element, _)| element).collect())
}

/// By what an element is sorted.
#[derive(Debug)]
enum Weight<'k> {
    Number(f64),
    Text(Option<Cow<'k, [u8]>>),
    /// The element is its own weight.
    Itself,
}

impl Weight<'_> {
    fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Weight::Number(a), Weight::Number(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
            (Weight::Text(a), Weight::Text(b)) => a.cmp(b),
            _ => Ordering::Equal,
        }
    }

    /// Elements of the same weight are sorted by themselves, but stay where they are if texts elsewhere are the weights.
    fn break_tie(&self, a: Element<'_>, b: Element<'_>) -> Ordering {
        if matches!(self, Weight::Text(_)) { Ordering::Equal } else { a.cmp(&b) }
    }
}

fn weigh<'k>(
    reader: &Reader<'k>,
    elements: Vec<Element<'k>>,
    options: &Options<'_>,
) -> Result<Vec<(Element<'k>, Weight<'k>)>, ErrorReply> {
    // A set has no order to keep. It is sorted by its members, so that the answer is the same every time.
    let by = options.by.filter(|_| !options.keeps_order());
    let alpha = options.alpha || options.keeps_order();
    let weight = |element: Element<'k>| match by {
        None if alpha => Some(Weight::Itself),
        Some(pattern) if alpha => {
            Some(Weight::Text(follow(reader, pattern, element).map(|found| match found {
                Element::Bytes(bytes) => Cow::Borrowed(bytes),
                Element::Integer(_) => Cow::Owned(found.to_vec()),
            })))
        }
        None => number(element).map(Weight::Number),
        Some(pattern) => follow(reader, pattern, element).map_or(Some(0.0), number).map(Weight::Number),
    };
    elements
        .into_iter()
        .map(|element| Some((element, weight(element)?)))
        .collect::<Option<Vec<_>>>()
        .ok_or(ErrorReply::new("ERR One or more scores can't be converted into double"))
}

fn number(element: Element<'_>) -> Option<f64> {
    match element {
        Element::Integer(number) => Some(number as f64),
        Element::Bytes(text) => parse_f64(text),
    }
}

/// The value at the key that a pattern makes of an element: `*` is the element, `->field` a field of the hash there,
/// `#` the element itself.
fn follow<'k>(reader: &Reader<'k>, pattern: &[u8], element: Element<'k>) -> Option<Element<'k>> {
    if pattern == b"#" {
        return Some(element);
    }
    let star = pattern.iter().position(|byte| *byte == b'*')?;
    let (prefix, rest) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = rest.windows(2).position(|two| two == b"->").filter(|arrow| arrow + 2 < rest.len());
    let (suffix, field) = arrow.map_or((rest, None), |arrow| (&rest[..arrow], Some(&rest[arrow + 2..])));
    let mut buffer = TextBuffer::new();
    let key = [prefix, element.text(&mut buffer), suffix].concat();
    let entry = reader.lookup(&key)?;
    match (entry.value(), field) {
        (ValueRef::Hash(hash), Some(field)) => {
            let field = hash.get_field(field)?;
            let expired = field.expire_at_ms.is_some_and(|at_ms| at_ms <= reader.now_ms as i64);
            (!expired || reader.expiry == KeyExpiry::Ignore).then_some(field.value)
        }
        (ValueRef::String(_) | ValueRef::Integer(_), None) => match StringValue::of(entry).ok()? {
            StringValue::Bytes(bytes) => Some(Element::Bytes(bytes)),
            StringValue::Integer(number) => Some(Element::Integer(number)),
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests;
