//! The components this binary is built with: the only list of operators and connectors.

use crate::exit::Failure;
use pelton_ends::{BlackholeFactory, FileFactory, GeneratorFactory, StdinFactory, StdoutFactory};
use pelton_kafka::{KafkaFactory, KafkaOptions};
use pelton_sdk::Registry;
use std::path::Path;

/// Where the ends of a process find their things.
pub struct Surroundings<'a> {
    /// Bootstrap servers of the default connection.
    pub kafka: &'a str,
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
/// Bootstrap servers that are none.
pub fn registry(around: &Surroundings<'_>) -> Result<Registry, Failure> {
    let options = KafkaOptions::new(around.kafka).client_id(around.client_id);
    let kafka = KafkaFactory::new(options).map_err(|errors| {
        let lines: Vec<_> = errors.iter().map(|e| e.message.clone()).collect();
        Failure::bad(lines.join("\n"))
    })?;
    Ok(with_operators(Registry::default())
        .connector(kafka)
        .connector(FileFactory::new(around.base_dir, around.data_dir))
        .connector(StdinFactory::new())
        .connector(StdoutFactory::new())
        .connector(GeneratorFactory::new(around.data_dir))
        .connector(BlackholeFactory))
}

/// A registry to check definitions with: nothing is connected by it.
pub fn for_checks(base_dir: &Path) -> Registry {
    let around = Surroundings {
        kafka: "127.0.0.1:9092",
        client_id: "pelton-validate",
        base_dir,
        data_dir: Path::new(".pelton"),
    };
    registry(&around).unwrap_or_else(|_| with_operators(Registry::default()))
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
}
