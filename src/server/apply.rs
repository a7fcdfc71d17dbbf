//! What the server does when directives have changed: the effects that are more than another value to read.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::Server;
use super::config::{Config, Effect};
use super::execute::Executor;

impl Server {
    /// Applies one effect of a change, `config` being the values that are to hold. An error takes the change back.
    pub fn apply(
        self: &Arc<Self>,
        executor: &mut Executor<'_>,
        effect: Effect,
        config: &Config,
    ) -> Result<(), String> {
        match effect {
            Effect::Port | Effect::Bind => self.listen_anew(config),
            Effect::Directory => {
                std::env::set_current_dir(&config.dir.0).map_err(|error| format!("Can't chdir: {error}"))
            }
            Effect::AofHistory => {
                if !config.aof_disable_auto_gc {
                    self.delete_aof_history();
                }
                Ok(())
            }
            Effect::AppendOnly => self.turn_aof(executor, config.appendonly),
            Effect::CommandLog => {
                self.command_log.shorten(config);
                Ok(())
            }
            Effect::Logging => {
                super::log::configure(config);
                Ok(())
            }
            Effect::Requirepass => {
                self.set_default_password(config.requirepass.as_bytes());
                Ok(())
            }
            Effect::ReplicationBacklogSize => {
                let size = usize::try_from(config.repl_backlog_size).unwrap_or(usize::MAX);
                executor.core_mut().stream.resize_backlog(size);
                Ok(())
            }
            // Read where they matter, each time anew.
            _ => Ok(()),
        }
    }

    /// `appendonly` was changed.
    fn turn_aof(self: &Arc<Self>, executor: &mut Executor<'_>, on: bool) -> Result<(), String> {
        let in_transaction = executor.in_unit();
        let core = executor.core_mut();
        if !on {
            self.close_aof(core);
            return Ok(());
        }
        self.turn_aof_on(core, in_transaction)
            .map_err(|_| "Unable to turn on AOF. Check server logs.".to_owned())
    }

    /// Takes over values that are kept where hot paths read them.
    pub fn refresh(&self) {
        let config = self.config();
        self.command_log.set_thresholds(&config);
        self.latency.set_threshold(config.latency_monitor_threshold_ms);
        self.latency_tracking_is_off.store(!config.latency_tracking, Relaxed);
        let scripts = &self.engine_settings;
        scripts.script_max_memory.store(config.script_max_memory as usize, Relaxed);
        scripts.insecure_api.store(config.lua_enable_insecure_api, Relaxed);
        self.refresh_memory_limit();
        self.refresh_roles();
        self.note_disk();
    }

    /// CONFIG RESETSTAT.
    pub fn reset_stats(&self) {
        self.stats.reset();
        self.roles.lock().replication.reset_statistics();
        self.scripts.reset_evicted();
        for (script, _) in self.scripts.all() {
            script.statistics().reset();
        }
        for library in self.functions.get().libraries() {
            library.functions().iter().for_each(|function| function.statistics.reset());
        }
        for set in self.all_stats() {
            set.reset();
        }
        for counters in self.all_counters() {
            counters.reset();
        }
    }
}
