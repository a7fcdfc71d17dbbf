//! The JSON encoder: one loop over the value on the top of the Lua stack, with a stack of its own for the tables it
//! is in, so that no depth of nesting touches the C stack.

use std::ffi::c_int;

use super::{InvalidNumbers, Settings, number};
use crate::scripting::libraries::scratch::Scratch;
use crate::scripting::libraries::stack::{Kind, Stack};
use crate::scripting::libraries::{Pace, truncate_to_i32};

/// A table that is being written.
#[derive(Clone, Copy)]
pub(in crate::scripting::libraries) enum Level {
    /// `written` of `length` elements are out.
    Array {
        written: i32,
        length: i32,
    },
    Object {
        empty: bool,
    },
}

/// Why a value has no JSON.
#[derive(Clone, Copy)]
pub(super) enum Failure {
    /// The reason, and where on the stack the culprit lies.
    Value(&'static str, c_int),
    TooDeep(i32),
}

impl Failure {
    #[cold]
    pub(super) fn raise(self, stack: Stack) -> ! {
        match self {
            Self::Value(reason, index) => {
                stack.raise(format_args!("Cannot serialise {}: {reason}", stack.type_name(index)))
            }
            Self::TooDeep(depth) => {
                stack.raise(format_args!("Cannot serialise, excessive nesting ({depth})"))
            }
        }
    }
}

/// Writes the value on the top of the stack into `scratch.bytes`. Leaves the stack as it stands at the end.
pub(super) fn encode(stack: Stack, settings: &Settings, scratch: &mut Scratch) -> Result<(), Failure> {
    scratch.bytes.clear();
    scratch.encode_levels.clear();
    let mut encoder = Encoder { stack, settings, scratch, pace: Pace::new() };
    loop {
        encoder.pace.turn(stack);
        encoder.begin_value()?;
        if !encoder.advance()? {
            encoder.pace.finish(stack);
            return Ok(());
        }
    }
}

struct Encoder<'script> {
    stack: Stack,
    settings: &'script Settings,
    scratch: &'script mut Scratch,
    pace: Pace,
}

