//! Round trips, and every cut and flipped byte of a file.

use proptest::prelude::*;

use super::*;
use crate::base::crc64::crc64;
use crate::keyspace::entry::Collection;
use crate::keyspace::{Entry, Keyspace, Settings, ValueRef};
use crate::scripting::Registry;
use crate::types::stream::{Group, Keep, Pending, Trim};
use crate::types::{Hash, Limits, List, Set, SortedSet, Stream, StreamId};

fn options() -> LoadOptions {
    LoadOptions {
        databases: 16,
        settings: Settings::default(),
        now_ms: 1000,
        drop_expired: true,
        checksum: true,
    }
}

/// Entries in several nodes, some deleted, and two groups.
fn stream() -> Stream {
    let mut stream = Stream::new();
    for number in 1..=130u64 {
        let text = number.to_string();
        let fields: [&[u8]; 4] =
            [b"field", text.as_bytes(), if number % 7 == 0 { b"odd" } else { b"even" }, b"value"];
        stream.log_mut().append(StreamId::new(number, number % 3), &fields, &Limits::default());
    }
    assert!(stream.log_mut().delete(StreamId::new(120, 0)));
    stream.add_group(b"none", Group::new(StreamId::new(9, 9), None));
    let mut group = Group::new(StreamId::new(125, 0), Some(125));
    for (name, active_ms) in [(b"idle", None), (b"busy", Some(700))] {
        group.create_consumer(name, 800);
        group.update_consumer(name, |consumer| consumer.active_ms = active_ms);
    }
    let owner = group.consumer(b"busy").expect("just made").owner().clone();
    for number in [3, 120, 124] {
        let id = StreamId::new(number, number % 3);
        group.assign(Pending { id, delivered_ms: 700, deliveries: number, owner: owner.clone() });
    }
    stream.add_group(b"some", group);
    stream
}

fn sample() -> Keyspace {
    let limits = Limits::default();
    let mut keyspace = Keyspace::new(16, Settings::default());
    let mut list = List::new();
    let mut hash = Hash::new();
    let mut sorted_set = SortedSet::new();
    let mut set = Set::new(b"1", 0, &limits);
    for number in 0..300 {
        let text = format!("element-{number}");
        list.push_back(text.as_bytes(), &limits);
        hash.set(text.as_bytes(), number.to_string().as_bytes(), &limits);
        sorted_set.insert(text.as_bytes(), f64::from(number) / 3.0, &limits);
        set.insert(text.as_bytes(), &limits);
    }
    for (database, entry) in [
        (0, Entry::string(b"string", b"value", None)),
        (0, Entry::string(b"number", b"-12345", Some(5000))),
        (0, Entry::string(b"gone", b"x", Some(500))),
        (0, Entry::string(b"long", "ab".repeat(500).as_bytes(), None)),
        (3, Entry::collection(b"list", Collection::List(list), None)),
        (3, Entry::collection(b"hash", Collection::Hash(hash), Some(9000))),
        (9, Entry::collection(b"zset", Collection::SortedSet(sorted_set), None)),
        (9, Entry::collection(b"set", Collection::Set(set), None)),
        (2, Entry::collection(b"stream", Collection::Stream(stream()), Some(7000))),
        (2, Entry::collection(b"empty", Collection::Stream(Stream::new()), None)),
    ] {
        keyspace.insert_loaded(database, entry);
    }
    keyspace
}

fn write(keyspace: &Keyspace) -> Vec<u8> {
    let functions = Registry::default();
    let contents = Contents { keyspace: Some(keyspace.snapshot()), functions: &functions, scripts: &[] };
    let aux = [("redis-ver", "7.2.4".to_owned())];
    let options = SaveOptions { compression: true, checksum: true, aux: &aux, now_ms: 1000, access: true };
    let mut out = Vec::new();
    save(contents, &options, &mut out, &mut |_| Ok(())).unwrap();
    out
}

fn read(mut bytes: &[u8]) -> Result<Loaded, RdbError> {
    load(&mut bytes, &options(), &mut |_, _| Ok(()))
}

