//! `pelton dev`: broker, coordinator and workers as children of one command, and the definitions of a file on them.

mod account;
mod crew;
mod home;
mod idle;
mod table;

pub use account::Totals;

use crate::{
    cli::{DevArgs, Format},
    client::{Client, ask},
    exit::{Exit, Failure},
    fleet::{Process, Workers},
    idle::IdleTimer,
    output, signals,
    verbs::{apply::submit, validate},
};
use crew::Crew;
use home::Home;
use pelton_proto::v1;
use pelton_worker::usage::CpuMeter;
use std::{
    io::IsTerminal,
    path::{Path, PathBuf},
    time::Duration,
};
use tokio::time::{Instant, timeout};

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
    workers: Crew,
    client: Client,
}

/// `pelton dev`
pub async fn dev(node: &crate::settings::Node, args: DevArgs) -> Result<(), Failure> {
    // Checks the settings too, so that a wrong environment is named before anything starts.
    let settings = node.load(&[])?;
    let definitions = validate::read(&args.file, None, Some(settings.connections("worker.kafka")))?;
    refuse_standard_input(&definitions)?;
    let shutdown = signals::shutdown()?;
    let home = Home::open(args.data_dir.as_deref())?;
    let (started, cpu) = (Instant::now(), CpuMeter::of_children());
    let mut cluster = Cluster::start(&args, node.file_arguments(), &definitions.folder, &home.path).await?;
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
    let elapsed = started.elapsed();
    // The account is asked for once the last commits are in it.
    let reported = cluster.workers.cpu_seconds(&cpu, &mut cluster.client).await;
    let killed = cluster.workers.stop(&mut cluster.client, DRAIN).await;
    // Of children the system knows it to their end, of containers what they last reported.
    let cpu_seconds = if args.containers { reported } else { cpu.seconds() };
    for name in &killed {
        eprintln!(
            "{name} did not finish within {DRAIN:?} and was killed; what it had not committed is read again"
        );
    }
    let totals = Totals::collect(&mut cluster.client, elapsed, cpu_seconds).await;
    cluster.stop().await;
    watched?;
    let totals = totals?;
    match args.output {
        Format::Json => output::print(&totals.to_json().to_string()),
        Format::Yaml => output::value(&totals.to_json(), Format::Yaml)?,
        Format::Table | Format::Wide => output::print(&totals.to_text()),
    }
    totals.verdict()
}

/// Standard input of a worker is its lifeline, and there are several of them: nobody's lines would arrive.
fn refuse_standard_input(definitions: &validate::Definitions) -> Result<(), Failure> {
    let reads = |d: &&pelton_config::Document| d.spec.sources.values().any(|s| s.connector == "stdin");
    match definitions.documents.iter().find(reads) {
        Some(document) => Err(Failure::bad(format!(
            "{}: {} {} reads standard input, which worker processes do not have; `pelton run` reads it",
            definitions.name,
            document.kind,
            document.name()
        ))),
        None => Ok(()),
    }
}

