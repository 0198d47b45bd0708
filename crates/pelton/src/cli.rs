//! The command line.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{path::PathBuf, time::Duration};

/// Container-native stream processing.
#[derive(Debug, Parser)]
#[command(name = "pelton", version, about, max_term_width = 110)]
pub struct Cli {
    /// Node settings, YAML (see `pelton config show`).
    #[arg(long, global = true, value_name = "FILE", env = "PELTON_CONFIG")]
    pub config: Option<PathBuf>,
    /// How log lines look: auto, human, json.
    #[arg(long, global = true, value_name = "FORMAT")]
    pub log_format: Option<String>,
    /// What is logged: a level, or directives such as `info,pelton_worker=debug`.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub log_level: Option<String>,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Everything on this machine: broker, coordinator, workers, and the definitions of a file.
    Dev(DevArgs),
    /// One process without a coordinator; ends when bounded sources end.
    Run(RunArgs),
    /// Check definition files.
    Validate(ValidateArgs),
    /// Run the tests of definition files.
    Test(TestArgs),
    /// Print the JSON Schema of definition files.
    Schema,
    /// List the operators of pipelines, or show the page of one.
    Operators(OperatorsArgs),
    /// The embedded queue: one node, for development, tests and edge boxes.
    Broker(BrokerArgs),
    /// Assigns tasks to workers.
    Coordinator(CoordinatorArgs),
    /// Runs tasks.
    Worker(WorkerArgs),
    /// Looks after `Pipeline` resources of a Kubernetes cluster.
    Operator(OperatorArgs),
    /// Submit a definition file, new or changed.
    Apply(ApplyArgs),
    /// List pipelines, tasks, workers or incidents.
    Get(GetArgs),
    /// Everything about one thing.
    Describe(DescribeArgs),
    /// Stop and forget a pipeline; its topics and offsets stay.
    Delete(NamedArgs),
    /// Stop a pipeline at a commit.
    Pause(NamedArgs),
    /// Go on with a pipeline that was paused or stopped by an incident.
    Resume(NamedArgs),
    /// Go back to an earlier revision of a pipeline.
    Rollback(RollbackArgs),
    /// Note where a pipeline stands, to be able to go back there.
    #[command(subcommand)]
    Savepoint(SavepointCommand),
    /// Set by hand where a paused pipeline goes on.
    #[command(subcommand)]
    Task(TaskCommand),
    /// Take the tasks off a worker.
    Drain(DrainArgs),
    /// Watch live records of a pipeline.
    Tap(TapArgs),
    /// What applying a definition file would change; exit code 1 if anything.
    Diff(DiffArgs),
    /// What workers logged about a pipeline.
    Logs(LogsArgs),
    /// Rates, lag and load, live.
    Top(TopArgs),
    /// Give a pipeline another number of tasks, or a coordinator with the driver `docker` another number of workers.
    Scale(ScaleArgs),
    /// Follow, list and undo revisions of a pipeline.
    #[command(subcommand)]
    Rollout(RolloutCommand),
    /// Records that could not be processed: look, write back, discard.
    #[command(subcommand)]
    Dlq(DlqCommand),
    /// Measure the throughput and latency of a queue.
    Bench(BenchArgs),
    /// Ask a role whether it is ready; for health checks where there is no other program.
    Health(HealthArgs),
    /// Print a completion script for a shell.
    Completion {
        /// The shell.
        shell: clap_complete::Shell,
    },
    /// Print the manual page, or write one page for every command.
    Man {
        /// Folder for the pages.
        #[arg(long, value_name = "DIR")]
        dir: Option<PathBuf>,
    },
    /// The settings of a node.
    #[command(subcommand)]
    Config(ConfigCommand),
}

/// How results are printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// A table on a terminal, plain columns when piped.
    #[default]
    Table,
    /// The table with more columns.
    Wide,
    /// JSON.
    Json,
    /// YAML.
    Yaml,
}

