//! Scripts and functions against a small fake server.

mod debugger;
mod functions;
mod hostile;
mod patches;
mod scripts;
mod speed;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::*;
use crate::protocol::{ErrorReply, Reply};

const SLICE: Duration = Duration::from_millis(1);

/// A server with a few commands, some of which answer each kind of reply.
#[derive(Default)]
struct FakeHost {
    keys: HashMap<Vec<u8>, Vec<u8>>,
    calls: Vec<Vec<Vec<u8>>>,
    protocols: Vec<u8>,
    targets: Vec<EffectTargets>,
    logs: Vec<(LogLevel, Vec<u8>)>,
}

impl ScriptHost for FakeHost {
    fn call(&mut self, args: &[&[u8]]) -> Reply<'_> {
        if self.calls.len() < 100 {
            self.calls.push(args.iter().map(|arg| arg.to_vec()).collect());
        }
        let text = |text: &'static str| Reply::Owned(text.into());
        match args {
            [b"SET", key, value] => {
                self.keys.insert(key.to_vec(), value.to_vec());
                Reply::Ok
            }
            [b"GET", key] => self.keys.get(*key).map_or(Reply::Nil, |value| Reply::Bulk(value)),
            [b"PING"] => Reply::Status("PONG".into()),
            [b"ECHO", value] => Reply::Owned(value.to_vec()),
            [b"COUNT", ..] => Reply::Integer(args.len() as i64),
            [b"FAIL"] => Reply::Error(ErrorReply::WRONG_TYPE),
            [b"BOOL"] => Reply::Bool(true),
            [b"DOUBLE"] => Reply::Double(3.5),
            [b"BIG"] => Reply::BigNumber(b"12345678901234567890".to_vec()),
            [b"VERBATIM"] => Reply::Verbatim(*b"txt", b"hello".to_vec()),
            [b"MAP"] => Reply::Map(vec![(text("a"), Reply::Integer(1))]),
            [b"SETOF"] => Reply::Set(vec![text("a")]),
            [b"ARRAY"] => Reply::Array(vec![Reply::Integer(1), Reply::Nil, Reply::NilArray, text("z")]),
            [b"LARGE"] => Reply::Array((0..1_000_000).map(Reply::Integer).collect()),
            [b"PANIC"] => panic!("the host panics"),
            _ => Reply::Error(ErrorReply::new("ERR Unknown command called from script")),
        }
    }

    fn set_response_protocol(&mut self, version: u8) {
        self.protocols.push(version);
    }

    fn set_effect_targets(&mut self, targets: EffectTargets) {
        self.targets.push(targets);
    }

    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool> {
        match args[0] {
            b"GET" => Some(true),
            b"SET" => Some(false),
            _ => None,
        }
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        self.logs.push((level, message.to_vec()));
    }
}

fn script(body: &str) -> Arc<Script> {
    Arc::new(Script::new(body.as_bytes()).unwrap_or_else(|error| panic!("{body}: {error:?}")))
}

fn start(engine: &mut Engine, body: &str, keys: &[&[u8]], arguments: &[&[u8]]) -> ScriptRun {
    let script = script(body);
    engine.start(ScriptCall { code: Code::Script(&script), keys, arguments }).expect("started")
}

/// An engine whose scripts find all that any can find.
fn open_engine() -> Engine {
    let settings = EngineSettings { insecure_api: true.into(), ..EngineSettings::default() };
    Engine::with_settings(Arc::new(settings))
}

/// Runs to the end.
fn finish(engine: &mut Engine, mut run: ScriptRun, host: &mut FakeHost) -> ScriptResult {
    let started = Instant::now();
    loop {
        match engine.resume(&mut run, host, SLICE) {
            Progress::Done(result) => return result,
            Progress::Suspended => {
                assert!(started.elapsed() < Duration::from_secs(60), "the script does not end")
            }
        }
    }
}

/// The result of a script in a new engine, as it would stand in a terminal.
fn eval(body: &str) -> String {
    let mut engine = open_engine();
    let run = start(&mut engine, body, &[b"k1", b"k2"], &[b"a1", b"a2"]);
    let shown = show(&finish(&mut engine, run, &mut FakeHost::default()).reply);
    // Whatever happened, the next script finds a clean state.
    let run = start(&mut engine, "return {#KEYS, #ARGV}", &[], &[]);
    assert_eq!(show(&finish(&mut engine, run, &mut FakeHost::default()).reply), "[0 0]", "after {body}");
    shown
}

fn show(reply: &Reply<'_>) -> String {
    let all = |replies: &[Reply<'_>]| replies.iter().map(show).collect::<Vec<_>>().join(" ");
    match reply {
        Reply::Ok => "+OK".into(),
        Reply::Status(text) => format!("+{text}"),
        Reply::Error(error) => format!("-{}", String::from_utf8_lossy(&error.0)),
        Reply::Integer(number) => number.to_string(),
        Reply::Bulk(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Reply::Owned(bytes) => format!("{:?}", String::from_utf8_lossy(bytes)),
        Reply::Nil => "nil".into(),
        Reply::Bool(value) => format!("#{value}"),
        Reply::Double(number) => format!(",{number}"),
        Reply::BigNumber(digits) => format!("({}", String::from_utf8_lossy(digits)),
        Reply::Verbatim(format, text) => {
            format!("={}:{}", String::from_utf8_lossy(format), String::from_utf8_lossy(text))
        }
        Reply::Array(replies) => format!("[{}]", all(replies)),
        Reply::Set(replies) => format!("~[{}]", all(replies)),
        Reply::Map(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{}={}", show(key), show(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(" "))
        }
        other => format!("{other:?}"),
    }
}
