//! `struct`: C-like structures to and from strings, as in Roberto Ierusalimschy's struct library as Valkey ships it.
//!
//! A format is a C string: it ends at its first NUL byte. Sizes are those of a 64-bit little-endian machine,
//! wherever this runs. All arithmetic on sizes and positions either cannot overflow or is checked against the data
//! before it is used.

use std::ffi::{CStr, c_int};

use mlua_sys::lua51::lua_State;

use super::scratch::Scratch;
use super::stack::{Message, Stack};
use super::{Pace, register, scratch};

/// Registers the global `struct`; its functions get the library state on the top of the stack as their upvalue.
pub(super) fn open(stack: Stack) {
    stack.push_copy(-1);
    register(stack, c"struct", &[(c"pack", pack), (c"unpack", unpack), (c"size", size)], 1);
    stack.pop(1);
}

const LARGEST_INTEGER_SIZE: usize = 32;
const DEFAULT_ALIGNMENT: usize = 8;
const DEFAULT_INTEGER_SIZE: usize = 4;
const TOO_SHORT: &CStr = c"data string too short";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Endian {
    Big,
    Little,
}

/// A format error.
#[derive(Clone, Copy)]
enum Invalid {
    NumberTooLarge,
    IntegerSize(usize),
    Alignment(usize),
    Option(u8),
}

impl Invalid {
    #[cold]
    fn raise(self, stack: Stack) -> ! {
        match self {
            Self::NumberTooLarge => stack.raise(format_args!("integral size overflow")),
            Self::IntegerSize(size) => stack
                .raise(format_args!("integral size {size} is larger than limit of {LARGEST_INTEGER_SIZE}")),
            Self::Alignment(alignment) => {
                stack.raise(format_args!("alignment {alignment} is not a power of 2"))
            }
            Self::Option(option) => {
                let mut message = Message::new();
                message.push(b"invalid format option '");
                message.push(&[option]);
                message.push(b"'");
                stack.argument_error(1, message.as_c_str())
            }
        }
    }
}

/// One option of a format, with its size as far as the format alone tells it (0 for `s`, `c0` and what has none).
#[derive(Clone, Copy)]
struct Item {
    option: u8,
    size: usize,
    /// Bytes of padding in front of it.
    padding: usize,
}

/// Walks over a format, keeping the byte order and alignment in force.
struct Format<'format> {
    rest: &'format [u8],
    endian: Endian,
    alignment: usize,
}

impl<'format> Format<'format> {
    fn new(text: &'format [u8]) -> Self {
        let end = memchr::memchr(0, text).unwrap_or(text.len());
        Self { rest: &text[..end], endian: Endian::Little, alignment: 1 }
    }

    /// The next option, which would start at `position`.
    fn next(&mut self, position: usize) -> Result<Option<Item>, Invalid> {
        let Some((&option, rest)) = self.rest.split_first() else { return Ok(None) };
        self.rest = rest;
        let size = self.size(option)?;
        Ok(Some(Item { option, size, padding: self.padding(option, size, position) }))
    }

    fn size(&mut self, option: u8) -> Result<usize, Invalid> {
        Ok(match option {
            b'B' | b'b' | b'x' => 1,
            b'H' | b'h' => 2,
            b'L' | b'l' | b'T' | b'd' => 8,
            b'f' => 4,
            b'c' => self.number(1)?,
            b'i' | b'I' => {
                let size = self.number(DEFAULT_INTEGER_SIZE)?;
                if size > LARGEST_INTEGER_SIZE {
                    return Err(Invalid::IntegerSize(size));
                }
                size
            }
            _ => 0,
        })
    }

    /// The decimal number that stands next in the format, `default` if there is none; at most `i32::MAX`.
    fn number(&mut self, default: usize) -> Result<usize, Invalid> {
        let digits = self.rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        if digits == 0 {
            return Ok(default);
        }
        let (number, rest) = self.rest.split_at(digits);
        self.rest = rest;
        number
            .iter()
            .try_fold(0i32, |value, digit| value.checked_mul(10)?.checked_add(i32::from(digit - b'0')))
            .and_then(|value| usize::try_from(value).ok())
            .ok_or(Invalid::NumberTooLarge)
    }

    /// Bytes to the next multiple of the size, or of the alignment if that is less. Sizes that are no power of two
    /// give what the bit masks below give: the reference does the same.
    fn padding(&self, option: u8, size: usize, position: usize) -> usize {
        if size == 0 || option == b'c' {
            return 0;
        }
        let size = size.min(self.alignment);
        size.wrapping_sub(position & (size - 1)) & (size - 1)
    }

