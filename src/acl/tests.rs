//! Rules against a plain model, and the round trip of their texts.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

use proptest::prelude::*;

use super::*;
use crate::base::glob::{self, Case};
use crate::command::{
    Categories, ChannelArguments, Command, CommandTable, Flags, Handler, KeyUse, TableEntry,
};

/// Commands that only a server has: the model needs channels and first arguments too.
const HOST: &[Command<()>] = &[
    Command {
        name: "publish",
        arity: 3,
        flags: Flags::PUBSUB,
        channels: ChannelArguments::First,
        ..Command::host(())
    },
    Command { name: "psubscribe", arity: -2, channels: ChannelArguments::AllPatterns, ..Command::host(()) },
    Command { name: "auth", arity: -2, flags: Flags::NO_AUTH, ..Command::host(()) },
    Command {
        name: "config",
        ..Command::container(&[
            Command { name: "get", arity: -3, flags: Flags::ADMIN, ..Command::host(()) },
            Command { name: "set", arity: -4, flags: Flags::ADMIN, ..Command::host(()) },
        ])
    },
];

fn table() -> CommandTable<()> {
    CommandTable::new(crate::commands::FAMILIES, &[HOST])
}

type Table = CommandTable<()>;

/// A selector as sets of names and lists of patterns.
#[derive(Debug, Clone)]
struct Model {
    commands: BTreeSet<String>,
    first_arguments: BTreeMap<String, BTreeSet<String>>,
    keys: Vec<(bool, bool, String)>,
    channels: Vec<String>,
    databases: Option<BTreeSet<usize>>,
}

impl Model {
    fn new() -> Self {
        Model {
            commands: BTreeSet::new(),
            first_arguments: BTreeMap::new(),
            keys: Vec::new(),
            channels: Vec::new(),
            databases: None,
        }
    }

    fn set(&mut self, name: &str, allow: bool) {
        if allow {
            self.commands.insert(name.to_owned());
        } else {
            self.commands.remove(name);
        }
    }

    fn set_whole(&mut self, entry: &TableEntry<()>, allow: bool, table: &Table) {
        self.first_arguments.remove(&entry.full_name);
        self.set(&entry.full_name, allow);
        for subcommand in &entry.subcommands {
            self.set(&table.entry(*subcommand).full_name, allow);
        }
    }

    fn apply(&mut self, rule: &Rule, table: &Table) {
        match rule {
            Rule::All(allow) => {
                self.first_arguments.clear();
                table.entries().iter().for_each(|entry| self.set(&entry.full_name, *allow));
            }
            Rule::Command(allow, name) => {
                let entry = table.find_full(name.as_bytes()).expect("a known command");
                self.set_whole(entry, *allow, table);
            }
            Rule::Category(allow, name) => {
                let category = Categories::find(name.as_bytes()).expect("a known category");
                for entry in table.entries().iter().filter(|entry| entry.categories.has(category)) {
                    self.set_whole(entry, *allow, table);
                }
            }
            Rule::FirstArgument(name, first) => {
                self.first_arguments.entry(name.clone()).or_default().insert(first.clone());
            }
            Rule::Keys(reads, writes, pattern) => self.keys.push((*reads, *writes, pattern.clone())),
            Rule::ResetKeys => self.keys.clear(),
            Rule::Channel(pattern) => self.channels.push(pattern.clone()),
            Rule::ResetChannels => self.channels.clear(),
            Rule::Databases(databases) => self.databases = databases.clone(),
        }
    }

    fn allows(&self, entry: &TableEntry<()>, args: &[&str], database: usize) -> bool {
        let bytes: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let may_be_here = |database: usize| self.databases.as_ref().is_none_or(|all| all.contains(&database));
        let first = || {
            let allowed = self.first_arguments.get(&entry.full_name)?;
            Some(allowed.contains(&args.get(1)?.to_lowercase()))
        };
        let command = entry.flags.has(Flags::NO_AUTH)
            || self.commands.contains(&entry.full_name)
            || first().unwrap_or(false);
        // A pattern given for reading and again for writing gives both, as one given for both would.
        let given = |text: &str| {
            let same = self.keys.iter().filter(|(_, _, pattern)| pattern == text);
            same.fold((false, false), |(reads, writes), (r, w, _)| (reads | r, writes | w))
        };
        let keys = entry.keys(&bytes).unwrap_or_default();
        let may_use = |index: usize, uses: KeyUse| {
            self.keys.iter().any(|(_, _, pattern)| {
                let (reads, writes) = given(pattern);
                glob::matches(pattern.as_bytes(), bytes[index], Case::Sensitive)
                    && (reads || !uses.reads())
                    && (writes || !uses.writes())
            })
        };
        let channel = match entry.spec.channels {
            ChannelArguments::First => self
                .channels
                .iter()
                .any(|pattern| glob::matches(pattern.as_bytes(), bytes[1], Case::Sensitive)),
            ChannelArguments::AllPatterns => args[1..]
                .iter()
                .all(|name| self.channels.iter().any(|pattern| pattern == name || pattern == "*")),
            ChannelArguments::None | ChannelArguments::All => true,
        };
        let touches = entry.has_keys()
            || entry.flags.has_any(Flags::WRITE | Flags::READONLY)
            || entry.categories.has(Categories::KEYSPACE);
        let named: &[usize] = match (args[0], args.len()) {
            ("move", 3) => &[2],
            ("swapdb", 3) => &[1, 2],
            _ => &[],
        };
        let databases = (!touches || may_be_here(database))
            && (args[0] != "flushall" || (0..16).all(may_be_here))
            && named.iter().all(|index| args[*index].parse().is_ok_and(may_be_here));
        command && databases && channel && keys.iter().all(|key| may_use(key.index, key.uses))
    }
}

