//! Tests of the configuration as a whole: the table, CONFIG GET and SET, files, and rewriting.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use proptest::prelude::*;

use super::directive::{Origin, format_memory, parse_memory};
use super::*;
use crate::base::file::{FileSystem, MemoryFileSystem, Open, SystemFileSystem, append_all, read_all};

/// `name=value` lines: what a Valkey 9.1.2 without a configuration file answers to `CONFIG GET *`, without
/// the port that it was started with and its directory.
const VALKEY_DEFAULTS: &str = include_str!("valkey-9.1.2.txt");

const OWN: &[&str] = &[
    "busy-script-rollback-after",
    "read-only-script-threads",
    "read-only-scripts",
    "replica-follow-failover",
    "replica-scripts",
    "script-max-memory",
];

const ANYBODY: Access = Access { is_local: true, is_loading: false };

fn pairs<'a>(pairs: &[(&'a str, &'a str)]) -> Vec<(&'a [u8], &'a [u8])> {
    pairs.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect()
}

fn set(config: &mut Config, new: &[(&str, &str)]) -> Result<Vec<Effect>, String> {
    match config.set_many(&pairs(new), ANYBODY) {
        Ok(changes) => Ok(changes.iter().map(|change| change.effect).collect()),
        Err(error) => Err(String::from_utf8_lossy(&error.0).into_owned()),
    }
}

fn get(config: &Config, name: &str) -> String {
    let found = config.get(&[name.as_bytes()]);
    let value =
        found.first().map(|(_, value)| value.clone()).unwrap_or_else(|| panic!("no directive {name}"));
    String::from_utf8_lossy(&value).into_owned()
}

fn all(config: &Config) -> BTreeMap<String, String> {
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    config.get(&[b"*"]).into_iter().map(|(name, value)| (text(name), text(value))).collect()
}

fn load(text: &str) -> Result<Config, String> {
    let mut config = Config::default();
    let source = Source { stdin: Some(text.as_bytes()), ..Source::default() };
    config.load(&source, &mut Accept).map(|()| config).map_err(|error| error.to_string())
}

/// The reason of the error in the only line of a file.
fn line_error(line: &str) -> String {
    let error = load(line).map(|_| ()).expect_err(line);
    let start = format!(
        "\n*** FATAL CONFIG FILE ERROR (Version 9.1.2) ***\nReading the configuration file, at line 1\n>>> '{line}'\n"
    );
    error.strip_prefix(&start).unwrap_or_else(|| panic!("{error}")).trim_end().to_owned()
}

#[test]
fn defaults_are_those_of_valkey() {
    let mut ours = all(&Config::default());
    assert_eq!(ours.remove("port").as_deref(), Some("6379"));
    let cwd = std::env::current_dir().expect("a working directory");
    assert_eq!(ours.remove("dir").as_deref(), cwd.to_str());
    for name in OWN {
        assert!(ours.remove(*name).is_some(), "{name}");
    }
    let theirs: BTreeMap<String, String> = VALKEY_DEFAULTS
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    assert!(theirs.len() > 200);
    assert_eq!(ours, theirs);
}

#[test]
fn names_are_unique() {
    let mut seen = BTreeSet::new();
    for directive in DIRECTIVES {
        for name in std::iter::once(directive.name).chain(directive.alias) {
            assert!(seen.insert(name), "{name} twice");
            assert_eq!(name, name.to_ascii_lowercase());
        }
    }
}

#[test]
fn bounds_fit_the_fields() {
    let mut config = Config::default();
    for directive in DIRECTIVES {
        let Kind::Number { min, max, get, set, .. } = &directive.kind else { continue };
        assert!(min <= max && (*min..=*max).contains(&get(&config)), "{}", directive.name);
        for value in [*min, *max] {
            set(&mut config, value);
            assert_eq!(get(&config), value, "{}", directive.name);
        }
    }
}

#[test]
fn every_value_may_be_set_again() {
    let mut config = Config { enable_protected_configs: ProtectedAction::Yes, ..Config::default() };
    let before = all(&config);
    for directive in DIRECTIVES.iter().filter(|directive| !directive.flags.contains(Flags::IMMUTABLE)) {
        for name in std::iter::once(directive.name).chain(directive.alias) {
            let value = directive.get(&config);
            let changes = config.set_many(&[(name.as_bytes(), &value)], ANYBODY).expect(name);
            assert_eq!(changes.len(), usize::from(directive.flags.contains(Flags::VOLATILE)), "{name}");
        }
    }
    assert_eq!(all(&config), before);
}

