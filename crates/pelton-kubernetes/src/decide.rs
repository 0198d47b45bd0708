//! What to do next about one resource: facts in, one step out.
//!
//! Each step may be taken twice, and the operator may die before, between and after all of them: whoever comes next
//! looks at the same facts and goes on. Nothing it needs is remembered anywhere but in the resource and at the
//! coordinator.

use crate::{
    resource::{Resource, Status},
    status::{Standing, reflect, refusal},
};
use pelton_proto::v1;

/// What the coordinator says of a resource's pipeline.
#[derive(Clone, Copy, Debug)]
pub enum Seen<'a> {
    /// Nothing: it does not answer.
    Unreachable,
    /// There is no pipeline of this name.
    Absent,
    /// This.
    Present(&'a v1::Pipeline),
}

/// All that a decision rests on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// The resource.
    pub resource: &'a Resource,
    /// Its pipeline.
    pub seen: Seen<'a>,
    /// A refused definition may be tried again: what it lacked may be there by now.
    pub retry: bool,
    /// Numbers that change all the time may be written again.
    pub numbers: bool,
    /// Now, RFC 3339.
    pub now: &'a str,
}

/// The next thing to do.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Keep the resource until its pipeline is gone.
    Hold,
    /// Submit the definition to the coordinator, then write what came of it into the status.
    Apply,
    /// Delete the pipeline at the coordinator.
    Delete,
    /// Let the resource go.
    Release,
    /// Write the status.
    Report(Status),
}

/// The next step, or none while all is as it should be.
pub fn step(facts: Facts<'_>) -> Option<Step> {
    let resource = facts.resource;
    if resource.deleting {
        return if resource.is_held() { leave(facts) } else { None };
    }
    if !resource.is_held() {
        return Some(Step::Hold);
    }
    let answers = !matches!(facts.seen, Seen::Unreachable);
    let may_apply = facts.retry || refusal(resource).is_none();
    if answers && may_apply && !is_applied(resource, facts.seen) {
        return Some(Step::Apply);
    }
    report(facts)
}

/// Whether the pipeline is the one that was made from this generation. Another revision means that somebody changed it
/// past Kubernetes, or that a step was not finished.
fn is_applied(resource: &Resource, seen: Seen<'_>) -> bool {
    let status = &resource.status;
    let same = matches!(seen, Seen::Present(p) if p.uuid == status.uuid && p.revision == status.revision);
    same && status.observed_generation == resource.generation && refusal(resource).is_none()
}

fn leave(facts: Facts<'_>) -> Option<Step> {
    let resource = facts.resource;
    match facts.seen {
        Seen::Unreachable => report(facts),
        Seen::Absent => Some(Step::Release),
        // Never accepted: what is there under this name is somebody else's.
        Seen::Present(_) if resource.status.uuid.is_empty() && refusal(resource).is_some() => {
            Some(Step::Release)
        }
        Seen::Present(pipeline) if pipeline.phase == "deleting" => report(facts),
        Seen::Present(_) => Some(Step::Delete),
    }
}

fn report(facts: Facts<'_>) -> Option<Step> {
    let resource = facts.resource;
    // Without a word from the coordinator a generation is not observed.
    if matches!(facts.seen, Seen::Unreachable) && resource.status.observed_generation != resource.generation {
        return None;
    }
    let status = reflect(resource, Standing::of(resource), facts.seen, facts.now);
    let differs = if facts.numbers {
        status != resource.status
    } else {
        Status { lag: resource.status.lag, ..status.clone() } != resource.status
    };
    differs.then_some(Step::Report(status))
}
