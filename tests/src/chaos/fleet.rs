//! The processes of a run. Each ends when its standard input closes, so none outlives the harness, whatever ends that.

use crate::parts::FAIL_POINTS;

use super::{
    check::Delivery,
    topics::{Topics, Trouble},
};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    time::{Duration, Instant},
};

/// The coordinator's name.
pub const COORDINATOR: &str = "coordinator";
/// Name of the pipeline.
pub const PIPELINE: &str = "chaos";
/// A worker finishes within 30 s of a SIGTERM; some more for a loaded machine.
const END: Duration = Duration::from_secs(40);
/// Time between two looks.
const TICK: Duration = Duration::from_millis(20);

/// Coordinator and workers.
pub struct Fleet {
    binary: PathBuf,
    folder: PathBuf,
    kafka: String,
    grpc: String,
    running: BTreeMap<String, Child>,
}

impl Fleet {
    /// Nothing runs yet. Logs, data and the definition go into the folder.
    ///
    /// # Errors
    /// No port is free.
    pub fn new(binary: &Path, folder: &Path, kafka: &str) -> Result<Fleet, Trouble> {
        // The coordinator comes back where it was, so its port is chosen here.
        let grpc = TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string();
        Ok(Fleet {
            binary: binary.to_owned(),
            folder: folder.to_owned(),
            kafka: kafka.to_owned(),
            grpc,
            running: BTreeMap::new(),
        })
    }

    /// Start the coordinator, on the data it had before.
    ///
    /// # Errors
    /// The process does not start.
    pub fn start_coordinator(&mut self) -> Result<(), Trouble> {
        // The Kafka of tests is a single node.
        self.start_coordinator_with(&["--allow-weak-durability"])
    }

    /// The same, with this address of Kafka from now on.
    ///
    /// # Errors
    /// The process does not start.
    pub fn start_coordinator_behind(&mut self, kafka: &str) -> Result<(), Trouble> {
        kafka.clone_into(&mut self.kafka);
        self.start_coordinator()
    }

    /// The same, and refuse what a single node cannot promise.
    ///
    /// # Errors
    /// The process does not start.
    pub fn start_strict_coordinator(&mut self) -> Result<(), Trouble> {
        self.start_coordinator_with(&[])
    }

    fn start_coordinator_with(&mut self, more: &[&str]) -> Result<(), Trouble> {
        let data = self.folder.join("coordinator").display().to_string();
        let arguments =
            ["coordinator", "--grpc", &self.grpc, "--http", "127.0.0.1:0", "--kafka", &self.kafka];
        let rest = ["--data-dir", &data, "--lifeline"];
        let command = self.command(&[&arguments[..], &rest, more].concat());
        self.start(COORDINATOR, command)
    }

    /// Start a worker that reaches Kafka at this address.
    ///
    /// # Errors
    /// The process does not start.
    pub fn start_worker(&mut self, index: usize, kafka: &str) -> Result<(), Trouble> {
        let (name, at) = (worker(index), format!("http://{}", self.grpc));
        let data = self.folder.join(&name).display().to_string();
        let first = ["worker", "--coordinator", &at, "--http", "127.0.0.1:0", "--kafka", kafka];
        let rest = ["--executors", "1", "--id", &name, "--data-dir", &data, "--lifeline"];
        let command = self.command(&[first, rest].concat());
        self.start(&name, command)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        command.args(arguments).args(["--log-format", "json"]);
        command
    }

    fn start(&mut self, name: &str, mut command: Command) -> Result<(), Trouble> {
        let log = File::options().create(true).append(true).open(self.folder.join(format!("{name}.log")))?;
        command.stdin(Stdio::piped()).stdout(log.try_clone()?).stderr(log);
        command.env(FAIL_POINTS, self.points(name)?);
        let child = command.spawn().map_err(|e| format!("{} did not start: {e}", self.binary.display()))?;
        self.running.insert(name.to_owned(), child);
        Ok(())
    }

    /// The number of a process.
    ///
    /// # Errors
    /// There is no such process.
    pub fn process(&self, name: &str) -> Result<u32, Trouble> {
        Ok(self.running.get(name).ok_or_else(|| format!("{name} does not run"))?.id())
    }

    /// kill -9.
    ///
    /// # Errors
    /// It had ended by itself, which is a fault of its own.
    pub fn kill(&mut self, name: &str) -> Result<(), Trouble> {
        let mut child = self.running.remove(name).ok_or_else(|| format!("{name} does not run"))?;
        if let Some(status) = child.try_wait()? {
            return Err(self.died(name, status));
        }
        child.kill()?;
        child.wait()?;
        Ok(())
    }

