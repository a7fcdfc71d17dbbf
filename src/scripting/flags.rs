//! What a script or function declares about itself, and the `#!` lines that declare it. Pure text: knows
//! neither the interpreter nor the caches.

use crate::protocol::ErrorReply;

/// A set of declarations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct ScriptFlags(u8);

impl ScriptFlags {
    pub const NONE: ScriptFlags = ScriptFlags(0);
    /// Does not write; may run on replicas, under memory pressure and during a pause.
    pub const NO_WRITES: ScriptFlags = ScriptFlags(1);
    /// May write although the server is over its memory limit.
    pub const ALLOW_OOM: ScriptFlags = ScriptFlags(1 << 1);
    /// May run on a replica that has lost its primary.
    pub const ALLOW_STALE: ScriptFlags = ScriptFlags(1 << 2);
    /// Refuses to run in a cluster.
    pub const NO_CLUSTER: ScriptFlags = ScriptFlags(1 << 3);
    /// May touch keys of several cluster slots.
    pub const ALLOW_CROSS_SLOT_KEYS: ScriptFlags = ScriptFlags(1 << 4);
    /// There is no `#!` line: nothing was declared, and what the script does is checked command by command.
    pub const UNDECLARED: ScriptFlags = ScriptFlags(1 << 5);

    /// The flags that can be written down, in the order in which FUNCTION LIST shows them.
    pub const NAMED: [(&'static str, ScriptFlags); 5] = [
        ("no-writes", ScriptFlags::NO_WRITES),
        ("allow-oom", ScriptFlags::ALLOW_OOM),
        ("allow-stale", ScriptFlags::ALLOW_STALE),
        ("no-cluster", ScriptFlags::NO_CLUSTER),
        ("allow-cross-slot-keys", ScriptFlags::ALLOW_CROSS_SLOT_KEYS),
    ];

    /// Whether all of `flags` are set.
    pub const fn contains(self, flags: ScriptFlags) -> bool {
        self.0 & flags.0 == flags.0
    }

    /// Both sets together.
    #[must_use]
    pub const fn with(self, flags: ScriptFlags) -> ScriptFlags {
        ScriptFlags(self.0 | flags.0)
    }

    /// The names of the set flags, in the order of FUNCTION LIST.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        Self::NAMED.iter().filter(move |(_, flag)| self.contains(*flag)).map(|(name, _)| *name)
    }
}

/// The parts of a script's body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shebang {
    pub flags: ScriptFlags,
    /// How many bytes of the body come before the code; the line end of the `#!` line belongs to the code, so
    /// that its lines are counted right.
    pub len: usize,
}

/// Reads the `#!` line of an EVAL script, if there is one.
pub fn script_shebang(body: &[u8]) -> Result<Shebang, ErrorReply> {
    if !body.starts_with(b"#!") {
        return Ok(Shebang { flags: ScriptFlags::UNDECLARED, len: 0 });
    }
    let len = memchr::memchr(b'\n', body).ok_or(ErrorReply::new("ERR Invalid script shebang"))?;
    let parts = split_arguments(&body[..len]);
    let Some((engine, options)) = parts.as_deref().and_then(<[_]>::split_first) else {
        return Err(ErrorReply::new("ERR Invalid engine in script shebang"));
    };
    let mut flags = ScriptFlags::NONE;
    for option in options {
        let Some(names) = option.strip_prefix(b"flags=") else {
            return Err(error(&["Unknown lua shebang option: "], option));
        };
        if names.is_empty() {
            continue;
        }
        for name in names.split(|&byte| byte == b',') {
            let named = ScriptFlags::NAMED.iter().find(|(known, _)| known.as_bytes() == name);
            flags = flags.with(named.ok_or_else(|| error(&["Unexpected flag in script shebang: "], name))?.1);
        }
    }
    if !engine.eq_ignore_ascii_case(b"#!lua") {
        let name = engine.strip_prefix(b"#!").unwrap_or(engine);
        return Err(error(&["Could not find scripting engine '"], &[name, b"'"].concat()));
    }
    Ok(Shebang { flags, len })
}

