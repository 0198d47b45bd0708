//! `cargo xtask infra`: real parts for tests, from tests/infra.

use std::io::PipeWriter;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Stdio;

use clap::Subcommand;

use crate::report::Done;
use crate::{kubernetes, shell};

/// Parts that can be started.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// A real Apache Kafka on 127.0.0.1 (see tests/infra/kafka/README.md).
    #[command(subcommand)]
    Kafka(Switch),
    /// A real Kubernetes cluster (see tests/infra/k8s/README.md).
    #[command(subcommand)]
    K8s(kubernetes::Switch),
}

/// On or off.
#[derive(Subcommand, Clone, Copy, Debug)]
pub enum Switch {
    /// Starts it and prints its address; one that runs is left as it is.
    Up {
        /// Client port; the next one is taken too, and with `--secure` the next seven.
        #[arg(long, default_value_t = 19092)]
        port: u16,
        /// Listeners with TLS and SASL as well; `PELTON_TEST_KAFKA_SECURE` for tests is the second line printed.
        #[arg(long)]
        secure: bool,
    },
    /// Stops it.
    Down {
        /// Client port it was started with.
        #[arg(long, default_value_t = 19092)]
        port: u16,
    },
}

/// Does it.
pub fn run(command: &Command) -> Result<(), String> {
    match command {
        Command::K8s(switch) => kubernetes::switch(*switch),
        Command::Kafka(Switch::Up { port, secure }) => {
            let mut up = kafka("kafka-up.sh", *port);
            let certificates = if *secure { Some(certificates(*port)?) } else { None };
            if let Some(dir) = &certificates {
                up.env("KAFKA_TLS", dir);
            }
            println!("{}", shell::output(up.stdin(Stdio::null()))?);
            if let Some(dir) = certificates {
                println!("{}", dir.display());
            }
            Ok(())
        }
        Command::Kafka(Switch::Down { port }) => shell::output(&mut kafka("kafka-down.sh", *port)).map(drop),
    }
}

fn kafka(script: &str, port: u16) -> std::process::Command {
    let mut command = shell::program(shell::top().join("tests/infra/kafka").join(script));
    command.env("KAFKA_PORT", port.to_string());
    command
}

/// The folder of certificates for the Kafka on this port. They are made once, so that one that runs keeps its own.
fn certificates(port: u16) -> Result<PathBuf, String> {
    let dir = shell::top().join(format!("tests/infra/kafka/.work/kafka-{port}/certificates"));
    if !dir.join("ca.pem").exists() {
        let failed = |cause| format!("certificates in {}: {cause}", dir.display());
        pelton_certificates::write_kit(&dir).map_err(failed)?;
    }
    Ok(dir)
}

/// A Kafka for one run. It ends with this value, and also when this process dies in any way.
#[derive(Debug)]
pub struct Kafka {
    /// `host:port` for clients.
    pub bootstrap: String,
    /// Certificates, and the addresses of its secured listeners: `PELTON_TEST_KAFKA_SECURE`.
    pub secure: PathBuf,
    // Closed when dropped or when the process ends; a shell outside waits for that and stops the broker.
    _alive: PipeWriter,
}

impl Kafka {
    /// Number of the broker's process.
    pub fn process(&self) -> Result<u32, String> {
        let port = self.bootstrap.rsplit(':').next().unwrap_or_default();
        let work = match std::env::var_os("KAFKA_WORK") {
            Some(folder) => folder.into(),
            None => shell::top().join("tests/infra/kafka/.work"),
        };
        let file = work.join(format!("kafka-{port}/pid"));
        let text = std::fs::read_to_string(&file).map_err(|cause| format!("{}: {cause}", file.display()))?;
        text.trim().parse().map_err(|_| format!("{}: `{text}` is no number of a process", file.display()))
    }

    /// Starts a fresh one on free ports.
    pub fn start() -> Result<Done<Kafka>, String> {
        for needed in ["java", "mvn"] {
            if !shell::have(needed) {
                return Ok(Done::Skipped(format!(
                    "no {needed}: on Debian `apt-get install default-jdk-headless maven`"
                )));
            }
        }
        let port = free_run()?;
        let secure = certificates(port)?;
        let (ended, alive) = std::io::pipe().map_err(|cause| format!("a pipe: {cause}"))?;
        let mut watcher = shell::program("sh");
        watcher
            .args(["-c", "read -r _; exec \"$0\""])
            .arg(shell::top().join("tests/infra/kafka/kafka-down.sh"));
        watcher.env("KAFKA_PORT", port.to_string()).env("KAFKA_WIPE", "1");
        // A group of its own: Ctrl-C must not end what cleans up after it.
        let watcher =
            watcher.process_group(0).stdin(ended).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
        watcher.map_err(|cause| format!("the watcher of Kafka did not start: {cause}"))?;
        // What builds wrote a moment ago has to reach the disk first: a controller that waits for it takes the broker for
        // dead, and then no partition has a leader. A longer session helps against the same.
        shell::run(&mut shell::program("sync"))?;
        let mut up = kafka("kafka-up.sh", port);
        up.env("KAFKA_FRESH", "1").env("KAFKA_HEAP", "512m").env("KAFKA_TLS", &secure);
        up.env("KAFKA_SESSION_MS", "30000");
        let bootstrap = shell::output(up.stdin(Stdio::null()))?;
        Ok(Done::With(Kafka { bootstrap, secure, _alive: alive }))
    }
}

/// Ports that a Kafka takes: its clients', its controller's, and six secured ones.
const PORTS: u16 = 8;

/// A free port with as many free ones after it as a Kafka takes.
fn free_run() -> Result<u16, String> {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|cause| format!("no free port: {cause}"))?;
        let port = listener.local_addr().map_err(|cause| format!("no free port: {cause}"))?.port();
        let is_free = |port| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if port < u16::MAX - PORTS && (port + 1..port + PORTS).all(is_free) {
            return Ok(port);
        }
    }
    Err(format!("no {PORTS} free ports in a row in 100 tries"))
}
