//! Scripts that mean harm, on a live server. Whatever they do: other clients are answered meanwhile (or told BUSY), the
//! script can be killed, the next one finds everything as it was, and the memory comes back.
//!
//! Each script is run in every way there is: EVAL_RO, which goes on on a thread of its own; EVAL, which holds the dataset; FCALL
//! and FCALL_RO, as a function of a library.

#[path = "../common/mod.rs"]
mod common;

mod endless;
mod greedy;
mod lasting;
mod pulse;
mod wrong;

use std::time::{Duration, Instant};

use common::client::{Client, Reply};
use common::server::Server;
use common::wait_until;
use pulse::Pulse;

/// How long anybody else may wait, beyond what the machine itself makes everybody wait for.
const LIMIT: Duration = Duration::from_millis(100);
/// The same while a reply or an error of 60 MB is made, which is copied several times in one go; and for builds that are not optimised.
const LARGE_LIMIT: Duration = Duration::from_secs(1);

fn limit(body: &str) -> Duration {
    if cfg!(debug_assertions) || body.contains("6e7") { LARGE_LIMIT } else { LIMIT }
}

/// By how much the memory in use may have grown at the end: idle interpreters keep some.
const KEPT_BYTES: i64 = 48 << 20;

/// By which command a script is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    Eval,
    EvalReadOnly,
    Function,
    ReadOnlyFunction,
}

const WAYS: [Way; 4] = [Way::Eval, Way::EvalReadOnly, Way::Function, Way::ReadOnlyFunction];

impl Way {
    fn is_function(self) -> bool {
        matches!(self, Way::Function | Way::ReadOnlyFunction)
    }

    fn is_read_only(self) -> bool {
        matches!(self, Way::EvalReadOnly | Way::ReadOnlyFunction)
    }

    /// Sends the call of a script.
    fn send(self, client: &mut Client, body: &str) {
        if self.is_function() {
            let library = format!(
                "#!lua name=attack\nredis.register_function{{function_name='attack', callback=function(KEYS, ARGV) {body}\nend\
                 {}}}",
                if self.is_read_only() { ", flags={'no-writes'}" } else { "" }
            );
            let loaded = client.call_args(&["FUNCTION", "LOAD", "REPLACE", &library]);
            assert_eq!(loaded.text(), "attack", "{body}");
        }
        let words = match self {
            Way::Eval => ["EVAL", body, "0"],
            Way::EvalReadOnly => ["EVAL_RO", body, "0"],
            Way::Function => ["FCALL", "attack", "0"],
            Way::ReadOnlyFunction => ["FCALL_RO", "attack", "0"],
        };
        client.send(&words).expect("sent");
    }
}

