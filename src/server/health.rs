//! `--health-check`: whether the server of a configuration answers. A client like any other; it shares
//! nothing with a running server.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use super::config::{Config, Text};

/// How long connecting, writing and reading may take, each.
const TIMEOUT: Duration = Duration::from_secs(3);

/// True if the server at the configured address answers PING. A server that wants another password than
/// the configured one is up, so NOAUTH counts; one that is loading does not.
pub fn check(config: &Config) -> bool {
    let reply = match config.port {
        0 if config.unixsocket.is_empty() => return false,
        0 => ask_socket(config),
        port => ask_port(config, port),
    };
    reply.is_ok_and(|reply| reply.starts_with(b"+PONG") || reply.starts_with(b"-NOAUTH"))
}

fn ask_socket(config: &Config) -> io::Result<Vec<u8>> {
    let stream = UnixStream::connect(config.dir.0.join(config.unixsocket.as_path()))?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    ask(stream, config)
}

fn ask_port(config: &Config, port: u16) -> io::Result<Vec<u8>> {
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    for host in hosts(config) {
        for address in (host.as_str(), port).to_socket_addrs().into_iter().flatten() {
            match TcpStream::connect_timeout(&address, TIMEOUT) {
                Ok(stream) => {
                    stream.set_read_timeout(Some(TIMEOUT))?;
                    stream.set_write_timeout(Some(TIMEOUT))?;
                    return ask(stream, config);
                }
                Err(error) => last = error,
            }
        }
    }
    Err(last)
}

/// The addresses to try: those that the server binds to, with the loopback for "all".
fn hosts(config: &Config) -> Vec<String> {
    let host = |address: &Text| match address.to_str().trim_start_matches('-') {
        "*" | "0.0.0.0" => "127.0.0.1".to_owned(),
        "::*" | "::" => "::1".to_owned(),
        host => host.to_owned(),
    };
    config.bind.0.iter().map(host).collect()
}

fn ask(mut stream: impl Read + Write, config: &Config) -> io::Result<Vec<u8>> {
    if !config.requirepass.is_empty() {
        let password = config.requirepass.as_bytes();
        let mut request = format!("*2\r\n$4\r\nAUTH\r\n${}\r\n", password.len()).into_bytes();
        request.extend_from_slice(password);
        request.extend_from_slice(b"\r\n");
        stream.write_all(&request)?;
        read_line(&mut stream)?;
    }
    stream.write_all(b"*1\r\n$4\r\nPING\r\n")?;
    read_line(&mut stream)
}

/// One line, without its end. Every reply to AUTH and PING is one.
fn read_line(stream: &mut impl Read) -> io::Result<Vec<u8>> {
    const MAX_LINE: usize = 1024;
    let mut line = Vec::new();
    let mut byte = [0];
    while line.len() < MAX_LINE {
        stream.read_exact(&mut byte)?;
        match byte {
            [b'\n'] => break,
            [b'\r'] => {}
            [byte] => line.push(byte),
        }
    }
    Ok(line)
}
