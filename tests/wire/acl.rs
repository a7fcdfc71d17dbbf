//! Users and their rules on a live server: who is let in, what is refused and how, what happens to connections when users
//! change, and what survives a restart.

use std::time::{Duration, Instant};

use redis::{Connection, Value};

use super::Server;

/// Sends a line of words and returns the reply as text; errors begin with a minus.
fn say(connection: &mut Connection, line: &str) -> String {
    send(connection, &line.split(' ').collect::<Vec<_>>())
}

fn send(connection: &mut Connection, words: &[&str]) -> String {
    let mut command = redis::Cmd::new();
    for word in words {
        command.arg(word);
    }
    match command.query::<Value>(connection) {
        Ok(value) => show(&value),
        Err(error) if error.is_io_error() || error.is_connection_dropped() => "closed".to_owned(),
        Err(error) => format!("-{} {}", error.code().unwrap_or("?"), error.detail().unwrap_or("")),
    }
}

fn show(value: &Value) -> String {
    let all = |values: &[Value]| format!("[{}]", values.iter().map(show).collect::<Vec<_>>().join(" "));
    match value {
        Value::Nil => "nil".to_owned(),
        Value::Int(number) => number.to_string(),
        Value::BulkString(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        Value::SimpleString(text) => text.clone(),
        Value::Okay => "OK".to_owned(),
        Value::Array(values) | Value::Set(values) => all(values),
        Value::ServerError(error) => format!("-{} {}", error.code(), error.details().unwrap_or("")),
        other => format!("{other:?}"),
    }
}

#[track_caller]
fn expect(connection: &mut Connection, exchange: &[(&str, &str)]) {
    for (line, reply) in exchange {
        assert_eq!(say(connection, line), *reply, "to {line}");
    }
}

/// A connection that has authenticated as `user`.
fn connect_as(server: &Server, user: &str, password: &str) -> Connection {
    let mut connection = server.connect();
    assert_eq!(send(&mut connection, &["AUTH", user, password]), "OK");
    connection
}

#[test]
fn users_are_let_in_by_their_passwords() {
    let server = Server::start(&[]);
    let mut admin = server.connect();
    expect(
        &mut admin,
        &[
            ("ACL WHOAMI", "default"),
            ("ACL SETUSER anna on >one >two ~* +@all", "OK"),
            ("ACL SETUSER off1 off >one +@all", "OK"),
        ],
    );
    let mut client = server.connect();
    let wrong = "-WRONGPASS invalid username-password pair or user is disabled.";
    expect(
        &mut client,
        &[
            ("AUTH anna three", wrong),
            ("AUTH nobody one", wrong),
            ("AUTH off1 one", wrong),
            ("ACL WHOAMI", "default"),
            ("AUTH anna two", "OK"),
            ("ACL WHOAMI", "anna"),
            ("RESET", "RESET"),
            ("ACL WHOAMI", "default"),
            ("ACL SETUSER default off", "OK"),
            ("GET a", "nil"),
            ("RESET", "RESET"),
            ("GET a", "-NOAUTH Authentication required."),
            ("AUTH anna one", "OK"),
            ("ACL SETUSER anna <two", "OK"),
            ("AUTH anna two", wrong),
            ("ACL WHOAMI", "anna"),
            ("ACL SETUSER default on >secret", "OK"),
            ("AUTH secret", "OK"),
            ("ACL WHOAMI", "default"),
            ("CONFIG SET requirepass other", "OK"),
            ("AUTH secret", wrong),
            ("AUTH other", "OK"),
        ],
    );
    let info = say(&mut client, "INFO stats");
    assert!(info.contains("acl_access_denied_auth:5\r\n"), "{info}");
}

#[test]
fn what_a_user_may_not_do_is_refused_and_logged() {
    let server = Server::start(&[]);
    let mut admin = server.connect();
    let rules = "ACL SETUSER anna on nopass ~a* %R~r* &news* +@all -config +config|get -flushall db=0,1";
    assert_eq!(say(&mut admin, rules), "OK");
    let mut anna = connect_as(&server, "anna", "x");
    let no_key = "-NOPERM No permissions to access a key";
    let no_channel = "-NOPERM No permissions to access a channel";
    let no_database = "-NOPERM No permissions to access database";
    expect(
        &mut anna,
        &[
            ("SET a1 v", "OK"),
            ("GET b", no_key),
            ("SET r1 v", no_key),
            ("GET r1", "nil"),
            ("CONFIG SET hz 10", "-NOPERM User anna has no permissions to run the 'config|set' command"),
            ("CONFIG GET hz", "[hz 10]"),
            ("PUBLISH news1 m", "0"),
            ("PUBLISH old m", no_channel),
            ("SUBSCRIBE old", no_channel),
            ("PSUBSCRIBE news*1", no_channel),
            ("SELECT 2", no_database),
            ("SELECT 1", "OK"),
            ("MOVE a1 2", no_database),
            ("MSET a1 v b v", no_key),
            ("SORT a2 BY w_*", "-ERR BY option of SORT denied due to insufficient ACL permissions."),
            (
                "EVAL return{redis.pcall('get','b').err} 0",
                "[ERR ACL failure in script: No permissions to access a key]",
            ),
            ("EVAL return{redis.acl_check_cmd('get','b')} 0", "[nil]"),
            ("EVAL return{redis.acl_check_cmd('get','a')} 0", "[1]"),
            ("EVAL return 1 b", no_key),
            ("MULTI", "OK"),
            ("GET b", no_key),
            ("EXEC", "-EXECABORT Transaction discarded because of previous errors."),
        ],
    );
    let log = say(&mut admin, "ACL LOG 1");
    assert!(log.starts_with("[[count 1 reason key context multi object b username anna"), "{log}");
    let log = say(&mut admin, "ACL LOG 100");
    assert_eq!(log.matches("count ").count(), 8, "{log}");
    assert!(log.contains("count 1 reason key context lua object b"), "{log}");
    assert!(log.contains("count 3 reason key context toplevel object b"), "{log}");
    assert!(log.contains("reason command context toplevel object config|set"), "{log}");
    expect(
        &mut admin,
        &[
            ("ACL DRYRUN anna GET b", "User anna has no permissions to access the 'b' key"),
            ("ACL DRYRUN anna FLUSHALL", "User anna has no permissions to access database FLUSHALL"),
            ("ACL LOG RESET", "OK"),
            ("ACL LOG", "[]"),
        ],
    );
    let info = say(&mut admin, "INFO stats");
    for line in ["cmd:1", "key:6", "channel:3", "db:2", "auth:0"] {
        assert!(info.contains(&format!("acl_access_denied_{line}\r\n")), "{line} in {info}");
    }
}

/// Such a script goes on elsewhere after its first slice.
#[test]
fn a_slow_script_is_checked_to_its_end() {
    let server = Server::start(&[]);
    let mut admin = server.connect();
    assert_eq!(say(&mut admin, "ACL SETUSER anna on nopass ~a* +@all -dbsize"), "OK");
    let mut anna = connect_as(&server, "anna", "x");
    let script = "for i = 1, 5e6 do end return {redis.pcall('get', 'b').err, redis.pcall('dbsize').err}";
    for command in ["EVAL_RO", "EVAL"] {
        assert_eq!(
            send(&mut anna, &[command, script, "0"]),
            "[ERR ACL failure in script: No permissions to access a key ERR ACL failure in script: User anna has no \
             permissions to run the 'dbsize' command]"
        );
    }
}

#[test]
fn a_transaction_is_checked_again_when_it_runs() {
    let server = Server::start(&[]);
    let mut admin = server.connect();
    assert_eq!(say(&mut admin, "ACL SETUSER anna on nopass ~* +@all"), "OK");
    let mut anna = connect_as(&server, "anna", "x");
    expect(&mut anna, &[("MULTI", "OK"), ("SET a 1", "QUEUED"), ("GET a", "QUEUED")]);
    assert_eq!(say(&mut admin, "ACL SETUSER anna -set"), "OK");
    let refused = "-NOPERM ACLs rules changed between the moment the transaction was accumulated and the EXEC call. This \
                   command is no longer allowed for the following reason: no permission to execute the command or \
                   subcommand";
    let reply = redis::cmd("EXEC").query::<Value>(&mut anna);
    match reply {
        Ok(value) => assert_eq!(show(&value), format!("[{refused} nil]")),
        Err(error) => assert!(error.to_string().contains("ACLs rules changed"), "{error}"),
    }
}

/// Waits for the reply of a connection that another thread serves.
fn in_background(mut connection: Connection, line: &'static str) -> std::thread::JoinHandle<String> {
    let waiting = std::thread::spawn(move || say(&mut connection, line));
    std::thread::sleep(Duration::from_millis(200));
    waiting
}

#[test]
fn a_waiting_call_is_checked_again_when_it_is_served() {
    let server = Server::start(&[]);
    let mut admin = server.connect();
    assert_eq!(say(&mut admin, "ACL SETUSER anna on nopass ~* +@all"), "OK");
    let waiting = in_background(connect_as(&server, "anna", "x"), "BLPOP l 0");
    expect(&mut admin, &[("ACL SETUSER anna resetkeys ~other", "OK"), ("RPUSH l 1", "1")]);
    assert_eq!(waiting.join().expect("answered"), "-NOPERM No permissions to access a key");
    expect(&mut admin, &[("LLEN l", "1")]);
}

#[test]
fn connections_end_with_their_users() {
    let server = Server::start(&[]);
    let mut admin = server.connect();
    for user in ["anna", "bert"] {
        assert_eq!(say(&mut admin, &format!("ACL SETUSER {user} on nopass ~* &* +@all")), "OK");
    }
    let waiting = in_background(connect_as(&server, "anna", "x"), "BLPOP nothing 0");
    let mut anna = connect_as(&server, "anna", "x");
    let mut bert = connect_as(&server, "bert", "x");
    expect(
        &mut admin,
        &[
            ("ACL DELUSER default anna", "-ERR The 'default' user cannot be removed"),
            ("ACL DELUSER anna nobody anna", "1"),
            ("ACL USERS", "[bert default]"),
        ],
    );
    assert_eq!(waiting.join().expect("ended"), "closed");
    assert_eq!(say(&mut anna, "PING"), "closed");
    // Who deletes itself gets the reply.
    expect(&mut bert, &[("ACL DELUSER bert", "1"), ("PING", "closed")]);
}

#[test]
fn subscribers_end_when_their_channels_are_taken_away() {
    let server = Server::start(&[]);
    let mut admin = server.connect();
    for user in ["anna", "bert"] {
        assert_eq!(say(&mut admin, &format!("ACL SETUSER {user} on nopass &news &old +@all")), "OK");
    }
    let mut anna = connect_as(&server, "anna", "x");
    let mut bert = connect_as(&server, "bert", "x");
    assert!(say(&mut anna, "SUBSCRIBE news").contains("news"));
    assert!(say(&mut bert, "SUBSCRIBE old").contains("old"));
    let subscribers = |admin: &mut Connection, wanted: &str| {
        let deadline = Instant::now() + Duration::from_secs(5);
        while say(admin, "PUBSUB NUMSUB news old") != wanted {
            assert!(Instant::now() < deadline, "{}", say(admin, "PUBSUB NUMSUB news old"));
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    subscribers(&mut admin, "[news 1 old 1]");
    // More channels than before end nobody; of fewer only those who listen to what is gone.
    expect(&mut admin, &[("ACL SETUSER anna &more", "OK"), ("ACL SETUSER bert &more", "OK")]);
    subscribers(&mut admin, "[news 1 old 1]");
    for user in ["anna", "bert"] {
        assert_eq!(say(&mut admin, &format!("ACL SETUSER {user} resetchannels &old")), "OK");
    }
    subscribers(&mut admin, "[news 0 old 1]");
}

#[test]
fn users_stand_in_the_configuration_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("server.conf");
    std::fs::write(&path, "user anna on nopass +get (~a +set)\nuser default on nopass ~* &* +@all\n")
        .expect("written");
    let mut server = Server::start(&[path.to_str().expect("a path of text")]);
    let mut admin = server.connect();
    let anna = "user anna on nopass resetchannels -@all +get (~a resetchannels -@all +set)";
    let default = "user default on nopass ~* &* +@all";
    expect(
        &mut admin,
        &[
            ("ACL LIST", &format!("[{anna} {default}]")),
            (
                "ACL SAVE",
                "-ERR This instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command and then issue a CONFIG REWRITE (assuming you have a configuration file set) in order to store users in the configuration.",
            ),
            ("ACL SETUSER bert on >x ~b* db=3", "OK"),
            ("CONFIG REWRITE", "OK"),
        ],
    );
    drop(admin);
    server.crash_and_restart(&[path.to_str().expect("a path of text")]);
    let mut admin = server.connect();
    let bert = "user bert on #2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881 ~b* resetchannels db=3 -@all";
    expect(&mut admin, &[("ACL LIST", &format!("[{anna} {bert} {default}]"))]);
}

#[test]
fn users_stand_in_a_file_of_their_own() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("users.acl");
    std::fs::write(&path, "user anna on nopass ~* &* +@all\n").expect("written");
    let server = Server::start(&["--aclfile", path.to_str().expect("a path of text")]);
    let mut admin = server.connect();
    let mut anna = connect_as(&server, "anna", "x");
    expect(&mut admin, &[("ACL SETUSER bert on nopass ~b +get", "OK"), ("ACL SAVE", "OK")]);
    let mut bert = connect_as(&server, "bert", "x");
    let saved = std::fs::read_to_string(&path).expect("there");
    let bert_line = "user bert on nopass ~b resetchannels -@all +get\n";
    assert_eq!(
        saved,
        format!("user anna on nopass ~* &* +@all\n{bert_line}user default on nopass ~* &* +@all\n")
    );
    // A file with a fault changes nothing.
    std::fs::write(&path, format!("{bert_line}user anna +nosuch\n")).expect("written");
    let shown = path.display();
    assert_eq!(
        say(&mut admin, "ACL LOAD"),
        format!(
            "-ERR {shown}:2: Error in applying operation '+nosuch': Unknown command or category name in ACL. WARNING: ACL \
             errors detected, no change to the previously active ACL rules was performed"
        )
    );
    expect(&mut anna, &[("ACL WHOAMI", "anna")]);
    // Who is not in the file any more is gone; the others go on with their new rules.
    std::fs::write(&path, "user bert on nopass ~b +set\n").expect("written");
    expect(&mut admin, &[("ACL LOAD", "OK"), ("ACL USERS", "[bert default]")]);
    expect(&mut anna, &[("PING", "closed")]);
    expect(
        &mut bert,
        &[("SET b 1", "OK"), ("GET b", "-NOPERM User bert has no permissions to run the 'get' command")],
    );
}

#[test]
fn a_user_can_be_limited_to_read_only_scripts() {
    let server = Server::start(&[]);
    let mut admin = server.connect();
    let library = "#!lua name=lib\nredis.register_function{function_name='look', flags={'no-writes'}, \
                   callback=function(keys) return redis.call('get', keys[1]) end}";
    assert_eq!(send(&mut admin, &["FUNCTION", "LOAD", library]), "lib");
    expect(
        &mut admin,
        &[
            ("SET key value", "OK"),
            ("ACL SETUSER reader on >secret ~* -@all +eval_ro +evalsha_ro +fcall_ro +get", "OK"),
        ],
    );
    let mut reader = connect_as(&server, "reader", "secret");
    let get = "return redis.call('get', KEYS[1])";
    assert_eq!(send(&mut reader, &["EVAL_RO", get, "1", "key"]), "value");
    assert_eq!(send(&mut reader, &["FCALL_RO", "look", "1", "key"]), "value");
    for refused in [&["EVAL", get, "1", "key"][..], &["FCALL", "look", "1", "key"], &["SET", "key", "other"]]
    {
        let answer = send(&mut reader, refused);
        assert!(answer.starts_with("-NOPERM"), "{refused:?}: {answer}");
    }
    // A read-only script calls no write command, whatever its user may do; and no command that its user may not call.
    let write = send(&mut reader, &["EVAL_RO", "return redis.call('set', KEYS[1], 'other')", "1", "key"]);
    assert!(
        write.contains("ACL failure in script") || write.contains("Write commands are not allowed"),
        "{write}"
    );
    let strlen = send(&mut reader, &["EVAL_RO", "return redis.call('strlen', KEYS[1])", "1", "key"]);
    assert!(strlen.contains("ACL failure in script"), "{strlen}");
    expect(&mut admin, &[("GET key", "value")]);
}
