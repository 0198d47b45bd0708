//! Containers of a Docker engine.

mod body;
#[cfg(test)]
mod tests;

use crate::{
    credentials::Credentials,
    plan::{Seen, State},
};
use bollard::{
    Docker,
    auth::DockerCredentials,
    container::AttachContainerResults,
    errors::Error,
    models::{ContainerSummary, ContainerSummaryStateEnum as Shown},
    query_parameters as query,
};
use futures_util::{StreamExt, TryStreamExt};
use pelton_types::causes;
use sha2::{Digest, Sha256};
use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

/// Whose it is.
const FLEET: &str = "dev.pelton.fleet";
/// Which slot it fills.
const SLOT: &str = "dev.pelton.slot";
/// What it was made from.
const MAKE: &str = "dev.pelton.make";
/// In the name of a container that leaves.
const LEAVING: &str = "-leaving-";
/// Lines of its log that are told when a container ended.
const LAST_LINES: &str = "12";

/// When an image is fetched from its registry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pull {
    /// At every start of the coordinator.
    Always,
    /// When the engine does not have it.
    Missing,
    /// Never.
    Never,
}

/// What worker containers are made from.
#[derive(Clone, Debug)]
pub struct Spec {
    /// Name of the fleet; containers of another fleet are not touched.
    pub fleet: String,
    /// The image, by tag or digest.
    pub image: String,
    /// When it is fetched.
    pub pull: Pull,
    /// For its registry.
    pub credentials: Option<Credentials>,
    /// Arguments of `pelton`, without the worker's id.
    pub arguments: Vec<String>,
    /// `NAME=value`.
    pub environment: Vec<String>,
    /// Network to be in; the engine's default unless given.
    pub network: Option<String>,
    /// Folders and volumes, `SOURCE:PLACE[:ro]`.
    pub volumes: Vec<String>,
    /// Most memory, bytes.
    pub memory: Option<u64>,
    /// Most processors' time, in thousandths of a processor.
    pub milli_cpus: Option<u64>,
    /// For a worker to finish before it is ended.
    pub grace: Duration,
    /// Containers end and go away when this process ends in any way: their standard input is a connection of ours.
    /// Otherwise they outlive it, as a data plane should.
    pub lifeline: bool,
}

/// What the engine did not do.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// It cannot be reached, or refused.
    #[error("{}", said(.0))]
    Engine(#[from] Error),
    /// There is no image to make containers from.
    #[error("{0}")]
    Image(String),
}

/// The engine's own words, without those around them.
fn said(error: &Error) -> String {
    match error {
        Error::DockerResponseServerError { message, .. } => message.clone(),
        other => causes::all(other),
    }
}

/// As `docker ps` shows ids.
pub(crate) fn short(id: &str) -> &str {
    id.get(..12).unwrap_or(id)
}

/// An engine, and what it makes workers from.
pub struct Engine {
    docker: Docker,
    spec: Spec,
    make: String,
    /// The lifelines by container.
    held: Mutex<HashMap<String, AttachContainerResults>>,
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine")
            .field("fleet", &self.spec.fleet)
            .field("make", &self.make)
            .finish_non_exhaustive()
    }
}

impl Engine {
    /// Connects and makes sure of the image. `host` is `unix://PATH` or `http://HOST:PORT`; unless given, what
    /// `DOCKER_HOST` says, or the engine of this machine.
    ///
    /// # Errors
    /// When no engine answers, or the image is not there and cannot be fetched: with what to do.
    pub async fn connect(host: Option<&str>, spec: Spec) -> Result<Engine, EngineError> {
        let docker = match host {
            Some(host) => Docker::connect_with_host(host)?,
            None => Docker::connect_with_defaults()?,
        };
        let docker = docker.negotiate_version().await?;
        let engine = Engine { docker, spec, make: String::new(), held: Mutex::default() };
        let image = engine.image().await?;
        let digest = Sha256::digest(format!("{image} {}", engine.spec.make_of()));
        // 64 bits tell two makes of one fleet apart.
        let make = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        Ok(Engine { make, ..engine })
    }

