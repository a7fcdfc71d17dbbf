//! The running server: reactors, connections, configuration, INFO, signals.

pub mod command_line;
pub mod config;
mod health;
pub mod log;
