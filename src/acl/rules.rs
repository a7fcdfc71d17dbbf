//! What can be wrong with rules, and how rules that a client or a file gave become words.

use std::borrow::Cow;

/// Which channels a new selector allows (`acl-pubsub-default`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelDefault {
    All,
    None,
}

/// Why a rule is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum RuleError {
    #[error("Unknown command or category name in ACL")]
    UnknownCommand,
    #[error("Syntax error")]
    Syntax,
    #[error(
        "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does not have any effect. Try \
         'resetkeys' to start with an empty list of patterns"
    )]
    PatternAfterAllKeys,
    #[error(
        "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and does not have any effect. Try \
         'resetchannels' to start with an empty list of channels"
    )]
    PatternAfterAllChannels,
    #[error("The password you are trying to remove from the user does not exist")]
    NoSuchPassword,
    #[error(
        "The password hash must be exactly 64 characters and contain only lowercase hexadecimal characters"
    )]
    BadHash,
    #[error("Allowing first-arg of a subcommand is not supported")]
    FirstArgumentOfSubcommand,
    #[error("The provided database ID is out of range")]
    DatabaseOutOfRange,
}

/// Why ACL SETUSER changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetUserError {
    /// The word in which the parenthesis is opened.
    Unmatched(Vec<u8>),
    Rule {
        rule: Vec<u8>,
        error: RuleError,
    },
}

impl SetUserError {
    /// As ACL SETUSER replies, without the code.
    pub fn to_text(&self) -> Vec<u8> {
        match self {
            SetUserError::Unmatched(word) => {
                [b"Unmatched parenthesis in acl selector starting at '", word.as_slice(), b"'."].concat()
            }
            SetUserError::Rule { rule, error } => {
                let mut text = b"Error in ACL SETUSER modifier '".to_vec();
                text.extend_from_slice(rule);
                text.extend_from_slice(format!("': {error}").as_bytes());
                text
            }
        }
    }
}

/// Joins the words of a selector that came as several: `(+get`, `~a)`. `Err`: the index of a word with a parenthesis
/// that is never closed.
pub fn join_selectors<'a>(words: &[&'a [u8]]) -> Result<Vec<Cow<'a, [u8]>>, usize> {
    let mut joined = Vec::with_capacity(words.len());
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (index, word) in words.iter().enumerate() {
        match &mut open {
            None if word.starts_with(b"(") && !word.ends_with(b")") => open = Some((index, word.to_vec())),
            None => joined.push(Cow::Borrowed(*word)),
            Some((_, selector)) => {
                selector.push(b' ');
                selector.extend_from_slice(word);
                if word.ends_with(b")")
                    && let Some((_, selector)) = open.take()
                {
                    joined.push(Cow::Owned(selector));
                }
            }
        }
    }
    match open {
        Some((index, _)) => Err(index),
        None => Ok(joined),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_joined() {
        let join = |line: &str| {
            let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
            join_selectors(&words).map(|words| {
                words.iter().map(|word| String::from_utf8_lossy(word).into_owned()).collect::<Vec<_>>()
            })
        };
        assert_eq!(
            join("on (+get ~a) +set (x)"),
            Ok(vec!["on".into(), "(+get ~a)".into(), "+set".into(), "(x)".into()])
        );
        assert_eq!(join("( +get )x )"), Ok(vec!["( +get )x )".into()]));
        assert_eq!(join("on (+get"), Err(1));
        assert_eq!(join("("), Err(0));
    }
}
