//! Combining sorted sets, and plain sets taken as sorted ones with the score 1: unions, intersections, differences.

use std::collections::HashMap;

use super::parse::{self, is};
use super::sorted_set_range::{reply, store};
use super::sorted_sets::{READ, reading, writing};
use crate::command::{Args, Argument, ArgumentKind, DataCommand, Flags, KeySpec, KeyUse, ReadFn, WriteFn};
use crate::keyspace::{Entry, Reader, ValueRef, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::SortedSet;
use crate::types::element::{Element, TextBuffer};
use crate::types::{Limits, Set};

const NUMKEYS: Argument = Argument::new("numkeys", ArgumentKind::Integer);
const KEYS: Argument = Argument::key().multiple();
const WEIGHTS: Argument =
    Argument::new("weight", ArgumentKind::Integer).multiple().after("WEIGHTS").optional();
const AGGREGATE: Argument =
    Argument::one_of("aggregate", &[Argument::word("SUM"), Argument::word("MIN"), Argument::word("MAX")])
        .after("AGGREGATE")
        .optional();
const WITHSCORES: Argument = Argument::word("WITHSCORES").optional();
const DESTINATION: Argument = Argument::new("destination", ArgumentKind::Key);
const SOURCES: &[KeySpec] = &[KeySpec::counted(1, READ)];
const DESTINATION_AND_SOURCES: &[KeySpec] =
    &[KeySpec::one(1, KeyUse::OW.and(KeyUse::UPDATE)), KeySpec::counted(2, READ)];
const COMPLEXITY: &str =
    "O(N*K)+O(M*log(M)), N being the size of the smallest input, K the number of inputs, M the result's size";

pub const COMMANDS: &[DataCommand] = &[
    looking(
        "zunion",
        "The union of sorted sets.",
        "6.2.0",
        &[NUMKEYS, KEYS, WEIGHTS, AGGREGATE, WITHSCORES],
        |r, a| answer(r, a, Operation::Union),
    ),
    looking(
        "zinter",
        "The intersection of sorted sets.",
        "6.2.0",
        &[NUMKEYS, KEYS, WEIGHTS, AGGREGATE, WITHSCORES],
        |r, a| answer(r, a, Operation::Intersection),
    ),
    looking("zdiff", "The difference of sorted sets.", "6.2.0", &[NUMKEYS, KEYS, WITHSCORES], |r, a| {
        answer(r, a, Operation::Difference)
    }),
    looking(
        "zintercard",
        "How many members all sorted sets have in common, up to a limit.",
        "7.0.0",
        &[NUMKEYS, KEYS, Argument::new("limit", ArgumentKind::Integer).after("LIMIT").optional()],
        zintercard,
    ),
    storing(
        "zunionstore",
        "Stores the union of sorted sets.",
        "2.0.0",
        &[DESTINATION, NUMKEYS, KEYS, WEIGHTS, AGGREGATE],
        |t, a| store_result(t, a, Operation::Union, "zunionstore"),
    ),
    storing(
        "zinterstore",
        "Stores the intersection of sorted sets.",
        "2.0.0",
        &[DESTINATION, NUMKEYS, KEYS, WEIGHTS, AGGREGATE],
        |t, a| store_result(t, a, Operation::Intersection, "zinterstore"),
    ),
    storing(
        "zdiffstore",
        "Stores the difference of sorted sets.",
        "6.2.0",
        &[DESTINATION, NUMKEYS, KEYS],
        |t, a| store_result(t, a, Operation::Difference, "zdiffstore"),
    ),
];

const fn looking(
    name: &'static str,
    summary: &'static str,
    since: &'static str,
    arguments: &'static [Argument],
    function: ReadFn,
) -> DataCommand {
    DataCommand {
        name,
        summary,
        since,
        complexity: COMPLEXITY,
        arity: -3,
        keys: SOURCES,
        arguments,
        ..reading(function)
    }
}

const fn storing(
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
        complexity: COMPLEXITY,
        arity: -4,
        flags: Flags::DENYOOM,
        keys: DESTINATION_AND_SOURCES,
        arguments,
        ..writing(function)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Intersection,
    Difference,
}

#[derive(Debug, Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            // Infinities of opposite signs add up to nothing rather than to no number.
            Aggregate::Sum => Some(one + other).filter(|sum| !sum.is_nan()).unwrap_or(0.0),
            Aggregate::Min => one.min(other),
            Aggregate::Max => one.max(other),
        }
    }
}

