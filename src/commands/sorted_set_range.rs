//! Ranges of sorted sets: ZRANGE and its many older names, ZRANGESTORE.

use super::parse::{self, index_range, is};
use super::sets::element;
use super::sorted_sets::{READ, reading, writing};
use crate::command::{Args, Argument, ArgumentKind, DataCommand, KeySpec, KeyUse, ReadFn};
use crate::keyspace::entry::Collection;
use crate::keyspace::{Entry, EventClasses, Reader, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Protocol, Reply};
use crate::types::SortedSet;
use crate::types::element::{Element, TextBuffer};
use crate::types::list::Direction;
use crate::types::sorted_set::{LexBound, LexRange, ScoreBound, ScoreRange};

const COMPLEXITY: &str =
    "O(log(N)+M), N being the size of the sorted set and M the number of members returned";
const LIMIT: Argument = Argument::block(
    "limit",
    &[Argument::new("offset", ArgumentKind::Integer), Argument::new("count", ArgumentKind::Integer)],
)
.after("LIMIT")
.optional();
const WITHSCORES: Argument = Argument::word("WITHSCORES").optional();
const START: Argument = Argument::new("start", ArgumentKind::String);
const STOP: Argument = Argument::new("stop", ArgumentKind::String);
const KEY: Argument = Argument::key();
const RANK_START: Argument = Argument::new("start", ArgumentKind::Integer);
const RANK_STOP: Argument = Argument::new("stop", ArgumentKind::Integer);
const MIN_SCORE: Argument = Argument::new("min", ArgumentKind::Double);
const MAX_SCORE: Argument = Argument::new("max", ArgumentKind::Double);
const MIN_NAME: Argument = Argument::new("min", ArgumentKind::String);
const MAX_NAME: Argument = Argument::new("max", ArgumentKind::String);
const RANGE_OPTIONS: [Argument; 3] = [
    Argument::one_of("sortby", &[Argument::word("BYSCORE"), Argument::word("BYLEX")]).optional(),
    Argument::word("REV").optional(),
    LIMIT,
];

pub const COMMANDS: &[DataCommand] = &[
    DataCommand {
        name: "zrange",
        summary: "The members in a range of ranks, scores or names.",
        since: "1.2.0",
        complexity: COMPLEXITY,
        arity: -4,
        arguments: &[
            Argument::key(),
            START,
            STOP,
            RANGE_OPTIONS[0].since("6.2.0"),
            RANGE_OPTIONS[1].since("6.2.0"),
            RANGE_OPTIONS[2].since("6.2.0"),
            WITHSCORES,
        ],
        history: &[("6.2.0", "REV, BYSCORE, BYLEX and LIMIT.")],
        ..reading(zrange)
    },
    DataCommand {
        name: "zrangestore",
        summary: "Stores the members in a range as another sorted set.",
        since: "6.2.0",
        complexity: "O(log(N)+M), N being the size of the sorted set and M the number of members stored",
        arity: -5,
        flags: crate::command::Flags::DENYOOM,
        keys: &[KeySpec::one(1, KeyUse::OW.and(KeyUse::UPDATE)), KeySpec::one(2, READ)],
        arguments: &[
            Argument::new("dst", ArgumentKind::Key),
            Argument::new("src", ArgumentKind::Key),
            Argument::new("min", ArgumentKind::String),
            Argument::new("max", ArgumentKind::String),
            RANGE_OPTIONS[0],
            RANGE_OPTIONS[1],
            RANGE_OPTIONS[2],
        ],
        ..writing(zrangestore)
    },
    DataCommand {
        name: "zrevrange",
        summary: "The members in a range of ranks, from the highest score.",
        since: "1.2.0",
        arguments: &[KEY, RANK_START, RANK_STOP, WITHSCORES],
        ..old(|reader, args| fixed(reader, args, By::Rank, true))
    },
    DataCommand {
        name: "zrangebyscore",
        summary: "The members in a range of scores.",
        since: "1.0.5",
        arguments: &[KEY, MIN_SCORE, MAX_SCORE, WITHSCORES.since("2.0.0"), LIMIT],
        history: &[("2.0.0", "WITHSCORES.")],
        ..old(|reader, args| fixed(reader, args, By::Score, false))
    },
    DataCommand {
        name: "zrevrangebyscore",
        summary: "The members in a range of scores, from the highest.",
        since: "2.2.0",
        arguments: &[KEY, MAX_SCORE, MIN_SCORE, WITHSCORES, LIMIT],
        history: &[("2.1.6", "Bounds may be exclusive.")],
        ..old(|reader, args| fixed(reader, args, By::Score, true))
    },
    DataCommand {
        name: "zrangebylex",
        summary: "The members in a range of names.",
        since: "2.8.9",
        arguments: &[KEY, MIN_NAME, MAX_NAME, LIMIT],
        ..old(|reader, args| fixed(reader, args, By::Name, false))
    },
    DataCommand {
        name: "zrevrangebylex",
        summary: "The members in a range of names, from the last.",
        since: "2.8.9",
        arguments: &[KEY, MAX_NAME, MIN_NAME, LIMIT],
        ..old(|reader, args| fixed(reader, args, By::Name, true))
    },
];

