//! Starting and ending the server: sockets, threads, signals.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use parking_lot::{Mutex, RwLock};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::mpsc::UnboundedSender;
use tokio::task::LocalSet;

use super::admission::Conditions;
use super::client::{Client, Traits};
use super::commandstats::CommandStats;
use super::config::{Config, SharedConfig};
use super::core::Core;
use super::reactor::{Arrival, Reactor, adopt};
use super::shutdown::Signals;
use super::{Server, cron, reactor, table};
use crate::base::clock::{Clock, SystemClock};
use crate::base::random::Random;
use crate::keyspace::Keyspace;
use crate::scripting::EngineSettings;
use crate::stream::Stream;

/// Why the server could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("Failed listening on port {port}, aborting.")]
    Listen { port: u16, source: io::Error },
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("Fatal error loading the DB: {0}. Exiting.")]
    Loading(#[from] super::loading::LoadingError),
    #[error("{0}")]
    Users(String),
    #[error("No source of randomness: {0}")]
    Randomness(#[from] getrandom::Error),
}

impl Server {
    /// A server with an empty dataset, not listening yet.
    pub fn new(config: Config, config_file: Option<PathBuf>) -> Result<Arc<Self>, StartError> {
        let mut commands = table::build();
        for renamed in &config.renamed_commands {
            commands.rename(renamed.name.as_bytes(), renamed.new_name.as_bytes());
        }
        // Pointed at by sessions of all threads until the process ends.
        let table: &'static table::Table = Box::leak(Box::new(commands));
        let users = super::users::from_config(&config, table).map_err(StartError::Users)?;
        let clock = SystemClock::new();
        let reactors = config.io_threads.max(1) as usize;
        let run_id = String::from_utf8_lossy(&Random::from_system()?.hex_id()).into_owned();
        let core = Core {
            keyspace: Keyspace::new(config.databases as usize, super::keyspace_settings(&config)),
            writes: Default::default(),
            stream: Stream::new(Random::from_system()?.hex_id()),
            blocked: Default::default(),
        };
        let roles = super::roles::Roles::new(&config, core.stream.replid());
        Ok(Arc::new(Server {
            table,
            functions: Default::default(),
            memory_looked_at_ms: Default::default(),
            watchers: core.writes.watchers.clone(),
            core: RwLock::new(core),
            started_ms: clock.unix_ms().max(0) as u64,
            clock,
            clients: Default::default(),
            users,
            pubsub: Default::default(),
            conditions: Default::default(),
            stats: Default::default(),
            command_log: super::command_log::CommandLog::new(&config),
            latency: super::latency::LatencyMonitor::new(config.latency_monitor_threshold_ms),
            monitors: Default::default(),
            rates: Default::default(),
            persistence: Default::default(),
            roles: Mutex::new(roles),
            followers: Default::default(),
            stream_end: AtomicU64::new(0),
            over_limit_at: AtomicU64::new(u64::MAX),
            full_sync_is_saving: AtomicBool::new(false),
            had_replicas: AtomicBool::new(false),
            pause_after_snapshot: AtomicBool::new(false),
            rdb_client_grace_ms: AtomicU64::new(super::roles::RDB_CLIENT_GRACE_MS),
            born: std::time::Instant::now(),
            scripts: Default::default(),
            scripts_running: Default::default(),
            reactor_counters: (0..reactors).map(|_| Arc::default()).collect(),
            reactor_stats: (0..reactors).map(|_| Arc::new(CommandStats::new(table.len()))).collect(),
            unblocked_stats: Arc::new(CommandStats::new(table.len())),
            worker_counts: Mutex::default(),
            script_workers: Default::default(),
            rehearsals: Arc::default(),
            missing_scripts: Default::default(),
            engine_settings: Arc::new(EngineSettings {
                script_max_memory: AtomicUsize::new(config.script_max_memory as usize),
                insecure_api: AtomicBool::new(config.lua_enable_insecure_api),
            }),
            held: Mutex::default(),
            run_id,
            cron_loops: AtomicU64::new(0),
            active_expire_is_off: AtomicBool::new(false),
            latency_tracking_is_off: AtomicBool::new(!config.latency_tracking),
            cron_is_off: AtomicBool::new(false),
            deny_scripts_is_off: AtomicBool::new(false),
            config: SharedConfig::new(config),
            config_file,
            shutdown: Default::default(),
            migrations: Default::default(),
            memory_at_start: super::memory::used(),
            listening: Mutex::default(),
            listeners: Mutex::default(),
        }))
    }

    /// Runs until a signal or SHUTDOWN ends the server.
    pub fn run(self: Arc<Self>) -> Result<(), StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, async {
            let reactor = Reactor::new(&self, 0);
            let others = (1..self.reactor_stats.len())
                .map(|index| reactor::spawn(&self, index))
                .collect::<io::Result<Vec<_>>>()?;
            let acceptor = Rc::new(Acceptor { server: self.clone(), reactor: reactor.clone(), others });
            acceptor.listen().await?;
            tracing::info!("Server initialized");
            self.remember_role();
            let mut signals = Signals::new()?;
            tokio::select! {
                loaded = self.load() => loaded?,
                () = self.asked_to_end_while_loading(&mut signals) => return Ok(()),
            }
            let (links, asked) = tokio::sync::mpsc::unbounded_channel();
            tokio::task::spawn_local(super::link::make_links(self.clone(), reactor.clone(), asked));
            self.begin_role(links);
            tokio::task::spawn_local(self.clone().tick_roles());
            tokio::task::spawn_local(cron::run(self.clone(), reactor));
            let config = self.config();
            if config.port != 0 {
                tracing::info!("Ready to accept connections tcp");
            }
            if !config.unixsocket.is_empty() {
                tracing::info!("Ready to accept connections unix");
            }
            self.ended(&mut signals).await;
            Ok(())
        })
    }

    /// Loads the dataset on a thread of its own, while clients are answered LOADING.
    async fn load(self: &Arc<Self>) -> Result<(), StartError> {
        self.conditions.set(Conditions::LOADING, true);
        let (sender, loaded) = tokio::sync::oneshot::channel();
        let server = self.clone();
        std::thread::Builder::new().name("loader".into()).spawn(move || {
            // Nobody listens any more only when the server is ending.
            sender.send(server.load_at_start()).ok();
        })?;
        let outcome = loaded.await.unwrap_or_else(|_| Err(io::Error::other("the loader panicked").into()));
        self.conditions.set(Conditions::LOADING, false);
        Ok(outcome?)
    }
}

