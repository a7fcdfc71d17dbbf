//! Replies of commands as Lua values, and Lua values as the replies of scripts.
//!
//! Invariant: what is being built lies in the [`Context`], not on the stack, since Lua may jump out of the one
//! direction for want of memory and a script may be left in the middle of the other.

use std::borrow::Cow;
use std::os::raw::{c_char, c_int};
use std::slice;

use mlua_sys::lua51::*;

use super::context::Context;
use super::ticks::work;
use crate::base::number::{append_f64, append_i64};
use crate::protocol::{ErrorReply, Reply};

/// Registry references of the field names of special tables. They let the engine look at a script's result
/// without allocating, hence without failing.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct ReplyNames {
    pub(super) err: c_int,
    pub(super) ok: c_int,
    pub(super) double: c_int,
    pub(super) big_number: c_int,
    pub(super) verbatim_string: c_int,
    pub(super) format: c_int,
    pub(super) string: c_int,
    pub(super) map: c_int,
    pub(super) set: c_int,
    pub(super) source: c_int,
    pub(super) line: c_int,
    pub(super) ignore_error_stats_update: c_int,
    pub(super) keys: c_int,
    pub(super) argv: c_int,
}

impl ReplyNames {
    /// Puts the names into the registry of a new state.
    ///
    /// # Safety
    /// `lua` is live, with a few free stack slots, and no script runs in it.
    pub(super) unsafe fn intern(lua: *mut lua_State) -> Self {
        // SAFETY: passed on to the caller.
        let intern = |name: &str| unsafe {
            push_bytes(lua, name.as_bytes());
            luaL_ref(lua, LUA_REGISTRYINDEX)
        };
        ReplyNames {
            err: intern("err"),
            ok: intern("ok"),
            double: intern("double"),
            big_number: intern("big_number"),
            verbatim_string: intern("verbatim_string"),
            format: intern("format"),
            string: intern("string"),
            map: intern("map"),
            set: intern("set"),
            source: intern("source"),
            line: intern("line"),
            ignore_error_stats_update: intern("ignore_error_stats_update"),
            keys: intern("KEYS"),
            argv: intern("ARGV"),
        }
    }
}

/// A table whose elements are being converted.
pub(super) struct OpenReply {
    kind: Kind,
    elements: Vec<Reply<'static>>,
}

enum Kind {
    /// The index of the last element taken.
    Array(c_int),
    /// Whether the value of the key that was just converted is on the top of the stack.
    Map(bool),
    Set,
}

/// How deeply the result of a script may be nested. Whoever encodes or drops a reply recurses so far.
const MAX_REPLY_DEPTH: usize = 1000;

/// Pushes a string.
///
/// # Safety
/// `lua` is live with a free slot. May raise for want of memory.
#[inline]
pub(super) unsafe fn push_bytes(lua: *mut lua_State, bytes: &[u8]) {
    // SAFETY: the pointer and the length belong together.
    unsafe { lua_pushlstring_(lua, bytes.as_ptr().cast::<c_char>(), bytes.len()) };
}

/// The bytes of the string at `index`, or `None` if it is no string. Numbers are not converted.
///
/// # Safety
/// `lua` is live. The bytes are valid as long as the string is in Lua's reach.
#[inline]
pub(super) unsafe fn string_at<'a>(lua: *mut lua_State, index: c_int) -> Option<&'a [u8]> {
    // SAFETY: for a string `lua_tolstring` neither allocates nor changes anything.
    unsafe {
        if lua_type(lua, index) != LUA_TSTRING {
            return None;
        }
        let mut len = 0;
        let start = lua_tolstring(lua, index, &mut len);
        Some(slice::from_raw_parts(start.cast(), len))
    }
}

/// Sets a field of the table on the top of the stack to a string.
unsafe fn set_string_field(lua: *mut lua_State, name: c_int, value: &[u8]) {
    // SAFETY: passed on to the caller.
    unsafe {
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, name);
        push_bytes(lua, value);
        lua_rawset(lua, -3);
    }
}

/// Pushes `{err = text}`, with the mark that the error was counted if it was.
///
/// # Safety
/// As for [`push_reply`].
pub(super) unsafe fn push_error(lua: *mut lua_State, names: &ReplyNames, text: &[u8], counted: bool) {
    // SAFETY: passed on to the caller.
    unsafe {
        lua_createtable(lua, 0, 4);
        set_string_field(lua, names.err, text);
        if counted {
            lua_rawgeti_(lua, LUA_REGISTRYINDEX, names.ignore_error_stats_update);
            lua_pushboolean(lua, 1);
            lua_rawset(lua, -3);
        }
    }
}

