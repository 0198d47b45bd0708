//! The endpoints of every role, over a real socket.
// Helpers of tests may unwrap as tests may.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use pelton_telemetry::{Health, Metrics, Router, Target, discovery, http};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

struct Served {
    address: std::net::SocketAddr,
    metrics: Metrics,
    health: Health,
    stop: Option<tokio::sync::oneshot::Sender<()>>,
    ended: tokio::task::JoinHandle<std::io::Result<()>>,
}

async fn serve(own: Router) -> Served {
    let (metrics, health) = (Metrics::new("worker"), Health::new());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let router = http::router(&metrics, &health).merge(own);
    let ended = tokio::spawn(http::serve(listener, router, async {
        let _ = stopped.await;
    }));
    Served { address, metrics, health, stop: Some(stop), ended }
}

impl Served {
    async fn send(&self, bytes: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    async fn get(&self, path: &str) -> (u16, String) {
        let answer = self
            .send(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
            .await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    async fn end(mut self) {
        self.stop.take().unwrap().send(()).unwrap();
        self.ended.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_role_answers_for_its_readiness_and_names_what_it_waits_for() {
    let role = serve(Router::new()).await;
    let check = role.health.readiness.check("coordinator", "127.0.0.1:7461 refused the connection");
    let (status, body) = role.get("/readyz").await;
    assert_eq!(status, 503);
    assert!(body.contains("127.0.0.1:7461 refused the connection"), "{body}");
    check.ready();
    assert_eq!(
        role.get("/readyz").await,
        (200, r#"{"ready":true,"checks":[{"name":"coordinator","ready":true}]}"#.into())
    );
    role.end().await;
}

#[tokio::test]
async fn a_role_that_is_not_ready_is_alive_and_a_stalled_loop_is_not() {
    let role = serve(Router::new()).await;
    let _check = role.health.readiness.check("broker", "away");
    assert_eq!(role.get("/livez").await.0, 200, "a broker that is away is no reason to restart");
    let start = Instant::now().checked_sub(Duration::from_secs(60)).expect("the machine is up for a minute");
    let pulse = role.health.liveness.watch("executor 0", Duration::from_secs(30), start);
    let (status, body) = role.get("/livez").await;
    assert_eq!(status, 503);
    assert!(body.contains("executor 0"), "{body}");
    pulse.beat(Instant::now());
    assert_eq!(role.get("/livez").await.0, 200);
    role.end().await;
}

#[tokio::test]
async fn metrics_are_a_page_of_prometheus_and_a_role_may_add_routes() {
    let role = serve(Router::new().route("/", axum::routing::get(|| async { "own" }))).await;
    role.metrics.gauge("pelton_tasks_unassigned", "Tasks nobody has.").unwrap().set(4);
    let answer = role.send(b"GET /metrics HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(answer.to_ascii_lowercase().contains("content-type: text/plain; version=0.0.4"), "{answer}");
    assert!(answer.contains("\npelton_tasks_unassigned 4\n"), "{answer}");
    assert_eq!(role.get("/").await, (200, "own".into()));
    assert_eq!(role.get("/nothing").await.0, 404);
    role.end().await;
}

#[tokio::test]
async fn prometheus_is_told_where_processes_are_once_that_is_known() {
    let known = std::sync::Arc::new(std::sync::Mutex::new(None));
    let look = known.clone();
    let role = serve(discovery::router(move || look.lock().unwrap().clone())).await;
    assert_eq!(role.get(discovery::PATH).await.0, 503, "an empty list would make it forget all it scrapes");
    let labels = [("worker", "w0".to_owned())].into();
    *known.lock().unwrap() = Some(vec![Target { targets: ["10.0.0.7:7463".into()], labels }]);
    let list = r#"[{"targets":["10.0.0.7:7463"],"labels":{"worker":"w0"}}]"#;
    assert_eq!(role.get(discovery::PATH).await, (200, list.into()));
    let answer = role.send(b"GET /prometheus/targets HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    assert!(
        answer.to_ascii_lowercase().contains("content-type: application/json"),
        "it takes no other: {answer}"
    );
    role.end().await;
}

#[tokio::test]
async fn garbage_on_the_port_is_refused_and_the_next_request_is_answered() {
    let role = serve(Router::new()).await;
    let answer = role.send(b"\x00\x01\xff\xfe garbage \r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(role.get("/livez").await.0, 200);
    role.end().await;
}
