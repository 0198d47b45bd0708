//! The metrics of one process, with rules that keep them readable: names in base units, labels from a fixed list,
//! and a bound on how many series one name can grow to.

use std::any::Any;
use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus::core::{Collector, MetricVec, MetricVecBuilder};
use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec,
};
use prometheus::{IntGauge, IntGaugeVec, Opts, Registry, TextEncoder};

/// Series of one name beyond which new label values are folded into [`OVERFLOW`]: room for 2,000 tasks by a handful
/// of operators, and still a page that Prometheus reads in a second.
pub const SERIES_LIMIT: usize = 10_000;

/// The label value that stands for all series beyond the limit.
pub const OVERFLOW: &str = "_other";

/// Upper bounds for durations, seconds: 0.5 ms (a commit to a local broker) to 60 s (a drain), about 1-2-5.
pub const SECONDS: &[f64] =
    &[0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0];

/// Upper bounds for work on one batch, seconds: 10 us (a filter on a handful of records) to 1 s, 1-2-5.
pub const SHORT_SECONDS: &[f64] = &[
    0.00001, 0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5,
    1.0,
];

/// Upper bounds for sizes, bytes: 256 B to 256 MiB in steps of four.
pub const BYTES: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16384.0,
    65536.0,
    262144.0,
    1048576.0,
    4194304.0,
    16777216.0,
    67108864.0,
    268435456.0,
];

/// Upper bounds for counts of records, as in a batch: 1 to 10,000.
pub const RECORDS: &[f64] =
    &[1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0, 2000.0, 5000.0, 10000.0];

/// The labels there are. A record's key, an offset or an error text is not among them, so it cannot become one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Label {
    /// Namespace of a pipeline.
    Namespace,
    /// Name of a pipeline.
    Pipeline,
    /// Stage of a pipeline.
    Stage,
    /// Task of a stage.
    Task,
    /// Name of an operator.
    Operator,
    /// Name of a source or sink.
    End,
    /// Topic of a queue.
    Topic,
    /// Partition of a topic.
    Partition,
    /// Id of a worker: a stable name, not one made anew at each start.
    Worker,
    /// Number of an executor of a worker.
    Executor,
    /// Name of a connection to a queue.
    Connection,
    /// Name of a model.
    Model,
    /// Which of a fixed list of reasons.
    Reason,
    /// Which of a fixed list of results.
    Result,
    /// Which of a fixed list of causes.
    Cause,
    /// Which of a fixed list of states.
    State,
    /// A request's kind: an RPC method, a Kafka API name.
    Method,
    /// Incident code, as `PLT0107`.
    Code,
}

impl Label {
    /// The label's name on the page.
    pub fn name(self) -> &'static str {
        match self {
            Label::Namespace => "namespace",
            Label::Pipeline => "pipeline",
            Label::Stage => "stage",
            Label::Task => "task",
            Label::Operator => "operator",
            Label::End => "end",
            Label::Topic => "topic",
            Label::Partition => "partition",
            Label::Worker => "worker",
            Label::Executor => "executor",
            Label::Connection => "connection",
            Label::Model => "model",
            Label::Reason => "reason",
            Label::Result => "result",
            Label::Cause => "cause",
            Label::State => "state",
            Label::Method => "method",
            Label::Code => "code",
        }
    }
}

/// Why a metric was refused. Each is a mistake in the program that registers it, found at start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    /// The name breaks a rule.
    #[error("metric name `{name}` {problem}")]
    Name {
        /// The name as given.
        name: String,
        /// Which rule, and what to do.
        problem: &'static str,
    },
    /// The name is taken by a metric of another kind or with other labels.
    #[error("metric `{name}` is registered already with another kind or other labels")]
    Taken {
        /// The name as given.
        name: String,
    },
    /// The library refuses it.
    #[error("metric `{name}`: {cause}")]
    Refused {
        /// The name as given.
        name: String,
        /// What the library says.
        cause: String,
    },
}

/// The metrics of one process: a cheap handle to clone and hand down.
#[derive(Clone)]
pub struct Metrics {
    shared: Arc<Shared>,
}

struct Shared {
    registry: Registry,
    known: Mutex<BTreeMap<String, Known>>,
    before_scrape: Mutex<Vec<Box<dyn Fn() + Send + Sync>>>,
    folded: IntCounterVec,
}

struct Known {
    kind: Kind,
    help: String,
    labels: Vec<Label>,
    metric: Box<dyn Any + Send>,
}