/// Writes the text of an error as scripts see it: a code in front, no line ends around.
pub(super) fn error_text(wire: &[u8], text: &mut Vec<u8>) {
    let (code, message) = match memchr::memchr(b' ', wire) {
        Some(blank) => (&wire[..blank], &wire[blank + 1..]),
        None => (&b"ERR"[..], wire),
    };
    let is_end = |byte: &u8| matches!(byte, b'\r' | b'\n');
    let start = message.iter().position(|byte| !is_end(byte)).unwrap_or(message.len());
    let end = message.iter().rposition(|byte| !is_end(byte)).map_or(start, |last| last + 1);
    text.clear();
    text.extend_from_slice(code);
    text.push(b' ');
    text.extend_from_slice(&message[start..end]);
}

/// Pushes the reply of a command as the script sees it in `protocol` 2 or 3. Raises if the reply is nested
/// too deeply or memory is short.
///
/// # Safety
/// `lua` is live and runs a C function of ours with a few free slots. Frames hold no destructors.
pub(super) unsafe fn push_reply(lua: *mut lua_State, context: *mut Context, reply: &Reply<'_>) {
    // SAFETY: `context` belongs to `lua`; every branch leaves one value more on the stack.
    unsafe {
        if lua_checkstack(lua, 6) == 0 {
            luaL_error(lua, c"lua stack limit reached when reading the reply of a command".as_ptr());
        }
        let names = &(*context).names;
        let resp3 = (*context).protocol == 3;
        match reply {
            Reply::Ok => push_status(lua, names, b"OK"),
            Reply::Status(text) => push_status(lua, names, text.as_bytes()),
            Reply::Error(error) => {
                error_text(&error.0, &mut (*context).text);
                push_error(lua, names, &(*context).text, true);
            }
            Reply::Integer(number) => lua_pushnumber(lua, *number as f64),
            Reply::Bulk(bytes) => push_bytes(lua, bytes),
            Reply::Owned(bytes) | Reply::Encoded(bytes) => push_bytes(lua, bytes),
            Reply::BulkInteger(number) => push_bytes(lua, itoa::Buffer::new().format(*number).as_bytes()),
            Reply::Nil | Reply::NilArray | Reply::None if resp3 => lua_pushnil(lua),
            Reply::Nil | Reply::NilArray | Reply::None => lua_pushboolean(lua, 0),
            Reply::Bool(value) if resp3 => lua_pushboolean(lua, c_int::from(*value)),
            Reply::Bool(value) => lua_pushnumber(lua, f64::from(u8::from(*value))),
            Reply::Double(number) if resp3 => {
                lua_createtable(lua, 0, 1);
                lua_rawgeti_(lua, LUA_REGISTRYINDEX, names.double);
                lua_pushnumber(lua, *number);
                lua_rawset(lua, -3);
            }
            Reply::Double(number) => {
                (*context).text.clear();
                append_f64(&mut (*context).text, *number);
                push_bytes(lua, &(*context).text);
            }
            Reply::BigNumber(digits) if resp3 => {
                lua_createtable(lua, 0, 1);
                set_string_field(lua, names.big_number, digits);
            }
            Reply::BigNumber(digits) => push_bytes(lua, digits),
            Reply::Verbatim(format, text) if resp3 => {
                lua_createtable(lua, 0, 1);
                lua_rawgeti_(lua, LUA_REGISTRYINDEX, names.verbatim_string);
                lua_createtable(lua, 0, 2);
                set_string_field(lua, names.string, text);
                set_string_field(lua, names.format, format);
                lua_rawset(lua, -3);
            }
            Reply::Verbatim(_, text) => push_bytes(lua, text),
            Reply::Array(elements) | Reply::Push(elements) => push_array(lua, context, elements),
            Reply::Set(elements) if resp3 => push_set(lua, context, elements),
            Reply::Set(elements) => push_array(lua, context, elements),
            Reply::Map(pairs) if resp3 => push_map(lua, context, pairs),
            Reply::Map(pairs) => {
                lua_createtable(lua, table_size(pairs.len() * 2), 0);
                for (index, (key, value)) in pairs.iter().enumerate() {
                    push_reply(lua, context, key);
                    lua_rawseti_(lua, -2, (index * 2 + 1) as c_int);
                    push_reply(lua, context, value);
                    lua_rawseti_(lua, -2, (index * 2 + 2) as c_int);
                }
            }
            Reply::Attributed(_, reply) => push_reply(lua, context, reply),
        }
    }
}

