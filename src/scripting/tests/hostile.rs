//! Scripts that mean harm: each comes back after a slice, can be abandoned, and leaves nothing behind.

use super::*;

/// Runs the script for some slices, each of which must be short; abandons it, and checks that the engine goes on.
fn never_ends(body: &str) {
    let mut engine = Engine::new();
    engine.set_script_max_memory(256 << 20);
    let mut host = FakeHost::default();
    let mut run = start(&mut engine, body, &[], &[]);
    let mut slices: Vec<Duration> = Vec::new();
    for _ in 0..30 {
        let started = Instant::now();
        let progress = engine.resume(&mut run, &mut host, SLICE);
        slices.push(started.elapsed());
        match progress {
            Progress::Suspended => {}
            Progress::Done(result) => panic!("{body} ended: {}", &show(&result.reply)),
        }
    }
    engine.abandon(run);
    slices.sort();
    // The machine may be busy: the fastest quarter says how the engine behaves, the maximum only that it comes back.
    assert!(slices[slices.len() / 4] < Duration::from_millis(8), "{body}: {slices:?}");
    assert!(slices[slices.len() - 1] < Duration::from_secs(2), "{body}: {slices:?}");
    let run = start(&mut engine, "return redis.call('PING')", &[], &[]);
    assert_eq!(show(&finish(&mut engine, run, &mut host).reply), "+PONG");
}

/// Runs to the end, with a limit of memory of 64 MB.
fn limited(body: &str) -> String {
    let mut engine = open_engine();
    engine.set_script_max_memory(64 << 20);
    let mut host = FakeHost::default();
    let run = start(&mut engine, body, &[], &[]);
    let shown = show(&finish(&mut engine, run, &mut host).reply);
    let run = start(&mut engine, "return redis.call('PING')", &[], &[]);
    assert_eq!(show(&finish(&mut engine, run, &mut host).reply), "+PONG");
    shown
}

#[test]
fn endless_loops() {
    never_ends("while true do end");
    never_ends("while true do pcall(function() while true do end end) end");
    never_ends("while true do pcall(error) end");
    never_ends("xpcall(error, function() while true do end end)");
    never_ends("xpcall(function() while true do end end, function() end)");
    never_ends("while true do coroutine.wrap(function() for i = 1, 100 do end end)() end");
    never_ends("coroutine.wrap(function() while true do end end)()");
    never_ends(
        "local c = coroutine.wrap(function() while true do coroutine.yield() end end) while true do c() end",
    );
    never_ends("while true do redis.call('PING') end");
    never_ends("while true do redis.pcall('FAIL') end");
    never_ends("repeat local f = loadstring('return 1') until not f");
    never_ends("goto_ = nil or (function() while true do end end)()".trim_start_matches("goto_ = nil or "));
}

#[test]
fn endless_callbacks() {
    never_ends("local t = setmetatable({}, {__index = function() while true do end end}) return t.x");
    never_ends("local t = setmetatable({}, {__newindex = function() while true do end end}) t.x = 1");
    never_ends(
        "local t = setmetatable({}, {__tostring = function() while true do end end}) return tostring(t)",
    );
    never_ends("local t = {} for i = 1, 100 do t[i] = i end table.sort(t, function() while true do end end)");
    never_ends("string.gsub('abc', '.', function() while true do end end)");
    never_ends("table.foreach({1}, function() while true do end end)");
    never_ends("load(function() while true do end end)");
}

