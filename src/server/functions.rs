//! The registry of functions as the whole server sees it.
//!
//! It is looked at without the dataset's guard (FCALL, FUNCTION STATS while a script is busy) and changed under it, so
//! that a snapshot taken under the guard and the functions saved beside it belong to one moment.
//!
//! Invariant: [`Functions::set`] is called by the holder of the write guard; the borrowed core is the proof.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Acquire, Ordering::Release};

use parking_lot::RwLock;

use super::core::Core;
use crate::scripting::{FunctionHandle, Registry};

#[derive(Debug, Default)]
pub struct Functions {
    registry: RwLock<Arc<Registry>>,
    /// Counts the changes.
    generation: AtomicU64,
}

/// What one thread remembers of the function that it ran last, so as to find it again without a lock.
#[derive(Debug)]
pub struct RecentFunction {
    generation: u64,
    name: Vec<u8>,
    registry: Arc<Registry>,
    handle: FunctionHandle,
}

impl Functions {
    pub fn get(&self) -> Arc<Registry> {
        self.registry.read().clone()
    }

    /// The function of this name, and the registry that it is in.
    pub fn find(
        &self,
        name: &[u8],
        recent: &mut Option<RecentFunction>,
    ) -> Option<(Arc<Registry>, FunctionHandle)> {
        // Before the registry is looked at, so that one that is newer is not taken for this one later.
        let generation = self.generation.load(Acquire);
        if let Some(recent) = recent
            && recent.generation == generation
            && recent.name == name
        {
            return Some((recent.registry.clone(), recent.handle.clone()));
        }
        let registry = self.get();
        let handle = registry.function(name)?;
        *recent = Some(RecentFunction {
            generation,
            name: name.to_vec(),
            registry: registry.clone(),
            handle: handle.clone(),
        });
        Some((registry, handle))
    }

    pub fn set(&self, _held: &mut Core, registry: Arc<Registry>) {
        *self.registry.write() = registry;
        self.generation.fetch_add(1, Release);
    }
}
