//! What the engine is told to make.

use super::{FLEET, MAKE, SLOT, Spec};
use bollard::models::{
    ContainerCreateBody, HostConfig, HostConfigLogConfig, RestartPolicy, RestartPolicyNameEnum,
};
use std::collections::HashMap;

/// The user that the image runs as.
const USER: &str = "65532:65532";
/// Threads and processes of a worker at most: executors, ten or so of each client, the runtime's.
const MOST_THREADS: i64 = 4096;
/// Log files of a container: three of this size, so that a talkative worker does not fill the machine's disk.
const LOG_FILE: &str = "10m";

impl Spec {
    /// The container's name, and the worker's.
    pub fn name(&self, slot: usize) -> String {
        format!("{}-worker-{}", self.fleet, slot + 1)
    }

    /// All that makes a container another one, as text.
    pub(super) fn make_of(&self) -> String {
        let Spec { arguments, environment, network, volumes, memory, milli_cpus, .. } = self;
        format!("{arguments:?} {environment:?} {network:?} {volumes:?} {memory:?} {milli_cpus:?}")
    }

    /// A container without rights: its file system cannot be written but for /data, which lives as long as it does.
    /// Restarting is the driver's work, which sees why one ended.
    pub(super) fn body(&self, slot: usize, make: &str) -> ContainerCreateBody {
        let labels = [(FLEET, self.fleet.clone()), (SLOT, slot.to_string()), (MAKE, make.to_owned())];
        let id = ["--id".to_owned(), self.name(slot)];
        let limit = self.memory.and_then(|bytes| i64::try_from(bytes).ok());
        let log = HashMap::from([("max-size".into(), LOG_FILE.into()), ("max-file".into(), "3".into())]);
        ContainerCreateBody {
            image: Some(self.image.clone()),
            user: Some(USER.to_owned()),
            hostname: (self.network.as_deref() != Some("host")).then(|| self.name(slot)),
            cmd: Some(self.arguments.iter().cloned().chain(id).collect()),
            env: Some(self.environment.clone()),
            labels: Some(labels.map(|(name, value)| (name.to_owned(), value)).into()),
            open_stdin: Some(self.lifeline),
            attach_stdin: Some(self.lifeline),
            // It closes when our connection does.
            stdin_once: Some(self.lifeline),
            stop_timeout: i64::try_from(self.grace.as_secs()).ok(),
            host_config: Some(HostConfig {
                network_mode: self.network.clone(),
                binds: Some(self.volumes.clone()),
                memory: limit,
                // The same number: no swap on top.
                memory_swap: limit,
                nano_cpus: self.milli_cpus.and_then(|cpus| i64::try_from(cpus * 1_000_000).ok()),
                pids_limit: Some(MOST_THREADS),
                readonly_rootfs: Some(true),
                tmpfs: Some(HashMap::from([(
                    "/data".into(),
                    "uid=65532,gid=65532,mode=0700,size=64m".into(),
                )])),
                cap_drop: Some(vec!["ALL".to_owned()]),
                security_opt: Some(vec!["no-new-privileges".to_owned()]),
                log_config: Some(HostConfigLogConfig { typ: Some("json-file".into()), config: Some(log) }),
                auto_remove: Some(self.lifeline),
                restart_policy: Some(RestartPolicy {
                    name: Some(RestartPolicyNameEnum::NO),
                    maximum_retry_count: None,
                }),
                ..HostConfig::default()
            }),
            ..ContainerCreateBody::default()
        }
    }
}