    /// Obeys an option that stands for no data.
    fn control(&mut self, option: u8) -> Result<(), Invalid> {
        match option {
            b' ' => {}
            b'>' => self.endian = Endian::Big,
            b'<' => self.endian = Endian::Little,
            b'!' => {
                let alignment = self.number(DEFAULT_ALIGNMENT)?;
                if !alignment.is_power_of_two() {
                    return Err(Invalid::Alignment(alignment));
                }
                self.alignment = alignment;
            }
            _ => return Err(Invalid::Option(option)),
        }
        Ok(())
    }

    /// Puts the bytes of a little-endian value into the order in force, and back.
    fn order(&self, bytes: &mut [u8]) {
        if self.endian == Endian::Big {
            bytes.reverse();
        }
    }
}

/// The low 64 bits of a number, as the reference's compiler converts it on x86-64: towards zero, negative numbers
/// as signed, and a fixed value where no integer fits.
fn integer_bits(number: f64) -> u64 {
    const TWO_TO_63: f64 = 9_223_372_036_854_775_808.0;
    if number < TWO_TO_63 {
        // Saturates at the least signed integer, which is also the processor's answer below it.
        (number as i64).cast_unsigned()
    } else if number < 2.0 * TWO_TO_63 {
        number as u64
    } else if number.is_nan() {
        1 << 63
    } else {
        0
    }
}

/// A packed integer of up to 32 bytes, in little-endian order: of those above 8, the upper bytes fall away.
fn integer_value(bytes: &[u8], signed: bool) -> f64 {
    let value = bytes.iter().rev().fold(0u64, |value, &byte| value << 8 | u64::from(byte));
    if !signed {
        return value as f64;
    }
    // The shift distance is taken modulo 64, as the processor does: sizes 0 and above 8 depend on it.
    let sign_and_above = u64::MAX.wrapping_shl((bytes.len() as u32 * 8).wrapping_sub(1));
    let value = if value & sign_and_above != 0 { value | sign_and_above } else { value };
    value.cast_signed() as f64
}

/// `struct.pack(format, …)`
unsafe extern "C-unwind" fn pack(state: *mut lua_State) -> c_int {
    // SAFETY: called with the state of a running C function; only plain values are alive on its frames.
    let stack = unsafe { Stack::of(state) };
    // SAFETY: `open` made the library state upvalue 1, and its scratch is borrowed once per call.
    let scratch = unsafe { scratch(stack) };
    let mut format = Format::new(stack.check_string(1));
    // A missing argument is reported as nil, not as no value.
    stack.push_nil();
    if let Err(invalid) = pack_items(stack, scratch, &mut format) {
        invalid.raise(stack);
    }
    stack.push_bytes(scratch.bytes.as_slice());
    1
}

fn pack_items(stack: Stack, scratch: &mut Scratch, format: &mut Format<'_>) -> Result<(), Invalid> {
    let output = &mut scratch.bytes;
    output.clear();
    let mut pace = Pace::new();
    let mut argument = 2;
    while let Some(item) = format.next(output.len())? {
        pace.turn(stack);
        for _ in 0..item.padding {
            output.push(stack, 0);
        }
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let mut bytes = [0; LARGEST_INTEGER_SIZE];
                bytes[..8].copy_from_slice(&integer_bits(stack.check_number(argument)).to_le_bytes());
                format.order(&mut bytes[..item.size]);
                output.extend(stack, &bytes[..item.size]);
                argument += 1;
            }
            b'x' => output.push(stack, 0),
            b'f' => {
                let mut bytes = (stack.check_number(argument) as f32).to_le_bytes();
                format.order(&mut bytes);
                output.extend(stack, &bytes);
                argument += 1;
            }
            b'd' => {
                let mut bytes = stack.check_number(argument).to_le_bytes();
                format.order(&mut bytes);
                output.extend(stack, &bytes);
                argument += 1;
            }
            b'c' | b's' => {
                let text = stack.check_string(argument);
                argument += 1;
                let taken = if item.size == 0 { text.len() } else { item.size };
                // The reference counts on before it checks, so it names the argument behind the short one.
                stack.check_argument(taken <= text.len(), argument, c"string too short");
                output.extend(stack, &text[..taken]);
                if item.option == b's' {
                    output.push(stack, 0);
                }
            }
            option => format.control(option)?,
        }
    }
    pace.finish(stack);
    Ok(())
}