    /// The folder where a process of this name looks for fail points that are armed, if it has any.
    ///
    /// # Errors
    /// It cannot be made.
    pub fn points(&self, name: &str) -> Result<PathBuf, Trouble> {
        let folder = self.folder.join(format!("{name}.points"));
        fs::create_dir_all(&folder)?;
        Ok(folder)
    }

    /// Whether it has ended by itself; then it may be started again.
    ///
    /// # Errors
    /// There is no such process.
    pub fn has_ended(&mut self, name: &str) -> Result<bool, Trouble> {
        let child = self.running.get_mut(name).ok_or_else(|| format!("{name} does not run"))?;
        let ended = child.try_wait()?.is_some();
        if ended {
            self.running.remove(name);
        }
        Ok(ended)
    }

    /// Send a signal, such as `STOP` or `CONT`.
    ///
    /// # Errors
    /// There is no such process.
    pub fn signal(&self, name: &str, signal: &str) -> Result<(), Trouble> {
        let child = self.running.get(name).ok_or_else(|| format!("{name} does not run"))?;
        signalled(child, signal)
    }

    /// Whether all that should run does.
    ///
    /// # Errors
    /// One has ended by itself.
    pub fn look(&mut self) -> Result<(), Trouble> {
        let ended =
            self.running.iter_mut().find_map(|(name, child)| Some((name.clone(), child.try_wait().ok()??)));
        ended.map_or(Ok(()), |(name, status)| Err(self.died(&name, status)))
    }

    fn died(&self, name: &str, status: ExitStatus) -> Trouble {
        let log = self.folder.join(format!("{name}.log"));
        format!("{name} ended by itself with {status}; its log: {}", log.display()).into()
    }

    /// SIGTERM to one; it finishes and ends well.
    ///
    /// # Errors
    /// It had ended by itself, does not end in time, or ends with a failure.
    pub fn end(&mut self, name: &str) -> Result<(), Trouble> {
        let child = self.running.remove(name).ok_or_else(|| format!("{name} does not run"))?;
        end(vec![(name.to_owned(), child)])
    }

    /// Submit the pipeline: a filter that keeps all records of the load, dealt to so many tasks.
    ///
    /// # Errors
    /// It is refused, or the coordinator does not answer.
    pub fn apply(
        &self,
        topics: &Topics,
        tasks: usize,
        delivery: Delivery,
        commit_interval: &str,
    ) -> Result<(), Trouble> {
        self.apply_definition(&definition(topics, tasks, delivery, commit_interval))
    }

    /// Submit a pipeline.
    ///
    /// # Errors
    /// It is refused, or the coordinator does not answer.
    pub fn apply_definition(&self, definition: &str) -> Result<(), Trouble> {
        let file = self.folder.join("pipeline.yaml");
        fs::write(&file, definition)?;
        self.ask(&["apply", &file.display().to_string()]).map(drop)
    }

    /// How the tasks are spread, if each runs and no worker has two more than another.
    pub fn settled(&self, workers: usize, wanted: usize) -> bool {
        let Ok(tasks) = self.ask(&["get", "tasks", PIPELINE, "-o", "json"]) else { return false };
        is_settled(&serde_json::from_str(&tasks).unwrap_or_default(), workers, wanted)
    }

    /// The worker of each task that runs, by the task's number.
    ///
    /// # Errors
    /// The coordinator does not answer.
    pub fn owners(&self) -> Result<BTreeMap<i32, String>, Trouble> {
        let said = self.ask(&["get", "tasks", PIPELINE, "-o", "json"])?;
        Ok(owners(&serde_json::from_str(&said)?))
    }

