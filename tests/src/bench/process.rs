//! Brokers as processes: started, killed, and looked at from outside.

use crate::chaos::topics::Trouble;
use std::{
    fs::{self, File},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// For a start, however long the log and however busy the machine.
const START: Duration = Duration::from_secs(120);
/// Time between two looks for a broker that starts.
const TICK: Duration = Duration::from_millis(1);
/// Ticks of `/proc/PID/stat` a second; Linux has no other value for programs (`USER_HZ`).
const TICKS_PER_SECOND: f64 = 100.0;
/// An `ApiVersions` request of version 0, with its length.
const API_VERSIONS: [u8; 14] = [0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 7, 255, 255];

/// Memory in use of a process, bytes.
///
/// # Errors
/// There is no such process.
pub(crate) fn resident_bytes(pid: u32) -> Result<f64, Trouble> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<f64>().ok());
    Ok(kib.ok_or("/proc/PID/status has no VmRSS")? * 1024.0)
}

/// A broker that is measured.
pub trait Target {
    /// Whose figures these are.
    fn name(&self) -> &'static str;
    /// `HOST:PORT`.
    fn bootstrap(&self) -> &str;
    /// Its process.
    fn pid(&self) -> u32;
    /// User and system time of all its threads so far, seconds; in steps of 10 ms.
    fn cpu_seconds(&self) -> Result<f64, Trouble> {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()))?;
        // The name in brackets may hold blanks; times are the 12th and 13th field behind it.
        let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|text| text.parse::<f64>().ok());
        let sum = ticks(11).zip(ticks(12)).map(|(user, system)| (user + system) / TICKS_PER_SECOND);
        Ok(sum.ok_or("/proc/PID/stat has another form than proc(5) says")?)
    }
    /// Memory in use, MB (10^6 bytes).
    fn resident_mb(&self) -> Result<f64, Trouble> {
        Ok(resident_bytes(self.pid())? / 1e6)
    }
}

/// A real Kafka that somebody else started.
#[derive(Debug)]
pub struct Kafka {
    pub bootstrap: String,
    pub pid: u32,
}

impl Target for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }
    fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
    fn pid(&self) -> u32 {
        self.pid
    }
}

/// `pelton broker`. Ends with this value, and when the harness ends in any way.
#[derive(Debug)]
pub struct Broker {
    binary: PathBuf,
    data: PathBuf,
    log: PathBuf,
    address: SocketAddr,
    bootstrap: String,
    child: Child,
}

impl Broker {
    /// Start one on a free port, with data and log in the folder under a name.
    pub fn start(binary: &Path, folder: &Path, name: &str) -> Result<Broker, Trouble> {
        // It comes back where it was, so its port is chosen here.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let (data, log) = (folder.join(name), folder.join(format!("{name}.log")));
        let child = spawn(binary, &data, &log, address)?;
        let (binary, bootstrap) = (binary.to_owned(), address.to_string());
        let mut broker = Broker { binary, data, log, address, bootstrap, child };
        broker.await_answer()?;
        Ok(broker)
    }

    /// kill -9.
    pub fn kill(&mut self) -> Result<(), Trouble> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// End it as an operator would; its standard input is what keeps it alive.
    pub fn stop(&mut self) -> Result<(), Trouble> {
        drop(self.child.stdin.take());
        self.child.wait()?;
        Ok(())
    }

    /// Start it again on its data; the time until it answered its first request.
    pub fn restart(&mut self) -> Result<Duration, Trouble> {
        let begun = Instant::now();
        self.child = spawn(&self.binary, &self.data, &self.log, self.address)?;
        self.await_answer()?;
        Ok(begun.elapsed())
    }

    fn await_answer(&mut self) -> Result<(), Trouble> {
        let begun = Instant::now();
        while !answers(self.address) {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the broker ended with {status}; see {}", self.log.display()).into());
            }
            if begun.elapsed() > START {
                return Err(
                    format!("the broker did not answer in {START:?}; see {}", self.log.display()).into()
                );
            }
            std::thread::sleep(TICK);
        }
        Ok(())
    }
}

impl Target for Broker {
    fn name(&self) -> &'static str {
        "pelton"
    }
    fn bootstrap(&self) -> &str {
        &self.bootstrap
    }
    fn pid(&self) -> u32 {
        self.child.id()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn spawn(binary: &Path, data: &Path, log: &Path, address: SocketAddr) -> Result<Child, Trouble> {
    let log = File::options().create(true).append(true).open(log)?;
    let mut command = Command::new(binary);
    command.args(["broker", "--http", "127.0.0.1:0", "--lifeline", "--listen", &address.to_string()]);
    command.arg("--data-dir").arg(data).stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
    Ok(command.spawn().map_err(|cause| format!("{}: {cause}", binary.display()))?)
}

fn answers(address: SocketAddr) -> bool {
    let ask = || {
        let mut stream = TcpStream::connect_timeout(&address, START)?;
        stream.set_read_timeout(Some(START))?;
        stream.write_all(&API_VERSIONS)?;
        stream.read_exact(&mut [0; 10])
    };
    ask().is_ok()
}
