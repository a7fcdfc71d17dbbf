//! Scripts that are debugged, by a console that knows beforehand what it will say.

use std::collections::VecDeque;

use parking_lot::Mutex;

use super::*;

const PATIENCE: Duration = Duration::from_millis(50);

#[derive(Default)]
struct Said {
    commands: VecDeque<&'static str>,
    shown: Vec<String>,
    flushes: usize,
    is_waiting: bool,
    is_aborted: bool,
}

#[derive(Clone, Default)]
struct Person(Arc<Mutex<Said>>);

impl Person {
    fn says(&self, commands: &[&'static str]) {
        self.0.lock().commands.extend(commands);
    }

    fn was_shown(&self, text: &str) -> bool {
        self.0.lock().shown.iter().any(|line| line.contains(text))
    }
}

impl Console for Person {
    fn show(&mut self, line: Vec<u8>) {
        self.0.lock().shown.push(String::from_utf8_lossy(&line).into_owned());
    }

    fn flush(&mut self) {
        self.0.lock().flushes += 1;
    }

    fn command(&mut self) -> Option<DebugCommand> {
        let mut said = self.0.lock();
        let command = said.commands.pop_front();
        said.is_waiting = command.is_none();
        command.map(|words| words.split(' ').map(|word| word.as_bytes().to_vec()).collect())
    }

    fn abort(&mut self) {
        self.0.lock().is_aborted = true;
    }
}

fn debug(engine: &mut Engine, body: &str) -> (ScriptRun, Person) {
    let person = Person::default();
    let script = script(body);
    let debugger = Debugger::new(script.body(), PATIENCE, Box::new(person.clone()));
    (engine.start_debugging(&script, &[], &[], debugger).expect("started"), person)
}

/// Goes on until the script waits for a command, or is over.
fn go_on(engine: &mut Engine, run: &mut ScriptRun, person: &Person) -> Option<Reply<'static>> {
    let started = Instant::now();
    loop {
        if let Progress::Done(result) = engine.resume(run, &mut FakeHost::default(), SLICE) {
            return Some(result.reply);
        }
        let said = person.0.lock();
        if said.is_waiting || said.is_aborted {
            return None;
        }
        assert!(started.elapsed() < Duration::from_secs(60), "it neither stops nor ends: {:?}", said.shown);
    }
}

#[test]
fn a_stopped_script_is_suspended_until_there_is_a_command() {
    let mut engine = Engine::new();
    let (mut run, person) = debug(&mut engine, "local a = 1\nlocal b = 2\nreturn a + b");
    for line in 1..=3 {
        assert_eq!(go_on(&mut engine, &mut run, &person), None);
        // However often it is gone on with.
        assert_eq!(go_on(&mut engine, &mut run, &person), None);
        assert_eq!(person.0.lock().flushes, line);
        person.says(&["s"]);
    }
    assert_eq!(go_on(&mut engine, &mut run, &person), Some(Reply::Integer(3)));
    // Its state is not kept for others, who are not debugged.
    assert_eq!(engine.used_memory(), (0, 0));
    let run = start(&mut engine, "return redis.breakpoint()", &[], &[]);
    assert_eq!(finish(&mut engine, run, &mut FakeHost::default()).reply, Reply::Nil);
}

#[test]
fn it_can_be_abandoned_wherever_it_is() {
    let mut engine = Engine::new();
    let bodies = ["return 1", "pcall(function() local t = {}\nreturn t end)", "while true do end"];
    for body in bodies {
        for commands in [
            &[][..],
            &["s"],
            &["e while true do end"],
            &["e string.rep('x', 1e6):find(('x-'):rep(20) .. 'y')"],
        ] {
            let (mut run, person) = debug(&mut engine, body);
            person.says(commands);
            for _ in 0..5 {
                if run.is_done() {
                    break;
                }
                engine.resume(&mut run, &mut FakeHost::default(), SLICE);
            }
            let error = engine.kill(run, "ERR ended");
            assert!(error.0.starts_with(b"ERR ended"), "{error:?}");
        }
    }
}

#[test]
fn aborting_leaves_it_where_it_is() {
    let mut engine = Engine::new();
    let (mut run, person) = debug(&mut engine, "pcall(function()\nlocal a = 1\nend)\nreturn 1");
    person.says(&["b 2", "c", "a"]);
    assert_eq!(go_on(&mut engine, &mut run, &person), None);
    assert!(person.0.lock().is_aborted);
    let error = engine.kill(run, "ERR aborted");
    assert!(error.0.ends_with(b" on @user_script:2."), "{error:?}");
}

#[test]
fn code_that_is_evaluated_stops_nowhere_and_ends_no_script() {
    let mut engine = Engine::new();
    let (mut run, person) = debug(&mut engine, "\nlocal f = function(x)\nreturn x end\nreturn f(7)");
    person.says(&[
        "b 3",
        "e local n = 0 for i = 1, 10 do n = n + i end return n",
        "e redis.breakpoint()",
        "e error('raised')",
        "e coroutine.wrap(function() coroutine.yield(5) end)()",
        "e (function() return f end)()",
        "e redis.call('FAIL')",
        // One for `redis.breakpoint`, one for the breakpoint, one for the end.
        "c",
        "c",
        "c",
    ]);
    assert_eq!(go_on(&mut engine, &mut run, &person), Some(Reply::Integer(7)));
    for text in ["<retval> 55", "<retval> true", "<error> ldb_eval:1: raised", "<retval> 5", "WRONGTYPE"] {
        assert!(person.was_shown(text), "{text}: {:?}", person.0.lock().shown);
    }
}

#[test]
fn lines_of_coroutines_are_lines_too() {
    let mut engine = Engine::new();
    let body = "local c = coroutine.wrap(function()\ncoroutine.yield(1)\nreturn 2 end)\nreturn c() + c()";
    let (mut run, person) = debug(&mut engine, body);
    // The function is made where it ends.
    person.says(&["b 2", "b 3", "c", "c", "t", "e 1 + 1", "c", "p", "c"]);
    assert_eq!(go_on(&mut engine, &mut run, &person), Some(Reply::Integer(3)));
    assert!(person.was_shown("* Stopped at 2, stop reason = break point"));
    assert!(person.was_shown("* Stopped at 3, stop reason = break point"));
    assert!(person.was_shown("<retval> 2"));
}

#[test]
fn a_loop_is_stopped_and_memory_is_limited() {
    let mut engine = Engine::new();
    let (mut run, person) = debug(&mut engine, "while true do end");
    person.says(&["c"]);
    assert_eq!(go_on(&mut engine, &mut run, &person), None);
    assert!(person.was_shown("timeout reached, infinite loop?"));
    engine.abandon(run);

    engine.set_script_max_memory(4 << 20);
    for commands in [&["e ('x'):rep(1e7)", "s"][..], &["c"]] {
        let (mut run, person) =
            debug(&mut engine, "local t = {}\nfor i = 1, 1e8 do t[i] = ('x'):rep(1e5) .. i end\nreturn 1");
        person.says(commands);
        match go_on(&mut engine, &mut run, &person) {
            Some(Reply::Error(error)) => {
                assert!(error.0.starts_with(b"ERR Script used more memory"), "{error:?}")
            }
            other => panic!("{other:?}"),
        }
    }
}