#[test]
fn get_finds_names_aliases_and_patterns() {
    let config = Config::default();
    let names = |patterns: &[&[u8]]| -> Vec<String> {
        config
            .get(patterns)
            .into_iter()
            .map(|(name, _)| String::from_utf8_lossy(&name).into_owned())
            .collect()
    };
    assert_eq!(names(&[b"SLAVE-priority"]), ["SLAVE-priority"]);
    assert_eq!(names(&[b"*-PRIORITY"]), ["replica-priority", "slave-priority"]);
    assert_eq!(names(&[b"maxmemory", b"maxmemor?", b"maxmemory"]), ["maxmemory"]);
    assert_eq!(names(&[b"port", b"nothing", b"loglevel"]), ["port", "loglevel"]);
    assert_eq!(names(&[b"key-load-dela?"]), [""; 0]);
    assert_eq!(names(&[b"key-load-delay"]), ["key-load-delay"]);
    assert_eq!(get(&config, "lua-time-limit"), "5000");
    assert_eq!(get(&config, "slowlog-max-len"), get(&config, "commandlog-slow-execution-max-len"));
}

#[test]
fn set_answers_effects_once() {
    let mut config = Config::default();
    let new = [
        ("maxmemory", "1gb"),
        ("maxmemory-policy", "ALLKEYS-lru"),
        ("maxmemory-samples", "7"),
        ("timeout", "5"),
    ];
    assert_eq!(set(&mut config, &new), Ok(vec![Effect::Maxmemory, Effect::Eviction]));
    assert_eq!(set(&mut config, &new), Ok(vec![]));
    assert_eq!((config.maxmemory, config.maxmemory_samples, config.timeout_seconds), (1 << 30, 7, 5));
    assert_eq!(get(&config, "maxmemory-policy"), "allkeys-lru");
    assert_eq!(set(&mut config, &[("hz", "0")]), Ok(vec![Effect::Hz]));
    assert_eq!(config.hz, 1);
}