#[derive(Debug, Clone)]
enum Rule {
    All(bool),
    Command(bool, String),
    Category(bool, String),
    FirstArgument(String, String),
    Keys(bool, bool, String),
    ResetKeys,
    Channel(String),
    ResetChannels,
    Databases(Option<BTreeSet<usize>>),
}

impl Rule {
    fn text(&self) -> String {
        let sign = |allow: &bool| if *allow { '+' } else { '-' };
        match self {
            Rule::All(allow) => format!("{}@all", sign(allow)),
            Rule::Command(allow, name) => format!("{}{name}", sign(allow)),
            Rule::Category(allow, name) => format!("{}@{name}", sign(allow)),
            Rule::FirstArgument(name, first) => format!("+{name}|{first}"),
            Rule::Keys(true, true, pattern) => format!("~{pattern}"),
            Rule::Keys(reads, _, pattern) => format!("%{}~{pattern}", if *reads { 'R' } else { 'W' }),
            Rule::ResetKeys => "resetkeys".into(),
            Rule::Channel(pattern) => format!("&{pattern}"),
            Rule::ResetChannels => "resetchannels".into(),
            Rule::Databases(None) => "alldbs".into(),
            Rule::Databases(Some(all)) if all.is_empty() => "resetdbs".into(),
            Rule::Databases(Some(all)) => {
                format!("db={}", all.iter().map(usize::to_string).collect::<Vec<_>>().join(","))
            }
        }
    }
}

const NAMES: &[&str] =
    &["get", "set", "mget", "del", "object", "object|freq", "config", "config|get", "publish", "flushall"];
const FIRST: &[(&str, &str)] = &[("get", "a"), ("publish", "x"), ("publish", "ab"), ("del", "b")];
const PATTERNS: &[&str] = &["a*", "b", "*", "?b", ""];
const CALLS: &[&str] = &[
    "get a",
    "get b",
    "set a 1",
    "set b 1 get",
    "mget a b",
    "del a b",
    "object freq a",
    "config get x",
    "publish a m",
    "publish ab m",
    "publish x m",
    "psubscribe a*",
    "psubscribe b ?b",
    "auth x",
    "flushall",
    "flushdb",
    "move a 1",
    "swapdb 0 2",
    "copy a b",
    "sort a store b",
    "randomkey",
    "dbsize",
    "get",
];

fn rules() -> impl Strategy<Value = Vec<Rule>> {
    let name = prop::sample::select(NAMES).prop_map(str::to_owned);
    let category = prop::sample::select(&Categories::NAMES[..]).prop_map(str::to_owned);
    let pattern = prop::sample::select(PATTERNS).prop_map(str::to_owned);
    let uses = prop::sample::select(vec![(true, true), (true, false), (false, true)]);
    let databases = prop::option::of(prop::collection::btree_set(0usize..4, 0..3));
    let rule = prop_oneof![
        1 => any::<bool>().prop_map(Rule::All),
        6 => (any::<bool>(), name).prop_map(|(allow, name)| Rule::Command(allow, name)),
        4 => (any::<bool>(), category).prop_map(|(allow, name)| Rule::Category(allow, name)),
        2 => prop::sample::select(FIRST).prop_map(|(name, first)| Rule::FirstArgument(name.into(), first.into())),
        5 => (uses, pattern.clone()).prop_map(|((reads, writes), pattern)| Rule::Keys(reads, writes, pattern)),
        1 => Just(Rule::ResetKeys),
        3 => pattern.prop_map(Rule::Channel),
        1 => Just(Rule::ResetChannels),
        1 => databases.prop_map(Rule::Databases),
    ];
    prop::collection::vec(rule, 0..12)
}

