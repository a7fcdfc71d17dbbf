//! What a call names besides keys: channels and databases.
//!
//! Invariant: evaluation never reads past the arguments, whatever a client sent.

use super::Args;
use crate::base::number::parse_i64;

/// Where a call names channels of PUBLISH and SUBSCRIBE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelArguments {
    None,
    /// The first argument is a channel.
    First,
    /// All arguments are channels.
    All,
    /// All arguments are patterns of channels.
    AllPatterns,
}

/// Where a call names databases, besides the one in which it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DatabaseArguments {
    None,
    /// At these indexes.
    At(&'static [usize]),
    /// After each occurrence of the word, searched from this index.
    After(&'static str, usize),
}

impl DatabaseArguments {
    /// The indexes and numbers of the databases that a call names, given how many there are. None where one of them is no
    /// database: such a call comes to nothing.
    pub fn positions(self, args: &Args<'_>, database_count: usize) -> Vec<(usize, usize)> {
        let indexes: Vec<usize> = match self {
            DatabaseArguments::None => return Vec::new(),
            DatabaseArguments::At(indexes) => indexes.to_vec(),
            DatabaseArguments::After(word, from) => {
                (from..args.len()).filter(|at| args[*at - 1].eq_ignore_ascii_case(word.as_bytes())).collect()
            }
        };
        let database = |index: usize| {
            let number = parse_i64(args.get(index)?).and_then(|number| usize::try_from(number).ok())?;
            (number < database_count).then_some((index, number))
        };
        indexes.into_iter().map(database).collect::<Option<_>>().unwrap_or_default()
    }
}
