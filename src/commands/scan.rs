//! Walking a database or a collection step by step: SCAN, HSCAN, SSCAN, ZSCAN.
//!
//! Invariant: whatever is there from the first step to the last is answered at least once; collections in their small
//! form are answered whole, whatever the count.

use super::options;
use super::parse::{integer, is};
use crate::base::glob::{Case, matches};
use crate::base::number::{format_f64, format_significant};
use crate::command::{Args, Argument, ArgumentKind, Categories, DataCommand, Group, KeySpec, KeyUse, ReadFn};
use crate::keyspace::{Entry, KeyExpiry, Reader};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::Kind;
use crate::types::element::{Element, TextBuffer};

const READ: &[KeySpec] = &[KeySpec::one(1, KeyUse::RO.and(KeyUse::ACCESS))];
const KEY: Argument = Argument::key();
const CURSOR: Argument = Argument::new("cursor", ArgumentKind::Integer);
const PATTERN: Argument = Argument::new("pattern", ArgumentKind::Pattern).after("MATCH").optional();
const COUNT: Argument = Argument::new("count", ArgumentKind::Integer).after("COUNT").optional();
const TYPE: Argument = Argument::new("type", ArgumentKind::String).after("TYPE").since("6.0.0").optional();

const COMPLEXITY: &str = "O(1) for a step, O(N) for the whole walk, N being the number of elements";

const fn walking(function: ReadFn) -> DataCommand {
    DataCommand {
        since: "2.8.0",
        complexity: COMPLEXITY,
        arity: -3,
        keys: READ,
        ..DataCommand::read(function)
    }
}

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "scan",
        summary: "One step of a walk through the keys of the database.",
        group: Group::Generic,
        categories: Categories::KEYSPACE,
        arity: -2,
        keys: &[],
        arguments: &[CURSOR, PATTERN, COUNT, TYPE],
        tips: &["nondeterministic_output", "request_policy:special", "response_policy:special"],
        history: &[("6.0.0", "TYPE.")],
        ..walking(scan)
    },
    DataCommand {
        name: "hscan",
        summary: "One step of a walk through the fields of a hash.",
        group: Group::Hash,
        arguments: &[KEY, CURSOR, PATTERN, COUNT, Argument::word("NOVALUES").optional()],
        tips: &["nondeterministic_output"],
        ..walking(hscan)
    },
    DataCommand {
        name: "sscan",
        summary: "One step of a walk through the members of a set.",
        group: Group::Set,
        arguments: &[KEY, CURSOR, PATTERN, COUNT],
        tips: &["nondeterministic_output"],
        ..walking(sscan)
    },
    DataCommand {
        name: "zscan",
        summary: "One step of a walk through the members of a sorted set.",
        group: Group::SortedSet,
        arguments: &[KEY, CURSOR, PATTERN, COUNT, Argument::word("NOSCORES").optional()],
        tips: &["nondeterministic_output"],
        history: &[("8.0.0", "NOSCORES.")],
        ..walking(zscan)
    },
];

/// What is walked through: the database or a collection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Walk {
    Database,
    Hash,
    Set,
    SortedSet,
}

#[derive(Debug)]
struct Options<'a> {
    pattern: Option<&'a [u8]>,
    count: usize,
    kind: Option<Kind>,
    names_only: bool,
}

