//! Users against a real Valkey 9.1: the same replies to random ACL SETUSER, the same texts of GETUSER and LIST, and the same
//! answers of DRYRUN, byte for byte.
//!
//! Needs a server binary: `VALKEY_SERVER=/path/to/valkey-server cargo test --test acl_differential -- --ignored`.
//! `SEED` and `USERS` choose other cases and how many.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use fastrand::Rng;
use redis::{Connection, Value};

struct Server {
    process: Child,
    _folder: tempfile::TempDir,
    connection: Connection,
}

impl Server {
    fn start(binary: &str) -> Server {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let process = Command::new(binary)
            .args(["--port", "0", "--save", "", "--unixsocket"])
            .arg(&socket)
            .arg("--dir")
            .arg(folder.path())
            .stdout(Stdio::null())
            .spawn()
            .expect("the server starts");
        let connection = connect(&socket);
        Server { process, _folder: folder, connection }
    }

    fn ask(&mut self, words: &[&str]) -> String {
        let mut command = redis::Cmd::new();
        for word in words {
            command.arg(*word);
        }
        match command.query::<Value>(&mut self.connection) {
            Ok(value) => format!("{value:?}"),
            Err(error) => error.to_string(),
        }
    }

    /// What is known of the user `z`.
    fn shown(&mut self) -> String {
        let list: Vec<String> = redis::cmd("ACL").arg("LIST").query(&mut self.connection).expect("an answer");
        let line = list.into_iter().find(|line| line.starts_with("user z "));
        format!("{} {line:?}", self.ask(&["ACL", "GETUSER", "z"]))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn connect(socket: &Path) -> Connection {
    let client = redis::Client::open(format!("unix://{}", socket.display())).expect("an address");
    (0..100)
        .find_map(|_| client.get_connection().map_err(|_| std::thread::sleep(Duration::from_millis(50))).ok())
        .expect("a server that answers")
}

/// The commands that both servers have, with the categories that both list.
struct Vocabulary {
    categories: Vec<String>,
    commands: Vec<String>,
}

impl Vocabulary {
    fn read(ours: &mut Server, theirs: &mut Server) -> Self {
        let ask = |server: &mut Server, category: &str| -> Vec<String> {
            let mut command = redis::cmd("ACL");
            command.arg("CAT");
            if !category.is_empty() {
                command.arg(category);
            }
            command.query(&mut server.connection).expect("an answer")
        };
        let categories = ask(ours, "");
        assert_eq!(categories, ask(theirs, ""));
        let mut commands = Vec::new();
        for category in &categories {
            let known = ask(theirs, category);
            let mut here = ask(ours, category);
            here.retain(|name| {
                assert!(known.contains(name), "{name} is in {category} here only");
                !commands.contains(name)
            });
            commands.extend(here);
        }
        Vocabulary { categories, commands }
    }
}

fn one<'a, T: ?Sized>(random: &mut Rng, among: &[&'a T]) -> &'a T {
    among[random.usize(..among.len())]
}

const PATTERNS: &[&str] = &["a*", "b*", "k1", "foo:?", "[a-c]x", "", "a b", "*"];
const FIRST_ARGUMENTS: &[&str] = &["0", "1", "x", "", "GET", "get|b"];
const SELECTOR_WORDS: &[&str] = &[
    "allkeys",
    "resetkeys",
    "~*",
    "allchannels",
    "resetchannels",
    "&*",
    "alldbs",
    "resetdbs",
    "db=0",
    "DB=1,0",
    "db=3",
    "db=",
    "db=x",
    "db=-1",
    "db=2,16,3",
    "+nosuch",
    "-@nosuch",
    "nonsense",
    "-get|x",
    "+config|get|x",
    "%",
    "%RR~a",
];
const USER_WORDS: &[&str] = &[
    "on",
    "off",
    "nopass",
    "resetpass",
    "reset",
    "clearselectors",
    "sanitize-payload",
    ">p1",
    ">p2",
    "<p1",
    "<p2",
    "#x",
    "#abababababababababababababababababababababababababababababababab",
    "!abababababababababababababababababababababababababababababababab",
];

fn rule(random: &mut Rng, words: &Vocabulary, in_selector: bool) -> String {
    let text = match random.u8(..100) {
        0..40 => {
            format!(
                "{}{}",
                one(random, &["+", "+", "-"]),
                words.commands[random.usize(..words.commands.len())]
            )
        }
        40..56 => {
            format!(
                "{}@{}",
                one(random, &["+", "-"]),
                words.categories[random.usize(..words.categories.len())]
            )
        }
        56..61 => one(random, &["allcommands", "nocommands", "+@all", "-@all"]).to_owned(),
        61..66 => format!(
            "+{}|{}",
            words.commands[random.usize(..words.commands.len())],
            one(random, FIRST_ARGUMENTS)
        ),
        66..76 => format!("{}{}", one(random, &["~", "%R~", "%w~", "%RW~"]), one(random, &PATTERNS[..7])),
        76..79 => format!("{}*", one(random, &["%R~", "%W~"])),
        79..83 => format!("&{}", one(random, PATTERNS)),
        83..92 => one(random, SELECTOR_WORDS).to_owned(),
        _ if in_selector => "+get".to_owned(),
        _ => one(random, USER_WORDS).to_owned(),
    };
    if random.u8(..4) == 0 && !text.starts_with(['#', '!', '>', '<']) { text.to_uppercase() } else { text }
}

