//! The wire format: requests in, replies out. Knows nothing of commands, keys or sockets.

pub mod reply;

pub use reply::{CommandResult, ErrorReply, Reply};