/// An input: a sorted set, or a set.
#[derive(Debug, Clone, Copy)]
enum Input<'k> {
    Missing,
    SortedSet(&'k SortedSet),
    Set(&'k Set),
}

impl<'k> Input<'k> {
    fn of(entry: Option<&'k Entry>) -> Result<Self, ErrorReply> {
        match entry.map(Entry::value) {
            None => Ok(Input::Missing),
            Some(ValueRef::SortedSet(set)) => Ok(Input::SortedSet(set)),
            Some(ValueRef::Set(set)) => Ok(Input::Set(set)),
            Some(_) => Err(ErrorReply::WRONG_TYPE),
        }
    }

    fn len(self) -> usize {
        match self {
            Input::Missing => 0,
            Input::SortedSet(set) => set.len(),
            Input::Set(set) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Input::Missing => None,
            Input::SortedSet(set) => set.score(member),
            Input::Set(set) => set.contains(member).then_some(1.0),
        }
    }

    fn for_each(self, mut visit: impl FnMut(Element<'k>, f64)) {
        match self {
            Input::Missing => {}
            Input::SortedSet(set) => set.iter().for_each(|(member, score)| visit(member, score)),
            Input::Set(set) => set.iter().for_each(|member| visit(member, 1.0)),
        }
    }
}

/// `numkeys key [key …]`, and what follows.
fn input_keys<'a, 'b>(
    name: &str,
    args: &'b [&'a [u8]],
) -> Result<(&'b [&'a [u8]], &'b [&'a [u8]]), ErrorReply> {
    let count = parse::integer(args[0])?;
    if count < 1 {
        return Err(ErrorReply::from_text(format!(
            "ERR at least 1 input key is needed for '{name}' command"
        )));
    }
    args[1..].split_at_checked(usize::try_from(count).unwrap_or(usize::MAX)).ok_or(ErrorReply::SYNTAX)
}

/// The inputs themselves. A wrong type is found before a wrong option.
fn inputs<'k>(reader: &Reader<'k>, keys: &[&[u8]]) -> Result<Vec<Input<'k>>, ErrorReply> {
    keys.iter().map(|key| Input::of(reader.lookup(key))).collect()
}

/// What is asked of the inputs: a weight for each, how scores are aggregated.
struct Query {
    weights: Vec<f64>,
    aggregate: Aggregate,
    with_scores: bool,
}

impl Query {
    fn of(inputs: usize) -> Self {
        Query { weights: vec![1.0; inputs], aggregate: Aggregate::Sum, with_scores: false }
    }

    fn parse(
        inputs: usize,
        mut rest: &[&[u8]],
        operation: Operation,
        stores: bool,
    ) -> Result<Self, ErrorReply> {
        let mut query = Query::of(inputs);
        while let [word, after @ ..] = rest {
            rest = after;
            if operation != Operation::Difference && is(word, "weights") && after.len() >= inputs {
                let error = ErrorReply::new("ERR weight value is not a float");
                let weights = after[..inputs].iter().map(|weight| parse::float(weight));
                query.weights = weights.collect::<Result<_, _>>().map_err(|_| error)?;
                rest = &after[inputs..];
            } else if operation != Operation::Difference && is(word, "aggregate") && !after.is_empty() {
                query.aggregate = match after[0].to_ascii_lowercase().as_slice() {
                    b"sum" => Aggregate::Sum,
                    b"min" => Aggregate::Min,
                    b"max" => Aggregate::Max,
                    _ => return Err(ErrorReply::SYNTAX),
                };
                rest = &after[1..];
            } else if !stores && is(word, "withscores") {
                query.with_scores = true;
            } else {
                return Err(ErrorReply::SYNTAX);
            }
        }
        Ok(query)
    }

