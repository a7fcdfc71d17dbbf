//! `cmsgpack`: MessagePack, as lua-cmsgpack 0.4.0 writes and reads it.
//!
//! Only the old types are known (no bin, no ext). Numbers without a fraction become integers, others the smaller of
//! float and double that holds them. Tables nested deeper than [`MAXIMUM_NESTING`] become nil, which also ends
//! circular references. Reading trusts no size that the input claims: it asks for memory value by value.

use std::ffi::c_int;

use mlua_sys::lua51::lua_State;

use super::scratch::Scratch;
use super::stack::{Kind, Stack};
use super::{Pace, register, scratch, truncate_to_i32, truncate_to_i64};

const MAXIMUM_NESTING: u32 = 16;

/// Registers the global `cmsgpack`; its functions get the library state on the top of the stack as their upvalue.
pub(super) fn open(stack: Stack) {
    stack.push_copy(-1);
    register(
        stack,
        c"cmsgpack",
        &[(c"pack", pack), (c"unpack", unpack), (c"unpack_one", unpack_one), (c"unpack_limit", unpack_limit)],
        1,
    );
    for (name, text) in [
        (c"_NAME", "cmsgpack"),
        (c"_VERSION", "lua-cmsgpack 0.4.0"),
        (c"_COPYRIGHT", "Copyright (C) 2012, Redis Ltd."),
        (c"_DESCRIPTION", "MessagePack C implementation for Lua"),
    ] {
        stack.push_bytes(text.as_bytes());
        stack.set_field(-2, name);
    }
    stack.pop(1);
}

// Packing

/// `cmsgpack.pack(…)`: the values one behind the other.
unsafe extern "C-unwind" fn pack(state: *mut lua_State) -> c_int {
    // SAFETY: called with the state of a running C function; only plain values are alive on its frames.
    let stack = unsafe { Stack::of(state) };
    // SAFETY: `open` made the library state upvalue 1, and its scratch is borrowed once per call.
    let scratch = unsafe { scratch(stack) };
    let arguments = stack.top();
    if arguments == 0 {
        stack.argument_error(0, c"MessagePack pack needs input.");
    }
    if !stack.has_room(arguments) {
        stack.argument_error(0, c"Too many arguments for MessagePack pack.");
    }
    scratch.bytes.clear();
    let mut packer = Packer { stack, scratch, pace: Pace::new() };
    for argument in 1..=arguments {
        stack.need_room(1, c"in function mp_check");
        stack.push_copy(argument);
        packer.value(0);
        stack.pop(1);
    }
    packer.pace.finish(stack);
    stack.push_bytes(packer.scratch.bytes.as_slice());
    1
}

struct Packer<'script> {
    stack: Stack,
    scratch: &'script mut Scratch,
    pace: Pace,
}

