//! Running scripts for clients.

use super::execute::Executor;
use super::session::Session;
use super::table::{Entry, ScriptFn};
use crate::command::Args;

/// What a script command asks to run.
#[derive(Debug)]
pub struct ScriptRequest;

pub async fn run(
    _executor: &mut Executor<'_>,
    _session: &mut Session,
    _entry: &'static Entry,
    _function: ScriptFn,
    _args: &Args<'_>,
) {
}