impl<'a> Options<'a> {
    fn parse(words: &[&'a [u8]], walk: Walk) -> Result<Self, ErrorReply> {
        let mut options = Options { pattern: None, count: 10, kind: None, names_only: false };
        let mut rest = words;
        while let [word, after @ ..] = rest {
            rest = match after {
                [count, after @ ..] if is(word, "count") => {
                    let count = integer(count)?;
                    options.count =
                        usize::try_from(count).ok().filter(|count| *count > 0).ok_or(ErrorReply::SYNTAX)?;
                    after
                }
                [pattern, after @ ..] if is(word, "match") => {
                    options.pattern = (*pattern != b"*").then_some(pattern);
                    after
                }
                [name, after @ ..] if walk == Walk::Database && is(word, "type") => {
                    options.kind = Some(kind_named(name)?);
                    after
                }
                after if is(word, "novalues") => {
                    only_for(walk == Walk::Hash, "ERR NOVALUES option can only be used in HSCAN")?;
                    options.names_only = true;
                    after
                }
                after if is(word, "noscores") => {
                    only_for(walk == Walk::SortedSet, "ERR NOSCORES option can only be used in ZSCAN")?;
                    options.names_only = true;
                    after
                }
                _ => return Err(ErrorReply::SYNTAX),
            };
        }
        Ok(options)
    }

    fn wants(&self, name: &[u8]) -> bool {
        self.pattern.is_none_or(|pattern| matches(pattern, name, Case::Sensitive))
    }

    fn wants_element(&self, name: Element<'_>) -> bool {
        self.pattern.is_none() || self.wants(name.text(&mut TextBuffer::new()))
    }
}

fn only_for(allowed: bool, error: &'static str) -> Result<(), ErrorReply> {
    if allowed { Ok(()) } else { Err(ErrorReply::new(error)) }
}

fn kind_named(name: &[u8]) -> Result<Kind, ErrorReply> {
    const KINDS: [Kind; 6] = [Kind::String, Kind::List, Kind::Set, Kind::SortedSet, Kind::Hash, Kind::Stream];
    KINDS
        .into_iter()
        .find(|kind| is(name, kind.name()))
        .ok_or_else(|| ErrorReply::from_text([b"ERR unknown type name '", name, b"'"].concat()))
}

fn step<'k>(cursor: u64, found: Vec<Reply<'k>>) -> Reply<'k> {
    Reply::Array(vec![Reply::Owned(cursor.to_string().into_bytes()), Reply::Array(found)])
}

fn owned(element: Element<'_>) -> Reply<'static> {
    match element {
        Element::Integer(number) => Reply::BulkInteger(number),
        Element::Bytes(bytes) => Reply::Owned(bytes.to_vec()),
    }
}

fn scan<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let cursor = options::cursor(args[1])?;
    let options = Options::parse(&args[2..], Walk::Database)?;
    let mut found = Vec::new();
    let mut visit = |entry: &Entry| {
        let key = entry.key();
        if options.kind.is_some_and(|kind| kind != entry.kind()) || !options.wants(key) {
            return;
        }
        // Peeking notes an expired key for deletion; the others are not looked up a second time.
        if !reader.is_expired(entry) || reader.peek(key).is_some() {
            found.push(Reply::Owned(key.to_vec()));
        }
    };
    let cursor = reader.database().entries().scan(cursor, options.count, &mut visit);
    Ok(step(cursor, found))
}

fn hscan<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let cursor = options::cursor(args[2])?;
    let Some(hash) = reader.hash(args[1])? else { return Ok(step(0, Vec::new())) };
    let options = Options::parse(&args[3..], Walk::Hash)?;
    let mut found = Vec::new();
    let cursor = hash.scan(cursor, options.count, |field| {
        let expired = field.expire_at_ms.is_some_and(|at_ms| at_ms <= reader.now_ms as i64);
        if (!expired || reader.expiry == KeyExpiry::Ignore) && options.wants_element(field.name) {
            found.push(owned(field.name));
            if !options.names_only {
                found.push(owned(field.value));
            }
        }
    });
    Ok(step(cursor, found))
}

fn sscan<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let cursor = options::cursor(args[2])?;
    let Some(set) = reader.set(args[1])? else { return Ok(step(0, Vec::new())) };
    let options = Options::parse(&args[3..], Walk::Set)?;
    let mut found = Vec::new();
    let cursor = set.scan(cursor, options.count, |member| {
        if options.wants_element(member) {
            found.push(owned(member));
        }
    });
    Ok(step(cursor, found))
}

fn zscan<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let cursor = options::cursor(args[2])?;
    let Some(set) = reader.sorted_set(args[1])? else { return Ok(step(0, Vec::new())) };
    let options = Options::parse(&args[3..], Walk::SortedSet)?;
    // Clients see which form a sorted set has by how its scores are written here.
    let format: fn(f64) -> Vec<u8> =
        if set.encoding() == "listpack" { format_f64 } else { |score| format_significant(score, 17) };
    let mut found = Vec::new();
    let cursor = set.scan(cursor, options.count, |member, score| {
        if options.wants_element(member) {
            found.push(owned(member));
            if !options.names_only {
                found.push(Reply::Owned(format(score)));
            }
        }
    });
    Ok(step(cursor, found))
}

#[cfg(test)]
mod tests;
