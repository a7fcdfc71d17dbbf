//! What a command of the server gets: the server, the connection it was called from, and the dataset if its kind of
//! handler says so, through whichever guard the running batch holds.
//!
//! Invariant: a handler reaches the dataset only if its type says so; the guard was taken before it was called, since a
//! script may hold the dataset for long and a handler must not wait.

use std::marker::PhantomData;
use std::sync::Arc;

use super::Server;
use super::core::Core;
use super::execute::Executor;
use super::session::Session;
use super::table::Entry;
use crate::command::Args;
use crate::keyspace::WriteTxn;

/// The handler never looks at the dataset: it runs while a script holds it.
#[derive(Debug)]
pub struct NoDataset;

/// The handler reads the dataset.
#[derive(Debug)]
pub struct Reads;

/// The handler changes the dataset, or what changes in step with it.
#[derive(Debug)]
pub struct Writes;

/// One call of a server command.
pub struct Call<'a, 's, Access = NoDataset> {
    pub executor: &'a mut Executor<'s>,
    pub session: &'a mut Session,
    pub entry: &'static Entry,
    pub args: &'a Args<'a>,
    access: PhantomData<Access>,
}

impl<'a, 's, Access> Call<'a, 's, Access> {
    /// Made by the executor, which holds what `Access` promises.
    pub(super) fn new(
        executor: &'a mut Executor<'s>,
        session: &'a mut Session,
        entry: &'static Entry,
        args: &'a Args<'a>,
    ) -> Self {
        Call { executor, session, entry, args, access: PhantomData }
    }

    pub fn server(&self) -> &'s Arc<Server> {
        self.executor.server
    }
}

impl Call<'_, '_, Reads> {
    /// The dataset and all that stands beside it, to be read.
    pub fn core(&self) -> &Core {
        self.executor.core()
    }
}

impl Call<'_, '_, Writes> {
    /// The dataset and all that stands beside it, to be read.
    pub fn core(&self) -> &Core {
        self.executor.core()
    }

    /// The same, to be changed.
    pub fn core_mut(&mut self) -> &mut Core {
        self.executor.core_mut()
    }

    /// A write transaction for the session that calls.
    pub fn transaction(&mut self) -> WriteTxn<'_> {
        self.executor.transaction(self.session)
    }
}
