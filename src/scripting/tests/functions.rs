//! Libraries and their functions.

use super::*;

struct Server {
    engine: Engine,
    registry: Registry,
    host: FakeHost,
}

impl Server {
    fn new() -> Self {
        Server { engine: Engine::new(), registry: Registry::default(), host: FakeHost::default() }
    }

    fn load(&mut self, code: &str) -> Result<String, String> {
        let limit = Some(Duration::from_millis(50));
        let loaded = self.engine.load_library(&self.registry, code.as_bytes(), true, limit, &mut self.host);
        match loaded {
            Ok((registry, library)) => {
                self.registry = registry;
                Ok(library.name().to_owned())
            }
            Err(error) => Err(String::from_utf8(error.0.into_owned()).expect("text")),
        }
    }

    /// FCALL with the key `k` and the argument `a`.
    fn call(&mut self, name: &str) -> String {
        let function = self.registry.function(name.as_bytes()).expect("registered");
        let code = Code::Function(&self.registry, &function);
        let run = self.engine.start(ScriptCall { code, keys: &[b"k"], arguments: &[b"a"] }).expect("started");
        show(&finish(&mut self.engine, run, &mut self.host).reply)
    }
}

fn load_error(code: &str) -> String {
    Server::new().load(&format!("#!lua name=t\n{code}")).expect_err(code)
}

fn call_one(code: &str) -> String {
    let mut server = Server::new();
    server.load(&format!("#!lua name=t\nredis.register_function('f', {code})")).expect(code);
    server.call("f")
}

#[test]
fn functions_are_called() {
    let mut server = Server::new();
    let code = "#!lua name=lib\nlocal calls = 0\nredis.register_function('f', function(keys, args) calls = calls + 1 \
                return {keys[1], args[1], #keys, calls} end)\nserver.register_function{function_name = 'g', \
                callback = function() return redis.call('PING') end, description = 'about', flags = {'NO-writes', \
                'allow-oom'}}";
    assert_eq!(server.load(code), Ok("lib".into()));
    assert_eq!(server.call("f"), "[\"k\" \"a\" 1 1]");
    assert_eq!(server.call("f"), "[\"k\" \"a\" 1 2]");
    assert_eq!(server.call("g"), "+PONG");
    let library = server.registry.library(b"lib").expect("loaded").clone();
    assert_eq!(library.code().as_ref(), code.as_bytes());
    let g = &library.functions()[1];
    assert_eq!((g.name.as_str(), g.description.as_deref()), ("g", Some(&b"about"[..])));
    assert_eq!(g.flags, ScriptFlags::NO_WRITES.with(ScriptFlags::ALLOW_OOM));
    assert_eq!(server.registry.function(b"f").expect("registered").function().flags, ScriptFlags::NONE);
}

#[test]
fn other_interpreters_load_when_they_call() {
    let mut server = Server::new();
    server.load("#!lua name=lib\nredis.register_function('f', function() return 1 end)").expect("loaded");
    server.engine = Engine::new();
    assert_eq!(server.call("f"), "1");
    server.load("#!lua name=lib\nredis.register_function('f', function() return 2 end)").expect("replaced");
    server.engine = Engine::new();
    assert_eq!(server.call("f"), "2");
    assert_eq!(server.call("f"), "2");
    server.load("#!lua name=other\nredis.register_function('g', function() return 3 end)").expect("loaded");
    assert_eq!(server.call("f"), "2");
    assert_eq!(server.call("g"), "3");
}

