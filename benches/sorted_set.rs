//! Memory and speed of the collections at a million elements: bytes for each element by the allocator's count,
//! sorted set inserts and ranks, and the first write after a clone. Prints a table; run with
//! `cargo bench --bench sorted_set`.

use std::hint::black_box;
use std::time::{Duration, Instant};

use tikv_jemalloc_ctl::thread;
use understudy::types::hash::Hash;
use understudy::types::limits::Limits;
use understudy::types::list::{Direction, List};
use understudy::types::set::Set;
use understudy::types::sorted_set::{ScoreBound, ScoreRange, SortedSet};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

const COUNT: usize = 1_000_000;

/// Bytes that this thread holds, by the allocator's size classes.
fn allocated() -> usize {
    let read = || Some(thread::allocatedp::read().ok()?.get() - thread::deallocatedp::read().ok()?.get());
    read().unwrap_or(0) as usize
}

/// Builds something; prints the bytes and the time for each of `count` parts.
fn build<T>(name: &str, count: usize, make: impl FnOnce() -> T) -> T {
    let (before, start) = (allocated(), Instant::now());
    let made = make();
    let time = start.elapsed();
    let bytes = allocated().saturating_sub(before) as f64 / count as f64;
    println!("{name:<44} {bytes:>8.1} bytes  {:>8.0} ns", time.as_nanos() as f64 / count as f64);
    made
}

/// Clones, writes, and drops the clone, a thousand times; prints the times of the writes.
fn first_write<T: Clone>(name: &str, value: &mut T, mut write: impl FnMut(&mut T, usize)) {
    let mut times: Vec<Duration> = (0..1000)
        .map(|step| {
            let kept = value.clone();
            let start = Instant::now();
            write(value, step);
            let time = start.elapsed();
            drop(black_box(kept));
            time
        })
        .collect();
    times.sort_unstable();
    let at = |share: f64| times[(share * 999.0) as usize].as_nanos() as f64 / 1000.0;
    println!("{name:<44} median {:>6.1} µs  p99 {:>6.1} µs  worst {:>6.1} µs", at(0.5), at(0.99), at(1.0));
}

fn each(name: &str, count: usize, mut operation: impl FnMut(usize)) {
    let start = Instant::now();
    (0..count).for_each(&mut operation);
    println!("{name:<44} {:>8.0} ns", start.elapsed().as_nanos() as f64 / count as f64);
}

fn small(limits: &Limits) {
    let keys = 10_000;
    let _hashes = build("hash of 10 fields (field:n -> value:n)", keys, || {
        (0..keys).map(|_| small_hash(limits)).collect::<Vec<_>>()
    });
    let _sorted = build("sorted set of 10 (member:n)", keys, || {
        (0..keys).map(|_| small_sorted_set(limits)).collect::<Vec<_>>()
    });
}

fn small_hash(limits: &Limits) -> Hash {
    let mut hash = Hash::new();
    for number in 0..10 {
        hash.set(format!("field:{number}").as_bytes(), format!("value:{number}").as_bytes(), limits);
    }
    hash
}

fn small_sorted_set(limits: &Limits) -> SortedSet {
    let mut set = SortedSet::new();
    for number in 0..10 {
        set.insert(format!("member:{number}").as_bytes(), f64::from(number), limits);
    }
    set
}

fn sorted_set(limits: &Limits) {
    let mut random = fastrand::Rng::with_seed(1);
    let mut set = build("sorted set, random scores", COUNT, || {
        let mut set = SortedSet::new();
        for number in 0..COUNT {
            set.insert(format!("member:{number}").as_bytes(), random.f64(), limits);
        }
        set
    });
    let names: Vec<String> = (0..COUNT).map(|_| format!("member:{}", random.usize(0..COUNT))).collect();
    each("  rank", COUNT / 4, |step| {
        black_box(set.rank(names[step].as_bytes()));
    });
    each("  update of a score", COUNT / 4, |step| {
        black_box(set.insert(names[step].as_bytes(), random.f64(), limits));
    });
    each("  count by score", COUNT / 4, |step| {
        let min = step as f64 / COUNT as f64;
        let range = ScoreRange { min: ScoreBound::Inclusive(min), max: ScoreBound::Exclusive(min + 0.1) };
        black_box(set.ranks_by_score(&range));
    });
    each("  100 members from a rank", 10_000, |step| {
        black_box(set.iter_from(step * 90, Direction::Forward).take(100).count());
    });
    first_write("  first write after a clone", &mut set, |set, step| {
        set.insert(names[step].as_bytes(), step as f64, limits);
    });
    drop(set);
    build("sorted set, ascending scores", COUNT, || {
        let mut set = SortedSet::new();
        for number in 0..COUNT {
            set.insert(format!("member:{number}").as_bytes(), number as f64, limits);
        }
        set
    });
}

fn main() {
    let limits = &Limits::default();
    small(limits);
    sorted_set(limits);
    let mut set = build("set", COUNT, || {
        let mut set = Set::new(b"member:0", 0, limits);
        for number in 0..COUNT {
            set.insert(format!("member:{number}").as_bytes(), limits);
        }
        set
    });
    first_write("  first write after a clone", &mut set, |set, step| {
        set.remove(format!("member:{}", step * 997).as_bytes());
    });
    drop(set);
    let mut hash = build("hash", COUNT, || {
        let mut hash = Hash::new();
        for number in 0..COUNT {
            hash.set(format!("field:{number}").as_bytes(), format!("value:{number}").as_bytes(), limits);
        }
        hash
    });
    first_write("  first write after a clone", &mut hash, |hash, step| {
        hash.set(format!("field:{}", step * 997).as_bytes(), b"other", limits);
    });
    drop(hash);
    let mut list = build("list of element:n (about 14 bytes)", COUNT, || {
        let mut list = List::new();
        for number in 0..COUNT {
            list.push_back(format!("element:{number}").as_bytes(), limits);
        }
        list
    });
    each("  element by index", COUNT / 10, |step| {
        black_box(list.get(step * 7919 % COUNT));
    });
    first_write("  first write after a clone", &mut list, |list, step| {
        list.set(step * 997, b"other", limits);
    });
    first_write("  first push after a clone", &mut list, |list, _| list.push_back(b"other", limits));
}
