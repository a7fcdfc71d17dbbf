//! Readers of what anybody may have written, each with what must hold whatever it is given: no panic, and what is read is what
//! was meant. The fuzz targets and the tests with mutated samples both run these.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use understudy::acl::{ChannelDefault, User};
use understudy::base::crc64::crc64;
use understudy::base::file::{FileSystem, MemoryFileSystem, Open, append_all};
use understudy::base::glob::{self, Case};
use understudy::failover::RoleFile;
use understudy::keyspace::Settings;
use understudy::protocol::request::{Limits, Parsed, ProtocolError, RequestParser};
use understudy::rdb;
use understudy::replication::{
    Action, Address, History, LinkSettings, LoadStrategy, PrimarySettings, Replication, ReplicationId, Role,
    StreamView, Turn,
};
use understudy::scripting::{Code, Engine, NoHost, Progress, Script, ScriptCall};
use understudy::server::config::{Accept, Config, Source};
use understudy::stream::aof::{CommandReader, LoadError, Manifest, StreamState};

/// A reader; `false`: it refused what it was given.
pub type Reader = fn(&[u8]) -> bool;

/// The manifest of an AOF: what is read can be written and read again.
pub fn manifest(bytes: &[u8]) -> bool {
    let Ok(manifest) = Manifest::parse(bytes) else { return false };
    if !manifest.format().is_empty() {
        let again = Manifest::parse(&manifest.format()).expect("what was written can be read");
        assert_eq!(again.format(), manifest.format());
    }
    true
}

/// An incr file: what is cut to its whole commands reads without an error, to the same commands.
pub fn incr_file(bytes: &[u8]) -> bool {
    let (commands, valid, error) = read_commands(bytes);
    assert!(valid as usize <= bytes.len());
    if matches!(error, Some(LoadError::Truncated)) {
        let (again, valid_again, error) = read_commands(&bytes[..valid as usize]);
        assert!(error.is_none() && valid_again == valid, "{error:?}");
        assert!(commands.starts_with(&again));
    }
    error.is_none()
}

fn read_commands(bytes: &[u8]) -> (Vec<Vec<u8>>, u64, Option<LoadError>) {
    let files = MemoryFileSystem::new();
    let mut file = files.open(Path::new("incr"), Open::Create).expect("a new file");
    append_all(&mut *file, bytes).expect("into memory");
    let mut reader = CommandReader::new(file, 0);
    let mut commands = Vec::new();
    loop {
        match reader.read() {
            Ok(Some(command)) => commands.push(command.bytes.to_vec()),
            Ok(None) => return (commands, reader.valid_len(), None),
            Err(error) => return (commands, reader.valid_len(), Some(error)),
        }
    }
}

/// A state file's payload, in an envelope whose checksum is right.
fn envelope(magic: &[u8; 8], payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u32).to_le_bytes();
    let mut bytes = [&magic[..], &[1], &length, payload].concat();
    bytes.extend_from_slice(&crc64(0, &bytes).to_le_bytes());
    bytes
}

/// The file that holds the role, with the envelope as it is and with one that fits.
pub fn role_file(bytes: &[u8]) -> bool {
    let read = |bytes: &[u8]| {
        let files = MemoryFileSystem::new();
        let path = PathBuf::from("role.state");
        append_all(&mut *files.open(&path, Open::Create).expect("a new file"), bytes).expect("into memory");
        let (_, state) = RoleFile::open(Arc::new(files), path, None);
        state.is_some_and(|state| {
            let _ = (state.role(), state.replid());
            true
        })
    };
    read(bytes) | read(&envelope(b"UNDSROLE", bytes))
}

/// The file that holds the state of the stream.
pub fn stream_state(bytes: &[u8]) -> bool {
    let state = StreamState::decode(bytes).or_else(|| StreamState::decode(&envelope(b"UNDSTREA", bytes)));
    let Some(state) = state else { return false };
    let again = StreamState::decode(&state.encode().expect("what was read can be written"));
    assert_eq!(again, Some(state));
    true
}

/// A configuration file, without other files in it.
pub fn configuration(bytes: &[u8]) -> bool {
    if bytes.to_ascii_lowercase().windows(7).any(|word| word == b"include") {
        return false;
    }
    let mut config = Config::default();
    let source = Source { file: None, stdin: Some(bytes), options: b"" };
    let outcome = config.load(&source, &mut Accept);
    let _ = config.get(&[b"*"]);
    match outcome {
        Ok(()) => true,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            false
        }
    }
}