impl Cluster {
    async fn start(
        args: &DevArgs,
        settings: Vec<String>,
        folder: &Path,
        home: &Path,
    ) -> Result<Cluster, Failure> {
        let logs = home.join("logs");
        let text = |parts: &[&str]| parts.iter().map(|p| (*p).to_owned()).collect::<Vec<_>>();
        let path = |p: PathBuf| p.display().to_string();
        let (broker_dir, coordinator_dir) = (path(home.join("broker")), path(home.join("coordinator")));
        let (partitions, folder) = (args.partitions.to_string(), folder.display().to_string());
        let mut arguments = text(&[
            "broker",
            "--listen",
            &args.broker_listen,
            "--http",
            "127.0.0.1:0",
            "--data-dir",
            &broker_dir,
        ]);
        arguments.extend(text(&["--partitions", &partitions]));
        let broker = Process::start("broker", &logs, &arguments).await?;
        let bootstrap = broker.address("bootstrap");
        let mut arguments = text(&["coordinator", "--grpc", &args.coordinator_grpc]);
        arguments.extend(text(&["--http", &args.coordinator_http, "--data-dir", &coordinator_dir]));
        arguments.extend(text(&["--kafka", &bootstrap, "--models", &folder, "--base-dir", &folder]));
        // The embedded queue is a single node: it keeps one copy of everything.
        arguments.extend(text(&["--create-topics", &partitions, "--allow-weak-durability"]));
        arguments.extend(settings.iter().cloned());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let executors = args.executors.unwrap_or_else(|| cores.div_ceil(args.workers.max(1)));
        if args.containers {
            let (more, environment) = crew::driver(args, &settings, Path::new(&folder), executors);
            arguments.extend(more);
            let coordinator = Process::start_with("coordinator", &logs, &arguments, &environment).await?;
            let client = Client::connect(&format!("http://{}", coordinator.address("grpc"))).await?;
            let workers = Crew::Containers(args.workers.max(1));
            return Ok(Cluster { broker, coordinator, workers, client });
        }
        let coordinator = Process::start("coordinator", &logs, &arguments).await?;
        let address = format!("http://{}", coordinator.address("grpc"));
        let worker_dir = path(home.join("worker"));
        let mut arguments = text(&["worker", "--coordinator", &address, "--http", "127.0.0.1:0"]);
        arguments.extend(text(&["--kafka", &bootstrap, "--models", &folder, "--base-dir", &folder]));
        arguments.extend(text(&["--data-dir", &worker_dir]));
        arguments.extend(settings);
        arguments.extend(text(&["--executors", &executors.to_string()]));
        let mut workers = Workers::new(args.workers.max(1), logs, arguments);
        workers.keep().await?;
        let client = Client::connect(&address).await?;
        Ok(Cluster { broker, coordinator, workers: Crew::Processes(workers), client })
    }

    /// The first of broker and coordinator that ended; the rest is no use without them.
    fn failed(&mut self, home: &Home) -> Option<Failure> {
        [&mut self.broker, &mut self.coordinator].into_iter().find_map(|process| {
            let status = process.ended()?;
            let log = home.logs().join(format!("{}.log", process.name));
            Some(Failure::unavailable(format!(
                "the {} ended ({status}); see {}",
                process.name,
                log.display()
            )))
        })
    }

    /// End coordinator and queue, after the workers. What they keep is on disk whether or not they end in time.
    async fn stop(self) {
        for process in [self.coordinator, self.broker] {
            process.terminate();
            process.join(Instant::now() + STOP).await;
        }
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
        let looked = tokio::select! {
            biased;
            // Starting a worker anew takes its time; the user's wish does not wait for that.
            () = signals::requested(shutdown.clone()) => {
                screen.note("finishing: workers commit and let go (press Ctrl-C again to end at once)");
                return Ok(());
            }
            looked = look(cluster, &mut screen) => looked,
        };
        let (pipelines, workers) = match looked {
            Ok(looked) => looked,
            // Better said by how the process ended than by a broken connection.
            Err(failure) => return Err(cluster.failed(home).unwrap_or(failure)),
        };
        if let Some(failure) = cluster.failed(home) {
            return Err(failure);
        }
        let due = Instant::now() >= next_line;
        if due {
            next_line = Instant::now() + LINE_INTERVAL;
        }
        screen.draw(&pipelines, &workers, due);
        if let Some(timer) = &mut idle {
            if let Some(stopped) = account::stopped(&pipelines) {
                return Err(Failure::new(Exit::Invariant, stopped));
            }
            if idle::observe(timer, &pipelines, Instant::now()) {
                screen.draw(&pipelines, &workers, true);
                return Ok(());
            }
        }
        // Cut short by a signal, which the next round sees.
        let _ = timeout(TICK, signals::requested(shutdown.clone())).await;
    }
}

/// Start again what ended, and ask how things stand.
async fn look(
    cluster: &mut Cluster,
    screen: &mut table::Screen,
) -> Result<(Vec<v1::Pipeline>, Vec<v1::Worker>), Failure> {
    for line in cluster.workers.keep().await? {
        screen.note(&line);
    }
    let pipelines = cluster.client.pipelines.list(ask(v1::ListPipelinesRequest::default())).await?;
    let workers = cluster.client.cluster.list_workers(ask(v1::ListWorkersRequest {})).await?;
    Ok((pipelines.into_inner().pipelines, workers.into_inner().workers))
}