/// `struct.unpack(format, data [, position])`: the values, then the position behind them.
unsafe extern "C-unwind" fn unpack(state: *mut lua_State) -> c_int {
    // SAFETY: as in `pack`.
    let stack = unsafe { Stack::of(state) };
    let mut format = Format::new(stack.check_string(1));
    let data = stack.check_string(2);
    // A negative position is far beyond the data, as for an unsigned one.
    let position = stack.integer_or(3, 1) as usize;
    stack.check_argument(position > 0, 3, c"offset must be 1 or greater");
    match unpack_items(stack, &mut format, data, position - 1) {
        Ok(results) => results,
        Err(invalid) => invalid.raise(stack),
    }
}

fn unpack_items(
    stack: Stack,
    format: &mut Format<'_>,
    data: &[u8],
    mut position: usize,
) -> Result<c_int, Invalid> {
    let mut pace = Pace::new();
    let mut results = 0;
    while let Some(item) = format.next(position)? {
        pace.turn(stack);
        position = position.wrapping_add(item.padding);
        let rest = data.get(position..);
        let Some((field, rest)) = rest.and_then(|rest| Some((rest.get(..item.size)?, rest))) else {
            stack.argument_error(2, TOO_SHORT)
        };
        stack.need_room(2, c"too many results");
        let mut taken = item.size;
        match item.option {
            b'b' | b'B' | b'h' | b'H' | b'l' | b'L' | b'T' | b'i' | b'I' => {
                let mut bytes = [0; LARGEST_INTEGER_SIZE];
                let bytes = &mut bytes[..field.len()];
                bytes.copy_from_slice(field);
                format.order(bytes);
                stack.push_number(integer_value(bytes, item.option.is_ascii_lowercase()));
                results += 1;
            }
            b'x' => {}
            b'f' => {
                let mut bytes = [0; 4];
                bytes.copy_from_slice(field);
                format.order(&mut bytes);
                stack.push_number(f64::from(f32::from_le_bytes(bytes)));
                results += 1;
            }
            b'd' => {
                let mut bytes = [0; 8];
                bytes.copy_from_slice(field);
                format.order(&mut bytes);
                stack.push_number(f64::from_le_bytes(bytes));
                results += 1;
            }
            b'c' if item.size > 0 => {
                stack.push_bytes(field);
                results += 1;
            }
            b'c' => {
                // The length is the value read before, which this one replaces.
                if results == 0 || !stack.is_numeric(-1) {
                    stack.raise(format_args!("format 'c0' needs a previous size"));
                }
                let length = usize::try_from(integer_bits(stack.number(-1))).unwrap_or(usize::MAX);
                stack.pop(1);
                let Some(text) = rest.get(..length) else { stack.argument_error(2, TOO_SHORT) };
                stack.push_bytes(text);
                taken = length;
            }
            b's' => {
                let Some(length) = memchr::memchr(0, rest) else {
                    stack.raise(format_args!("unfinished string in data"))
                };
                stack.push_bytes(&rest[..length]);
                results += 1;
                taken = length + 1;
            }
            option => format.control(option)?,
        }
        position += taken;
    }
    pace.finish(stack);
    // Room for this one was part of that for the last item.
    stack.push_number((position.wrapping_add(1)).cast_signed() as f64);
    Ok(results + 1)
}

/// `struct.size(format)`
unsafe extern "C-unwind" fn size(state: *mut lua_State) -> c_int {
    // SAFETY: as in `pack`.
    let stack = unsafe { Stack::of(state) };
    match size_of_items(stack, &mut Format::new(stack.check_string(1))) {
        Ok(size) => {
            stack.push_number(size as f64);
            1
        }
        Err(invalid) => invalid.raise(stack),
    }
}

fn size_of_items(stack: Stack, format: &mut Format<'_>) -> Result<usize, Invalid> {
    let mut pace = Pace::new();
    let mut position: usize = 0;
    while let Some(item) = format.next(position)? {
        pace.turn(stack);
        match (item.option, item.size) {
            (b's', _) => stack.argument_error(1, c"option 's' has no fixed size"),
            (b'c', 0) => stack.argument_error(1, c"option 'c0' has no fixed size"),
            _ => {}
        }
        // Letters and digits that mean nothing are passed over here, as in the reference; pack and unpack refuse
        // them.
        if !item.option.is_ascii_alphanumeric() {
            format.control(item.option)?;
        }
        position = position.saturating_add(item.padding).saturating_add(item.size);
    }
    pace.finish(stack);
    Ok(position)
}
