//! XADD, XTRIM, XDEL, XSETID.

use super::arguments;
use crate::command::Args;
use crate::commands::parse::{self, is};
use crate::keyspace::{EventClasses, KeyExpiry, WriteTxn};
use crate::protocol::{CommandResult, ErrorReply, Reply};
use crate::types::stream::{Keep, Log, Stream, StreamId, Trim, fits_an_entry};

const TWO_STRATEGIES: ErrorReply =
    ErrorReply::new("ERR syntax error, MAXLEN and MINID options at the same time are not compatible");

const LIMIT_OF_EXACT: ErrorReply =
    ErrorReply::new("ERR syntax error, LIMIT cannot be used without the special ~ option");

/// How the identifier of a new entry is given.
#[derive(Debug, Clone, Copy)]
enum NewId {
    /// `*`: by the clock.
    Clock,
    /// `ms-*`: the next number of this time.
    Next(u64),
    Given(StreamId),
}

/// What XADD and XTRIM are asked for.
struct Options {
    trim: Option<Trim>,
    /// Where the number or identifier to trim by stands.
    threshold_at: usize,
    makes_stream: bool,
    new_id: NewId,
    /// Where the identifier of the new entry stands; the number of arguments if it is missing.
    id_at: usize,
}

impl Options {
    fn parse(transaction: &WriteTxn<'_>, args: &Args<'_>, adds: bool) -> Result<Options, ErrorReply> {
        let mut options = Options {
            trim: None,
            threshold_at: 0,
            makes_stream: true,
            new_id: NewId::Clock,
            id_at: args.len(),
        };
        let mut limit = None;
        let mut at = 2;
        while at < args.len() {
            let word = args[at];
            let has_value = at + 1 < args.len();
            if adds && word == b"*" {
                options.id_at = at;
                break;
            } else if (is(word, "maxlen") || is(word, "minid")) && has_value {
                if options.trim.is_some() {
                    return Err(TWO_STRATEGIES);
                }
                at = options.parse_strategy(args, at, is(word, "maxlen"))?;
            } else if is(word, "limit") && has_value {
                at += 1;
                let given = parse::integer(args[at])?;
                let given = u64::try_from(given)
                    .map_err(|_| ErrorReply::new("ERR The LIMIT argument must be >= 0."))?;
                limit = Some(given);
            } else if adds && is(word, "nomkstream") {
                options.makes_stream = false;
            } else if adds {
                options.new_id = match arguments::id_or_any_number(word, 0)? {
                    (id, true) => NewId::Given(id),
                    (id, false) => NewId::Next(id.ms),
                };
                options.id_at = at;
                break;
            } else {
                return Err(ErrorReply::SYNTAX);
            }
            at += 1;
        }
        options.set_limit(transaction, limit, adds)?;
        Ok(options)
    }

    /// `MAXLEN|MINID [~|=] threshold`, from the first word on. Returns where the threshold stands.
    fn parse_strategy(&mut self, args: &Args<'_>, at: usize, by_length: bool) -> Result<usize, ErrorReply> {
        let has_operator = at + 2 < args.len() && matches!(args[at + 1], b"~" | b"=");
        let approximate = has_operator && args[at + 1] == b"~";
        let at = if has_operator { at + 2 } else { at + 1 };
        let keep = if by_length {
            let most = parse::integer(args[at])?;
            let negative = ErrorReply::new("ERR The MAXLEN argument must be >= 0.");
            Keep::Newest(u64::try_from(most).map_err(|_| negative)?)
        } else {
            Keep::From(arguments::id(args[at], 0)?)
        };
        self.trim = Some(Trim { keep, approximate, limit: 0 });
        self.threshold_at = at;
        Ok(at)
    }