#[test]
fn set_is_all_or_nothing() {
    let mut config = Config::default();
    let failed = |name: &str, reason: &str| {
        Err(format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"))
    };
    let before = all(&config);
    let unknown = Err("ERR Unknown option or number of arguments for CONFIG SET - 'Foo'".to_owned());
    assert_eq!(set(&mut config, &[("maxmemory", "1"), ("Foo", "2")]), unknown);
    let not_integer = failed("port", "argument couldn't be parsed into an integer");
    assert_eq!(set(&mut config, &[("maxmemory", "1"), ("port", "abc")]), not_integer);
    let twice = failed("LUA-time-limit", "duplicate parameter");
    assert_eq!(set(&mut config, &[("busy-reply-threshold", "1"), ("LUA-time-limit", "1")]), twice);
    assert_eq!(set(&mut config, &[("Databases", "1")]), failed("Databases", "can't set immutable config"));
    assert_eq!(set(&mut config, &[("dir", "/")]), failed("dir", "can't set protected config"));
    let loading = config.set_many(&pairs(&[("appendonly", "yes")]), Access { is_loading: true, ..ANYBODY });
    assert_eq!(loading.map(|_| ()), Err(ErrorReply::new("LOADING Valkey is loading the dataset in memory")));
    assert_eq!(all(&config), before);
}

/// Values that are refused, with the reasons a Valkey 9.1.2 gives.
#[test]
fn refusals_say_why() {
    const WRONG: &[(&str, &str, &str)] = &[
        ("appendonly", "1", "argument must be 'yes' or 'no'"),
        ("port", "65536", "argument must be between 0 and 65535 inclusive"),
        ("port", "", "argument couldn't be parsed into an integer"),
        ("port", "080", "argument couldn't be parsed into an integer"),
        ("hz", "99999999999999999999", "argument couldn't be parsed into an integer"),
        ("maxmemory", "1tb", "argument must be a memory value"),
        ("maxmemory", "-1", "argument must be a memory value"),
        ("repl-backlog-size", "", "argument must be between 1 and 9223372036854775807 inclusive"),
        (
            "slot-migration-max-failover-repl-bytes",
            "-2",
            "argument must be between -1 and 9223372036854775807 inclusive",
        ),
        ("maxmemory-clients", "x", "argument must be a memory or percent value"),
        ("maxmemory-clients", "101%", "percentage argument must be less or equal to 100"),
        ("appendfsync", "x", "argument(s) must be one of the following: everysec, always, no"),
        (
            "shutdown-on-sigterm",
            "x",
            "argument(s) must be one of the following: default, save, nosave, now, force, safe, failover",
        ),
        (
            "shutdown-on-sigterm",
            "save nosave",
            "shutdown options SAVE and NOSAVE can't be used simultaneously",
        ),
        ("oom-score-adj", "x", "argument(s) must be one of the following: no, yes, relative, absolute"),
        ("oom-score-adj-values", "1 2", "wrong number of arguments"),
        (
            "oom-score-adj-values",
            "1 2 3000",
            "Invalid oom-score-adj-values, elements must be between -2000 and 2000.",
        ),
        ("save", "1 2 3", "Invalid save parameters"),
        ("save", "0 1", "Invalid save parameters"),
        ("save", "10 1 20  3", "Invalid save parameters"),
        (
            "client-output-buffer-limit",
            "normal 1 2",
            "Wrong number of arguments in buffer limit configuration.",
        ),
        (
            "client-output-buffer-limit",
            "master 1 2 3",
            "Invalid client class specified in buffer limit configuration.",
        ),
        (
            "client-output-buffer-limit",
            "normal 1 2 -3",
            "Error in hard, soft or soft_seconds setting in buffer limit configuration.",
        ),
        ("notify-keyspace-events", "KEy", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'."),
        ("bind", "1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17", "Too many bind addresses specified."),
        ("latency-tracking-info-percentiles", "50 x", "Invalid latency-tracking-info-percentiles parameters"),
        (
            "latency-tracking-info-percentiles",
            "101",
            "latency-tracking-info-percentiles parameters should sit between [0.0,100.0]",
        ),
        ("dbfilename", "", "dbfilename can't be empty"),
        ("dbfilename", "a/b", "dbfilename can't be a path, just a filename"),
        ("dir", "", "dir can't be empty"),
        ("dir", "/nowhere/at/all", "No such file or directory"),
        ("dir", "/dev/null", "Not a directory"),
        ("proc-title-template", "{title}", "template format is invalid or contains unknown variables"),
        ("proc-title-template", "a{foo}", "template format is invalid or contains unknown variables"),
        ("proc-title-template", "a{port", "template format is invalid or contains unknown variables"),
        (
            "cluster-announce-hostname",
            "a_b",
            "Hostnames may only contain alphanumeric characters, hyphens or dots",
        ),
        ("cluster-announce-human-nodename", "a@b", "Announced human node name contained invalid character"),
        ("cluster-announce-ip", "a@b", "cluster-announce-ip contains invalid character"),
        ("cluster-announce-client-ipv4", "::1", "Invalid IPv4 address"),
        ("cluster-announce-client-ipv6", "1.2.3.4", "Invalid IPv6 address"),
        ("locale-collate", "xx", "Invalid locale name"),
        (
            "activedefrag",
            "yes",
            "Active defragmentation cannot be enabled: it requires a server compiled with a modified Jemalloc like the one shipped by default with the source distribution",
        ),
    ];
    let mut config = Config { enable_protected_configs: ProtectedAction::Local, ..Config::default() };
    for (name, value, reason) in WRONG {
        let expected = format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}");
        assert_eq!(set(&mut config, &[(name, value)]), Err(expected), "{value}");
    }
}

#[test]
fn values_read_back_in_their_own_form() {
    const SETS: &[(&str, &str, &str)] = &[
        ("maxmemory", "100MB", "104857600"),
        ("maxmemory", "2k", "2000"),
        ("maxmemory", "18446744073709551615", "18446744073709551615"),
        ("maxmemory-clients", "5%", "5%"),
        ("maxmemory-clients", "1mb", "1048576"),
        ("shutdown-on-sigterm", "safe failover NOW", "now safe failover"),
        ("shutdown-on-sigint", "default", "default"),
        ("oom-score-adj", "relative", "yes"),
        ("oom-score-adj-values", "-1 0 7", "-1 0 7"),
        ("save", "", ""),
        ("save", "10 1 20 30", "10 1 20 30"),
        ("bind", "", ""),
        ("bind", "127.0.0.1 -::1", "127.0.0.1 -::1"),
        (
            "client-output-buffer-limit",
            "",
            "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        ),
        (
            "client-output-buffer-limit",
            "Replica 1mb 2k 3 normal 1 2 3",
            "normal 1 2 3 slave 1048576 2000 3 pubsub 33554432 8388608 60",
        ),
        ("notify-keyspace-events", "KEA", "AKE"),
        ("notify-keyspace-events", "EKn$lshzxetdm", "$lshzxetdnKEm"),
        ("latency-tracking-info-percentiles", "", ""),
        ("latency-tracking-info-percentiles", "0 99.990 100.0", "0 99.99 100"),
        ("proc-title-template", "a{{b", "a{{b"),
        ("loglevel", "WARNING", "warning"),
        ("slowlog-log-slower-than", "-1", "-1"),
    ];
    let mut config = Config::default();
    for (name, value, read) in SETS {
        set(&mut config, &[(name, value)]).expect(value);
        assert_eq!(get(&config, name), *read, "{name} {value}");
    }
}

#[test]
fn protected_directives_obey_who_may() {
    let mut config = Config { enable_protected_configs: ProtectedAction::Local, ..Config::default() };
    let change = pairs(&[("dbfilename", "x")]);
    assert!(config.set_many(&change, Access { is_local: false, is_loading: false }).is_err());
    assert!(config.set_many(&change, ANYBODY).is_ok());
    config.enable_protected_configs = ProtectedAction::Yes;
    assert!(config.set_many(&change, Access { is_local: false, is_loading: false }).is_ok());
}

#[test]
fn files_have_comments_quotes_and_last_lines() {
    let text = "# comment\r\n\n  PORT 7000  \nrequirepass \"a\\x00\\n\\\"b\"\nprimaryauth 'it\\'s'\n\
        hash-max-ziplist-entries 1\nhash-max-listpack-entries 2\nlist-max-ziplist-value 3\n\
        logfile ''\nsave \nslaveof 10.0.0.1 6380\nunixsocketperm 700\nshutdown-on-sigterm \"nosave force\"\n\
        appendfilename \" file seq \\n\\n.aof \"\nio-threads-do-reads yes\nhz 1000\n";
    let config = load(text).expect("valid");
    assert_eq!(config.port, 7000);
    assert_eq!(config.requirepass.as_bytes(), b"a\0\n\"b");
    assert_eq!(config.primaryauth.as_bytes(), b"it's");
    assert_eq!(config.hash_max_listpack_entries, 2);
    assert!(config.save.0.is_empty());
    assert_eq!(config.replicaof, Some(PrimaryAddress { host: Text::from("10.0.0.1"), port: 6380 }));
    assert_eq!((config.unixsocketperm, get(&config, "unixsocketperm").as_str()), (0o700, "700"));
    assert_eq!(get(&config, "shutdown-on-sigterm"), "nosave force");
    assert_eq!(config.appendfilename.as_bytes(), b" file seq \n\n.aof ");
    assert_eq!(config.hz, 500);
    let again = load("hash-max-listpack-entries 2\nhash-max-ziplist-entries 1").expect("valid");
    assert_eq!(again.hash_max_listpack_entries, 1);
}

#[test]
fn save_lines_add_up() {
    assert_eq!(get(&load("port 1").expect("valid"), "save"), "3600 1 300 100 60 10000");
    assert_eq!(get(&load("save 1 2").expect("valid"), "save"), "1 2");
    assert_eq!(get(&load("save 1 2\nsave 3 4 5 6").expect("valid"), "save"), "1 2 3 4 5 6");
    assert_eq!(get(&load("save 1 2\nsave \"\"").expect("valid"), "save"), "");
    assert_eq!(get(&load("save \"\"\nsave 3 4").expect("valid"), "save"), "3 4");
}

#[test]
fn wrong_lines_are_fatal() {
    const WRONG: &[(&str, &str)] = &[
        ("nothing 1", "Bad directive or wrong number of arguments"),
        ("user", "Bad directive or wrong number of arguments"),
        ("include", "Bad directive or wrong number of arguments"),
        ("rename-command a", "Bad directive or wrong number of arguments"),
        ("foo.bar", "Module config specified without value"),
        ("port", "wrong number of arguments"),
        ("port \"6379\" \"6380\"", "wrong number of arguments"),
        ("port \"6379", "Unbalanced quotes in configuration line"),
        ("port \"6379\"x", "Unbalanced quotes in configuration line"),
        ("replicaof a", "wrong number of arguments"),
        ("replicaof a 99999", "Invalid primary port"),
        ("replicaof a b", "Invalid primary port"),
        (
            "shutdown-on-sigterm",
            "argument(s) must be one of the following: default, save, nosave, now, force, safe, failover",
        ),
        ("unixsocketperm 999", "argument couldn't be parsed as an octal number"),
        ("unixsocketperm 1000", "argument must be between 0 and 777 inclusive"),
        ("sentinel monitor", "sentinel directive while not in sentinel mode"),
        ("cluster-enabled yes", "this server does not run in cluster mode"),
        ("appenddirname a/b", "appenddirname can't be a path, just a dirname"),
        ("appendfilename ''", "appendfilename can't be empty"),
    ];
    for (line, reason) in WRONG {
        assert_eq!(line_error(line), *reason, "{line}");
    }
    let error = load("port 1\n\nhz x").map(|_| ()).expect_err("a wrong number");
    assert!(
        error.contains("at line 3\n>>> 'hz x'\nargument couldn't be parsed into an integer\n"),
        "{error}"
    );
    let error = load("logfile /nowhere/at/all").map(|_| ()).expect_err("no such directory");
    assert_eq!(
        error,
        "\n*** FATAL CONFIG FILE ERROR (Version 9.1.2) ***\nCan't open the log file: No such file or directory\n"
    );
}

/// Knows two commands and no rule.
struct Strict;

impl LineCheck for Strict {
    fn rename_command(&mut self, name: &[u8], _new_name: &[u8]) -> Result<(), String> {
        if name == b"get" { Ok(()) } else { Err("No such command in rename-command".into()) }
    }

    fn user(&mut self, _name: &[u8], rules: &[Text]) -> Result<(), String> {
        if rules.is_empty() { Ok(()) } else { Err("no rule".into()) }
    }
}

#[test]
fn commands_and_users_are_judged_elsewhere() {
    let check = |text: &str| {
        let mut config = Config::default();
        let source = Source { options: text.as_bytes(), ..Source::default() };
        config.load(&source, &mut Strict).map(|()| config)
    };
    let config = check("rename-command get \"\"\nuser foo\nuser bar").expect("valid");
    let renamed = RenamedCommand { name: Text::from("get"), new_name: Text::default() };
    assert_eq!(config.renamed_commands, [renamed]);
    assert_eq!(config.users.len(), 2);
    let reason = |text: &str| match check(text).map(|_| ()) {
        Err(LoadError::Line { reason, .. }) => reason,
        other => panic!("{other:?}"),
    };
    assert_eq!(reason("rename-command nope x"), "No such command in rename-command");
    assert_eq!(reason("user foo +x"), "no rule");
    let twice = "Error in user declaration 'foo': Duplicate user found. A user can only be defined once in config files";
    assert_eq!(reason("user foo\nuser \"foo\""), twice);
}

#[test]
fn includes_take_effect_where_they_stand() {
    let dir = tempfile::tempdir().expect("a directory");
    let write = |name: &str, text: &str| std::fs::write(dir.path().join(name), text).expect("written");
    write("one.conf", "port 1\nhz 11\n");
    write("two.conf", "port 2\n");
    write("loop.conf", &format!("include {}/loop.conf\n", dir.path().display()));
    write("bad.conf", "port 3\nport x\n");
    let path = dir.path().display();
    let config = load(&format!("port 9\ndir {path}\ninclude one.conf\ntimeout 4")).expect("valid");
    assert_eq!((config.port, config.hz, config.timeout_seconds), (1, 11, 4));
    assert_eq!(load(&format!("include {path}/[ot]*o.conf")).expect("valid").port, 2);
    assert_eq!(load(&format!("include {path}/none*\nport 5")).expect("valid").port, 5);
    let missing = load(&format!("include {path}/none")).map(|_| ()).expect_err("no file");
    assert_eq!(
        missing,
        format!("Fatal error, can't open config file '{path}/none': No such file or directory")
    );
    let error = load(&format!("include {path}/bad.conf")).map(|_| ()).expect_err("a wrong line");
    assert!(error.contains("at line 2\n>>> 'port x'\n"), "{error}");
    assert!(load(&format!("include {path}/loop.conf")).is_err());
}

/// Rewrites `old` and answers the new text.
fn rewrite(config: &Config, old: &str, users: &[&str], force_all: bool) -> String {
    let files = MemoryFileSystem::new();
    files.create_dir(Path::new("/etc")).expect("a folder");
    let path = Path::new("/etc/valkey.conf");
    let mut file = files.open(path, Open::Create).expect("a file");
    append_all(&mut *file, old.as_bytes()).expect("written");
    let users: Vec<Vec<u8>> = users.iter().map(|user| user.as_bytes().to_vec()).collect();
    config.rewrite(&files, path, &users, force_all).expect("rewritten");
    let file = files.open(path, Open::Read).expect("a file");
    String::from_utf8(read_all(&*file, 1 << 20).expect("readable")).expect("text")
}

#[test]
fn rewrite_keeps_what_people_wrote() {
    let old = "# my server\nport 7000\n\n\n\nslaveof 1.1.1.1 1\nrename-command get x\nmaxmemory   1gb\ninclude other.conf\nwhat is this\n\
        hz 10\nhz 20\nuser old on\nuser older on\nloglevel \"verbose\"\n";
    let mut config = load(&old.replace("include other.conf\nwhat is this\n", "")).expect("valid");
    config.replicaof = None;
    set(&mut config, &[("hz", "30"), ("maxmemory-policy", "allkeys-lru"), ("requirepass", "a b\n")])
        .expect("valid");
    let new = rewrite(&config, old, &["default on nopass"], false);
    let dir = config.dir.0.display();
    let expected = format!(
        "# my server\nport 7000\n\nrename-command get x\nmaxmemory   1gb\ninclude other.conf\n# ??? what is this\n\
        hz 30\n\nuser default on nopass\n\nloglevel \"verbose\"\n\
        # Generated by CONFIG REWRITE\nrequirepass \"a b\\n\"\nmaxmemory-policy allkeys-lru\ndir \"{dir}\"\n\
        save 3600 1 300 100 60 10000\nlatency-tracking-info-percentiles 50 99 99.9\n"
    );
    assert_eq!(new, expected);
    assert_eq!(rewrite(&config, &new, &["default on nopass"], false), new, "a second time changes nothing");
    config.aclfile = Text::from("users.acl");
    assert!(!rewrite(&config, &new, &["default on nopass"], false).contains("\nuser "));
}

#[test]
fn rewrite_uses_the_forms_of_the_file() {
    let mut config =
        load("client-output-buffer-limit pubsub 1 1 1\nbind 1.2.3.4\nreplicaof h 5").expect("valid");
    let changes = [
        ("maxmemory", "3145728"),
        ("maxmemory-clients", "7%"),
        ("save", ""),
        ("notify-keyspace-events", "AnKE"),
        ("oom-score-adj", "yes"),
    ];
    set(&mut config, &changes).expect("valid");
    let new = rewrite(&config, "", &[], false);
    for line in [
        "client-output-buffer-limit pubsub 1 1 1",
        "bind 1.2.3.4",
        "replicaof h 5",
        "maxmemory 3mb",
        "maxmemory-clients 7%",
        "save \"\"",
        "notify-keyspace-events \"AKEn\"",
        "oom-score-adj yes",
    ] {
        assert!(new.lines().any(|other| other == line), "{line} in\n{new}");
    }
    assert!(!new.contains("client-output-buffer-limit normal"));
}

#[test]
fn a_rewritten_file_gives_the_same_values() {
    let mut config = load("bind\nsave 1 1\nclient-output-buffer-limit normal 1 2 3").expect("valid");
    set(
        &mut config,
        &[("latency-tracking-info-percentiles", ""), ("masterauth", "\"'\\ \u{1}"), ("port", "0")],
    )
    .expect("valid");
    for force_all in [false, true] {
        let new = rewrite(&config, "save 5 5\nsave 6 6\n", &[], force_all);
        let read = load(&new).unwrap_or_else(|error| panic!("{error}\n{new}"));
        assert_eq!(all(&read), all(&config));
        for directive in DIRECTIVES {
            assert_eq!(directive.get(&read), directive.get(&config), "{}", directive.name);
        }
    }
}

#[test]
fn a_failed_rewrite_leaves_the_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let error = Config::default().rewrite(&SystemFileSystem, &dir.path().join("no/such/file"), &[], false);
    assert!(error.is_err());
    let path = dir.path().join("valkey.conf");
    Config::default().rewrite(&SystemFileSystem, &path, &[], false).expect("rewritten");
    let names: Vec<_> =
        std::fs::read_dir(dir.path()).expect("readable").flatten().map(|e| e.file_name()).collect();
    assert_eq!(names, ["valkey.conf"], "nothing temporary is left");
}

#[test]
fn a_change_that_cannot_be_applied_is_undone() {
    let shared = SharedConfig::new(Config::default());
    let mut reader = shared.reader();
    let mut applied = Vec::new();
    let new = pairs(&[("maxmemory", "5"), ("port", "1"), ("bind", "1.1.1.1")]);
    let result = shared.set(&new, ANYBODY, &mut |change, config| {
        applied.push((change.effect, config.port));
        match (change.effect, config.port) {
            (Effect::Port, 1) => Err("Unable to listen on this port. Check server logs.".into()),
            _ => Ok(()),
        }
    });
    let text = "ERR CONFIG SET failed (possibly related to argument 'port') - Unable to listen on this port. Check server logs.";
    assert_eq!(result, Err(ErrorReply::new(text)));
    assert_eq!(
        applied,
        [(Effect::Maxmemory, 1), (Effect::Port, 1), (Effect::Maxmemory, 6379), (Effect::Port, 6379)]
    );
    assert_eq!(reader.get().maxmemory, 0);
    shared.set(&pairs(&[("maxmemory", "5")]), ANYBODY, &mut |_, _| Ok(())).expect("applied");
    assert_eq!(reader.last().maxmemory, 0, "until it looks");
    assert_eq!(reader.get().maxmemory, 5);
    shared.update(|config| config.replica_priority = 1);
    assert_eq!((reader.get().maxmemory, reader.get().replica_priority), (5, 1));
}

#[test]
fn secrets_are_named() {
    let secret: Vec<&str> =
        DIRECTIVES.iter().filter(|d| d.flags.contains(Flags::SENSITIVE)).map(|d| d.name).collect();
    assert_eq!(
        secret,
        ["requirepass", "primaryauth", "primaryuser", "tls-key-file-pass", "tls-client-key-file-pass"]
    );
    let argv: [&[u8]; 6] = [b"CONFIG", b"SET", b"MASTERAUTH", b"x", b"port", b"1"];
    assert_eq!(sensitive_arguments(&argv), [3]);
}

#[test]
fn memory_texts() {
    for (text, bytes) in
        [("", Some(0)), ("1", Some(1)), ("1B", Some(1)), ("1Kb", Some(1024)), ("2m", Some(2_000_000))]
    {
        assert_eq!(parse_memory(text.as_bytes()), bytes, "{text}");
    }
    for text in ["-1", "1x", "x", "1 kb", "18446744073709551615k", "99999999999999999999"] {
        assert_eq!(parse_memory(text.as_bytes()), None, "{text}");
    }
    assert_eq!(ClientsMemoryLimit::Percent(50).bytes(1000), Some(500));
    assert_eq!(ClientsMemoryLimit::Percent(50).bytes(0), None);
}

proptest! {
    #[test]
    fn quoted_text_splits_back(bytes: Vec<u8>) {
        prop_assert_eq!(split(&quote(&bytes)), Ok(vec![bytes]));
    }

    #[test]
    fn memory_survives_its_format(bytes: u64) {
        prop_assert_eq!(parse_memory(format_memory(i128::from(bytes)).as_bytes()), Some(bytes));
    }

    #[test]
    fn no_file_panics(text in "(?s).{0,200}") {
        let _ = load(&text.replace("include", ""));
    }

    #[test]
    fn no_value_panics_and_what_is_taken_reads_back(index in 0..DIRECTIVES.len(), value: Vec<u8>) {
        let mut config = Config::default();
        let directive = &DIRECTIVES[index];
        if directive.set(&mut config, &[&value], Origin::Runtime).is_ok() {
            let read = directive.get(&config);
            prop_assert!(config.set_many(&[(directive.name.as_bytes(), &read)], ANYBODY).is_ok()
                || directive.flags.contains(Flags::IMMUTABLE) || directive.flags.contains(Flags::PROTECTED));
            prop_assert_eq!(directive.get(&config), read);
        }
    }
}
