//! Pelton as containers of a real Docker engine: broker, coordinator and workers on a network of their own.
//!
//! Each runs as an unprivileged user on a read-only file system without capabilities, as a careful operator would run
//! it. Addresses are fixed within the network, so that what the broker advertises is right for the containers and,
//! because the machine routes to the bridge, for the test as well. All is removed when the value is dropped; what a
//! killed test left is removed by the next.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const LABEL: &str = "dev.pelton.test";

/// Where the roles are in the last byte of their address; workers follow [`FIRST_WORKER`].
const BROKER: u8 = 10;
const COORDINATOR: u8 = 20;
const FIRST_WORKER: u8 = 30;

/// A network with containers of one image.
#[derive(Debug)]
pub struct Containers {
    image: String,
    name: String,
    /// The first three bytes of every address, with the dot behind.
    prefix: String,
    /// Folder on this machine that every container sees as /models.
    models: PathBuf,
}

/// A container that was started.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its name, also its host name.
    pub name: String,
    /// Its address.
    pub address: String,
}

impl Containers {
    /// Makes the network. `models` is a folder that every container will see, unwritable, as /models.
    pub fn new(image: &str, models: &Path) -> Result<Self, String> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        sweep()?;
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("pelton-test-{}-{number}", std::process::id());
        let prefix = make_network(&name)?;
        Ok(Containers { image: image.to_owned(), name, prefix, models: models.to_path_buf() })
    }

    /// Name of the network.
    pub fn network(&self) -> &str {
        &self.name
    }

    /// Starts `pelton ROLE ARGUMENTS` at the address that ends in `host`.
    pub fn start(&self, role: &str, host: u8, arguments: &[&str]) -> Result<Container, String> {
        let container = Container {
            name: format!("{}-{role}-{host}", self.name),
            address: format!("{}{host}", self.prefix),
        };
        let label = format!("{LABEL}={}", std::process::id());
        let volume = format!("{}:/data", container.name);
        let models = format!("{}:/models:ro", self.models.display());
        let place = ["--network", &self.name, "--ip", &container.address, "--hostname", &container.name];
        let hardened =
            ["--read-only", "--user", "65532", "--cap-drop", "ALL", "--security-opt", "no-new-privileges"];
        docker(&["volume", "create", "--label", &label, &container.name])?;
        let mut run =
            vec!["run", "--detach", "--name", &container.name, "--label", &label, "--volume", &volume];
        run.extend(["--volume", &models]);
        run.extend(place.iter().chain(&hardened));
        run.extend([self.image.as_str(), role]);
        run.extend(arguments);
        docker(&run)?;
        Ok(container)
    }
}

impl Drop for Containers {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let all = docker(&[
                "ps",
                "-a",
                "--filter",
                &format!("network={}", self.name),
                "--format",
                "{{.Names}}",
            ]);
            for name in all.unwrap_or_default().lines() {
                let log = Container { name: name.into(), address: String::new() }.logs().unwrap_or_default();
                let from = log.lines().count().saturating_sub(40);
                eprintln!("--- {name}");
                log.lines().skip(from).for_each(|line| eprintln!("{line}"));
            }
        }
        if let Err(problem) = remove(&format!("name={}", self.name)) {
            eprintln!("containers of this test may be left: {problem}");
        }
    }
}

impl Container {
    /// kill -9.
    pub fn kill(&self) -> Result<(), String> {
        docker(&["kill", &self.name]).map(drop)
    }

    /// SIGTERM; gives the exit code once it has ended, or fails after `grace`, when Docker kills it.
    pub fn stop(&self, grace: Duration) -> Result<i32, String> {
        docker(&["stop", "--time", &grace.as_secs().to_string(), &self.name])?;
        let code = docker(&["inspect", "-f", "{{.State.ExitCode}}", &self.name])?;
        code.parse().map_err(|_| format!("docker gave `{code}` as an exit code"))
    }

