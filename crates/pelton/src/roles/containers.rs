//! The driver `docker` of a coordinator: worker containers, and how many of them.

use crate::{exit::Failure, host};
use pelton_config::settings::{CoordinatorSettings, DockerSettings, PullPolicy};
use pelton_coordinator::{Fleet, Scaled};
use pelton_drivers::{Engine, Pull, Spec, Standing, credentials_for, keep};
use serde_json::{Value, json};
use std::{future::Future, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};
use tokio::sync::watch;

/// File of the number of workers within the data directory.
const NUMBER: &str = "workers.json";
/// For a worker to finish: its own drain takes at most 30 s.
const GRACE: Duration = Duration::from_secs(35);

/// How many workers there should be; remembered, so that a restart keeps what `pelton scale workers` said.
pub struct Number {
    file: PathBuf,
    /// What the settings say.
    set: usize,
    wanted: watch::Sender<usize>,
    standing: watch::Receiver<Standing>,
}

impl Number {
    /// As last scaled, unless the setting was changed since.
    fn open(own: &CoordinatorSettings, standing: watch::Receiver<Standing>) -> Number {
        let file = own.data_dir.join(NUMBER);
        let scaled = std::fs::read(&file).ok().and_then(|text| remembered(&text, own.workers));
        let (wanted, _) = watch::channel(scaled.unwrap_or(own.workers));
        Number { file, set: own.workers, wanted, standing }
    }
}

/// The scaled number out of the file; none when the setting is another now: it is the newer word.
fn remembered(text: &[u8], set: usize) -> Option<usize> {
    let value: Value = serde_json::from_slice(text).ok()?;
    let number = |name: &str| value[name].as_u64().and_then(|number| usize::try_from(number).ok());
    (number("set") == Some(set)).then(|| number("scaled")).flatten()
}

impl Fleet for Number {
    fn scale(&self, workers: usize) -> Result<Scaled, String> {
        let text = json!({ "set": self.set, "scaled": workers }).to_string();
        // Whole or not at all, whenever this process ends.
        let aside = self.file.with_extension("new");
        let stored = std::fs::write(&aside, text).and_then(|()| std::fs::rename(&aside, &self.file));
        stored.map_err(|e| format!("cannot remember the number in {}: {e}", self.file.display()))?;
        let before = self.wanted.send_replace(workers);
        Ok(Scaled { before, existing: self.standing.borrow().containers })
    }
}

/// Worker containers, not kept yet.
pub struct Containers {
    engine: Engine,
    /// How many.
    pub number: Arc<Number>,
    standing: watch::Sender<Standing>,
}

impl Containers {
    /// Connects to the engine. `more` are arguments every worker gets.
    ///
    /// # Errors
    /// A setting that is missing or wrong, an engine that does not answer, an image that is not there.
    pub async fn connect(
        own: &CoordinatorSettings,
        grpc: &str,
        own_kafka: bool,
        lifeline: bool,
    ) -> Result<Containers, Failure> {
        let spec = Spec { lifeline, ..spec(own, grpc, own_kafka)? };
        let engine = Engine::connect(own.docker.host.as_deref(), spec)
            .await
            .map_err(|e| Failure::unavailable(format!("the driver `docker` cannot start: {e}")))?;
        let (standing, seen) = watch::channel(Standing::default());
        Ok(Containers { engine, number: Arc::new(Number::open(own, seen)), standing })
    }

    /// Keep them until `stop` is ready; they outlive that.
    pub async fn keep(self, stop: impl Future<Output = ()>) {
        keep(self.engine, self.number.wanted.subscribe(), self.standing, stop).await;
    }
}

fn spec(own: &CoordinatorSettings, grpc: &str, own_kafka: bool) -> Result<Spec, Failure> {
    let docker = &own.docker;
    let image = docker.image.clone().ok_or_else(|| {
        Failure::bad(
            "the driver `docker` needs `coordinator.docker.image`, the image of worker containers, such as \
             localhost/pelton:dev"
                .to_owned(),
        )
    })?;
    let credentials = match &docker.registry_auth {
        Some(file) => std::fs::read_to_string(file)
            .map_err(|e| e.to_string())
            .and_then(|text| credentials_for(&image, &text))
            .map_err(|e| {
                Failure::bad(format!("`coordinator.docker.registryAuth` {}: {e}", file.display()))
            })?,
        None => None,
    };
    Ok(Spec {
        fleet: docker.fleet.clone(),
        image,
        pull: match docker.pull {
            PullPolicy::Missing => Pull::Missing,
            PullPolicy::Always => Pull::Always,
            PullPolicy::Never => Pull::Never,
        },
        credentials,
        arguments: arguments(own, grpc, own_kafka),
        environment: docker.environment.clone(),
        network: docker.network.clone(),
        volumes: docker.volumes.clone(),
        memory: docker.memory,
        milli_cpus: docker.cpus.as_deref().map(milli_cpus).transpose()?,
        grace: GRACE,
        lifeline: false,
    })
}

/// The arguments of a worker in a container; its id is added by the driver.
fn arguments(own: &CoordinatorSettings, grpc: &str, own_kafka: bool) -> Vec<String> {
    let DockerSettings { coordinator, kafka, network, .. } = &own.docker;
    // Containers that share the machine's network share its ports.
    let http = if network.as_deref() == Some("host") { "127.0.0.1:0" } else { "0.0.0.0:7463" };
    let url = coordinator.clone().unwrap_or_else(|| format!("http://{}", reachable(grpc, &host::name())));
    let mut arguments: Vec<String> =
        ["worker", "--coordinator", &url, "--http", http, "--data-dir", "/data"].map(str::to_owned).into();
    // Where the settings file says how to connect, the container gets it as a volume and `--config`.
    if kafka.is_some() || own_kafka {
        arguments.extend(["--kafka".to_owned(), kafka.clone().unwrap_or_else(|| own.kafka.clone())]);
    }
    arguments.extend(own.docker.arguments.iter().cloned());
    arguments
}

/// An address that others can use: one that stands for all of this host's becomes its name.
fn reachable(address: &str, host: &str) -> String {
    match address.parse::<SocketAddr>() {
        Ok(socket) if socket.ip().is_unspecified() => format!("{host}:{}", socket.port()),
        _ => address.to_owned(),
    }
}

fn milli_cpus(text: &str) -> Result<u64, Failure> {
    let cpus = text.parse::<f64>().ok().filter(|cpus| (0.01..=1024.0).contains(cpus));
    // In range, so nothing is cut off but what is below a thousandth.
    cpus.map(|cpus| (cpus * 1000.0) as u64).ok_or_else(|| {
        Failure::bad(format!(
            "`coordinator.docker.cpus`: `{text}` is no number of processors, such as 0.5 or 2"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scaled_number_is_remembered_until_the_setting_changes() {
        assert_eq!(remembered(br#"{"set": 2, "scaled": 5}"#, 2), Some(5));
        assert_eq!(remembered(br#"{"set": 2, "scaled": 5}"#, 3), None, "the setting is the newer word");
        assert_eq!(remembered(b"", 2), None);
    }

    #[test]
    fn containers_are_told_an_address_they_can_reach() {
        assert_eq!(reachable("0.0.0.0:7461", "box"), "box:7461");
        assert_eq!(reachable("10.0.0.1:7461", "box"), "10.0.0.1:7461");
    }

    #[test]
    fn processors_are_counted_in_thousandths() {
        assert_eq!(milli_cpus("0.5").ok(), Some(500));
        assert!(milli_cpus("half").is_err() && milli_cpus("0").is_err() && milli_cpus("NaN").is_err());
    }
}
