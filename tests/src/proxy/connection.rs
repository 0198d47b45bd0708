//! One client's connection and the one to the broker that belongs to it: a thread for each direction.

use super::{
    Line, Shared,
    rules::{Fault, Ticket},
    wire::{self, Header},
};
use socket2::SockRef;
use std::{
    collections::HashMap,
    io::{self, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// After the client is gone, for the broker's last answer: until then the connection to the broker stays.
const LAST_ANSWER: Duration = Duration::from_millis(300);

/// See the module's text.
#[derive(Debug)]
pub(crate) struct Pair {
    number: u64,
    client: TcpStream,
    server: TcpStream,
    /// What is to be done with the answers that are on their way.
    expected: Mutex<HashMap<i32, Expected>>,
    /// Nothing goes to the client any more.
    cut: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
struct Expected {
    ticket: Option<Ticket>,
    fault: Option<Fault>,
    names_brokers: bool,
}

impl Pair {
    pub fn new(number: u64, client: TcpStream, server: TcpStream) -> io::Result<Pair> {
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        Ok(Pair { number, client, server, expected: Mutex::default(), cut: AtomicBool::new(false) })
    }

    /// RST to both sides: with no time to linger, and unread, they are reset when the last thread lets go.
    pub fn reset(&self) {
        for side in [&self.client, &self.server] {
            let _ = SockRef::from(side).set_linger(Some(Duration::ZERO));
            let _ = side.shutdown(Shutdown::Read);
        }
    }

    fn cut(&self) {
        self.cut.store(true, Ordering::Relaxed);
        let _ = self.client.shutdown(Shutdown::Both);
    }

    fn expected(&self) -> MutexGuard<'_, HashMap<i32, Expected>> {
        self.expected.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn to_server(&self, frame: &[u8], line: Line) -> bool {
        slow(frame, line);
        (&self.server).write_all(frame).is_ok()
    }

    fn to_client(&self, frame: &[u8], line: Line) {
        slow(frame, line);
        if !self.cut.load(Ordering::Relaxed) && (&self.client).write_all(frame).is_err() {
            self.cut.store(true, Ordering::Relaxed);
        }
    }
}

/// Wait as long as the frame takes on this line.
fn slow(frame: &[u8], line: Line) {
    if line.bytes_per_second > 0 {
        std::thread::sleep(Duration::from_secs_f64(frame.len() as f64 / line.bytes_per_second as f64));
    }
}

/// Carry both directions until one side ends.
pub(crate) fn serve(pair: &Arc<Pair>, shared: &Arc<Shared>) {
    let (there, back) = ((pair.clone(), shared.clone()), (pair.clone(), shared.clone()));
    let started = std::thread::Builder::new().name("proxy-there".into()).spawn(move || {
        requests(&there.0, &there.1);
        std::thread::sleep(LAST_ANSWER);
        let _ = there.0.server.shutdown(Shutdown::Both);
    });
    let answers = std::thread::Builder::new().name("proxy-back".into()).spawn(move || {
        replies(&back.0, &back.1);
        let _ = back.0.client.shutdown(Shutdown::Both);
        // What is not answered by now never is.
        let left: Vec<_> = back.0.expected().drain().filter_map(|(_, e)| e.ticket).collect();
        left.into_iter().for_each(|ticket| back.1.answered(ticket));
        back.1.gone(back.0.number);
    });
    if started.is_err() || answers.is_err() {
        pair.reset();
        shared.gone(pair.number);
    }
}

/// A request on its way, with the rule it met.
struct Request {
    frame: Vec<u8>,
    header: Header,
    ticket: Option<Ticket>,
    fault: Option<Fault>,
}

fn requests(pair: &Pair, shared: &Shared) {
    let mut behind: Option<Request> = None;
    while let Some(frame) = wire::frame(&mut &pair.client) {
        let Some(header) = wire::header(&frame) else { return };
        let (met, line) = {
            let mut state = shared.lock();
            (state.rules.meet(header.key, &header.client), state.line)
        };
        shared.changed.notify_all();
        if line.silent {
            continue;
        }
        std::thread::sleep(line.delay);
        let (ticket, rule) = met.unzip();
        let fault = rule.as_ref().map(|rule| rule.fault);
        let at_most = rule.and_then(|rule| rule.at_most);
        let request = Request { frame, header, ticket, fault };
        match (fault, ticket) {
            (Some(Fault::Delay(time)), _) => std::thread::sleep(time),
            (Some(Fault::Hold), Some(ticket)) => shared.hold(ticket, at_most),
            (Some(Fault::Cut), Some(ticket)) => {
                pair.cut();
                shared.hold(ticket, at_most);
            }
            (Some(Fault::Drop), _) => continue,
            (Some(Fault::Reset), _) => return pair.reset(),
            (Some(Fault::Reorder), _) => {
                behind = Some(request);
                continue;
            }
            _ => {}
        }
        let late = behind.take();
        if ![Some(request), late].into_iter().flatten().all(|request| pass(pair, shared, &request, line)) {
            return;
        }
    }
}

/// Give a request to the broker; false when it takes none any more.
fn pass(pair: &Pair, shared: &Shared, request: &Request, line: Line) -> bool {
    let Request { frame, header, ticket, fault } = request;
    let names_brokers = header.key.names_brokers();
    let expected = Expected { ticket: *ticket, fault: *fault, names_brokers };
    pair.expected().insert(header.correlation, expected);
    shared.passed(header.key);
    pair.to_server(frame, line)
}

fn replies(pair: &Pair, shared: &Shared) {
    while let Some(frame) = wire::frame(&mut &pair.server) {
        let line = shared.lock().line;
        let expected = wire::answers(&frame).and_then(|number| pair.expected().remove(&number));
        let ticket = expected.and_then(|e| e.ticket);
        match expected {
            _ if line.silent => {}
            Some(Expected { fault: Some(Fault::DropAnswer), .. }) => {}
            Some(Expected { fault: Some(Fault::CutAnswer), .. }) => pair.cut(),
            Some(Expected { fault: Some(Fault::NameNoBroker), .. }) => {
                pair.to_client(&wire::without_brokers(&frame).unwrap_or(frame), line);
            }
            Some(Expected { fault: Some(Fault::NameNoTransactions), .. }) => {
                pair.to_client(&wire::without_transactions(&frame).unwrap_or(frame), line);
            }
            Some(Expected { names_brokers: true, .. }) => {
                pair.to_client(&wire::readdressed(&frame, &shared.upstream, &shared.own), line);
            }
            _ => pair.to_client(&frame, line),
        }
        if let Some(ticket) = ticket {
            shared.answered(ticket);
        }
    }
}