/// What a user was given: its root and its other selectors.
fn build(table: &Table, root: &[Rule], others: &[Vec<Rule>]) -> (User, Vec<Model>) {
    let mut user = User::new(b"u", ChannelDefault::None);
    let mut models = vec![Model::new()];
    for rule in root {
        // After a pattern for everything no other may be added; the model would not mind.
        if user.apply(rule.text().as_bytes(), table, ChannelDefault::None).is_ok() {
            models[0].apply(rule, table);
        }
    }
    for rules in others {
        let mut selector = Selector::new(ChannelDefault::None);
        let mut model = Model::new();
        let mut texts = Vec::new();
        for rule in rules {
            if selector.apply(rule.text().as_bytes(), table).is_ok() {
                model.apply(rule, table);
                texts.push(rule.text());
            }
        }
        let words = format!("({})", texts.join(" "));
        user.apply(words.as_bytes(), table, ChannelDefault::None).expect("each rule was accepted");
        models.push(model);
    }
    (user, models)
}

fn entry_of<'t>(table: &'t Table, args: &[&str]) -> &'t TableEntry<()> {
    let entry = table.find(args[0].as_bytes()).expect("a known command");
    match args.get(1).filter(|_| matches!(entry.handler, Handler::Container)) {
        Some(name) => table.subcommand(entry, name.as_bytes()).expect("a known subcommand"),
        None => entry,
    }
}

proptest! {
    #[test]
    fn checks_are_those_of_the_model(
        root in rules(),
        others in prop::collection::vec(rules(), 0..3),
        database in 0usize..3,
    ) {
        let table = table();
        let (user, models) = build(&table, &root, &others);
        for call in CALLS {
            let args: Vec<&str> = call.split(' ').collect();
            let entry = entry_of(&table, &args);
            let expected = models.iter().any(|model| model.allows(entry, &args, database));
            let bytes: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
            let got = check(&user, entry, &bytes, database, 16);
            prop_assert_eq!(got.is_ok(), expected, "{} for {}", call, String::from_utf8_lossy(&user.describe()));
            if user.may_everything() {
                prop_assert!(got.is_ok());
            }
        }
    }

    #[test]
    fn the_text_of_a_user_makes_the_same_user(root in rules(), others in prop::collection::vec(rules(), 0..3)) {
        let table = table();
        let (user, _) = build(&table, &root, &others);
        let text = user.describe();
        let words: Vec<&[u8]> = text.split(|byte| *byte == b' ').collect();
        let mut again = User::new(b"u", ChannelDefault::None);
        prop_assert_eq!(again.apply_all(&words, &table, ChannelDefault::None), Ok(()));
        for call in CALLS {
            let args: Vec<&[u8]> = call.split(' ').map(str::as_bytes).collect();
            let entry = entry_of(&table, &call.split(' ').collect::<Vec<_>>());
            for database in 0..4 {
                let answer = |user: &User| check(user, entry, &args, database, 16);
                prop_assert_eq!(answer(&again), answer(&user), "{} in {}", call, String::from_utf8_lossy(&text));
            }
        }
        let users = Users::new([again]);
        let loaded = load_file(&save_file(&users), "file", &table, ChannelDefault::None).expect("a right file");
        prop_assert_eq!(loaded.lines(), users.lines());
    }

    #[test]
    fn no_rule_panics(words in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..12), 0..6)) {
        let table = table();
        let mut user = User::new(b"u", ChannelDefault::None);
        for prefix in [&b""[..], b"+", b"-@", b"%", b"db=", b"(", b"#", b"+get|"] {
            let words: Vec<Vec<u8>> = words.iter().map(|word| [prefix, word].concat()).collect();
            let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
            let before = user.clone();
            if user.apply_all(&words, &table, ChannelDefault::None).is_err() {
                prop_assert_eq!(&user, &before);
            }
        }
        let _ = load_file(&words.concat(), "file", &table, ChannelDefault::None);
    }
}

fn lines(users: &Users) -> Vec<String> {
    users.lines().iter().map(|line| String::from_utf8_lossy(line).into_owned()).collect()
}

