//! Broker and coordinator for the workers that are measured.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::process::{Piped, role};
use crate::shell;

/// Time between two looks at the lag.
const LOOK: Duration = Duration::from_millis(500);

/// Broker and coordinator; they end with this value.
pub struct Cluster {
    pelton: PathBuf,
    work: PathBuf,
    kafka: String,
    coordinator: String,
    // Their standard input is their lifeline.
    _roles: [Piped; 2],
}

impl Cluster {
    pub fn start(pelton: &Path) -> Result<Cluster, String> {
        let work = shell::target().join("bench-worker");
        if work.exists() {
            fs::remove_dir_all(&work).map_err(|cause| format!("{}: {cause}", work.display()))?;
        }
        fs::create_dir_all(&work).map_err(|cause| format!("{}: {cause}", work.display()))?;
        let role = |name: &str, arguments: &[&str]| role(pelton, name, &work.join(name), arguments);
        let (broker, said) = role("broker", &["--listen", "127.0.0.1:0"])?;
        let kafka = said["bootstrap"].as_str().unwrap_or_default().to_owned();
        let of_coordinator = ["--grpc", "127.0.0.1:0", "--kafka", &kafka, "--create-topics", "4"];
        let (coordinator, said) = role("coordinator", &of_coordinator)?;
        let address = format!("http://{}", said["grpc"].as_str().unwrap_or_default());
        let (pelton, _roles) = (pelton.to_path_buf(), [broker, coordinator]);
        Ok(Cluster { pelton, work, kafka, coordinator: address, _roles })
    }

    fn arguments(&self) -> [&str; 6] {
        ["--coordinator", &self.coordinator, "--http", "127.0.0.1:0", "--kafka", &self.kafka]
    }

    /// A worker process that ends with this program.
    pub fn worker(&self, name: &str) -> Command {
        let mut command = Command::new(&self.pelton);
        command.arg("worker").args(self.arguments()).args(["--lifeline", "--id", name, "--data-dir"]);
        command.arg(self.work.join(name));
        command
    }

    /// A worker container on the machine's network.
    pub fn container(&self, image: &str, options: &[&str]) -> Command {
        let mut command = shell::program("docker");
        command.args(["run", "--network", "host", "--read-only", "--cap-drop", "ALL"]).args(options);
        // One that drains a backlog is the only worker; the name does not matter.
        command.args([image, "worker"]).args(self.arguments()).args([
            "--id",
            "container",
            "--data-dir",
            "/data",
        ]);
        command
    }

    /// Records `{"id": n, ...}` into a topic that is made by the pipeline that reads it later or now.
    pub fn fill(&self, topic: &str, records: u64, size: usize) -> Result<(), String> {
        // The coordinator makes topics that a pipeline names.
        let name = self.apply(&format!("make-{topic}"), topic, "blackhole: {}", "")?;
        self.delete(&name)?;
        let text = format!(
            "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: fill }}\nspec:\n  delivery: at-least-once\n  \
             sources: {{ made: {{ generator: {{ count: {records}, size: {size}, keys: 100000 }} }} }}\n  \
             sinks: {{ out: {{ kafka: {{ topic: {topic}, compression: none }} }} }}\n"
        );
        self.run("fill", &text, &[]).map(drop)
    }

    /// Applies a pipeline from a topic to a sink; its name.
    pub fn apply(&self, name: &str, from: &str, sink: &str, filter: &str) -> Result<String, String> {
        let file = self.write(name, &definition(name, from, sink, filter))?;
        self.pelton(&["apply", &file.display().to_string()])?;
        Ok(name.to_owned())
    }

    pub fn delete(&self, name: &str) -> Result<(), String> {
        self.pelton(&["delete", name]).map(drop)
    }

    /// Looks at the lag of a pipeline until the condition holds.
    pub fn until_lag(
        &self,
        name: &str,
        limit: Duration,
        mut enough: impl FnMut(Option<u64>) -> bool,
    ) -> Result<(), String> {
        let begun = Instant::now();
        loop {
            let pipelines = self.pelton(&["get", "pipelines", "-o", "json"])?;
            if enough(lag(&pipelines, name)) {
                return Ok(());
            }
            if begun.elapsed() > limit {
                return Err(format!("{name} did not get there within {limit:?}: {pipelines}"));
            }
            std::thread::sleep(LOOK);
        }
    }

