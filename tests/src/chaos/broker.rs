//! The broker of a run, killed and started again: one that `cargo xtask infra` started.

use super::topics::Trouble;
use std::{
    fs,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// For it to be gone.
const GONE: Duration = Duration::from_secs(20);

/// See the module.
#[derive(Clone, Debug)]
pub struct Broker {
    script: PathBuf,
    data: PathBuf,
    port: String,
}

impl Broker {
    /// The one at this address, started by the scripts in this folder (`tests/infra/kafka`).
    pub fn new(scripts: &Path, bootstrap: &str) -> Broker {
        let port = bootstrap.rsplit(':').next().unwrap_or_default().to_owned();
        let work = std::env::var_os("KAFKA_WORK").map_or_else(|| scripts.join(".work"), PathBuf::from);
        Broker { script: scripts.join("kafka-up.sh"), data: work.join(format!("kafka-{port}")), port }
    }

    /// kill -9.
    ///
    /// # Errors
    /// It was not started by our scripts.
    pub fn kill(&self) -> Result<(), Trouble> {
        let id = self.process()?;
        self.signal("KILL")?;
        let begun = Instant::now();
        // Its memory goes before its sockets do, and a start finds the port taken until they are gone too.
        while Path::new("/proc").join(&id).join("exe").exists() || self.answers() {
            if begun.elapsed() > GONE {
                return Err(format!("the broker, process {id}, is still there after {GONE:?}").into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Send it a signal.
    ///
    /// # Errors
    /// It was not started by our scripts.
    pub fn signal(&self, name: &str) -> Result<(), Trouble> {
        let id = self.process()?;
        let sent = Command::new("kill").args(["-s", name, &id]).status()?;
        if sent.success() {
            Ok(())
        } else {
            Err(format!("SIG{name} to the broker, process {id}: {sent}").into())
        }
    }

    fn process(&self) -> Result<String, Trouble> {
        let file = self.data.join("pid");
        let text = fs::read_to_string(&file).map_err(|cause| {
            format!("{}: {cause}: only a broker of `cargo xtask infra` has faults", file.display())
        })?;
        Ok(text.trim().to_owned())
    }

    fn answers(&self) -> bool {
        TcpStream::connect(format!("127.0.0.1:{}", self.port)).is_ok()
    }

    /// Start it on the data it had, and wait until it serves.
    ///
    /// # Errors
    /// It does not start.
    pub fn start(&self) -> Result<(), Trouble> {
        let mut command = Command::new("bash");
        command.arg(&self.script).env("KAFKA_PORT", &self.port).env("KAFKA_HEAP", "512m");
        let certificates = self.data.join("certificates");
        if certificates.is_dir() {
            command.env("KAFKA_TLS", certificates);
        }
        let output = command.env_remove("KAFKA_FRESH").stdin(Stdio::null()).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Err(format!("{}: {}: {said}", self.script.display(), output.status).into())
    }
}
