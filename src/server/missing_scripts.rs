//! Scripts that this replica lacks and its primary may have: EVALSHA of one asks the primary by SCRIPT SHOW before it is answered
//! NOSCRIPT. Scripts that came to the primary by EVAL are not in its stream.
//!
//! The primary is asked on a connection of its own, with the user of the link; the client that wants the script waits, nobody else
//! does. How a script is run is none of this module's business.
//!
//! Invariants: a digest is asked for once at a time; no client waits longer than [`PATIENCE`]; what comes is taken only if it has
//! the digest that was asked for.

use std::collections::HashMap;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Server;
use crate::protocol::{Protocol, Reply, decode, encode};
use crate::replication::Address;
use crate::scripting::{Origin, Script, ScriptDigest};

/// How long the primary may take to answer.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long a script that the primary did not have either is not asked for again.
const UNKNOWN_FOR: Duration = Duration::from_secs(1);
/// Digests kept at a time, those being asked for and those that are unknown.
const MOST: usize = 64;
/// A longer answer is no script that a client could have sent.
const LONGEST_ANSWER: usize = 512 << 20;

#[derive(Debug)]
enum Asked {
    Now,
    /// The primary did not have it at this moment.
    Unknown(Instant),
}

/// What was asked for.
#[derive(Debug, Default)]
pub struct MissingScripts {
    asked: Mutex<HashMap<ScriptDigest, Asked>>,
}

impl MissingScripts {
    /// Is this one to be asked for, or is it already (`Some(false)`)? `None`: there is no use in asking.
    fn begin(&self, digest: ScriptDigest) -> Option<bool> {
        let mut asked = self.asked.lock();
        asked.retain(|_, state| !matches!(state, Asked::Unknown(since) if since.elapsed() >= UNKNOWN_FOR));
        match asked.get(&digest) {
            Some(Asked::Now) => Some(false),
            Some(Asked::Unknown(_)) => None,
            None if asked.len() >= MOST => None,
            None => {
                asked.insert(digest, Asked::Now);
                Some(true)
            }
        }
    }

    fn end(&self, digest: ScriptDigest, found: bool) {
        let mut asked = self.asked.lock();
        if found {
            asked.remove(&digest);
        } else {
            asked.insert(digest, Asked::Unknown(Instant::now()));
        }
    }
}

impl Server {
    /// Asks the primary for a script, on this reactor. `true`: the client is to be held back; it is let go when there is an answer.
    pub fn ask_primary_for(self: &Arc<Self>, digest: ScriptDigest) -> bool {
        let Some(primary) = self.primary_address() else { return false };
        let Some(is_first) = self.missing_scripts.begin(digest) else { return false };
        if is_first {
            let server = self.clone();
            tokio::task::spawn_local(async move {
                let asked = tokio::time::timeout(PATIENCE, ask(&server, &primary, digest)).await;
                let script = asked.ok().and_then(Result::ok).flatten();
                let found = script.is_some();
                if let Some(script) = script {
                    server.scripts.insert(Arc::new(script), Origin::Load);
                }
                server.missing_scripts.end(digest, found);
                server.let_go();
            });
        }
        true
    }
}

/// `None`: the primary does not have it, or does not say.
async fn ask(server: &Server, primary: &Address, digest: ScriptDigest) -> io::Result<Option<Script>> {
    let (user, password) = {
        let config = server.config();
        (config.primaryuser.as_bytes().to_vec(), config.primaryauth.as_bytes().to_vec())
    };
    let mut request = Vec::new();
    let mut answers = 1;
    if !password.is_empty() {
        let with_user: &[&[u8]] = &[b"AUTH", &user, &password];
        let without: &[&[u8]] = &[b"AUTH", &password];
        push_request(&mut request, if user.is_empty() { without } else { with_user });
        answers += 1;
    }
    push_request(&mut request, &[b"SCRIPT", b"SHOW", &digest.hex()]);
    let mut socket = TcpStream::connect((primary.host.as_str(), primary.port)).await?;
    socket.write_all(&request).await?;
    let mut bytes = Vec::new();
    loop {
        let mut rest = bytes.as_slice();
        let mut seen = 0;
        while let Some((reply, length)) = decode::decode(rest).map_err(io::Error::other)? {
            seen += 1;
            rest = &rest[length..];
            if seen == answers {
                return Ok(script_of(&reply).filter(|script| script.digest() == digest));
            }
        }
        if bytes.len() > LONGEST_ANSWER || socket.read_buf(&mut bytes).await? == 0 {
            return Ok(None);
        }
    }
}

fn script_of(reply: &Reply<'_>) -> Option<Script> {
    match reply {
        Reply::Bulk(body) => Script::new(*body).ok(),
        Reply::Owned(body) => Script::new(body.as_slice()).ok(),
        _ => None,
    }
}

fn push_request(to: &mut Vec<u8>, words: &[&[u8]]) {
    let words = words.iter().map(|word| Reply::Bulk(word)).collect();
    encode::encode(&Reply::Array(words), Protocol::Resp2, to);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_script_is_asked_for_once_at_a_time_and_not_again_at_once() {
        let missing = MissingScripts::default();
        let digest = ScriptDigest::of(b"return 1");
        assert_eq!(missing.begin(digest), Some(true));
        assert_eq!(missing.begin(digest), Some(false));
        missing.end(digest, false);
        assert_eq!(missing.begin(digest), None);
        missing.asked.lock().insert(digest, Asked::Unknown(Instant::now() - UNKNOWN_FOR));
        assert_eq!(missing.begin(digest), Some(true));
        missing.end(digest, true);
        assert_eq!(missing.begin(digest), Some(true));
    }

    #[test]
    fn the_number_of_questions_is_bounded() {
        let missing = MissingScripts::default();
        for number in 0..MOST as u64 {
            assert_eq!(missing.begin(ScriptDigest::of(&number.to_le_bytes())), Some(true));
        }
        assert_eq!(missing.begin(ScriptDigest::of(b"one more")), None);
    }
}
