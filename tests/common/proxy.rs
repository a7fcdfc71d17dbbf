//! A network link between a replica and its primary that can be cut, blocked and slowed down.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Shared {
    target: AtomicU16,
    blocked: AtomicBool,
    delay_us: AtomicU64,
    ended: AtomicBool,
    open: Mutex<Vec<TcpStream>>,
}

pub struct Proxy {
    pub port: u16,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn to(target: u16) -> Proxy {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let shared = Arc::new(Shared::default());
        shared.target.store(target, SeqCst);
        let theirs = shared.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if theirs.ended.load(SeqCst) {
                    return;
                }
                if !theirs.blocked.load(SeqCst) {
                    connect(&theirs, client);
                }
            }
        });
        Proxy { port, shared }
    }

    /// Breaks all connections; new ones are let through.
    pub fn cut(&self) {
        for stream in self.shared.open.lock().expect("no panic").drain(..) {
            // The other side may have closed it.
            let _ = stream.shutdown(Shutdown::Both);
        }
    }

    /// Breaks all connections, and lets none through until [`unblock`](Self::unblock).
    pub fn block(&self) {
        self.shared.blocked.store(true, SeqCst);
        self.cut();
    }

    /// From now on everything takes so much longer, in each direction.
    pub fn delay_us(&self, delay_us: u64) {
        self.shared.delay_us.store(delay_us, SeqCst);
    }

    pub fn unblock(&self) {
        self.shared.blocked.store(false, SeqCst);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, SeqCst);
        self.cut();
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn connect(shared: &Arc<Shared>, client: TcpStream) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", shared.target.load(SeqCst))) else { return };
    // A link adds no delays of its own.
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let copy = |stream: &TcpStream| stream.try_clone().expect("a second handle");
    shared.open.lock().expect("no panic").extend([copy(&client), copy(&server)]);
    for (from, to) in [(copy(&client), copy(&server)), (server, client)] {
        let shared = shared.clone();
        std::thread::spawn(move || pump(&shared, from, to));
    }
}

fn pump(shared: &Shared, mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let delay_us = shared.delay_us.load(SeqCst);
        if delay_us > 0 {
            std::thread::sleep(std::time::Duration::from_micros(delay_us));
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
