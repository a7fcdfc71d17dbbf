//! The other side of replication lies: a primary that is none, and replicas that are none.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};

use super::{assert_kept, with_data};
use crate::common::client::Client;
use crate::common::dataset::assert_same;
use crate::common::server::Server;
use crate::common::wait_until;

/// Shakes hands as a primary does, and answers PSYNC with given bytes.
struct FakePrimary {
    port: u16,
    /// How often the answer was sent.
    answered: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
}

impl FakePrimary {
    /// `hang_up`: closes behind the answer; else it waits for what the replica does.
    fn start(answer: Vec<u8>, hang_up: bool) -> FakePrimary {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = listener.local_addr().expect("an address").port();
        let (answered, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, ended) = (answered.clone(), stop.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if ended.load(SeqCst) {
                    return;
                }
                let (answer, count) = (answer.clone(), count.clone());
                // What the replica breaks off is no failure here.
                std::thread::spawn(move || serve(stream, &answer, hang_up, &count));
            }
        });
        FakePrimary { port, answered, stop }
    }
}

impl Drop for FakePrimary {
    fn drop(&mut self) {
        self.stop.store(true, SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(("127.0.0.1", self.port));
    }
}

fn serve(stream: TcpStream, answer: &[u8], hang_up: bool, count: &AtomicUsize) -> std::io::Result<()> {
    let mut writer = stream.try_clone()?;
    let mut lines = BufReader::new(stream).lines();
    while let Some(Ok(line)) = lines.next() {
        match line.to_ascii_uppercase().as_str() {
            "PING" => writer.write_all(b"+PONG\r\n")?,
            "REPLCONF" => {
                let option = lines.nth(1).transpose()?.unwrap_or_default();
                if !option.eq_ignore_ascii_case("ack") {
                    writer.write_all(b"+OK\r\n")?;
                }
            }
            "PSYNC" | "SYNC" => {
                let written = writer.write_all(answer);
                count.fetch_add(1, SeqCst);
                written?;
                if hang_up {
                    return Ok(());
                }
            }
            _ => {}
        }
    }
    Ok(())
}

const REPLID: &str = "0123456789abcdef0123456789abcdef01234567";

fn full(rest: &[u8]) -> Vec<u8> {
    [format!("+FULLRESYNC {REPLID} 100\r\n").as_bytes(), rest].concat()
}

/// The RDB file of a sound server.
fn sound_rdb() -> Vec<u8> {
    let server = Server::start(&[]);
    server.client().ok("SET from:the:primary 1");
    server.client().ok("SAVE");
    std::fs::read(server.folder().join("dump.rdb")).expect("a file")
}

fn with_length(rdb: &[u8]) -> Vec<u8> {
    full(&[format!("${}\r\n", rdb.len()).as_bytes(), rdb].concat())
}

/// Lets a replica with data meet the liar, twice if it comes back, and checks what it has afterwards.
fn meet(replica: &Server, name: &str, answer: Vec<u8>, hang_up: bool) {
    let primary = FakePrimary::start(answer, hang_up);
    let mut client = replica.client();
    client.ok(&format!("REPLICAOF 127.0.0.1 {}", primary.port));
    wait_until(name, || primary.answered.load(SeqCst) >= if hang_up { 2 } else { 1 });
    assert_eq!(client.call("PING").text(), "PONG", "{name}");
    client.ok("REPLICAOF NO ONE");
}

#[test]
fn a_lying_primary_costs_a_replica_nothing() {
    let rdb = sound_rdb();
    let mut flipped = rdb.clone();
    flipped[rdb.len() / 2] ^= 0x20;
    let eof = |rest: &[u8]| full(&[b"$EOF:", rest].concat());
    let mark = "m".repeat(40);
    let marked = |rdb: &[u8], end: &str| eof(&[mark.as_bytes(), b"\r\n", rdb, end.as_bytes()].concat());
    let answers = [
        ("a bad replid", b"+FULLRESYNC zzz 12\r\n".to_vec()),
        ("no offset", format!("+FULLRESYNC {REPLID}\r\n").into_bytes()),
        ("a negative offset", format!("+FULLRESYNC {REPLID} -5\r\n$0\r\n").into_bytes()),
        ("a huge offset", format!("+FULLRESYNC {REPLID} 99999999999999999999\r\n").into_bytes()),
        ("nothing at all", Vec::new()),
        ("an error", b"-ERR no\r\n".to_vec()),
        ("a word", b"+NONSENSE\r\n".to_vec()),
        ("an unwanted continuation", b"+CONTINUE\r\n".to_vec()),
        ("a continuation of nobody", b"+CONTINUE zzz\r\n".to_vec()),
        ("garbage", (0..5000).map(|number| (number * 37) as u8).collect()),
        ("an endless line", vec![b'+'; 1 << 20]),
        ("no length", full(b"$abc\r\n")),
        ("a negative length", full(b"$-1\r\n")),
        ("a length beyond numbers", full(b"$99999999999999999999\r\n")),
        ("no file", full(b"$0\r\n")),
        ("a file of a byte", full(b"$1\r\nR")),
        ("a cut file", with_length(&rdb)[..rdb.len() / 2].to_vec()),
        ("a short file", with_length(&rdb[..rdb.len() - 1])),
        ("a flipped file", with_length(&flipped)),
        ("a file of something else", with_length(&[b'x'; 3000])),
        ("a short mark", eof(b"abc\r\n")),
        ("a mark that never comes", marked(&rdb, "")),
        ("a flipped file with a mark", marked(&flipped, &mark)),
        ("a cut file with a mark", marked(&rdb[..rdb.len() / 2], &mark)),
    ];
    // A replica takes a second before it comes back, so several meet their liars at a time.
    std::thread::scope(|scope| {
        for answers in answers.chunks(4) {
            scope.spawn(move || {
                let replica = with_data(&[]);
                for (name, answer) in answers {
                    meet(&replica, name, answer.clone(), true);
                    assert_kept(&replica);
                }
            });
        }
    });
    let replica = with_data(&[]);
    // A length that is a lie, and the line stays open.
    for (name, answer) in [
        ("a huge promise", full(b"$9000000000000000000\r\nREDIS0010")),
        ("half a file", with_length(&rdb)[..rdb.len()].to_vec()),
    ] {
        meet(&replica, name, answer, false);
        assert_kept(&replica);
    }
}

#[test]
fn a_stream_of_garbage_ends_the_link_only() {
    let rdb = sound_rdb();
    let streams = [
        ("random bytes", (0..5000).map(|number| (number * 91 + 7) as u8).collect::<Vec<u8>>()),
        ("a wrong length", b"*2\r\n$-5\r\n".to_vec()),
        ("many arguments", b"*1000000000\r\n".to_vec()),
        ("a long argument", b"*1\r\n$99999999999999\r\n".to_vec()),
        ("an endless inline command", vec![b'a'; 4 << 20]),
        ("half a transaction", b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\ny\r\n".to_vec()),
        ("EXEC without MULTI", b"*1\r\n$4\r\nEXEC\r\n".to_vec()),
        ("an unknown command", b"*1\r\n$4\r\nBOOM\r\n".to_vec()),
        ("a database that is not there", b"*2\r\n$6\r\nSELECT\r\n$6\r\n999999\r\n".to_vec()),
        ("a command for clients", b"*2\r\n$5\r\nBLPOP\r\n$1\r\nx\r\n".to_vec()),
        ("a write of another type", b"*3\r\n$5\r\nLPUSH\r\n$16\r\nfrom:the:primary\r\n$1\r\nx\r\n".to_vec()),
    ];
    std::thread::scope(|scope| {
        for streams in streams.chunks(3) {
            let file = with_length(&rdb);
            scope.spawn(move || {
                let replica = with_data(&[]);
                for (name, stream) in streams {
                    meet(&replica, name, [&file[..], stream].concat(), true);
                    // The file was sound, so it has taken the place of the data.
                    let mut client = replica.client();
                    assert_eq!(client.call("GET from:the:primary").text(), "1", "{name}");
                    client.ok("SET own 1");
                }
            });
        }
    });
}

#[test]
fn lying_replicas_cost_a_primary_nothing() {
    let primary = with_data(&[]);
    // The first replica gives the history its name.
    drop(follow(&primary));
    let replid = primary.info("master_replid");
    let nonsense: &[&[&str]] = &[
        &["REPLCONF"],
        &["REPLCONF", "listening-port"],
        &["REPLCONF", "listening-port", "abc"],
        &["REPLCONF", "listening-port", "99999999999999999999"],
        &["REPLCONF", "ip-address", "x".repeat(5000).leak()],
        &["REPLCONF", "capa", "\u{ff}\0", "capa", "eof", "capa", "psync2"],
        &["REPLCONF", "nonsense", "1"],
        &["REPLCONF", "version", "not.a.version"],
        &["REPLCONF", "rdb-only", "7"],
        &["REPLCONF", "rdb-filter-only", "nonsense"],
        &["REPLCONF", "set-rdb-client-id", "1"],
        &["PSYNC", "?"],
        &["PSYNC", "?", "abc"],
        &["PSYNC", "?", "99999999999999999999"],
        &["PSYNC", &replid, "-7"],
        &["PSYNC", &replid, "9223372036854775807"],
        &["PSYNC", &replid, "1", "FAILOVER"],
        &["PSYNC", "zzz", "5"],
        &["PSYNC", REPLID, "5", "NONSENSE"],
    ];
    for words in nonsense {
        let mut client = primary.client();
        client.send(words).expect("sent");
        // Some are answered with a whole file: it goes away in the middle of it.
        let _ = client.read();
    }
    // Replicas that shake hands and then talk nonsense.
    for talk in [
        &["REPLCONF", "ACK", "-5"][..],
        &["REPLCONF", "ACK", "99999999999999999999"],
        &["REPLCONF", "ACK", "9223372036854775807"],
        &["REPLCONF", "ACK", "abc"],
        &["REPLCONF", "ACK"],
        &["REPLCONF", "ACK", "1", "FACK", "x"],
        &["REPLCONF", "ACK", "9223372036854775807", "FACK", "9223372036854775807"],
        &["GET", "kept"],
        &["SET", "kept", "changed"],
        &["PSYNC", "?", "-1"],
        &["MULTI"],
        &["NONSENSE"],
    ] {
        let mut client = follow(&primary);
        client.send(talk).expect("sent");
        client.send(talk).expect("sent");
        primary.client().ok("INCR n");
        assert_kept(&primary);
    }
    let mut client = follow(&primary);
    client.send_bytes(b"*-5\r\n\0\xff*3\r\n$x\r\n").expect("sent");
    client.send_bytes(&vec![b'y'; 1 << 20]).ok();
    assert_kept(&primary);
    // None of them has had an effect on who is in order.
    drop(client);
    wait_until("the liars are gone", || primary.info("connected_slaves") == "0");
    let replica = Server::replica_of(primary.port, &[]);
    replica.wait_for_offset_of(&primary);
    assert_same(&primary, &replica);
    assert_eq!(primary.info("role"), "master");
    assert_eq!(primary.info("master_replid"), replid);
}

/// A connection that has asked for a full sync, got the answer and reads no further.
fn follow(primary: &Server) -> Client {
    let mut client = primary.client();
    client.ok("REPLCONF listening-port 7");
    client.ok("REPLCONF capa eof capa psync2");
    let reply = client.call("PSYNC ? -1");
    assert!(reply.text().starts_with("FULLRESYNC "), "{reply:?}");
    client
}