/// Takes new connections and deals them out to the reactors.
struct Acceptor {
    server: Arc<Server>,
    reactor: Rc<Reactor>,
    others: Vec<UnboundedSender<Arrival>>,
}

impl Acceptor {
    async fn listen(self: &Rc<Self>) -> Result<(), StartError> {
        let config = self.server.config();
        let (sender, mut arrived) = tokio::sync::mpsc::unbounded_channel();
        *self.server.listening.lock() = Some(sender);
        self.server.accept_on(bind_all(&config)?)?;
        let acceptor = self.clone();
        tokio::task::spawn_local(async move {
            let mut tasks = Vec::new();
            while let Some(listeners) = arrived.recv().await {
                for task in std::mem::take(&mut tasks) {
                    tokio::task::JoinHandle::<()>::abort(&task);
                }
                for listener in listeners {
                    match TcpListener::from_std(listener) {
                        Ok(listener) => tasks.push(acceptor.clone().accept_tcp(listener)),
                        Err(error) => tracing::warn!("Cannot accept connections: {error}"),
                    }
                }
            }
        });
        if !config.unixsocket.is_empty() {
            let path = config.unixsocket.as_path();
            // A socket file left behind by an earlier run would keep the name taken.
            let _ = std::fs::remove_file(path);
            let listener = UnixListener::bind(path)?;
            if config.unixsocketperm != 0 {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(config.unixsocketperm))?;
            }
            self.clone().accept_unix(listener);
        }
        Ok(())
    }

    fn accept_tcp(self: Rc<Self>, listener: TcpListener) -> tokio::task::JoinHandle<()> {
        tokio::task::spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, peer)) => {
                        let _ = stream.set_nodelay(true);
                        if let Ok(stream) = stream.into_std() {
                            self.arrived_tcp(stream, peer);
                        }
                    }
                    Err(error) => accept_failed(error).await,
                }
            }
        })
    }

    fn accept_unix(self: Rc<Self>, listener: UnixListener) {
        tokio::task::spawn_local(async move {
            loop {
                match listener.accept().await {
                    Ok((stream, _)) => {
                        if let Ok(stream) = stream.into_std() {
                            self.arrived_unix(stream);
                        }
                    }
                    Err(error) => accept_failed(error).await,
                }
            }
        });
    }

    fn arrived_tcp(&self, stream: std::net::TcpStream, peer: SocketAddr) {
        let keepalive = self.server.config().tcp_keepalive_seconds;
        if keepalive > 0 {
            let interval = std::time::Duration::from_secs(u64::from(keepalive / 3).max(1));
            let options = socket2::TcpKeepalive::new()
                .with_time(std::time::Duration::from_secs(keepalive.into()))
                .with_interval(interval);
            let _ = SockRef::from(&stream).set_tcp_keepalive(&options);
        }
        let local = stream.local_addr().map_or_else(|_| "?:0".to_owned(), |address| show(&address));
        let is_local = peer.ip().is_loopback();
        let client = self.client(show(&peer), local, stream.as_raw_fd());
        self.deal(Arrival::Tcp(stream, client), is_local);
    }

    fn arrived_unix(&self, stream: std::os::unix::net::UnixStream) {
        let path = format!("{}:0", self.server.config().unixsocket.to_str());
        let client = self.client(path.clone(), path, stream.as_raw_fd());
        client.set(Traits::UNIX_SOCKET, true);
        self.deal(Arrival::Unix(stream, client), true);
    }

    fn client(&self, address: String, local_address: String, descriptor: i32) -> Arc<Client> {
        let server = &self.server;
        Arc::new(Client::new(
            server.clients.next_number(),
            address,
            local_address,
            descriptor,
            server.now_ms(),
        ))
    }

    /// Gives the connection to a reactor, or refuses it with a word.
    fn deal(&self, arrival: Arrival, is_local: bool) {
        use std::io::Write;
        let server = &self.server;
        let config = server.config();
        let refusal: Option<&[u8]> = if server.clients.len() >= config.maxclients as usize {
            Some(b"-ERR max number of clients reached\r\n")
        } else if config.protected_mode && !is_local && server.users.current().default_user().no_password {
            Some(PROTECTED_MODE)
        } else {
            None
        };
        let client = match &arrival {
            Arrival::Tcp(_, client) | Arrival::Unix(_, client) => client.clone(),
        };
        if let Some(refusal) = refusal {
            server.stats.rejected_connections.fetch_add(1, Relaxed);
            // The peer may be gone already; there is nobody to tell.
            let _ = match arrival {
                Arrival::Tcp(mut stream, _) => stream.write(refusal),
                Arrival::Unix(mut stream, _) => stream.write(refusal),
            };
            return;
        }
        server.stats.connections.fetch_add(1, Relaxed);
        let number = client.number;
        server.clients.add(client);
        let turn = (number as usize) % (self.others.len() + 1);
        match turn.checked_sub(1).and_then(|other| self.others.get(other)) {
            Some(other) => {
                if other.send(arrival).is_err() {
                    server.clients.remove(number);
                }
            }
            None => adopt(server, &self.reactor, arrival),
        }
    }
}