fn rules(random: &mut Rng, words: &Vocabulary) -> Vec<String> {
    let mut rules = Vec::new();
    for _ in 0..random.usize(1..8) {
        if random.u8(..6) > 0 {
            rules.push(rule(random, words, false));
            continue;
        }
        let inner: Vec<String> = (0..random.usize(..4)).map(|_| rule(random, words, true)).collect();
        let selector = format!("({})", inner.join(" "));
        match random.bool() {
            true => rules.push(selector),
            false => rules.extend(selector.split(' ').map(str::to_owned)),
        }
    }
    // A lone percent sign ends a real server once it is listed.
    rules.retain(|rule| !rule.contains('%') || rule.contains('~'));
    rules
}

const CALLS: &[&str] = &[
    "get a",
    "get b",
    "GET a x",
    "set a 1",
    "set b 1 GET",
    "mget a b k1",
    "del a",
    "copy a b",
    "copy a b DB 1",
    "move a 1",
    "move a x",
    "select 0",
    "select 1",
    "select 99",
    "swapdb 0 3",
    "flushall",
    "flushdb",
    "keys *",
    "dbsize",
    "ping",
    "auth x",
    "publish a m",
    "publish k1 m",
    "subscribe a b",
    "psubscribe a*",
    "spublish b m",
    "ssubscribe a",
    "unsubscribe z",
    "config get x",
    "config set a b",
    "config",
    "config nosuch",
    "nosuch",
    "acl whoami",
    "acl list",
    "client list",
    "eval x 1 a",
    "eval x 0",
    "eval x 5 a",
    "eval_ro x 1 k1",
    "sort a",
    "sort a STORE b",
    "sort_ro a BY b*",
    "sort b LIMIT 0 1 STORE k1",
    "lmove a b LEFT LEFT",
    "zunionstore a 2 b k1",
    "sintercard 2 a b",
    "object encoding a",
    "watch a b",
    "info",
    "scan 0",
    "hset a b c",
    "lpush foo:x 1",
    "zadd ax 1 a",
    "expire a 1",
    "rename a b",
    "touch a b",
    "strlen b",
    "getex a",
    "incr a",
    "function load x",
    "script load x",
    "debug sleep 0",
    "shutdown",
    "slowlog get",
    "blpop a b 0",
    "multi",
    "exec",
    "reset",
    "quit",
    "hello 3",
    "wait 0 0",
    "mset a 1 b 2",
    "msetex 1 a b",
    "get",
];

#[test]
#[ignore = "needs a Valkey server: see above"]
fn users_are_described_and_checked_as_by_valkey() {
    let number = |name: &str, default: u64| {
        std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
    };
    let mut random = Rng::with_seed(number("SEED", 1));
    let theirs = std::env::var("VALKEY_SERVER").expect("VALKEY_SERVER names the binary of a Valkey 9.1");
    let mut theirs = Server::start(&theirs);
    let mut ours = Server::start(env!("CARGO_BIN_EXE_understudy"));
    let vocabulary = Vocabulary::read(&mut ours, &mut theirs);
    let mut compared = 0;
    for _ in 0..number("USERS", 300) {
        for server in [&mut ours, &mut theirs] {
            server.ask(&["ACL", "DELUSER", "z"]);
        }
        for _ in 0..random.usize(1..4) {
            let rules = rules(&mut random, &vocabulary);
            let mut words = vec!["ACL", "SETUSER", "z"];
            words.extend(rules.iter().map(String::as_str));
            assert_eq!(ours.ask(&words), theirs.ask(&words), "{words:?}");
            // What Valkey shows as `~*` in front of other patterns it could not read again.
            assert_eq!(ours.shown().replace("%RW~* ", "~* "), theirs.shown(), "{words:?}");
        }
        for call in CALLS {
            let words: Vec<&str> = ["ACL", "DRYRUN", "z"].into_iter().chain(call.split(' ')).collect();
            let (our_answer, their_answer) = (ours.ask(&words), theirs.ask(&words));
            assert_eq!(our_answer, their_answer, "{call} for {}", ours.shown());
            compared += 1;
        }
    }
    assert!(compared > 0);
}