impl Packer<'_> {
    /// Packs the value on the top, inside of `nesting` tables.
    fn value(&mut self, nesting: u32) {
        self.pace.turn(self.stack);
        match self.stack.kind(-1) {
            Kind::String => self.string(),
            Kind::Boolean => self.byte(if self.stack.boolean(-1) { 0xc3 } else { 0xc2 }),
            Kind::Number => self.number(self.stack.number(-1)),
            Kind::Table if nesting < MAXIMUM_NESTING => match self.array_length() {
                Some(length) => self.array(length, nesting),
                None => self.map(nesting),
            },
            _ => self.byte(0xc0),
        }
    }

    fn byte(&mut self, byte: u8) {
        self.scratch.bytes.push(self.stack, byte);
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.scratch.bytes.extend(self.stack, bytes);
    }

    /// A type byte and the big-endian value behind it.
    fn tagged<const SIZE: usize>(&mut self, tag: u8, value: [u8; SIZE]) {
        self.byte(tag);
        self.bytes(&value);
    }

    fn string(&mut self) {
        let text = self.stack.string(-1);
        match text.len() {
            length @ 0..32 => self.byte(0xa0 | length as u8),
            length @ 32..=0xff => self.tagged(0xd9, [length as u8]),
            length @ 0x100..=0xffff => self.tagged(0xda, (length as u16).to_be_bytes()),
            length => match u32::try_from(length) {
                Ok(length) => self.tagged(0xdb, length.to_be_bytes()),
                Err(_) => self.stack.raise(format_args!("String too long for MessagePack.")),
            },
        }
        self.bytes(text);
    }

    fn number(&mut self, number: f64) {
        let integer = truncate_to_i64(number);
        if integer as f64 == number {
            self.integer(integer);
        } else if f64::from(number as f32) == number {
            self.tagged(0xca, (number as f32).to_be_bytes());
        } else {
            self.tagged(0xcb, number.to_be_bytes());
        }
    }

    /// The shortest form that holds the integer.
    fn integer(&mut self, integer: i64) {
        match integer {
            -32..=127 => self.byte(integer as u8),
            128..=0xff => self.tagged(0xcc, [integer as u8]),
            0x100..=0xffff => self.tagged(0xcd, (integer as u16).to_be_bytes()),
            0x1_0000..=0xffff_ffff => self.tagged(0xce, (integer as u32).to_be_bytes()),
            0x1_0000_0000.. => self.tagged(0xcf, integer.to_be_bytes()),
            -0x80..-32 => self.tagged(0xd0, (integer as i8).to_be_bytes()),
            -0x8000..-0x80 => self.tagged(0xd1, (integer as i16).to_be_bytes()),
            -0x8000_0000..-0x8000 => self.tagged(0xd2, (integer as i32).to_be_bytes()),
            ..-0x8000_0000 => self.tagged(0xd3, integer.to_be_bytes()),
        }
    }

    /// The head of an array or a map: `few` for up to 15 elements, `some` for up to 65,535, else `many`.
    fn head(&mut self, few: u8, some: u8, many: u8, elements: u32) {
        match elements {
            0..=15 => self.byte(few | elements as u8),
            16..=0xffff => self.tagged(some, (elements as u16).to_be_bytes()),
            0x1_0000.. => self.tagged(many, elements.to_be_bytes()),
        }
    }

    /// The number of elements if the keys of the table on the top are exactly 1 to their count: an array, which an
    /// empty table is too.
    fn array_length(&mut self) -> Option<c_int> {
        let stack = self.stack;
        let top = stack.top();
        let (mut count, mut largest) = (0, 0);
        stack.need_room(2, c"in function table_is_an_array");
        stack.push_nil();
        while stack.next_pair(-2) {
            self.pace.turn(stack);
            stack.pop(1);
            let key = if stack.kind(-1) == Kind::Number { stack.number(-1) } else { 0.0 };
            let index = truncate_to_i32(key);
            if key <= 0.0 || f64::from(index) != key {
                stack.set_top(top);
                return None;
            }
            largest = index.max(largest);
            count += 1;
        }
        (largest == count).then_some(count)
    }

    fn array(&mut self, length: c_int, nesting: u32) {
        let stack = self.stack;
        stack.need_room(1, c"in function mp_encode_lua_table_as_array");
        self.head(0x90, 0xdc, 0xdd, length.unsigned_abs());
        for index in 1..=length {
            stack.get_raw(-1, index);
            self.value(nesting + 1);
            stack.pop(1);
        }
    }

    fn map(&mut self, nesting: u32) {
        let stack = self.stack;
        stack.need_room(3, c"in function mp_encode_lua_table_as_map");
        let mut pairs: u32 = 0;
        stack.push_nil();
        while stack.next_pair(-2) {
            self.pace.turn(stack);
            stack.pop(1);
            pairs += 1;
        }
        self.head(0x80, 0xde, 0xdf, pairs);
        stack.push_nil();
        while stack.next_pair(-2) {
            stack.push_copy(-2);
            self.value(nesting + 1);
            stack.pop(1);
            self.value(nesting + 1);
            stack.pop(1);
        }
    }
}

// Unpacking

/// Why reading stopped.
#[derive(Clone, Copy)]
enum Failure {
    MissingBytes,
    BadFormat,
}

/// An array or a map that is being filled.
#[derive(Clone, Copy)]
pub(super) struct UnpackLevel {
    /// Values still to come: elements of an array; keys and values of a map.
    missing: u64,
    /// The index of the element being read; 0 for a map.
    index: u32,
}

/// `cmsgpack.unpack(data)`: all values.
unsafe extern "C-unwind" fn unpack(state: *mut lua_State) -> c_int {
    // SAFETY: as in `pack`.
    let stack = unsafe { Stack::of(state) };
    unpack_values(stack, 0, 0)
}

