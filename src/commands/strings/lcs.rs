//! LCS: the longest common subsequence of two strings, by dynamic programming over a table of lengths.

use super::Read;
use crate::command::Args;
use crate::commands::parse::{integer, is};
use crate::keyspace::Reader;
use crate::protocol::{ErrorReply, Reply};

#[derive(Debug, Default)]
struct Options {
    length_only: bool,
    ranges: bool,
    with_match_length: bool,
    min_match_length: usize,
}

/// A stretch that both strings have: where it begins in each, and its length.
#[derive(Debug, Clone, Copy)]
struct Match {
    first: usize,
    second: usize,
    length: usize,
}

pub fn lcs<'k>(reader: &Reader<'k>, args: &Args<'_>) -> Read<'k> {
    let no_strings = |_| ErrorReply::new("ERR The specified keys must contain string values");
    let first = reader.string(args[1]).map_err(no_strings)?;
    let second = reader.string(args[2]).map_err(no_strings)?;
    let options = parse(&args[3..])?;
    let first = first.map(|value| value.text()).unwrap_or_default();
    let second = second.map(|value| value.text()).unwrap_or_default();
    let table = Table::new(&first, &second, reader.settings().max_string_length)?;
    let length = table.at(first.len(), second.len());
    if options.length_only {
        return Ok(Reply::Integer(i64::from(length)));
    }
    let (common, matches) = walk(&table, &first, &second);
    if !options.ranges {
        return Ok(Reply::Owned(common));
    }
    let matches = matches.into_iter().filter(|found| found.length >= options.min_match_length);
    let matches = matches.map(|found| match_reply(found, options.with_match_length)).collect();
    Ok(Reply::Map(vec![
        (Reply::Bulk(b"matches"), Reply::Array(matches)),
        (Reply::Bulk(b"len"), Reply::Integer(i64::from(length))),
    ]))
}

fn parse(words: &[&[u8]]) -> Result<Options, ErrorReply> {
    let mut options = Options::default();
    let mut rest = words;
    while let [word, after @ ..] = rest {
        rest = after;
        match () {
            () if is(word, "idx") => options.ranges = true,
            () if is(word, "len") => options.length_only = true,
            () if is(word, "withmatchlen") => options.with_match_length = true,
            () if is(word, "minmatchlen") && !rest.is_empty() => {
                options.min_match_length = integer(rest[0])?.max(0) as usize;
                rest = &rest[1..];
            }
            () => return Err(ErrorReply::SYNTAX),
        }
    }
    if options.ranges && options.length_only {
        return Err(ErrorReply::new("ERR If you want both the length and indexes, please just use IDX."));
    }
    Ok(options)
}

/// The length of the longest common subsequence of every pair of prefixes.
struct Table {
    lengths: Vec<u32>,
    width: usize,
}

impl Table {
    /// Fails if it would take more than `most` bytes.
    fn new(first: &[u8], second: &[u8], most: usize) -> Result<Table, ErrorReply> {
        let width = second.len() + 1;
        let cells = (first.len() + 1).checked_mul(width).filter(|cells| *cells <= most / size_of::<u32>());
        let cells = cells.ok_or(ErrorReply::new(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ))?;
        let mut lengths = Vec::new();
        lengths.try_reserve_exact(cells).map_err(|_| {
            ErrorReply::new("ERR Insufficient memory, failed allocating transient memory for LCS")
        })?;
        lengths.resize(width, 0);
        for (row, byte) in first.iter().enumerate() {
            lengths.push(0);
            for (column, other) in second.iter().enumerate() {
                let above = row * width + column;
                let length = if byte == other {
                    lengths[above] + 1
                } else {
                    lengths[above + 1].max(lengths[above + width])
                };
                lengths.push(length);
            }
        }
        Ok(Table { lengths, width })
    }

    fn at(&self, first: usize, second: usize) -> u32 {
        self.lengths[first * self.width + second]
    }
}

/// Walks the table from its end: the subsequence, and the stretches it consists of, the last one first.
fn walk(table: &Table, first: &[u8], second: &[u8]) -> (Vec<u8>, Vec<Match>) {
    let (mut i, mut j) = (first.len(), second.len());
    let mut common = Vec::with_capacity(table.at(i, j) as usize);
    let mut matches: Vec<Match> = Vec::new();
    // Whether the last stretch goes on with the next pair of bytes.
    let mut open = false;
    while i > 0 && j > 0 {
        if first[i - 1] == second[j - 1] {
            (i, j) = (i - 1, j - 1);
            common.push(first[i]);
            match matches.last_mut().filter(|_| open) {
                Some(last) => *last = Match { first: i, second: j, length: last.length + 1 },
                None => matches.push(Match { first: i, second: j, length: 1 }),
            }
            open = true;
        } else {
            open = false;
            if table.at(i - 1, j) > table.at(i, j - 1) { i -= 1 } else { j -= 1 }
        }
    }
    common.reverse();
    (common, matches)
}

fn match_reply<'k>(found: Match, with_length: bool) -> Reply<'k> {
    let number = |number: usize| Reply::Integer(number as i64);
    let range = |start: usize| Reply::Array(vec![number(start), number(start + found.length - 1)]);
    let mut parts = vec![range(found.first), range(found.second)];
    if with_length {
        parts.push(number(found.length));
    }
    Reply::Array(parts)
}
