//! Input that nobody should send: on sockets, in files, as scripts and from the other side of replication. Whatever
//! comes, the server is up afterwards and has kept its data, or it ended at the start and said why.

#[path = "../common/mod.rs"]
mod common;

mod clients;
mod files;
mod inputs;
mod mutations;
mod peers;
mod rdb;
mod scripts;

use common::client::Reply;
use common::server::Server;

/// A server with some data, and the check that it has kept it.
fn with_data(options: &[&str]) -> Server {
    let server = Server::start(options);
    let mut client = server.client();
    for words in ["SET kept value", "RPUSH list a b c", "HSET hash f v", "ZADD sorted 1 m", "SADD set x y"] {
        client.ok(words);
    }
    server
}

fn assert_kept(server: &Server) {
    let mut client = server.client();
    assert_eq!(client.call("PING").text(), "PONG");
    assert_eq!(client.call("GET kept").text(), "value");
    assert_eq!(client.call("LRANGE list 0 -1").items().len(), 3);
    assert_eq!(client.call("HGET hash f").text(), "v");
    assert_eq!(client.call("ZSCORE sorted m"), Reply::Bulk(b"1".to_vec()));
    assert_eq!(client.call("SCARD set").integer(), 2);
}
