//! The JSON decoder: one loop over the text that builds values on the Lua stack, with a stack of its own for the
//! containers it is in, so that no depth of nesting touches the C stack.
//!
//! The text ends at its first NUL byte, and one always stands behind it.

use std::ffi::c_int;

use super::{Settings, number};
use crate::scripting::libraries::Pace;
use crate::scripting::libraries::scratch::Scratch;
use crate::scripting::libraries::stack::Stack;

/// A container that is being read: the table lies on the Lua stack, in an object with the current key above it.
#[derive(Clone, Copy)]
pub(in crate::scripting::libraries) enum Level {
    /// The index of the element being read.
    Array(c_int),
    Object,
}

/// Why a text is no JSON. Positions count bytes from 0.
#[derive(Clone, Copy)]
pub(super) enum Failure {
    Unexpected { expected: &'static str, found: &'static str, position: usize },
    TooDeep { depth: i32, position: usize },
}

impl Failure {
    #[cold]
    pub(super) fn raise(self, stack: Stack) -> ! {
        match self {
            Self::Unexpected { expected, found, position } => stack.raise(format_args!(
                "Expected {expected} but found {found} at character {}",
                position.wrapping_add(1) as i32
            )),
            Self::TooDeep { depth, position } => stack.raise(format_args!(
                "Found too many nested data structures ({depth}) at character {}",
                position as i32
            )),
        }
    }
}

#[derive(Clone, Copy)]
enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    /// Its text is in [`Decoder::text`].
    String,
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Invalid(&'static str),
}

impl Token {
    /// What error texts call it.
    fn name(self) -> &'static str {
        match self {
            Self::ObjectBegin => "T_OBJ_BEGIN",
            Self::ObjectEnd => "T_OBJ_END",
            Self::ArrayBegin => "T_ARR_BEGIN",
            Self::ArrayEnd => "T_ARR_END",
            Self::String => "T_STRING",
            Self::Number(_) => "T_NUMBER",
            Self::Boolean(_) => "T_BOOLEAN",
            Self::Null => "T_NULL",
            Self::Colon => "T_COLON",
            Self::Comma => "T_COMMA",
            Self::End => "T_END",
            Self::Invalid(reason) => reason,
        }
    }
}

/// Where the text of the last string token is.
#[derive(Clone, Copy)]
enum Text {
    /// In the input, between these positions: it has no escapes.
    Input(usize, usize),
    /// In the scratch bytes.
    Scratch,
}

/// Reads the JSON text `input`, which ends with a NUL byte, and pushes its value.
pub(super) fn decode(
    stack: Stack,
    settings: &Settings,
    scratch: &mut Scratch,
    input: &[u8],
) -> Result<(), Failure> {
    scratch.decode_levels.clear();
    let mut decoder = Decoder {
        stack,
        settings,
        scratch,
        pace: Pace::new(),
        input,
        position: 0,
        token_position: 0,
        text: Text::Input(0, 0),
    };
    let mut token = decoder.next_token();
    loop {
        decoder.pace.turn(stack);
        match decoder.begin_value(token)? {
            Some(first) => token = first,
            None => match decoder.end_value()? {
                Some(next) => token = next,
                None => {
                    decoder.pace.finish(stack);
                    return Ok(());
                }
            },
        }
    }
}

struct Decoder<'script> {
    stack: Stack,
    settings: &'script Settings,
    scratch: &'script mut Scratch,
    pace: Pace,
    input: &'script [u8],
    position: usize,
    /// Where the last token began, or where in it the error is.
    token_position: usize,
    text: Text,
}