/// What the `#!` line of a library says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LibraryMetadata {
    pub name: String,
    /// As [`Shebang::len`].
    pub shebang_len: usize,
}

/// Reads the `#!` line of a library, and checks the engine and the form of the name.
pub fn library_metadata(code: &[u8]) -> Result<LibraryMetadata, ErrorReply> {
    if !code.starts_with(b"#!") {
        return Err(ErrorReply::new("ERR Missing library metadata"));
    }
    let shebang_len = memchr::memchr(b'\n', code).ok_or(ErrorReply::new("ERR Invalid library metadata"))?;
    let parts = split_arguments(&code[..shebang_len]);
    let Some((engine, options)) = parts.as_deref().and_then(<[_]>::split_first) else {
        return Err(ErrorReply::new("ERR Invalid library metadata"));
    };
    let mut name: Option<&[u8]> = None;
    for option in options {
        match option.get(..5) {
            Some(key) if key.eq_ignore_ascii_case(b"name=") => {
                if name.replace(&option[5..]).is_some() {
                    return Err(ErrorReply::new(
                        "ERR Invalid metadata value, name argument was given multiple times",
                    ));
                }
            }
            _ => return Err(error(&["Invalid metadata value given: "], option)),
        }
    }
    let name = name.ok_or(ErrorReply::new("ERR Library name was not given"))?;
    let name = valid_name(name).ok_or(ErrorReply::new(
        "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one \
         character long",
    ))?;
    let engine = engine.get(2..).unwrap_or_default();
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err(error(&["Engine '", "' not found"], engine));
    }
    Ok(LibraryMetadata { name: name.to_owned(), shebang_len })
}

/// The name of a library or function as text, if it has the form that these names must have.
pub fn valid_name(name: &[u8]) -> Option<&str> {
    let valid = !name.is_empty() && name.iter().all(|&byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if valid { std::str::from_utf8(name).ok() } else { None }
}

/// An `ERR` made of fixed text around one piece of input.
fn error(around: &[&str], input: &[u8]) -> ErrorReply {
    let mut text = b"ERR ".to_vec();
    for (index, fixed) in around.iter().enumerate() {
        if index == 1 {
            text.extend_from_slice(input);
        }
        text.extend_from_slice(fixed.as_bytes());
    }
    if around.len() == 1 {
        text.extend_from_slice(input);
    }
    ErrorReply::from_text(text)
}

/// Splits a line into words as the command line of the client tools does: blanks separate, double quotes
/// understand escapes (`\n`, `\x41`), single quotes only `\'`. `None` if the quotes do not match.
fn split_arguments(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let start = rest.iter().position(|byte| !byte.is_ascii_whitespace() && *byte != 0x0b);
        let Some(start) = start else { return Some(words) };
        rest = &rest[start..];
        let mut word = Vec::new();
        loop {
            match rest {
                [] => break,
                [byte, ..] if byte.is_ascii_whitespace() || *byte == 0 => break,
                [quote @ (b'"' | b'\''), inside @ ..] => {
                    rest = quoted(*quote, inside, &mut word)?;
                    // A closing quote ends the word.
                    match rest {
                        [] => {}
                        [byte, ..] if byte.is_ascii_whitespace() => {}
                        _ => return None,
                    }
                    break;
                }
                [byte, more @ ..] => {
                    word.push(*byte);
                    rest = more;
                }
            }
        }
        words.push(word);
        if rest.first() == Some(&0) {
            return Some(words);
        }
    }
}

