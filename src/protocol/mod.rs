//! The wire format: requests in, replies out. Knows nothing of commands, keys or sockets.

pub mod decode;
pub mod encode;
pub mod reply;
pub mod request;

pub use encode::Protocol;
pub use reply::{CommandResult, ErrorReply, Reply};
