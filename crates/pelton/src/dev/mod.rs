//! `pelton dev`: broker, coordinator and workers as children of one command, and the definitions of a file on them.

mod account;
mod idle;
mod table;

pub use account::Totals;

use crate::{
    cli::{DevArgs, Format},
    client::{Client, ask},
    exit::{Exit, Failure},
    fleet::{Process, Workers},
    output, signals,
    verbs::{apply::submit, validate},
};
use idle::IdleTimer;
use pelton_proto::v1;
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, sleep};

/// Time between two looks at the cluster.
const TICK: Duration = Duration::from_millis(250);
/// Time between two lines where standard error is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// For workers to finish, commit and release.
const DRAIN: Duration = Duration::from_secs(30);
/// For broker and coordinator to end after that.
const STOP: Duration = Duration::from_secs(5);

/// The processes of a cluster on this machine.
struct Cluster {
    broker: Process,
    coordinator: Process,
    workers: Workers,
    client: Client,
}

/// `pelton dev`
pub async fn dev(node: &crate::settings::Node, args: DevArgs) -> Result<(), Failure> {
    // Checks the settings too, so that a wrong environment is named before anything starts.
    node.load(&[])?;
    let definitions = validate::read(&args.file, None)?;
    let shutdown = signals::shutdown()?;
    let home = Home::new(args.data_dir.as_deref())?;
    let started = Instant::now();
    let mut cluster = Cluster::start(&args, &definitions.folder, &home.path).await?;
    let namespace = pelton_config::DEFAULT_NAMESPACE.to_owned();
    let request = v1::ApplyRequest {
        definition: definitions.text.clone(),
        file_name: definitions.name.clone(),
        dry_run: false,
        namespace,
    };
    let watched = match submit(&mut cluster.client, request).await {
        Ok(_) => watch(&mut cluster, &args, &home, shutdown).await,
        Err(failure) => Err(failure),
    };
    let totals = Totals::collect(&mut cluster.client, started.elapsed()).await;
    let killed = cluster.stop().await;
    for name in &killed {
        eprintln!("{name} did not finish within {DRAIN:?} and was killed; what it had not committed is read again");
    }
    home.close();
    watched?;
    let totals = totals?;
    match args.output {
        Format::Json => output::print(&totals.to_json().to_string()),
        Format::Yaml => output::value(&totals.to_json(), Format::Yaml)?,
        Format::Table | Format::Wide => output::print(&totals.to_text()),
    }
    totals.verdict()
}

/// The folder everything is kept in.
struct Home {
    path: PathBuf,
    temporary: bool,
}

impl Home {
    fn new(given: Option<&Path>) -> Result<Home, Failure> {
        let (path, temporary) = match given {
            Some(path) => (path.to_path_buf(), false),
            None => (std::env::temp_dir().join(format!("pelton-dev-{}", std::process::id())), true),
        };
        std::fs::create_dir_all(&path)
            .map_err(|e| Failure::unexpected(format!("cannot create {}: {e}", path.display())))?;
        let path = path.canonicalize()?;
        Ok(Home { path, temporary })
    }

    fn logs(&self) -> PathBuf {
        self.path.join("logs")
    }

    /// Drop it, unless the user named it.
    fn close(self) {
        if self.temporary {
            if let Err(e) = std::fs::remove_dir_all(&self.path) {
                eprintln!("cannot remove {}: {e}", self.path.display());
            }
        }
    }
}

