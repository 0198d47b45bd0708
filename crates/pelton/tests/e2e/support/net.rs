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
    let (status, _, body) = ask(address, &format!("GET {path}"), &[("Host", address)], "");
    (status, body)
}

/// Status, head and body of a request.
pub fn ask(address: &str, line: &str, headers: &[(&str, &str)], body: &str) -> (u16, String, String) {
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    let request =
        format!("{line} HTTP/1.1\r\n{headers}Content-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    // Both directions stay open: to an HTTP server a half-closed connection is a client that gave up.
    let answer = String::from_utf8_lossy(&answer(send(address, request.as_bytes()))).into_owned();
    let status = answer.split(' ').nth(1).and_then(|code| code.parse().ok()).unwrap_or(0);
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    (status, head.to_ascii_lowercase(), body.to_owned())
}

/// Wait for a status of a path.
#[track_caller]
pub fn until_status(address: &str, path: &str, status: u16) -> String {
    until(&format!("{status} of http://{address}{path}"), || {
        let (now, body) = get(address, path);
        (now == status).then_some(body)
    })
}
