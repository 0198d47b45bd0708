//! `cargo xtask infra`: real parts for tests, from tests/infra.

use std::io::PipeWriter;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::process::Stdio;

use clap::Subcommand;

use crate::report::Done;
use crate::shell;

/// Parts that can be started.
#[derive(Subcommand, Clone, Debug)]
pub enum Command {
    /// A real Apache Kafka on 127.0.0.1 (see tests/infra/kafka/README.md).
    #[command(subcommand)]
    Kafka(Switch),
}

/// On or off.
#[derive(Subcommand, Clone, Copy, Debug)]
pub enum Switch {
    /// Starts it and prints its address; one that runs is left as it is.
    Up {
        /// Client port; the next one is taken too.
        #[arg(long, default_value_t = 19092)]
        port: u16,
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
        Command::Kafka(Switch::Up { port }) => {
            let address = shell::output(kafka("kafka-up.sh", *port).stdin(Stdio::null()))?;
            println!("{address}");
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

/// A Kafka for one run. It ends with this value, and also when this process dies in any way.
#[derive(Debug)]
pub struct Kafka {
    /// `host:port` for clients.
    pub bootstrap: String,
    // Closed when dropped or when the process ends; a shell outside waits for that and stops the broker.
    _alive: PipeWriter,
}

impl Kafka {
    /// Starts a fresh one on free ports.
    pub fn start() -> Result<Done<Kafka>, String> {
        for needed in ["java", "mvn"] {
            if !shell::have(needed) {
                return Ok(Done::Skipped(format!(
                    "no {needed}: on Debian `apt-get install default-jdk-headless maven`"
                )));
            }
        }
        let port = free_pair()?;
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
        let mut up = kafka("kafka-up.sh", port);
        let bootstrap =
            shell::output(up.env("KAFKA_FRESH", "1").env("KAFKA_HEAP", "512m").stdin(Stdio::null()))?;
        Ok(Done::With(Kafka { bootstrap, _alive: alive }))
    }
}

/// A free port whose successor, the controller's, is free as well.
fn free_pair() -> Result<u16, String> {
    for _ in 0..100 {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(|cause| format!("no free port: {cause}"))?;
        let port = listener.local_addr().map_err(|cause| format!("no free port: {cause}"))?.port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return Ok(port);
        }
    }
    Err("no two free ports in a row in 100 tries".into())
}
