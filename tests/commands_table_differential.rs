//! The command table against a real Valkey 9.1: COMMAND INFO, the structure of COMMAND DOCS, and the keys of calls.
//!
//! Summaries, complexities and the texts of notes and histories are our own, so only that they are there is compared.
//!
//! Needs a server binary: `VALKEY_SERVER=/path/to/valkey-server cargo test --test commands_table_differential -- --ignored`.

use std::collections::BTreeMap;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use redis::{Client, Connection, Value};

struct Server {
    process: Child,
    folder: tempfile::TempDir,
}

impl Server {
    fn start(binary: &str) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let process = Command::new(binary)
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(folder.path().join("socket"))
            .current_dir(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("started");
        Server { process, folder }
    }

    fn connect(&self) -> Connection {
        let url = format!("unix://{}", self.folder.path().join("socket").display());
        let client = Client::open(url).expect("an address");
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            match client.get_connection() {
                Ok(connection) => return connection,
                Err(error) if Instant::now() > deadline => panic!("the server does not answer: {error}"),
                Err(_) => std::thread::sleep(Duration::from_millis(20)),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn servers() -> (Server, Server) {
    let theirs = std::env::var("VALKEY_SERVER").expect("VALKEY_SERVER names the binary of a Valkey 9.1");
    (Server::start(env!("CARGO_BIN_EXE_understudy")), Server::start(&theirs))
}

fn ask(connection: &mut Connection, words: &[&str]) -> Value {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query(connection).unwrap_or_else(|error| {
        Value::SimpleString(format!("{} {}", error.code().unwrap_or("?"), error.detail().unwrap_or("?")))
    })
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        other => panic!("an array, not {other:?}"),
    }
}

fn text(value: &Value) -> String {
    match value {
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Int(number) => number.to_string(),
        Value::Nil => "nil".to_owned(),
        Value::Array(items) => format!("[{}]", items.iter().map(text).collect::<Vec<_>>().join(" ")),
        other => format!("{other:?}"),
    }
}

/// The fields of a map, which RESP2 sends flat.
fn fields(value: &Value) -> BTreeMap<String, &Value> {
    items(value).chunks(2).map(|pair| (text(&pair[0]), &pair[1])).collect()
}

fn sorted(value: &Value) -> String {
    let mut words: Vec<String> = items(value).iter().map(text).collect();
    words.sort();
    words.join(" ")
}

/// Lines of `what: value` about a command, by which two servers are compared.
type Facts = BTreeMap<String, String>;

fn info_facts(info: &Value, facts: &mut Facts) {
    let parts = items(info);
    let name = text(&parts[0]);
    let mut put = |what: &str, value: String| facts.insert(format!("{name}: {what}"), value);
    put("arity", text(&parts[1]));
    put("flags", sorted(&parts[2]));
    put("range", format!("{} {} {}", text(&parts[3]), text(&parts[4]), text(&parts[5])));
    put("categories", sorted(&parts[6]));
    put("tips", text(&parts[7]));
    for (index, spec) in items(&parts[8]).iter().enumerate() {
        let spec = fields(spec);
        if spec.contains_key("notes") {
            put(&format!("key {index} has a note"), String::new());
        }
        put(&format!("key {index} flags"), sorted(spec["flags"]));
        put(&format!("key {index} begins"), text(spec["begin_search"]));
        put(&format!("key {index} found"), text(spec["find_keys"]));
    }
    for child in items(&parts[9]) {
        info_facts(child, facts);
    }
}

fn docs_facts(name: &str, docs: &Value, facts: &mut Facts) {
    let docs = fields(docs);
    for (field, value) in &docs {
        let what = format!("{name}: {field}");
        match field.as_str() {
            "summary" | "complexity" => assert!(!text(value).is_empty(), "{what}"),
            "history" => {
                let versions = items(value).iter().map(|entry| text(&items(entry)[0]));
                facts.insert(what, versions.collect::<Vec<_>>().join(" "));
            }
            "arguments" => {
                let since = text(docs["since"]);
                for (index, argument) in items(value).iter().enumerate() {
                    facts.insert(format!("{name}: argument {index}"), argument_text(argument, &since));
                }
            }
            "subcommands" => {
                for pair in items(value).chunks(2) {
                    docs_facts(&text(&pair[0]), &pair[1], facts);
                }
            }
            _ => {
                facts.insert(what, text(value));
            }
        }
    }
}

fn argument_text(argument: &Value, command_since: &str) -> String {
    let mut shown = Vec::new();
    let fields = fields(argument);
    for (field, value) in &fields {
        match field.as_str() {
            "summary" => shown.push("has a summary".to_owned()),
            // Said of some arguments that are as old as their command.
            "since" if text(value) == command_since => {}
            // The count of fields is marked as a key there.
            "key_spec_index" if text(fields["name"]) == "numfields" => {}
            "arguments" => {
                shown.extend(
                    items(value).iter().map(|part| format!("({})", argument_text(part, command_since))),
                );
            }
            _ => shown.push(format!("{field}={}", text(value))),
        }
    }
    shown.join(" ")
}

/// What differs on purpose, and why.
const ON_PURPOSE: &[(&str, &str)] =
    &[("script|kill: arity", "takes ROLLBACK"), ("function|kill: arity", "takes ROLLBACK")];

/// The commands of Valkey that ours has too, with what differs of each.
fn differences(ours: &Facts, theirs: &Facts) -> Vec<String> {
    let names: std::collections::BTreeSet<&str> =
        ours.keys().filter_map(|fact| fact.split(':').next()).collect();
    let known = |fact: &&String| fact.split(':').next().is_some_and(|name| names.contains(name));
    let all: std::collections::BTreeSet<&String> = ours.keys().chain(theirs.keys().filter(known)).collect();
    all.into_iter()
        .filter(|fact| ours.get(*fact) != theirs.get(*fact))
        // More may be said than there.
        .filter(|fact| !(fact.ends_with("has a note") && ours.contains_key(*fact)))
        .filter(|fact| !ON_PURPOSE.iter().any(|(known, _)| known == fact))
        .map(|fact| format!("{fact}: ours {:?}, theirs {:?}", ours.get(fact), theirs.get(fact)))
        .collect()
}

#[test]
#[ignore = "needs a Valkey server: see above"]
fn command_info_and_docs_are_equal() {
    let (ours, theirs) = servers();
    let (mut ours, mut theirs) = (ours.connect(), theirs.connect());
    let facts = |connection: &mut Connection| {
        let mut facts = Facts::new();
        for info in items(&ask(connection, &["COMMAND"])) {
            info_facts(info, &mut facts);
        }
        for pair in items(&ask(connection, &["COMMAND", "DOCS"])).chunks(2) {
            docs_facts(&text(&pair[0]), &pair[1], &mut facts);
        }
        facts
    };
    let (ours, theirs) = (facts(&mut ours), facts(&mut theirs));
    assert!(ours.len() > 1500, "only {} facts", ours.len());
    let differences = differences(&ours, &theirs);
    assert!(differences.is_empty(), "{}", differences.join("\n"));
}

#[test]
#[ignore = "needs a Valkey server: see above"]
fn every_command_is_one_of_theirs() {
    let (ours, theirs) = servers();
    let list = |server: &Server| -> Vec<String> {
        items(&ask(&mut server.connect(), &["COMMAND", "LIST"])).iter().map(text).collect()
    };
    let (ours, theirs) = (list(&ours), list(&theirs));
    let unknown: Vec<&String> = ours.iter().filter(|name| !theirs.contains(name)).collect();
    assert!(unknown.is_empty(), "{unknown:?}");
}

/// Calls whose keys are asked for, and other questions to COMMAND with short answers.
const CALLS: &[&str] = &[
    "getkeys get a",
    "getkeys get",
    "getkeys get a b",
    "getkeys nothing a",
    "getkeys ping",
    "getkeys config get a",
    "getkeys config",
    "getkeys config nothing",
    "getkeys object encoding a",
    "getkeys object|encoding a",
    "getkeys memory usage a",
    "getkeys mget a b c",
    "getkeys mset a 1 b 2",
    "getkeys mset a 1 b",
    "getkeys msetex 2 a 1 b 2",
    "getkeys msetex 3 a 1 b 2",
    "getkeys set a 1",
    "getkeys del a b",
    "getkeys rename a b",
    "getkeys copy a b",
    "getkeys sort a",
    "getkeys sort a by x get y store b",
    "getkeys sort a store b store c",
    "getkeys sort a limit 0 store",
    "getkeys sort_ro a by x get y",
    "getkeys blpop a b 0",
    "getkeys lmpop 2 a b left",
    "getkeys lmpop 0 a left",
    "getkeys lmpop 9 a left",
    "getkeys lmpop x a left",
    "getkeys blmpop 0 2 a b left",
    "getkeys zunionstore d 2 a b",
    "getkeys zunionstore d 0 a b",
    "getkeys zunion 2 a b weights 1 2",
    "getkeys sintercard 2 a b",
    "getkeys sinterstore d a b",
    "getkeys eval return 2 a b c",
    "getkeys eval return 0",
    "getkeys eval return 0 c",
    "getkeys eval return x c",
    "getkeys eval return 9 c",
    "getkeys fcall f 1 a b",
    "getkeys spublish a b",
    "getkeys ssubscribe a b",
    "getkeys subscribe a b",
    "getkeys watch a b",
    "getkeys exec",
    "getkeys",
    "getkeysandflags set a 1",
    "getkeysandflags set a 1 get",
    "getkeysandflags set a 1 ex 10 GET",
    "getkeysandflags mset a 1 b 2",
    "getkeysandflags sort a by x get y store b",
    "getkeysandflags sort a",
    "getkeysandflags lmove a b left right",
    "getkeysandflags sintercard 2 a b",
    "getkeysandflags zunionstore d 2 a b",
    "getkeysandflags eval return 2 a b c",
    "getkeysandflags eval_ro return 2 a b c",
    "getkeysandflags getex a ex 10",
    "getkeysandflags bitfield a",
    "getkeysandflags bitfield a get u8 0",
    "getkeysandflags bitfield a get u8 0 set u8 0 1",
    "getkeysandflags bitfield a overflow sat incrby u8 0 1",
    "getkeysandflags bitfield a overflow sat get u8 0",
    "getkeysandflags bitfield a nonsense",
    "getkeysandflags bitfield a set u8 0",
    "getkeysandflags bitfield a get u8",
    "getkeysandflags bitop and d a b",
    "getkeysandflags pfcount a b",
    "getkeysandflags pfmerge d a b",
    "getkeysandflags pfdebug encoding a",
    "getkeysandflags nothing",
    "info nothing",
    "info get|x",
    "info config|nothing",
    "docs nothing",
    "docs get|x",
    "list filterby module json",
    "list filterby aclcat nothing",
    "list filterby pattern nothing*",
    "list filterby nothing x",
    "list filterby aclcat",
    "list nothing",
    "nothing",
    "count 1",
];

#[test]
#[ignore = "needs a Valkey server: see above"]
fn the_keys_of_calls_are_equal() {
    let (ours, theirs) = servers();
    let (mut ours, mut theirs) = (ours.connect(), theirs.connect());
    for line in CALLS {
        let words: Vec<&str> = std::iter::once("COMMAND").chain(line.split(' ')).collect();
        assert_eq!(text(&ask(&mut ours, &words)), text(&ask(&mut theirs, &words)), "{line}");
    }
}

#[test]
#[ignore = "needs a Valkey server: see above"]
fn resp3_has_the_same_shapes() {
    let (ours, theirs) = servers();
    let shapes = |server: &Server| {
        let mut connection = server.connect();
        ask(&mut connection, &["HELLO", "3"]);
        [["INFO", "set"], ["INFO", "zunionstore"], ["DOCS", "getex"], ["GETKEYSANDFLAGS", "get"]].map(
            |[subcommand, name]| {
                let mut words = vec!["COMMAND", subcommand, name];
                words.extend((subcommand == "GETKEYSANDFLAGS").then_some("a"));
                shape(&ask(&mut connection, &words))
            },
        )
    };
    assert_eq!(shapes(&ours), shapes(&theirs));
}

/// The types of a reply, nested as it is.
fn shape(value: &Value) -> String {
    let all = |items: &[Value]| items.iter().map(shape).collect::<Vec<_>>().join(" ");
    match value {
        Value::Array(items) => format!("[{}]", all(items)),
        Value::Set(items) => format!("~[{}]", all(items)),
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(key, value)| format!("{}: {}", text(key), shape(value)));
            format!("{{{}}}", pairs.collect::<Vec<_>>().join(", "))
        }
        Value::BulkString(_) => "bulk".to_owned(),
        Value::SimpleString(_) | Value::Okay => "status".to_owned(),
        Value::Int(_) => "integer".to_owned(),
        other => format!("{other:?}"),
    }
}
