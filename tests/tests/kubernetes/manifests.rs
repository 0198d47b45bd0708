//! What is applied to the cluster.

use std::collections::BTreeMap;
use std::fs;

use pelton_tests::kubernetes::{STORAGE, repository};

/// The queue, in the cluster.
const KAFKA: &str = "pelton-broker.pelton.svc:9092";

/// The digit on each image of the example, by id.
pub fn truth() -> BTreeMap<u64, u64> {
    let file = fs::read_to_string(repository().join("examples/digits/truth.csv")).unwrap();
    let pairs = file.lines().skip(1).filter_map(|line| line.split_once(','));
    pairs.map(|(id, label)| (id.parse().unwrap(), label.parse().unwrap())).collect()
}

/// The pipeline of the example, with so many tasks.
pub fn digits(tasks: u32) -> String {
    let file = fs::read_to_string(repository().join("examples/digits/pipeline.yaml")).unwrap();
    let pipeline = file.split("\n---\n").find(|part| part.contains("kind: Pipeline")).unwrap();
    pipeline.replace("  commitInterval: 1s\n", &format!("  commitInterval: 1s\n  tasks: {tasks}\n"))
}

/// The sinks of whoever feeds the pipeline.
pub const TO_DIGITS: &str = "sinks: {digits: {kafka: {topic: digits}, key: .id}}";

/// A definition.
pub fn pipeline(name: &str, sources: &str, operators: &str, sinks: &str) -> String {
    let head = format!("apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{name: {name}}}\nspec:");
    [head.as_str(), sources, operators, sinks].join("\n  ")
}

/// A definition that writes so many images of a nought, ids from `first`, so many in a second.
pub fn numbers(name: &str, count: u64, rate: u64, first: u64) -> String {
    let nought = "[0,0,5,13,9,1,0,0,0,0,13,15,10,15,5,0,0,3,15,2,0,11,8,0,0,4,12,0,0,8,8,0,0,5,8,0,0,9,8,0,0,4,11,0,1,12,7,0,0,2,14,5,10,12,0,0,0,0,6,13,10,0,0,0]";
    let source =
        format!("sources: {{numbers: {{generator: {{count: {count}, rate: {rate}}}, decode: json}}}}");
    let image = format!(
        "operators: [{{name: image, map: '. = {{\"id\": to_int!(.id) + {first}, \"pixels\": {nought}}}'}}]"
    );
    pipeline(name, &source, &image, TO_DIGITS)
}

/// Values of the chart: what must stay is on the first node; workers follow the tasks, one each.
pub fn values() -> String {
    let role = "nodeSelector: {kubernetes.io/hostname: node0}";
    let models = "extraVolumes: [{name: models, configMap: {name: digits}}]\n  extraVolumeMounts: [{name: models, mountPath: /models, readOnly: true}]";
    let small = "resources: {requests: {cpu: 20m, memory: 32Mi}, limits: {memory: 768Mi}}";
    format!(
        "broker:\n  enabled: true\n  persistence: {{storageClass: {STORAGE}, size: 1Gi}}\n  {role}\n  {small}\n\
         coordinator:\n  createTopics: 4\n  persistence: {{storageClass: {STORAGE}, size: 1Gi}}\n  {role}\n  {models}\n  {small}\n\
         operator:\n  replicas: 2\n  {role}\n  {small}\n\
         worker:\n  autoscale: {{enabled: true, min: 1, max: 4, tasksPerWorker: 1, scaleInAfter: 2s}}\n  {models}\n  {small}\n"
    )
}

/// `pelton run` of a definition as a job, and the ConfigMap with the definition.
pub fn job(name: &str, definition: &str, idle: &str) -> String {
    let definition = definition.replace('\n', "\n    ");
    let config = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata:\n  run.yaml: |\n    {definition}"
    );
    let job = JOB.replace("JOB", name).replace("KAFKA", KAFKA).replace("IDLE", idle);
    format!("{config}\n---\n{job}")
}

/// A job that may run under `restricted`, on the node that stays.
const JOB: &str = "apiVersion: batch/v1
kind: Job
metadata: {name: JOB}
spec:
  backoffLimit: 0
  template:
    spec:
      restartPolicy: Never
      nodeSelector: {kubernetes.io/hostname: node0}
      securityContext: {runAsNonRoot: true, runAsUser: 65532, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: pelton
        image: localhost/pelton:test
        args: [run, /config/run.yaml, --kafka, KAFKA, --data-dir, /data, --until-idle, IDLE]
        securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: config, mountPath: /config}, {name: digits, mountPath: /digits}, {name: data, mountPath: /data}]
      volumes: [{name: config, configMap: {name: JOB}}, {name: digits, configMap: {name: digits}}, {name: data, emptyDir: {}}]
";
