//! Writers that remember what they were promised: each key is written once, and counts as soon as it is acknowledged.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use super::client::Client;
use super::wait_until;

struct Shared {
    ports: Vec<u16>,
    stop: AtomicBool,
    count: AtomicUsize,
    acknowledged: Mutex<Vec<String>>,
    errors: Mutex<Vec<String>>,
}

pub struct Load {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    /// Writes to whichever of the servers is the primary, until stopped.
    pub fn start(writers: usize, ports: &[u16]) -> Load {
        let shared = Arc::new(Shared {
            ports: ports.to_vec(),
            stop: AtomicBool::new(false),
            count: AtomicUsize::new(0),
            acknowledged: Mutex::default(),
            errors: Mutex::default(),
        });
        let threads = (0..writers)
            .map(|writer| {
                let shared = shared.clone();
                std::thread::spawn(move || shared.write(writer))
            })
            .collect();
        Load { shared, threads }
    }

    /// Waits until so many more writes are acknowledged.
    pub fn wait_for_more(&self, count: usize) {
        let target = self.shared.count.load(SeqCst) + count;
        wait_until("writes go on", || self.shared.count.load(SeqCst) >= target);
    }

    /// The keys that were acknowledged; each holds its own name. Other errors than READONLY and those of a connection
    /// fail the test.
    pub fn stop(self) -> Vec<String> {
        self.shared.stop.store(true, SeqCst);
        self.threads.into_iter().for_each(|thread| thread.join().expect("no panic"));
        let errors = std::mem::take(&mut *self.shared.errors.lock().expect("no panic"));
        assert!(errors.is_empty(), "errors under load: {errors:?}");
        std::mem::take(&mut *self.shared.acknowledged.lock().expect("no panic"))
    }
}

impl Shared {
    fn write(&self, writer: usize) {
        let mut connection: Option<Client> = None;
        let mut server = 0;
        for number in 0.. {
            let key = format!("load:{writer}:{number}");
            loop {
                if self.stop.load(SeqCst) {
                    return;
                }
                if connection.is_none() {
                    connection = Client::connect(self.ports[server]).ok();
                }
                let reply = connection.as_mut().map(|client| client.try_call(&["SET", &key, &key]));
                if let Some(Ok(reply)) = reply {
                    if !reply.is_error() {
                        self.acknowledged.lock().expect("no panic").push(key);
                        self.count.fetch_add(1, SeqCst);
                        break;
                    }
                    let text = reply.text();
                    let expected = ["READONLY", "LOADING", "MASTERDOWN", "UNBLOCKED"];
                    if !expected.iter().any(|code| text.starts_with(code)) {
                        self.errors.lock().expect("no panic").push(text);
                    }
                }
                // Refused or cut off: the primary may be another one now.
                connection = None;
                server = (server + 1) % self.ports.len();
                std::thread::sleep(Duration::from_millis(2));
            }
        }
    }
}

/// The keys that a server does not hold as they were acknowledged.
pub fn lost(client: &mut Client, acknowledged: &[String]) -> Vec<String> {
    let mut lost = Vec::new();
    for keys in acknowledged.chunks(500) {
        let mut request = vec!["MGET".to_owned()];
        request.extend_from_slice(keys);
        let values = client.call_args(&request);
        let missing = keys
            .iter()
            .zip(values.items())
            .filter(|(key, value)| **value != super::client::Reply::Bulk(key.as_bytes().to_vec()));
        lost.extend(missing.map(|(key, _)| key.clone()));
    }
    lost
}