const PROTECTED_MODE: &[u8] = b"-DENIED Running in protected mode because protected mode is enabled and no password \
    is set for the default user. In this mode connections are only accepted from the loopback interface. To connect \
    from other machines, set a password for the default user, or turn protected mode off with 'CONFIG SET \
    protected-mode no' from a loopback connection or with 'protected-mode no' in the configuration file, if the \
    server cannot be reached from outside of a trusted network.\r\n";

/// Accepting fails when descriptors have run out: waiting a little beats spinning.
async fn accept_failed(error: io::Error) {
    tracing::warn!("Accepting client connection: {error}");
    tokio::time::sleep(std::time::Duration::from_millis(100)).await;
}

fn show(address: &SocketAddr) -> String {
    match address {
        SocketAddr::V6(v6) if v6.ip().to_ipv4_mapped().is_none() => format!("[{}]:{}", v6.ip(), v6.port()),
        _ => format!("{}:{}", address.ip().to_canonical(), address.port()),
    }
}

/// Listens on all addresses of the configuration; an address that begins with `-` may be missing on this machine.
fn bind_all(config: &Config) -> Result<Vec<std::net::TcpListener>, StartError> {
    let port = config.port;
    let mut listeners = Vec::new();
    if port == 0 {
        return Ok(listeners);
    }
    for address in &config.bind.0 {
        let text = address.to_str();
        match bind_tcp(text.trim_start_matches('-'), port, config.tcp_backlog) {
            Ok(listener) => listeners.push(listener),
            Err(error) if text.starts_with('-') && error.kind() != io::ErrorKind::AddrInUse => {
                tracing::debug!("Not listening on {text}: {error}");
            }
            Err(source) => {
                tracing::warn!("Could not create server TCP listening socket {text}:{port}: bind: {source}");
                tracing::warn!("Failed listening on port {port} (tcp), aborting.");
                return Err(StartError::Listen { port, source });
            }
        }
    }
    Ok(listeners)
}

