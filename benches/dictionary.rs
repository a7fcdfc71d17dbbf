//! What the dictionary of entries costs: bytes a key by the allocator, the worst single insert, snapshots and the
//! writes after them (printed once), and lookups one by one against batches with prefetch (by criterion).

use std::alloc::{GlobalAlloc, Layout};
use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use criterion::{Criterion, Throughput};
use tikv_jemallocator::{Jemalloc, usable_size};
use understudy::keyspace::entry::Entry;
use understudy::types::dictionary::{Dictionary, hash};

/// jemalloc, and while `COUNTING` the sum of what it really gave, rounding included.
struct CountingAllocator;

#[global_allocator]
static ALLOCATOR: CountingAllocator = CountingAllocator;

static COUNTING: AtomicBool = AtomicBool::new(false);
static ALLOCATED_BYTES: AtomicUsize = AtomicUsize::new(0);

// SAFETY: every call is passed on to jemalloc unchanged.
unsafe impl GlobalAlloc for CountingAllocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those jemalloc asks for.
        let block = unsafe { Jemalloc.alloc(layout) };
        if COUNTING.load(Relaxed) {
            // SAFETY: the block is live.
            ALLOCATED_BYTES.fetch_add(unsafe { usable_size(block) }, Relaxed);
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if COUNTING.load(Relaxed) {
            // SAFETY: the block is live until the next line.
            ALLOCATED_BYTES.fetch_sub(unsafe { usable_size(block) }, Relaxed);
        }
        // SAFETY: as for `alloc`.
        unsafe { Jemalloc.dealloc(block, layout) }
    }
}

const KEYS: u64 = 1_000_000;
const MANY_KEYS: u64 = 10_000_000;
const BATCH: usize = 16;

fn key(number: u64) -> [u8; 16] {
    let mut key = *b"key:000000000000";
    let mut rest = number;
    for digit in key[4..].iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    key
}

fn filled(keys: u64, value: &[u8]) -> Dictionary<Entry> {
    (0..keys).map(|number| Entry::string(&key(number), value, None)).collect()
}

fn print_memory() {
    for (value_len, target) in [(16, 69), (64, 117)] {
        let value = vec![b'v'; value_len];
        COUNTING.store(true, Relaxed);
        let dictionary = filled(KEYS, &value);
        let bytes = ALLOCATED_BYTES.load(Relaxed) as f64 / KEYS as f64;
        let table = dictionary.memory_usage() as f64 / KEYS as f64;
        println!(
            "memory, {KEYS} keys of 16 bytes, values of {value_len}: {bytes:.1} bytes a key (target {target}), of them {table:.1} table"
        );
    }
}

/// Processor time of this thread, so that a busy machine's pauses do not count as a slow insert.
fn thread_time_ns() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    assert_eq!(unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) }, 0);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}

fn thread_time_since(start_ns: u64) -> Duration {
    Duration::from_nanos(thread_time_ns() - start_ns)
}

fn print_worst_insert() -> Dictionary<Entry> {
    let mut dictionary = Dictionary::new();
    let mut times =
        hdrhistogram::Histogram::<u64>::new_with_max(10_000_000_000, 3).expect("3 digits are possible");
    for number in 0..MANY_KEYS {
        let entry = Entry::string(&key(number), b"0123456789abcdev", None);
        let start = thread_time_ns();
        dictionary.insert(entry);
        times.saturating_record(thread_time_ns() - start);
    }
    println!(
        "insert, {MANY_KEYS} keys, processor time with the clock: mean {:.0} ns, 99.9 % {} µs, 99.999 % {} µs, worst {} µs",
        times.mean(),
        times.value_at_quantile(0.999) / 1000,
        times.value_at_quantile(0.99999) / 1000,
        times.max() / 1000
    );
    dictionary
}

fn print_snapshot(mut dictionary: Dictionary<Entry>) {
    let start = thread_time_ns();
    let snapshot = dictionary.clone();
    println!("snapshot, {MANY_KEYS} keys, processor time as below: {:?}", thread_time_since(start));
    let (mut first_writes, mut random) = (Vec::new(), fastrand::Rng::with_seed(1));
    for _ in 0..20_000 {
        let key = key(random.u64(..MANY_KEYS));
        let start = thread_time_ns();
        dictionary.get_mut(&key).expect("the key exists").set_string(b"0123456789abcdew");
        first_writes.push(thread_time_since(start));
    }
    let sum: Duration = first_writes.iter().sum();
    let worst = first_writes.iter().max().expect("there are some");
    println!("write after a snapshot: mean {:?}, worst {worst:?}", sum / first_writes.len() as u32);
    let start = thread_time_ns();
    drop(snapshot);
    println!("drop of the snapshot: {:?}", thread_time_since(start));
    let start = thread_time_ns();
    drop(dictionary);
    println!("drop of the dictionary: {:?}", thread_time_since(start));
}

fn lookups(criterion: &mut Criterion) {
    let dictionary = filled(KEYS, b"0123456789abcdev");
    let mut random = fastrand::Rng::with_seed(1);
    let batches: Vec<Vec<[u8; 16]>> =
        (0..100_000).map(|_| (0..BATCH).map(|_| key(random.u64(..KEYS))).collect()).collect();
    let mut group = criterion.benchmark_group("get");
    group.throughput(Throughput::Elements(BATCH as u64));
    group.bench_function("one by one, 16 keys", |bencher| {
        let mut batches = batches.iter().cycle();
        bencher.iter(|| {
            let batch = batches.next().expect("cycle");
            batch.iter().for_each(|key| {
                black_box(dictionary.get(key).map(Entry::value));
            });
        });
    });
    group.bench_function("prefetched, 16 keys", |bencher| {
        let mut batches = batches.iter().cycle();
        bencher.iter(|| {
            let batch = batches.next().expect("cycle");
            let mut hashes = [0; BATCH];
            for (hash_of_key, key) in hashes.iter_mut().zip(batch) {
                *hash_of_key = hash(key);
                dictionary.prefetch_segment(*hash_of_key);
            }
            hashes.iter().for_each(|&hash| dictionary.prefetch_item(hash));
            for (key, &hash) in batch.iter().zip(&hashes) {
                black_box(dictionary.get_hashed(hash, key).map(Entry::value));
            }
        });
    });
    group.finish();
    criterion
        .bench_function("hash of 16 bytes", |bencher| bencher.iter(|| hash(black_box(b"key:000000000000"))));
}

fn main() {
    // Not for `cargo test`, which passes --test, nor for a named benchmark.
    if std::env::args().skip(1).all(|argument| argument == "--bench") {
        print_memory();
        print_snapshot(print_worst_insert());
    }
    let mut criterion = Criterion::default().configure_from_args();
    lookups(&mut criterion);
    criterion.final_summary();
}
