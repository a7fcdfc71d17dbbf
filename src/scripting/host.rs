//! What a running script may ask of the server around it. The engine knows commands, ACLs, replication and the
//! log only through this trait.

use crate::protocol::Reply;

/// The levels of `redis.log`, in the order of their numbers in Lua (`LOG_DEBUG` = 0).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    Debug,
    Verbose,
    Notice,
    Warning,
}

/// Where the effects of a script's further commands go (`redis.set_repl`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EffectTargets {
    /// `REPL_AOF`.
    pub aof: bool,
    /// `REPL_REPLICA`, `REPL_SLAVE`.
    pub replicas: bool,
}

impl EffectTargets {
    /// `REPL_ALL`, the state in which each script starts.
    pub const ALL: EffectTargets = EffectTargets { aof: true, replicas: true };
}

/// The server as a running script sees it.
///
/// It is called on the script's own stack (a few hundred KB are free there), and may be another one at each
/// resumption. A panic in it ends the script and goes on in the caller of the engine.
pub trait ScriptHost {
    /// Runs a command; `args[0]` is its name. All checks (existence, arity, permission, no-script, writing in a
    /// read-only script, memory) are the host's, and come back as `Reply::Error`, which has been counted in the
    /// error statistics. The reply must not be `Reply::Encoded`.
    fn call(&mut self, args: &[&[u8]]) -> Reply<'_>;

    /// `redis.setresp`: from now on commands answer in this version (2 or 3) of the protocol. The engine
    /// itself converts by it.
    fn set_response_protocol(&mut self, version: u8);

    /// `redis.set_repl`.
    fn set_effect_targets(&mut self, targets: EffectTargets);

    /// `redis.acl_check_cmd`: whether the script's user might run this command; `None` if there is no such command.
    fn acl_check(&mut self, args: &[&[u8]]) -> Option<bool>;

    /// `redis.log`. The host drops what is below its verbosity.
    fn log(&mut self, level: LogLevel, message: &[u8]);
}
