//! A real Kubernetes cluster of two nodes for one test: `tests/infra/k8s`, with `kubectl` and `helm` as users have them.
//!
//! It ends with its value, and also when the test dies in any way: a shell outside waits for a pipe to close.

use std::fs;
use std::io::{PipeWriter, Write as _};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::parts::Kubernetes;

/// Longer than anything takes on a machine that does much else.
pub const PATIENCE: Duration = Duration::from_secs(240);
/// The namespace that tests work in; it enforces the Pod Security level `restricted`.
pub const NAMESPACE: &str = "pelton";
/// A class of volumes that an unprivileged user may write to. The kit's own belong to root.
pub const STORAGE: &str = "ready";

/// What the API server writes down about the operator's requests: who, which verb, which resource.
const AUDIT: &str = "apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: Metadata, userGroups: ['system:serviceaccounts:pelton']}
- {level: None}
";

/// The cluster.
#[derive(Debug)]
pub struct Cluster {
    bin: PathBuf,
    data: PathBuf,
    scripts: PathBuf,
    // Closed when dropped or when the process ends.
    alive: Option<PipeWriter>,
}

impl Cluster {
    /// Starts two nodes that have the images, and makes the namespace.
    ///
    /// # Errors
    /// What the scripts say.
    pub fn start(kit: &Kubernetes, data: &Path) -> Result<Self, String> {
        let scripts = repository().join("tests/infra/k8s");
        let data = data.join("cluster");
        fs::create_dir_all(&data).map_err(|cause| format!("{}: {cause}", data.display()))?;
        let policy = data.join("audit.yaml");
        fs::write(&policy, AUDIT).map_err(|cause| format!("{}: {cause}", policy.display()))?;
        let audit = format!(
            "--audit-policy-file={} --audit-log-path={}",
            policy.display(),
            data.join("audit.log").display()
        );
        let alive = watcher(&scripts, &data, &kit.bin)?;
        let cluster = Cluster { bin: kit.bin.clone(), data, scripts, alive: Some(alive) };
        let mut up = cluster.script("k8s-up.sh");
        let images: Vec<String> = kit.images.iter().map(|image| image.display().to_string()).collect();
        up.env("NODES", "2").env("NET", "7").env("IMAGES", images.join(" ")).env("APISERVER_ARGS", audit);
        println!("{}", said(&mut up)?);
        cluster.kubectl_with(&["apply", "-f", "-"], &format!(
            "{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}, labels: {{pod-security.kubernetes.io/enforce: restricted}}}}}}"
        ))?;
        for number in 0..2 {
            cluster.volume(number)?;
        }
        Ok(cluster)
    }