    /// What workers are made from.
    pub fn spec(&self) -> &Spec {
        &self.spec
    }

    /// Tells containers of this spec and image from others.
    pub fn make(&self) -> &str {
        &self.make
    }

    /// The id of the image, fetched if the policy says so.
    async fn image(&self) -> Result<String, EngineError> {
        let Spec { image, pull, .. } = &self.spec;
        let here = match self.docker.inspect_image(image).await {
            Ok(found) => Some(found.id.unwrap_or_default()),
            Err(Error::DockerResponseServerError { status_code: 404, .. }) => None,
            Err(other) => return Err(other.into()),
        };
        match (here, pull) {
            (Some(id), Pull::Missing | Pull::Never) => Ok(id),
            (None, Pull::Never) => Err(EngineError::Image(format!(
                "the engine has no image {image}, and `coordinator.docker.pull` is `never`: load or build it there, \
                 or allow `missing`"
            ))),
            _ => {
                self.fetch().await?;
                Ok(self.docker.inspect_image(image).await?.id.unwrap_or_default())
            }
        }
    }

    async fn fetch(&self) -> Result<(), EngineError> {
        let Spec { image, credentials, .. } = &self.spec;
        let login = credentials.clone().map(|known| DockerCredentials {
            username: Some(known.user),
            password: Some(known.password),
            serveraddress: Some(known.registry),
            ..DockerCredentials::default()
        });
        // A tag that is not said would fetch every tag of the image.
        let tagged = image.contains('@') || image.rsplit('/').next().is_some_and(|last| last.contains(':'));
        let named = if tagged { image.clone() } else { format!("{image}:latest") };
        let options = query::CreateImageOptions { from_image: Some(named), ..Default::default() };
        let fetched = self.docker.create_image(Some(options), None, login).try_for_each(|_| async { Ok(()) });
        fetched.await.map_err(|problem| {
            let who = match credentials {
                Some(known) => format!("as {}", known.user),
                None => "without a login; `coordinator.docker.registryAuth` names a file with one".to_owned(),
            };
            EngineError::Image(format!("the image {image} cannot be fetched ({who}): {}", said(&problem)))
        })
    }

