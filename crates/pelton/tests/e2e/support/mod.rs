//! Processes of the binary, waiting, and the example.

pub mod cluster;
pub mod kafka;
pub mod net;

use serde_json::Value;
use std::{
    ffi::OsStr,
    io::{BufRead, BufReader, Read, Write},
    path::PathBuf,
    process::{Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::JoinHandle,
    time::{Duration, Instant},
};

/// Longer than anything takes on a machine that does much else; reaching it is a failure, not a measurement.
pub const PATIENCE: Duration = Duration::from_secs(90);

/// Wait for a condition.
pub fn until<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The folder of the example.
pub fn digits() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../examples/digits").canonicalize().unwrap()
}

/// A command of the binary, without the settings of whoever runs the tests.
pub fn pelton<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pelton"));
    let ours = std::env::vars_os().map(|(name, _)| name);
    for name in ours.filter(|name| name.to_string_lossy().starts_with("PELTON_")) {
        command.env_remove(name);
    }
    command.args(arguments);
    command
}

/// What a command that ended had to say.
#[derive(Debug)]
pub struct Said {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Said {
    /// Standard output of a command that succeeded.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:#?}");
        self.out
    }

    /// The last line of standard output of a command that succeeded, as JSON.
    #[track_caller]
    pub fn account(self) -> Value {
        let out = self.ok();
        serde_json::from_str(out.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {out}"))
    }

    /// What a command that failed with this code wrote to standard error, which holds all of these.
    #[track_caller]
    pub fn refused(&self, code: i32, parts: &[&str]) {
        assert_eq!(self.code, code, "{self:#?}");
        for part in parts {
            assert!(self.err.contains(part), "no `{part}` in {self:#?}");
        }
    }
}

/// Run a command to its end.
#[track_caller]
pub fn said<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Said {
    Child::start(pelton(arguments)).said()
}

/// Run a command to its end, with standard input.
#[track_caller]
pub fn said_to<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>, input: &[u8]) -> Said {
    let mut command = pelton(arguments);
    command.stdin(Stdio::piped());
    let mut child = Child::start(command);
    child.process.stdin.take().unwrap().write_all(input).unwrap();
    child.said()
}

type Text = Arc<Mutex<String>>;

/// A running process, killed when dropped.
pub struct Child {
    process: std::process::Child,
    out: Text,
    err: Text,
    readers: Vec<JoinHandle<()>>,
}

impl Child {
    #[track_caller]
    pub fn start(mut command: Command) -> Child {
        let mut process = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (Text::default(), Text::default());
        let readers = vec![
            read(process.stdout.take().unwrap(), out.clone()),
            read(process.stderr.take().unwrap(), err.clone()),
        ];
        Child { process, out, err, readers }
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    pub fn out(&self) -> String {
        self.out.lock().unwrap().clone()
    }

    pub fn err(&self) -> String {
        self.err.lock().unwrap().clone()
    }

    /// What it said on its first line: where it listens.
    #[track_caller]
    pub fn announced(&mut self) -> Value {
        let line = until("the line that says where it listens", || {
            if let Some(status) = self.process.try_wait().unwrap() {
                panic!("ended ({status}): {}", self.err());
            }
            Some(self.out().split_once('\n')?.0.to_owned())
        });
        serde_json::from_str(&line).unwrap()
    }

    /// A text in its standard error.
    #[track_caller]
    pub fn until_says(&mut self, text: &str) {
        until(&format!("`{text}` in standard error"), || {
            let ended = self.process.try_wait().unwrap();
            let said = self.err().contains(text);
            assert!(said || ended.is_none(), "ended ({ended:?}) without `{text}`: {}", self.err());
            said.then_some(())
        });
    }

    /// A line of its standard output.
    #[track_caller]
    pub fn until_out(&mut self, what: &str, wanted: impl Fn(&str) -> bool) {
        until(what, || {
            let ended = self.process.try_wait().unwrap();
            let said = self.out().lines().any(&wanted);
            assert!(said || ended.is_none(), "ended ({ended:?}) before {what}: {}", self.err());
            said.then_some(())
        });
    }

    pub fn running(&mut self) -> bool {
        self.process.try_wait().unwrap().is_none()
    }

    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    /// kill -9, and wait for its end.
    pub fn kill(mut self) {
        self.signal(libc::SIGKILL);
        self.process.wait().unwrap();
    }

    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        until("the end of the process", || self.process.try_wait().unwrap())
    }

    #[track_caller]
    pub fn said(mut self) -> Said {
        let status = self.wait();
        for reader in self.readers.drain(..) {
            reader.join().unwrap();
        }
        Said { code: status.code().unwrap_or(-1), out: self.out(), err: self.err() }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- standard error of process {}:\n{}", self.pid(), self.err());
        }
        // It may have ended already.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Send a signal to a process of this test.
pub fn kill(pid: u32, signal: i32) {
    // SAFETY: kill touches no memory; the process is ours and alive, or not reaped yet.
    unsafe { libc::kill(i32::try_from(pid).unwrap(), signal) };
}

/// Whether a process exists that is more than a name in the table.
pub fn alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z') && !rest.starts_with('X'))
}

/// The processes whose parent this is.
pub fn children(parent: u32) -> Vec<u32> {
    let of = |pid: u32| {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse::<u32>().ok()
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    pids.filter(|pid| of(*pid) == Some(parent)).collect()
}

fn read(from: impl Read + Send + 'static, to: Text) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut line = Vec::new();
        while from.read_until(b'\n', &mut line).is_ok_and(|n| n > 0) {
            to.lock().unwrap().push_str(&String::from_utf8_lossy(&line));
            line.clear();
        }
    })
}
