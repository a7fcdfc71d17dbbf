//! RDB files and DUMP payloads from anyone: the reader returns a dataset, which can be written and read again, or an error.
#![no_main]

use libfuzzer_sys::fuzz_target;
use understudy::keyspace::Settings;
use understudy::rdb::{self, Contents, LoadOptions, Loaded, RdbError, SaveOptions};

fn load(mut bytes: &[u8], checksum: bool) -> Result<Loaded, RdbError> {
    let options =
        LoadOptions { databases: 16, settings: Settings::default(), now_ms: 1_000_000, drop_expired: false, checksum };
    rdb::load(&mut bytes, &options, &mut |_, _| Ok(()))
}

fuzz_target!(|bytes: &[u8]| {
    // The fuzzer need not find the signature by itself.
    let file = [b"REDIS0011", bytes].concat();
    // Nor a checksum.
    let Ok(loaded) = load(&file, false) else { return };
    let functions = Default::default();
    let contents = Contents { keyspace: Some(loaded.keyspace.snapshot()), functions: &functions, scripts: &[] };
    let options = SaveOptions { compression: true, checksum: true, aux: &[], now_ms: 1_000_000, access: true };
    let mut written = Vec::new();
    rdb::save(contents, &options, &mut written, &mut |_| Ok(())).expect("into memory");
    let again = load(&written, true).expect("what was written can be read");
    assert_eq!(again.keyspace.len(), loaded.keyspace.len());
});
