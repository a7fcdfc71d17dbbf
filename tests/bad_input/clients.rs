//! Bytes that are no requests.

use std::time::Duration;

use understudy::base::crc64::crc64;

use super::{assert_kept, with_data};
use crate::common::client::{Client, Reply, encode};
use crate::common::server::{Program, Server};
use crate::common::wait_until;

fn answer(server: &Server, bytes: &[u8]) -> Vec<u8> {
    let mut client = server.client();
    client.send_bytes(bytes).expect("sent");
    // It may have been closed already.
    let _ = client.shutdown_write();
    client.read_to_end().unwrap_or_default()
}

#[test]
fn broken_requests_are_answered_and_end_their_connection() {
    let server = with_data(&[]);
    for (bytes, expected) in [
        (&b"*3\r\n$x\r\n"[..], "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$-1\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$99999999999\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*1\r\n$536870913\r\n", "-ERR Protocol error: invalid bulk length\r\n"),
        (b"*2\r\n+a\r\n", "-ERR Protocol error: expected '$', got '+'\r\n"),
        (b"*2\r\n\r\n", "-ERR Protocol error: expected '$', got ' '\r\n"),
        (b"*a\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*99999999999999999999\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"*2147483648\r\n", "-ERR Protocol error: invalid multibulk length\r\n"),
        (b"GET \"a\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
        (b"set x 'y\r\n", "-ERR Protocol error: unbalanced quotes in request\r\n"),
    ] {
        let found = answer(&server, bytes);
        let found = String::from_utf8_lossy(&found).into_owned();
        assert_eq!(found, expected, "{}", bytes.escape_ascii());
    }
    let mut endless = vec![b'a'; 70_000];
    assert_eq!(answer(&server, &endless), b"-ERR Protocol error: too big inline request\r\n");
    endless.splice(0..0, *b"*1\r\n$");
    assert_eq!(answer(&server, &endless), b"-ERR Protocol error: too big bulk count string\r\n");
    endless.splice(0..5, *b"*");
    assert_eq!(answer(&server, &endless), b"-ERR Protocol error: too big mbulk count string\r\n");
    assert_kept(&server);
}

#[test]
fn what_came_before_the_break_counts() {
    let server = with_data(&[]);
    let found =
        answer(&server, b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n*1\r\n$x\r\n*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n");
    assert_eq!(found, b":1\r\n-ERR Protocol error: invalid bulk length\r\n");
    assert_eq!(server.call("GET n").text(), "1");
    // The end comes in the middle of a request, at every byte.
    let request = encode(&["INCR", "half"]);
    for length in 0..request.len() {
        assert_eq!(answer(&server, &request[..length]), b"");
    }
    assert_eq!(server.call("EXISTS half").integer(), 0);
    assert_kept(&server);
}

#[test]
fn random_bytes_do_no_harm() {
    let server = with_data(&[]);
    let mut random = fastrand::Rng::with_seed(1);
    let alphabet = b"*$+-:%~>_#,(\r\n0123456789-aGETSPING\0\xff \"'\\";
    for _ in 0..300 {
        let length = random.usize(1..400);
        let bytes: Vec<u8> = if random.bool() {
            (0..length).map(|_| alphabet[random.usize(..alphabet.len())]).collect()
        } else {
            // A sound pipeline with a few bytes that are not.
            let mut bytes =
                [encode(&["PING"]), encode(&["ECHO", "kept"]), encode(&["TYPE", "list"])].concat();
            for _ in 0..random.usize(1..4) {
                let place = random.usize(..bytes.len());
                bytes[place] = random.u8(..);
            }
            bytes
        };
        answer(&server, &bytes);
    }
    assert_kept(&server);
}

/// Claims of length alone make the server keep no memory, and an unfinished request holds nobody up.
#[test]
fn promises_cost_nothing() {
    let server = with_data(&[]);
    let before = server.info_number("used_memory");
    let liars: Vec<Client> = (0..50)
        .map(|_| {
            let mut client = server.client();
            client.send_bytes(b"*1000000\r\n$500000000\r\nabc").expect("sent");
            client
        })
        .collect();
    wait_until("all have sent", || server.info_number("connected_clients") >= 51);
    assert_kept(&server);
    let grown = server.info_number("used_memory") - before;
    assert!(grown < 50_000_000, "50 liars cost {grown} bytes");
    drop(liars);
    wait_until("they are gone", || server.info_number("connected_clients") <= 1);
}

#[test]
fn a_client_that_does_not_read_holds_nobody_up() {
    let server = with_data(&[]);
    let mut client = server.client();
    client.call_args(&[&b"SET"[..], b"large", &vec![b'x'; 1_000_000]]);
    let mut deaf = server.client();
    for _ in 0..50 {
        deaf.send(&["GET", "large"]).expect("sent");
    }
    let began = std::time::Instant::now();
    for _ in 0..100 {
        assert_eq!(client.call("PING").text(), "PONG");
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    drop(deaf);
    assert_kept(&server);
}

#[test]
fn payloads_of_functions_are_not_trusted() {
    let server = with_data(&[]);
    let mut client = server.client();
    client.call_args(&[
        "FUNCTION",
        "LOAD",
        "#!lua name=lib\nserver.register_function('f', function() return 1 end)",
    ]);
    let Reply::Bulk(sound) = client.call("FUNCTION DUMP") else { panic!("no payload") };
    let mut random = fastrand::Rng::with_seed(2);
    for number in 0..sound.len() * 2 {
        let mut payload = sound.clone();
        if number < sound.len() {
            payload.truncate(number);
        } else {
            payload[number - sound.len()] ^= 1 << random.u8(..8);
        }
        let reply = client.call_args(&[&b"FUNCTION"[..], b"RESTORE", &payload, b"REPLACE"]);
        assert_eq!(reply.text(), "ERR DUMP payload version or checksum are wrong", "{number}");
    }
    assert_eq!(client.call_args(&[&b"FUNCTION"[..], b"RESTORE", &sound, b"REPLACE"]).text(), "OK");
    assert_eq!(client.call("FCALL f 0").integer(), 1);
    assert_kept(&server);
}

/// Payloads of DUMP by ours and by a real server, in all their encodings, with bytes that were changed: with a wrong
/// checksum they are refused at once, with a right one they are looked at.
#[test]
fn payloads_of_values_are_not_trusted() {
    let server = with_data(&[]);
    let mut client = server.client();
    let mut random = fastrand::Rng::with_seed(4);
    let writers: Vec<Program> = [Some(Program::ours()), Program::valkey()].into_iter().flatten().collect();
    for writer in writers {
        for options in [&[][..], &["--hash-max-listpack-entries", "2", "--zset-max-listpack-entries", "2"]] {
            let other = Server::start_program(&writer, options);
            let mut source = other.client();
            for words in [
                "SET string value",
                "SET number 12345",
                "RPUSH list a b 1 -5 70000 c",
                "SADD integers 1 2 300000",
                "SADD set a b 1",
                "HSET hash f v g 7",
                "ZADD sorted 1.5 a 2 b -inf c",
                "HSETEX expiring EX 1000 FIELDS 1 f v",
            ] {
                source.ok(words);
            }
            for key in ["string", "number", "list", "integers", "set", "hash", "sorted", "expiring"] {
                let Reply::Bulk(sound) = source.call(&format!("DUMP {key}")) else {
                    panic!("no payload of {key}")
                };
                let mut restore = |payload: &[u8]| {
                    client.call_args(&[&b"RESTORE"[..], b"restored", b"0", payload, b"REPLACE"])
                };
                assert_eq!(restore(&sound).text(), "OK", "{key}");
                for _ in 0..60 {
                    let mut payload = sound.clone();
                    let body = payload.len() - 10;
                    payload[random.usize(..body)] = random.u8(..);
                    if payload != sound {
                        assert_eq!(
                            restore(&payload).text(),
                            "ERR DUMP payload version or checksum are wrong"
                        );
                    }
                    let end = payload.len() - 8;
                    let sum = crc64(0, &payload[..end]);
                    payload[end..].copy_from_slice(&sum.to_le_bytes());
                    let reply = restore(&payload);
                    let expected = ["OK", "ERR Bad data format"];
                    assert!(expected.contains(&&*reply.text()), "{key}: {reply:?}");
                    if !reply.is_error() {
                        // What was taken can be looked at.
                        restored_is_whole(&server);
                    }
                }
            }
        }
    }
    assert_kept(&server);
}

fn restored_is_whole(server: &Server) {
    let mut client = server.client();
    let words = match client.call("TYPE restored").text().as_str() {
        "string" => "GET restored",
        "list" => "LRANGE restored 0 -1",
        "set" => "SMEMBERS restored",
        "hash" => "HGETALL restored",
        "zset" => "ZRANGE restored 0 -1 WITHSCORES",
        _ => "TTL restored",
    };
    client.ok(words);
    client.ok("DEBUG DIGEST");
}