/// `cmsgpack.unpack_one(data [, offset])`: where to go on (-1 at the end), and one value.
unsafe extern "C-unwind" fn unpack_one(state: *mut lua_State) -> c_int {
    // SAFETY: as in `pack`.
    let stack = unsafe { Stack::of(state) };
    let offset = stack.integer_or(2, 0);
    stack.set_top(stack.top().min(1));
    unpack_values(stack, 1, offset)
}

/// `cmsgpack.unpack_limit(data, limit [, offset])`: where to go on (-1 at the end), and up to `limit` values.
unsafe extern "C-unwind" fn unpack_limit(state: *mut lua_State) -> c_int {
    // SAFETY: as in `pack`.
    let stack = unsafe { Stack::of(state) };
    let limit = stack.check_integer(2);
    let offset = stack.integer_or(3, 0);
    stack.set_top(1);
    unpack_values(stack, limit, offset)
}

/// Reads values from the first argument and leaves them on the stack; answers their count. Limit 0 at offset 0
/// means all values, and no offset in front of them.
fn unpack_values(stack: Stack, limit: i64, offset: i64) -> c_int {
    // SAFETY: `open` made the library state upvalue 1, and its scratch is borrowed once per call.
    let scratch = unsafe { scratch(stack) };
    let data = stack.check_string(1);
    let Some(rest) = usize::try_from(offset).ok().filter(|_| limit >= 0) else {
        // The reference prints the length of the data where it says limit.
        stack.raise(format_args!(
            "Invalid request to unpack with offset of {} and limit of {}.",
            offset as i32,
            data.len() as i32
        ))
    };
    let Some(rest) = data.get(rest..) else {
        stack.raise(format_args!(
            "Start offset {} greater than input length {}.",
            offset as i32,
            data.len() as i32
        ))
    };
    let everything = limit == 0 && offset == 0;
    let limit = if everything { i64::from(c_int::MAX) } else { limit };

    let mut unpacker = Unpacker { stack, scratch, pace: Pace::new(), rest };
    let mut results = 0;
    while !unpacker.rest.is_empty() && i64::from(results) < limit {
        match unpacker.value() {
            Ok(()) => results += 1,
            Err(Failure::MissingBytes) => stack.raise(format_args!("Missing bytes in input.")),
            Err(Failure::BadFormat) => stack.raise(format_args!("Bad data format in input.")),
        }
    }
    let rest = unpacker.rest;
    unpacker.pace.finish(stack);
    if !everything {
        stack.need_room(1, c"in function mp_unpack_full");
        let next = data.len() - rest.len();
        stack.push_number(if rest.is_empty() { -1.0 } else { next as f64 });
        stack.insert(2);
        results += 1;
    }
    results
}

struct Unpacker<'script> {
    stack: Stack,
    scratch: &'script mut Scratch,
    pace: Pace,
    rest: &'script [u8],
}

impl<'script> Unpacker<'script> {
    /// Reads one value, with all that is in it, onto the stack.
    fn value(&mut self) -> Result<(), Failure> {
        let stack = self.stack;
        self.scratch.unpack_levels.clear();
        loop {
            self.pace.turn(stack);
            if self.begin()? {
                continue;
            }
            // A value is complete: put it where it belongs, and so on for each table that it completes.
            loop {
                let Some(level) = self.scratch.unpack_levels.last_mut() else { return Ok(()) };
                level.missing -= 1;
                if level.index > 0 || level.missing.is_multiple_of(2) {
                    stack.set_raw_pair(-3);
                }
                if level.missing > 0 {
                    if level.index > 0 {
                        level.index += 1;
                        stack.push_number(f64::from(level.index));
                    }
                    break;
                }
                self.scratch.unpack_levels.pop();
            }
        }
    }

