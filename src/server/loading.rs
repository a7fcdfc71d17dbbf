//! Loading the dataset: at the start, by DEBUG RELOAD and LOADAOF, and after a full sync.
//!
//! A loader runs on a thread of its own. Clients are answered LOADING meanwhile; the guard is taken for short times only.

use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use super::Server;
use super::admission::{Conditions, find_entry};
use super::client::Client;
use super::core::Core;
use super::execute::{Executor, LOCK_PATIENCE};
use super::lazy_free;
use super::persistence::{Pace, brake};
use super::reactor::Reactor;
use super::session::{Origin, Session};
use crate::base::file::{FileSystem, Open, SystemFileSystem};
use crate::keyspace::Keyspace;
use crate::rdb::{self, Loaded, RdbError};
use crate::scripting::{Engine, Registry, Script};
use crate::stream::aof::{AofError, AofFiles, CommandReader, IncrStart, LoadError};

/// Why a dataset could not be loaded.
#[derive(Debug, thiserror::Error)]
pub enum LoadingError {
    #[error("{0}")]
    Rdb(#[from] RdbError),
    #[error("{0}")]
    Aof(#[from] AofError),
    #[error("{0}")]
    Commands(#[from] LoadError),
    #[error("Unknown command '{0}' reading the append only file")]
    UnknownCommand(String),
    #[error("{0}")]
    Io(#[from] std::io::Error),
    #[error("The key '{0}' is there already")]
    Conflict(String),
    #[error("A function library cannot be loaded: {0}")]
    Function(String),
}

/// Commands run under one hold of the guard.
const COMMANDS_AT_ONCE: usize = 1000;

impl Server {
    /// Loads what the last run left, and opens the AOF if it is on. Runs on a thread of its own.
    pub fn load_at_start(self: &Arc<Self>) -> Result<(), LoadingError> {
        let config = self.config();
        let began = Instant::now();
        self.persistence.last_save_seconds.store(self.now_ms() / 1000, Relaxed);
        if config.appendonly {
            let mut files = self.aof_files()?;
            if files.upgrade(Path::new(""))? {
                tracing::info!(
                    "Successfully migrated an old-style AOF file ({}) into the AOF directory ({}).",
                    config.appendfilename.to_str(),
                    config.appenddirname.to_str()
                );
            }
            let mut incrs = Vec::new();
            if !files.is_new() {
                incrs = self.load_aof(&files, true)?;
                tracing::info!(
                    "DB loaded from append only file: {:.3} seconds",
                    began.elapsed().as_secs_f64()
                );
            }
            let mut core = self.core.write();
            self.open_aof(&mut core, files, incrs)?;
            return Ok(());
        }
        self.load_rdb_at_start()
    }

    /// The files of the AOF as they are on the disk now.
    pub(super) fn aof_files(&self) -> Result<AofFiles, AofError> {
        let config = self.config();
        let (dir, name) =
            (config.appenddirname.to_str().into_owned(), config.appendfilename.to_str().into_owned());
        AofFiles::open(Arc::new(SystemFileSystem), Path::new(""), &dir, &name)
    }

    fn load_rdb_at_start(self: &Arc<Self>) -> Result<(), LoadingError> {
        let path = Path::new(self.config().dbfilename.as_path()).to_owned();
        if !path.exists() {
            return Ok(());
        }
        let began = Instant::now();
        let loaded = self.read_rdb(&path, !self.is_replica())?;
        let history = history_of(&loaded);
        let mut core = self.core.write();
        let mut loaded = loaded;
        let dropped = std::mem::take(&mut loaded.dropped);
        self.adopt(&mut core, loaded, false)?;
        if let Some((replid, offset, database)) = history {
            self.adopt_saved_history(&mut core, replid, offset, database);
            // Replicas that go on from there still have what was left out here; they are told under the next name.
            self.roles.lock().dropped = dropped;
        }
        tracing::info!("DB loaded from disk: {:.3} seconds", began.elapsed().as_secs_f64());
        Ok(())
    }

    /// The history in which the dataset was saved goes on.
    fn adopt_saved_history(&self, core: &mut Core, replid: [u8; 40], offset: u64, database: usize) {
        core.stream.adopt(replid, offset);
        core.stream.start_backlog(self.config().repl_backlog_size as usize);
        core.stream.append_received(b"", Some(database));
    }

    /// Reads an RDB file into a dataset of its own.
    pub fn read_rdb(&self, path: &Path, drop_expired: bool) -> Result<Loaded, LoadingError> {
        let file = std::fs::File::open(path)?;
        let total = file.metadata()?.len();
        let mut input = std::io::BufReader::with_capacity(1 << 18, file);
        self.read_rdb_from(&mut input, total, drop_expired)
    }

    /// Reads an RDB from anywhere; `total` bytes are expected (0: not known).
    pub fn read_rdb_from(
        &self,
        input: &mut dyn std::io::Read,
        total: u64,
        drop_expired: bool,
    ) -> Result<Loaded, LoadingError> {
        let progress = &self.persistence.loading;
        progress.since_seconds.store(self.now_ms() / 1000, Relaxed);
        progress.total_bytes.store(total, Relaxed);
        progress.loaded_bytes.store(0, Relaxed);
        let config = self.config();
        let settings = super::keyspace_settings(&config);
        let options = rdb::LoadOptions {
            databases: config.databases as usize,
            settings,
            now_ms: self.now_ms(),
            drop_expired,
            checksum: config.rdbchecksum,
        };
        let loaded = rdb::load(input, &options, &mut |bytes, keys| {
            progress.loaded_bytes.store(bytes, Relaxed);
            if keys.is_multiple_of(Pace::KEYS_AT_ONCE) {
                super::process::step_aside();
            }
            let delay_us = self.config().key_load_delay_us;
            brake(delay_us, keys, || self.config().key_load_delay_us == delay_us);
            Ok(())
        })?;
        for key in loaded.empty.iter().take(10) {
            tracing::info!("rdbLoadObject: skipping empty key: {}", super::log::UserData(key));
        }
        if !loaded.empty.is_empty() {
            tracing::warn!(
                "Done loading RDB, keys loaded: {}, keys expired: {}, empty keys skipped: {}.",
                loaded.keys,
                loaded.expired,
                loaded.empty.len()
            );
        } else {
            tracing::info!(
                "Done loading RDB, keys loaded: {}, keys expired: {}.",
                loaded.keys,
                loaded.expired
            );
        }
        progress.keys_loaded.store(loaded.keys, Relaxed);
        progress.keys_expired.store(loaded.expired, Relaxed);
        Ok(loaded)
    }

    /// Puts a loaded dataset in place of the present one. `merge` keeps functions that it does not have.
    pub fn adopt(&self, core: &mut Core, loaded: Loaded, merge: bool) -> Result<(), LoadingError> {
        let present = self.functions.get();
        let registry =
            self.load_libraries(if merge { &present } else { &NO_FUNCTIONS }, &loaded.libraries)?;
        let settings = super::keyspace_settings(&self.config());
        let mut keyspace = loaded.keyspace;
        keyspace.set_settings(settings);
        let old = std::mem::replace(&mut core.keyspace, keyspace);
        self.functions.set(core, Arc::new(registry));
        for body in loaded.scripts {
            self.know_script(&body);
        }
        lazy_free::drop_later(old.len(), old);
        core.writes.touch_all(&core.keyspace);
        Ok(())
    }

    /// The registry with libraries of these codes added.
    pub fn load_libraries(&self, base: &Registry, codes: &[Vec<u8>]) -> Result<Registry, LoadingError> {
        let mut engine = Engine::new();
        let mut registry = base.clone();
        for code in codes {
            let loaded =
                engine.load_library(&registry, code, true, None, &mut crate::scripting::engine::NoHost);
            registry = loaded
                .map_err(|error| LoadingError::Function(String::from_utf8_lossy(&error.0).into_owned()))?
                .0;
        }
        Ok(registry)
    }

    /// Makes a script known that came with a dataset or the stream. One that does not parse is left out.
    pub fn know_script(&self, body: &[u8]) {
        match Script::new(body) {
            Ok(script) => drop(self.scripts.insert(Arc::new(script), crate::scripting::Origin::Load)),
            Err(_) => tracing::warn!("A script that came with the dataset cannot be used"),
        }
    }

    // ---- The AOF ----

    /// Loads the base and all incr files, and the stream's history with them if `goes_on`: its bytes fill the backlog again.
    /// Returns where in the stream each incr file begins.
    fn load_aof(self: &Arc<Self>, files: &AofFiles, goes_on: bool) -> Result<Vec<IncrStart>, LoadingError> {
        let (base_bytes, all_bytes) = files.sizes()?;
        let manifest = files.manifest().clone();
        let reactor = Reactor::detached(self);
        let mut session = self.loader_session();
        let mut history = None;
        if let Some(base) = manifest.base() {
            let began = Instant::now();
            let alone = manifest.incrs().is_empty();
            history = self.load_base(files, &base.name, alone, &reactor, &mut session)?;
            if let Some((_, _, database)) = history {
                session.select(database);
            }
            tracing::info!(
                "DB loaded from base file {}: {:.3} seconds",
                base.name,
                began.elapsed().as_secs_f64()
            );
        }
        if goes_on {
            let mut core = self.core.write();
            core.stream.start_backlog(self.config().repl_backlog_size as usize);
            files.adopt_history(&mut core.stream, history.map(|(replid, offset, _)| (replid, offset)));
        }
        let progress = &self.persistence.loading;
        progress.total_bytes.store(all_bytes, Relaxed);
        progress.loaded_bytes.store(base_bytes, Relaxed);
        let last = files.last_written()?;
        let mut starts = Vec::new();
        for incr in manifest.incrs() {
            let began = Instant::now();
            let is_last = Some(incr.sequence) == last;
            starts.push(IncrStart { sequence: incr.sequence, offset: self.core.read().stream.offset() });
            self.load_commands(files, &incr.name, 0, is_last, goes_on, &reactor, &mut session)?;
            tracing::info!(
                "DB loaded from incr file {}: {:.3} seconds",
                incr.name,
                began.elapsed().as_secs_f64()
            );
        }
        // The stream goes on in the database that its last SELECT chose.
        if goes_on && last.is_some() {
            self.core.write().stream.append_received(b"", Some(session.database));
        }
        Ok(starts)
    }

    pub fn loader_session(&self) -> Session {
        let client = Arc::new(Client::new(0, String::new(), String::new(), -1, self.now_ms()));
        let mut session = Session::new(client, Origin::Loader);
        session.authenticated = true;
        session
    }

    /// A base is RDB, or commands, or RDB with commands behind it.
    fn load_base(
        self: &Arc<Self>,
        files: &AofFiles,
        name: &str,
        is_last: bool,
        reactor: &Rc<Reactor>,
        session: &mut Session,
    ) -> Result<Option<([u8; 40], u64, usize)>, LoadingError> {
        let path = files.path(name);
        let mut magic = [0u8; 6];
        let opened = SystemFileSystem.open(&path, Open::Read);
        let file = opened.map_err(|source| AofError::Io {
            action: "Fatal error: can't open the append log file",
            path: path.display().to_string(),
            source,
        })?;
        let read = file.read_at(&mut magic, 0)?;
        let is_rdb = read >= 5 && (magic.starts_with(b"REDIS") || magic.starts_with(b"VALKEY"));
        if !is_rdb {
            self.load_commands(files, name, 0, is_last, false, reactor, session)?;
            return Ok(None);
        }
        // Nothing is left out: what comes behind may have taken a time to live away before it was over.
        let loaded = self.read_rdb(&path, false)?;
        let (bytes, history) = (loaded.bytes, history_of(&loaded));
        self.adopt(&mut self.core.write(), loaded, false)?;
        if file.len()? > bytes {
            self.load_commands(files, name, bytes, is_last, false, reactor, session)?;
        }
        Ok(history)
    }

    /// Runs the commands of a file. Those of an incr file are the stream's bytes and go into the backlog again.
    #[expect(clippy::too_many_arguments, reason = "all of them differ between the three callers")]
    fn load_commands(
        self: &Arc<Self>,
        files: &AofFiles,
        name: &str,
        from: u64,
        is_last: bool,
        is_stream: bool,
        reactor: &Rc<Reactor>,
        session: &mut Session,
    ) -> Result<(), LoadingError> {
        let mut reader = CommandReader::new(files.open_to_read(name)?, from);
        let outcome = self.run_commands(&mut reader, is_stream, reactor, session);
        let Err(LoadingError::Commands(LoadError::Truncated)) = outcome else { return outcome };
        let valid = reader.valid_len();
        if !self.config().aof_load_truncated || !is_last {
            tracing::error!(
                "Unexpected end of file reading the append only file {name}. You can: 1) Make a backup of your AOF file, then use ./valkey-check-aof --fix <filename.manifest>. 2) Alternatively you can set the 'aof-load-truncated' configuration option to yes and restart the server."
            );
            return Err(LoadError::Truncated.into());
        }
        tracing::warn!("!!! Warning: short read while loading the AOF file {name}!!!");
        tracing::warn!("AOF {name} loaded anyway because aof-load-truncated is enabled");
        tracing::warn!("Truncating the AOF {name} at offset {valid}");
        Ok(files.cut(name, valid)?)
    }

    fn run_commands(
        self: &Arc<Self>,
        reader: &mut CommandReader,
        is_stream: bool,
        reactor: &Rc<Reactor>,
        session: &mut Session,
    ) -> Result<(), LoadingError> {
        let mut executor = Executor::new(self, reactor);
        let before = self.persistence.loading.loaded_bytes.load(Relaxed);
        // The bytes of a transaction count once it is whole.
        let mut transaction: Option<Vec<u8>> = None;
        let mut queued: Vec<Vec<Vec<u8>>> = Vec::new();
        let mut count = 0usize;
        let result = loop {
            count += 1;
            if count.is_multiple_of(COMMANDS_AT_ONCE) {
                executor.release();
                self.persistence.loading.loaded_bytes.store(before + reader.valid_len(), Relaxed);
                let delay_us = self.config().key_load_delay_us;
                brake(delay_us, count as u64, || self.config().key_load_delay_us == delay_us);
            }
            while executor.hold_write().is_err() {
                // Only this thread waits: it has no connections.
                std::thread::sleep(LOCK_PATIENCE);
            }
            let command = match reader.read() {
                Ok(Some(command)) => command,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            };
            let name = command.args[0].to_ascii_lowercase();
            if let Some(bytes) = &mut transaction {
                bytes.extend_from_slice(command.bytes);
                if name != b"exec" {
                    queued.push(command.args.iter().map(|arg| arg.to_vec()).collect());
                    continue;
                }
                for args in std::mem::take(&mut queued) {
                    let args: Vec<&[u8]> = args.iter().map(Vec::as_slice).collect();
                    run_one(self, &mut executor, session, &args)?;
                }
                let bytes = transaction.take().unwrap_or_default();
                note_loaded(&mut executor, &bytes, is_stream);
                continue;
            }
            if name == b"multi" {
                transaction = Some(command.bytes.to_vec());
                continue;
            }
            if let Err(error) = run_one(self, &mut executor, session, &command.args) {
                break Err(error);
            }
            note_loaded(&mut executor, command.bytes, is_stream);
        };
        executor.release();
        result
    }

    /// DEBUG RELOAD without saving first: the RDB file takes the place of the dataset.
    pub fn reload(&self, core: &mut Core) -> Result<(), LoadingError> {
        let path = Path::new(self.config().dbfilename.as_path()).to_owned();
        let loaded = self.read_rdb(&path, !self.is_replica())?;
        self.adopt(core, loaded, false)
    }

    /// DEBUG RELOAD NOFLUSH: what the RDB file holds is added to the dataset. With `replace` it takes the place of what has
    /// the same name, without it nothing may have.
    pub fn reload_beside(&self, core: &mut Core, replace: bool) -> Result<(), LoadingError> {
        let path = Path::new(self.config().dbfilename.as_path()).to_owned();
        let loaded = self.read_rdb(&path, !self.is_replica())?;
        let added = self.load_libraries(&NO_FUNCTIONS, &loaded.libraries)?;
        let functions = self.functions.get().joined(&added, replace);
        let functions = functions
            .map_err(|error| LoadingError::Function(String::from_utf8_lossy(&error.0).into_owned()))?;
        let databases = || loaded.keyspace.databases().iter().enumerate();
        let has = |index: usize, key: &[u8]| core.keyspace.database(index).get(key).is_some();
        let mut entries = databases()
            .flat_map(|(index, database)| database.entries().iter().map(move |entry| (index, entry.key())));
        if !replace && let Some((_, key)) = entries.find(|(index, key)| has(*index, key)) {
            return Err(LoadingError::Conflict(String::from_utf8_lossy(key).into_owned()));
        }
        self.functions.set(core, Arc::new(functions));
        for (index, database) in databases() {
            for entry in database.entries().iter() {
                core.keyspace.insert_loaded(index, entry.clone());
            }
        }
        for body in &loaded.scripts {
            self.know_script(body);
        }
        core.writes.touch_all(&core.keyspace);
        Ok(())
    }

    /// DEBUG LOADAOF: what the AOF holds takes the place of the dataset. The stream goes on as if nothing had happened.
    pub fn reload_aof(self: &Arc<Self>) -> Result<(), LoadingError> {
        {
            let mut guard = self.core.write();
            let core = &mut *guard;
            self.sync_aof_now(core)?;
            let settings = *core.keyspace.settings();
            let databases = core.keyspace.database_count();
            let old = std::mem::replace(&mut core.keyspace, Keyspace::new(databases, settings));
            lazy_free::drop_later(old.len(), old);
            core.writes.touch_all(&core.keyspace);
        }
        self.conditions.set(Conditions::LOADING, true);
        let loaded =
            self.aof_files().map_err(LoadingError::from).and_then(|files| self.load_aof(&files, false));
        self.conditions.set(Conditions::LOADING, false);
        loaded.map(drop)
    }
}

static NO_FUNCTIONS: std::sync::LazyLock<Registry> = std::sync::LazyLock::new(Registry::default);

fn run_one(
    server: &Server,
    executor: &mut Executor<'_>,
    session: &mut Session,
    args: &[&[u8]],
) -> Result<(), LoadingError> {
    let Some(entry) = find_entry(server, args) else {
        let name = String::from_utf8_lossy(args[0]).into_owned();
        tracing::error!("Unknown command '{name}' reading the append only file");
        return Err(LoadingError::UnknownCommand(name));
    };
    if entry.arity_fits(args.len()) {
        executor.apply(session, entry, args);
    }
    Ok(())
}

fn note_loaded(executor: &mut Executor<'_>, bytes: &[u8], is_stream: bool) {
    if is_stream {
        executor.core_mut().stream.append_loaded(bytes);
    }
}

/// The history that an RDB was saved in: its name, its offset, the selected database.
pub fn history_of(loaded: &Loaded) -> Option<([u8; 40], u64, usize)> {
    let number = |name: &str| std::str::from_utf8(loaded.aux(name)?).ok()?.parse::<u64>().ok();
    let replid = loaded.aux("repl-id").filter(|replid| replid.len() == 40)?;
    Some((array(replid), number("repl-offset")?, number("repl-stream-db").unwrap_or(0) as usize))
}

fn array(replid: &[u8]) -> [u8; 40] {
    replid.try_into().unwrap_or(crate::stream::NO_REPLID)
}
