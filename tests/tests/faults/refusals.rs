//! What exactly-once refuses, at submit or at the claim: each with its code, before anything is read or written, and each
//! goes on once it is made good. Missing rights are refused in `tests/secure.rs`.

use crate::{
    kit::clusters,
    scene::{Pipeline, Scene, Shape, until},
};
use pelton_tests::{
    chaos::{fleet::COORDINATOR, topics::client},
    proxy::{ApiKey, Fault, Rule},
};
use rdkafka::{
    Offset, TopicPartitionList,
    admin::{AdminClient, AdminOptions},
    client::DefaultClientContext,
    consumer::{BaseConsumer, CommitMode, Consumer},
};
use std::time::Duration;

/// How offsets are made good.
#[derive(Clone, Copy)]
enum Mend {
    /// What was committed is committed again.
    PutBack,
    /// `pelton task skip-to`.
    SkipTo,
}

impl Scene<'_> {
    fn pause(&self, pipeline: &Pipeline) {
        self.fleet.ask(&["pause", &pipeline.name]).unwrap();
        until("nobody holds its tasks", || {
            let tasks = self.fleet.ask(&["get", "tasks", &pipeline.name, "-o", "json"]).unwrap_or_default();
            let tasks: serde_json::Value = serde_json::from_str(&tasks).unwrap_or_default();
            tasks.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(|task| task["worker"] == ""))
        });
    }

    /// An incident with this code that says this.
    #[track_caller]
    pub fn until_incident(&self, code: &str, says: &str) {
        until(code, || {
            let all = self.fleet.ask(&["get", "incidents", "-o", "json"]).unwrap_or_default();
            let all: serde_json::Value = serde_json::from_str(&all).unwrap_or_default();
            let told = |incident: &serde_json::Value| {
                let text = incident.to_string();
                text.contains(code) && text.contains(says)
            };
            all.as_array().is_some_and(|all| all.iter().any(told))
        });
    }

    /// Do harm to the offsets of a pipeline that worked and is paused: it is refused, and goes on when that is made good.
    #[track_caller]
    fn refused(
        &self,
        code: &str,
        says: impl Fn(&Pipeline) -> String,
        harm: impl FnOnce(&Pipeline) -> Option<BaseConsumer>,
        mend: Mend,
    ) {
        let pipeline = self.pipeline(Shape::Plain, 1);
        self.begin(&pipeline);
        self.pause(&pipeline);
        let before = self.committed(&pipeline).remove(0);
        let stranger = harm(&pipeline);
        self.put(&pipeline, 40..60);
        self.fleet.ask(&["resume", &pipeline.name]).unwrap();
        self.until_incident(code, &says(&pipeline));
        assert_eq!(self.found(&pipeline).len(), 40, "{code}: nothing more was written");
        drop(stranger);
        self.pause(&pipeline);
        match mend {
            Mend::PutBack => until("the offset is as it was", || self.set(&pipeline, before.0, &before.1)),
            Mend::SkipTo => self.skip_to(&pipeline, before.0),
        }
        self.fleet.ask(&["resume", &pipeline.name]).unwrap();
        self.each_once(&pipeline, 60);
    }

    /// What the incident's page tells to do.
    fn skip_to(&self, pipeline: &Pipeline, offset: i64) {
        let place = format!("{}/0={offset}", pipeline.input);
        self.fleet.ask(&["task", "skip-to", &pipeline.name, &place, "--reason", "as the page says"]).unwrap();
    }

    /// Commit an offset of the only partition, as another tool does.
    fn set(&self, pipeline: &Pipeline, offset: i64, metadata: &str) -> bool {
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&pipeline.input, 0, Offset::Offset(offset)).unwrap();
        list.find_partition(&pipeline.input, 0).unwrap().set_metadata(metadata);
        self.watcher(pipeline).commit(&list, CommitMode::Sync).is_ok()
    }

    /// As the broker does with offsets that were not committed for `offsets.retention.minutes`.
    fn forget_group(&self, pipeline: &Pipeline) {
        let admin: AdminClient<DefaultClientContext> = client(self.cluster.bootstrap()).create().unwrap();
        let group = format!("pelton.default.{}", pipeline.name);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        until("the group is deleted", || {
            let deleted = runtime.block_on(admin.delete_groups(&[&group], &AdminOptions::new()));
            deleted.is_ok_and(|all| all.iter().all(Result::is_ok))
        });
    }
}