    /// Reads a value, or the head of a table with elements; whether it was the latter.
    fn begin(&mut self) -> Result<bool, Failure> {
        let stack = self.stack;
        let tag = *self.rest.first().ok_or(Failure::MissingBytes)?;
        stack.need_room(1, c"too many return values at once; use unpack_one or unpack_limit instead.");
        match tag {
            0x00..=0x7f => self.small_integer(tag.cast_signed()),
            0x80..=0x8f => return self.map(1, u32::from(tag & 0xf)),
            0x90..=0x9f => return self.array(1, u32::from(tag & 0xf)),
            0xa0..=0xbf => self.text(1, u32::from(tag & 0x1f))?,
            0xc0 => {
                stack.push_nil();
                self.skip(1);
            }
            0xc2 | 0xc3 => {
                stack.push_boolean(tag == 0xc3);
                self.skip(1);
            }
            0xca => self.number(|bytes| f64::from(f32::from_be_bytes(bytes)))?,
            0xcb => self.number(f64::from_be_bytes)?,
            0xcc => self.number(|bytes| f64::from(u8::from_be_bytes(bytes)))?,
            0xcd => self.number(|bytes| f64::from(u16::from_be_bytes(bytes)))?,
            0xce => self.number(|bytes| f64::from(u32::from_be_bytes(bytes)))?,
            // Above the signed range it comes out negative: Lua's integers are signed.
            0xcf => self.number(|bytes| i64::from_be_bytes(bytes) as f64)?,
            0xd0 => self.number(|bytes| f64::from(i8::from_be_bytes(bytes)))?,
            0xd1 => self.number(|bytes| f64::from(i16::from_be_bytes(bytes)))?,
            0xd2 => self.number(|bytes| f64::from(i32::from_be_bytes(bytes)))?,
            0xd3 => self.number(|bytes| i64::from_be_bytes(bytes) as f64)?,
            0xd9 => self.text(2, u32::from(u8::from_be_bytes(self.behind_tag()?)))?,
            0xda => self.text(3, u32::from(u16::from_be_bytes(self.behind_tag()?)))?,
            0xdb => self.text(5, u32::from_be_bytes(self.behind_tag()?))?,
            0xdc => return self.array(3, u32::from(u16::from_be_bytes(self.behind_tag()?))),
            0xdd => return self.array(5, u32::from_be_bytes(self.behind_tag()?)),
            0xde => return self.map(3, u32::from(u16::from_be_bytes(self.behind_tag()?))),
            0xdf => return self.map(5, u32::from_be_bytes(self.behind_tag()?)),
            0xe0..=0xff => self.small_integer(tag.cast_signed()),
            _ => return Err(Failure::BadFormat),
        }
        Ok(false)
    }

    fn behind_tag<const SIZE: usize>(&self) -> Result<[u8; SIZE], Failure> {
        self.rest.get(1..).and_then(<[u8]>::first_chunk).copied().ok_or(Failure::MissingBytes)
    }

    /// Goes past `count` bytes that are known to be there.
    fn skip(&mut self, count: usize) {
        self.rest = self.rest.get(count..).unwrap_or_default();
    }

    fn small_integer(&mut self, value: i8) {
        self.stack.push_number(f64::from(value));
        self.skip(1);
    }

    fn number<const SIZE: usize>(&mut self, value: impl Fn([u8; SIZE]) -> f64) -> Result<(), Failure> {
        self.stack.push_number(value(self.behind_tag()?));
        self.skip(1 + SIZE);
        Ok(())
    }

    fn text(&mut self, head: usize, length: u32) -> Result<(), Failure> {
        let end = head + length as usize;
        self.stack.push_bytes(self.rest.get(head..end).ok_or(Failure::MissingBytes)?);
        self.skip(end);
        Ok(())
    }

    fn array(&mut self, head: usize, elements: u32) -> Result<bool, Failure> {
        let stack = self.stack;
        self.skip(head);
        stack.push_table();
        stack.need_room(1, c"in function mp_decode_to_lua_array");
        if elements == 0 {
            return Ok(false);
        }
        stack.push_number(1.0);
        self.scratch.unpack_levels.push(stack, UnpackLevel { missing: u64::from(elements), index: 1 });
        Ok(true)
    }

    fn map(&mut self, head: usize, pairs: u32) -> Result<bool, Failure> {
        let stack = self.stack;
        self.skip(head);
        stack.push_table();
        if pairs == 0 {
            return Ok(false);
        }
        self.scratch.unpack_levels.push(stack, UnpackLevel { missing: 2 * u64::from(pairs), index: 0 });
        Ok(true)
    }
}
