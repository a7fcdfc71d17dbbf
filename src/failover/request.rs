//! The arguments of FAILOVER.
//!
//! Knows words only; whether the wish can be fulfilled is for the coordinator.

use crate::protocol::ErrorReply;
use crate::replication::integer;

/// `FAILOVER [TO host port [FORCE]] [ABORT] [TIMEOUT ms]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FailoverRequest {
    Abort,
    Start(Start),
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Start {
    /// Host and port; any replica without it.
    pub target: Option<(String, i64)>,
    pub force: bool,
    pub timeout_ms: Option<u64>,
}

impl FailoverRequest {
    /// Reads the arguments after the name.
    pub fn parse(arguments: &[&[u8]]) -> Result<Self, ErrorReply> {
        if let [word] = arguments
            && word.eq_ignore_ascii_case(b"abort")
        {
            return Ok(FailoverRequest::Abort);
        }
        let mut start = Start::default();
        let mut rest = arguments;
        loop {
            rest = match rest {
                [] => return Ok(FailoverRequest::Start(start)),
                [word, value, rest @ ..]
                    if word.eq_ignore_ascii_case(b"timeout") && start.timeout_ms.is_none() =>
                {
                    let timeout_ms = integer(value).ok_or(ErrorReply::NOT_AN_INTEGER)?;
                    let positive = u64::try_from(timeout_ms).ok().filter(|timeout_ms| *timeout_ms > 0);
                    let error = ErrorReply::new("ERR FAILOVER timeout must be greater than 0");
                    start.timeout_ms = Some(positive.ok_or(error)?);
                    rest
                }
                [word, host, port, rest @ ..]
                    if word.eq_ignore_ascii_case(b"to") && start.target.is_none() =>
                {
                    let port = integer(port).ok_or(ErrorReply::NOT_AN_INTEGER)?;
                    start.target = Some((String::from_utf8_lossy(host).into_owned(), port));
                    rest
                }
                [word, rest @ ..] if word.eq_ignore_ascii_case(b"force") && !start.force => {
                    start.force = true;
                    rest
                }
                _ => return Err(ErrorReply::SYNTAX),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &str) -> Result<FailoverRequest, ErrorReply> {
        let words: Vec<&[u8]> = words.split_whitespace().map(str::as_bytes).collect();
        FailoverRequest::parse(&words)
    }

    #[test]
    fn forms() {
        assert_eq!(parse("abort"), Ok(FailoverRequest::Abort));
        assert_eq!(parse(""), Ok(FailoverRequest::Start(Start::default())));
        let full = Start { target: Some(("h".into(), 7)), force: true, timeout_ms: Some(9) };
        assert_eq!(parse("timeout 9 force TO h 7"), Ok(FailoverRequest::Start(full)));
    }

    #[test]
    fn errors() {
        for words in
            ["abort now", "to h", "force force", "timeout", "to h 1 to h 1", "timeout 1 timeout 1", "x"]
        {
            assert_eq!(parse(words), Err(ErrorReply::SYNTAX), "{words}");
        }
        for words in ["timeout x", "to h x"] {
            assert_eq!(parse(words), Err(ErrorReply::NOT_AN_INTEGER), "{words}");
        }
        let error = ErrorReply::new("ERR FAILOVER timeout must be greater than 0");
        assert_eq!(parse("timeout 0"), Err(error.clone()));
        assert_eq!(parse("timeout -1"), Err(error));
    }
}