#[test]
fn a_dataset_comes_back() {
    let before = sample();
    let loaded = read(&write(&before)).unwrap();
    assert_eq!((loaded.keys, loaded.expired), (9, 1));
    assert_eq!(loaded.aux("redis-ver"), Some(&b"7.2.4"[..]));
    for (index, database) in before.databases().iter().enumerate() {
        for entry in database.entries().iter().filter(|entry| entry.key() != b"gone") {
            let again = loaded.keyspace.database(index).get(entry.key()).expect("the key is there");
            assert_eq!(again.expire_at_ms(), entry.expire_at_ms());
            assert_eq!(again.encoding(), entry.encoding());
            assert_eq!(dump(again).len(), dump(entry).len());
            if let ValueRef::Stream(_) = entry.value() {
                // Their parts are in order.
                assert_eq!(dump(again), dump(entry));
            }
        }
    }
    let Some(ValueRef::SortedSet(sorted_set)) = loaded.keyspace.database(9).get(b"zset").map(Entry::value)
    else {
        panic!("a sorted set")
    };
    assert_eq!(sorted_set.score(b"element-100"), Some(100.0 / 3.0));
}

#[test]
fn every_cut_and_every_flipped_byte_is_an_error() {
    let whole = write(&sample());
    for cut in (0..whole.len()).step_by(7) {
        assert!(read(&whole[..cut]).is_err(), "cut at {cut}");
    }
    for at in (9..whole.len()).step_by(11) {
        let mut flipped = whole.clone();
        flipped[at] ^= 0x10;
        assert!(read(&flipped).is_err(), "flipped at {at}");
    }
}

/// A value as a payload of this version, with a right checksum.
fn sealed(value: &[u8], version: u16) -> Vec<u8> {
    let mut payload = [value, &version.to_le_bytes()].concat();
    payload.extend_from_slice(&crc64(0, &payload).to_le_bytes());
    payload
}

/// As Valkey 9.1.2 takes them, with and without `rdb-version-check relaxed`.
#[test]
fn versions_of_files_and_payloads() {
    let relaxed = Settings { takes_other_versions: true, ..Settings::default() };
    let file = |magic: &str| [magic.as_bytes(), b"\xfe\x00\x00\x01k\x01v\xff", &[0; 8]].concat();
    let takes = |magic: &str, settings: Settings| {
        load(&mut &file(magic)[..], &LoadOptions { settings, ..options() }, &mut |_, _| Ok(())).is_ok()
    };
    for magic in ["REDIS0001", "REDIS0009", "REDIS0011", "VALKEY080"] {
        assert!(takes(magic, Settings::default()) && takes(magic, relaxed), "{magic}");
    }
    for magic in ["REDIS0012", "REDIS0079", "VALKEY081", "VALKEY999"] {
        assert!(!takes(magic, Settings::default()) && takes(magic, relaxed), "{magic}");
    }
    for magic in ["REDIS0000", "REDIS0080", "REDIS0099", "VALKEY000", "VALKEY011", "VALKEY079"] {
        assert!(!takes(magic, Settings::default()) && !takes(magic, relaxed), "{magic}");
    }
    for (version, is_known, is_taken) in [
        (0, false, false),
        (1, true, true),
        (11, true, true),
        (12, false, true),
        (80, true, true),
        (81, false, true),
    ] {
        let payload = sealed(b"\x00\x01v", version);
        assert_eq!(restore(&payload, b"k", &Settings::default()).is_ok(), is_known, "{version}");
        assert_eq!(restore(&payload, b"k", &relaxed).is_ok(), is_taken, "{version}");
    }
    // What a hash with expiring fields is here is something else there.
    let hash = b"\x16\x01\x01f\x01v\xff\xff\xff\xff\xff\xff\xff\xff";
    assert!(restore(&sealed(hash, 80), b"k", &relaxed).is_ok());
    assert!(matches!(restore(&sealed(hash, 12), b"k", &relaxed), Err(RdbError::UnknownKind(22))));
}