/// A payload of RESTORE, with its end as it is and with one that fits: what is read can be dumped and read again.
pub fn restore(bytes: &[u8]) -> bool {
    let settings = Settings::default();
    let mut whole = [bytes, &11u16.to_le_bytes()].concat();
    whole.extend_from_slice(&crc64(0, &whole).to_le_bytes());
    let read = |payload: &[u8]| {
        let Ok(Some(entry)) = rdb::restore(payload, b"key", &settings) else { return false };
        let dumped = rdb::dump(&entry);
        assert!(matches!(rdb::restore(&dumped, b"key", &settings), Ok(Some(_))), "its own payload");
        true
    };
    read(bytes) | read(&whole)
}

/// Rules of ACL SETUSER: the description of a user that they made makes the same user.
pub fn acl_rules(bytes: &[u8]) -> bool {
    static TABLE: std::sync::LazyLock<understudy::server::table::Table> =
        std::sync::LazyLock::new(understudy::server::table::build);
    let words: Vec<&[u8]> = bytes.split(|byte| *byte == b' ').collect();
    let mut user = User::new(b"someone", ChannelDefault::None);
    if user.apply_all(&words, &TABLE, ChannelDefault::None).is_err() {
        return false;
    }
    let described = user.describe();
    let words: Vec<&[u8]> = described.split(|byte| *byte == b' ').collect();
    let mut again = User::new(b"someone", ChannelDefault::None);
    again.apply_all(&words, &TABLE, ChannelDefault::None).expect("a description is made of rules");
    assert_eq!(again.describe(), described);
    true
}

/// A pattern and a text, with a line's end between them.
pub fn glob_pattern(bytes: &[u8]) -> bool {
    let at = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
    let (pattern, text) = (&bytes[..at], bytes.get(at + 1..).unwrap_or_default());
    let fits = glob::matches(pattern, text, Case::Sensitive);
    if !pattern.iter().any(|byte| b"*?[]\\".contains(byte)) {
        assert_eq!(fits, pattern == text);
    }
    glob::matches(pattern, text, Case::Insensitive) || fits
}

/// What the libraries of scripts decode, and a script's source: the engine answers, and is whole afterwards.
pub fn script(bytes: &[u8]) -> bool {
    thread_local! {
        static ENGINE: std::cell::RefCell<Engine> = std::cell::RefCell::new(Engine::new());
    }
    const DECODERS: &[u8] = b"local ok, a = pcall(cjson.decode, ARGV[1]) \
        if ok then pcall(cjson.encode, a) end \
        local ok, b = pcall(cmsgpack.unpack, ARGV[1]) \
        if ok then pcall(cmsgpack.pack, b) end \
        pcall(struct.unpack, '>I2s', ARGV[1]) \
        return redis.sha1hex(ARGV[1])";
    ENGINE.with_borrow_mut(|engine| {
        assert!(run(engine, DECODERS, bytes), "the decoders' errors are caught");
        let answered = run(engine, bytes, b"");
        assert!(run(engine, b"return {#KEYS, #ARGV}", b""));
        answered
    })
}

fn run(engine: &mut Engine, body: &[u8], argument: &[u8]) -> bool {
    let Ok(script) = Script::new(body) else { return false };
    let script = Arc::new(script);
    let call = ScriptCall { code: Code::Script(&script), keys: &[], arguments: &[argument] };
    let Ok(mut run) = engine.start(call) else { return false };
    // What goes on for longer is given up, as a client does who is gone.
    for _ in 0..20 {
        if let Progress::Done(result) =
            engine.resume(&mut run, &mut NoHost, std::time::Duration::from_millis(5))
        {
            return !matches!(result.reply, understudy::protocol::Reply::Error(_));
        }
    }
    false
}

/// What a primary says, from the first answer on: however it is cut it means the same.
pub fn primary(bytes: &[u8]) -> bool {
    let whole = follow(bytes, usize::MAX);
    assert_eq!(follow(bytes, 1).1, whole.1, "in single bytes");
    whole.0
}

