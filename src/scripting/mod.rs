//! The Lua engine, its sandbox and libraries, and the registry of functions. Knows commands only through its host trait.
//!
//! A script runs on a stack of its own ([`fiber`]) in a Lua state of its own ([`interpreter`]), slice by slice
//! ([`Engine::resume`]), and can be abandoned between slices wherever it is ([`Engine::abandon`]). `unsafe` is in
//! `api`, `context`, `convert`, `debugger`, `fiber`, `interpreter`, `run`, `sandbox`, `ticks` and the libraries only;
//! above them ([`engine`], [`scripts`], [`functions`], [`flags`], [`host`]) there is none.

mod api;
mod context;
mod convert;
mod debugger;
pub mod engine;
mod fiber;
pub mod flags;
pub mod functions;
pub mod host;
mod interpreter;
mod libraries;
mod random;
mod run;
mod sandbox;
pub mod scripts;
mod statistics;
#[cfg(test)]
mod tests;
mod ticks;

pub use debugger::{Console, DebugCommand, Debugger};
pub use engine::{
    Code, Engine, EngineSettings, LOAD_TIME_LIMIT, NoHost, Progress, ScriptCall, ScriptResult, ScriptRun,
};
pub use flags::ScriptFlags;
pub use functions::{ENGINE_NAME, Function, FunctionHandle, Library, Registry};
pub use host::{EffectTargets, LogLevel, ScriptHost};
pub use scripts::{FoundScript, Origin, RecentScript, Script, ScriptCache, ScriptDigest};
pub use statistics::{RunEnd, RunFigures, ScriptStatistics, ScriptTotals};

use ticks::work;