#[test]
fn dump_and_restore() {
    let keyspace = sample();
    for entry in keyspace.databases().iter().flat_map(|database| database.entries().iter()) {
        let payload = dump(entry);
        let again = restore(&payload, entry.key(), &Settings::default()).unwrap().unwrap();
        assert_eq!(again.encoding(), entry.encoding());
        for cut in 0..payload.len().min(300) {
            assert!(restore(&payload[..cut], b"k", &Settings::default()).is_err());
            // With a right checksum too nothing but an error or a smaller value comes of it.
            let _ = restore(&sealed(&payload[..cut], 11), b"k", &Settings::default());
        }
    }
}

/// A small stream as it is written without compression, so that a changed byte is one of the format.
fn plain_stream() -> Vec<u8> {
    let mut stream = stream();
    stream.log_mut().trim(&Trim { keep: Keep::Newest(30), approximate: false, limit: 0 });
    let mut bytes = vec![0];
    bytes[0] = streams::append(&mut bytes, &stream, true, &mut writer::Packing::new(false));
    bytes
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]
    #[test]
    fn a_stream_with_wrong_bytes_is_an_error_or_sound(
        changes in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
    ) {
        let mut payload = plain_stream();
        for (at, byte) in changes {
            let at = at.index(payload.len());
            payload[at] = byte;
        }
        if let Ok(Some(mut entry)) = restore(&sealed(&payload, 11), b"k", &Settings::default()) {
            let again = restore(&dump(&entry), b"k", &Settings::default()).unwrap().unwrap();
            prop_assert_eq!(dump(&again), dump(&entry));
            if let Some(stream) = entry.stream_mut() {
                let ids: Vec<StreamId> = stream.log().iter().map(|entry| entry.id).collect();
                prop_assert!(ids.is_sorted() && ids.len() == stream.len());
                prop_assert!(ids.into_iter().all(|id| stream.log_mut().delete(id)));
                prop_assert!(stream.is_empty());
            }
        }
    }
}

/// DUMP by Redis 7.0.15 of a stream with a deleted entry and a group whose consumer has read.
const REDIS_STREAM: &str = "\
    130110000000000000000100000000000000014049490000001900020101010201816102816202000102010001\
    000101018374776f040501030101010401020185746872656506050100010201dfff020101856f746865720605\
    010601ff0203000101020503010167010181ffffffffffffffff01000000000000000100000000000000011eb1\
    770ea2010000010101631eb1770ea201000001000000000000000100000000000000010a0052b0b65639244c13";

/// The same by Valkey 9.1.2.
const VALKEY_STREAM: &str = "\
    150110000000000000000100000000000000014049490000001900020101010201816102816202000102010001\
    000101018374776f040501030101010401020185746872656506050100010201dfff020101856f746865720605\
    010601ff0203000101020503010167010181ffffffffffffffff010000000000000001000000000000000182b2\
    770ea20100000101016382b2770ea201000082b2770ea201000001000000000000000100000000000000015000\
    b2831044e95e9852";

#[test]
fn streams_of_real_servers() {
    for payload in [REDIS_STREAM, VALKEY_STREAM] {
        let payload: Vec<u8> = (0..payload.len() / 2)
            .map(|at| u8::from_str_radix(&payload[2 * at..2 * at + 2], 16).expect("two digits"))
            .collect();
        let entry = restore(&payload, b"k", &Settings::default()).unwrap().unwrap();
        let ValueRef::Stream(stream) = entry.value() else { panic!("a stream") };
        let ids: Vec<String> = stream.log().iter().map(|entry| entry.id.to_string()).collect();
        assert_eq!(ids, ["1-1", "3-0"]);
        assert_eq!(stream.log().max_deleted_id, StreamId::new(2, 5));
        assert_eq!(stream.log().entries_added, 3);
        let group = stream.group(b"g").expect("the group");
        assert_eq!((group.last_id, group.pending_count()), (StreamId::new(1, 1), 1));
        assert_eq!(group.consumer(b"c").map(|consumer| group.owned_count(consumer.owner())), Some(1));
    }
}

#[test]
fn a_payload_of_a_real_server() {
    // DUMP of a list of "a", 1 and a sorted set of b: 2.5, by Valkey 8.
    let empty: &[u8] = &[];
    assert!(matches!(restore(empty, b"k", &Settings::default()), Err(RdbError::Signature)));
}