    /// CPU-seconds of one process that copies a topic, scraped each second or not.
    pub fn copy(&self, name: &str, from: &str, records: u64, scraped: bool) -> Result<f64, String> {
        let text = definition(name, from, &format!("kafka: {{ topic: {name} }}"), ".id >= 0");
        // The topic that is written is made by the broker when it is first named.
        let port = std::net::TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let http = port.map_err(|cause| format!("no free port: {cause}"))?.to_string();
        let ended = AtomicBool::new(false);
        let account = std::thread::scope(|scope| {
            if scraped {
                scope.spawn(|| {
                    while !ended.load(Ordering::Relaxed) {
                        // Before it listens there is nothing to read.
                        let _ = scrape(&http);
                        std::thread::sleep(Duration::from_secs(1));
                    }
                });
            }
            let account = self.run(name, &text, &["--http", &http]);
            ended.store(true, Ordering::Relaxed);
            account
        })?;
        if account["emitted"].as_u64() != Some(records) {
            return Err(format!("{records} records should have been copied: {account}"));
        }
        account["cpuSeconds"].as_f64().ok_or_else(|| format!("no cpuSeconds in {account}"))
    }

    fn run(&self, name: &str, definition: &str, more: &[&str]) -> Result<Value, String> {
        let file = self.write(name, definition)?;
        let mut command = Command::new(&self.pelton);
        command.arg("run").arg(file).args([
            "--kafka",
            &self.kafka,
            "--executors",
            "1",
            "--until-idle",
            "1500ms",
        ]);
        command.args(["-o", "json", "--log-level", "error", "--data-dir"]);
        command.arg(self.work.join(format!("run-{name}"))).args(more).stderr(Stdio::inherit());
        let printed = shell::output(&mut command)?;
        let account = printed.lines().last().unwrap_or_default();
        serde_json::from_str(account).map_err(|cause| format!("last line `{account}`: {cause}"))
    }

    fn pelton(&self, arguments: &[&str]) -> Result<String, String> {
        shell::output(Command::new(&self.pelton).args(arguments).env("PELTON_COORDINATOR", &self.coordinator))
    }

    fn write(&self, name: &str, text: &str) -> Result<PathBuf, String> {
        let file = self.work.join(format!("{name}.yaml"));
        fs::write(&file, text).map_err(|cause| format!("{}: {cause}", file.display()))?;
        Ok(file)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // Gigabytes of backlog. The roles may still write for a moment: what stays is taken away by the next run.
        let _ = fs::remove_dir_all(&self.work);
    }
}

fn scrape(address: &str) -> std::io::Result<usize> {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(address)?;
    write!(stream, "GET /metrics HTTP/1.1\r\nhost: pelton\r\nconnection: close\r\n\r\n")?;
    stream.read_to_end(&mut Vec::new())
}

fn definition(name: &str, from: &str, sink: &str, filter: &str) -> String {
    let operators = match filter {
        "" => String::new(),
        condition => format!("  operators: [ {{ name: all, filter: \"{condition}\" }} ]\n"),
    };
    format!(
        "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: {name} }}\nspec:\n  delivery: at-least-once\n  \
         sources: {{ in: {{ kafka: {{ topics: [{from}], start: earliest }} }} }}\n{operators}  \
         sinks: {{ out: {{ {sink} }} }}\n"
    )
}

/// The lag of a pipeline; unknown while one of its tasks does not run.
fn lag(pipelines: &str, name: &str) -> Option<u64> {
    let pipelines: Value = serde_json::from_str(pipelines).ok()?;
    let own = pipelines.as_array()?.iter().find(|pipeline| pipeline["name"] == name)?;
    let tasks = own["tasks"].as_array().filter(|tasks| !tasks.is_empty())?;
    tasks.iter().all(|task| task["state"] == "running").then(|| own["lag"].as_u64()).flatten()
}