/// What a metric is, for a page of all of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Described {
    /// Its name.
    pub name: String,
    /// `counter`, `gauge` or `histogram`.
    pub kind: &'static str,
    /// Its labels, in order.
    pub labels: Vec<&'static str>,
    /// What it tells.
    pub help: String,
}

impl std::fmt::Debug for Metrics {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Metrics").field("names", &lock(&self.shared.known).len()).finish()
    }
}

impl Metrics {
    /// Metrics of a process of this role, with `pelton_build_info` and the usual `process_*` of `/proc`.
    pub fn new(role: &str) -> Self {
        let registry = Registry::new();
        let folded = IntCounterVec::new(Opts::new(FOLDED.name, FOLDED.help), &["metric"])
            .and_then(|folded| registry.register(Box::new(folded.clone())).map(|()| folded));
        let folded = folded.expect("the first metric of a new registry, with a constant name");
        let info = Opts::new(BUILD_INFO.name, BUILD_INFO.help)
            .const_label("version", env!("CARGO_PKG_VERSION"))
            .const_label("commit", option_env!("PELTON_COMMIT").unwrap_or("unknown"))
            .const_label("role", role);
        let info = IntGauge::with_opts(info).expect("constant names");
        info.set(1);
        registry.register(Box::new(info)).expect("a new registry has no such name");
        #[cfg(target_os = "linux")]
        registry
            .register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))
            .expect("a new registry has no such name");
        let shared = Shared { registry, known: Mutex::default(), before_scrape: Mutex::default(), folded };
        Metrics { shared: Arc::new(shared) }
    }

    /// All metrics of the process that this crate and its users name, in order; `process_*` are the library's.
    pub fn described(&self) -> Vec<Described> {
        let names = |labels: &[Label]| labels.iter().map(|label| label.name()).collect();
        let told = lock(&self.shared.known);
        let own = [(FOLDED, vec!["metric"]), (BUILD_INFO, vec!["version", "commit", "role"])];
        let own = own.into_iter().map(|(said, labels)| Described {
            name: said.name.into(),
            kind: said.kind.name(),
            labels,
            help: said.help.into(),
        });
        let registered = told.iter().map(|(name, known)| Described {
            name: name.clone(),
            kind: known.kind.name(),
            labels: names(&known.labels),
            help: known.help.clone(),
        });
        let mut all: Vec<_> = own.chain(registered).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        all
    }

    /// A count that only rises; its name ends in `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Result<IntCounter, MetricError> {
        self.once(Said::new(Kind::Counter, name, help)?, || IntCounter::with_opts(Opts::new(name, help)))
    }

    /// A whole number that goes up and down: epochs, counts of tasks, 0 or 1.
    pub fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, MetricError> {
        self.once(Said::new(Kind::Gauge, name, help)?, || IntGauge::with_opts(Opts::new(name, help)))
    }

    /// A quantity that goes up and down: seconds, ratios.
    pub fn float_gauge(&self, name: &str, help: &str) -> Result<Gauge, MetricError> {
        self.once(Said::new(Kind::Gauge, name, help)?, || Gauge::with_opts(Opts::new(name, help)))
    }

    /// A distribution over `bounds` ([`SECONDS`], [`BYTES`], [`RECORDS`]); its name ends in that unit.
    pub fn histogram(&self, name: &str, help: &str, bounds: &[f64]) -> Result<Histogram, MetricError> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.once(Said::new(Kind::Histogram, name, help)?, || Histogram::with_opts(options))
    }

    /// Counters by label.
    pub fn counters(
        &self,
        name: &str,
        help: &str,
        labels: &[Label],
    ) -> Result<Family<IntCounter>, MetricError> {
        let said = Said::new(Kind::Counter, name, help)?;
        self.family(said, labels, |names| IntCounterVec::new(Opts::new(name, help), names))
    }

    /// Counters of quantities by label: seconds spent on something.
    pub fn float_counters(
        &self,
        name: &str,
        help: &str,
        labels: &[Label],
    ) -> Result<Family<Counter>, MetricError> {
        let said = Said::new(Kind::Counter, name, help)?;
        self.family(said, labels, |names| CounterVec::new(Opts::new(name, help), names))
    }

    /// Gauges of whole numbers by label.
    pub fn gauges(&self, name: &str, help: &str, labels: &[Label]) -> Result<Family<IntGauge>, MetricError> {
        let said = Said::new(Kind::Gauge, name, help)?;
        self.family(said, labels, |names| IntGaugeVec::new(Opts::new(name, help), names))
    }

    /// Gauges of quantities by label.
    pub fn float_gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[Label],
    ) -> Result<Family<Gauge>, MetricError> {
        let said = Said::new(Kind::Gauge, name, help)?;
        self.family(said, labels, |names| GaugeVec::new(Opts::new(name, help), names))
    }

    /// Distributions by label.
    pub fn histograms(
        &self,
        name: &str,
        help: &str,
        labels: &[Label],
        bounds: &[f64],
    ) -> Result<Family<Histogram>, MetricError> {
        let said = Said::new(Kind::Histogram, name, help)?;
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        self.family(said, labels, |names| HistogramVec::new(options, names))
    }

    /// Runs `update` before each reading of the page, for gauges that are cheaper to compute than to keep.
    ///
    /// It runs on the thread that answers HTTP: it must not block.
    pub fn before_scrape(&self, update: impl Fn() + Send + Sync + 'static) {
        lock(&self.shared.before_scrape).push(Box::new(update));
    }

    /// The page that Prometheus reads (text format 0.0.4).
    pub fn page(&self) -> Result<String, MetricError> {
        for update in lock(&self.shared.before_scrape).iter() {
            update();
        }
        TextEncoder::new()
            .encode_to_string(&self.shared.registry.gather())
            .map_err(|cause| MetricError::Refused { name: "(page)".into(), cause: cause.to_string() })
    }

    fn family<B>(
        &self,
        said: Said<'_>,
        labels: &[Label],
        make: impl FnOnce(&[&str]) -> prometheus::Result<MetricVec<B>>,
    ) -> Result<Family<B::M>, MetricError>
    where
        B: MetricVecBuilder + 'static,
        B::M: Clone + 'static,
        MetricVec<B>: Collector + Clone,
    {
        let names: Vec<&str> = labels.iter().map(|label| label.name()).collect();
        let folded = self.shared.folded.with_label_values(&[said.name]);
        self.register(said, labels, || {
            let all = make(&names)?;
            let collector = all.clone();
            let series = Series { labels: labels.len(), limit: SERIES_LIMIT, seen: Mutex::default(), all };
            Ok((Family { series: Arc::new(series), folded }, Box::new(collector) as Box<dyn Collector>))
        })
    }

    fn once<M>(&self, said: Said<'_>, make: impl FnOnce() -> prometheus::Result<M>) -> Result<M, MetricError>
    where
        M: Collector + Clone + 'static,
    {
        self.register(said, &[], || {
            let metric = make()?;
            Ok((metric.clone(), Box::new(metric) as Box<dyn Collector>))
        })
    }

    /// The same name asked for again gives the same metric: many tasks of one process share it.
    fn register<M: Clone + Send + 'static>(
        &self,
        said: Said<'_>,
        labels: &[Label],
        make: impl FnOnce() -> prometheus::Result<(M, Box<dyn Collector>)>,
    ) -> Result<M, MetricError> {
        let Said { kind, name, help } = said;
        let mut known = lock(&self.shared.known);
        if let Some(present) = known.get(name) {
            let same = present.labels == labels;
            let metric = present.metric.downcast_ref::<M>().filter(|_| same);
            return metric.cloned().ok_or_else(|| MetricError::Taken { name: name.into() });
        }
        let refused =
            |cause: prometheus::Error| MetricError::Refused { name: name.into(), cause: cause.to_string() };
        let (metric, collector) = make().map_err(refused)?;
        self.shared.registry.register(collector).map_err(refused)?;
        let (help, labels, own) = (help.to_owned(), labels.to_vec(), Box::new(metric.clone()));
        known.insert(name.into(), Known { kind, help, labels, metric: own });
        Ok(metric)
    }
}

