//! REPLCONF: what a connection tells of itself before and while it is a replica.
//!
//! Knows one connection's words only. Options take effect one after the other, so those before a bad one stay,
//! as on Valkey.

use super::action::ConnectionId;
use crate::protocol::ErrorReply;

/// Hosts that are longer are refused (the longest domain name is 255 bytes and a terminator).
const HOST_LENGTH_LIMIT: usize = 256;

/// What a replica wants left out of its snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SnapshotFilter {
    pub without_data: bool,
    pub without_functions: bool,
}

impl SnapshotFilter {
    pub fn is_everything(self) -> bool {
        self == SnapshotFilter::default()
    }
}

/// What REPLCONF said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Announced {
    pub listening_port: i64,
    pub ip_address: Option<String>,
    /// Understands a snapshot that ends with a mark.
    pub eof: bool,
    /// Understands `+CONTINUE <new replication id>`.
    pub psync2: bool,
    /// Takes the snapshot on a connection of its own, if the primary offers that.
    pub dual_channel: bool,
    /// Is such a connection: it gets a snapshot, and before that the position at which the stream goes on elsewhere.
    pub rdb_channel: bool,
    /// Its snapshot came, or comes, on this other connection.
    pub rdb_client: Option<ConnectionId>,
    /// Follows a `+FOLLOW` line to the new primary after a failover, and acknowledges a GETACK including its bytes.
    pub follow: bool,
    /// Wants the snapshot and no stream.
    pub rdb_only: bool,
    pub filter: SnapshotFilter,
    /// `major << 16 | minor << 8 | patch`.
    pub version: Option<u32>,
}

/// What has to happen after a REPLCONF.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplconfReply {
    Ok,
    /// Nothing is answered.
    Silent,
    Error(ErrorReply),
    /// The primary asks for an acknowledgement: send it once this command counts as applied.
    SendAck,
}

/// What one REPLCONF means.
pub(super) enum Parsed {
    Announcement,
    /// `ACK offset [FACK fsynced offset]`; `None` where a number is not one.
    Ack {
        offset: Option<i64>,
        fsynced: Option<i64>,
    },
    GetAck,
}

/// What a primary accepts at present.
pub(super) struct Offers<'a> {
    /// Snapshots on connections of their own.
    pub dual_channel: bool,
    /// The connections whose snapshot waits for the main connection of the same replica.
    pub rdb_clients: &'a [ConnectionId],
}

/// Reads the arguments after `REPLCONF` into `announced`.
pub(super) fn parse(
    announced: &mut Announced,
    arguments: &[&[u8]],
    offers: &Offers<'_>,
) -> Result<Parsed, ErrorReply> {
    if !arguments.len().is_multiple_of(2) {
        return Err(ErrorReply::SYNTAX);
    }
    for (index, pair) in arguments.chunks_exact(2).enumerate() {
        let (option, value) = (pair[0], pair[1]);
        match option.to_ascii_lowercase().as_slice() {
            b"listening-port" => {
                announced.listening_port = integer(value).ok_or(ErrorReply::NOT_AN_INTEGER)?
            }
            b"ip-address" => announced.ip_address = Some(ip_address(value)?),
            b"capa" => capability(announced, value, offers),
            b"ack" => return Ok(acknowledgement(&arguments[index * 2..])),
            b"getack" => return Ok(Parsed::GetAck),
            b"rdb-only" => announced.rdb_only = zero_or_one(value)?,
            b"rdb-filter-only" => announced.filter = filter(announced.filter, value)?,
            b"version" => announced.version = Some(version(value)?),
            b"rdb-channel" => announced.rdb_channel = zero_or_one(value)?,
            b"set-rdb-client-id" => announced.rdb_client = Some(rdb_client(value, offers)?),
            _ => return Err(unrecognized("REPLCONF option", option)),
        }
    }
    Ok(Parsed::Announcement)
}

fn acknowledgement(rest: &[&[u8]]) -> Parsed {
    let offset = rest.get(1).and_then(|value| integer(value));
    let fsynced = match rest.get(2..4) {
        Some([word, value]) if word.eq_ignore_ascii_case(b"fack") => integer(value),
        _ => None,
    };
    Parsed::Ack { offset, fsynced }
}

fn rdb_client(value: &[u8], offers: &Offers<'_>) -> Result<ConnectionId, ErrorReply> {
    let number = integer(value).ok_or(ErrorReply::NOT_AN_INTEGER)?;
    let known = ConnectionId::try_from(number).ok().filter(|number| offers.rdb_clients.contains(number));
    known.ok_or_else(|| ErrorReply::from_text(format!("ERR Unrecognized RDB client id {number}")))
}

fn capability(announced: &mut Announced, name: &[u8], offers: &Offers<'_>) {
    match name.to_ascii_lowercase().as_slice() {
        b"eof" => announced.eof = true,
        b"psync2" => announced.psync2 = true,
        b"dual-channel" => announced.dual_channel = offers.dual_channel,
        b"follow" => announced.follow = true,
        // Later versions will have others: what is not understood is not used.
        _ => {}
    }
}

fn ip_address(value: &[u8]) -> Result<String, ErrorReply> {
    if value.len() >= HOST_LENGTH_LIMIT {
        let text = format!(
            "ERR REPLCONF ip-address provided by replica instance is too long: {} bytes",
            value.len()
        );
        return Err(ErrorReply::from_text(text));
    }
    Ok(String::from_utf8_lossy(value).into_owned())
}

fn zero_or_one(value: &[u8]) -> Result<bool, ErrorReply> {
    match integer(value) {
        None => Err(ErrorReply::NOT_AN_INTEGER),
        Some(0) => Ok(false),
        Some(1) => Ok(true),
        Some(_) => Err(ErrorReply::new("ERR value is out of range, value must between 0 and 1")),
    }
}

