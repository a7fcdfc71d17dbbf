//! Glob patterns as KEYS, SCAN MATCH, PSUBSCRIBE, CONFIG GET and ACL rules use them: `*`, `?`, `[a-z]`,
//! `[^a]`, `\x`.
//!
//! Byte strings, no locale. The work is bounded by pattern length times text length, whatever the number
//! of stars: only the last star seen is ever tried again, for a longer match of an earlier one could not
//! help where the later one failed.

/// Whether letters of different case are the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Case {
    Sensitive,
    Insensitive,
}

/// Whether the whole of `text` matches `pattern`.
///
/// Two edges follow Valkey: an empty text matches an empty pattern only, not `*`; and a set compares its
/// ranges as signed bytes.
pub fn matches(pattern: &[u8], text: &[u8], case: Case) -> bool {
    if text.is_empty() {
        return pattern.is_empty();
    }
    let mut pattern_at = 0;
    let mut text_at = 0;
    // Where to go on after the last star, and the text position it was last tried from.
    let mut star: Option<(usize, usize)> = None;
    while text_at < text.len() {
        if pattern.get(pattern_at) == Some(&b'*') {
            while pattern.get(pattern_at) == Some(&b'*') {
                pattern_at += 1;
            }
            if pattern_at == pattern.len() {
                return true;
            }
            star = Some((pattern_at, text_at));
            continue;
        }
        if let Some(next) = match_one(pattern, pattern_at, text[text_at], case) {
            pattern_at = next;
            text_at += 1;
            continue;
        }
        let Some((after_star, tried)) = star else {
            return false;
        };
        star = Some((after_star, tried + 1));
        pattern_at = after_star;
        text_at = tried + 1;
    }
    pattern[pattern_at..].iter().all(|&b| b == b'*')
}

/// Matches one byte against the element of the pattern at `at`, which is no star: the position of the
/// next element, or `None`.
fn match_one(pattern: &[u8], at: usize, byte: u8, case: Case) -> Option<usize> {
    match *pattern.get(at)? {
        b'?' => Some(at + 1),
        b'[' => match_set(pattern, at + 1, byte, case),
        b'\\' if at + 1 < pattern.len() => equal(pattern[at + 1], byte, case).then_some(at + 2),
        literal => equal(literal, byte, case).then_some(at + 1),
    }
}

/// Matches one byte against the set whose inside begins at `at`. A set that is never closed ends with
/// the pattern.
fn match_set(pattern: &[u8], mut at: usize, byte: u8, case: Case) -> Option<usize> {
    let negated = pattern.get(at) == Some(&b'^');
    if negated {
        at += 1;
    }
    let mut found = false;
    loop {
        match pattern[at.min(pattern.len())..] {
            [] => break,
            [b'\\', escaped, ..] => {
                found |= escaped == byte;
                at += 2;
            }
            [b']', ..] => {
                at += 1;
                break;
            }
            [start, b'-', end, ..] => {
                found |= in_range(start, end, byte, case);
                at += 3;
            }
            [literal, ..] => {
                found |= equal(literal, byte, case);
                at += 1;
            }
        }
    }
    (found != negated).then_some(at)
}

fn in_range(start: u8, end: u8, byte: u8, case: Case) -> bool {
    let (mut start, mut end, mut byte) = (start, end, byte);
    if start as i8 > end as i8 {
        (start, end) = (end, start);
    }
    if case == Case::Insensitive {
        (start, end, byte) =
            (start.to_ascii_lowercase(), end.to_ascii_lowercase(), byte.to_ascii_lowercase());
    }
    (start as i8..=end as i8).contains(&(byte as i8))
}

