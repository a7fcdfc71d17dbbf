//! What a version of the dataset costs: taking it, the first writes beside it, writing it out as RDB.
//!
//! A write beside a snapshot copies what it shares with it: a segment of keys, or the pointers to a collection's parts
//! and one of the parts, never the whole.

use std::hint::black_box;
use std::time::{Duration, Instant};

use criterion::{
    BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime,
};
use understudy::keyspace::{Entry, Keyspace, Settings, WriteState, WriteTxn};
use understudy::rdb;
use understudy::types::{Hash, Limits, List, Set, SortedSet};

const KEYS: u64 = 1_000_000;
const ELEMENTS: u64 = 1_000_000;

fn key(number: u64) -> Vec<u8> {
    format!("key:{number:012}").into_bytes()
}

fn filled() -> Keyspace {
    let mut keyspace = Keyspace::new(16, Settings::default());
    for number in 0..KEYS {
        keyspace.insert_loaded(0, Entry::string(&key(number), b"0123456789abcdev", None));
    }
    keyspace
}

fn of_a_keyspace(criterion: &mut Criterion) {
    let mut keyspace = filled();
    let mut group = criterion.benchmark_group("snapshot of 1M keys");
    group.bench_function("take", |bencher| bencher.iter_with_large_drop(|| keyspace.snapshot()));
    let mut state = WriteState::default();
    let mut random = fastrand::Rng::with_seed(1);
    for (name, with_snapshot) in [("write", false), ("first write", true)] {
        group.bench_function(name, |bencher| {
            bencher.iter_custom(|rounds| {
                let mut sum = Duration::ZERO;
                for _ in 0..rounds {
                    let snapshot = with_snapshot.then(|| keyspace.snapshot());
                    let key = key(random.u64(..KEYS));
                    let began = Instant::now();
                    let mut transaction = WriteTxn::new(&mut keyspace, &mut state, 0, 1_000);
                    transaction.insert_string(&key, b"0123456789abcdew", None);
                    sum += began.elapsed();
                    drop(snapshot);
                }
                sum
            });
        });
    }
    group.throughput(Throughput::Elements(KEYS)).sample_size(10);
    group.bench_function("write as RDB", |bencher| {
        let snapshot = keyspace.snapshot();
        let functions = Default::default();
        let options =
            rdb::SaveOptions { compression: true, checksum: true, aux: &[], now_ms: 1_000, access: true };
        bencher.iter(|| {
            let contents =
                rdb::Contents { keyspace: Some(snapshot.clone()), functions: &functions, scripts: &[] };
            rdb::save(contents, &options, &mut std::io::sink(), &mut |_| Ok(()))
                .expect("a sink takes everything");
        });
    });
    group.finish();
}

/// One write into a collection whose every node is shared.
fn first_write<C: Clone>(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    mut collection: C,
    mut write: impl FnMut(&mut C, u64),
) {
    let mut random = fastrand::Rng::with_seed(1);
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|rounds| {
            let mut sum = Duration::ZERO;
            for _ in 0..rounds {
                let snapshot = black_box(collection.clone());
                let number = random.u64(..ELEMENTS);
                let began = Instant::now();
                write(&mut collection, number);
                sum += began.elapsed();
                drop(snapshot);
            }
            sum
        });
    });
}

fn of_collections(criterion: &mut Criterion) {
    let limits = Limits::default();
    let mut group = criterion.benchmark_group("first write beside a snapshot, 1M elements");
    let mut hash = Hash::new();
    let mut set = Set::new(b"member", ELEMENTS as usize, &limits);
    let mut sorted_set = SortedSet::new();
    let mut list = List::new();
    for number in 0..ELEMENTS {
        let text = key(number);
        hash.set(&text, b"value", &limits);
        set.insert(&text, &limits);
        sorted_set.insert(&text, number as f64, &limits);
        list.push_back(&text, &limits);
    }
    first_write(&mut group, "hash", hash, |hash, number| {
        hash.set(&key(number), b"other", &limits);
    });
    first_write(&mut group, "set", set, |set, number| {
        set.remove(&key(number));
        set.insert(&key(number), &limits);
    });
    first_write(&mut group, "sorted set", sorted_set, |sorted_set, number| {
        sorted_set.insert(&key(number), (ELEMENTS - number) as f64 + 0.5, &limits);
    });
    first_write(&mut group, "list", list, |list, number| {
        list.push_back(&key(number), &limits);
        list.pop_front(&limits);
    });
    group.finish();
}

criterion_group!(benches, of_a_keyspace, of_collections);
criterion_main!(benches);
