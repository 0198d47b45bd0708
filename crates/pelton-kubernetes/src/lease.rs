//! Who of several operators works: the one that holds a Lease of coordination.k8s.io.
//!
//! The rules are those of Kubernetes' own components. Nobody compares clocks: a lease counts as abandoned when *this*
//! process has seen no change of it for its whole duration. Writes carry the version they rest on, so of two that
//! take it at once the API server refuses one.

use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::MicroTime,
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{ObjectMeta, PostParams},
};
use std::time::{Duration, Instant};

/// How long a lease counts that its holder does not renew.
pub const DURATION: Duration = Duration::from_secs(15);
/// A holder that could not renew for so long must not act any more.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// Between two looks, or two renewals.
pub const PAUSE: Duration = Duration::from_secs(2);

/// What to do about the lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Turn {
    /// There is none: make it.
    Create,
    /// It is ours: renew it.
    Renew,
    /// Nobody holds it any more: take it.
    Take,
    /// Somebody else has it.
    Wait,
}

/// Decide, knowing for how long the lease has not changed.
pub fn turn(lease: Option<&LeaseSpec>, me: &str, unchanged: Duration) -> Turn {
    let Some(lease) = lease else { return Turn::Create };
    let duration = lease.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    let duration = duration.map_or(DURATION, Duration::from_secs);
    match lease.holder_identity.as_deref().unwrap_or_default() {
        "" => Turn::Take,
        holder if holder == me => Turn::Renew,
        _ if unchanged >= duration => Turn::Take,
        _ => Turn::Wait,
    }
}

/// One candidate.
#[derive(Debug)]
pub struct Election {
    api: Api<Lease>,
    name: String,
    me: String,
    /// The lease as last seen, and since when.
    seen: Option<(Option<LeaseSpec>, Instant)>,
}

impl Election {
    /// A candidate for the lease `name` of a namespace. `me` must differ between processes.
    pub fn new(client: Client, namespace: &str, name: &str, me: &str) -> Self {
        let api = Api::namespaced(client, namespace);
        Self { api, name: name.to_owned(), me: me.to_owned(), seen: None }
    }

    /// Take or renew the lease if it is our turn: whether we hold it now.
    ///
    /// # Errors
    /// When the API server does not answer or does not allow it.
    pub async fn stand(&mut self) -> Result<bool, kube::Error> {
        let lease = self.api.get_opt(&self.name).await?;
        let spec = lease.as_ref().and_then(|lease| lease.spec.clone());
        if self.seen.as_ref().is_none_or(|(known, _)| *known != spec) {
            self.seen = Some((spec.clone(), Instant::now()));
        }
        let unchanged = self.seen.as_ref().map_or(Duration::ZERO, |(_, since)| since.elapsed());
        let turn = match &lease {
            None => Turn::Create,
            Some(_) => turn(Some(&spec.clone().unwrap_or_default()), &self.me, unchanged),
        };
        let write = PostParams::default();
        let written = match (turn, lease) {
            (Turn::Wait, _) => return Ok(false),
            (_, None) => self.api.create(&write, &self.lease(None, turn)).await,
            (_, Some(lease)) => self.api.replace(&self.name, &write, &self.lease(Some(lease), turn)).await,
        };
        match written {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 409 => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Let go of it, so that the next does not have to wait.
    pub async fn resign(&mut self) {
        let Ok(Some(mut lease)) = self.api.get_opt(&self.name).await else { return };
        let Some(spec) = lease.spec.as_mut().filter(|spec| spec.holder_identity.as_deref() == Some(&self.me))
        else {
            return;
        };
        spec.holder_identity = None;
        // Should it fail, the next one waits a little longer.
        let _ = self.api.replace(&self.name, &PostParams::default(), &lease).await;
    }

    fn lease(&self, old: Option<Lease>, turn: Turn) -> Lease {
        let metadata = old.as_ref().map_or_else(
            || ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() },
            |lease| lease.metadata.clone(),
        );
        let before = old.and_then(|lease| lease.spec).unwrap_or_default();
        let now = Some(MicroTime(Timestamp::now()));
        let is_new = turn != Turn::Renew;
        let spec = LeaseSpec {
            holder_identity: Some(self.me.clone()),
            lease_duration_seconds: i32::try_from(DURATION.as_secs()).ok(),
            acquire_time: if is_new { now.clone() } else { before.acquire_time.clone() },
            renew_time: now,
            lease_transitions: Some(before.lease_transitions.unwrap_or(0).saturating_add(i32::from(is_new))),
            ..before
        };
        Lease { metadata, spec: Some(spec) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held_by(holder: &str) -> LeaseSpec {
        LeaseSpec {
            holder_identity: Some(holder.into()),
            lease_duration_seconds: Some(15),
            ..LeaseSpec::default()
        }
    }

    #[test]
    fn a_lease_is_taken_only_when_nobody_renews_it() {
        let at = Duration::from_secs;
        assert_eq!(turn(None, "a", at(0)), Turn::Create);
        assert_eq!(turn(Some(&held_by("a")), "a", at(99)), Turn::Renew);
        assert_eq!(turn(Some(&held_by("b")), "a", at(14)), Turn::Wait);
        assert_eq!(turn(Some(&held_by("b")), "a", at(15)), Turn::Take);
        assert_eq!(turn(Some(&held_by("")), "a", at(0)), Turn::Take, "its holder let go");
        assert_eq!(turn(Some(&LeaseSpec::default()), "a", at(0)), Turn::Take);
    }

    #[test]
    fn a_holder_stops_before_anybody_may_take_over() {
        assert!(DEADLINE + PAUSE < DURATION);
    }
}