#[test]
fn what_does_not_load() {
    assert_eq!(load_error("x"), "ERR Error compiling function: user_function:2: '=' expected near '<eof>'");
    assert_eq!(load_error("return 1"), "ERR No functions registered");
    let registering = |code: &str, expected: &str| {
        assert_eq!(load_error(code), format!("ERR Error registering functions: {expected}"), "{code}");
    };
    registering("redis.register_function()", "ERR wrong number of arguments to server.register_function");
    registering(
        "redis.register_function('f')",
        "ERR calling server.register_function with a single argument is only applicable to Lua table (representing \
         named arguments).",
    );
    registering(
        "redis.register_function('f', 1)",
        "ERR second argument to server.register_function must be a function",
    );
    registering(
        "redis.register_function(function() end, 1)",
        "ERR first argument to server.register_function must be a string",
    );
    let named = |fields: &str, expected: &str| {
        registering(&format!("redis.register_function{{{fields}}}"), expected);
    };
    named("function_name = 'f'", "ERR server.register_function must get a callback argument");
    named("callback = function() end", "ERR server.register_function must get a function name argument");
    named("callback = 1", "ERR callback argument given to server.register_function must be a function");
    named(
        "flags = 1",
        "ERR flags argument to server.register_function must be a table representing function flags",
    );
    named("flags = {'x'}", "ERR unknown flag given");
    named("flags = {{}}", "ERR unknown flag given");
    named("foo = 1", "ERR unknown argument given to server.register_function");
    named("[{}] = 1", "ERR named argument key given to server.register_function is not a string");
    named(
        "function_name = {}",
        "ERR function_name argument given to server.register_function must be a string",
    );
    named("description = {}", "ERR description argument given to server.register_function must be a string");
    registering(
        "redis.register_function('f-g', function() end)",
        "ERR Library names can only contain letters, numbers, or underscores(_) and must be at least one character \
         long",
    );
    registering(
        "redis.register_function('f', function() end) redis.register_function('f', function() end)",
        "ERR Function already exists in the library",
    );
    registering("x = 1", "ERR user_function:2: Attempt to modify a readonly table");
    registering("while true do end", "ERR FUNCTION LOAD timeout");
    registering("redis.log(1)", "ERR server.log() requires two arguments or more.");
    for (code, name) in [
        ("redis.call('PING')", "call"),
        ("math.random()", "math"),
        ("error('x')", "error"),
        ("return KEYS", "KEYS"),
        ("redis.setresp(3)", "setresp"),
        ("redis.set_repl(redis.REPL_NONE)", "set_repl"),
        ("redis.acl_check_cmd('x')", "acl_check_cmd"),
    ] {
        registering(
            code,
            &format!("ERR user_function:2: Script attempted to access nonexistent global variable '{name}'"),
        );
    }
}

#[test]
fn a_failed_load_leaves_all_as_it_was() {
    let mut server = Server::new();
    server.load("#!lua name=a\nredis.register_function('f', function() return 1 end)").expect("loaded");
    let error = server.load("#!lua name=b\nredis.register_function('f', function() return 2 end)");
    assert_eq!(error, Err("ERR Function f already exists".into()));
    let error = server.load("#!lua name=a\nredis.register_function('f', function() return 3 end) nothing()");
    assert!(error.is_err());
    assert_eq!(server.call("f"), "1");
    let again =
        server.engine.load_library(&server.registry, b"#!lua name=a\nx", false, None, &mut server.host);
    assert_eq!(again.map(|_| ()), Err(ErrorReply::from_text("ERR Library 'a' already exists")));
}

#[test]
fn loading_may_log() {
    let mut server = Server::new();
    let code =
        "#!lua name=a\nredis.log(redis.LOG_NOTICE, 'loading') redis.register_function('f', function() end)";
    server.load(code).expect("loaded");
    assert_eq!(server.host.logs, [(LogLevel::Notice, b"loading".to_vec())]);
}

#[test]
fn functions_are_confined() {
    assert_eq!(
        call_one("function() return foo end"),
        "-ERR user_function:2: Script attempted to access nonexistent global variable 'foo' script: f, on @user_function:2."
    );
    assert_eq!(
        call_one("function() foo = 1 end"),
        "-ERR user_function:2: Attempt to modify a readonly table script: f, on @user_function:2."
    );
    assert_eq!(
        call_one("function() error('x') end"),
        "-ERR user_function:2: x script: f, on @user_function:2."
    );
    assert_eq!(call_one("function() return redis.register_function end"), "nil",);
    assert_eq!(
        call_one("function() setmetatable(_G, {}) end"),
        "-ERR Attempt to modify a readonly table script: f, on @user_function:2."
    );
    assert_eq!(
        call_one("function() return KEYS end"),
        "-ERR user_function:2: Script attempted to access nonexistent global variable 'KEYS' script: f, on @user_function:2."
    );
    let mut server = Server::new();
    server
        .load(
            "#!lua name=lib\nlocal lib = redis\nlib.register_function('f1', function() lib.math = math end)\n\
             lib.register_function('f2', function() lib.register_function('f3', function() end) end)",
        )
        .expect("loaded");
    assert!(server.call("f1").contains("Attempt to modify a readonly table"));
    assert!(
        server.call("f2").contains("server.register_function can only be called on FUNCTION LOAD command")
    );
}