    /// Starts it again after `kill` or `stop`, with the same address and /data.
    pub fn start_again(&self) -> Result<(), String> {
        docker(&["start", &self.name]).map(drop)
    }

    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        docker(&["inspect", "-f", "{{.State.Running}}", &self.name]).is_ok_and(|running| running == "true")
    }

    /// What it wrote to standard output and standard error.
    pub fn logs(&self) -> Result<String, String> {
        let output = Command::new("docker").args(["logs", &self.name]).stdin(Stdio::null()).output();
        let output = output.map_err(|cause| format!("docker did not start: {cause}"))?;
        Ok(String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
    }

    /// The status of a GET on one of its ports, or none while nothing answers.
    pub fn http_status(&self, port: u16, path: &str) -> Option<u16> {
        let mut stream = TcpStream::connect((self.address.as_str(), port)).ok()?;
        stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(stream, "GET {path} HTTP/1.1\r\nhost: pelton\r\nconnection: close\r\n\r\n").ok()?;
        let mut head = [0; 12];
        stream.read_exact(&mut head).ok()?;
        std::str::from_utf8(&head).ok()?.strip_prefix("HTTP/1.1 ")?.parse().ok()
    }
}

/// A broker, a coordinator and workers.
#[derive(Debug)]
pub struct Cluster {
    /// The embedded queue.
    pub broker: Container,
    /// The coordinator: gRPC on 7461, HTTP on 7462.
    pub coordinator: Container,
    /// The workers: HTTP on 7463.
    pub workers: Vec<Container>,
    // Last, because dropping it removes the containers.
    containers: Containers,
}

impl Cluster {
    /// Starts all and waits until every role says that it is ready.
    pub fn start(image: &str, models: &Path, workers: u8, limit: Duration) -> Result<Self, String> {
        let containers = Containers::new(image, models)?;
        let at = |host: u8, port: u16| format!("{}{host}:{port}", containers.prefix);
        let (queue, grpc) = (at(BROKER, 9092), at(COORDINATOR, 7461));
        // The network of these containers has nobody else in it.
        let of_broker = ["--listen", &queue, "--data-dir", "/data", "--allow-unsecured"];
        let broker = containers.start("broker", BROKER, &of_broker)?;
        let http = at(COORDINATOR, 7462);
        let of_coordinator = ["--grpc", &grpc, "--http", &http, "--data-dir", "/data", "--kafka", &queue];
        let of_coordinator = [&of_coordinator[..], &["--models", "/models", "--create-topics", "4"]].concat();
        let coordinator = containers.start("coordinator", COORDINATOR, &of_coordinator)?;
        let coordinator_url = format!("http://{grpc}");
        let start_worker = |number: u8| {
            let host = FIRST_WORKER + number;
            let http = at(host, 7463);
            let of_worker =
                ["--coordinator", &coordinator_url, "--http", &http, "--kafka", &queue, "--executors", "1"];
            let of_worker = [&of_worker[..], &["--models", "/models", "--data-dir", "/data"]].concat();
            containers.start("worker", host, &of_worker)
        };
        let workers = (0..workers).map(start_worker).collect::<Result<Vec<_>, _>>()?;
        let cluster = Cluster { broker, coordinator, workers, containers };
        until(limit, "coordinator and workers are ready", || {
            let ready = |container: &Container, port| container.http_status(port, "/readyz") == Some(200);
            ready(&cluster.coordinator, 7462) && cluster.workers.iter().all(|worker| ready(worker, 7463))
        })
        .map_err(|late| format!("{late}\n{}", cluster.all_logs()))?;
        Ok(cluster)
    }

    /// Bootstrap address of the queue, inside and outside.
    pub fn kafka(&self) -> String {
        format!("{}:9092", self.broker.address)
    }

    /// What `PELTON_COORDINATOR` of a client has to be.
    pub fn coordinator_url(&self) -> String {
        format!("http://{}:7461", self.coordinator.address)
    }

