//! Worker containers of a coordinator with the driver `docker`.

use super::Origin;
use std::{collections::BTreeMap, path::PathBuf};

/// When an image is fetched from its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PullPolicy {
    /// When the engine does not have it.
    Missing,
    /// At every start.
    Always,
    /// Never.
    Never,
}

/// Worker containers of a coordinator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DockerSettings {
    /// The engine; `None`: what `DOCKER_HOST` says, or this machine's.
    pub host: Option<String>,
    /// Image, by tag or digest.
    pub image: Option<String>,
    /// When it is fetched.
    pub pull: PullPolicy,
    /// File that `docker login` wrote.
    pub registry_auth: Option<PathBuf>,
    /// Name of the fleet.
    pub fleet: String,
    /// Network; `None`: the engine's default.
    pub network: Option<String>,
    /// URL of the coordinator for containers; `None`: where its gRPC listens.
    pub coordinator: Option<String>,
    /// Brokers for containers; `None`: the coordinator's.
    pub kafka: Option<String>,
    /// Most memory, bytes.
    pub memory: Option<u64>,
    /// Processors, as text.
    pub cpus: Option<String>,
    /// `SOURCE:PLACE[:ro]`.
    pub volumes: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// More arguments of `pelton worker`.
    pub arguments: Vec<String>,
}

/// From texts that were checked.
pub(super) fn settings(values: &BTreeMap<&'static str, (String, Origin)>) -> DockerSettings {
    let text = |name: &str| {
        let value = values.get(format!("coordinator.docker.{name}").as_str());
        value.map(|(value, _)| value.clone()).unwrap_or_default()
    };
    let some = |name: &str| Some(text(name)).filter(|value| !value.is_empty());
    let list = |name: &str, between: char| -> Vec<String> {
        let parts = text(name);
        parts.split(between).map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
    };
    DockerSettings {
        host: some("host"),
        image: some("image"),
        pull: match text("pull").as_str() {
            "always" => PullPolicy::Always,
            "never" => PullPolicy::Never,
            _ => PullPolicy::Missing,
        },
        registry_auth: some("registryAuth").map(PathBuf::from),
        fleet: text("fleet"),
        network: some("network"),
        coordinator: some("coordinator"),
        kafka: some("kafka"),
        memory: crate::units::parse_size(&text("memory")).ok(),
        cpus: some("cpus"),
        volumes: list("volumes", ','),
        environment: list("environment", ','),
        arguments: list("arguments", ' '),
    }
}
