//! The components this binary is built with: the only list of operators and connectors.

use crate::exit::Failure;
use pelton_ends::{BlackholeFactory, FileFactory, GeneratorFactory, StdinFactory, StdoutFactory};
use pelton_kafka::{KafkaFactory, KafkaOptions};
use pelton_sdk::{Connection, OptionError, Registry};
use std::{collections::BTreeMap, path::Path};

/// Where queues are, by name.
pub type Connections = BTreeMap<String, Connection>;

/// Where the ends of a process find their things.
pub struct Surroundings<'a> {
    /// Where queues are, by name.
    pub connections: Connections,
    /// Name of the process at the broker.
    pub client_id: &'a str,
    /// Folder that relative paths of file ends start from.
    pub base_dir: &'a Path,
    /// Where positions of sources that are no queue are kept.
    pub data_dir: &'a Path,
}

/// The registry of a process that runs or accepts pipelines.
///
/// # Errors
/// Connections that cannot be used, and secrets that are not where they should be.
pub fn registry(around: &Surroundings<'_>) -> Result<Registry, Failure> {
    let options = KafkaOptions {
        client_id: around.client_id.to_owned(),
        connections: around.connections.clone(),
        any_connection: false,
    };
    let kafka = KafkaFactory::new(options).map_err(refused)?;
    kafka.check_secrets().map_err(refused)?;
    for warning in kafka.warnings() {
        tracing::warn!("{warning}");
    }
    Ok(with_ends(kafka, around.base_dir, around.data_dir))
}

/// A registry to check definitions with: nothing is connected by it, and secrets are not looked at. Without a node's
/// connections a definition may name any.
///
/// # Errors
/// Connections that cannot be used.
pub fn for_checks(base_dir: &Path, connections: Option<Connections>) -> Result<Registry, Failure> {
    let options = KafkaOptions {
        client_id: "pelton-validate".to_owned(),
        any_connection: connections.is_none(),
        connections: connections.unwrap_or_default(),
    };
    let kafka = KafkaFactory::new(options).map_err(refused)?;
    Ok(with_ends(kafka, base_dir, Path::new(".pelton")))
}

fn refused(errors: Vec<OptionError>) -> Failure {
    let line = |e: &OptionError| match &e.hint {
        Some(hint) => format!("{}\n  hint: {hint}", e.message),
        None => e.message.clone(),
    };
    Failure::bad(errors.iter().map(line).collect::<Vec<_>>().join("\n"))
}

fn with_ends(kafka: KafkaFactory, base_dir: &Path, data_dir: &Path) -> Registry {
    with_operators(Registry::default())
        .connector(kafka)
        .connector(FileFactory::new(base_dir, data_dir))
        .connector(StdinFactory::new())
        .connector(StdoutFactory::new())
        .connector(GeneratorFactory::new(data_dir))
        .connector(BlackholeFactory)
}

fn with_operators(registry: Registry) -> Registry {
    registry
        .operator(pelton_filter::FilterFactory)
        .operator(pelton_map::MapFactory)
        .operator(pelton_route::RouteFactory)
        .operator(pelton_key::KeyFactory)
        .operator(pelton_enrich::EnrichFactory)
        .operator(pelton_codec::DecodeFactory)
        .operator(pelton_codec::EncodeFactory)
        .operator(pelton_infer::InferFactory)
        .operator(pelton_throttle::ThrottleFactory)
        .operator(pelton_dedupe::DedupeFactory)
        .operator(pelton_sample::SampleFactory)
        .operator(pelton_batch::BatchFactory)
        .operator(pelton_split::SplitFactory)
        .operator(pelton_parse::ParseFactory)
}