unsafe fn push_status(lua: *mut lua_State, names: &ReplyNames, text: &[u8]) {
    // SAFETY: passed on to the caller.
    unsafe {
        lua_createtable(lua, 0, 1);
        set_string_field(lua, names.ok, text);
    }
}

unsafe fn push_array(lua: *mut lua_State, context: *mut Context, elements: &[Reply<'_>]) {
    // SAFETY: passed on to the caller.
    unsafe {
        (*context).reply_elements += elements.len();
        lua_createtable(lua, table_size(elements.len()), 0);
        for (index, element) in elements.iter().enumerate() {
            match element {
                // The common case, without a call.
                Reply::Bulk(bytes) => push_bytes(lua, bytes),
                other => push_reply(lua, context, other),
            }
            lua_rawseti_(lua, -2, (index + 1) as c_int);
        }
    }
}

unsafe fn push_set(lua: *mut lua_State, context: *mut Context, elements: &[Reply<'_>]) {
    // SAFETY: passed on to the caller.
    unsafe {
        lua_createtable(lua, 0, 1);
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, (*context).names.set);
        lua_createtable(lua, 0, table_size(elements.len()));
        for element in elements {
            push_reply(lua, context, element);
            lua_pushboolean(lua, 1);
            set_unless_nil(lua);
        }
        lua_rawset(lua, -3);
    }
}

unsafe fn push_map(lua: *mut lua_State, context: *mut Context, pairs: &[(Reply<'_>, Reply<'_>)]) {
    // SAFETY: passed on to the caller.
    unsafe {
        lua_createtable(lua, 0, 1);
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, (*context).names.map);
        lua_createtable(lua, 0, table_size(pairs.len()));
        for (key, value) in pairs {
            push_reply(lua, context, key);
            push_reply(lua, context, value);
            set_unless_nil(lua);
        }
        lua_rawset(lua, -3);
    }
}

/// `table[key] = value`, popping both; nothing if the key is nil, which a table cannot hold.
unsafe fn set_unless_nil(lua: *mut lua_State) {
    // SAFETY: table, key and value are on the stack.
    unsafe {
        if lua_type(lua, -2) == LUA_TNIL {
            lua_settop(lua, -3);
        } else {
            lua_rawset(lua, -3);
        }
    }
}

/// A size hint for `lua_createtable`.
fn table_size(len: usize) -> c_int {
    len.min(1 << 24) as c_int
}

/// Converts and pops the value on the top of the stack, the result of a script. `None` if the result is larger
/// than what the script may use. Suspends where a slice ends; raises nothing.
///
/// # Safety
/// `lua` is live, its memory is not limited, and runs nothing.
pub(super) unsafe fn take_reply(lua: *mut lua_State, context: *mut Context) -> Option<Reply<'static>> {
    // SAFETY: each step keeps the stack as its comment says. The open replies are in the context while `work`
    // may suspend; `done` is empty then.
    unsafe {
        (*context).open_replies.clear();
        (*context).reply_bytes = 0;
        loop {
            work(lua, 4);
            (*context).reply_bytes += size_of::<Reply<'_>>();
            if (*context).reply_bytes > (*context).allowance_bytes {
                return None;
            }
            let mut done = take_value(lua, context);
            // Hand the value to the table it is in, and close tables that are complete.
            loop {
                let open_replies = &mut (*context).open_replies;
                if let Some(reply) = done.take() {
                    match open_replies.last_mut() {
                        None => return Some(reply),
                        Some(open) => open.elements.push(reply),
                    }
                }
                let Some(open) = open_replies.last_mut() else { break };
                if next_element(lua, open) {
                    break;
                }
                done = open_replies.pop().map(OpenReply::close);
            }
        }
    }
}

