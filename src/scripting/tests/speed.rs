//! How long calls take: run by hand with `cargo test --profile quick --lib speed -- --ignored --nocapture`.

use super::*;

/// A host that costs nothing.
struct Nothing(Vec<u8>);

impl ScriptHost for Nothing {
    fn call(&mut self, _args: &[&[u8]]) -> Reply<'_> {
        Reply::Bulk(&self.0)
    }

    fn set_response_protocol(&mut self, _version: u8) {}

    fn set_effect_targets(&mut self, _targets: EffectTargets) {}

    fn acl_check(&mut self, _args: &[&[u8]]) -> Option<bool> {
        None
    }

    fn log(&mut self, _level: LogLevel, _message: &[u8]) {}
}

#[test]
#[ignore = "a measurement"]
fn speed() {
    let mut engine = Engine::new();
    engine.set_script_max_memory(256 << 20);
    let mut host = Nothing(b"0123456789abcdef".to_vec());
    for (name, body, rounds) in [
        ("return 1", "return 1", 1_000_000u32),
        ("one GET", "return redis.call('GET', KEYS[1])", 1_000_000),
        ("100 GETs", "for i = 1, 100 do redis.call('GET', KEYS[1]) end return 1", 50_000),
        ("1000 additions", "local s = 0 for i = 1, 1000 do s = s + i end return s", 50_000),
    ] {
        let script = script(body);
        let started = Instant::now();
        for _ in 0..rounds {
            let call = ScriptCall { code: Code::Script(&script), keys: &[b"key:000001"], arguments: &[] };
            let mut run = engine.start(call).expect("started");
            assert!(matches!(engine.resume(&mut run, &mut host, Duration::from_secs(1)), Progress::Done(_)));
        }
        println!("{name}: {:?} a call", started.elapsed() / rounds);
    }
    let rounds = 2000;
    let started = Instant::now();
    for _ in 0..rounds {
        let run = start(&mut engine, "return 1", &[], &[]);
        engine.abandon(run);
    }
    println!("abandon and build anew: {:?}", started.elapsed() / rounds);
}
