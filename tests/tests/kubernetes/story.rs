//! What happens to the cluster, one thing after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::time::Instant;

use pelton_tests::kubernetes::{Cluster, PATIENCE, repository};
use serde_json::Value;

use crate::manifests::{TO_DIGITS, digits, job, numbers, pipeline, truth, values};

/// Records that a part sends, and how many in a second.
const RECORDS: u64 = 4_000;
const RATE: u64 = 250;

/// A cluster, and how far it is.
pub struct Story<'a> {
    cluster: &'a Cluster,
    /// Parts with records so far.
    parts: u64,
}

impl<'a> Story<'a> {
    pub fn of(cluster: &'a Cluster) -> Self {
        Story { cluster, parts: 0 }
    }

    pub fn install(&self, tag: &str) {
        let chart = repository().join("deploy/helm/pelton");
        let values = values();
        let file = std::env::temp_dir().join(format!("pelton-values-{}.yaml", std::process::id()));
        fs::write(&file, values).unwrap();
        let tag = format!("image.tag={tag}");
        let (chart, file_name) = (chart.display().to_string(), file.display().to_string());
        let install = [
            "upgrade",
            "--install",
            "pelton",
            &chart,
            "-f",
            &file_name,
            "--set",
            &tag,
            "--wait",
            "--timeout",
            "4m",
        ];
        if tag.ends_with("test") {
            let digits = repository().join("examples/digits");
            let from = |name: &str| format!("--from-file={}", digits.join(name).display());
            let made = ["create", "configmap", "digits", &from("digits.onnx"), &from("images.jsonl")];
            self.cluster.kubectl(&made).unwrap();
        }
        let installed = self.cluster.helm(&install);
        fs::remove_file(&file).unwrap();
        installed.map_err(|why| format!("{why}\n{}", self.cluster.state())).unwrap();
    }

    pub fn refuses_invalid_resources(&self) {
        let whole = "sources: {in: {kafka: {topics: [a]}}}, sinks: {out: {blackhole: {}}}";
        for (name, spec, expected) in [
            ("unknown", format!("{whole}, oprators: []"), "unknown field \"spec.oprators\""),
            (
                "two",
                "sources: {in: {kafka: {topics: [a]}, generator: {}}}, sinks: {out: {blackhole: {}}}".into(),
                "name exactly one of",
            ),
            (
                "none",
                "sources: {}, sinks: {out: {blackhole: {}}}".into(),
                "a pipeline reads at least one source",
            ),
            ("time", format!("{whole}, commitInterval: soon"), "a number with a unit"),
            (
                "twice",
                format!("{whole}, operators: [{{name: a, filter: 'true'}}, {{name: a, filter: 'true'}}]"),
                "Duplicate value",
            ),
            (
                "many",
                format!("{whole}, operators: [{{name: a, filter: 'true', map: '.'}}]"),
                "name exactly one of",
            ),
            ("word", format!("{whole}, delivery: at-most-once"), "supported values"),
            ("type", format!("{whole}, tasks: four"), "must be of type integer"),
            ("do.ts", whole.into(), "no dots"),
        ] {
            let resource = format!(
                "{{apiVersion: pelton.dev/v1, kind: Pipeline, metadata: {{name: {name}}}, spec: {{{spec}}}}}"
            );
            let refused = self.cluster.kubectl_with(&["apply", "-f", "-"], &resource).unwrap_err();
            assert!(refused.contains(expected), "{name}: {refused}");
        }
        // What only the coordinator knows is in the status, with the words of the command line.
        let broken = format!(
            "{{apiVersion: pelton.dev/v1, kind: Pipeline, metadata: {{name: broken}}, spec: {{{whole}, operators: [{{name: a, filter: '.price >'}}]}}}}"
        );
        self.cluster.kubectl_with(&["apply", "-f", "-"], &broken).unwrap();
        let why = self.cluster.until("the broken pipeline is refused", || {
            let resource = self.cluster.get(&["pipeline", "broken"]);
            (condition(&resource, "Degraded")["reason"] == "Refused").then_some(resource)
        });
        let why = condition(&why.unwrap(), "Degraded")["message"].as_str().unwrap_or_default().to_owned();
        assert!(why.contains("operator `a`: syntax error"), "{why}");
        self.cluster.kubectl(&["delete", "pipeline", "broken", "--timeout=60s"]).unwrap();
    }

