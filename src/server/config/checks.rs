//! Rules for single texts: file names, addresses, templates. Each says why it refuses one.

use std::net::{Ipv4Addr, Ipv6Addr};

type Check = Result<(), &'static str>;

fn file_name(text: &[u8], empty: &'static str, path: &'static str) -> Check {
    match text {
        b"" => Err(empty),
        _ if text.contains(&b'/') || text.contains(&b'\\') => Err(path),
        _ => Ok(()),
    }
}

pub fn dbfilename(text: &[u8]) -> Check {
    file_name(text, "dbfilename can't be empty", "dbfilename can't be a path, just a filename")
}

pub fn appendfilename(text: &[u8]) -> Check {
    file_name(text, "appendfilename can't be empty", "appendfilename can't be a path, just a filename")
}

pub fn appenddirname(text: &[u8]) -> Check {
    file_name(text, "appenddirname can't be empty", "appenddirname can't be a path, just a dirname")
}

pub fn cluster_config_file(text: &[u8]) -> Check {
    if text.is_empty() { Err("cluster-config-file can't be empty") } else { Ok(()) }
}

fn parses<T: std::str::FromStr>(text: &[u8]) -> bool {
    text.is_empty() || std::str::from_utf8(text).is_ok_and(|text| text.parse::<T>().is_ok())
}

pub fn ipv4(text: &[u8]) -> Check {
    if parses::<Ipv4Addr>(text) { Ok(()) } else { Err("Invalid IPv4 address") }
}

pub fn ipv6(text: &[u8]) -> Check {
    if parses::<Ipv6Addr>(text) { Ok(()) } else { Err("Invalid IPv6 address") }
}

/// Letters, digits, hyphens and dots.
pub fn hostname(text: &[u8]) -> Check {
    if text.len() >= 256 {
        return Err("Hostnames must be less than 256 characters");
    }
    if text.iter().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.')) {
        return Ok(());
    }
    Err("Hostnames may only contain alphanumeric characters, hyphens or dots")
}

/// None of the bytes that mean something in the nodes file.
fn is_field_of_nodes_file(text: &[u8]) -> bool {
    !text.iter().any(|byte| b"!#$%&()*+;<>?@[]^{|}~\0".contains(byte))
}

pub fn node_name(text: &[u8]) -> Check {
    if is_field_of_nodes_file(text) {
        Ok(())
    } else {
        Err("Announced human node name contained invalid character")
    }
}

pub fn cluster_announce_ip(text: &[u8]) -> Check {
    if is_field_of_nodes_file(text) { Ok(()) } else { Err("cluster-announce-ip contains invalid character") }
}

/// Texts are compared by their bytes, which is what these locales say.
pub fn locale(text: &[u8]) -> Check {
    match text {
        b"" | b"C" | b"POSIX" | b"C.UTF-8" | b"C.utf8" => Ok(()),
        _ => Err("Invalid locale name"),
    }
}

/// Names in braces, of which `{{` is a literal brace; something must be left when all names are empty.
pub fn proc_title_template(text: &[u8]) -> Check {
    const INVALID: &str = "template format is invalid or contains unknown variables";
    const NAMES: &[&[u8]] =
        &[b"title", b"listen-addr", b"server-mode", b"port", b"tls-port", b"unixsocket", b"config-file"];
    let mut rest = text;
    let mut has_content = false;
    while let [byte, tail @ ..] = rest {
        rest = match (byte, tail) {
            (b'{', [b'{', tail @ ..]) => {
                has_content = true;
                tail
            }
            (b'{', _) => {
                let end = tail.iter().position(|byte| *byte == b'}').ok_or(INVALID)?;
                let (name, tail) = tail.split_at(end);
                if !NAMES.contains(&name) {
                    return Err(INVALID);
                }
                // These always have a value.
                has_content |= matches!(name, b"listen-addr" | b"port" | b"tls-port");
                tail.get(1..).unwrap_or_default()
            }
            _ => {
                has_content |= !byte.is_ascii_whitespace();
                tail
            }
        };
    }
    if has_content { Ok(()) } else { Err(INVALID) }
}