/// A command that ZRANGE replaces.
const fn old(function: ReadFn) -> DataCommand {
    DataCommand { complexity: COMPLEXITY, arity: -4, ..reading(function) }
}

/// What a range is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    Rank,
    Score,
    Name,
}

/// A range of a sorted set.
#[derive(Debug, Clone, Copy)]
pub(super) enum Range<'a> {
    /// From and to, both included, negative ones counting from the end.
    Ranks(i64, i64),
    Scores(ScoreRange),
    Names(LexRange<'a>),
}

impl<'a> Range<'a> {
    /// Reads a range; in a reversed one of scores or names the upper end comes first.
    pub fn parse(by: By, first: &'a [u8], second: &'a [u8], reverse: bool) -> Result<Self, ErrorReply> {
        let (low, high) = if reverse && by != By::Rank { (second, first) } else { (first, second) };
        match by {
            By::Rank => Ok(Range::Ranks(parse::integer(first)?, parse::integer(second)?)),
            By::Score => {
                let error = ErrorReply::new("ERR min or max is not a float");
                let (Some(min), Some(max)) = (score_bound(low), score_bound(high)) else { return Err(error) };
                Ok(Range::Scores(ScoreRange { min, max }))
            }
            By::Name => {
                let error = ErrorReply::new("ERR min or max not valid string range item");
                let (Some(min), Some(max)) = (name_bound(low), name_bound(high)) else { return Err(error) };
                Ok(Range::Names(LexRange { min, max }))
            }
        }
    }

    /// The ranks it covers, counted from the lowest score; for `Ranks` as they stand.
    pub fn ranks(&self, set: &SortedSet) -> std::ops::Range<usize> {
        match self {
            Range::Ranks(start, end) => index_range(*start, *end, set.len()),
            Range::Scores(range) => set.ranks_by_score(range),
            Range::Names(range) => set.ranks_by_lex(range),
        }
    }
}

fn score_bound(text: &[u8]) -> Option<ScoreBound> {
    match text.strip_prefix(b"(") {
        Some(score) => Some(ScoreBound::Exclusive(bound_number(score)?)),
        None => Some(ScoreBound::Inclusive(bound_number(text)?)),
    }
}

/// The number of a bound: nothing is 0, and what is too large is infinite.
fn bound_number(text: &[u8]) -> Option<f64> {
    if text.is_empty() {
        return Some(0.0);
    }
    std::str::from_utf8(text).ok()?.parse().ok().filter(|number: &f64| !number.is_nan())
}

fn name_bound(text: &[u8]) -> Option<LexBound<'_>> {
    match text {
        b"-" => Some(LexBound::Minimum),
        b"+" => Some(LexBound::Maximum),
        [b'[', name @ ..] => Some(LexBound::Inclusive(name)),
        [b'(', name @ ..] => Some(LexBound::Exclusive(name)),
        _ => None,
    }
}

/// A range with all that can be asked of it.
struct Query<'a> {
    range: Range<'a>,
    reverse: bool,
    offset: i64,
    /// Negative: all.
    limit: i64,
    with_scores: bool,
}