    pub fn applies(&self) {
        self.cluster.kubectl_with(&["apply", "-f", "-"], &digits(2)).unwrap();
        self.cluster
            .kubectl(&["wait", "--for=condition=Ready", "pipeline/digits", "--timeout=120s"])
            .unwrap();
        let listed = self.cluster.kubectl(&["get", "pl"]).unwrap();
        println!("{listed}");
        assert!(listed.contains("LAG") && listed.contains("running"), "{listed}");
        self.workers(2);
        self.told("Applied");
    }

    pub fn recognises_digits(&mut self) {
        let feed = pipeline(
            "images",
            "sources: {images: {file: {path: /digits/images.jsonl}, decode: json}}",
            "",
            TO_DIGITS,
        );
        self.run("feed-images", &feed, "5s");
        let truth = truth();
        let labels = self.recognised("images", &truth.keys().copied().collect());
        let right = truth.iter().filter(|(id, label)| labels[id].0 == **label).count();
        println!("  {right} of {} images have the right label", truth.len());
        assert!(right >= 520, "only {right} images were recognised");
    }

    pub fn scales(&mut self) {
        self.under_load("scale", |story| {
            for tasks in [4, 1] {
                let begun = Instant::now();
                story
                    .cluster
                    .kubectl(&["scale", "pipeline", "digits", &format!("--replicas={tasks}")])
                    .unwrap();
                if tasks == 4 {
                    story.kills_the_operator_that_works();
                }
                story.workers(tasks);
                println!("  {tasks} tasks on {tasks} workers after {:.1} s", begun.elapsed().as_secs_f64());
            }
        });
        self.cluster.kubectl(&["scale", "pipeline", "digits", "--replicas=4"]).unwrap();
        self.workers(4);
    }

    /// Of two operators the one that holds the lease is gone at once, in the middle of its work; the other takes over.
    fn kills_the_operator_that_works(&self) {
        let holder = || {
            let lease = self.cluster.get(&["lease", "pelton-operator"]);
            lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
        };
        let first = holder();
        let pods = self.cluster.get(&["pods", "-l", "app.kubernetes.io/component=operator"]);
        let names = pods["items"].as_array().into_iter().flatten();
        let mut names = names.filter_map(|pod| pod["metadata"]["name"].as_str());
        let working =
            names.find(|name| first.contains(name)).unwrap_or_else(|| panic!("no pod of `{first}`"));
        self.cluster.kubectl(&["delete", "pod", working, "--grace-period=0", "--force"]).unwrap();
        let begun = Instant::now();
        let next = self.cluster.until("another operator holds the lease", || {
            let next = holder();
            (!next.is_empty() && next != first).then_some(next)
        });
        println!("  {working} killed; {} works {:.1} s later", next.unwrap(), begun.elapsed().as_secs_f64());
    }

    /// An event of this reason is there about a pipeline.
    fn told(&self, reason: &str) {
        let select = format!("--field-selector=involvedObject.kind=Pipeline,reason={reason}");
        self.cluster
            .until(&format!("an event `{reason}`"), || {
                let events = self.cluster.get(&["events", &select]);
                events["items"].as_array().is_some_and(|all| !all.is_empty()).then_some(())
            })
            .unwrap();
    }

