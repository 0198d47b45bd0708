//! The examples, run whole, with results worked out from their input by other means.

use crate::support::{Child, Said, cluster, kafka::Kafka, kafka::Read, net, pelton, said, until};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::PathBuf,
};

fn examples() -> PathBuf {
    crate::support::digits().parent().unwrap().to_owned()
}

/// Run an example until it is idle; its account, and the queue it left.
fn run(file: &str, env: &[(&str, &str)]) -> (Said, Kafka, Child, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (home, file) = (dir.path().display().to_string(), examples().join(file).display().to_string());
    let listen = net::free_address();
    let mut command = pelton(["dev", &file, "--until-idle", "3s", "-o", "json"]);
    command.args(["--data-dir", &home, "--broker-listen", &listen]).envs(env.iter().copied());
    let said = Child::start(command).said();
    let (broker, bootstrap, _) = cluster::broker(dir.path(), "127.0.0.1:0");
    (said, Kafka::at(&bootstrap), broker, dir)
}

fn lines(file: &str) -> Vec<String> {
    std::fs::read_to_string(examples().join(file)).unwrap().lines().map(str::to_owned).collect()
}

fn sorted(reads: &[Read], by: &str) -> Vec<Value> {
    let mut all: Vec<Value> = reads.iter().map(Read::json).collect();
    all.sort_by_key(|v| v[by].as_u64());
    all
}

/// Orders that each of two workers handled for the stock service, once two of its four tasks run on each. What a task
/// counted before it moved is gone.
fn by_worker(coordinator: &str) -> Option<[u64; 2]> {
    let tasks = said(["get", "tasks", "stock-service", "-o", "json", "--coordinator", coordinator]);
    let tasks: Vec<Value> = serde_json::from_str(&tasks.out).ok()?;
    let mut handled: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for task in tasks.iter().filter(|task| task["state"] == "running") {
        handled.entry(task["worker"].as_str()?).or_default().push(task["account"]["recordsIn"].as_u64()?);
    }
    match handled.values().map(Vec::as_slice).collect::<Vec<_>>().as_slice() {
        [[a, b], [c, d]] => Some([a + b, c + d]),
        _ => None,
    }
}

#[test]
fn two_workers_share_the_orders_of_the_shop() {
    let file = examples().join("orders/shop.yaml").display().to_string();
    let (grpc, queue) = (net::free_address(), net::free_address());
    let dev = pelton(["dev", &file, "--coordinator-grpc", &grpc, "--broker-listen", &queue]);
    let dev = Child::start(dev);
    let coordinator = format!("http://{grpc}");
    let before = until("two workers with two tasks each", || by_worker(&coordinator));
    // Customers enough that every partition gets orders.
    let order =
        r#"{"order":1,"customer":"c","quantity":1,"unitPriceCents":5,"shipping":"express","country":"de"}"#;
    Kafka::at(&queue).put("shop.orders", (0..200).map(|n| (format!("customer {n}"), order)));
    until("each worker to handle some of them", || {
        let now = by_worker(&coordinator)?;
        let more = [now[0].saturating_sub(before[0]), now[1].saturating_sub(before[1])];
        (more[0] > 0 && more[1] > 0 && more[0] + more[1] >= 200).then_some(())
    });
    dev.terminate();
    assert!(dev.said().ok().contains("default/stock-service: "));
}

#[test]
fn the_shop_reserves_on_two_lanes_and_bills_every_order_once() {
    let orders: Vec<Value> =
        lines("orders/shop.jsonl").iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let good: Vec<&Value> = orders.iter().filter(|o| o["quantity"].is_u64()).collect();
    let (said, kafka, broker, _dir) = run("orders/shop.yaml", &[]);
    let account = said.account();
    assert_eq!((&account["recordsIn"], &account["deadLettered"]), (&json!(160), &json!(4)), "{account}");

    let picked = |lane: &str| {
        let wanted = good.iter().filter(|o| (o["shipping"] == "express") == (lane == "express"));
        let wanted: BTreeSet<u64> = wanted.map(|o| o["order"].as_u64().unwrap()).collect();
        let found = kafka.all(&format!("shop.pick.{lane}"));
        let ids: Vec<u64> = found.iter().map(|r| r.json()["order"].as_u64().unwrap()).collect();
        assert_eq!(ids.iter().copied().collect::<BTreeSet<_>>(), wanted, "lane {lane}");
        assert_eq!(ids.len(), wanted.len(), "each order once");
        in_order_per_customer(&found);
        found.iter().map(|r| r.json()["weightGrams"].as_u64().unwrap()).sum::<u64>()
    };
    let pieces: u64 = good.iter().map(|o| o["quantity"].as_u64().unwrap()).sum();
    assert_eq!(picked("express") + picked("standard"), pieces * 850);

    let invoices = sorted(&kafka.all("shop.invoices"), "invoice");
    let wanted: Vec<Value> = good.iter().map(|order| invoice(order)).collect();
    assert_eq!(invoices, wanted);
    for topic in ["shop.stock.dlq", "shop.billing.dlq"] {
        let letters: Vec<u64> =
            sorted(&kafka.all(topic), "order").iter().map(|o| o["order"].as_u64().unwrap()).collect();
        assert_eq!(letters, [17, 53], "{topic}");
    }
    broker.kill();
}

