//! A connection's bytes, encrypted or not. A call moves what the socket takes or gives at once and then returns, so
//! that whoever calls keeps an eye on the clock.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use rustls::ServerConnection;

/// How long the last words of a connection may take.
const FAREWELL: Duration = Duration::from_millis(100);

/// See the module.
#[derive(Debug)]
pub(super) struct Stream<'a> {
    socket: &'a TcpStream,
    tls: Option<Box<ServerConnection>>,
}

pub(super) fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}

fn again(result: io::Result<usize>) -> io::Result<usize> {
    match result {
        Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(io::ErrorKind::WouldBlock.into()),
        other => other,
    }
}

impl<'a> Stream<'a> {
    pub fn new(socket: &'a TcpStream, tls: Option<ServerConnection>) -> Self {
        Self { socket, tls: tls.map(Box::new) }
    }

    /// A read waits no longer than this.
    pub fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket.set_read_timeout(Some(timeout.max(Duration::from_millis(1))))
    }

    /// Shakes hands, if that is needed.
    pub fn handshake(&mut self, deadline: Instant) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        while tls.is_handshaking() || tls.wants_write() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            let moved = if tls.wants_write() {
                again(tls.write_tls(&mut self.socket))
            } else {
                self.socket.set_read_timeout(Some(left))?;
                receive(tls, self.socket)
            };
            match moved {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(_) => {}
                Err(error) if is_timeout(&error) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Takes what the socket has. What cannot be decrypted is answered with an alert.
fn receive(tls: &mut ServerConnection, mut socket: &TcpStream) -> io::Result<usize> {
    let read = again(tls.read_tls(&mut socket))?;
    if let Err(error) = tls.process_new_packets() {
        // The alert, if the client still listens.
        let _ = tls.write_tls(&mut socket);
        return Err(io::Error::new(io::ErrorKind::InvalidData, error));
    }
    Ok(read)
}

impl Read for Stream<'_> {
    /// 0 is the end. An error of [`is_timeout`] says that nothing is there yet.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return again(self.socket.read(buffer)) };
        // Answers of the protocol itself, such as to a new key.
        if tls.wants_write() {
            again(tls.write_tls(&mut self.socket))?;
        }
        for has_received in [false, true] {
            match tls.reader().read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock && !has_received => {
                    receive(tls, self.socket)?;
                }
                // Closed without a word: requests have lengths, so nobody can cut one short unnoticed.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
                other => return other,
            }
        }
        Err(io::ErrorKind::WouldBlock.into())
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let Some(tls) = &mut self.tls else { return again(self.socket.write(bytes)) };
        if tls.wants_write() {
            if again(tls.write_tls(&mut self.socket))? == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            if tls.wants_write() {
                return Err(io::ErrorKind::WouldBlock.into());
            }
        }
        tls.writer().write(bytes)
    }

    /// Sends what was encrypted and not sent, as much as goes at once.
    fn flush(&mut self) -> io::Result<()> {
        let Some(tls) = &mut self.tls else { return Ok(()) };
        if tls.wants_write() && again(tls.write_tls(&mut self.socket))? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        if tls.wants_write() { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
    }
}

impl Drop for Stream<'_> {
    fn drop(&mut self) {
        if let Some(tls) = &mut self.tls {
            tls.send_close_notify();
            // Best effort: the client may be gone.
            let _ = self.socket.set_write_timeout(Some(FAREWELL));
            let _ = tls.write_tls(&mut self.socket);
        }
    }
}