    pub fn upgrades(&mut self) {
        self.under_load("upgrade", |story| {
            story.install("next");
            story
                .cluster
                .until("every pod has the new image", || {
                    let pods = story.cluster.get(&["pods", "-l", "app.kubernetes.io/instance=pelton"]);
                    let image =
                        |pod: &Value| pod["spec"]["containers"][0]["image"] == "localhost/pelton:next";
                    pods["items"].as_array()?.iter().all(image).then_some(())
                })
                .unwrap();
        });
        self.workers(4);
    }

    /// The second node goes and comes back; what ran there goes on elsewhere meanwhile.
    pub fn loses_a_node(&mut self, away: &str, back: &str) {
        let there = self.cluster.get(&[
            "pods",
            "-l",
            "app.kubernetes.io/component=worker",
            "--field-selector=spec.nodeName=node1",
        ]);
        assert!(!there["items"].as_array().unwrap().is_empty(), "no worker on the second node");
        self.under_load(away, |story| {
            story.cluster.second_node(away).unwrap();
            story
                .cluster
                .until("the node is lost", || {
                    let node = story.cluster.get(&["node", "node1"]);
                    (condition(&node, "Ready")["status"] != "True").then_some(())
                })
                .unwrap();
        });
        let begun = Instant::now();
        self.cluster.second_node(back).unwrap();
        self.workers(4);
        println!("  whole again {:.1} s after the node is back", begun.elapsed().as_secs_f64());
    }

    pub fn ends(&self) {
        self.cluster.kubectl(&["delete", "pipeline", "digits", "--timeout=120s"]).unwrap();
        self.told("Deleted");
        self.cluster.helm(&["uninstall", "pelton", "--wait", "--timeout", "3m"]).unwrap();
        self.cluster
            .until("no pod is left", || {
                let pods = self.cluster.get(&["pods", "-l", "app.kubernetes.io/instance=pelton"]);
                pods["items"].as_array().is_some_and(Vec::is_empty).then_some(())
            })
            .unwrap();
    }

    /// Sends records while something happens, then looks whether each came out.
    fn under_load(&mut self, name: &str, act: impl FnOnce(&mut Self)) {
        self.parts += 1;
        let offset = self.parts * 1_000_000;
        let job = format!("feed-{name}");
        self.start(&job, &numbers(name, RECORDS, RATE, offset), "5s");
        self.cluster
            .until("the load has begun", || {
                let status = &self.cluster.get(&["job", &job])["status"];
                (status["ready"] == 1 || status["succeeded"] == 1).then_some(())
            })
            .unwrap();
        act(self);
        self.finished(&job);
        let wanted: BTreeSet<u64> = (offset..offset + RECORDS).collect();
        let seen = self.recognised(name, &wanted);
        let doubled = wanted.iter().filter(|id| seen[id].1 > 1).count();
        println!("  {RECORDS} sent, none missing, {doubled} doubled");
    }

    /// So many tasks run, each worker that there is to be is ready.
    fn workers(&self, wanted: u64) {
        self.cluster
            .until(&format!("{wanted} tasks run on {wanted} workers"), || {
                let status = &self.cluster.get(&["pipeline", "digits"]);
                let ready =
                    condition(status, "Ready")["status"] == "True" && status["status"]["running"] == wanted;
                let set = self.cluster.get(&["statefulset", "pelton-worker"]);
                let workers = &set["status"];
                let there = workers["readyReplicas"] == wanted && workers["replicas"] == wanted;
                (ready && there && set["spec"]["replicas"] == wanted).then_some(())
            })
            .unwrap();
    }

    /// What came out so far, once all of these ids are among it.
    fn recognised(&self, name: &str, wanted: &BTreeSet<u64>) -> BTreeMap<u64, (u64, u32)> {
        let begun = Instant::now();
        let mut attempt = 0;
        loop {
            let seen = self.results(&format!("{name}-{attempt}"));
            let missing = wanted.iter().filter(|id| !seen.contains_key(id)).count();
            if missing == 0 {
                return seen;
            }
            let state = || self.cluster.state();
            assert!(begun.elapsed() < PATIENCE, "{missing} records are lost after: {name}\n{}", state());
            attempt += 1;
        }
    }

