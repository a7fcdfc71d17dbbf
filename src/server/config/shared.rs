//! How the threads of the server share the configuration: it is published as an `Arc<Config>`, and every
//! reactor keeps the one it saw last. Looking for a newer one costs a load of a counter that hardly ever
//! changes, so reading a directive is as cheap as reading a field.
//!
//! Invariant: what was published is valid and applied; a change that fails is never seen by a reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

use super::{Access, Change, Config, set_failed};
use crate::protocol::ErrorReply;

/// The configuration of a running server.
pub struct SharedConfig {
    /// Grows with every publication.
    version: AtomicU64,
    current: Mutex<Arc<Config>>,
    /// Held for the whole of a change, so that two changes never start from the same values.
    changing: Mutex<()>,
}

impl SharedConfig {
    pub fn new(config: Config) -> Arc<Self> {
        Arc::new(SharedConfig {
            version: AtomicU64::new(0),
            current: Mutex::new(Arc::new(config)),
            changing: Mutex::new(()),
        })
    }

    /// The current values. For a hot path see [`ConfigReader`].
    pub fn current(&self) -> Arc<Config> {
        self.current.lock().clone()
    }

    /// A reader for one thread.
    pub fn reader(self: &Arc<Self>) -> ConfigReader {
        ConfigReader {
            version: self.version.load(Ordering::Acquire),
            current: self.current(),
            shared: self.clone(),
        }
    }

    /// Changes values from inside the server, without a check (REPLICAOF, a failover).
    pub fn update(&self, change: impl FnOnce(&mut Config)) {
        let _changing = self.changing.lock();
        let mut config = Config::clone(&self.current());
        change(&mut config);
        self.publish(config);
    }

    /// CONFIG SET: all of `pairs` or none. Each effect is applied once, by `apply`, against the new values;
    /// where one fails, it and those before it are applied again with the old values, and nothing is
    /// published.
    ///
    /// `apply` must not call back into this configuration's `set` or `update`.
    ///
    /// # Errors
    /// What CONFIG SET replies.
    pub fn set(
        &self,
        pairs: &[(&[u8], &[u8])],
        access: Access,
        apply: &mut dyn FnMut(&Change, &Config) -> Result<(), String>,
    ) -> Result<(), ErrorReply> {
        let _changing = self.changing.lock();
        let old = self.current();
        let mut new = Config::clone(&old);
        let changes = new.set_many(pairs, access)?;
        for (index, change) in changes.iter().enumerate() {
            let Err(reason) = apply(change, &new) else { continue };
            tracing::warn!(
                "Failed applying new configuration. Possibly related to new {} setting. Restoring previous settings.",
                change.directive.name
            );
            for change in changes.iter().take(index + 1) {
                if let Err(reason) = apply(change, &old) {
                    tracing::warn!("Failed applying restored failed CONFIG SET command: {reason}");
                }
            }
            return Err(set_failed(change.directive.name.as_bytes(), &reason));
        }
        self.publish(new);
        Ok(())
    }

    fn publish(&self, config: Config) {
        let mut current = self.current.lock();
        *current = Arc::new(config);
        // Under the lock, so that a reader that sees the number finds the values or newer ones.
        self.version.fetch_add(1, Ordering::Release);
    }
}

/// One thread's view of the configuration.
pub struct ConfigReader {
    version: u64,
    current: Arc<Config>,
    shared: Arc<SharedConfig>,
}

impl ConfigReader {
    /// The current values: call it once per batch of commands and read as many fields as you like.
    #[inline]
    pub fn get(&mut self) -> &Config {
        let version = self.shared.version.load(Ordering::Acquire);
        if version != self.version {
            self.refresh(version);
        }
        &self.current
    }

    /// The values as of the last [`get`](Self::get).
    #[inline]
    pub fn last(&self) -> &Arc<Config> {
        &self.current
    }

    #[cold]
    fn refresh(&mut self, version: u64) {
        self.version = version;
        self.current = self.shared.current();
    }
}
