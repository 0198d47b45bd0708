//! Whatever users do and wherever the operator dies, it ends with the pipeline that the resource says.

use pelton_kubernetes::{
    FINALIZER, Resource, Status,
    decide::{Facts, Seen, Step, step},
    status::{DEGRADED, PROGRESSING, READY, Standing, reflect, refusal},
};
use pelton_proto::v1::{self, TaskState};
use proptest::prelude::*;
use serde_json::{Value, json};

const NOW: &str = "2026-01-01T00:00:00Z";

/// What happens to the world.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// A user writes this definition.
    Edit(u8),
    /// A user deletes the resource.
    Delete,
    /// A user applies another definition past Kubernetes.
    Bypass(u8),
    /// A user deletes the pipeline past Kubernetes.
    Drop,
    /// The operator takes a step and dies after so many of its effects.
    Step(u8),
    /// The coordinator's tasks come to what they are to be.
    Run,
}

/// Definitions of a number divisible by five are refused.
fn is_good(definition: u8) -> bool {
    !definition.is_multiple_of(5)
}

/// A coordinator and an API server with one resource.
#[derive(Default)]
struct World {
    resource: Option<Resource>,
    pipeline: Option<v1::Pipeline>,
    made: u32,
    clock: u32,
}

impl World {
    fn new() -> World {
        let resource = Resource { name: "a".into(), generation: 1, spec: json!(1), ..Resource::default() };
        World { resource: Some(resource), ..World::default() }
    }

    fn apply(&mut self, definition: u8) -> Result<u64, String> {
        if !is_good(definition) {
            return Err(format!("{definition} is no definition"));
        }
        let text = definition.to_string();
        let Some(pipeline) = &mut self.pipeline else {
            self.made += 1;
            self.pipeline = Some(v1::Pipeline {
                name: "a".into(),
                uuid: format!("u{}", self.made),
                revision: 1,
                definition: text,
                phase: "pending".into(),
                tasks_wanted: 2,
                lag: -1,
                ..v1::Pipeline::default()
            });
            return Ok(1);
        };
        if pipeline.phase == "deleting" {
            return Err("it is being deleted".into());
        }
        if pipeline.definition != text {
            pipeline.revision += 1;
            pipeline.definition = text;
            pipeline.phase = "pending".into();
        }
        Ok(pipeline.revision)
    }

    fn run(&mut self) {
        let Some(pipeline) = &mut self.pipeline else { return };
        if pipeline.phase == "deleting" {
            self.pipeline = None;
            return;
        }
        pipeline.phase = "running".into();
        let status = v1::TaskStatus { state: TaskState::Running.into(), ..v1::TaskStatus::default() };
        let task = v1::Task { status: Some(status), revision: pipeline.revision, ..v1::Task::default() };
        pipeline.tasks = vec![task; 2];
    }

    fn happens(&mut self, event: Event) {
        match event {
            Event::Edit(definition) => {
                if let Some(resource) = self.resource.as_mut().filter(|one| one.spec != json!(definition)) {
                    resource.spec = json!(definition);
                    resource.generation += 1;
                }
            }
            Event::Delete => {
                if let Some(resource) = &mut self.resource {
                    resource.deleting = true;
                }
                self.sweep();
            }
            Event::Bypass(definition) => drop(self.apply(definition)),
            Event::Drop => {
                if let Some(pipeline) = &mut self.pipeline {
                    pipeline.phase = "deleting".into();
                }
            }
            Event::Step(effects) => drop(self.operator(effects)),
            Event::Run => self.run(),
        }
    }

    /// The API server lets go of what nobody holds.
    fn sweep(&mut self) {
        if self.resource.as_ref().is_some_and(|one| one.deleting && one.finalizers.is_empty()) {
            self.resource = None;
        }
    }

    /// One step of an operator that remembers nothing, of which only the first effects take place.
    fn operator(&mut self, effects: u8) -> Option<Step> {
        self.clock += 1;
        let resource = self.resource.clone()?;
        let seen = self.pipeline.as_ref().map_or(Seen::Absent, Seen::Present);
        let next = step(Facts { resource: &resource, seen, retry: true, numbers: true, now: NOW })?;
        if effects == 0 {
            return Some(next);
        }
        match next.clone() {
            Step::Hold => self.write(|one| one.finalizers.push(FINALIZER.into())),
            Step::Release => self.write(|one| one.finalizers.clear()),
            Step::Report(status) => self.write(|one| one.status = status),
            Step::Delete => {
                if let Some(pipeline) = &mut self.pipeline {
                    pipeline.phase = "deleting".into();
                }
            }
            Step::Apply => {
                let definition =
                    resource.spec.as_u64().and_then(|n| u8::try_from(n).ok()).unwrap_or_default();
                let applied = self.apply(definition);
                if effects > 1 {
                    let status = self.after(&resource, &applied);
                    self.write(|one| one.status = status);
                }
            }
        }
        self.sweep();
        Some(next)
    }

    fn after(&self, resource: &Resource, applied: &Result<u64, String>) -> Status {
        match (applied, &self.pipeline) {
            (Ok(revision), Some(pipeline)) => {
                let standing = Standing { revision: *revision, uuid: &pipeline.uuid, refusal: None };
                reflect(resource, standing, Seen::Present(pipeline), NOW)
            }
            (Err(why), _) => {
                let standing = Standing { refusal: Some(why), ..Standing::of(resource) };
                let ours = self.pipeline.as_ref().filter(|pipeline| pipeline.uuid == resource.status.uuid);
                reflect(resource, standing, ours.map_or(Seen::Absent, Seen::Present), NOW)
            }
            (Ok(_), None) => unreachable!("what was applied is there"),
        }
    }

