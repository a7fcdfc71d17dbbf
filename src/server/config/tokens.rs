//! Lines of the configuration file to words, and words to quoted text. Knows no directives.
//!
//! Invariant: `split(quote(x)) == [x]` for any bytes.

/// A quote that is not closed, or closed and then not followed by a blank.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnbalancedQuotes;

/// Blanks between words, as C's `isspace` sees them.
fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\n' | b'\r' | 0x0b | 0x0c)
}

/// Splits a line into words. Inside double quotes `\n \r \t \b \a \xHH` are escapes and a backslash takes
/// any other byte literally; inside single quotes only `\'` is one.
///
/// # Errors
/// [`UnbalancedQuotes`].
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, UnbalancedQuotes> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        while let [byte, tail @ ..] = rest
            && is_blank(*byte)
        {
            rest = tail;
        }
        if rest.is_empty() {
            return Ok(words);
        }
        let mut word = Vec::new();
        rest = take_word(rest, &mut word)?;
        words.push(word);
    }
}

/// Takes one word that may mix plain and quoted parts, though a closing quote ends it.
fn take_word<'a>(mut rest: &'a [u8], word: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    while let [byte, tail @ ..] = rest {
        match byte {
            b' ' | b'\n' | b'\r' | b'\t' => return Ok(rest),
            b'"' | b'\'' => {
                rest = take_quoted(tail, *byte, word)?;
                return match rest.first() {
                    Some(next) if !is_blank(*next) => Err(UnbalancedQuotes),
                    _ => Ok(rest),
                };
            }
            _ => word.push(*byte),
        }
        rest = tail;
    }
    Ok(rest)
}

/// Takes what stands up to the closing quote, and that quote.
fn take_quoted<'a>(mut rest: &'a [u8], quote: u8, word: &mut Vec<u8>) -> Result<&'a [u8], UnbalancedQuotes> {
    loop {
        rest = match (quote, rest) {
            (_, []) => return Err(UnbalancedQuotes),
            (b'"', [b'\\', b'x', high, low, tail @ ..])
                if let (Some(high), Some(low)) = (hex(*high), hex(*low)) =>
            {
                word.push(high * 16 + low);
                tail
            }
            (b'"', [b'\\', escaped, tail @ ..]) => {
                word.push(match escaped {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                tail
            }
            (b'\'', [b'\\', b'\'', tail @ ..]) => {
                word.push(b'\'');
                tail
            }
            (_, [byte, tail @ ..]) if *byte == quote => return Ok(tail),
            (_, [byte, tail @ ..]) => {
                word.push(*byte);
                tail
            }
        };
    }
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// The bytes in double quotes, with escapes for all that is not printable ASCII.
pub fn quote(bytes: &[u8]) -> Vec<u8> {
    let mut quoted = Vec::with_capacity(bytes.len() + 2);
    quoted.push(b'"');
    for &byte in bytes {
        match byte {
            b'\\' | b'"' => quoted.extend([b'\\', byte]),
            b'\n' => quoted.extend(b"\\n"),
            b'\r' => quoted.extend(b"\\r"),
            b'\t' => quoted.extend(b"\\t"),
            0x07 => quoted.extend(b"\\a"),
            0x08 => quoted.extend(b"\\b"),
            b' '..=b'~' => quoted.push(byte),
            _ => quoted.extend(format!("\\x{byte:02x}").into_bytes()),
        }
    }
    quoted.push(b'"');
    quoted
}