fn in_order_per_customer(reads: &[Read]) {
    let mut last: BTreeMap<Vec<u8>, u64> = BTreeMap::new();
    for read in reads {
        let id = read.json()["order"].as_u64().unwrap();
        let before = last.insert(read.key.clone().unwrap(), id);
        assert!(before.is_none_or(|before| before < id), "{id} after {before:?}");
    }
}

fn invoice(order: &Value) -> Value {
    let net = order["quantity"].as_u64().unwrap() * order["unitPriceCents"].as_u64().unwrap();
    let rate = match order["country"].as_str().unwrap() {
        "de" => 19,
        "fr" => 20,
        _ => 0,
    };
    let tax = (net * rate + 50) / 100;
    json!({ "invoice": order["order"], "customer": order["customer"], "netCents": net, "taxCents": tax })
}

#[test]
fn web_logs_are_parsed_enriched_and_their_errors_routed() {
    let hosts = Hosts::serve();
    let (said, kafka, broker, _dir) = run("logs/pipeline.yaml", &[("HOSTS_URL", &hosts.url)]);
    let account = said.account();
    let log = lines("logs/access.txt");
    let wanted: Vec<&String> =
        log.iter().filter(|l| l.contains(" HTTP/1.1\" ") && !l.contains("kube-probe")).collect();
    let probes = log.iter().filter(|l| l.contains("kube-probe")).count() as u64;
    assert_eq!(
        ["recordsIn", "emitted", "filtered", "deadLettered"].map(|f| account[f].as_u64().unwrap()),
        [log.len() as u64, wanted.len() as u64, probes, 2],
        "{account}"
    );

    let (errors, requests) = (kafka.all("logs.errors"), kafka.all("logs.requests"));
    let status = |line: &str| {
        let (_, rest) = line.split_once(" HTTP/1.1\" ").unwrap();
        rest.split(' ').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(errors.len(), wanted.iter().filter(|l| status(l) >= 500).count());
    assert_eq!(errors.len() + requests.len(), wanted.len());
    assert!(errors.iter().all(|r| r.json()["status"].as_u64() >= Some(500)));
    for read in errors.iter().chain(&requests) {
        let record = read.json();
        let team = match record["host"].as_str().unwrap() {
            "shop.example" => "commerce",
            "blog.example" => "content",
            "api.example" => "platform",
            other => panic!("host {other}"),
        };
        assert_eq!(record["owner"], team, "{record}");
        assert!(record.get("message").is_none() && record["client"].is_string(), "{record}");
    }
    assert!(errors.iter().all(|r| r.key.as_deref() == r.json()["owner"].as_str().map(str::as_bytes)));
    let letters = kafka.all("logs.dlq");
    assert!(letters.iter().all(|r| r.json()["message"] == "this line is no access log line"), "{letters:?}");
    broker.kill();
}

/// Serves the folder `hosts`, as any file server would.
struct Hosts {
    url: String,
}

impl Hosts {
    fn serve() -> Hosts {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        // Ends with the process of the tests: it only waits.
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || answer(stream));
            }
        });
        Hosts { url }
    }
}

fn answer(mut stream: std::net::TcpStream) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    loop {
        let mut first = String::new();
        reader.read_line(&mut first).ok().filter(|n| *n > 0)?;
        let mut line = String::new();
        while reader.read_line(&mut line).ok()? > 2 {
            line.clear();
        }
        let name = first.split(' ').nth(1)?.trim_start_matches('/');
        let body = std::fs::read(examples().join("logs/hosts").join(name));
        let status = if body.is_ok() { "200 OK" } else { "404 Not Found" };
        let body = body.unwrap_or_default();
        write!(
            stream,
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        )
        .ok()?;
        stream.write_all(&body).ok()?;
    }
}