#[test]
fn a_file_is_loaded_as_a_whole_or_not_at_all() {
    let table = table();
    let load = |text: &str| load_file(text.as_bytes(), "f.acl", &table, ChannelDefault::None);
    let users = load("user b on nopass +get (~a +set)\n\n  user a\r\n").expect("right");
    assert_eq!(
        lines(&users),
        [
            "a off resetchannels -@all",
            "b on nopass resetchannels -@all +get (~a resetchannels -@all +set)",
            "default on nopass ~* &* +@all",
        ]
    );
    let errors =
        load("# a comment\nuser a +nosuch bad worse\nuser a\nuser \tb\nuser c (+get").expect_err("wrong");
    assert_eq!(
        String::from_utf8_lossy(&errors),
        "f.acl:1 should start with user keyword followed by the username. \
         f.acl:2: Error in applying operation '+nosuch': Unknown command or category name in ACL. \
         f.acl:2: Syntax error. WARNING: Duplicate user 'a' found on line 3. \
         'f.acl:4: username '\tb' contains invalid characters. \
         f.acl:5: Unmatched parenthesis in selector definition.\
         WARNING: ACL errors detected, no change to the previously active ACL rules was performed"
    );
}

#[test]
fn the_reason_that_got_farthest_is_told() {
    let table = table();
    let told = |rules: &str, call: &str| {
        let mut user = User::new(b"u", ChannelDefault::None);
        let words: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
        user.apply_all(&words, &table, ChannelDefault::None).expect("right rules");
        let args: Vec<&str> = call.split(' ').collect();
        let bytes: Vec<&[u8]> = args.iter().map(|arg| arg.as_bytes()).collect();
        let entry = entry_of(&table, &args);
        let denial = check(&user, entry, &bytes, 0, 16).expect_err("refused");
        String::from_utf8_lossy(&denial.full_message(&user, entry, &bytes)).into_owned()
    };
    let command = "User u has no permissions to run the 'mget' command";
    assert_eq!(told("on", "mget a b c"), command);
    assert_eq!(told("(~* +mget db=3)", "mget a b c"), command);
    assert_eq!(told("db=3", "mget a"), "User u has no permissions to access database mget");
    assert_eq!(
        told("+mget ~a db=3 (+mget ~a ~b)", "mget a b c"),
        "User u has no permissions to access the 'c' key"
    );
    assert_eq!(told("+mget ~a (+mget ~b)", "mget a b c"), "User u has no permissions to access the 'b' key");
    assert_eq!(told("+@all &a", "publish b m"), "User u has no permissions to access the 'b' channel");
    assert_eq!(told("+@all ~* db=0", "move a 1"), "User u has no permissions to access database 1");
    assert_eq!(told("+@all ~* db=1", "move a 1"), "User u has no permissions to access database move");
    assert_eq!(told("+@all db=0", "flushall"), "User u has no permissions to access database flushall");
}

#[test]
fn what_may_be_read_besides_the_named_keys() {
    let table = table();
    let entry = table.find(b"sort").expect("there");
    let may = |rules: &[&[u8]]| {
        let mut user = User::new(b"u", ChannelDefault::None);
        user.apply_all(rules, &table, ChannelDefault::None).expect("right rules");
        reads_every_key(&user, entry, &[b"sort", b"a", b"by", b"w*"], 0, 16)
    };
    assert!(may(&[b"+sort", b"~*"]) && may(&[b"+sort", b"%R~*"]));
    assert!(!may(&[b"+sort", b"~a"]) && !may(&[b"+sort", b"%W~*"]));
    // One selector must allow it as a whole.
    assert!(!may(&[b"+sort", b"~a", b"(+get ~*)"]));
}

#[test]
fn unnamed_reads_of_sort_are_told_in_their_order() {
    let table = table();
    let entry = table.find(b"sort").expect("there");
    let told = |line: &str| {
        let args: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
        let error = entry.spec.unnamed_reads.expect("there")(&args)?;
        String::from_utf8_lossy(&error.0).split(' ').nth(1).map(str::to_owned)
    };
    assert_eq!(told("sort a by w* get g"), Some("BY".into()));
    assert_eq!(told("sort a get # by w*"), Some("GET".into()));
    assert_eq!(told("sort a by w store b"), None);
    assert_eq!(told("sort a nonsense by w*"), None);
    assert_eq!(told("sort a by w* nonsense"), Some("BY".into()));
    let keys: Vec<usize> = entry
        .keys(&[b"sort", b"a", b"store", b"by", b"store", b"secret"])
        .expect("valid")
        .iter()
        .map(|key| key.index)
        .collect();
    assert_eq!(keys, [1, 5]);
}

/// The table of data commands alone knows no host handlers.
#[test]
fn any_table_will_do() {
    let table: CommandTable<Infallible> = CommandTable::new(crate::commands::FAMILIES, &[]);
    let mut user = User::new(b"u", ChannelDefault::All);
    assert_eq!(user.apply(b"+publish", &table, ChannelDefault::All), Err(RuleError::UnknownCommand));
    assert_eq!(user.apply(b"+OBJECT|freq", &table, ChannelDefault::All), Ok(()));
    assert_eq!(user.describe(), b"off &* -@all +object|freq");
}