fn equal(a: u8, b: u8, case: Case) -> bool {
    match case {
        Case::Sensitive => a == b,
        Case::Insensitive => a.eq_ignore_ascii_case(&b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn sensitive(pattern: &str, text: &str) -> bool {
        matches(pattern.as_bytes(), text.as_bytes(), Case::Sensitive)
    }

    #[test]
    fn elements() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", false),
            ("", "a", false),
            ("*", "a", true),
            ("a*", "a", true),
            ("a**", "a", true),
            ("*a", "ba", true),
            ("a*b*c", "aXbYc", true),
            ("a*b*c", "aXbY", false),
            ("h?llo", "hello", true),
            ("h?llo", "hllo", false),
            ("h[ae]llo", "hallo", true),
            ("h[ae]llo", "hillo", false),
            ("h[^e]llo", "hello", false),
            ("h[^e]llo", "hallo", true),
            ("h[a-b]llo", "hbllo", true),
            ("h[b-a]llo", "hallo", true),
            ("[a-]", "a", true),
            ("[a-]", "-", false),
            ("[a-]x", "]", true),
            ("[abc", "b", true),
            ("[^abc", "d", true),
            ("[", "a", false),
            ("[]", "a", false),
            ("[^]", "a", true),
            (r"[\]]", "]", true),
            (r"[\-x]", "-", true),
            (r"\*", "*", true),
            (r"\*", "a", false),
            (r"\", r"\", true),
            (r"a\", r"a\", true),
            (r"\\", r"\", true),
            ("?", "ab", false),
            ("a[b]*", "ab", true),
        ] {
            assert_eq!(sensitive(pattern, text), expected, "{pattern:?} {text:?}");
        }
    }

    #[test]
    fn case() {
        let insensitive =
            |pattern: &str, text: &str| matches(pattern.as_bytes(), text.as_bytes(), Case::Insensitive);
        assert!(insensitive("FOO*", "foobar"));
        assert!(insensitive("[A-C]x", "bX"));
        assert!(insensitive(r"\A", "a"));
        assert!(!insensitive(r"[\A]", "a"));
        assert!(!sensitive("FOO*", "foobar"));
    }

    #[test]
    fn signed_ranges() {
        // 0x01-0xff is -1 to 1 in signed bytes.
        assert!(!matches(b"[\x01-\xff]", b"a", Case::Sensitive));
        assert!(matches(b"[\x01-\xff]", b"\0", Case::Sensitive));
        assert!(matches(b"[\x80-\xff]", b"\x90", Case::Sensitive));
    }

    #[test]
    fn abusive_patterns_end() {
        let pattern = "a*".repeat(5_000) + "b";
        assert!(!sensitive(&pattern, &"a".repeat(10_000)));
        assert!(!sensitive(&("*a".repeat(5_000) + "*b"), &"a".repeat(10_000)));
    }

    /// The plain recursive meaning of stars and question marks.
    fn model(pattern: &[u8], text: &[u8]) -> bool {
        match (pattern, text) {
            ([], []) => true,
            ([b'*', rest @ ..], _) => (0..=text.len()).any(|skip| model(rest, &text[skip..])),
            ([b'?', rest @ ..], [_, tail @ ..]) => model(rest, tail),
            ([p, rest @ ..], [t, tail @ ..]) => p == t && model(rest, tail),
            _ => false,
        }
    }

    proptest! {
        #[test]
        fn like_the_model(pattern in "[ab*?]{0,10}", text in "[ab]{1,12}") {
            prop_assert_eq!(sensitive(&pattern, &text), model(pattern.as_bytes(), text.as_bytes()));
        }

        #[test]
        fn any_bytes_end(pattern: Vec<u8>, text: Vec<u8>) {
            matches(&pattern, &text, Case::Sensitive);
            matches(&pattern, &text, Case::Insensitive);
        }

        #[test]
        fn escaped_text_matches_itself(text in prop::collection::vec(any::<u8>(), 1..20)) {
            let pattern: Vec<u8> = text.iter().flat_map(|&b| [b'\\', b]).collect();
            prop_assert!(matches(&pattern, &text, Case::Sensitive));
        }
    }
}
