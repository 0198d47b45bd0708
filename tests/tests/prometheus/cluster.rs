//! A small cluster of processes, and records for it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use pelton_tests::parts;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseProducer, BaseRecord, Producer};
use serde_json::Value;
use tempfile::TempDir;

/// A process of ours. It ends with this value, and with this test however that ends: its input is our pipe.
pub struct Role {
    child: Child,
    announced: Value,
}

impl Role {
    fn start(arguments: &[&str]) -> Role {
        let mut command = Command::new(parts::binary());
        for (name, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("PELTON_"))
        {
            command.env_remove(name);
        }
        command.args(arguments).args(["--announce", "--lifeline"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let announced =
            serde_json::from_str(&line).unwrap_or_else(|e| panic!("{arguments:?} said {line:?}: {e}"));
        Role { child, announced }
    }

    /// An address it announced.
    pub fn at(&self, what: &str) -> &str {
        self.announced[what].as_str().unwrap_or_else(|| panic!("no {what} in {}", self.announced))
    }

    /// kill -9.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Broker, coordinator and two workers.
pub struct Cluster {
    pub broker: Role,
    pub coordinator: Role,
    pub workers: Vec<Role>,
    pub dir: TempDir,
}

impl Cluster {
    pub fn start() -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let folder = |name: &str| dir.path().join(name).display().to_string();
        let here = "127.0.0.1:0";
        let broker =
            Role::start(&["broker", "--listen", here, "--http", here, "--data-dir", &folder("broker")]);
        let queue = ["--kafka", broker.at("bootstrap")];
        let own = ["coordinator", "--grpc", here, "--http", here, "--data-dir", &folder("coordinator")];
        let small = ["--create-topics", "2", "--allow-weak-durability"];
        let coordinator = Role::start(&[&own[..], &queue, &small].concat());
        let url = format!("http://{}", coordinator.at("grpc"));
        let worker = |id: &str| {
            // On all addresses, as in a container: others find it where its connection comes from.
            let http = "0.0.0.0:0";
            let own = ["worker", "--id", id, "--coordinator", &url, "--http", http, "--executors", "1"];
            Role::start(&[&own[..], &queue, &["--data-dir", &folder(id)]].concat())
        };
        let workers = ["w0", "w1"].map(worker).into();
        Cluster { broker, coordinator, workers, dir }
    }

    /// Applies a pipeline from the topic of its name to the topic NAME.out.
    pub fn apply(&self, name: &str, spec: &str) {
        let file = self.dir.path().join(format!("{name}.yaml"));
        let definition = format!(
            "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: {name} }}\nspec:\n  commitInterval: 200ms\n  \
             sources: {{ in: {{ kafka: {{ topics: [{name}], start: earliest }}, decode: json }} }}\n  \
             sinks: {{ out: {{ kafka: {{ topic: {name}.out }} }} }}\n{spec}"
        );
        fs::write(&file, definition).unwrap();
        let coordinator = format!("http://{}", self.coordinator.at("grpc"));
        let mut apply = Command::new(parts::binary());
        let said = apply.arg("apply").arg(&file).args(["--coordinator", &coordinator]).output().unwrap();
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
    }

    pub fn writer(&self) -> Writer {
        let mut config = ClientConfig::new();
        Writer(config.set("bootstrap.servers", self.broker.at("bootstrap")).create().unwrap())
    }
}

/// Writes records.
pub struct Writer(BaseProducer);

impl Writer {
    /// Queues a record, which goes out soon.
    pub fn send(&self, topic: &str, key: &str, value: &str) {
        self.0.send(BaseRecord::to(topic).key(key).payload(value)).map_err(|(e, _)| e).unwrap();
        self.0.poll(Duration::ZERO);
    }

    /// Returns when all are stored.
    pub fn flush(&self) {
        self.0.flush(Duration::from_secs(60)).unwrap();
    }
}

/// A thread that writes about fifty records a second to a topic, each with a key of its own, until it is dropped.
pub struct Flow {
    written: Arc<AtomicU64>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Flow {
    pub fn start(writer: Writer, topics: &'static [&'static str]) -> Flow {
        let (written, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, told) = (written.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            while !told.load(Ordering::Relaxed) {
                let id = count.fetch_add(1, Ordering::Relaxed);
                for topic in topics {
                    writer.send(topic, &format!("key-{id}"), &format!("{{\"id\":{id}}}"));
                }
                // The pace of the load; nothing waits for it.
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        Flow { written, stop, thread: Some(thread) }
    }

    pub fn written(&self) -> u64 {
        self.written.load(Ordering::Relaxed)
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic of it shows in what is missing.
            let _ = thread.join();
        }
    }
}
