//! What others may do wrong: refused with what to do, and nobody else notices.

use crate::support::{
    cluster::{Cluster, copy},
    net,
};

#[test]
fn definitions_that_cannot_run_are_refused_by_the_coordinator() {
    let cluster = Cluster::start(0);
    cluster.apply(&copy("lost", "true")).refused(78, &["PLT0204", "topic in", "does not exist", "create it"]);
    let kafka = cluster.kafka();
    kafka.create("digits", 4);
    kafka.create("labels", 4);
    let infer = |model: &str, output: &str| {
        format!(
            "apiVersion: pelton.dev/v1\nkind: Pipeline\nmetadata: {{ name: digits }}\nspec:\n  \
             sources: {{ in: {{ kafka: {{ topics: [digits] }}, decode: json }} }}\n  operators:\n    \
             - {{ name: guess, infer: {{ model: {model}, input: {{ field: .pixels{output} }}, output: {{ label: .label }} }} }}\n  \
             sinks: {{ out: {{ kafka: {{ topic: labels }} }} }}\n"
        )
    };
    cluster.apply(&infer("letters.onnx", "")).refused(78, &["letters.onnx", "definition.yaml:7:"]);
    cluster.apply(&infer("digits.onnx", ", shape: [8, 9]")).refused(78, &["definition.yaml:7:", "shape"]);
    cluster.apply("hello").refused(78, &["definition.yaml:1:1"]);
    assert_eq!(cluster.verb(&["get", "pipelines", "-o", "json"]).ok().trim(), "[]", "nothing of it is kept");
}

#[test]
fn garbage_on_every_port_closes_that_connection_and_nothing_else() {
    let mut cluster = Cluster::start(1);
    let kafka = cluster.kafka();
    kafka.create("in", 2);
    kafka.create("out", 2);
    cluster.apply(&copy("copy", "true")).ok();
    kafka.put_ids("in", 0..10);
    cluster.until_in("copy", 10);

    let noise: Vec<u8> = (0..4096_u64).map(|n| (n.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 56) as u8).collect();
    let mut huge = vec![0x7f, 0xff, 0xff, 0xff];
    huge.extend(&noise);
    let ports: Vec<String> =
        [&cluster.bootstrap, &cluster.grpc].into_iter().chain(&cluster.http).cloned().collect();
    assert_eq!(ports.len(), 5, "queue, gRPC, and HTTP of three roles");
    for port in &ports {
        // Each answer is whatever it is; that it comes shows that the connection was closed.
        for bytes in
            [noise.as_slice(), &huge, b"", b"\x00\x00\x00\x00", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nxxxx"]
        {
            net::exchange(port, bytes);
        }
    }
    for http in &cluster.http {
        let line = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(1 << 20));
        let answer = String::from_utf8_lossy(&net::exchange(http, line.as_bytes())).into_owned();
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        let headers = format!("GET /livez HTTP/1.1\r\nx: {}\r\n\r\n", "b".repeat(1 << 20));
        let answer = String::from_utf8_lossy(&net::exchange(http, headers.as_bytes())).into_owned();
        assert!(!answer.starts_with("HTTP/1.1 200"), "{answer}");
        let body = format!("POST /livez HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", u64::MAX);
        let answer = String::from_utf8_lossy(&net::exchange(http, body.as_bytes())).into_owned();
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
        assert_eq!(net::get(http, "/nothing").0, 404);
        assert_eq!(net::get(http, "/livez").0, 200);
    }

    kafka.put_ids("in", 10..20);
    let copied = cluster.until_in("copy", 20);
    assert_eq!(copied["tasks"][0]["epoch"], 1, "no task has changed hands: {copied}");
    assert!(
        cluster.broker.as_mut().unwrap().running()
            && cluster.coordinator.running()
            && cluster.workers[0].running()
    );
}

#[test]
fn an_address_of_something_else_is_no_coordinator() {
    let cluster = Cluster::start(0);
    for other in [&cluster.http[1], &cluster.bootstrap] {
        let said = crate::support::said(["get", "pipelines", "--coordinator", &format!("http://{other}")]);
        assert!(matches!(said.code, 1 | 69), "{said:#?}");
        assert!(said.err.contains("coordinator"), "{said:#?}");
    }
}