#[test]
fn long_loops_in_c() {
    never_ends("string.find(string.rep('a', 1e5), '.-.-.-b')");
    never_ends("string.find(string.rep('a', 1e5), '.*.*.*b')");
    never_ends("string.find(string.rep('a', 1e7) .. 'c', string.rep('a', 5e6) .. 'b', 1, true)");
    never_ends("string.gsub(string.rep('a', 1e6), 'a*b', '')");
    never_ends("for w in string.gmatch(string.rep('a', 1e6), 'a*b') do end");
    never_ends("while true do string.rep('', 1e9) string.rep('a', 1e6) end");
    never_ends("local s = string.rep('a', 1e7) while true do s:upper() s:reverse() s:lower() end");
    never_ends(
        "local t = {} for i = 1, 1e5 do t[i] = i end while true do table.insert(t, 1, 0) table.remove(t, 1) end",
    );
    never_ends("local t = {} for i = 1, 2e6 do t[i] = -i end while true do table.sort(t) t[1] = 1 end");
    never_ends("local t = {} for i = 1, 1e5 do t[i] = 'x' end while true do table.concat(t, ',') end");
    never_ends(
        "local t = {} for i = 1, 1e6 do t[i] = i end for i = 1, 1e6 do t[i] = nil end while true do next(t) end",
    );
    never_ends("local t = {} for i = 1, 1e6 do t[i] = i end while true do table.maxn(t) end");
    never_ends("local t = {} for i = 1, 1e6 do t[i] = {} end while true do collectgarbage() end");
    never_ends("local s = 'return {' .. string.rep('1,', 1e5) .. '}' while true do loadstring(s) end");
    never_ends("local s = string.rep('a', 1e7) while true do redis.sha1hex(s) end");
    never_ends("local s = string.rep('a', 1e7) local t = s .. 'b' while true do local x = s < t end");
    never_ends("local s = string.rep('1', 1e7) while true do local x = tonumber(s) end");
    never_ends("local s = string.rep('1', 1e7) while true do local x = tonumber(s, 10), tonumber(s, 9) end");
    never_ends("local s = string.rep('a', 1e7) while true do s:sub(2) end");
    never_ends("local s = string.rep('a', 1e7) while true do s:find('b', 1, true) end");
    never_ends(
        "local s = string.rep('a', 1e6) local p = '[' .. string.rep('b', 1e6) .. ']' while true do s:find(p) s:find('%f' .. p) s:find(p .. '-x') end",
    );
    never_ends("local t = {} for i = 1, 7000 do t[i] = i end while true do unpack(t) end");
}

#[test]
fn results_without_end() {
    never_ends("local t = {} for i = 1, 30 do t = {t, t} end return t");
}

#[test]
fn memory_is_limited() {
    const EXCEEDED: &str = "-ERR Script used more memory than 'script-max-memory' allows. script: ";
    for body in [
        "return string.rep('a', 1e9)",
        "local t = {} for i = 1, 1e9 do t[i] = i end",
        "local s = 'a' while true do s = s .. s end",
        "local t = {} while true do t = {t} end",
        "local t = {} while true do pcall(function() while true do t = {t, {}} end end) end",
        "pcall(string.rep, 'a', 1e9) return 'caught'",
        "local t = {} while true do t[#t + 1] = redis.call('LARGE') end",
        "local t = {} while true do t[#t + 1] = redis.pcall('ECHO', string.rep('a', 1e6) .. #t) end",
        "local t = {} for i = 1, 24 do t = {t, t} end return t",
    ] {
        let shown = limited(body);
        let digest = script(body).digest().hex();
        assert_eq!(shown, format!("{EXCEEDED}{}", String::from_utf8_lossy(&digest)), "{body}");
    }
    // Garbage does not count for ever.
    assert_eq!(limited("for i = 1, 2e6 do local t = {i, tostring(i)} end return 1"), "1");
}

#[test]
fn impossible_requests() {
    const AT: &str = " script: ";
    let error = |body: &str| {
        let shown = limited(body);
        shown.split(AT).next().unwrap_or_default().to_owned()
    };
    assert_eq!(error("return unpack({}, 0, 2^31-1)"), "-ERR user_script:1: too many results to unpack");
    assert_eq!(error("return unpack({}, -2^31, 2^31-1)"), "-ERR user_script:1: too many results to unpack");
    assert_eq!(error("return unpack({}, 1, 1e8)"), "-ERR user_script:1: too many results to unpack");
    assert!(error("setfenv(0, {})").contains("bad argument #1 to 'setfenv'"));
    assert_eq!(
        error("return string.find(string.rep('a', 1e5), string.rep('a?', 1e5))"),
        "-ERR user_script:1: pattern too complex"
    );
    assert_eq!(
        error("return string.rep('abc', 2^31 - 1)").split(AT).next(),
        Some("-ERR Script used more memory than 'script-max-memory' allows.")
    );
}