impl Encoder<'_> {
    fn byte(&mut self, byte: u8) {
        self.scratch.bytes.push(self.stack, byte);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.scratch.bytes.extend(self.stack, bytes);
    }

    /// Writes the value on the top and takes it off; of a table only the opening, and it stays as a level.
    fn begin_value(&mut self) -> Result<(), Failure> {
        match self.stack.kind(-1) {
            Kind::String => self.string(-1),
            Kind::Number => self.number(-1)?,
            Kind::Boolean if self.stack.boolean(-1) => self.bytes(b"true"),
            Kind::Boolean => self.bytes(b"false"),
            Kind::Nil => self.bytes(b"null"),
            Kind::LightUserdata if self.stack.is_null_pointer(-1) => self.bytes(b"null"),
            Kind::Table => return self.begin_table(),
            Kind::LightUserdata | Kind::Other => return Err(Failure::Value("type not supported", -1)),
        }
        self.stack.pop(1);
        Ok(())
    }

    fn begin_table(&mut self) -> Result<(), Failure> {
        let depth = i32::try_from(self.scratch.encode_levels.len() + 1).unwrap_or(i32::MAX);
        // Room for a key, a value, and the text of an error.
        if depth > self.settings.encode_max_depth || !self.stack.has_room(3) {
            return Err(Failure::TooDeep(depth));
        }
        let level = match self.array_length()? {
            Some(length) if length > 0 => {
                self.byte(b'[');
                Level::Array { written: 0, length }
            }
            _ => {
                self.byte(b'{');
                self.stack.push_nil();
                Level::Object { empty: true }
            }
        };
        self.scratch.encode_levels.push(self.stack, level);
        Ok(())
    }

    /// Goes on to the next value of the innermost table, closing those that are complete; false at the very end.
    fn advance(&mut self) -> Result<bool, Failure> {
        let stack = self.stack;
        while let Some(level) = self.scratch.encode_levels.last_mut() {
            match level {
                Level::Array { written, length } if *written < *length => {
                    let first = *written == 0;
                    *written += 1;
                    stack.get_raw(-1, *written);
                    if !first {
                        self.byte(b',');
                    }
                    return Ok(true);
                }
                Level::Array { .. } => self.byte(b']'),
                Level::Object { empty } => {
                    let first = std::mem::replace(empty, false);
                    if stack.next_pair(-2) {
                        if !first {
                            self.byte(b',');
                        }
                        self.key()?;
                        return Ok(true);
                    }
                    self.byte(b'}');
                }
            }
            self.scratch.encode_levels.pop();
            stack.pop(1);
        }
        Ok(false)
    }

    /// Writes the key below the top.
    fn key(&mut self) -> Result<(), Failure> {
        match self.stack.kind(-2) {
            Kind::String => self.string(-2),
            Kind::Number => {
                self.byte(b'"');
                self.number(-2)?;
                self.byte(b'"');
            }
            _ => return Err(Failure::Value("table key must be a number or string", -2)),
        }
        self.byte(b':');
        Ok(())
    }

    /// The largest index, if all keys of the table on the top are positive integers and it is not too sparse;
    /// `None` for an object.
    fn array_length(&mut self) -> Result<Option<i32>, Failure> {
        let stack = self.stack;
        let (mut largest, mut elements) = (0i32, 0i32);
        stack.push_nil();
        while stack.next_pair(-2) {
            self.pace.turn(stack);
            let key = if stack.kind(-2) == Kind::Number { stack.number(-2) } else { 0.0 };
            if !(key >= 1.0 && key.floor() == key) {
                stack.pop(2);
                return Ok(None);
            }
            if key > f64::from(largest) {
                largest = truncate_to_i32(key);
            }
            elements = elements.wrapping_add(1);
            stack.pop(1);
        }
        let settings = self.settings;
        if settings.sparse_ratio > 0
            && largest > elements.wrapping_mul(settings.sparse_ratio)
            && largest > settings.sparse_safe
        {
            if !settings.sparse_convert {
                return Err(Failure::Value("excessively sparse array", -1));
            }
            return Ok(None);
        }
        Ok(Some(largest))
    }

    fn number(&mut self, index: c_int) -> Result<(), Failure> {
        let value = self.stack.number(index);
        if !value.is_finite() {
            match self.settings.encode_invalid_numbers {
                InvalidNumbers::Refused => return Err(Failure::Value("must not be NaN or Inf", index)),
                InvalidNumbers::Null => self.bytes(b"null"),
                InvalidNumbers::Written if value.is_nan() => self.bytes(b"nan"),
                InvalidNumbers::Written if value > 0.0 => self.bytes(b"inf"),
                InvalidNumbers::Written => self.bytes(b"-inf"),
            }
            return Ok(());
        }
        let mut text = [0; number::TEXT_SIZE];
        let length = number::format(value, self.settings.number_precision, &mut text);
        self.bytes(&text[..length]);
        Ok(())
    }

    fn string(&mut self, index: c_int) {
        let text = self.stack.string(index);
        self.byte(b'"');
        for chunk in text.chunks(Pace::CHUNK_BYTES) {
            self.pace.bytes(self.stack, chunk.len());
            self.escaped(chunk);
        }
        self.byte(b'"');
    }

    fn escaped(&mut self, mut text: &[u8]) {
        while let Some(plain) = text.iter().position(|&byte| ESCAPES[usize::from(byte)] != PLAIN) {
            let byte = text[plain];
            self.bytes(&text[..plain]);
            match ESCAPES[usize::from(byte)] {
                BY_CODE => {
                    const DIGITS: &[u8; 16] = b"0123456789abcdef";
                    let (high, low) = (DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]);
                    self.bytes(&[b'\\', b'u', b'0', b'0', high, low]);
                }
                letter => self.bytes(&[b'\\', letter]),
            }
            text = &text[plain + 1..];
        }
        self.bytes(text);
    }
}

const PLAIN: u8 = 0;
const BY_CODE: u8 = b'u';

/// For each byte, the letter behind the backslash, [`BY_CODE`] for `\u00xx`, or [`PLAIN`]. The slash is escaped too.
const ESCAPES: [u8; 256] = {
    let mut escapes = [PLAIN; 256];
    let mut control = 0;
    while control < 0x20 {
        escapes[control] = BY_CODE;
        control += 1;
    }
    escapes[0x7f] = BY_CODE;
    escapes[0x08] = b'b';
    escapes[b'\t' as usize] = b't';
    escapes[b'\n' as usize] = b'n';
    escapes[0x0c] = b'f';
    escapes[b'\r' as usize] = b'r';
    escapes[b'"' as usize] = b'"';
    escapes[b'/' as usize] = b'/';
    escapes[b'\\' as usize] = b'\\';
    escapes
};