    /// A primary limits what an approximate trim does at once. What it then did is told to replicas as an exact one.
    fn set_limit(
        &mut self,
        transaction: &WriteTxn<'_>,
        given: Option<u64>,
        adds: bool,
    ) -> Result<(), ErrorReply> {
        let obeys = transaction.expiry == KeyExpiry::Ignore;
        let Some(trim) = &mut self.trim else {
            if given.is_some_and(|given| given > 0) {
                return Err(ErrorReply::new(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                ));
            }
            return match given {
                _ if !adds => {
                    Err(ErrorReply::new("ERR syntax error, XTRIM must be called with a trimming strategy"))
                }
                Some(_) if !obeys => Err(LIMIT_OF_EXACT),
                _ => Ok(()),
            };
        };
        if obeys {
            return Ok(());
        }
        trim.limit = match given {
            Some(_) if !trim.approximate => return Err(LIMIT_OF_EXACT),
            Some(given) => given,
            None if trim.approximate => match transaction.limits().stream_node_max_entries as u64 {
                0 => 10_000,
                entries => entries.saturating_mul(100).min(1_000_000),
            },
            None => 0,
        };
        Ok(())
    }

    /// What an approximate trim left, as the threshold of an exact one.
    fn exact_threshold(trim: &Trim, log: &Log) -> Vec<u8> {
        match trim.keep {
            Keep::Newest(_) => itoa::Buffer::new().format(log.len()).as_bytes().to_vec(),
            Keep::From(_) => log.first_node_id().unwrap_or(StreamId::MAX).text(),
        }
    }
}

impl NewId {
    /// The identifier that comes after `last`; `None` if there is none.
    fn after(self, last: StreamId, now_ms: u64) -> Option<StreamId> {
        match self {
            NewId::Clock if now_ms > last.ms => Some(StreamId::new(now_ms, 0)),
            NewId::Clock => last.next(),
            NewId::Next(ms) if ms == last.ms => Some(StreamId::new(ms, last.seq.checked_add(1)?)),
            NewId::Next(ms) => Some(StreamId::new(ms, 0)),
            NewId::Given(id) => Some(id),
        }
        .filter(|id| *id > last)
    }
}

/// What came of an XADD.
struct Added {
    id: StreamId,
    trimmed: u64,
    exact_threshold: Option<Vec<u8>>,
}

pub fn xadd(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let options = Options::parse(transaction, args, true)?;
    let fields = args.get(options.id_at + 1..).unwrap_or_default();
    if fields.is_empty() || fields.len() % 2 == 1 {
        return Err(ErrorReply::new("ERR wrong number of arguments for 'xadd' command"));
    }
    if matches!(options.new_id, NewId::Given(StreamId::MIN)) {
        return Err(ErrorReply::new("ERR The ID specified in XADD must be greater than 0-0"));
    }
    let (key, limits, now_ms) = (args[1], transaction.limits(), transaction.now_ms);
    let add = |stream: &mut Stream| {
        let last = stream.log().last_id;
        if last == StreamId::MAX {
            return Err(ErrorReply::new(
                "ERR The stream has exhausted the last possible ID, unable to add more items",
            ));
        }
        let id = options.new_id.after(last, now_ms).ok_or(ErrorReply::new(
            "ERR The ID specified in XADD is equal or smaller than the target stream top item",
        ))?;
        if !fits_an_entry(fields) {
            return Err(ErrorReply::new("ERR Elements are too large to be stored"));
        }
        let log = stream.log_mut();
        log.append(id, fields, &limits);
        let trimmed = options.trim.map_or(0, |trim| log.trim(&trim));
        let approximate = options.trim.filter(|trim| trim.approximate);
        let exact_threshold = approximate.map(|trim| Options::exact_threshold(&trim, log));
        Ok(Added { id, trimmed, exact_threshold })
    };
    let added = match transaction.change_stream(key)? {
        Some(stream) => add(stream)?,
        None if !options.makes_stream => return Ok(Reply::Nil),
        None => {
            let mut stream = Stream::new();
            let added = add(&mut stream)?;
            transaction.stream_or_new(key, || stream)?;
            added
        }
    };
    transaction.changed(EventClasses::STREAM, "xadd", key, 1);
    if added.trimmed > 0 {
        transaction.notify(EventClasses::STREAM, "xtrim", key);
    }
    let id = added.id.text();
    let mut effect = args.to_vec();
    if let Some(threshold) = &added.exact_threshold {
        effect[options.threshold_at - 1] = b"=";
        effect[options.threshold_at] = threshold;
    }
    if !matches!(options.new_id, NewId::Given(_)) {
        effect[options.id_at] = &id;
    }
    transaction.state_effect(&effect);
    Ok(Reply::Owned(id))
}

