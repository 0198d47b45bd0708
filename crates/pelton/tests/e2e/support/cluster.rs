//! Broker, coordinator and workers as processes of their own, with the flags that scripts use.

use super::{Child, Said, kafka::Kafka, pelton, said, until};
use serde_json::Value;
use std::path::Path;
use tempfile::TempDir;

/// See the module.
pub struct Cluster {
    pub dir: TempDir,
    pub broker: Option<Child>,
    pub coordinator: Child,
    pub workers: Vec<Child>,
    pub bootstrap: String,
    pub grpc: String,
    /// HTTP addresses: broker, coordinator, then workers.
    pub http: Vec<String>,
}

/// Start a broker in a folder.
pub fn broker(dir: &Path, listen: &str) -> (Child, String, String) {
    let data = dir.join("broker").display().to_string();
    let mut command = pelton(["broker", "--listen", listen, "--http", "127.0.0.1:0", "--announce"]);
    command.args(["--data-dir", &data, "--partitions", "4"]);
    let mut child = Child::start(command);
    let announced = child.announced();
    let (bootstrap, http) = (text(&announced, "bootstrap"), text(&announced, "http"));
    (child, bootstrap, http)
}

/// Start a coordinator in a folder.
pub fn coordinator(dir: &Path, kafka: &str, grpc: &str) -> (Child, String, String) {
    let data = dir.join("coordinator").display().to_string();
    let models = super::digits().display().to_string();
    let mut command = pelton(["coordinator", "--grpc", grpc, "--http", "127.0.0.1:0", "--kafka", kafka]);
    // The embedded queue is a single node.
    command.args(["--data-dir", &data, "--models", &models, "--announce", "--allow-weak-durability"]);
    let mut child = Child::start(command);
    let announced = child.announced();
    let (grpc, http) = (text(&announced, "grpc"), text(&announced, "http"));
    (child, grpc, http)
}

/// Start a worker.
pub fn worker(dir: &Path, id: &str, kafka: &str, grpc: &str, env: &[(&str, &str)]) -> (Child, String) {
    let data = dir.join(id).display().to_string();
    let models = super::digits().display().to_string();
    let coordinator = format!("http://{grpc}");
    let mut command = pelton(["worker", "--coordinator", &coordinator, "--http", "127.0.0.1:0", "--id", id]);
    command.args([
        "--kafka",
        kafka,
        "--executors",
        "1",
        "--data-dir",
        &data,
        "--models",
        &models,
        "--announce",
    ]);
    command.envs(env.iter().copied());
    let mut child = Child::start(command);
    let http = text(&child.announced(), "http");
    (child, http)
}

impl Cluster {
    /// With so many workers, `w0` and on.
    pub fn start(workers: usize) -> Cluster {
        Self::with(workers, &[])
    }

    /// With workers in this environment.
    pub fn with(workers: usize, env: &[(&str, &str)]) -> Cluster {
        let dir = tempfile::tempdir().unwrap();
        let (broker, bootstrap, broker_http) = broker(dir.path(), "127.0.0.1:0");
        let (coordinator, grpc, coordinator_http) = coordinator(dir.path(), &bootstrap, "127.0.0.1:0");
        let mut cluster = Cluster {
            dir,
            broker: Some(broker),
            coordinator,
            workers: Vec::new(),
            bootstrap,
            grpc,
            http: vec![broker_http, coordinator_http],
        };
        for index in 0..workers {
            let id = format!("w{index}");
            let (child, http) = worker(cluster.dir.path(), &id, &cluster.bootstrap, &cluster.grpc, env);
            cluster.workers.push(child);
            cluster.http.push(http);
        }
        cluster
    }

    pub fn kafka(&self) -> Kafka {
        Kafka::at(&self.bootstrap)
    }

    /// A verb, with its arguments, against this coordinator.
    #[track_caller]
    pub fn verb(&self, words: &[&str]) -> Said {
        let address = format!("http://{}", self.grpc);
        said(words.iter().copied().chain(["--coordinator", address.as_str()]))
    }

    /// Apply a definition.
    #[track_caller]
    pub fn apply(&self, definition: &str) -> Said {
        let file = self.dir.path().join("definition.yaml");
        std::fs::write(&file, definition).unwrap();
        self.verb(&["apply", &file.display().to_string()])
    }

    /// The pipeline, once it is as wanted.
    #[track_caller]
    pub fn until(&self, name: &str, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        until(&format!("{name}: {what}"), || {
            let said = self.verb(&["get", "pipelines", name, "-o", "json"]);
            let found: Value = serde_json::from_str(&said.out).ok()?;
            wanted(&found[0]).then(|| found[0].clone())
        })
    }

    /// The pipeline once it runs and has settled so many records.
    #[track_caller]
    pub fn until_in(&self, name: &str, records: u64) -> Value {
        self.until(name, &format!("{records} records in, all committed"), |p| {
            p["phase"] == "running"
                && p["account"]["recordsIn"] == records
                && p["pending"] == 0
                && p["lag"] == 0
        })
    }
}

/// A pipeline from the topic `in` to the topic `out` with one filter.
pub fn copy(name: &str, filter: &str) -> String {
    format!(
        "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: {name} }}\nspec:\n  commitInterval: 200ms\n  \
         sources: {{ in: {{ kafka: {{ topics: [in], start: earliest }}, decode: json }} }}\n  \
         operators: [{{ name: keep, filter: \"{filter}\" }}]\n  \
         sinks: {{ out: {{ kafka: {{ topic: out }}, key: .id }} }}\n"
    )
}

fn text(value: &Value, key: &str) -> String {
    value[key].as_str().unwrap_or_else(|| panic!("no {key} in {value}")).to_owned()
}
