//! What Kafka's own tools see of a pipeline on a real Kafka.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::io::Write;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pelton_tests::docker::until;
use pelton_tests::parts;

/// Generous: the machine may be building something else, and each look starts a Java machine.
const LIMIT: Duration = Duration::from_secs(120);
/// A new topic's, in tests/infra/kafka.
const PARTITIONS: usize = 8;
const DEFINITION: &str = "apiVersion: pelton.dev/v1
kind: Pipeline
metadata: { name: NAME }
spec:
  delivery: at-least-once
  commitInterval: 100ms
  sources: { in: { kafka: { topics: [NAME], start: earliest }, decode: json } }
  sinks: { nowhere: { blackhole: {} } }
";

#[test]
fn kafka_consumer_groups_and_kcat_agree_on_the_lag_of_a_pipeline() {
    let Some(kafka) = parts::kafka() else { return };
    if !parts::program("kcat") {
        return;
    }
    let name = format!("lag-{}", std::process::id());
    let look = Look { kafka: kafka.clone(), topic: name.clone(), group: format!("pelton.default.{name}") };

    look.write(1_000);
    let running = Running::start(&name, &kafka);
    look.until_caught_up();
    running.stop();
    look.write(400);
    // Nobody reads: what was written since is the lag, to the record.
    assert_eq!(look.lag(), Some((400, 1_000)));
    assert_eq!(look.written(), 1_400, "kcat sees the ends that the lag is counted from");
    let running = Running::start(&name, &kafka);
    look.until_caught_up();
    running.stop();
    assert_eq!(look.lag(), Some((0, 1_400)));
}

/// How the tools are asked about one pipeline.
struct Look {
    kafka: String,
    topic: String,
    group: String,
}

impl Look {
    /// Writes this many records with keys, through kcat.
    fn write(&self, records: usize) {
        let mut kcat = Command::new("kcat");
        kcat.args(["-P", "-b", &self.kafka, "-t", &self.topic, "-K", ":"]).stdin(Stdio::piped());
        let mut kcat = kcat.spawn().unwrap();
        let mut stdin = kcat.stdin.take().unwrap();
        for record in 0..records {
            writeln!(stdin, "key-{}:{{\"id\":{record}}}", record % 97).unwrap();
        }
        drop(stdin);
        assert!(kcat.wait().unwrap().success());
    }

    /// Ends of all partitions, added up, from `kcat -Q`.
    fn written(&self) -> i64 {
        let ask: Vec<String> = (0..PARTITIONS).map(|p| format!("{}:{p}:-1", self.topic)).collect();
        let mut kcat = Command::new("kcat");
        kcat.args(["-Q", "-b", &self.kafka]).args(ask.iter().flat_map(|topic| ["-t", topic]));
        // `topic [3] offset 125`
        let end = |line: &str| line.rsplit_once(' ')?.1.parse::<i64>().ok();
        output(&mut kcat).lines().map(|line| end(line).unwrap_or_else(|| panic!("kcat said {line}"))).sum()
    }

    /// Lag and committed offsets of the group, added up, from `kafka-consumer-groups`; none while a partition has none.
    fn lag(&self) -> Option<(i64, i64)> {
        let (mut lag, mut committed) = (0, 0);
        let said = self.describe();
        // GROUP TOPIC PARTITION CURRENT-OFFSET LOG-END-OFFSET LAG ...
        let rows = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
        let rows: Vec<_> = rows.filter(|row| row.len() > 5 && row[0] == self.group).collect();
        for row in &rows {
            committed += row[3].parse::<i64>().ok()?;
            lag += row[5].parse::<i64>().ok()?;
        }
        (rows.len() == PARTITIONS).then_some((lag, committed))
    }

    fn describe(&self) -> String {
        let tool = Path::new(env!("CARGO_MANIFEST_DIR")).join("infra/kafka/kafka-consumer-groups.sh");
        let group = ["--describe", "--group", &self.group];
        let said = Command::new(tool).args(["--bootstrap-server", &self.kafka]).args(group).output().unwrap();
        let complaint = String::from_utf8(said.stderr).unwrap();
        assert!(!complaint.contains("no jars"), "{complaint}");
        // A group that does not exist yet is an error of the tool.
        String::from_utf8(said.stdout).unwrap() + &complaint
    }

    /// Waits until all that was written is committed.
    fn until_caught_up(&self) {
        let all = Some((0, self.written()));
        let done = until(LIMIT, "the group caught up", || self.lag() == all);
        done.unwrap_or_else(|late| panic!("{late}:\n{}", self.describe()));
    }
}

/// `pelton run` with a pipeline that reads and drops.
struct Running(Child);

impl Running {
    fn start(name: &str, kafka: &str) -> Running {
        let mut pelton = Command::new(parts::binary());
        pelton.args(["run", "/dev/stdin", "--kafka", kafka]).stdin(Stdio::piped());
        let mut child = pelton.spawn().unwrap();
        let definition = DEFINITION.replace("NAME", name);
        child.stdin.take().unwrap().write_all(definition.as_bytes()).unwrap();
        Running(child)
    }

    /// SIGTERM, and it ends well.
    fn stop(mut self) {
        let kill = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(kill.success());
        let ended = self.0.wait().unwrap();
        assert!(ended.success(), "pelton run: {ended}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Ended already unless the test failed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn output(command: &mut Command) -> String {
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", output.status);
    String::from_utf8(output.stdout).unwrap()
}
