//! When two replies count as the same.

use crate::common::client::Reply;

/// Commands whose elements come in an order that Valkey leaves open.
const UNORDERED: &[&str] = &[
    "smembers",
    "sinter",
    "sunion",
    "sdiff",
    "hgetall",
    "hkeys",
    "hvals",
    "keys",
    "scan",
    "spop",
    "srandmember",
    "hrandfield",
    "zrandmember",
    "sscan",
    "hscan",
    "zscan",
];

/// Commands whose integers come from clocks that were read at different moments.
const TIMES: &[&str] =
    &["ttl", "pttl", "expiretime", "pexpiretime", "httl", "hpttl", "hexpiretime", "hpexpiretime"];

/// Commands that tell how long ago something was, or when.
const AGES: &[&str] = &["xpending", "xinfo"];

/// The most by which such integers may differ, in whichever unit: above what a slow machine takes from one server to the
/// other.
const CLOCKS_APART: i64 = 5_000;

/// Compares the replies to one call, and keeps track of the transaction that it may belong to.
pub fn same(queued: &mut Option<Vec<String>>, call: &[Vec<u8>], ours: &Reply, theirs: &Reply) -> bool {
    // A script is compared as the command that it calls, and begins or ends no transaction.
    let in_script = call[0].starts_with(b"EVAL");
    let name = String::from_utf8_lossy(&call[if in_script { 3 } else { 0 }]).to_lowercase();
    let is_queued = *theirs == Reply::Line(b"+QUEUED".to_vec());
    match (name.as_str(), queued.as_mut()) {
        (_, Some(names)) if is_queued => {
            names.push(name);
            ours == theirs
        }
        _ if in_script => same_reply(&name, ours, theirs),
        ("exec", Some(names)) => {
            let names = std::mem::take(names);
            *queued = None;
            if let (Reply::Array(ours), Reply::Array(theirs)) = (ours, theirs) {
                return ours.len() == theirs.len()
                    && names
                        .iter()
                        .zip(ours.iter().zip(theirs))
                        .all(|(name, (one, other))| same_reply(name, one, other));
            }
            ours == theirs
        }
        ("discard", Some(_)) => {
            *queued = None;
            ours == theirs
        }
        ("multi", None) => {
            if !theirs.is_error() {
                *queued = Some(Vec::new());
            }
            ours == theirs
        }
        _ => same_reply(&name, ours, theirs),
    }
}

fn same_reply(name: &str, ours: &Reply, theirs: &Reply) -> bool {
    if ours == theirs {
        return true;
    }
    if UNORDERED.contains(&name) {
        return ours.clone().sorted() == theirs.clone().sorted();
    }
    AGES.contains(&name) && same_but_ages(ours, theirs)
        || TIMES.contains(&name) && close(ours, theirs)
        || name == "object" && same_encoding(b"", ours, theirs)
}

/// Compares what OBJECT ENCODING says of a key.
pub fn same_encoding(key: &[u8], ours: &Reply, theirs: &Reply) -> bool {
    let are =
        |one: &str, other: &str| *ours == Reply::Bulk(one.into()) && *theirs == Reply::Bulk(other.into());
    // Ours keeps a number as one also if INCRBYFLOAT wrote it, and a sorted set as it was when it is sorted by SORT.
    ours == theirs || are("int", "embstr") || key.starts_with(b"y") && are("listpack", "skiplist")
}

/// Compares replies that hold ages, each behind its name or third of four, and moments of this century.
fn same_but_ages(ours: &Reply, theirs: &Reply) -> bool {
    let apart = |one: &Reply, other: &Reply, is_age: bool| match (one, other) {
        (Reply::Line(a), Reply::Line(b)) if a.starts_with(b":") && b.starts_with(b":") => {
            let (a, b) = (one.integer(), other.integer());
            a == b || (is_age || a.min(b) > 1_000_000_000_000) && a.abs_diff(b) < CLOCKS_APART as u64
        }
        _ => same_but_ages(one, other),
    };
    let names_age = |name: &Reply| ["idle", "inactive"].iter().any(|age| *name == Reply::Bulk((*age).into()));
    match (ours, theirs) {
        (Reply::Array(ours), Reply::Array(theirs)) => {
            let is_age = |index: usize| {
                index == 2 && ours.len() == 4 || index > 0 && ours.get(index - 1).is_some_and(names_age)
            };
            ours.len() == theirs.len()
                && (0..ours.len()).all(|index| apart(&ours[index], &theirs[index], is_age(index)))
        }
        (Reply::Map(ours), Reply::Map(theirs)) => {
            ours.len() == theirs.len()
                && ours
                    .iter()
                    .zip(theirs)
                    .all(|(one, other)| one.0 == other.0 && apart(&one.1, &other.1, names_age(&one.0)))
        }
        _ => ours == theirs,
    }
}

fn close(ours: &Reply, theirs: &Reply) -> bool {
    match (ours, theirs) {
        (Reply::Array(ours), Reply::Array(theirs)) => {
            ours.len() == theirs.len() && ours.iter().zip(theirs).all(|(one, other)| close(one, other))
        }
        (Reply::Line(one), Reply::Line(other)) if one.starts_with(b":") && other.starts_with(b":") => {
            let (one, other) = (ours.integer(), theirs.integer());
            one == other || one > 0 && other > 0 && one.abs_diff(other) < CLOCKS_APART as u64
        }
        _ => ours == theirs,
    }
}
