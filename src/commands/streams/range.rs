//! XLEN, XRANGE, XREVRANGE.

use super::arguments;
use super::entry_reply;
use crate::command::Args;
use crate::commands::parse::is;
use crate::keyspace::Reader;
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::stream::{Direction, Stream};

pub fn xlen<'k>(reader: &Reader<'k>, args: &Args<'_>) -> CommandResult<'k> {
    Ok(Reply::Integer(reader.stream(args[1])?.map_or(0, Stream::len) as i64))
}

/// XREVRANGE takes the end of the range first.
pub fn xrange<'k>(reader: &Reader<'k>, args: &Args<'_>, direction: Direction) -> CommandResult<'k> {
    let (start, end) = match direction {
        Direction::Forward => (args[2], args[3]),
        Direction::Backward => (args[3], args[2]),
    };
    let (start, end) = (arguments::start(start)?, arguments::end(end)?);
    let mut most = None;
    for option in args[4..].chunks(2) {
        match option {
            [word, count] if is(word, "count") => most = Some(arguments::count(count)?),
            _ => return Err(ErrorReply::SYNTAX),
        }
    }
    let Some(stream) = reader.stream(args[1])? else { return Ok(Reply::Array(Vec::new())) };
    if most == Some(0) {
        return Ok(Reply::NilArray);
    }
    let entries = stream.log().range(start, end, direction);
    Ok(Reply::Array(entries.take(most.unwrap_or(usize::MAX)).map(entry_reply).collect()))
}