/// Where the coordinator is, and how to print.
#[derive(Clone, Debug, Args)]
pub struct ClientArgs {
    /// The coordinator's gRPC address.
    #[arg(long, value_name = "URL", env = "PELTON_COORDINATOR", default_value = "http://127.0.0.1:7461")]
    pub coordinator: String,
    /// Namespace.
    #[arg(short, long, default_value = "default")]
    pub namespace: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `pelton dev`
#[derive(Debug, Args)]
pub struct DevArgs {
    /// Definitions: a pipeline, and perhaps a feed for it.
    pub file: PathBuf,
    /// Worker processes.
    #[arg(long, default_value_t = 2)]
    pub workers: usize,
    /// Workers as containers of the Docker engine of this machine, on its network.
    #[arg(long)]
    pub containers: bool,
    /// Image of these containers.
    #[arg(long, value_name = "IMAGE", default_value = "localhost/pelton:dev", requires = "containers")]
    pub image: String,
    /// Executor threads of each worker; one per core shared between the workers unless given.
    #[arg(long)]
    pub executors: Option<usize>,
    /// Keep queue, pipelines and positions here; without it they are dropped at the end.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// End once every input has been drained for this long, and print the account.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub until_idle: Option<Duration>,
    /// Where the queue listens.
    #[arg(long, value_name = "H:P", default_value = "127.0.0.1:0")]
    pub broker_listen: String,
    /// Where the coordinator's gRPC listens.
    #[arg(long, value_name = "H:P", default_value = "127.0.0.1:0")]
    pub coordinator_grpc: String,
    /// Where the coordinator's HTTP listens.
    #[arg(long, value_name = "H:P", default_value = "127.0.0.1:0")]
    pub coordinator_http: String,
    /// Partitions of topics that are created.
    #[arg(long, default_value_t = 4)]
    pub partitions: u32,
    /// How to print the account.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `pelton run`
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Definitions.
    pub file: PathBuf,
    /// Bootstrap servers.
    #[arg(long, value_name = "BOOTSTRAP")]
    pub kafka: Option<String>,
    /// Executor threads.
    #[arg(long)]
    pub executors: Option<usize>,
    /// Where positions of sources that are no queue are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where models are looked up; the file's folder unless given.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// Where HTTP listens (health, metrics); nowhere unless given.
    #[arg(long, value_name = "H:P")]
    pub http: Option<String>,
    /// End once every input has been drained for this long.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub until_idle: Option<Duration>,
    /// How to print the account.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `pelton validate`
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Definition files.
    #[arg(required = true)]
    pub files: Vec<PathBuf>,
    /// Where models are looked up; each file's folder unless given.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
}

/// `pelton operators`
#[derive(Debug, Args)]
pub struct OperatorsArgs {
    /// What to do with them; they are listed unless given.
    #[command(subcommand)]
    pub command: Option<OperatorsCommand>,
    /// How to print.
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Format,
}

/// What to do with operators.
#[derive(Debug, Subcommand)]
pub enum OperatorsCommand {
    /// The page of an operator: what it does, its options, an example.
    Show {
        /// Which.
        name: String,
    },
}

/// `pelton broker`
#[derive(Debug, Args)]
pub struct BrokerArgs {
    /// Where it listens, by commas; a protocol in front is PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL.
    #[arg(long, value_name = "[PROTOCOL://]H:P")]
    pub listen: Option<String>,
    /// What clients are told to connect to, if it is another address; with the protocol of its listener if there are
    /// several.
    #[arg(long, value_name = "[PROTOCOL://]H:P")]
    pub advertised: Option<String>,
    /// Listen beyond this machine without TLS and login: whoever reaches the port may do everything.
    #[arg(long)]
    pub allow_unsecured: bool,
    /// Certificate of the listeners with TLS, and its chain: PEM, read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub tls_certificate: Option<PathBuf>,
    /// Its private key: PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_key: Option<PathBuf>,
    /// Clients need a certificate of one of these authorities: PEM.
    #[arg(long, value_name = "FILE")]
    pub tls_client_ca: Option<PathBuf>,
    /// How clients may log in, by commas: PLAIN, SCRAM-SHA-256, SCRAM-SHA-512.
    #[arg(long, value_name = "NAMES")]
    pub sasl_mechanisms: Option<String>,
    /// How long a login counts before it must be renewed.
    #[arg(long, value_name = "TIME")]
    pub session_lifetime: Option<String>,
    /// A user to make if there is none of this name, and where the password is.
    #[arg(long, value_name = "NAME=env:VARIABLE|NAME=file:PATH")]
    pub first_user: Option<String>,
    /// Where HTTP listens (health, metrics).
    #[arg(long, value_name = "H:P")]
    pub http: Option<String>,
    /// Where records are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Partitions of a topic created without a number.
    #[arg(long, default_value_t = 4)]
    pub partitions: u32,
    /// When records are synced to the device: before each acknowledgement, every second, or by the system.
    #[arg(long, default_value = "interval", value_parser = ["always", "interval", "never"])]
    pub fsync: String,
    #[command(flatten)]
    pub child: ChildArgs,
}

/// `pelton coordinator`
#[derive(Debug, Args)]
pub struct CoordinatorArgs {
    /// Where workers and clients connect.
    #[arg(long, value_name = "H:P")]
    pub grpc: Option<String>,
    /// Where HTTP listens (health, metrics).
    #[arg(long, value_name = "H:P")]
    pub http: Option<String>,
    /// Where pipelines and grants are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Bootstrap servers.
    #[arg(long, value_name = "BOOTSTRAP")]
    pub kafka: Option<String>,
    /// Where models are looked up.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// How long a worker counts as alive without a heartbeat.
    #[arg(long, value_name = "TIME")]
    pub lease: Option<String>,
    /// Take exactly-once pipelines on topics that may lose acknowledged records (for development).
    #[arg(long)]
    pub allow_weak_durability: bool,
    /// What makes workers exist: static, process, docker.
    #[arg(long)]
    pub driver: Option<String>,
    /// Workers to keep with the drivers `process` and `docker`.
    #[arg(long)]
    pub workers: Option<usize>,
    /// Create missing topics with this many partitions.
    #[arg(long, value_name = "PARTITIONS")]
    pub create_topics: Option<u32>,
    #[command(flatten)]
    pub child: ChildArgs,
}

/// `pelton worker`
#[derive(Debug, Args)]
pub struct WorkerArgs {
    /// Where the coordinator listens.
    #[arg(long, value_name = "URL")]
    pub coordinator: Option<String>,
    /// Name of the worker.
    #[arg(long)]
    pub id: Option<String>,
    /// Where HTTP listens (health, metrics).
    #[arg(long, value_name = "H:P")]
    pub http: Option<String>,
    /// Bootstrap servers.
    #[arg(long, value_name = "BOOTSTRAP")]
    pub kafka: Option<String>,
    /// Executor threads.
    #[arg(long)]
    pub executors: Option<usize>,
    /// Tasks it may hold.
    #[arg(long, default_value_t = 1000)]
    pub capacity: u32,
    /// Where positions of sources that are no queue are kept.
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Where models are looked up.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// For finishing and committing on SIGTERM.
    #[arg(long, value_name = "TIME")]
    pub drain_timeout: Option<String>,
    #[command(flatten)]
    pub child: ChildArgs,
}

/// `pelton operator`
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct OperatorArgs {
    /// What to do; it runs unless given.
    #[command(subcommand)]
    pub command: Option<OperatorCommand>,
    /// Where the coordinator listens.
    #[arg(long, value_name = "URL")]
    pub coordinator: Option<String>,
    /// Where HTTP listens (health, metrics).
    #[arg(long, value_name = "H:P")]
    pub http: Option<String>,
    /// Namespace of the resources it looks after; its own unless given, `*` for all.
    #[arg(long)]
    pub namespace: Option<String>,
    /// StatefulSet of workers whose replicas follow the tasks; they are left alone unless given.
    #[arg(long, value_name = "NAME")]
    pub workers: Option<String>,
    /// Fewest workers.
    #[arg(long)]
    pub min_workers: Option<u32>,
    /// Most workers.
    #[arg(long)]
    pub max_workers: Option<u32>,
    /// Tasks that one worker is to have, about.
    #[arg(long)]
    pub tasks_per_worker: Option<u32>,
    /// How long fewer workers must have been enough before there are fewer.
    #[arg(long, value_name = "TIME")]
    pub scale_in_after: Option<String>,
}

/// What the operator can do beside running.
#[derive(Debug, Subcommand)]
pub enum OperatorCommand {
    /// Print the custom resource definition, for `kubectl apply -f -`.
    Crd,
}

/// For processes that another Pelton process starts.
#[derive(Clone, Debug, Default, Args)]
pub struct ChildArgs {
    /// End when standard input closes: the parent is gone.
    #[arg(long, hide = true)]
    pub lifeline: bool,
    /// Write a line of JSON to standard output once ready: the addresses it listens on.
    #[arg(long, hide = true)]
    pub announce: bool,
    /// Folder that relative paths of file sources and sinks start from.
    #[arg(long, hide = true, value_name = "DIR")]
    pub base_dir: Option<PathBuf>,
}

/// `pelton test`
#[derive(Debug, Args)]
pub struct TestArgs {
    /// Definition files; `pipeline.yaml` unless given.
    pub files: Vec<PathBuf>,
    /// Only tests whose `PIPELINE: NAME` holds this text.
    #[arg(long, value_name = "TEXT")]
    pub filter: Option<String>,
    /// Run again whenever a file changes.
    #[arg(short, long)]
    pub watch: bool,
    /// Write a JUnit report here.
    #[arg(long, value_name = "FILE")]
    pub junit: Option<PathBuf>,
    /// Where models are looked up; the file's folder unless given.
    #[arg(long, value_name = "DIR")]
    pub models: Option<PathBuf>,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// The definition file that a command is about.
#[derive(Debug, Args)]
pub struct DefinitionArgs {
    /// Definition file, `-` for standard input.
    #[arg(value_name = "FILE", required_unless_present = "filename")]
    pub file: Option<PathBuf>,
    /// The same, as kubectl has it.
    #[arg(short, long, value_name = "FILE", conflicts_with = "file")]
    pub filename: Option<PathBuf>,
}

/// `pelton apply`
#[derive(Debug, Args)]
pub struct ApplyArgs {
    #[command(flatten)]
    pub definition: DefinitionArgs,
    /// Check and show what would change.
    #[arg(long)]
    pub dry_run: bool,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// What to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Resource {
    /// Pipelines.
    #[value(alias = "pipeline", alias = "pl")]
    Pipelines,
    /// Tasks.
    #[value(alias = "task")]
    Tasks,
    /// Workers.
    #[value(alias = "worker")]
    Workers,
    /// Incidents.
    #[value(alias = "incident")]
    Incidents,
}

/// `pelton get`
#[derive(Debug, Args)]
pub struct GetArgs {
    /// pipelines, tasks, workers or incidents.
    #[arg(value_enum)]
    pub what: Resource,
    /// One of them; for tasks and incidents, a pipeline.
    pub name: Option<String>,
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    /// Go on: print what changed, every second.
    #[arg(short, long)]
    pub watch: bool,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `pelton diff`
#[derive(Debug, Args)]
pub struct DiffArgs {
    #[command(flatten)]
    pub definition: DefinitionArgs,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `pelton logs`
#[derive(Debug, Args)]
pub struct LogsArgs {
    /// The pipeline.
    pub name: String,
    /// Go on with new lines.
    #[arg(short, long)]
    pub follow: bool,
    /// Newest lines of each worker to begin with.
    #[arg(long, default_value_t = 100)]
    pub tail: u32,
    /// Only this worker.
    #[arg(long)]
    pub worker: Option<String>,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `pelton top`
#[derive(Debug, Args)]
pub struct TopArgs {
    /// pipelines, tasks or workers.
    #[arg(value_enum, default_value = "pipelines")]
    pub what: TopResource,
    /// Print one table and end; so it is where standard output is no terminal.
    #[arg(long)]
    pub once: bool,
    /// Rates are averages over this.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "1s")]
    pub interval: Duration,
    /// All namespaces.
    #[arg(short = 'A', long)]
    pub all_namespaces: bool,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// What `top` shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum TopResource {
    /// Pipelines.
    #[value(alias = "pipeline", alias = "pl")]
    Pipelines,
    /// Tasks.
    #[value(alias = "task")]
    Tasks,
    /// Workers.
    #[value(alias = "worker")]
    Workers,
}

/// `pelton scale`
#[derive(Debug, Args)]
pub struct ScaleArgs {
    /// The pipeline, the word `pipeline` may stand before it; or `workers` and their number.
    #[arg(required = true, num_args = 1..=2, value_name = "[pipeline] NAME | workers N")]
    pub name: Vec<String>,
    /// Tasks of each stage of the pipeline; no more than its topics have partitions.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub tasks: Option<u32>,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `pelton rollout`
#[derive(Debug, Subcommand)]
pub enum RolloutCommand {
    /// Wait until every task runs the newest revision.
    Status {
        /// The pipeline.
        name: String,
        /// Give up after this.
        #[arg(long, value_name = "TIME", value_parser = duration)]
        timeout: Option<Duration>,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List the revisions and what each changed.
    History {
        /// The pipeline.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Go back to an earlier revision.
    Undo(RollbackArgs),
}

/// Which dead letters.
#[derive(Clone, Debug, Default, Args)]
pub struct LetterFilter {
    /// Only those that this operator or sink refused.
    #[arg(long)]
    pub operator: Option<String>,
    /// Only those whose cause contains this.
    #[arg(long, value_name = "TEXT")]
    pub cause: Option<String>,
}

/// A dead letter: partition and offset in the dead-letter topic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LetterId {
    /// The partition.
    pub partition: i32,
    /// The offset.
    pub offset: i64,
}

impl std::str::FromStr for LetterId {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once(':').and_then(|(p, o)| Some((p.parse().ok()?, o.parse().ok()?)));
        let (partition, offset) =
            parts.ok_or_else(|| format!("`{text}` is not of the form PARTITION:OFFSET, such as 0:12"))?;
        Ok(Self { partition, offset })
    }
}

impl std::fmt::Display for LetterId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.partition, self.offset)
    }
}

/// `pelton dlq`
#[derive(Debug, Subcommand)]
pub enum DlqCommand {
    /// List the dead letters that wait.
    List {
        /// The pipeline.
        name: String,
        /// At most so many.
        #[arg(long, default_value_t = 100)]
        limit: u32,
        #[command(flatten)]
        filter: LetterFilter,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Show one dead letter whole.
    Show {
        /// The pipeline.
        name: String,
        /// PARTITION:OFFSET, as `list` shows it.
        letter: LetterId,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Write dead letters back to where they were read, and take them off the list.
    Replay(DlqSettleArgs),
    /// Take dead letters off the list.
    Discard(DlqSettleArgs),
}

/// `pelton dlq replay|discard`
#[derive(Debug, Args)]
pub struct DlqSettleArgs {
    /// The pipeline.
    pub name: String,
    /// PARTITION:OFFSET of each, as `list` shows them.
    pub letters: Vec<LetterId>,
    /// All that wait and match.
    #[arg(long, conflicts_with = "letters")]
    pub all: bool,
    #[command(flatten)]
    pub filter: LetterFilter,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `pelton bench`
#[derive(Debug, Args)]
pub struct BenchArgs {
    /// The queue: kafka://HOST:PORT[/TOPIC]. Without a topic one is made, and deleted at the end.
    pub url: String,
    /// Time of each part.
    #[arg(long, value_name = "TIME", value_parser = duration, default_value = "5s")]
    pub duration: Duration,
    /// Records per second of the latency part.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub rate: u32,
    /// Bytes of a value.
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(16..=1_000_000))]
    pub size: u32,
    /// Partitions of a topic that is made.
    #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub partitions: u32,
    /// none, lz4, snappy, zstd or gzip.
    #[arg(long, default_value = "lz4", value_parser = ["none", "lz4", "snappy", "zstd", "gzip"])]
    pub compression: String,
    /// How to print.
    #[arg(short, long, value_enum, default_value_t)]
    pub output: Format,
}

/// `pelton health`
#[derive(Debug, Args)]
pub struct HealthArgs {
    /// Where its HTTP listens.
    #[arg(value_name = "H:P")]
    pub address: String,
    /// Ask whether it lives instead: it may wait for others and be well.
    #[arg(long)]
    pub live: bool,
}

/// What can be described.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Described {
    /// A pipeline with its operators, tasks and incidents.
    #[value(alias = "pipelines", alias = "pl")]
    Pipeline,
    /// A worker with its tasks.
    #[value(alias = "workers")]
    Worker,
}

/// `pelton describe`
#[derive(Debug, Args)]
pub struct DescribeArgs {
    /// pipeline or worker.
    #[arg(value_enum)]
    pub what: Described,
    /// Which.
    pub name: String,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// A pipeline.
#[derive(Debug, Args)]
pub struct NamedArgs {
    /// The pipeline; the word `pipeline` may stand before it.
    #[arg(required = true, num_args = 1..=2, value_name = "[pipeline] NAME")]
    pub name: Vec<String>,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `pelton savepoint`
#[derive(Debug, Subcommand)]
pub enum SavepointCommand {
    /// Keep the revision and the committed offsets of a pipeline under a name.
    Create {
        /// The pipeline.
        pipeline: String,
        /// Name of the savepoint; made from the time unless given.
        #[arg(default_value = "")]
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// List the savepoints of a pipeline.
    List {
        /// The pipeline.
        pipeline: String,
        #[command(flatten)]
        client: ClientArgs,
    },
    /// Forget a savepoint.
    Delete {
        /// The pipeline.
        pipeline: String,
        /// The savepoint.
        name: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// `pelton task`
#[derive(Debug, Subcommand)]
pub enum TaskCommand {
    /// Have a paused pipeline go on at other offsets. Records before them are skipped, records after them that were
    /// processed are processed again; the audit in `pelton describe` keeps who did it and why.
    SkipTo {
        /// The pipeline.
        pipeline: String,
        /// A partition and the next offset to read, such as orders/3=1200.
        #[arg(required = true, value_name = "TOPIC/PARTITION=OFFSET")]
        positions: Vec<PositionArg>,
        /// Why, for the audit.
        #[arg(long)]
        reason: String,
        #[command(flatten)]
        client: ClientArgs,
    },
}

/// A partition and an offset.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PositionArg {
    /// The topic.
    pub topic: String,
    /// The partition.
    pub partition: i32,
    /// The next offset to read.
    pub offset: i64,
}

impl std::str::FromStr for PositionArg {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts = text.split_once('=').and_then(|(of, offset)| {
            let (topic, partition) = of.rsplit_once('/')?;
            Some((topic.to_owned(), partition.parse().ok()?, offset.parse().ok()?))
        });
        let (topic, partition, offset) = parts.ok_or_else(|| {
            format!("`{text}` is not of the form TOPIC/PARTITION=OFFSET, such as orders/3=1200")
        })?;
        Ok(Self { topic, partition, offset })
    }
}

/// `pelton rollback`
#[derive(Debug, Args)]
pub struct RollbackArgs {
    /// The pipeline.
    pub name: String,
    /// The revision; the one before the newest unless given.
    #[arg(long, default_value_t = 0)]
    pub to_revision: u64,
    /// Instead of a revision: that of this savepoint, and its offsets. The pipeline is to be paused; what it wrote since
    /// stays, and is written again.
    #[arg(long, value_name = "NAME", conflicts_with = "to_revision")]
    pub to_savepoint: Option<String>,
    /// Why, for the audit.
    #[arg(long, default_value = "")]
    pub reason: String,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `pelton drain`
#[derive(Debug, Args)]
pub struct DrainArgs {
    /// The worker; the word `worker` may stand before it. In a worker's own container it is known.
    #[arg(required = true, num_args = 1..=2, value_name = "[worker] ID", env = "PELTON__WORKER__ID")]
    pub worker: Vec<String>,
    /// Return when it has no task any more; fail after this time.
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub wait: Option<Duration>,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `pelton tap`
#[derive(Debug, Args)]
pub struct TapArgs {
    /// The pipeline.
    pub name: String,
    /// A source, an operator or a sink; what goes into the sinks unless given.
    #[arg(long, default_value = "")]
    pub at: String,
    /// End after this many records.
    #[arg(long, default_value_t = 0)]
    pub limit: u32,
    #[command(flatten)]
    pub client: ClientArgs,
}

/// `pelton config`
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Print the settings this node would run with, secrets hidden.
    Show {
        /// Say where each value came from.
        #[arg(long)]
        origin: bool,
        /// How to print.
        #[arg(short, long, value_enum, default_value_t)]
        output: Format,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    pelton_config::units::parse_duration(text)
}
