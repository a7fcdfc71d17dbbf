//! The thread that drops what takes long to drop: large values, databases, whole datasets.
//!
//! Invariant: handing something over never waits.

use std::any::Any;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Sender, channel};

/// Something to drop, and of how many keys it consists.
type Garbage = (u64, Box<dyn Any + Send>);

static PENDING: AtomicU64 = AtomicU64::new(0);
static FREED: AtomicU64 = AtomicU64::new(0);

static DROPPER: LazyLock<Sender<Garbage>> = LazyLock::new(|| {
    let (sender, garbage) = channel();
    // Where no thread can be had the channel has no other end, and everything is dropped by who hands it over.
    let _ = std::thread::Builder::new()
        .name("lazyfree".into())
        .spawn(move || garbage.into_iter().for_each(dispose));
    sender
});

/// Drops `garbage`, which consists of `keys` keys, on the thread.
pub fn drop_later<T: Send + 'static>(keys: usize, garbage: T) {
    PENDING.fetch_add(keys as u64, Relaxed);
    if let Err(returned) = DROPPER.send((keys as u64, Box::new(garbage))) {
        dispose(returned.0);
    }
}

fn dispose((keys, garbage): Garbage) {
    drop(garbage);
    PENDING.fetch_sub(keys, Relaxed);
    FREED.fetch_add(keys, Relaxed);
}

/// How many keys wait to be dropped.
pub fn pending() -> u64 {
    PENDING.load(Relaxed)
}

/// How many keys were dropped so far.
pub fn freed() -> u64 {
    FREED.load(Relaxed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, sync_channel};

    /// Says on which thread it was dropped.
    struct Tracer(std::sync::mpsc::SyncSender<Option<String>>);

    impl Drop for Tracer {
        fn drop(&mut self) {
            let name = std::thread::current().name().map(str::to_owned);
            self.0.send(name).expect("the test listens");
        }
    }

    #[test]
    fn garbage_is_dropped_elsewhere_and_counted() {
        let (sender, dropped): (_, Receiver<Option<String>>) = sync_channel(1);
        let before = freed();
        drop_later(3, Tracer(sender));
        assert_eq!(dropped.recv().expect("it is dropped").as_deref(), Some("lazyfree"));
        while pending() > 0 {
            std::thread::yield_now();
        }
        assert!(freed() >= before + 3);
    }
}