    /// `pelton VERB ...` from outside, against this cluster; gives what it wrote to standard output.
    pub fn pelton(&self, binary: &Path, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(binary);
        said(command.args(arguments).env("PELTON_COORDINATOR", self.coordinator_url()))
    }

    fn all_logs(&self) -> String {
        let all = [&self.broker, &self.coordinator].into_iter().chain(&self.workers);
        all.map(|one| format!("--- {}\n{}\n", one.name, one.logs().unwrap_or_default())).collect()
    }

    /// The network, to start more containers in it.
    pub fn containers(&self) -> &Containers {
        &self.containers
    }
}

/// Makes a network with a subnet of our choice, without which Docker gives no fixed addresses; gives the first three
/// bytes of its addresses. Others may have taken a subnet: then it is the next one's turn.
fn make_network(name: &str) -> Result<String, String> {
    let label = format!("{LABEL}={}", std::process::id());
    let mut taken = String::new();
    for third in 0..=u8::MAX {
        let subnet = format!("172.30.{third}.0/24");
        match docker(&["network", "create", "--label", &label, "--subnet", &subnet, name]) {
            Ok(_) => return Ok(format!("172.30.{third}.")),
            Err(problem) if problem.contains("overlap") => taken = problem,
            Err(problem) => return Err(problem),
        }
    }
    Err(taken)
}

/// Waits until `condition` holds, at most `limit`.
pub fn until(limit: Duration, what: &str, mut condition: impl FnMut() -> bool) -> Result<(), String> {
    let begun = Instant::now();
    while !condition() {
        if begun.elapsed() > limit {
            return Err(format!("not within {limit:?}: {what}"));
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    Ok(())
}

/// Removes what tests left whose process is gone.
fn sweep() -> Result<(), String> {
    for list in [vec!["ps", "-a"], vec!["network", "ls"], vec!["volume", "ls"]] {
        let format = format!("{{{{.Label \"{LABEL}\"}}}}");
        let label = format!("label={LABEL}");
        let owners = docker(&[&list[..], &["--filter", &label, "--format", &format]].concat())?;
        for owner in owners.lines().filter(|owner| !Path::new("/proc").join(owner).exists()) {
            remove(&format!("label={LABEL}={owner}"))?;
        }
    }
    Ok(())
}

/// Removes the containers, volumes and networks that a filter finds.
fn remove(filter: &str) -> Result<(), String> {
    let found = |list: &[&str]| docker(&[list, &["-q", "--filter", filter]].concat());
    for (list, remove) in [
        (&["ps", "-a"][..], &["rm", "--force", "--volumes"][..]),
        (&["volume", "ls"], &["volume", "rm", "--force"]),
        (&["network", "ls"], &["network", "rm"]),
    ] {
        let ids = found(list)?;
        let ids: Vec<&str> = ids.lines().collect();
        if !ids.is_empty() {
            docker(&[remove, &ids[..]].concat())?;
        }
    }
    Ok(())
}

/// Lets the user of the image read a folder.
///
/// # Errors
/// It is not ours.
pub fn open_to_all(folder: &Path) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755))
}

/// `pelton ARGUMENTS` against a coordinator: what it wrote to standard output.
///
/// # Errors
/// It failed.
pub fn pelton(coordinator: &str, arguments: &[&str]) -> Result<String, String> {
    said(Command::new(crate::parts::binary()).args(arguments).env("PELTON_COORDINATOR", coordinator))
}

/// `docker ARGUMENTS`: what it wrote to standard output.
///
/// # Errors
/// It failed.
pub fn docker(arguments: &[&str]) -> Result<String, String> {
    said(Command::new("docker").args(arguments))
}

fn said(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).output().map_err(|cause| format!("{command:?}: {cause}"))?;
    if !output.status.success() {
        let why = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("{command:?}: {}: {why}", output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}