/// Did the link get to a stream, and which bytes of a snapshot and of the stream came out of it?
fn follow(bytes: &[u8], piece: usize) -> (bool, [Vec<u8>; 2]) {
    let settings = understudy::replication::Settings {
        primary: PrimarySettings::default(),
        link: LinkSettings {
            user: None,
            password: None,
            announce_ip: None,
            announce_port: 6379,
            version: "9.1.0",
            follow_failover: true,
            timeout_ms: 60_000,
            load: LoadStrategy::Swap,
            dual_channel: false,
            early_limit_bytes: 0,
        },
    };
    let id = ReplicationId::from_random([1; 20]);
    let history = History::of_restarted_replica(id, Vec::new());
    let role = Role::Replica(Address::new("primary", 6379));
    let mut replication = Replication::new(settings, history, role, 0);
    let mut out = [Vec::new(), Vec::new()];
    let mut pending = Vec::new();
    let turn = |replication: &mut Replication, event: &mut dyn FnMut(&mut Replication, &mut Turn<'_>)| {
        let mut fresh = || ReplicationId::from_random([2; 20]);
        let stream = StreamView { end: 100, kept_from: Some(0), fsynced: None, database: 0 };
        let mut actions = Vec::new();
        event(replication, &mut Turn { now_ms: 0, stream, fresh_id: &mut fresh, actions: &mut actions });
        actions
    };
    let begun = turn(&mut replication, &mut |replication, turn| replication.tick(turn));
    let attempt = begun.iter().find_map(|action| match action {
        Action::Connect { attempt, .. } => Some(*attempt),
        _ => None,
    });
    let attempt = attempt.expect("a link begins with a connection");
    turn(&mut replication, &mut |replication, turn| replication.link_connected(attempt, turn));
    for piece in bytes.chunks(piece) {
        let piece = bytes::Bytes::copy_from_slice(piece);
        pending.extend(turn(&mut replication, &mut |replication, turn| {
            replication.link_received(attempt, piece.clone(), turn);
        }));
        for action in std::mem::take(&mut pending) {
            match action {
                Action::FeedLoader { bytes, .. } => out[0].extend_from_slice(&bytes),
                Action::ApplyStream { bytes, .. } => out[1].extend_from_slice(&bytes),
                Action::FinishLoad { attempt } => {
                    pending.extend(turn(&mut replication, &mut |replication, turn| {
                        replication.loaded(attempt, Ok(()), turn);
                    }));
                }
                _ => {}
            }
        }
    }
    for action in pending {
        if let Action::ApplyStream { bytes, .. } = action {
            out[1].extend_from_slice(&bytes);
        }
    }
    (replication.link().is_some_and(|link| link.is_connected()), out)
}

type Requests = (Vec<Vec<Vec<u8>>>, Option<ProtocolError>);

/// Feeds `bytes` in pieces of `piece` bytes; the requests, and the error that ended them.
fn parse(bytes: &[u8], piece: usize, limits: &Limits) -> Requests {
    let mut parser = RequestParser::new();
    let (mut buffer, mut requests) = (Vec::new(), Vec::new());
    for piece in bytes.chunks(piece) {
        buffer.extend_from_slice(piece);
        loop {
            let mut arguments = Vec::new();
            match parser.next(&mut buffer, limits, &mut arguments) {
                Ok(Parsed::Request { .. }) => {
                    requests.push(arguments.iter().map(|argument| argument.of(&buffer).to_vec()).collect());
                }
                Ok(Parsed::Incomplete { missing }) => {
                    assert!(missing > 0);
                    break;
                }
                Ok(_) => assert!(arguments.is_empty()),
                Err(error) => return (requests, Some(error)),
            }
        }
        let consumed = parser.consumed();
        buffer.drain(..consumed);
        parser.discard(consumed);
    }
    (requests, None)
}

/// Requests from anyone: however they are cut, they mean the same.
pub fn requests(bytes: &[u8]) -> bool {
    let unknown = Limits { unauthenticated: true, ..Limits::client(1 << 20) };
    for limits in [Limits::STREAM, unknown] {
        let whole = parse(bytes, usize::MAX, &limits);
        assert_eq!(parse(bytes, 1, &limits), whole);
    }
    let limits = Limits::client(1 << 20);
    let whole = parse(bytes, usize::MAX, &limits);
    assert_eq!(parse(bytes, 1, &limits), whole);
    assert_eq!(parse(bytes, 7, &limits), whole);
    whole.1.is_none()
}