/// Leaves the next value of the table that is being converted on the top of the stack. If there is none, pops
/// the table and returns false.
unsafe fn next_element(lua: *mut lua_State, open: &mut OpenReply) -> bool {
    // SAFETY: on the stack is, for an array, the table; for a map or set, the special table, the one in it,
    // and the last key; for a map, in between, the value.
    unsafe {
        match &mut open.kind {
            Kind::Array(index) => {
                *index += 1;
                lua_rawgeti_(lua, -1, *index);
                if lua_type(lua, -1) != LUA_TNIL {
                    return true;
                }
                lua_settop(lua, -3);
                false
            }
            Kind::Map(value_waits) if *value_waits => {
                *value_waits = false;
                true
            }
            Kind::Map(value_waits) => {
                if lua_next(lua, -2) == 0 {
                    lua_settop(lua, -3);
                    return false;
                }
                *value_waits = true;
                lua_pushvalue(lua, -2);
                true
            }
            Kind::Set => {
                if lua_next(lua, -2) == 0 {
                    lua_settop(lua, -3);
                    return false;
                }
                lua_settop(lua, -2);
                lua_pushvalue(lua, -1);
                true
            }
        }
    }
}

impl OpenReply {
    fn close(self) -> Reply<'static> {
        match self.kind {
            Kind::Array(_) => Reply::Array(self.elements),
            Kind::Set => Reply::Set(self.elements),
            Kind::Map(_) => {
                let mut elements = self.elements.into_iter();
                let mut pairs = Vec::with_capacity(elements.len() / 2);
                while let (Some(key), Some(value)) = (elements.next(), elements.next()) {
                    pairs.push((key, value));
                }
                Reply::Map(pairs)
            }
        }
    }
}

/// Converts and pops the value on the top of the stack; if it is a table with elements, opens it and returns
/// `None`.
unsafe fn take_value(lua: *mut lua_State, context: *mut Context) -> Option<Reply<'static>> {
    // SAFETY: looks only at the value and its fields, without metamethods or allocations.
    unsafe {
        if (*context).open_replies.len() >= MAX_REPLY_DEPTH || lua_checkstack(lua, 6) == 0 {
            lua_settop(lua, -2);
            return Some(Reply::Error(ErrorReply::new("ERR reached lua stack limit")));
        }
        let reply = match lua_type(lua, -1) {
            LUA_TSTRING => {
                let bytes = string_at(lua, -1).unwrap_or_default();
                (*context).reply_bytes += bytes.len();
                Reply::Owned(bytes.to_vec())
            }
            LUA_TBOOLEAN => match (lua_toboolean(lua, -1) != 0, (*context).protocol) {
                (value, 3) => Reply::Bool(value),
                (true, _) => Reply::Integer(1),
                (false, _) => Reply::Nil,
            },
            LUA_TNUMBER => Reply::Integer(truncate(lua_tonumber(lua, -1))),
            LUA_TTABLE => return take_table(lua, context),
            _ => Reply::Nil,
        };
        lua_settop(lua, -2);
        Some(reply)
    }
}

/// The cast of C on common machines: towards zero, and the smallest integer for what does not fit.
fn truncate(number: f64) -> i64 {
    if number >= i64::MIN as f64 && number < i64::MAX as f64 { number as i64 } else { i64::MIN }
}

unsafe fn take_table(lua: *mut lua_State, context: *mut Context) -> Option<Reply<'static>> {
    // SAFETY: the table is on the top of the stack, with six free slots.
    unsafe {
        let top = lua_gettop(lua);
        let names = (*context).names;
        let field = |name: c_int| {
            lua_settop(lua, top);
            lua_rawgeti_(lua, LUA_REGISTRYINDEX, name);
            lua_rawget_(lua, top);
            lua_type(lua, -1)
        };
        let reply = if field(names.err) == LUA_TSTRING {
            let text = c_text(string_at(lua, -1).unwrap_or_default()).to_vec();
            Some(Reply::Error(ErrorReply(Cow::Owned(text))))
        } else if field(names.ok) == LUA_TSTRING {
            let text = c_text(string_at(lua, -1).unwrap_or_default());
            Some(Reply::Status(String::from_utf8_lossy(&one_line(text)).into_owned().into()))
        } else if field(names.double) == LUA_TNUMBER {
            Some(Reply::Double(lua_tonumber(lua, -1)))
        } else if field(names.big_number) == LUA_TSTRING {
            Some(Reply::BigNumber(one_line(string_at(lua, -1).unwrap_or_default())))
        } else if field(names.verbatim_string) == LUA_TTABLE {
            take_verbatim(lua, &names)
        } else {
            None
        };
        if let Some(reply) = reply {
            lua_settop(lua, top - 1);
            return Some(reply);
        }
        let kind = if field(names.map) == LUA_TTABLE {
            lua_pushnil(lua);
            Kind::Map(false)
        } else if field(names.set) == LUA_TTABLE {
            lua_pushnil(lua);
            Kind::Set
        } else {
            lua_settop(lua, top);
            Kind::Array(0)
        };
        (*context).open_replies.push(OpenReply { kind, elements: Vec::new() });
        None
    }
}