#[test]
fn offsets_that_are_not_what_the_pipeline_committed_are_refused_at_the_claim() {
    for cluster in clusters() {
        let mut scene = Scene::new(&cluster);
        scene.worker();
        let topic = |pipeline: &Pipeline| pipeline.input.clone();
        scene.refused(
            "PLT0301",
            topic,
            |pipeline| {
                assert!(scene.set(pipeline, 7, "a lag tool was here"));
                None
            },
            Mend::PutBack,
        );
        scene.refused(
            "PLT0301",
            topic,
            |pipeline| {
                scene.forget_group(pipeline);
                None
            },
            Mend::PutBack,
        );
        for mend in [Mend::PutBack, Mend::SkipTo] {
            scene.refused(
                "PLT0307",
                topic,
                |pipeline| {
                    let (_, text) = scene.committed(pipeline).remove(0);
                    assert!(scene.set(pipeline, 7, &text), "as a broker that has forgotten commits");
                    None
                },
                mend,
            );
        }
        scene.refused(
            "PLT0205",
            topic,
            |pipeline| {
                let (_, text) = scene.committed(pipeline).remove(0);
                assert!(scene.set(pipeline, 1_000, &text), "what was there is gone");
                None
            },
            Mend::SkipTo,
        );
    }
}

#[test]
fn a_subscriber_in_the_group_is_refused_at_the_claim() {
    for cluster in clusters() {
        let mut scene = Scene::new(&cluster);
        scene.worker();
        let group = |pipeline: &Pipeline| format!("pelton.default.{}", pipeline.name);
        scene.refused(
            "PLT0305",
            group,
            |pipeline| {
                let mut config = client(scene.cluster.bootstrap());
                let stranger: BaseConsumer = config
                    .set("group.id", group(pipeline))
                    .set("enable.auto.commit", "false")
                    .create()
                    .unwrap();
                stranger.subscribe(&[&pipeline.input]).unwrap();
                until("it takes part", || {
                    drop(stranger.poll(Duration::from_millis(20)));
                    stranger.assignment().unwrap().count() > 0
                });
                Some(stranger)
            },
            Mend::PutBack,
        );
    }
}

#[test]
fn a_cluster_without_transactions_is_refused_at_the_claim() {
    for cluster in clusters() {
        let mut scene = Scene::new(&cluster);
        let worker = scene.worker();
        let old = scene.proxies[worker].arm(Rule::every(ApiKey::API_VERSIONS, Fault::NameNoTransactions));
        scene.proxies[worker].reset();
        let pipeline = scene.pipeline(Shape::Plain, 1);
        scene.put(&pipeline, 0..40);
        scene.apply(&pipeline);
        scene.until_incident("PLT0303", "use `delivery: at-least-once`");
        assert_eq!(scene.found(&pipeline).len(), 0, "nothing was written");
        scene.pause(&pipeline);
        scene.proxies[worker].disarm(old);
        scene.proxies[worker].reset();
        scene.fleet.ask(&["resume", &pipeline.name]).unwrap();
        scene.each_once(&pipeline, 40);
    }
}

#[test]
fn what_can_never_be_one_transaction_is_refused_at_submit() {
    for cluster in clusters() {
        let scene = Scene::new(&cluster);
        let pipeline = scene.pipeline(Shape::Plain, 1);
        let kafka = format!("kafka: {{ topic: {} }}", pipeline.output());
        for (sink, says) in [
            ("stdout: {}".to_owned(), "takes part in no transaction"),
            (kafka.replace(" }", ", brokers: \"elsewhere:9092\" }"), "no transaction spans two clusters"),
        ] {
            let definition = pipeline.definition().replace(&kafka, &sink);
            let mut refused = String::new();
            until("the coordinator answers", || {
                refused = scene.fleet.apply_definition(&definition).unwrap_err().to_string();
                !refused.contains("no coordinator answers")
            });
            assert!(refused.contains(says), "{sink}: {refused}");
        }
    }
}

#[test]
fn topics_that_may_lose_what_they_acknowledged_are_refused_unless_that_is_allowed() {
    for cluster in clusters() {
        let mut scene = Scene::new(&cluster);
        scene.fleet.kill(COORDINATOR).unwrap();
        scene.fleet.start_strict_coordinator().unwrap();
        let pipeline = scene.pipeline(Shape::Plain, 1);
        let mut refused = String::new();
        until("the coordinator answers", || {
            refused = scene.fleet.apply_definition(&pipeline.definition()).unwrap_err().to_string();
            !refused.contains("no coordinator answers")
        });
        assert!(refused.contains("PLT0304") && refused.contains("min.insync.replicas=1"), "{refused}");
    }
}