pub fn xtrim(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let options = Options::parse(transaction, args, false)?;
    let key = args[1];
    let Some(trim) = options.trim else { return Err(ErrorReply::SYNTAX) };
    let Some(stream) = transaction.change_stream(key)? else { return Ok(Reply::Integer(0)) };
    let log = stream.log_mut();
    let deleted = log.trim(&trim);
    if deleted > 0 {
        let threshold = trim.approximate.then(|| Options::exact_threshold(&trim, log));
        transaction.changed(EventClasses::STREAM, "xtrim", key, deleted);
        if let Some(threshold) = threshold {
            let mut effect = args.to_vec();
            effect[options.threshold_at - 1] = b"=";
            effect[options.threshold_at] = &threshold;
            transaction.state_effect(&effect);
        }
    }
    Ok(Reply::Integer(deleted as i64))
}

pub fn xdel(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let key = args[1];
    if transaction.stream(key)?.is_none() {
        return Ok(Reply::Integer(0));
    }
    let ids = args[2..].iter().map(|text| arguments::id(text, 0)).collect::<Result<Vec<_>, _>>()?;
    let Some(stream) = transaction.change_stream(key)? else { return Ok(Reply::Integer(0)) };
    let log = stream.log_mut();
    let deleted = ids.into_iter().filter(|id| log.delete(*id)).count();
    if deleted > 0 {
        transaction.changed(EventClasses::STREAM, "xdel", key, deleted as u64);
    }
    Ok(Reply::Integer(deleted as i64))
}

pub fn xsetid(transaction: &mut WriteTxn<'_>, args: &Args<'_>) -> CommandResult<'static> {
    let id = arguments::id(args[2], 0)?;
    let (mut entries_added, mut max_deleted_id) = (None, StreamId::MIN);
    for option in args[3..].chunks(2) {
        match option {
            [word, value] if is(word, "entriesadded") => {
                let added = u64::try_from(parse::integer(value)?)
                    .map_err(|_| ErrorReply::new("ERR entries_added must be positive"))?;
                entries_added = Some(added);
            }
            [word, value] if is(word, "maxdeletedid") => {
                max_deleted_id = arguments::id(value, 0)?;
                if id < max_deleted_id {
                    return Err(ErrorReply::new(
                        "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                    ));
                }
            }
            _ => return Err(ErrorReply::SYNTAX),
        }
    }
    let key = args[1];
    let Some(log) = transaction.stream(key)?.map(Stream::log) else { return Err(ErrorReply::NO_SUCH_KEY) };
    if id < log.max_deleted_id {
        return Err(ErrorReply::new(
            "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
        ));
    }
    if log.last_live_id().is_some_and(|last| id < last) {
        return Err(ErrorReply::new(
            "ERR The ID specified in XSETID is smaller than the target stream top item",
        ));
    }
    if !log.is_empty() && entries_added.is_some_and(|added| added < log.len() as u64) {
        return Err(ErrorReply::new(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    let Some(stream) = transaction.change_stream(key)? else { return Err(ErrorReply::NO_SUCH_KEY) };
    let log = stream.log_mut();
    log.last_id = id;
    if let Some(added) = entries_added {
        log.entries_added = added;
    }
    if max_deleted_id != StreamId::MIN {
        log.max_deleted_id = max_deleted_id;
    }
    transaction.notify(EventClasses::STREAM, "xsetid", key);
    transaction.count_changes(1);
    Ok(Reply::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_identifier() {
        let id = StreamId::new;
        let last = id(5, 9);
        assert_eq!(NewId::Clock.after(last, 6), Some(id(6, 0)));
        assert_eq!(NewId::Clock.after(last, 5), Some(id(5, 10)));
        assert_eq!(NewId::Clock.after(last, 1), Some(id(5, 10)));
        assert_eq!(NewId::Clock.after(StreamId::MAX, 1), None);
        assert_eq!(NewId::Next(5).after(last, 0), Some(id(5, 10)));
        assert_eq!(NewId::Next(6).after(last, 0), Some(id(6, 0)));
        assert_eq!(NewId::Next(4).after(last, 0), None);
        assert_eq!(NewId::Next(0).after(StreamId::MIN, 0), Some(id(0, 1)));
        assert_eq!(NewId::Next(5).after(id(5, u64::MAX), 0), None);
        assert_eq!(NewId::Given(last).after(last, 0), None);
    }
}
