//! The registry of functions as the whole server sees it.
//!
//! It is looked at without the dataset's guard (FCALL, FUNCTION STATS while a script is busy) and changed under it, so
//! that a snapshot taken under the guard and the functions saved beside it belong to one moment.
//!
//! Invariant: [`Functions::set`] is called by the holder of the write guard; the borrowed core is the proof.

use std::sync::Arc;

use parking_lot::RwLock;

use super::core::Core;
use crate::scripting::Registry;

#[derive(Debug, Default)]
pub struct Functions(RwLock<Arc<Registry>>);

impl Functions {
    pub fn get(&self) -> Arc<Registry> {
        self.0.read().clone()
    }

    pub fn set(&self, _held: &mut Core, registry: Arc<Registry>) {
        *self.0.write() = registry;
    }
}
