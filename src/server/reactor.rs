//! Reactor threads: each an event loop of its own that owns the connections given to it. Connections never move.
//!
//! Invariant: what stands in a [`Reactor`] is used by its own thread only, but for counters that anybody reads.

use std::cell::{RefCell, RefMut};
use std::rc::Rc;
use std::sync::Arc;

use tokio::sync::mpsc;
use tokio::task::LocalSet;

use super::Server;
use super::client::Client;
use super::commandstats::CommandStats;
use super::connection::{Connection, Socket};
use super::functions::RecentFunction;
use crate::base::tick_clock::TickClock;
use crate::keyspace::Counters;
use crate::scripting::{Engine, RecentScript};

/// Bytes read at once.
pub const READ_BUFFER: usize = 64 * 1024;

/// What the connections of a thread share.
pub struct Reactor {
    pub counters: Arc<Counters>,
    pub stats: Arc<CommandStats>,
    pub engine: RefCell<Engine>,
    pub recent_script: RefCell<Option<RecentScript>>,
    pub recent_function: RefCell<Option<RecentFunction>>,
    pub clock: TickClock,
    buffer: RefCell<Box<[u8]>>,
}

impl Reactor {
    pub fn new(server: &Server, index: usize) -> Rc<Self> {
        Self::with(server, server.reactor_counters[index].clone(), server.reactor_stats[index].clone())
    }

    /// For a thread that goes on with scripts.
    pub fn of_worker(server: &Server) -> Rc<Self> {
        let reactor = Self::detached(server);
        server.worker_counts.lock().push((reactor.counters.clone(), reactor.stats.clone()));
        reactor
    }

    /// For a thread that runs commands and has no connections; what it counts nobody sees.
    pub fn detached(server: &Server) -> Rc<Self> {
        Self::with(server, Arc::default(), Arc::new(CommandStats::new(server.table.len())))
    }

    fn with(server: &Server, counters: Arc<Counters>, stats: Arc<CommandStats>) -> Rc<Self> {
        let engine = Engine::with_settings(server.engine_settings.clone());
        Rc::new(Reactor {
            counters,
            stats,
            engine: RefCell::new(engine),
            recent_script: RefCell::default(),
            recent_function: RefCell::default(),
            clock: TickClock::default(),
            buffer: RefCell::new(vec![0; READ_BUFFER].into_boxed_slice()),
        })
    }

    /// The read buffer. It is filled and used up between two suspensions of a task.
    pub fn read_buffer(&self) -> RefMut<'_, [u8]> {
        RefMut::map(self.buffer.borrow_mut(), |buffer| &mut **buffer)
    }
}

/// A socket on its way to the reactor that will own it.
#[derive(Debug)]
pub enum Arrival {
    Tcp(std::net::TcpStream, Arc<Client>),
    Unix(std::os::unix::net::UnixStream, Arc<Client>),
}

/// Begins to serve a connection on this thread.
pub fn adopt(server: &Arc<Server>, reactor: &Rc<Reactor>, arrival: Arrival) {
    let (socket, client) = match arrival {
        Arrival::Tcp(stream, client) => (tokio::net::TcpStream::from_std(stream).map(Socket::Tcp), client),
        Arrival::Unix(stream, client) => (tokio::net::UnixStream::from_std(stream).map(Socket::Unix), client),
    };
    match socket {
        Ok(socket) => {
            let connection = Connection::new(server.clone(), reactor.clone(), socket, client);
            tokio::task::spawn_local(connection.serve());
        }
        Err(error) => {
            tracing::warn!("Cannot serve a connection: {error}");
            server.clients.remove(client.number);
        }
    }
}

/// Starts the thread of reactor `index`; sockets sent to the returned channel are served there.
pub fn spawn(server: &Arc<Server>, index: usize) -> std::io::Result<mpsc::UnboundedSender<Arrival>> {
    let (sender, mut arrivals) = mpsc::unbounded_channel();
    let server = server.clone();
    std::thread::Builder::new().name(format!("io_thd_{index}")).spawn(move || {
        let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
            Ok(runtime) => runtime,
            Err(error) => return tracing::warn!("Cannot start I/O thread {index}: {error}"),
        };
        LocalSet::new().block_on(&runtime, async move {
            let reactor = Reactor::new(&server, index);
            while let Some(arrival) = arrivals.recv().await {
                adopt(&server, &reactor, arrival);
            }
        });
    })?;
    Ok(sender)
}