/// What a script can see of its surroundings, in short: every name with the type of its value, and what some of it answers.
const SURROUNDINGS: &str = "
    local seen, above = {}, {}
    local function walk(path, value)
        seen[#seen + 1] = path .. ':' .. type(value)
        if type(value) ~= 'table' or above[value] or #path > 200 then return end
        above[value] = true
        for key, inner in pairs(value) do walk(path .. '.' .. tostring(key), inner) end
        if getmetatable(value) then walk(path .. '@', getmetatable(value)) end
        above[value] = nil
    end
    walk('_G', _G) walk('redis', redis) walk('string', string) walk('table', table) walk('cjson', cjson)
    walk('metatable', getmetatable(''))
    table.sort(seen)
    local caught, text = pcall(error, 'x')
    return {redis.sha1hex(table.concat(seen, ' ')), ('ab'):rep(2), type(math.random(1000)), cjson.encode({1, {a = 0.1}}),
        cjson.encode({[1] = 1, [3] = 3}), #KEYS, #ARGV, tostring(caught) .. text, redis.call('echo', 'there'),
        #cmsgpack.pack({1, 'a'}), bit.tohex(-1), tostring(tostring == nil)}";

/// A server under attack, and a client that has nothing to do with it.
struct Stage {
    server: Server,
    other: Client,
    pulse: Pulse,
    used_memory: i64,
    surroundings: [Reply; 4],
}

impl Stage {
    fn new(options: &[&str]) -> Stage {
        // The more there is to reach the better.
        let insecure = ["--lua-enable-insecure-api", "yes"];
        let common = ["--busy-reply-threshold", "20", "--script-max-memory", "200mb"];
        let server = Server::start(&[&common[..], &insecure, options].concat());
        let mut other = server.client();
        other.ok("SET kept value");
        // What is made at first use is there before memory is looked at.
        let surroundings = WAYS.map(|way| surroundings(&server, way));
        let used_memory = server.info_number("used_memory");
        Stage { server, other, pulse: Pulse::new(), used_memory, surroundings }
    }

    /// What was asked for then has been answered now: soon enough?
    #[track_caller]
    fn was_prompt(&self, asked: Instant, body: &str) {
        let took = asked.elapsed();
        if took >= limit(body) {
            let usual = self.pulse.slowest_since(asked);
            assert!(
                took < limit(body) + 2 * usual,
                "{body}: it took {took:?}, that of an idle server {usual:?}"
            );
        }
    }

    /// Somebody else's request, which nobody may hold up for long.
    fn other_is_answered(&mut self, body: &str) -> Reply {
        let asked = Instant::now();
        let reply = self.other.try_call(&["PING"]).unwrap_or_else(|error| panic!("{body}: {error}"));
        self.was_prompt(asked, body);
        assert!(reply.text() == "PONG" || reply.text().starts_with("BUSY "), "{body}: {reply:?}");
        reply
    }

    /// Runs a script to its end.
    fn run(&mut self, way: Way, body: &str) -> Reply {
        let mut caller = self.server.client();
        way.send(&mut caller, body);
        let caller = std::thread::spawn(move || {
            let reply = caller.read();
            (caller, reply)
        });
        while !caller.is_finished() {
            self.other_is_answered(body);
            std::thread::sleep(Duration::from_millis(1));
        }
        let (mut caller, reply) = caller.join().expect("the caller's thread");
        let reply = reply.unwrap_or_else(|error| panic!("{way:?} {body}: {error}"));
        assert_eq!(caller.call("PING").text(), "PONG", "{way:?} {body}: the connection is still in step");
        self.is_clean(way, body);
        reply
    }

    /// Runs a script that does not end, and kills it.
    fn kill(&mut self, way: Way, body: &str) {
        let mut caller = self.server.client();
        way.send(&mut caller, body);
        let kill = if way.is_function() { "FUNCTION KILL" } else { "SCRIPT KILL" };
        if way.is_read_only() {
            assert_eq!(self.other_is_answered(body).text(), "PONG", "{way:?} {body}");
            wait_until(body, || self.other.call(kill).text() == "OK");
            let asked = Instant::now();
            self.other.ok("SET beside 1");
            self.was_prompt(asked, body);
        } else {
            wait_until(body, || self.other_is_answered(body).is_error());
            assert_eq!(self.other.call(kill).text(), "OK", "{way:?} {body}");
        }
        let asked = Instant::now();
        let reply = caller.read().unwrap_or_else(|error| panic!("{way:?} {body}: {error}"));
        self.was_prompt(asked, body);
        assert!(
            reply.is_error() && reply.text().contains("Script killed by user"),
            "{way:?} {body}: {reply:?}"
        );
        assert_eq!(caller.call("PING").text(), "PONG", "{way:?} {body}");
        self.is_clean(way, body);
    }

    /// An ordinary script finds everything as it was before the first attack.
    fn is_clean(&mut self, way: Way, body: &str) {
        let index = WAYS.iter().position(|known| *known == way).expect("one of them");
        assert_eq!(surroundings(&self.server, way), self.surroundings[index], "{way:?} after {body}");
        assert_eq!(self.other.call("GET kept").text(), "value", "{way:?} after {body}");
    }

    /// The end of a test: nobody runs any more, and what they took is given back.
    fn end(mut self) {
        assert_eq!(self.other.call("SCRIPT KILL").text(), "NOTBUSY No scripts in execution right now.");
        let limit = self.used_memory + KEPT_BYTES;
        let mut used = 0;
        let comes_back = common::wait_within(Duration::from_secs(10), || {
            used = self.server.info_number("used_memory");
            (used < limit).then_some(())
        });
        assert!(comes_back.is_some(), "{used} bytes are in use, at the start it was {}", self.used_memory);
    }
}

fn surroundings(server: &Server, way: Way) -> Reply {
    let mut client = server.client();
    way.send(&mut client, SURROUNDINGS);
    let reply = client.read().expect("a reply");
    assert!(matches!(reply, Reply::Array(_)), "{way:?}: {reply:?}");
    reply
}
