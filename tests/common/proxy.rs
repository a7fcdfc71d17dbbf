//! A network link between a replica and its primary that can be cut and blocked.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

#[derive(Default)]
struct Shared {
    target: AtomicU16,
    blocked: AtomicBool,
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
    let copy = |stream: &TcpStream| stream.try_clone().expect("a second handle");
    shared.open.lock().expect("no panic").extend([copy(&client), copy(&server)]);
    for (from, to) in [(copy(&client), copy(&server)), (server, client)] {
        std::thread::spawn(move || pump(from, to));
    }
}

fn pump(mut from: TcpStream, mut to: TcpStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}
