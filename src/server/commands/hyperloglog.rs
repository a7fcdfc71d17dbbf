//! PFSELFTEST, the one command about HyperLogLogs that looks at no key.

use super::plain;
use crate::command::{Audience, Flags, Group};
use crate::protocol::{ErrorReply, Reply};
use crate::server::table::HostCommand;
use crate::types::hyperloglog;

pub const COMMANDS: &[HostCommand] = &[HostCommand {
    name: "pfselftest",
    summary: "Checks the estimates of HyperLogLogs. Takes seconds.",
    since: "2.8.9",
    complexity: "N/A",
    audience: Audience::Servers,
    ..plain(Group::HyperLogLog, Flags::ADMIN, |call| {
        let most_sparse = call.server().config().hll_sparse_max_bytes as usize;
        let failed = |text: &str| ErrorReply::from_text(format!("TESTFAILED {text}"));
        hyperloglog::self_test(fastrand::u64(..), most_sparse).map_err(failed)?;
        Ok(Reply::Ok.into())
    })
}];