impl Decoder<'_> {
    fn unexpected(&self, expected: &'static str, found: Token) -> Failure {
        Failure::Unexpected { expected, found: found.name(), position: self.token_position }
    }

    /// Pushes the value that begins with `token`. Of a container that is not empty it pushes the table and, in an
    /// object, the first key, and answers the first token of the first value in it.
    fn begin_value(&mut self, token: Token) -> Result<Option<Token>, Failure> {
        match token {
            Token::String => self.push_text(),
            Token::Number(number) => self.stack.push_number(number),
            Token::Boolean(value) => self.stack.push_boolean(value),
            Token::Null => self.stack.push_null_pointer(),
            Token::ObjectBegin => {
                // For the table, a key and a value.
                self.descend(3)?;
                let token = self.next_token();
                if !matches!(token, Token::ObjectEnd) {
                    self.scratch.decode_levels.push(self.stack, Level::Object);
                    return self.key(token).map(Some);
                }
            }
            Token::ArrayBegin => {
                // For the table and a value.
                self.descend(2)?;
                let token = self.next_token();
                if !matches!(token, Token::ArrayEnd) {
                    self.scratch.decode_levels.push(self.stack, Level::Array(1));
                    return Ok(Some(token));
                }
            }
            _ => return Err(self.unexpected("value", token)),
        }
        Ok(None)
    }

    /// Puts the complete value on the top where it belongs, and so on for each container that this completes.
    /// Answers the first token of the next value, or `None` if the text is complete.
    fn end_value(&mut self) -> Result<Option<Token>, Failure> {
        loop {
            let Some(&mut level) = self.scratch.decode_levels.last_mut() else {
                return match self.next_token() {
                    Token::End => Ok(None),
                    token => Err(self.unexpected("the end", token)),
                };
            };
            match level {
                Level::Array(index) => {
                    self.stack.set_raw(-2, index);
                    match self.next_token() {
                        Token::ArrayEnd => {}
                        Token::Comma => {
                            if let Some(level) = self.scratch.decode_levels.last_mut() {
                                *level = Level::Array(index.wrapping_add(1));
                            }
                            return Ok(Some(self.next_token()));
                        }
                        token => return Err(self.unexpected("comma or array end", token)),
                    }
                }
                Level::Object => {
                    self.stack.set_raw_pair(-3);
                    match self.next_token() {
                        Token::ObjectEnd => {}
                        Token::Comma => {
                            let token = self.next_token();
                            return self.key(token).map(Some);
                        }
                        token => return Err(self.unexpected("comma or object end", token)),
                    }
                }
            }
            self.scratch.decode_levels.pop();
        }
    }

    /// Pushes the key that is `token` and goes past the colon; answers the first token of the value.
    fn key(&mut self, token: Token) -> Result<Token, Failure> {
        if !matches!(token, Token::String) {
            return Err(self.unexpected("object key string", token));
        }
        self.push_text();
        match self.next_token() {
            Token::Colon => Ok(self.next_token()),
            token => Err(self.unexpected("colon", token)),
        }
    }

    /// Pushes a table one level further down, if depth and stack allow.
    fn descend(&mut self, slots: c_int) -> Result<(), Failure> {
        let depth = i32::try_from(self.scratch.decode_levels.len() + 1).unwrap_or(i32::MAX);
        if depth > self.settings.decode_max_depth || !self.stack.has_room(slots) {
            return Err(Failure::TooDeep { depth, position: self.position });
        }
        self.stack.push_table();
        Ok(())
    }

    fn push_text(&self) {
        let text = match self.text {
            Text::Input(start, end) => self.input.get(start..end).unwrap_or_default(),
            Text::Scratch => self.scratch.bytes.as_slice(),
        };
        self.stack.push_bytes(text);
    }

    /// The byte at `position`; NUL behind the end.
    fn at(&self, position: usize) -> u8 {
        self.input.get(position).copied().unwrap_or(0)
    }

    fn rest(&self) -> &[u8] {
        self.input.get(self.position..).unwrap_or_default()
    }

    fn next_token(&mut self) -> Token {
        while matches!(self.at(self.position), b' ' | b'\t' | b'\n' | b'\r') {
            self.pace.turn(self.stack);
            self.position += 1;
        }
        self.token_position = self.position;
        let token = match self.at(self.position) {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b',' => Token::Comma,
            b':' => Token::Colon,
            b'"' => return self.string_token(),
            b'-' | b'0'..=b'9' if self.settings.decode_invalid_numbers || !self.is_invalid_number() => {
                return self.number_token();
            }
            b'-' | b'0'..=b'9' => return Token::Invalid("invalid number"),
            b'+' | b'f' | b'i' | b'I' | b'n' | b'N' | b't' => return self.word_token(),
            0 => return Token::End,
            _ => return Token::Invalid("invalid token"),
        };
        self.position += 1;
        token
    }

    fn word_token(&mut self) -> Token {
        for (word, token) in
            [("true", Token::Boolean(true)), ("false", Token::Boolean(false)), ("null", Token::Null)]
        {
            if self.rest().starts_with(word.as_bytes()) {
                self.position += word.len();
                return token;
            }
        }
        if self.settings.decode_invalid_numbers && self.is_invalid_number() {
            return self.number_token();
        }
        Token::Invalid("invalid token")
    }

    /// Whether a number begins here that strtod takes and JSON forbids. What is no number at all may pass.
    fn is_invalid_number(&self) -> bool {
        let start = self.position + usize::from(self.at(self.position) == b'-');
        let first = self.at(start);
        let second = self.at(start + 1);
        match self.at(self.position) {
            b'+' => true,
            _ if first == b'0' => second | 0x20 == b'x' || second.is_ascii_digit(),
            _ => self
                .input
                .get(start..start + 3)
                .is_some_and(|word| word.eq_ignore_ascii_case(b"inf") || word.eq_ignore_ascii_case(b"nan")),
        }
    }

    fn number_token(&mut self) -> Token {
        let (number, length) = number::parse(self.rest());
        if length == 0 {
            return Token::Invalid("invalid number");
        }
        self.position += length;
        Token::Number(number)
    }

    /// Reads a string, whose opening quote is next. An error's position is that of the offending byte.
    fn string_token(&mut self) -> Token {
        self.position += 1;
        let start = self.position;
        self.skip_plain();
        if self.at(self.position) == b'"' {
            self.text = Text::Input(start, self.position);
            self.position += 1;
            return Token::String;
        }
        self.scratch.bytes.clear();
        self.keep_input(start);
        loop {
            match self.at(self.position) {
                b'"' => break,
                b'\\' => {
                    if let Err(reason) = self.escape() {
                        self.token_position = self.position;
                        return Token::Invalid(reason);
                    }
                }
                0 => {
                    self.token_position = self.position;
                    return Token::Invalid("unexpected end of string");
                }
                _ => {
                    let start = self.position;
                    self.skip_plain();
                    self.keep_input(start);
                }
            }
        }
        self.position += 1;
        self.text = Text::Scratch;
        Token::String
    }

    /// Goes to the next quote, backslash or NUL.
    fn skip_plain(&mut self) {
        loop {
            let chunk = self.rest();
            let chunk = &chunk[..chunk.len().min(Pace::CHUNK_BYTES)];
            let plain = chunk.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0));
            let passed = plain.unwrap_or(chunk.len());
            self.pace.bytes(self.stack, passed);
            self.position += passed;
            if plain.is_some() || passed == 0 {
                return;
            }
        }
    }

    /// Appends the input from `start` to here to the text being built.
    fn keep_input(&mut self, start: usize) {
        let plain = self.input.get(start..self.position).unwrap_or_default();
        self.scratch.bytes.extend(self.stack, plain);
    }

    /// Undoes the escape that begins here.
    fn escape(&mut self) -> Result<(), &'static str> {
        self.pace.turn(self.stack);
        let byte = match self.at(self.position + 1) {
            byte @ (b'"' | b'\\' | b'/') => byte,
            b'b' => 0x08,
            b't' => b'\t',
            b'n' => b'\n',
            b'f' => 0x0c,
            b'r' => b'\r',
            b'u' => return self.unicode_escape().ok_or("invalid unicode escape code"),
            _ => return Err("invalid escape code"),
        };
        self.scratch.bytes.push(self.stack, byte);
        self.position += 2;
        Ok(())
    }

    /// Undoes a `\uXXXX`, or two of them that are a surrogate pair.
    fn unicode_escape(&mut self) -> Option<()> {
        let unit = self.code_unit(self.position)?;
        let (code, length) = match unit {
            0xd800..=0xdbff => {
                let low = self.code_unit(self.position + 6).filter(|low| low & 0xfc00 == 0xdc00)?;
                ((((unit & 0x3ff) << 10) | (low & 0x3ff)) + 0x1_0000, 12)
            }
            _ => (unit, 6),
        };
        // Fails for a low surrogate that comes first.
        let character = char::from_u32(code)?;
        self.scratch.bytes.extend(self.stack, character.encode_utf8(&mut [0; 4]).as_bytes());
        self.position += length;
        Some(())
    }

    /// The code unit of the `\uXXXX` at `position`.
    fn code_unit(&self, position: usize) -> Option<u32> {
        let digits = self.input.get(position..position + 6)?.strip_prefix(b"\\u")?;
        digits.iter().try_fold(0, |unit, &digit| Some(unit << 4 | char::from(digit).to_digit(16)?))
    }
}