/// The filter names what stays; at present only `functions` can.
fn filter(mut filter: SnapshotFilter, value: &[u8]) -> Result<SnapshotFilter, ErrorReply> {
    filter.without_data = true;
    filter.without_functions = true;
    for word in value.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        if !word.eq_ignore_ascii_case(b"functions") {
            let text = [b"ERR Unsupported rdb-filter-only option: ".as_slice(), word].concat();
            return Err(ErrorReply::from_text(text));
        }
        filter.without_functions = false;
    }
    Ok(filter)
}

fn version(value: &[u8]) -> Result<u32, ErrorReply> {
    let part = |text: &[u8]| -> Option<u32> {
        // An empty part counts as zero on Valkey.
        text.iter().try_fold(0u32, |sum, digit| {
            let sum = sum * 10 + (*digit as char).to_digit(10)?;
            (sum <= 255).then_some(sum)
        })
    };
    let parts: Option<Vec<u32>> = value.split(|byte| *byte == b'.').map(part).collect();
    match parts.as_deref() {
        Some([major, minor, patch]) if !value.is_empty() => Ok(major << 16 | minor << 8 | patch),
        _ => Err(unrecognized("version format", value)),
    }
}

fn unrecognized(what: &str, value: &[u8]) -> ErrorReply {
    ErrorReply::from_text([b"ERR Unrecognized ", what.as_bytes(), b": ", value].concat())
}

/// A decimal integer in its one canonical form: no leading zeros, no plus sign, no spaces.
pub(crate) fn integer(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (itoa::Buffer::new().format(number).as_bytes() == text).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn replconf(announced: &mut Announced, words: &str) -> Result<Parsed, String> {
        let words: Vec<&[u8]> = words.split('|').map(str::as_bytes).collect();
        let offers = Offers { dual_channel: true, rdb_clients: &[7] };
        parse(announced, &words, &offers).map_err(|error| String::from_utf8_lossy(&error.0).into_owned())
    }

    #[test]
    fn handshake_is_remembered() {
        let mut announced = Announced::default();
        for words in [
            "listening-port|6380",
            "ip-address|10.0.0.1",
            "capa|eof|capa|psync2|capa|dual-channel|capa|follow|capa|teleport",
            "version|9.1.2",
            "rdb-only|1|rdb-channel|1",
            "set-rdb-client-id|7",
        ] {
            assert!(matches!(replconf(&mut announced, words), Ok(Parsed::Announcement)), "{words}");
        }
        let expected = Announced {
            listening_port: 6380,
            ip_address: Some("10.0.0.1".into()),
            eof: true,
            psync2: true,
            dual_channel: true,
            rdb_channel: true,
            rdb_client: Some(7),
            follow: true,
            rdb_only: true,
            filter: SnapshotFilter::default(),
            version: Some(9 << 16 | 1 << 8 | 2),
        };
        assert_eq!(announced, expected);
    }

    #[test]
    fn errors_are_valkeys() {
        let too_long = format!("ip-address|{}", "x".repeat(256));
        let cases = [
            ("ack", "ERR syntax error"),
            ("foo|bar", "ERR Unrecognized REPLCONF option: foo"),
            ("version|1.2", "ERR Unrecognized version format: 1.2"),
            ("version|1.2.999", "ERR Unrecognized version format: 1.2.999"),
            ("version|1.2.3.4", "ERR Unrecognized version format: 1.2.3.4"),
            ("version|", "ERR Unrecognized version format: "),
            ("rdb-only|2", "ERR value is out of range, value must between 0 and 1"),
            ("rdb-only|a", "ERR value is not an integer or out of range"),
            ("set-rdb-client-id|8", "ERR Unrecognized RDB client id 8"),
            ("rdb-channel|2", "ERR value is out of range, value must between 0 and 1"),
            ("listening-port|a", "ERR value is not an integer or out of range"),
            ("listening-port|06380", "ERR value is not an integer or out of range"),
            ("rdb-filter-only|foo", "ERR Unsupported rdb-filter-only option: foo"),
            (&too_long, "ERR REPLCONF ip-address provided by replica instance is too long: 256 bytes"),
        ];
        for (words, expected) in cases {
            assert_eq!(
                replconf(&mut Announced::default(), words).err().as_deref(),
                Some(expected),
                "{words}"
            );
        }
    }

    #[test]
    fn filter_names_what_stays() {
        let mut announced = Announced::default();
        assert!(announced.filter.is_everything());
        replconf(&mut announced, "rdb-filter-only|functions").ok();
        assert_eq!(announced.filter, SnapshotFilter { without_data: true, without_functions: false });
        replconf(&mut announced, "rdb-filter-only|").ok();
        assert_eq!(announced.filter, SnapshotFilter { without_data: true, without_functions: true });
    }

    #[test]
    fn acknowledgement_with_and_without_fsync() {
        let ack = |words| match replconf(&mut Announced::default(), words) {
            Ok(Parsed::Ack { offset, fsynced }) => (offset, fsynced),
            _ => panic!("not an acknowledgement"),
        };
        assert_eq!(ack("ACK|12"), (Some(12), None));
        assert_eq!(ack("ack|12|fack|7"), (Some(12), Some(7)));
        assert_eq!(ack("ack|x|fack|7"), (None, Some(7)));
        assert_eq!(ack("ack|1|hack|7"), (Some(1), None));
        assert!(matches!(replconf(&mut Announced::default(), "GETACK|*"), Ok(Parsed::GetAck)));
    }
}