impl Cluster {
    async fn start(args: &DevArgs, folder: &Path, home: &Path) -> Result<Cluster, Failure> {
        let logs = home.join("logs");
        let text = |parts: &[&str]| parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        let path = |p: PathBuf| p.display().to_string();
        let (broker_dir, coordinator_dir) = (path(home.join("broker")), path(home.join("coordinator")));
        let (partitions, folder) = (args.partitions.to_string(), folder.display().to_string());
        let mut arguments =
            text(&["broker", "--listen", &args.broker_listen, "--http", "127.0.0.1:0", "--data-dir", &broker_dir]);
        arguments.extend(text(&["--partitions", &partitions]));
        let broker = Process::start("broker", &logs, &arguments).await?;
        let bootstrap = broker.address("bootstrap");
        let mut arguments = text(&["coordinator", "--grpc", &args.coordinator_grpc]);
        arguments.extend(text(&["--http", &args.coordinator_http, "--data-dir", &coordinator_dir]));
        arguments.extend(text(&["--kafka", &bootstrap, "--models", &folder, "--base-dir", &folder]));
        arguments.extend(text(&["--create-topics", &partitions]));
        let coordinator = Process::start("coordinator", &logs, &arguments).await?;
        let address = format!("http://{}", coordinator.address("grpc"));
        let worker_dir = path(home.join("worker"));
        let mut arguments = text(&["worker", "--coordinator", &address, "--http", "127.0.0.1:0"]);
        arguments.extend(text(&["--kafka", &bootstrap, "--models", &folder, "--base-dir", &folder]));
        arguments.extend(text(&["--data-dir", &worker_dir]));
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let executors = args.executors.unwrap_or_else(|| cores.div_ceil(args.workers.max(1)));
        arguments.extend(text(&["--executors", &executors.to_string()]));
        let mut workers = Workers::new(args.workers.max(1), logs, arguments);
        workers.keep().await?;
        let client = Client::connect(&address).await?;
        Ok(Cluster { broker, coordinator, workers, client })
    }

    /// The first of broker and coordinator that ended; the rest is no use without them.
    fn failed(&mut self) -> Option<Failure> {
        [&mut self.broker, &mut self.coordinator].into_iter().find_map(|process| {
            let status = process.ended()?;
            Some(Failure::unavailable(format!("the {} ended ({status})", process.name)))
        })
    }

    /// Workers first, so that they commit; then the rest. The names of those that had to be killed.
    async fn stop(self) -> Vec<String> {
        let mut killed = self.workers.stop(DRAIN).await;
        for process in [self.coordinator, self.broker] {
            process.terminate();
            let name = process.name.clone();
            if !process.join(Instant::now() + STOP).await {
                killed.push(name);
            }
        }
        killed
    }
}

/// Show the cluster until the user or the idle timer ends it.
async fn watch(
    cluster: &mut Cluster,
    args: &DevArgs,
    home: &Home,
    shutdown: tokio::sync::watch::Receiver<bool>,
) -> Result<(), Failure> {
    let mut screen = table::Screen::new(std::io::stderr().is_terminal());
    let head = table::head(cluster, args, home);
    screen.head(&head);
    let mut idle = args.until_idle.map(IdleTimer::new);
    let mut next_line = Instant::now() + LINE_INTERVAL;
    loop {
        for line in cluster.workers.keep().await? {
            screen.note(&line);
        }
        if let Some(failure) = cluster.failed() {
            return Err(failure);
        }
        let pipelines = cluster.client.pipelines.list(ask(v1::ListPipelinesRequest::default())).await?;
        let pipelines = pipelines.into_inner().pipelines;
        let workers = cluster.client.cluster.list_workers(ask(v1::ListWorkersRequest {})).await?;
        let workers = workers.into_inner().workers;
        let due = Instant::now() >= next_line;
        if due {
            next_line = Instant::now() + LINE_INTERVAL;
        }
        screen.draw(&pipelines, &workers, due);
        if let Some(timer) = &mut idle {
            if let Some(stopped) = account::stopped(&pipelines) {
                return Err(Failure::new(Exit::Invariant, stopped));
            }
            if timer.observe(&pipelines, Instant::now()) {
                screen.draw(&pipelines, &workers, true);
                return Ok(());
            }
        }
        tokio::select! {
            biased;
            () = signals::requested(shutdown.clone()) => {
                screen.note("finishing: workers commit and let go (press Ctrl-C again to end at once)");
                return Ok(());
            }
            () = sleep(TICK) => {}
        }
    }
}
