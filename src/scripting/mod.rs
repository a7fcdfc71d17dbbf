//! The Lua engine, its sandbox and libraries, and the registry of functions. Knows commands only through its host trait.

mod libraries;
mod ticks;

#[allow(unused_imports, reason = "for the libraries")]
pub(in crate::scripting) use ticks::{tick, work};
