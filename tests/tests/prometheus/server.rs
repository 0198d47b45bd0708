//! A real Prometheus with the files that we ship, quicker.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::cluster::Cluster;
use crate::until;

/// Over how long rates are taken here: several scrapes.
pub const WINDOW: &str = "5s";

/// A file of `deploy`.
pub fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

/// The settings that we ship, for these addresses, and with a scrape each second.
fn settings(cluster: &Cluster) -> String {
    let mut text = fs::read_to_string(shipped("prometheus/prometheus.yaml")).unwrap();
    let coordinator = cluster.coordinator.at("http");
    for (from, to) in
        [("coordinator:7462", coordinator), ("queue:7464", cluster.broker.at("http")), (": 5s", ": 1s")]
    {
        assert!(text.contains(from), "no `{from}` in the settings");
        text = text.replace(from, to);
    }
    text
}

/// The rules that we ship, which wait for nothing and look back [`WINDOW`].
pub fn quick_rules() -> String {
    let text = fs::read_to_string(shipped("prometheus/rules.yaml")).unwrap();
    let quick = |line: &str| match line.split_once("for: ") {
        Some((before, _)) if before.trim().is_empty() => format!("{before}for: 0s"),
        _ => ["[5m]", "[10m]", "[15m]"]
            .iter()
            .fold(line.to_owned(), |l, w| l.replace(w, &format!("[{WINDOW}]"))),
    };
    text.lines().map(quick).collect::<Vec<_>>().join("\n")
}

/// A running Prometheus.
pub struct Server {
    child: Child,
    address: String,
    log: PathBuf,
}

impl Server {
    pub fn start(cluster: &Cluster) -> Server {
        let folder = cluster.dir.path().join("prometheus");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("prometheus.yaml"), settings(cluster)).unwrap();
        fs::write(folder.join("rules.yaml"), quick_rules()).unwrap();
        let log = folder.join("log");
        let mut prometheus = Command::new("prometheus");
        prometheus.arg(format!("--config.file={}", folder.join("prometheus.yaml").display()));
        prometheus.arg(format!("--storage.tsdb.path={}", folder.join("data").display()));
        prometheus.arg("--web.listen-address=127.0.0.1:0");
        prometheus.stdin(Stdio::null()).stdout(Stdio::null()).stderr(File::create(&log).unwrap());
        let child = prometheus.spawn().unwrap();
        let mut server = Server { child, address: String::new(), log };
        server.address = until("Prometheus listens", || server.listens_at());
        until("Prometheus is ready", || (server.get("/-/ready")?.0 == 200).then_some(()));
        server
    }

    /// `... msg="Listening on" address=127.0.0.1:38131`
    fn listens_at(&mut self) -> Option<String> {
        let log = fs::read_to_string(&self.log).unwrap();
        assert!(self.child.try_wait().unwrap().is_none(), "Prometheus ended:\n{log}");
        let line = log.lines().find(|line| line.contains("Listening on"))?;
        Some(line.split_once("address=")?.1.split_whitespace().next()?.to_owned())
    }

    fn get(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(30))).ok()?;
        // The older version answers in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\nhost: prometheus\r\n\r\n").ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        let (head, body) = answer.split_once("\r\n\r\n")?;
        Some((head.split(' ').nth(1)?.parse().ok()?, body.to_owned()))
    }

    /// What its API answers: `data`, or the error of a question that it does not understand.
    pub fn ask(&self, path: &str) -> Result<Value, String> {
        let (_, body) = self.get(path).ok_or("no answer")?;
        let answer: Value = serde_json::from_str(&body).map_err(|e| format!("{e}: {body}"))?;
        match answer["status"].as_str() {
            Some("success") => Ok(answer["data"].clone()),
            _ => Err(answer["error"].to_string()),
        }
    }

    /// The series that an expression gives now.
    pub fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let data = self.ask(&format!("/api/v1/query?query={}", encoded(expression)))?;
        Ok(data["result"].as_array().cloned().unwrap_or_default())
    }

    /// The sum of the values of an expression.
    pub fn value(&self, expression: &str) -> f64 {
        self.query(expression).unwrap().iter().map(number).sum()
    }

    /// Whether an alert fires, for this pipeline where one is named.
    pub fn fires(&self, alert: &str, pipeline: Option<&str>) -> bool {
        let alerts = self.ask("/api/v1/alerts").unwrap();
        alerts["alerts"].as_array().into_iter().flatten().any(|one| {
            let label = |name: &str| one["labels"][name].as_str();
            one["state"] == "firing" && label("alertname") == Some(alert) && label("pipeline") == pipeline
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- Prometheus\n{}", fs::read_to_string(&self.log).unwrap_or_default());
        }
        // Ended already is as good.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of a series; not a number where there is none.
pub fn number(series: &Value) -> f64 {
    series["value"][1].as_str().and_then(|text| text.parse().ok()).unwrap_or(f64::NAN)
}

fn encoded(text: &str) -> String {
    let plain = |b: &u8| b.is_ascii_alphanumeric();
    text.bytes().map(|b| if plain(&b) { char::from(b).to_string() } else { format!("%{b:02X}") }).collect()
}
