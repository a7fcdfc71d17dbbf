//! Connections of replicas: the dataset, then the stream.

use std::sync::Arc;

use super::Server;
use super::connection::Socket;
use super::session::Session;

/// What a connection that becomes a replica's takes along.
#[derive(Debug)]
pub struct Handover;

/// Serves the connection of a replica to its end. `out` is still to be sent, `input` was received already.
pub async fn serve(
    _server: Arc<Server>,
    _socket: Socket,
    _session: Session,
    _handover: Handover,
    _out: Vec<u8>,
    _input: Vec<u8>,
) {
}
