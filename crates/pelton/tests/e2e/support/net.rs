//! Bytes on ports.

use super::{PATIENCE, until};
use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

/// A port that was free a moment ago, for a process that has to come back to the same one.
pub fn free_address() -> String {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

/// Send bytes and nothing after them, and read what comes back until the other side closes.
pub fn exchange(address: &str, bytes: &[u8]) -> Vec<u8> {
    let stream = send(address, bytes);
    let _ = stream.shutdown(std::net::Shutdown::Write);
    answer(stream)
}

fn send(address: &str, bytes: &[u8]) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    // The other side may close before all was sent, and is right to.
    let _ = stream.write_all(bytes);
    stream
}

fn answer(mut stream: TcpStream) -> Vec<u8> {
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    answer
}

/// Status and body of a GET.
pub fn get(address: &str, path: &str) -> (u16, String) {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    // Both directions stay open: to an HTTP server a half-closed connection is a client that gave up.
    let answer = String::from_utf8_lossy(&answer(send(address, request.as_bytes()))).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    (status, answer.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}

/// Wait for a status of a path.
#[track_caller]
pub fn until_status(address: &str, path: &str, status: u16) -> String {
    until(&format!("{status} of http://{address}{path}"), || {
        let (now, body) = get(address, path);
        (now == status).then_some(body)
    })
}
