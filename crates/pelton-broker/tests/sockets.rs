//! What strangers may send to the port.
#![allow(clippy::unwrap_used)] // helpers of tests are tests

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use pelton_broker::server::{Options, Running, serve};

const PATIENCE: Duration = Duration::from_secs(20);

fn start(change: impl FnOnce(&mut Options)) -> (Running, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let mut options = Options::new("127.0.0.1:0", dir.path());
    change(&mut options);
    (serve(options).unwrap(), dir)
}

fn connect(broker: &Running) -> TcpStream {
    let stream = TcpStream::connect(broker.addr()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// An `ApiVersions` request of version 0 with correlation id 7.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255];

fn assert_answers(stream: &mut TcpStream) {
    stream.write_all(&API_VERSIONS).unwrap();
    let mut head = [0; 10];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[4..], [0, 0, 0, 7, 0, 0], "correlation id and no error");
    let length = u32::from_be_bytes(head[0..4].try_into().unwrap()) as usize;
    stream.read_exact(&mut vec![0; length - 6]).unwrap();
}

fn assert_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => assert!(rest.is_empty(), "an answer to garbage: {rest:?}"),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what} did not happen");
        std::thread::yield_now();
    }
}

fn frame(body: &[u8]) -> Vec<u8> {
    let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(body);
    frame
}

#[test]
fn garbage_closes_its_connection_and_no_other() {
    let (broker, _dir) = start(|_| {});
    let mut good = connect(&broker);
    assert_answers(&mut good);
    let garbage: [Vec<u8>; 8] = [
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(),
        vec![0xff; 1000],
        frame(&[]),
        frame(&[0, 18]),
        frame(&[0, 18, 0, 0, 0, 0, 0]),
        frame(&[0x7f, 0xff, 0, 0, 0, 0, 0, 1]),        // unknown key
        frame(&[0, 3, 0, 99, 0, 0, 0, 1, 255, 255]),   // unknown version
        frame(&[0, 3, 0, 1, 0, 0, 0, 1, 0, 50, b'x']), // client id longer than the request
    ];
    for (at, bytes) in garbage.iter().enumerate() {
        let mut stream = connect(&broker);
        stream.write_all(bytes).unwrap();
        assert_closed(&mut stream);
        until("the count", || broker.stats().malformed_requests == at as u64 + 1);
    }
    assert_answers(&mut good);
}

#[test]
fn lengths_that_promise_more_than_there_is_reserve_nothing() {
    let (broker, _dir) = start(|_| {});
    let count = i32::MAX.to_be_bytes();
    let metadata = [&[0, 3, 0, 1, 0, 0, 0, 1, 255, 255][..], &count].concat();
    let fetch = [&[0, 1, 0, 4, 0, 0, 0, 1, 255, 255][..], &[0; 17], &count].concat();
    let produce = [&[0, 0, 0, 3, 0, 0, 0, 1, 255, 255][..], &[255, 255, 0, 1, 0, 0, 0, 1], &count].concat();
    // Version 9 is flexible: tagged fields of the header, then a varint count.
    let flexible = [&[0, 3, 0, 9, 0, 0, 0, 1, 255, 255, 0][..], &[0xff, 0xff, 0xff, 0xff, 0x0f]].concat();
    for body in [metadata, fetch, produce, flexible] {
        let mut stream = connect(&broker);
        stream.write_all(&frame(&body)).unwrap();
        assert_closed(&mut stream);
    }
    let mut stream = connect(&broker);
    stream.write_all(&u32::MAX.to_be_bytes()).unwrap();
    assert_closed(&mut stream);
    // As large as allowed, and then nothing: the connection waits, the broker does not mind.
    let mut slow = connect(&broker);
    slow.write_all(&(100_u32 << 20).to_be_bytes()).unwrap();
    assert_answers(&mut connect(&broker));
}

#[test]
fn a_request_in_pieces_is_answered_and_half_a_request_is_not() {
    let (broker, _dir) = start(|_| {});
    let mut stream = connect(&broker);
    for byte in &API_VERSIONS[..API_VERSIONS.len() - 1] {
        stream.write_all(&[*byte]).unwrap();
    }
    stream.write_all(&API_VERSIONS[API_VERSIONS.len() - 1..]).unwrap();
    let mut head = [0; 8];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[4..], [0, 0, 0, 7]);
    let mut half = connect(&broker);
    half.write_all(&API_VERSIONS[..9]).unwrap();
    half.shutdown(Shutdown::Write).unwrap();
    assert_closed(&mut half);
}

#[test]
fn connections_beyond_the_limit_are_closed_and_come_through_later() {
    let (broker, _dir) = start(|options| options.max_connections = 2);
    let (mut first, mut second) = (connect(&broker), connect(&broker));
    assert_answers(&mut first);
    assert_answers(&mut second);
    assert_closed(&mut connect(&broker));
    assert_eq!(broker.stats().connections_refused, 1);
    drop(first);
    until("the end of the first", || broker.stats().connections_closed == 1);
    assert_answers(&mut connect(&broker));
}

#[test]
fn an_idle_connection_is_closed() {
    let (broker, _dir) = start(|options| options.idle_timeout = Duration::from_millis(50));
    let mut stream = connect(&broker);
    assert_answers(&mut stream);
    assert_closed(&mut stream);
}

