//! The workers of `pelton dev`: child processes, or containers that the coordinator's driver keeps.

use crate::{
    cli::DevArgs,
    client::{Client, ask},
    exit::Failure,
    fleet::Workers,
};
use pelton_proto::v1;
use pelton_worker::usage::CpuMeter;
use std::{path::Path, time::Duration};
use tokio::time::{Instant, sleep};

/// Where containers see the definition's folder. Their own name for it, since ours may have characters that lists of
/// volumes cannot.
const FOLDER: &str = "/definitions";
/// Where they see the settings file.
const SETTINGS: &str = "/pelton.yaml";
/// Time between two looks at containers that are to finish.
const LOOK: Duration = Duration::from_millis(100);

/// See the module.
pub enum Crew {
    /// Children of this process.
    Processes(Workers),
    /// So many containers, of the coordinator's driver.
    Containers(usize),
}

/// Arguments and environment of a coordinator that keeps containers.
///
/// They share the machine's network, on which `dev` has its ports, and end with the coordinator.
pub fn driver(
    args: &DevArgs,
    settings: &[String],
    folder: &Path,
    executors: usize,
) -> (Vec<String>, Vec<(&'static str, String)>) {
    let folder = std::path::absolute(folder).unwrap_or_else(|_| folder.into());
    let mut volumes = vec![format!("{}:{FOLDER}:ro", folder.display())];
    let mut worker = format!("--lifeline --executors {executors} --models {FOLDER} --base-dir {FOLDER}");
    if let [flag, file] = settings {
        let file = std::path::absolute(file).unwrap_or_else(|_| file.into());
        volumes.push(format!("{}:{SETTINGS}:ro", file.display()));
        worker.push_str(&format!(" {flag} {SETTINGS}"));
    }
    let arguments = ["--driver", "docker", "--workers", &args.workers.max(1).to_string()].map(str::to_owned);
    let environment = vec![
        ("PELTON__COORDINATOR__DOCKER__IMAGE", args.image.clone()),
        ("PELTON__COORDINATOR__DOCKER__NETWORK", "host".to_owned()),
        ("PELTON__COORDINATOR__DOCKER__FLEET", format!("pelton-dev-{}", std::process::id())),
        ("PELTON__COORDINATOR__DOCKER__VOLUMES", volumes.join(",")),
        ("PELTON__COORDINATOR__DOCKER__ARGUMENTS", worker),
    ];
    (arguments.into(), environment)
}

impl Crew {
    /// Start again what ended; what happened, a line each.
    ///
    /// # Errors
    /// As [`Workers::keep`].
    pub async fn keep(&mut self) -> Result<Vec<String>, Failure> {
        match self {
            Crew::Processes(workers) => workers.keep().await,
            // The driver does.
            Crew::Containers(_) => Ok(Vec::new()),
        }
    }

    /// Who they are, for people.
    pub fn shown(&self) -> String {
        match self {
            Crew::Processes(workers) => {
                let each = workers.pids().into_iter().map(|(name, pid)| format!("{name} ({pid})"));
                each.collect::<Vec<_>>().join(", ")
            }
            Crew::Containers(count) => format!("{count} containers"),
        }
    }

    /// CPU time they took, seconds.
    pub async fn cpu_seconds(&self, children: &CpuMeter, client: &mut Client) -> f64 {
        match self {
            Crew::Processes(_) => children.seconds(),
            Crew::Containers(_) => match client.cluster.list_workers(ask(v1::ListWorkersRequest {})).await {
                Ok(workers) => workers.into_inner().workers.iter().map(|worker| worker.cpu_seconds).sum(),
                Err(_) => 0.0,
            },
        }
    }

    /// Ask all to finish and wait for it; the names of those that did not in time.
    pub async fn stop(&mut self, client: &mut Client, within: Duration) -> Vec<String> {
        match self {
            Crew::Processes(workers) => workers.stop(within).await,
            Crew::Containers(_) => {
                let deadline = Instant::now() + within;
                let mut left = 1;
                while left > 0 && Instant::now() < deadline {
                    let request = v1::ScaleWorkersRequest { workers: 0 };
                    match client.cluster.scale_workers(ask(request)).await {
                        Ok(scaled) => left = scaled.into_inner().existing,
                        // Without a coordinator its containers end by themselves.
                        Err(_) => return Vec::new(),
                    }
                    sleep(LOOK).await;
                }
                (0..left).map(|_| "a worker container".to_owned()).collect()
            }
        }
    }
}