#[test]
fn deep_nesting_in_c() {
    // Each level has buffers on the C stack: Lua's own limit comes before the end of the fiber's.
    let body = "local n = 0 local function f() n = n + 1 return (string.gsub('a', 'a', f)) end pcall(f) \
                return n > 150 and n < 250";
    assert_eq!(limited(body), "1");
    let body = "local n = 0 local f f = function(s) n = n + 1 return string.format('%s', (string.gsub('ab', '(a)(b)', f))) \
                end pcall(f) return redis.call('PING')";
    assert_eq!(limited(body), "+PONG");
    let body = "local f f = function() return coroutine.wrap(f)() end local ok, e = pcall(f) return e";
    assert!(limited(body).contains("C stack overflow"), "{}", limited(body));
    let body = format!("return {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    assert!(limited(&body).contains("chunk has too many syntax levels"));
}

#[test]
fn finalizers_never_run() {
    let mut engine = open_engine();
    let mut host = FakeHost::default();
    let body = "local p = newproxy(true) getmetatable(p).__gc = function() redis.call('SET', 'gc', '1') while true do \
                end end p = nil collectgarbage() collectgarbage() return 1";
    let run = start(&mut engine, body, &[], &[]);
    assert_eq!(show(&finish(&mut engine, run, &mut host).reply), "1");
    drop(engine);
    assert!(host.keys.is_empty());
}

#[test]
fn the_collector_cannot_be_stopped() {
    // Without a limit of memory, so that only Lua's own pace keeps it small.
    for how in ["'stop'", "'setpause', 1e9", "'setstepmul', 1"] {
        let body = format!(
            "collectgarbage({how}) collectgarbage('restart') collectgarbage({how}) for i = 1, 2e6 do local t = {{i}} end \
             return collectgarbage('count') < 32 * 1024"
        );
        assert_eq!(eval(&body), "1", "{how}");
    }
}

#[test]
fn a_panic_of_the_host_goes_on_in_the_caller() {
    let mut engine = Engine::new();
    let mut host = FakeHost::default();
    let mut run = start(&mut engine, "pcall(redis.call, 'PANIC') return 1", &[], &[]);
    let panic =
        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| engine.resume(&mut run, &mut host, SLICE)));
    assert_eq!(panic.expect_err("panics").downcast_ref::<&str>(), Some(&"the host panics"));
    assert!(run.is_done());
    let run = start(&mut engine, "return redis.call('PING')", &[], &[]);
    assert_eq!(show(&finish(&mut engine, run, &mut host).reply), "+PONG");
}

#[test]
fn several_runs_are_suspended_at_once() {
    let mut engine = Engine::new();
    let mut host = FakeHost::default();
    let body = "local sum = 0 for i = 1, 3e5 do sum = sum + i end return sum";
    let mut runs: Vec<ScriptRun> = (0..6).map(|_| start(&mut engine, body, &[], &[])).collect();
    let mut results = Vec::new();
    let mut slices = 0;
    while !runs.is_empty() {
        runs.retain_mut(|run| match engine.resume(run, &mut host, Duration::from_micros(200)) {
            Progress::Suspended => {
                slices += 1;
                true
            }
            Progress::Done(result) => {
                results.push(show(&result.reply));
                false
            }
        });
    }
    assert_eq!(results, ["45000150000"; 6]);
    assert!(slices > 6, "{slices}");
}

#[test]
fn a_run_goes_on_on_another_thread() {
    let mut engine = Engine::new();
    let mut host = FakeHost::default();
    let mut run = start(&mut engine, "for i = 1, 3e6 do end return redis.call('GET', 'x')", &[], &[]);
    assert_eq!(engine.resume(&mut run, &mut host, SLICE), Progress::Suspended);
    let result = std::thread::spawn(move || {
        // Another host: what the script asks from now on is answered by it.
        let mut host = FakeHost::default();
        host.keys.insert(b"x".to_vec(), b"there".to_vec());
        finish(&mut Engine::new(), run, &mut host)
    });
    assert_eq!(show(&result.join().expect("no panic").reply), "\"there\"");
}

