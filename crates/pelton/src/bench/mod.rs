//! `pelton bench`: what a queue gives, through the same clients that pipelines use.
//!
//! Three parts: write as fast as it takes, read all of it back, then write at a steady rate and measure the time from
//! the moment a record was due to the moment it was read. Due, not sent: when the queue stalls, the records that pile
//! up behind the stall count with the time they waited.

mod load;
#[cfg(test)]
mod queue;

use crate::{
    cli::{BenchArgs, Format},
    components,
    exit::{Exit, Failure},
    output, signals,
};
use hdrhistogram::Histogram;
use indicatif::{ProgressBar, ProgressStyle};
use load::{Ends, Load};
use pelton_sdk::{
    Connection, ConnectorFactory, EndError, ErrorKind, TopicCatalog, connection::DEFAULT_CONNECTION,
};
use serde_json::{Value, json};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::sync::watch;

/// `pelton bench`
pub async fn bench(args: BenchArgs) -> Result<(), Failure> {
    let target = Target::parse(&args.url)?;
    let connection = Connection { brokers: target.brokers.clone(), ..Connection::default() };
    let around = components::Surroundings {
        connections: [(DEFAULT_CONNECTION.to_owned(), connection)].into(),
        client_id: "pelton-bench",
        base_dir: Path::new("."),
        data_dir: Path::new(".pelton"),
    };
    let registry = components::registry(&around)?;
    let factory = registry.find_connector(target.connector).cloned();
    let factory = factory.ok_or_else(|| Failure::unexpected("this binary lacks the connector"))?;
    let catalog =
        factory.catalog(&json!({})).ok_or_else(|| Failure::unexpected("this queue has no topics"))?;
    let (topic, made) = match &target.topic {
        Some(topic) => (topic.clone(), false),
        None => (format!("pelton-bench-{}", uuid::Uuid::new_v4().simple()), true),
    };
    let stop = signals::shutdown()?;
    if made {
        catalog.create(&topic, args.partitions).await.map_err(refused)?;
    }
    let measured = measure(&args, &target, factory, &*catalog, &topic, stop).await;
    // However it ended: a measurement that was interrupted leaves no topic either.
    if made && let Err(e) = catalog.delete(&topic).await {
        eprintln!("warning: topic {topic} is left behind: {e}");
    }
    report(&args, &measured?.ok_or_else(|| Failure::unexpected("interrupted; nothing was measured"))?)
}

async fn measure(
    args: &BenchArgs,
    target: &Target,
    factory: Arc<dyn ConnectorFactory>,
    catalog: &dyn TopicCatalog,
    topic: &str,
    stop: watch::Receiver<bool>,
) -> Result<Option<Figures>, Failure> {
    let partitions = catalog.partitions(topic).await.map_err(refused)?.ok_or_else(|| {
        Failure::bad(format!(
            "there is no topic {topic} at {}; create it, or name none and one is made for the time of the measurement",
            target.brokers
        ))
    })?;
    let load = Load {
        ends: Ends { factory, topic: topic.to_owned(), partitions },
        duration: args.duration,
        rate: args.rate,
        size: args.size as usize,
        compression: args.compression.clone(),
        progress: bar(args.duration),
        stop,
    };
    let measured = tokio::task::spawn_blocking(move || load.run()).await;
    measured.map_err(|e| Failure::unexpected(e.to_string()))?.map_err(refused)
}

/// A queue's address.
#[derive(Debug, PartialEq, Eq)]
struct Target {
    connector: &'static str,
    brokers: String,
    topic: Option<String>,
}

