//! The filters of CLIENT LIST and CLIENT KILL as COMMAND DOCS shows them. What they do stands in `client.rs`.

use crate::command::{Argument, ArgumentKind};

const TYPES: &[Argument] = &[
    Argument::word("NORMAL"),
    Argument::word("MASTER"),
    Argument::word("REPLICA"),
    Argument::word("PUBSUB"),
];
const KILL_TYPES: &[Argument] = &[
    Argument::word("NORMAL"),
    Argument::word("MASTER").since("3.2.0"),
    Argument::word("PRIMARY").since("8.0.0"),
    Argument::word("SLAVE"),
    Argument::word("REPLICA").since("5.0.0"),
    Argument::word("PUBSUB"),
];
const KILL_NOT_TYPES: &[Argument] = &[
    Argument::word("NORMAL"),
    Argument::word("MASTER"),
    Argument::word("PRIMARY"),
    Argument::word("SLAVE"),
    Argument::word("REPLICA"),
    Argument::word("PUBSUB"),
];
const YES_NO: &[Argument] = &[Argument::word("YES"), Argument::word("NO")];

const fn text(name: &'static str, token: &'static str) -> Argument {
    Argument::new(name, ArgumentKind::String).after(token).since("9.0.0").optional()
}

const fn number(name: &'static str, token: &'static str) -> Argument {
    Argument::new(name, ArgumentKind::Integer).after(token).since("9.0.0").optional()
}

const fn address(name: &'static str, token: &'static str) -> Argument {
    text(name, token).shown("ip:port")
}

const fn one_of(name: &'static str, token: &'static str, words: &'static [Argument]) -> Argument {
    Argument::one_of(name, words).after(token).since("9.0.0").optional()
}

pub const LIST: &[Argument] = &[
    one_of("client-type", "TYPE", TYPES).since("5.0.0"),
    number("client-id", "ID").multiple().since("6.2.0"),
    text("username", "USER").since("8.1.0"),
    address("addr", "ADDR").since("8.1.0"),
    address("laddr", "LADDR").since("8.1.0"),
    one_of("skipme", "SKIPME", YES_NO).since("8.1.0"),
    number("maxage", "MAXAGE").since("8.1.0"),
    text("name", "NAME"),
    number("idle", "IDLE"),
    text("flags", "FLAGS"),
    text("lib-name", "LIB-NAME"),
    text("lib-ver", "LIB-VER"),
    number("db", "DB"),
    text("capa", "CAPA"),
    text("ip", "IP"),
    one_of("not-client-type", "NOT-TYPE", TYPES),
    number("not-client-id", "NOT-ID").multiple(),
    text("not-username", "NOT-USER"),
    address("not-addr", "NOT-ADDR"),
    address("not-laddr", "NOT-LADDR"),
    text("not-name", "NOT-NAME"),
    text("not-flags", "NOT-FLAGS"),
    text("not-lib-name", "NOT-LIB-NAME"),
    text("not-lib-ver", "NOT-LIB-VER"),
    number("not-db", "NOT-DB"),
    text("not-capa", "NOT-CAPA"),
    text("not-ip", "NOT-IP"),
];

const KILL_FILTERS: &[Argument] = &[
    number("client-id", "ID").multiple().since("2.8.12"),
    one_of("client-type", "TYPE", KILL_TYPES).since("2.8.12"),
    text("username", "USER").since(""),
    address("addr", "ADDR").since(""),
    address("laddr", "LADDR").since("6.2.0"),
    one_of("skipme", "SKIPME", YES_NO).since(""),
    number("maxage", "MAXAGE").since("8.0.0"),
    LIST[7],
    LIST[8],
    LIST[9],
    LIST[10],
    LIST[11],
    LIST[12],
    LIST[13],
    LIST[14],
    one_of("not-client-type", "NOT-TYPE", KILL_NOT_TYPES),
    LIST[16],
    LIST[17],
    LIST[18],
    LIST[19],
    LIST[20],
    LIST[21],
    LIST[22],
    LIST[23],
    LIST[24],
    LIST[25],
    LIST[26],
];

pub const KILL: &[Argument] = &[Argument::one_of(
    "filter",
    &[
        Argument {
            deprecated_since: "2.8.12",
            ..Argument::new("old-format", ArgumentKind::String).shown("ip:port")
        },
        Argument::one_of("new-format", KILL_FILTERS).multiple(),
    ],
)];