#[test]
fn a_killed_script_says_where_it_was() {
    let mut engine = Engine::new();
    let mut host = FakeHost::default();
    let mut killed = |body: &str| {
        let mut run = start(&mut engine, body, &[], &[]);
        assert_eq!(engine.resume(&mut run, &mut host, SLICE), Progress::Suspended);
        let error = engine.kill(run, "ERR Script killed by user with SCRIPT KILL.");
        let digest = String::from_utf8_lossy(&script(body).digest().hex()).into_owned();
        String::from_utf8_lossy(&error.0).replace(&digest, "DIGEST")
    };
    const KILLED: &str = "ERR Script killed by user with SCRIPT KILL. script: DIGEST, on @user_script:";
    assert_eq!(killed("\nwhile true do end"), format!("{KILLED}2."));
    assert_eq!(killed("\n\nstring.find(string.rep('a', 1e5), '.-.-.-b')"), format!("{KILLED}3."));
    assert_eq!(killed("coroutine.wrap(function()\nwhile true do end end)()"), format!("{KILLED}2."));
}

#[test]
fn dropping_a_run_abandons_it() {
    let mut engine = Engine::new();
    let mut run =
        start(&mut engine, "local t = {} for i = 1, 1e5 do t[i] = {} end while true do end", &[], &[]);
    for _ in 0..50 {
        assert_eq!(engine.resume(&mut run, &mut FakeHost::default(), SLICE), Progress::Suspended);
    }
    drop(run);
    drop(engine);
}

#[test]
fn tiny_slices_change_nothing() {
    let bodies = [
        "local t = {} for i = 1, 20000 do t[i] = (i * 7919) % 10007 end table.sort(t) return redis.sha1hex(table.concat(t, ','))",
        "local t = {} for i = 1, 5000 do t[i] = i end table.sort(t, function(a, b) return a % 97 * 10000 + a < b % 97 * \
         10000 + b end) return redis.sha1hex(table.concat(t, ','))",
        "local s = string.rep('hello world ', 3000) local n = 0 s = s:gsub('%w+', function(w) n = n + 1 return w:upper() .. n \
         end) return {redis.sha1hex(s), n}",
        "local c = coroutine.wrap(function() for i = 1, 5000 do coroutine.yield(i) end end) local sum = 0 for i = 1, 5000 do \
         sum = sum + c() end return sum",
        "local n = 0 for i = 1, 5000 do local ok, e = pcall(error, {i}) n = n + e[1] end return n",
        "local t = {} for i = 1, 3000 do table.insert(t, 1, i) end for i = 1, 1000 do table.remove(t, 1) end return {#t, t[1]}",
        "local n = 0 for i = 1, 2000 do redis.call('SET', 'k' .. i, i) n = n + redis.call('GET', 'k' .. i) end return n",
        "local t = {} for i = 1, 3000 do t[i] = {i, tostring(i), {map = {a = i}}} end return t",
        "return #cjson.encode(cjson.decode('[' .. string.rep('{\"a\":[1,2,3]},', 3000) .. '1]'))",
        "collectgarbage() local f = loadstring(string.rep('local a = 1 ', 150) .. ' return ' .. string.rep('1 + ', 5000) .. '1') \
         return f()",
        "return {string.find(string.rep('a', 300), '.-.-b'), #string.rep('abc', 1e5):reverse():upper()}",
    ];
    for body in bodies {
        let mut shown = Vec::new();
        for slice in [Duration::ZERO, Duration::from_micros(50), Duration::MAX] {
            let mut engine = Engine::new();
            let mut host = FakeHost::default();
            let mut run = start(&mut engine, body, &[], &[]);
            let mut slices = 0;
            let result = loop {
                match engine.resume(&mut run, &mut host, slice) {
                    Progress::Suspended => slices += 1,
                    Progress::Done(result) => break result,
                }
            };
            assert!(slice != Duration::ZERO || slices > 2, "{body}: {slices}");
            shown.push(show(&result.reply));
        }
        assert!(!shown[0].starts_with('-'), "{body}: {}", shown[0]);
        assert_eq!(shown[0], shown[2], "{body}");
        assert_eq!(shown[1], shown[2], "{body}");
    }
}