/// Metrics of one name, one for each set of label values. Get a metric once with [`with`](Family::with) and keep it:
/// the look-up takes a lock and hashes the values, the metric itself is one atomic number.
pub struct Family<M> {
    series: Arc<dyn AnySeries<M>>,
    folded: IntCounter,
}

impl<M> Clone for Family<M> {
    fn clone(&self) -> Self {
        Family { series: Arc::clone(&self.series), folded: self.folded.clone() }
    }
}

impl<M> std::fmt::Debug for Family<M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Family").finish_non_exhaustive()
    }
}

impl<M> Family<M> {
    /// The metric with these label values, in the order of the labels at registration.
    ///
    /// Beyond [`SERIES_LIMIT`] new values are folded into one series whose values are all [`OVERFLOW`], and
    /// `pelton_metric_series_folded_total` rises. Missing values are empty, surplus ones are ignored (in a debug
    /// build both panic).
    pub fn with(&self, values: &[&str]) -> M {
        let (metric, folded) = self.series.get(values);
        if folded {
            self.folded.inc();
        }
        metric
    }

    /// Forgets one series: a task that left, a pipeline that was deleted. Its last value is gone from the page.
    pub fn remove(&self, values: &[&str]) {
        self.series.remove(values);
    }

    /// Forgets every series whose first label values are these (for labels that start with pipeline, task, ...).
    pub fn remove_prefix(&self, values: &[&str]) {
        self.series.remove_prefix(values);
    }
}