#[test]
fn a_request_that_comes_a_byte_at_a_time_is_not_waited_for() {
    let (broker, _dir) = start(|options| options.stall_timeout = Duration::from_millis(100));
    let mut idle = connect(&broker);
    assert_answers(&mut idle);
    let (mut silent, mut trickling) = (connect(&broker), connect(&broker));
    silent.write_all(&1000_u32.to_be_bytes()).unwrap();
    trickling.write_all(&1000_u32.to_be_bytes()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    // Closed long before it would be complete: a byte comes every few milliseconds.
    while trickling.write_all(&[0]).is_ok() {
        assert!(Instant::now() < deadline, "a trickle keeps its connection");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_closed(&mut silent);
    assert_answers(&mut idle);
}

#[test]
fn a_version_of_the_future_is_answered_with_what_there_is() {
    let (broker, _dir) = start(|_| {});
    let mut stream = connect(&broker);
    stream.write_all(&frame(&[0, 18, 0, 42, 0, 0, 0, 7, 255, 255, 0])).unwrap();
    let mut head = [0; 10];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head[4..], [0, 0, 0, 7, 0, 35], "UNSUPPORTED_VERSION");
}

#[test]
fn stopping_ends_connections_and_frees_the_port() {
    let (broker, _dir) = start(|_| {});
    let addr = broker.addr();
    let mut stream = connect(&broker);
    assert_answers(&mut stream);
    broker.stop().unwrap();
    assert_closed(&mut stream);
    assert!(TcpStream::connect(addr).is_err());
}

#[test]
fn a_taken_port_and_a_bad_address_are_named() {
    let (broker, dir) = start(|_| {});
    let other = tempfile::tempdir().unwrap();
    let error = serve(Options::new(broker.addr().to_string(), other.path())).unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {}: ", broker.addr())), "{error}");
    let error = serve(Options::new("127.0.0.1:0", dir.path())).unwrap_err().to_string();
    assert!(error.contains("another broker uses this directory"), "{error}");
    let mut options = Options::new("127.0.0.1:0", other.path());
    options.listeners[0].advertised = Some("nowhere".to_owned());
    let error = serve(options).unwrap_err();
    assert_eq!(
        error.to_string(),
        "advertised address \"nowhere\" is not HOST:PORT, e.g. broker.example:9092"
    );
}

/// Where the child of the next tests tells its address, and what it shall do differently.
const CHILD_DIR: &str = "PELTON_TEST_CHILD_DIR";

/// Not a test by itself: a broker in a process of its own, so that file descriptors suffice and its memory can be
/// measured.
#[test]
fn a_child_that_serves_until_it_is_killed() {
    let Ok(dir) = std::env::var(CHILD_DIR) else { return };
    let dir = std::path::PathBuf::from(dir);
    let mut options = Options::new("127.0.0.1:0", dir.join("data"));
    options.max_connections = 12_000;
    let broker = serve(options).unwrap();
    std::fs::write(dir.join("address.new"), broker.addr().to_string()).unwrap();
    std::fs::rename(dir.join("address.new"), dir.join("address")).unwrap();
    // Ends by itself should nobody kill it: its parent's end closes this pipe.
    let _ = std::io::stdin().read(&mut [0]);
}

struct Child {
    process: std::process::Child,
    addr: std::net::SocketAddr,
    _dir: tempfile::TempDir,
}

impl Child {
    fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let process = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_child_that_serves_until_it_is_killed"])
            .env(CHILD_DIR, dir.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let address = dir.path().join("address");
        until("the start of the child", || address.exists());
        let addr = std::fs::read_to_string(address).unwrap().parse().unwrap();
        Self { process, addr, _dir: dir }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.addr).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// Memory it holds, bytes; `None` where the system does not tell.
    fn resident(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).ok()?;
        let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
        Some(line.split_whitespace().nth(1)?.parse::<u64>().ok()? * 1024)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn ten_thousand_connections_are_served_in_bounded_memory() {
    let child = Child::start();
    let mut open = Vec::new();
    for _ in 0..10_000 {
        match TcpStream::connect(child.addr) {
            Ok(stream) => open.push(stream),
            // This process may not have more files: as many as there are must do.
            Err(error) if open.len() > 500 => {
                eprintln!("{} connections instead of 10000: {error}", open.len());
                let spare = open.len() - 100;
                open.truncate(spare);
                break;
            }
            Err(error) => panic!("{error}"),
        }
    }
    for stream in open.iter_mut().step_by(97) {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        assert_answers(stream);
    }
    if let Some(resident) = child.resident() {
        assert!(resident < 400 << 20, "{} connections take {} MB", open.len(), resident >> 20);
    }
    drop(open);
    assert_answers(&mut child.connect());
}

#[test]
fn promises_of_large_requests_take_memory_only_as_they_are_kept() {
    let child = Child::start();
    let before = child.resident();
    let mut slow: Vec<TcpStream> = (0..300).map(|_| child.connect()).collect();
    for stream in &mut slow {
        stream.write_all(&(100_u32 << 20).to_be_bytes()).unwrap();
        stream.write_all(&[0; 100]).unwrap();
    }
    assert_answers(&mut child.connect());
    if let (Some(before), Some(after)) = (before, child.resident()) {
        assert!(after - before < 100 << 20, "{} MB for promises", (after - before) >> 20);
    }
}