    /// Label and number of times, by id, of all that came out so far.
    fn results(&self, name: &str) -> BTreeMap<u64, (u64, u32)> {
        let read = pipeline(
            &format!("read-{name}"),
            "sources: {labels: {kafka: {topics: [labels], start: earliest}, decode: json}}",
            "",
            "sinks: {out: {stdout: {}}}",
        );
        let job = format!("read-{name}");
        self.run(&job, &read, "2s");
        let mut all = BTreeMap::new();
        for line in self.cluster.kubectl(&["logs", &format!("job/{job}"), "--tail=-1"]).unwrap().lines() {
            let Ok(record) = serde_json::from_str::<Value>(line) else { continue };
            if let (Some(id), Some(label)) = (record["id"].as_u64(), record["label"].as_u64()) {
                all.entry(id).or_insert((label, 0)).1 += 1;
            }
        }
        all
    }

    fn run(&self, job: &str, definition: &str, idle: &str) {
        self.start(job, definition, idle);
        self.finished(job);
    }

    /// `pelton run` in a pod of the cluster.
    fn start(&self, name: &str, definition: &str, idle: &str) {
        self.cluster.kubectl_with(&["apply", "-f", "-"], &job(name, definition, idle)).unwrap();
    }

    fn finished(&self, job: &str) {
        self.cluster
            .until(&format!("the job {job} is done"), || {
                let status = self.cluster.get(&["job", job]);
                (status["status"]["succeeded"] == 1).then_some(())
            })
            .map_err(|why| format!("{why}\n{:?}", self.cluster.kubectl(&["logs", &format!("job/{job}")])))
            .unwrap();
    }

    pub fn the_operator_may_do_what_it_does_and_no_more(&self) {
        let chart = repository().join("deploy/helm/pelton").display().to_string();
        let granted = [
            "template",
            "pelton",
            &chart,
            "--kube-version",
            "1.33.0",
            "--set",
            "broker.enabled=true,worker.autoscale.enabled=true",
            "-s",
            "templates/rbac.yaml",
        ];
        let granted = self.cluster.helm(&granted).unwrap();
        let granted = self
            .cluster
            .kubectl_with(&["create", "--dry-run=client", "-o", "json", "-f", "-"], &granted)
            .unwrap();
        let mut may = BTreeSet::new();
        for document in serde_json::Deserializer::from_str(&granted).into_iter::<Value>() {
            let document = document.unwrap();
            let one = std::slice::from_ref(&document);
            for part in document["items"].as_array().map_or(one, Vec::as_slice) {
                for rule in part["rules"].as_array().into_iter().flatten() {
                    for (group, resource, verb) in triples(rule) {
                        may.insert(format!("{verb} {group}/{resource}"));
                    }
                }
            }
        }
        let did: BTreeSet<String> = self.cluster.requests_of_operator().unwrap().into_iter().collect();
        assert!(!did.is_empty(), "the audit log knows nothing of the operator");
        assert_eq!(did, may, "left: what it did; right: what it may");
    }
}

fn triples(rule: &Value) -> Vec<(String, String, String)> {
    let all = |key: &str| -> Vec<String> {
        rule[key].as_array().into_iter().flatten().filter_map(|one| one.as_str().map(str::to_owned)).collect()
    };
    let mut out = Vec::new();
    for group in all("apiGroups") {
        for resource in all("resources") {
            out.extend(all("verbs").into_iter().map(|verb| (group.clone(), resource.clone(), verb)));
        }
    }
    out
}

fn condition(resource: &Value, kind: &str) -> Value {
    let all = resource["status"]["conditions"].as_array();
    all.into_iter().flatten().find(|one| one["type"] == kind).cloned().unwrap_or_default()
}