impl Target {
    fn parse(url: &str) -> Result<Target, Failure> {
        let wrong = |why: String| Err(Failure::new(Exit::Usage, why));
        let Some((scheme, rest)) = url.split_once("://") else {
            return wrong(format!("`{url}` is not of the form kafka://HOST:PORT[/TOPIC]"));
        };
        if scheme != "kafka" {
            return wrong(format!("`{scheme}://` cannot be measured by this version; it knows kafka://"));
        }
        let (brokers, topic) = rest.split_once('/').map_or((rest, ""), |(b, t)| (b, t));
        if let Some(fault) = pelton_kafka::brokers_fault(brokers) {
            return wrong(format!("`{url}`: {fault}"));
        }
        let topic = (!topic.is_empty()).then(|| topic.to_owned());
        if let Some(fault) = topic.as_deref().and_then(pelton_kafka::topic_fault) {
            return wrong(format!("`{url}`: {fault}"));
        }
        Ok(Target { connector: "kafka", brokers: brokers.to_owned(), topic })
    }
}

/// What was measured.
struct Figures {
    produced: Rate,
    fetched: Rate,
    /// Microseconds from due to read.
    latency: Histogram<u64>,
}

/// Records over a time.
#[derive(Clone, Copy)]
struct Rate {
    records: u64,
    bytes: u64,
    seconds: f64,
}

impl Rate {
    fn per_second(&self) -> f64 {
        self.records as f64 / self.seconds.max(1e-9)
    }

    fn as_json(self) -> Value {
        json!({
            "records": self.records, "bytes": self.bytes, "seconds": self.seconds,
            "recordsPerSecond": self.per_second().round(),
            "bytesPerSecond": (self.bytes as f64 / self.seconds.max(1e-9)).round(),
        })
    }

    fn as_text(self) -> String {
        format!(
            "{} records/s, {:.1} MB/s ({} records in {:.2} s)",
            output::count(self.per_second() as u64),
            self.bytes as f64 / self.seconds.max(1e-9) / 1e6,
            output::count(self.records),
            self.seconds
        )
    }
}

const QUANTILES: [(&str, f64); 5] =
    [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];

fn report(args: &BenchArgs, figures: &Figures) -> Result<(), Failure> {
    let at = |quantile| figures.latency.value_at_quantile(quantile) as f64 / 1e3;
    if matches!(args.output, Format::Json | Format::Yaml) {
        let latency: serde_json::Map<String, Value> =
            QUANTILES.iter().map(|(name, q)| ((*name).to_owned(), at(*q).into())).collect();
        return output::value(
            &json!({
                "url": args.url, "valueBytes": args.size, "compression": args.compression,
                "produce": figures.produced.as_json(), "fetch": figures.fetched.as_json(),
                "latencyMs": latency, "latencyRate": args.rate, "latencyRecords": figures.latency.len(),
            }),
            args.output,
        );
    }
    output::print(&format!("produce  {}", figures.produced.as_text()));
    output::print(&format!("fetch    {}", figures.fetched.as_text()));
    let line: Vec<String> = QUANTILES.iter().map(|(name, q)| format!("{name} {:.2} ms", at(*q))).collect();
    output::print(&format!("latency  {} (at {} records/s, from due to read)", line.join(", "), args.rate));
    Ok(())
}

fn bar(duration: Duration) -> ProgressBar {
    // Hidden by itself where standard error is no terminal.
    let bar = ProgressBar::new(3 * duration.as_millis() as u64);
    let style = ProgressStyle::with_template("{bar:40} {percent:>3}% {msg}");
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn refused(e: EndError) -> Failure {
    match e.kind {
        ErrorKind::Retry => Failure::unavailable(format!("[{}] {e}", e.code)),
        _ => Failure::bad(format!("[{}] {e}", e.code)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_brokers_and_perhaps_a_topic() {
        let plain = Target::parse("kafka://a:1,b:2").unwrap();
        assert_eq!((plain.brokers.as_str(), plain.topic), ("a:1,b:2", None));
        assert_eq!(Target::parse("kafka://a:1/t").unwrap().topic.as_deref(), Some("t"));
        for (url, part) in
            [("a:1", "is not of the form"), ("redis://a:1", "knows kafka://"), ("kafka://a", "host:port")]
        {
            let failure = Target::parse(url).unwrap_err();
            assert!(failure.message.contains(part), "{failure}");
        }
    }
}