    fn combine(&self, inputs: &[Input<'_>], operation: Operation, limits: &Limits) -> SortedSet {
        match operation {
            Operation::Union => self.unite(inputs, limits),
            Operation::Intersection => self.intersect(inputs, limits),
            Operation::Difference => subtract(inputs, limits),
        }
    }

    fn unite(&self, inputs: &[Input<'_>], limits: &Limits) -> SortedSet {
        let mut scores: HashMap<Vec<u8>, f64> = HashMap::new();
        for (input, weight) in inputs.iter().zip(&self.weights) {
            input.for_each(|member, score| {
                let weighted = weigh(score, *weight);
                scores
                    .entry(member.to_vec())
                    .and_modify(|sum| *sum = self.aggregate.of(*sum, weighted))
                    .or_insert(weighted);
            });
        }
        collect(scores, limits)
    }

    fn intersect(&self, inputs: &[Input<'_>], limits: &Limits) -> SortedSet {
        let mut order: Vec<usize> = (0..inputs.len()).collect();
        order.sort_by_key(|index| inputs[*index].len());
        let mut scores = HashMap::new();
        let mut buffer = TextBuffer::new();
        inputs[order[0]].for_each(|member, score| {
            let text = member.text(&mut buffer);
            let mut sum = weigh(score, self.weights[order[0]]);
            for index in &order[1..] {
                let Some(score) = inputs[*index].score(text) else { return };
                sum = self.aggregate.of(sum, weigh(score, self.weights[*index]));
            }
            scores.insert(text.to_vec(), sum);
        });
        collect(scores, limits)
    }
}

fn subtract(inputs: &[Input<'_>], limits: &Limits) -> SortedSet {
    let mut scores = HashMap::new();
    let mut buffer = TextBuffer::new();
    inputs[0].for_each(|member, score| {
        let text = member.text(&mut buffer);
        if inputs[1..].iter().all(|input| input.score(text).is_none()) {
            scores.insert(text.to_vec(), score);
        }
    });
    collect(scores, limits)
}

/// Zero times infinity is nothing rather than no number.
fn weigh(score: f64, weight: f64) -> f64 {
    Some(score * weight).filter(|product| !product.is_nan()).unwrap_or(0.0)
}

fn collect(scores: HashMap<Vec<u8>, f64>, limits: &Limits) -> SortedSet {
    let longest = scores.keys().map(Vec::len).max().unwrap_or(0);
    let mut result = SortedSet::with_expected(scores.len(), longest, limits);
    for (member, score) in scores {
        result.insert(&member, score, limits);
    }
    result
}

fn answer<'k>(reader: &Reader<'k>, args: &Args<'_>, operation: Operation) -> CommandResult<'k> {
    let name = String::from_utf8_lossy(args[0]).to_lowercase();
    let (keys, options) = input_keys(&name, &args[1..])?;
    let inputs = inputs(reader, keys)?;
    let query = Query::parse(keys.len(), options, operation, false)?;
    let result = query.combine(&inputs, operation, &reader.settings().limits);
    Ok(reply(reader.protocol, result.iter(), query.with_scores).into_owned())
}

fn store_result(
    transaction: &mut WriteTxn<'_>,
    args: &Args<'_>,
    operation: Operation,
    event: &'static str,
) -> CommandResult<'static> {
    let (keys, options) = input_keys(event, &args[2..])?;
    for key in keys {
        // Looking deletes what has expired.
        transaction.lookup(key);
    }
    let reader = transaction.reader();
    let inputs = inputs(&reader, keys)?;
    let query = Query::parse(keys.len(), options, operation, true)?;
    let result = query.combine(&inputs, operation, &reader.settings().limits);
    Ok(Reply::Integer(store(transaction, args[1], result, event) as i64))
}

fn zintercard<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    let (keys, rest) = input_keys("zintercard", &args[1..])?;
    let inputs = inputs(reader, keys)?;
    let limit = match rest {
        [] => usize::MAX,
        [word, limit] if is(word, "limit") => {
            match parse::positive_or(limit, ErrorReply::new("ERR LIMIT can't be negative"))? {
                0 => usize::MAX,
                limit => limit,
            }
        }
        _ => return Err(ErrorReply::SYNTAX),
    };
    let size = Query::of(keys.len()).intersect(&inputs, &reader.settings().limits).len();
    Ok(Reply::Integer(size.min(limit) as i64))
}