    fn write(&mut self, change: impl FnOnce(&mut Resource)) {
        if let Some(resource) = &mut self.resource {
            change(resource);
        }
    }

    fn condition(&self, kind: &str) -> String {
        let status = self.resource.as_ref().map(|one| one.status.clone()).unwrap_or_default();
        status.condition(kind).map(|c| c.status.clone()).unwrap_or_default()
    }
}

fn events() -> impl Strategy<Value = Vec<Event>> {
    let one = prop_oneof![
        3 => (1..12_u8).prop_map(Event::Edit),
        1 => Just(Event::Delete),
        1 => (1..12_u8).prop_map(Event::Bypass),
        1 => Just(Event::Drop),
        12 => (0..3_u8).prop_map(Event::Step),
        3 => Just(Event::Run),
    ];
    prop::collection::vec(one, 0..60)
}

/// Lets an operator go on that does not die. Gives the steps it took.
fn settle(world: &mut World) -> Vec<Step> {
    let mut taken = Vec::new();
    for _ in 0..40 {
        // A refused definition is tried again for ever; that it changes nothing is what counts.
        let before = (world.resource.clone(), world.pipeline.clone());
        let next = world.operator(9);
        world.run();
        let idle = next.is_none() || next == Some(Step::Apply);
        if idle && before == (world.resource.clone(), world.pipeline.clone()) {
            return taken;
        }
        taken.extend(next);
    }
    panic!("no end: {taken:?}");
}

proptest! {
    #[test]
    fn an_operator_that_dies_anywhere_is_followed_by_one_that_finishes(events in events()) {
        let mut world = World::new();
        for event in events {
            world.happens(event);
        }
        let deleting = world.resource.as_ref().is_none_or(|one| one.deleting);
        settle(&mut world);
        let Some(resource) = &world.resource else {
            prop_assert!(deleting);
            return Ok(());
        };
        prop_assert!(!deleting, "a deleted resource goes");
        prop_assert_eq!(resource.status.observed_generation, resource.generation);
        let definition = resource.spec.as_u64().and_then(|n| u8::try_from(n).ok()).unwrap();
        if is_good(definition) {
            let pipeline = world.pipeline.as_ref().unwrap();
            prop_assert_eq!(&pipeline.definition, &definition.to_string());
            prop_assert_eq!(&pipeline.uuid, &resource.status.uuid);
            prop_assert_eq!(pipeline.revision, resource.status.revision);
            let judged = [READY, PROGRESSING, DEGRADED].map(|kind| world.condition(kind));
            prop_assert_eq!(judged, ["True", "False", "False"]);
        } else {
            prop_assert!(refusal(resource).is_some());
            let judged = [READY, DEGRADED].map(|kind| world.condition(kind));
            prop_assert_eq!(judged, ["False", "True"]);
        }
    }
}

#[test]
fn a_resource_is_held_applied_reported_and_at_its_end_deleted_and_released() {
    let mut world = World::new();
    let taken = settle(&mut world);
    assert_eq!(taken[..2], [Step::Hold, Step::Apply]);
    assert!(matches!(taken[2..], [Step::Report(_)]), "{taken:?}");
    world.happens(Event::Delete);
    let taken = settle(&mut world);
    assert_eq!((taken.first(), taken.last()), (Some(&Step::Delete), Some(&Step::Release)));
    assert!(world.resource.is_none() && world.pipeline.is_none());
}

#[test]
fn a_refused_resource_does_not_take_somebody_elses_pipeline_with_it() {
    let mut world = World::new();
    world.happens(Event::Bypass(3));
    world.happens(Event::Edit(10));
    settle(&mut world);
    world.happens(Event::Delete);
    settle(&mut world);
    assert!(world.resource.is_none());
    assert_eq!(world.pipeline.as_ref().map(|one| one.definition.as_str()), Some("3"));
}

#[test]
fn a_refused_change_leaves_what_runs_as_it_is_and_says_so() {
    let mut world = World::new();
    settle(&mut world);
    world.happens(Event::Edit(10));
    settle(&mut world);
    assert_eq!(world.pipeline.as_ref().map(|one| one.definition.as_str()), Some("1"));
    let resource = world.resource.as_ref().unwrap();
    assert_eq!(refusal(resource), Some("10 is no definition"));
    assert_eq!([READY, DEGRADED].map(|kind| world.condition(kind)), ["False", "True"]);
    assert_eq!(resource.status.phase, "running");
}

#[test]
fn while_the_coordinator_is_silent_nothing_is_done_and_readiness_is_unknown() {
    let mut world = World::new();
    settle(&mut world);
    let mut resource = world.resource.unwrap();
    let facts = |resource: &Resource| -> Option<Step> {
        step(Facts { resource, seen: Seen::Unreachable, retry: true, numbers: true, now: NOW })
    };
    let Some(Step::Report(status)) = facts(&resource) else { panic!("it says so once") };
    assert_eq!(status.condition(READY).map(|c| c.status.as_str()), Some("Unknown"));
    assert_eq!(status.phase, "running", "what was last known stays");
    resource.status = status;
    assert_eq!(facts(&resource), None);
    resource.deleting = true;
    assert_eq!(facts(&resource), None, "a pipeline that may still run holds its resource");
    resource.deleting = false;
    resource.spec = Value::from(2);
    resource.generation += 1;
    assert_eq!(facts(&resource), None);
}