    /// A volume of the class [`STORAGE`].
    fn volume(&self, number: u32) -> Result<(), String> {
        let path = self.data.join(format!("volume-{number}"));
        let made = fs::create_dir_all(&path)
            .and_then(|()| fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o777)));
        made.map_err(|cause| format!("{}: {cause}", path.display()))?;
        let volume = format!(
            "{{apiVersion: v1, kind: PersistentVolume, metadata: {{name: ready-{number}}}, spec: {{storageClassName: \
             {STORAGE}, capacity: {{storage: 1Gi}}, accessModes: [ReadWriteOnce], hostPath: {{path: {}}}}}}}",
            path.display()
        );
        self.kubectl_with(&["apply", "-f", "-"], &volume).map(drop)
    }

    fn script(&self, name: &str) -> Command {
        let mut command = Command::new(self.scripts.join(name));
        command.arg(&self.data).env("BIN", &self.bin).stdin(Stdio::null());
        command
    }

    /// `kubectl -n pelton ...`: what it wrote to standard output.
    ///
    /// # Errors
    /// What it wrote to standard error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String, String> {
        self.kubectl_with(arguments, "")
    }

    /// The same, with this on its standard input.
    ///
    /// # Errors
    /// What it wrote to standard error.
    pub fn kubectl_with(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let mut command = Command::new(self.bin.join("k8s"));
        command
            .args(["kubectl", "-n", NAMESPACE])
            .args(arguments)
            .env("KUBECONFIG", self.data.join("kubeconfig"));
        fed(&mut command, input)
    }

    /// What `kubectl get ... -o json` shows, or nothing while there is no such thing.
    pub fn get(&self, arguments: &[&str]) -> Value {
        let text = self.kubectl(&[&["get"], arguments, &["-o", "json"]].concat());
        text.ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
    }

    /// `helm -n pelton ...`
    ///
    /// # Errors
    /// What it wrote to standard error.
    pub fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        let mut command = Command::new(self.bin.join("helm"));
        command.args(["-n", NAMESPACE]).args(arguments).env("KUBECONFIG", self.data.join("kubeconfig"));
        // Nothing of a developer's own.
        for (name, folder) in [
            ("HELM_CACHE_HOME", "helm/cache"),
            ("HELM_CONFIG_HOME", "helm/config"),
            ("HELM_DATA_HOME", "helm/data"),
        ] {
            command.env(name, self.data.join(folder));
        }
        fed(&mut command, "")
    }

    /// `kill` (power off), `start`, `cut` (its network goes) or `heal` for the second node.
    ///
    /// # Errors
    /// What the script says.
    pub fn second_node(&self, what: &str) -> Result<(), String> {
        said(self.script("k8s-node.sh").args(["1", what])).map(drop)
    }

    /// Waits until a condition holds.
    ///
    /// # Errors
    /// That it did not within [`PATIENCE`], with the state of the cluster.
    pub fn until<T>(&self, what: &str, mut condition: impl FnMut() -> Option<T>) -> Result<T, String> {
        let begun = Instant::now();
        loop {
            if let Some(found) = condition() {
                return Ok(found);
            }
            if begun.elapsed() > PATIENCE {
                return Err(format!("waited in vain for: {what}\n{}", self.state()));
            }
            std::thread::sleep(Duration::from_millis(200));
        }
    }

    /// What one would look at when something does not come.
    pub fn state(&self) -> String {
        let mut all = String::new();
        for look in
            [&["get", "pods", "-o", "wide"][..], &["get", "pipelines", "-o", "yaml"], &["get", "events"]]
        {
            all += &self.kubectl(look).unwrap_or_else(|why| why);
            all.push('\n');
        }
        for role in ["operator", "coordinator", "worker"] {
            let select = format!("app.kubernetes.io/component={role}");
            let logs = ["logs", "--prefix", "--tail", "15", "-l", &select];
            all += &self.kubectl(&logs).unwrap_or_else(|why| why);
        }
        all
    }

    /// The operator's requests that the API server allowed, as `verb group/resource`.
    ///
    /// # Errors
    /// When the audit log cannot be read.
    pub fn requests_of_operator(&self) -> Result<Vec<String>, String> {
        let path = self.data.join("audit.log");
        let log = fs::read_to_string(&path).map_err(|cause| format!("{}: {cause}", path.display()))?;
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let of_operator = entries.filter(|entry| {
            let user = entry["user"]["username"].as_str().unwrap_or_default();
            user.ends_with("-operator") && entry["responseStatus"]["code"].as_u64() < Some(400)
        });
        let mut all: Vec<String> = of_operator
            .map(|entry| {
                let of = &entry["objectRef"];
                let text = |key: &str| of[key].as_str().unwrap_or_default().to_owned();
                let sub = of["subresource"].as_str().map(|name| format!("/{name}")).unwrap_or_default();
                let verb = entry["verb"].as_str().unwrap_or_default();
                format!("{verb} {}/{}{sub}", text("apiGroup"), text("resource"))
            })
            .collect();
        all.sort();
        all.dedup();
        Ok(all)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("{}", self.state());
        }
        let mut down = self.script("k8s-down.sh");
        if let Err(problem) = said(down.arg("--purge")) {
            eprintln!("the cluster of this test may be left: {problem}");
        }
        // The watcher finds nothing left.
        self.alive.take();
    }
}

/// Ends the cluster when the pipe it gives is closed.
fn watcher(scripts: &Path, data: &Path, bin: &Path) -> Result<PipeWriter, String> {
    let (ended, alive) = std::io::pipe().map_err(|cause| format!("a pipe: {cause}"))?;
    let mut watcher = Command::new("sh");
    watcher.args(["-c", "read -r _; exec \"$0\" \"$1\" --purge"]).arg(scripts.join("k8s-down.sh")).arg(data);
    // A group of its own: Ctrl-C must not end what cleans up after it.
    watcher.env("BIN", bin).process_group(0).stdin(ended).stdout(Stdio::null()).stderr(Stdio::null());
    watcher.spawn().map_err(|cause| format!("the watcher of the cluster did not start: {cause}"))?;
    Ok(alive)
}

/// The top folder of the repository.
pub fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

fn fed(command: &mut Command, input: &str) -> Result<String, String> {
    let failed = |cause| format!("{cause}");
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(failed)?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that has ended says why in its status.
        let _ = stdin.write_all(input.as_bytes());
    }
    judged(command, child.wait_with_output().map_err(failed)?)
}

fn said(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|cause| format!("{command:?}: {cause}"))?;
    judged(command, output)
}

fn judged(command: &Command, output: std::process::Output) -> Result<String, String> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim_end().to_owned();
    if output.status.success() {
        return Ok(text(&output.stdout));
    }
    let name =
        Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
    let arguments: Vec<_> = command.get_args().map(|one| one.to_string_lossy()).collect();
    Err(format!(
        "{name} {}: {}\n{}\n{}",
        arguments.join(" "),
        output.status,
        text(&output.stderr),
        text(&output.stdout)
    ))
}