trait AnySeries<M>: Send + Sync {
    fn get(&self, values: &[&str]) -> (M, bool);
    fn remove(&self, values: &[&str]);
    fn remove_prefix(&self, values: &[&str]);
}

struct Series<B: MetricVecBuilder> {
    labels: usize,
    limit: usize,
    seen: Mutex<HashSet<Vec<String>>>,
    all: MetricVec<B>,
}

impl<B: MetricVecBuilder> AnySeries<B::M> for Series<B> {
    fn get(&self, values: &[&str]) -> (B::M, bool) {
        debug_assert_eq!(values.len(), self.labels, "one value for each label: {values:?}");
        let mut key: Vec<String> = values.iter().map(|&value| value.to_owned()).collect();
        key.resize(self.labels, String::new());
        let mut seen = lock(&self.seen);
        let folded = !seen.contains(&key) && seen.len() >= self.limit;
        if folded {
            key.fill(OVERFLOW.to_owned());
        } else if !seen.contains(&key) {
            seen.insert(key.clone());
        }
        (self.all.with_label_values(&key), folded)
    }

    fn remove(&self, values: &[&str]) {
        let mut seen = lock(&self.seen);
        if seen.remove(&values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>()) {
            // It may have been folded or never used: nothing to forget then.
            let _ = self.all.remove_label_values(values);
        }
    }

    fn remove_prefix(&self, values: &[&str]) {
        let mut seen = lock(&self.seen);
        let starts =
            |key: &Vec<String>| key.len() >= values.len() && key.iter().zip(values).all(|(a, b)| a == b);
        for key in seen.extract_if(starts) {
            let _ = self.all.remove_label_values(&key);
        }
    }
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

/// What a metric is called and tells.
#[derive(Clone, Copy)]
struct Said<'a> {
    kind: Kind,
    name: &'a str,
    help: &'a str,
}

impl<'a> Said<'a> {
    fn new(kind: Kind, name: &'a str, help: &'a str) -> Result<Self, MetricError> {
        check_name(name, kind)?;
        Ok(Said { kind, name, help })
    }
}

const FOLDED: Said<'static> = Said {
    kind: Kind::Counter,
    name: "pelton_metric_series_folded_total",
    help: "Times a new series was counted as `_other` because its metric had reached the limit.",
};

const BUILD_INFO: Said<'static> =
    Said { kind: Kind::Gauge, name: "pelton_build_info", help: "Always 1; the labels tell what is running." };

/// Name rules of Prometheus' own guide, kept here so that a dashboard never guesses a unit.
fn check_name(name: &str, kind: Kind) -> Result<(), MetricError> {
    const NOT_BASE_UNITS: [&str; 12] = [
        "ms",
        "millis",
        "milliseconds",
        "us",
        "micros",
        "microseconds",
        "nanoseconds",
        "minutes",
        "kb",
        "mb",
        "kilobytes",
        "percent",
    ];
    let problem = if !name.starts_with("pelton_") {
        "must start with `pelton_`"
    } else if !name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_') {
        "must be lower case letters, digits and `_`"
    } else if name.split('_').any(|word| NOT_BASE_UNITS.contains(&word)) {
        "must use a base unit: seconds, bytes, ratio"
    } else if (kind == Kind::Counter) != name.ends_with("_total") {
        "must end in `_total` if it is a counter, and only then"
    } else if kind == Kind::Histogram
        && !["_seconds", "_bytes", "_records"].iter().any(|unit| name.ends_with(unit))
    {
        "must end in `_seconds`, `_bytes` or `_records` if it is a histogram"
    } else {
        return Ok(());
    };
    Err(MetricError::Name { name: name.into(), problem })
}

/// Metrics stay usable after a panic elsewhere: the guarded data is never left half-changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