impl Server {
    /// Listens on the port and addresses of `config` instead of the present ones.
    pub fn listen_anew(&self, config: &Config) -> Result<(), String> {
        let old = self.config();
        if (config.port, &config.bind) == (old.port, &old.bind) {
            return Ok(());
        }
        let listeners =
            bind_all(config).map_err(|_| "Unable to listen on this port. Check server logs.".to_owned())?;
        self.accept_on(listeners).map_err(|error| error.to_string())
    }

    fn accept_on(&self, listeners: Vec<std::net::TcpListener>) -> io::Result<()> {
        let handles = listeners.iter().map(std::net::TcpListener::try_clone).collect::<io::Result<_>>()?;
        *self.listeners.lock() = handles;
        if let Some(listening) = &*self.listening.lock() {
            // The receiver lives as long as the reactor that accepts.
            listening.send(listeners).ok();
        }
        Ok(())
    }

    /// Refuses connections from now on: a client that was disconnected by the end of the server must not be accepted
    /// again by what is left of it.
    pub fn stop_listening(&self) {
        for listener in self.listeners.lock().drain(..) {
            // It may have been closed already.
            SockRef::from(&listener).shutdown(std::net::Shutdown::Both).ok();
        }
    }
}

fn bind_tcp(address: &str, port: u16, backlog: u32) -> io::Result<std::net::TcpListener> {
    let ip: std::net::IpAddr = match address {
        "*" => std::net::Ipv4Addr::UNSPECIFIED.into(),
        "::*" => std::net::Ipv6Addr::UNSPECIFIED.into(),
        text => match text.parse() {
            Ok(ip) => ip,
            Err(_) => {
                use std::net::ToSocketAddrs;
                let mut found = (text, port).to_socket_addrs()?;
                found.next().ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "no such host"))?.ip()
            }
        },
    };
    let socket =
        Socket::new(Domain::for_address(SocketAddr::new(ip, port)), Type::STREAM, Some(Protocol::TCP))?;
    if ip.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(ip, port).into())?;
    socket.listen(backlog as i32)?;
    Ok(socket.into())
}

/// Runs the server that the command line asks for, to its end.
pub fn serve(config: Config, arguments: super::command_line::Arguments) -> std::process::ExitCode {
    super::log::install();
    super::log::configure(&config);
    super::log::starting(&config, arguments != Default::default());
    if let Err(error) = std::env::set_current_dir(&config.dir.0) {
        tracing::error!("Can't chdir to '{}': {error}", config.dir.0.display());
        return std::process::ExitCode::FAILURE;
    }
    match Server::new(config, arguments.file).and_then(Server::run) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            std::process::ExitCode::FAILURE
        }
    }
}