    /// The containers of the fleet, ended ones included.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn list(&self) -> Result<Vec<Seen>, EngineError> {
        let label = format!("{FLEET}={}", self.spec.fleet);
        let filters = HashMap::from([("label".to_owned(), vec![label])]);
        let options =
            query::ListContainersOptions { all: true, filters: Some(filters), ..Default::default() };
        let found: Vec<Seen> =
            self.docker.list_containers(Some(options)).await?.iter().filter_map(seen).collect();
        // Lifelines of containers that went away by themselves. One that was made a moment ago is in the list.
        self.lines().retain(|id, _| found.iter().any(|one| one.id == *id));
        Ok(found)
    }

    /// Makes the container of a slot; its id. The engine refuses a second one of the same name, whoever makes it.
    ///
    /// # Errors
    /// When the engine refuses.
    pub async fn make_container(&self, slot: usize) -> Result<String, EngineError> {
        let name = query::CreateContainerOptions { name: Some(self.spec.name(slot)), ..Default::default() };
        let body = self.spec.body(slot, &self.make);
        Ok(self.docker.create_container(Some(name), body).await?.id)
    }

    /// Starts a container.
    ///
    /// # Errors
    /// When the engine cannot.
    pub async fn start(&self, id: &str) -> Result<(), EngineError> {
        if self.spec.lifeline {
            let options = query::AttachContainerOptions { stdin: true, stream: true, ..Default::default() };
            let line = self.docker.attach_container(id, Some(options)).await?;
            self.lines().insert(id.to_owned(), line);
        }
        Ok(self.docker.start_container(id, None::<query::StartContainerOptions>).await?)
    }

    fn lines(&self) -> MutexGuard<'_, HashMap<String, AttachContainerResults>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Marks a container as leaving by its name, then asks it to finish.
    ///
    /// # Errors
    /// When the engine refuses; marked or not, it is seen as it is at the next look.
    pub async fn retire(&self, id: &str, slot: usize) -> Result<(), EngineError> {
        let name = format!("{}{LEAVING}{}", self.spec.name(slot), short(id));
        self.docker.rename_container(id, query::RenameContainerOptions { name }).await?;
        let signal = query::KillContainerOptions { signal: "SIGTERM".into() };
        unless_gone(self.docker.kill_container(id, Some(signal)).await)
    }

    /// Ends a container that was to finish.
    ///
    /// # Errors
    /// When the engine cannot.
    pub async fn end(&self, id: &str) -> Result<(), EngineError> {
        unless_gone(self.docker.kill_container(id, None).await)
    }

    /// Takes a container away with its anonymous volumes.
    ///
    /// # Errors
    /// When the engine cannot.
    pub async fn remove(&self, id: &str) -> Result<(), EngineError> {
        self.lines().remove(id);
        let options = query::RemoveContainerOptions { v: true, force: true, link: false };
        unless_gone(self.docker.remove_container(id, Some(options)).await)
    }

    /// How a container ended, with the end of its log.
    ///
    /// # Errors
    /// When the engine does not answer.
    pub async fn end_of(&self, id: &str) -> Result<String, EngineError> {
        let known = self.docker.inspect_container(id, None::<query::InspectContainerOptions>).await?;
        let state = known.state.unwrap_or_default();
        let why =
            end_text(state.exit_code.unwrap_or_default(), state.oom_killed == Some(true), self.spec.memory);
        let options = query::LogsOptions {
            stdout: true,
            stderr: true,
            tail: LAST_LINES.to_owned(),
            ..Default::default()
        };
        let lines: Vec<String> = self
            .docker
            .logs(id, Some(options))
            .filter_map(|line| async { line.ok().map(|line| line.to_string()) })
            .collect()
            .await;
        Ok(format!("{why}; the end of its log:\n{}", lines.concat().trim_end()))
    }
}

/// What an exit code means.
fn end_text(code: i64, out_of_memory: bool, memory: Option<u64>) -> String {
    match (code, memory) {
        (_, Some(limit)) if out_of_memory => format!(
            "it needed more than its {} MiB of memory; raise `coordinator.docker.memory`",
            limit >> 20
        ),
        _ if out_of_memory => "the machine ran out of memory".to_owned(),
        (137, _) => "it was killed (SIGKILL)".to_owned(),
        (78, _) => "its configuration is bad (exit code 78)".to_owned(),
        (code, _) => format!("exit code {code}"),
    }
}

/// A container that is gone or has ended is what was wanted.
fn unless_gone(outcome: Result<(), Error>) -> Result<(), EngineError> {
    match outcome {
        Err(Error::DockerResponseServerError { status_code: 404 | 409, .. }) => Ok(()),
        other => Ok(other?),
    }
}

/// A container as a decision sees it; none of ours when its labels say nothing.
fn seen(summary: &ContainerSummary) -> Option<Seen> {
    let labels = summary.labels.as_ref()?;
    let names = summary.names.as_deref().unwrap_or_default();
    Some(Seen {
        id: summary.id.clone()?,
        slot: labels.get(SLOT)?.parse().ok()?,
        make: labels.get(MAKE).cloned().unwrap_or_default(),
        leaving: names.iter().any(|name| name.contains(LEAVING)),
        state: match summary.state {
            Some(Shown::CREATED) => State::Made,
            Some(Shown::EXITED | Shown::DEAD) => State::Ended,
            Some(Shown::REMOVING) => State::Going,
            _ => State::Running,
        },
    })
}