/// Reads `{format = …, string = …}` on the top of the stack.
unsafe fn take_verbatim(lua: *mut lua_State, names: &ReplyNames) -> Option<Reply<'static>> {
    // SAFETY: the table is on the top of the stack; the caller cuts the stack afterwards.
    unsafe {
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, names.format);
        lua_rawget_(lua, -2);
        lua_rawgeti_(lua, LUA_REGISTRYINDEX, names.string);
        lua_rawget_(lua, -3);
        let (format, text) = (string_at(lua, -2)?, string_at(lua, -1)?);
        let mut padded = [b' '; 3];
        for (to, from) in padded.iter_mut().zip(c_text(format)) {
            *to = *from;
        }
        Some(Reply::Verbatim(padded, text.to_vec()))
    }
}

/// Up to the first zero byte.
pub(super) fn c_text(text: &[u8]) -> &[u8] {
    memchr::memchr(0, text).map_or(text, |end| &text[..end])
}

/// Line ends as blanks.
fn one_line(text: &[u8]) -> Vec<u8> {
    let mut line = text.to_vec();
    let mut from = 0;
    while let Some(end) = memchr::memchr2(b'\r', b'\n', &line[from..]) {
        line[from + end] = b' ';
        from += end + 1;
    }
    line
}

/// The most bytes that [`append_number`] writes.
pub(super) const NUMBER_TEXT_BYTES: usize = 32;

/// Writes a number as commands receive it: an integer in decimal, or the shortest text that reads back the same.
pub(super) fn append_number(text: &mut Vec<u8>, number: f64) {
    // Beyond half of the range of integers the text is in scientific notation.
    let half = (i64::MAX / 2) as f64;
    if number >= -half && number <= half && number == number.trunc() {
        append_i64(text, number as i64);
    } else if number.is_nan() && number.is_sign_negative() {
        text.extend_from_slice(b"-nan");
    } else {
        append_f64(text, number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_as_commands_receive_them() {
        for (number, text) in [
            (0.0, "0"),
            (-0.0, "0"),
            (3.0, "3"),
            (-17.0, "-17"),
            (2.75, "2.75"),
            (0.1, "0.1"),
            (1e17, "100000000000000000"),
            (1e19, "1e+19"),
            (1e300, "1e+300"),
            (1.5e-10, "1.5e-10"),
            (0.00001234, "1.234e-5"),
            (-1234.5678, "-1234.5678"),
            (1e-5, "0.00001"),
            (123e-9, "1.23e-7"),
            (9223372036854775808.0, "9223372036854776000"),
            (12345678901234567890.0, "12345678901234567000"),
            (4611686018427387904.0, "4611686018427387904"),
            (6917529027641081856.0, "6917529027641082000"),
            (5e-324, "5e-324"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            let mut written = Vec::new();
            append_number(&mut written, number);
            assert_eq!(std::str::from_utf8(&written), Ok(text));
            assert!(written.len() <= NUMBER_TEXT_BYTES);
        }
    }

    #[test]
    fn any_number_reads_back() {
        for _ in 0..10_000 {
            let number = f64::from_bits(fastrand::u64(..));
            if number.is_finite() {
                let mut text = Vec::new();
                append_number(&mut text, number);
                assert!(text.len() <= NUMBER_TEXT_BYTES);
                let text = std::str::from_utf8(&text).expect("ASCII");
                assert_eq!(text.parse::<f64>(), Ok(number), "{text}");
            }
        }
    }

    #[test]
    fn errors_as_scripts_see_them() {
        let mut text = Vec::new();
        for (wire, seen) in [
            ("WRONGTYPE Operation", "WRONGTYPE Operation"),
            ("nothing", "ERR nothing"),
            ("", "ERR "),
            ("ERR \r\n a\r\n", "ERR  a"),
        ] {
            error_text(wire.as_bytes(), &mut text);
            assert_eq!(text, seen.as_bytes());
        }
    }

    #[test]
    fn numbers_are_cut_as_in_c() {
        assert_eq!(truncate(3.99), 3);
        assert_eq!(truncate(-3.99), -3);
        assert_eq!(truncate(f64::NAN), i64::MIN);
        assert_eq!(truncate(1e300), i64::MIN);
    }
}