/// Reads up to the closing quote into `word`, and returns what follows it.
fn quoted<'a>(quote: u8, mut rest: &'a [u8], word: &mut Vec<u8>) -> Option<&'a [u8]> {
    loop {
        match rest {
            [] => return None,
            [byte, more @ ..] if *byte == quote => return Some(more),
            [b'\\', b'x', high, low, more @ ..]
                if quote == b'"' && high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                let digit = |byte: u8| (byte as char).to_digit(16).unwrap_or(0) as u8;
                word.push(digit(*high) << 4 | digit(*low));
                rest = more;
            }
            [b'\\', byte, more @ ..] if quote == b'"' => {
                word.push(match byte {
                    b'n' => b'\n',
                    b'r' => b'\r',
                    b't' => b'\t',
                    b'b' => 0x08,
                    b'a' => 0x07,
                    other => *other,
                });
                rest = more;
            }
            [b'\\', b'\'', more @ ..] if quote == b'\'' => {
                word.push(b'\'');
                rest = more;
            }
            [byte, more @ ..] => {
                word.push(*byte);
                rest = more;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn script_error(body: &str) -> String {
        String::from_utf8(script_shebang(body.as_bytes()).expect_err(body).0.into_owned()).expect("text")
    }

    fn library_error(code: &str) -> String {
        String::from_utf8(library_metadata(code.as_bytes()).expect_err(code).0.into_owned()).expect("text")
    }

    #[test]
    fn scripts_declare_flags() {
        let undeclared = script_shebang(b"return 1").expect("no shebang");
        assert_eq!(undeclared, Shebang { flags: ScriptFlags::UNDECLARED, len: 0 });
        let both = script_shebang(b"#!lua flags=no-writes,allow-oom\nreturn 1").expect("flags");
        assert_eq!(both.flags, ScriptFlags::NO_WRITES.with(ScriptFlags::ALLOW_OOM));
        assert_eq!(both.len, 31);
        assert_eq!(both.flags.names().collect::<Vec<_>>(), ["no-writes", "allow-oom"]);
        assert_eq!(script_shebang(b"#!lua flags=\n").expect("empty").flags, ScriptFlags::NONE);
        assert_eq!(
            script_shebang(b"#!lua \"flags=no-\\x77rites\"\n").expect("quoted").flags,
            ScriptFlags::NO_WRITES
        );
    }

    #[test]
    fn wrong_shebangs_of_scripts() {
        assert_eq!(script_error("#!lua"), "ERR Invalid script shebang");
        assert_eq!(script_error("#!foo\nx"), "ERR Could not find scripting engine 'foo'");
        assert_eq!(script_error("#!lua x=1\nx"), "ERR Unknown lua shebang option: x=1");
        assert_eq!(script_error("#!lua flags=bad\nx"), "ERR Unexpected flag in script shebang: bad");
        assert_eq!(script_error("#!lua flags=no-writes,\nx"), "ERR Unexpected flag in script shebang: ");
        assert_eq!(script_error("#!lua \"abc\nx"), "ERR Invalid engine in script shebang");
    }

    #[test]
    fn libraries_have_names() {
        let metadata = library_metadata(b"#!LUA NAME=lib_1\ncode").expect("metadata");
        assert_eq!(metadata, LibraryMetadata { name: "lib_1".into(), shebang_len: 16 });
    }

    #[test]
    fn wrong_shebangs_of_libraries() {
        assert_eq!(library_error("x"), "ERR Missing library metadata");
        assert_eq!(library_error("#!lua name=x"), "ERR Invalid library metadata");
        assert_eq!(library_error("#!lua name=\"x\ny"), "ERR Invalid library metadata");
        assert_eq!(library_error("#!lua\nx"), "ERR Library name was not given");
        assert_eq!(
            library_error("#!lua name=a name=b\nx"),
            "ERR Invalid metadata value, name argument was given multiple times"
        );
        assert_eq!(library_error("#!lua foo=b\nx"), "ERR Invalid metadata value given: foo=b");
        assert_eq!(library_error("#!foo name=b\nx"), "ERR Engine 'foo' not found");
        assert_eq!(
            library_error("#!lua name=a-b\nx"),
            "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one \
             character long"
        );
    }
}
