//! What a command of the server gets: the server, the connection it was called from, and the dataset through
//! whichever guard the running batch holds.

use std::sync::Arc;

use super::Server;
use super::core::Core;
use super::execute::Executor;
use super::session::Session;
use super::table::Entry;
use crate::command::Args;

/// One call of a server command.
pub struct Call<'a, 's> {
    pub executor: &'a mut Executor<'s>,
    pub session: &'a mut Session,
    pub entry: &'static Entry,
    pub args: &'a Args<'a>,
}

impl<'s> Call<'_, 's> {
    pub fn server(&self) -> &'s Arc<Server> {
        self.executor.server
    }

    /// The dataset and all that stands beside it, to be read.
    pub fn core(&mut self) -> &Core {
        self.executor.core()
    }

    /// The same, to be changed.
    pub fn core_mut(&mut self) -> &mut Core {
        self.executor.core_mut()
    }
}