impl<'a> Query<'a> {
    /// Reads `start stop` and the options behind them. `fixed`: the command's name says what the range is of.
    fn parse(
        args: &[&'a [u8]],
        fixed: Option<(By, bool)>,
        may_have_scores: bool,
    ) -> Result<Self, ErrorReply> {
        let (mut by, mut reverse) = fixed.unwrap_or((By::Rank, false));
        let (mut offset, mut limit, mut with_scores, mut limited) = (0, -1, false, false);
        let mut rest = &args[2..];
        while let [word, after @ ..] = rest {
            rest = after;
            if may_have_scores && is(word, "withscores") {
                with_scores = true;
            } else if is(word, "limit") && after.len() >= 2 {
                offset = parse::integer(after[0])?;
                limit = parse::integer(after[1])?;
                limited = true;
                rest = &after[2..];
            } else if fixed.is_none() && !reverse && is(word, "rev") {
                reverse = true;
            } else if fixed.is_none() && by == By::Rank && is(word, "byscore") {
                by = By::Score;
            } else if fixed.is_none() && by == By::Rank && is(word, "bylex") {
                by = By::Name;
            } else {
                return Err(ErrorReply::SYNTAX);
            }
        }
        if limited && limit != -1 && by == By::Rank {
            return Err(ErrorReply::new(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or BYLEX",
            ));
        }
        if with_scores && by == By::Name {
            return Err(ErrorReply::new(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        let range = Range::parse(by, args[0], args[1], reverse)?;
        Ok(Query { range, reverse, offset, limit, with_scores })
    }

    /// The members, in order.
    fn members<'k>(&self, set: &'k SortedSet) -> impl Iterator<Item = (Element<'k>, f64)> + use<'k> {
        let size = set.len();
        let mut ranks = self.range.ranks(set);
        if let (Range::Ranks(..), true) = (&self.range, self.reverse) {
            // Ranks of a reversed range count from the highest score.
            ranks = size - ranks.end..size - ranks.start;
        }
        let skipped = usize::try_from(self.offset).unwrap_or(usize::MAX).min(ranks.len());
        let wanted = usize::try_from(self.limit).unwrap_or(usize::MAX).min(ranks.len() - skipped);
        let (first, direction) = if self.reverse {
            (ranks.end.saturating_sub(1 + skipped), Direction::Backward)
        } else {
            (ranks.start + skipped, Direction::Forward)
        };
        set.iter_from(first, direction).take(wanted)
    }
}

/// Members, with their scores if wanted: pairs in RESP3, flat in RESP2.
pub(super) fn reply<'k>(
    protocol: Protocol,
    members: impl Iterator<Item = (Element<'k>, f64)>,
    with_scores: bool,
) -> Reply<'k> {
    Reply::Array(match (with_scores, protocol) {
        (false, _) => members.map(|(member, _)| element(member)).collect(),
        (true, Protocol::Resp2) => {
            members.flat_map(|(member, score)| [element(member), Reply::Double(score)]).collect()
        }
        (true, Protocol::Resp3) => {
            members.map(|(member, score)| Reply::Array(vec![element(member), Reply::Double(score)])).collect()
        }
    })
}

fn zrange<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    answer(reader, args, None)
}

fn fixed<'k>(reader: &Reader<'k>, args: &Args<'_>, by: By, reverse: bool) -> CommandResult<'k> {
    answer(reader, args, Some((by, reverse)))
}

fn answer<'k>(reader: &Reader<'k>, args: &Args<'_>, fixed: Option<(By, bool)>) -> CommandResult<'k> {
    let query = Query::parse(&args[2..], fixed, true)?;
    let Some(set) = reader.sorted_set(args[1])? else { return Ok(Reply::Array(Vec::new())) };
    Ok(reply(reader.protocol, query.members(set), query.with_scores))
}

fn zrangestore(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let (destination, source) = (args[1], args[2]);
    let query = Query::parse(&args[3..], None, false)?;
    let limits = transaction.limits();
    let mut result = SortedSet::new();
    if let Some(set) = transaction.sorted_set(source)? {
        let mut buffer = TextBuffer::new();
        for (member, score) in query.members(set) {
            result.insert(member.text(&mut buffer), score, &limits);
        }
    }
    Ok(Reply::Integer(store(transaction, destination, result, "zrangestore") as i64))
}

/// Stores a result, or deletes the destination if it is empty. Returns its size.
pub(super) fn store(
    transaction: &mut WriteTxn<'_>,
    destination: &[u8],
    result: SortedSet,
    event: &'static str,
) -> usize {
    let size = result.len();
    if size == 0 {
        if transaction.delete(destination) {
            transaction.count_changes(1);
        }
        return 0;
    }
    transaction.insert(Entry::collection(destination, Collection::SortedSet(result), None));
    transaction.changed(EventClasses::SORTEDSET, event, destination, 1);
    size
}