    /// What `pelton` says to these arguments.
    ///
    /// # Errors
    /// It refuses, or the coordinator does not answer.
    pub fn ask(&self, arguments: &[&str]) -> Result<String, Trouble> {
        let mut command = Command::new(&self.binary);
        command.args(arguments).env("PELTON_COORDINATOR", format!("http://{}", self.grpc));
        let output = command.stdin(Stdio::null()).output()?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
            return Err(format!("pelton {}: {}: {said}", arguments.join(" "), output.status).into());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// SIGTERM to all; workers first, so that they can hand their tasks back.
    ///
    /// # Errors
    /// One does not end in time or ends with a failure.
    pub fn stop(mut self) -> Result<(), Trouble> {
        let coordinator = self.running.remove(COORDINATOR);
        let workers = std::mem::take(&mut self.running);
        end(workers.into_iter().collect())?;
        end(coordinator.into_iter().map(|child| (COORDINATOR.to_owned(), child)).collect())
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        for child in self.running.values_mut() {
            // Ended already is as good.
            let _ = child.kill().and_then(|()| child.wait().map(drop));
        }
    }
}

/// A worker's name.
pub fn worker(index: usize) -> String {
    format!("worker-{index}")
}

fn signalled(child: &Child, signal: &str) -> Result<(), Trouble> {
    let id = child.id().to_string();
    let sent = Command::new("kill").args(["-s", signal, &id]).status()?;
    if sent.success() { Ok(()) } else { Err(format!("kill -s {signal} {id}: {sent}").into()) }
}

fn end(mut children: Vec<(String, Child)>) -> Result<(), Trouble> {
    let deadline = Instant::now() + END;
    for (_, child) in &children {
        signalled(child, "TERM")?;
    }
    let mut trouble = None;
    for (name, child) in &mut children {
        let status = loop {
            match child.try_wait()? {
                Some(status) => break status,
                None if Instant::now() > deadline => {
                    trouble = Some(format!("{name} did not end within {END:?} of a SIGTERM"));
                    child.kill()?;
                    break child.wait()?;
                }
                None => std::thread::sleep(TICK),
            }
        };
        if !status.success() {
            trouble.get_or_insert(format!("{name} ended with {status} after a SIGTERM"));
        }
    }
    trouble.map_or(Ok(()), |why| Err(why.into()))
}

fn definition(topics: &Topics, tasks: usize, delivery: Delivery, commit_interval: &str) -> String {
    let Topics { input, output, letters, .. } = topics;
    let delivery = delivery.as_str();
    format!(
        "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: {PIPELINE} }}\nspec:\n  \
         delivery: {delivery}\n  commitInterval: {commit_interval}\n  tasks: {tasks}\n  \
         sources:\n    in: {{ kafka: {{ topics: [{input}], start: earliest }}, decode: json }}\n  \
         operators:\n    - {{ name: all, filter: \"to_int!(.id) >= 0\" }}\n  \
         sinks:\n    out: {{ kafka: {{ topic: {output} }} }}\n  \
         onError: {{ deadLetter: {{ kafka: {{ topic: {letters} }} }} }}\n"
    )
}

fn is_settled(tasks: &Value, workers: usize, wanted: usize) -> bool {
    let Some(tasks) = tasks.as_array() else { return false };
    let mut by_worker: BTreeMap<&str, usize> = BTreeMap::new();
    for task in tasks.iter().filter(|t| t["state"] == "running") {
        *by_worker.entry(task["worker"].as_str().unwrap_or_default()).or_default() += 1;
    }
    let running: usize = by_worker.values().sum();
    let even = wanted.div_ceil(workers.max(1));
    running == wanted && tasks.len() == wanted && by_worker.values().all(|held| *held <= even)
}

/// Of the tasks as `get tasks` prints them: their names end in `tN]`.
fn owners(tasks: &Value) -> BTreeMap<i32, String> {
    let owner = |task: &Value| {
        let number = task["task"].as_str()?.rsplit_once(".t")?.1.trim_end_matches(']').parse().ok()?;
        (task["state"] == "running").then(|| Some((number, task["worker"].as_str()?.to_owned())))?
    };
    tasks.as_array().into_iter().flatten().filter_map(owner).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_task_that_runs_has_an_owner() {
        let task = |number: u32, state: &str| json!({ "task": format!("default/chaos[0.g1.t{number}]"), "worker": "a", "state": state });
        let tasks = json!([task(0, "running"), task(11, "running"), task(2, "warm")]);
        assert_eq!(owners(&tasks), BTreeMap::from([(0, "a".to_owned()), (11, "a".to_owned())]));
    }

    #[test]
    fn tasks_are_settled_when_all_run_and_are_spread_evenly() {
        let tasks = |of: &[(&str, &str)]| {
            Value::Array(of.iter().map(|(w, s)| json!({ "worker": w, "state": s })).collect())
        };
        assert!(is_settled(&tasks(&[("a", "running"), ("b", "running"), ("c", "running")]), 3, 3));
        assert!(!is_settled(&tasks(&[("a", "running"), ("b", "running"), ("b", "running")]), 3, 3), "uneven");
        assert!(
            !is_settled(&tasks(&[("a", "running"), ("b", "running"), ("c", "warm")]), 3, 3),
            "not running"
        );
        assert!(!is_settled(&tasks(&[("a", "running")]), 3, 3), "too few");
        assert!(!is_settled(&Value::Null, 3, 3));
    }
}
