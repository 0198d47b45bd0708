//! The web console in a real Chromium, on real processes, under a path prefix as behind a reverse proxy.
//!
//! Skipped where there is no Chromium; `cargo xtask ci` says so, and `.ci/run` installs it. Pictures of the pages are
//! kept in `target/tmp/console` to be looked at.
// Helpers of tests may unwrap as tests may.
#![allow(clippy::unwrap_used, dead_code)]

mod browser;
#[path = "../e2e/support/mod.rs"]
mod support;

use browser::Browser;
use serde_json::{Value, json};
use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};
use support::{Child, cluster, kafka::Kafka, net::ask, pelton};

/// Where the console is, as if behind a reverse proxy.
const PREFIX: &str = "ops/pelton";
/// Would leave a mark on the page if it ever became more than text.
const PAYLOAD: &str = "<img src=x onerror=window.hit=1><script>window.hit=1</script>";

/// Processes, a browser and a stream of records.
struct World {
    browser: Browser,
    base: String,
    bootstrap: String,
    grpc: String,
    stop: Arc<AtomicBool>,
    feed: Option<std::thread::JoinHandle<()>>,
    pictures: PathBuf,
    dir: tempfile::TempDir,
    _processes: Vec<Child>,
}

impl World {
    fn start(chromium: &str) -> World {
        let dir = tempfile::tempdir().unwrap();
        let (broker, bootstrap, _) = cluster::broker(dir.path(), "127.0.0.1:0");
        let data = dir.path().join("coordinator").display().to_string();
        let mut command =
            pelton(["coordinator", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--announce"]);
        command
            .args(["--kafka", &bootstrap, "--data-dir", &data, "--create-topics", "4"])
            .env("PELTON__COORDINATOR__PATHPREFIX", format!("/{PREFIX}"));
        let mut coordinator = Child::start(command);
        let announced = coordinator.announced();
        let grpc = announced["grpc"].as_str().unwrap().to_owned();
        let base = format!("http://{}/{PREFIX}/", announced["http"].as_str().unwrap());
        let workers = ["w0", "w1"].map(|id| cluster::worker(dir.path(), id, &bootstrap, &grpc, &[]).0);
        let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("console");
        std::fs::create_dir_all(&pictures).unwrap();
        World {
            browser: Browser::start(chromium),
            base,
            bootstrap,
            grpc,
            stop: Arc::default(),
            feed: None,
            pictures,
            dir,
            _processes: [broker, coordinator].into_iter().chain(workers).collect(),
        }
    }

    fn apply(&self, definition: &Value) {
        let file = self.dir.path().join("definition.yaml");
        std::fs::write(&file, definition.to_string()).unwrap();
        let address = format!("http://{}", self.grpc);
        support::said(["apply", &file.display().to_string(), "--coordinator", &address]).ok();
    }

    /// Records that never end, some dozens a second.
    fn feed(&mut self, topic: &'static str) {
        let (stop, kafka) = (self.stop.clone(), Kafka::at(&self.bootstrap));
        self.feed = Some(std::thread::spawn(move || {
            let mut id = 0..;
            while !stop.load(Ordering::Relaxed) {
                let batch = id.by_ref().take(5).map(|n: u64| (format!("{PAYLOAD}{n}"), record(true, n)));
                kafka.put(topic, batch);
                std::thread::sleep(Duration::from_millis(100));
            }
        }));
    }

    /// The page at a hash.
    fn go(&mut self, hash: &str) {
        self.browser.eval(&format!("void (location.hash = {hash:?})"));
    }

    /// The page in sight, at the size of a desk and of a hand, in light and dark: it fits, and a picture is kept.
    fn look(&mut self, name: &str) {
        for (width, height, scheme) in
            [(1280, 860, "light"), (1280, 860, "dark"), (390, 844, "light"), (390, 844, "dark")]
        {
            self.browser.size(width, height, scheme);
            self.browser.until("document.documentElement.scrollWidth <= window.innerWidth");
            let file = self.pictures.join(format!("{name}-{width}-{scheme}.png"));
            self.browser.picture(&file);
        }
        self.browser.size(1280, 860, "light");
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(feed) = self.feed.take() {
            let _ = feed.join();
        }
    }
}

fn record(ok: bool, id: u64) -> String {
    json!({ "ok": ok, "id": id, "note": PAYLOAD }).to_string()
}

fn pipeline(name: &str, topic: &str, dead: Option<&str>) -> Value {
    let program = "assert!(.ok == true, message: \"refused: \" + string!(.note))";
    let mut spec = json!({
        "commitInterval": "200ms",
        "sources": { "in": { "kafka": { "topics": [topic], "start": "earliest" }, "decode": "json" } },
        "operators": [{ "name": "check", "map": program }, { "name": "keep", "filter": ".id >= 0" }],
        "sinks": { "out": { "kafka": { "topic": format!("{topic}.out") } } },
    });
    if let Some(dead) = dead {
        spec["onError"] = json!({ "deadLetter": { "kafka": { "topic": dead } } });
    }
    json!({ "apiVersion": "pelton.dev/v1", "kind": "Pipeline", "metadata": { "name": name }, "spec": spec })
}

/// A coordinator alone, under the prefix: where it listens, and the process.
fn alone(dir: &std::path::Path) -> (String, Child) {
    let data = dir.display().to_string();
    let mut command = pelton(["coordinator", "--grpc", "127.0.0.1:0", "--http", "127.0.0.1:0", "--announce"]);
    command.args(["--data-dir", &data]).env("PELTON__COORDINATOR__PATHPREFIX", format!("/{PREFIX}/"));
    command.env("PELTON__COORDINATOR__CONSOLEHOSTS", "pelton.example.com");
    let mut coordinator = Child::start(command);
    let http = coordinator.announced()["http"].as_str().unwrap().to_owned();
    (http, coordinator)
}

#[test]
fn answers_tell_browsers_what_to_refuse_and_strangers_get_none() {
    let dir = tempfile::tempdir().unwrap();
    let (http, _coordinator) = alone(dir.path());
    let own = ("Host", http.as_str());
    let page = format!("GET /{PREFIX}/");
    let (status, head, body) = ask(&http, &page, &[own], "");
    assert_eq!(status, 200);
    assert!(body.contains("<title>Pelton</title>"), "{body}");
    for part in
        ["content-security-policy: default-src 'self';", "frame-ancestors 'none'", "nosniff", "etag: "]
    {
        assert!(head.contains(part), "no {part} in {head}");
    }
    let tag = head.lines().find_map(|line| line.strip_prefix("etag: ")).unwrap().trim();
    assert_eq!(ask(&http, &page, &[own, ("If-None-Match", tag)], "").0, 304);
    let (status, head, _) = ask(&http, &format!("GET /{PREFIX}"), &[own], "");
    assert!(status == 308 && head.contains(&format!("location: /{PREFIX}/")), "{head}");
    let (status, head, _) = ask(&http, &format!("GET /{PREFIX}/api/v1/nothing"), &[own], "");
    assert!(status == 404 && head.contains("cache-control: no-store"), "{head}");
    assert_eq!(ask(&http, &format!("GET /{PREFIX}/../Cargo.toml"), &[own], "").0, 404);
    assert_eq!(ask(&http, &page, &[("Host", "pelton.example.com")], "").0, 200);
    let (status, _, body) = ask(&http, &page, &[("Host", "evil.example")], "");
    assert!(status == 421 && body.contains("coordinator.consoleHosts"), "{status} {body}");

    let pause = format!("POST /{PREFIX}/api/v1/pipelines/default/none/pause");
    let json = ("Content-Type", "application/json");
    assert_eq!(ask(&http, &pause, &[own, json], "{}").0, 404, "there is no such pipeline");
    let site = |site| [own, json, ("Sec-Fetch-Site", site)];
    assert_eq!(ask(&http, &pause, &site("same-origin"), "{}").0, 404);
    assert_eq!(ask(&http, &pause, &site("cross-site"), "{}").0, 403);
    assert_eq!(ask(&http, &pause, &[own, json, ("Origin", "http://evil.example")], "{}").0, 403);
    assert_eq!(ask(&http, &pause, &[own, ("Content-Type", "text/plain")], "{}").0, 415);
    let letters = format!("POST /{PREFIX}/api/v1/pipelines/default/none/deadletters");
    for wrong in [
        "",
        "{}",
        r#"{"action":"burn","all":true}"#,
        r#"{"action":"discard"}"#,
        r#"{"action":"replay","letters":["1"]}"#,
    ] {
        assert_eq!(ask(&http, &letters, &[own, json], wrong).0, 400, "{wrong}");
    }
    // What it always served is where it was, whatever the host.
    assert_eq!(ask(&http, "GET /livez", &[("Host", "evil.example")], "").0, 200);
    let metrics = ask(&http, "GET /metrics", &[own], "").2;
    assert!(metrics.contains("pelton_incidents_open{code=\"PLT0101\"} 0"), "{metrics}");
}

/// One test, because its parts share what takes longest: processes and a browser.
#[test]
fn the_console_shows_and_does_what_it_says() {
    let Some(chromium) = browser::program() else { return };
    let mut world = World::start(&chromium);
    let kafka = Kafka::at(&world.bootstrap);
    world.apply(&pipeline("orders", "orders", Some("orders.dead")));
    world.apply(&pipeline("strict", "strict", None));
    world.feed("orders");
    kafka.put("orders", [(PAYLOAD.to_owned(), record(false, 1)), ("second".to_owned(), record(false, 2))]);
    kafka.put("strict", [("k".to_owned(), record(false, 3))]);

    let base = world.base.clone();
    world.browser.size(1280, 860, "light");
    world.browser.open(&base);
    list_and_graph(&mut world);
    incident_by_keyboard(&mut world);
    dead_letters(&mut world);
    tap(&mut world);
    tasks(&mut world);
    names_and_topics(&mut world);

    assert_eq!(world.browser.eval("window.hit ?? null"), Value::Null, "a record became markup");
    assert_eq!(world.browser.complaints(), Vec::<String>::new());
    let foreign: Vec<String> =
        world.browser.requests().into_iter().filter(|url| !url.starts_with(&base)).collect();
    assert_eq!(foreign, Vec::<String>::new(), "requests to elsewhere");
}

fn list_and_graph(world: &mut World) {
    let browser = &mut world.browser;
    browser.until("document.querySelector('#link').textContent === 'live'");
    browser.until(
        "[...document.querySelectorAll('tbody tr')].some((row) => row.innerText.includes('default/orders'))",
    );
    browser.until("[...document.querySelectorAll('tbody .pill')].some((p) => p.textContent === 'failed')");
    world.look("pipelines");
    let browser = &mut world.browser;
    browser.eval(
        "[...document.querySelectorAll('tbody a')].find((a) => a.textContent === 'default/orders').click()",
    );
    browser.until("document.querySelectorAll('.graph .node').length === 4");
    let moving = "[...document.querySelectorAll('.graph .rate')].every((t) => /^[1-9][0-9.,]*[/]s$/.test(t.textContent))";
    browser.until(moving);
    browser.until("document.querySelectorAll('.edge.flowing').length === 3");
    browser.until("/lag [0-9]+/.test(document.querySelector('.graph .lag').textContent)");
    browser.until("/[1-9][0-9]* failed/.test(document.querySelector('.graph').textContent)");
    browser.until("document.querySelector('tbody').innerText.includes('check')");
    world.look("graph");
}

/// Without a mouse: to the incidents, to the first of them, to its page.
fn incident_by_keyboard(world: &mut World) {
    let browser = &mut world.browser;
    browser.until("document.querySelector('#open-incidents').textContent === '1'");
    browser.press("g");
    browser.press("i");
    browser.until("document.querySelector('h1').textContent === 'Incidents'");
    browser.until("document.activeElement === document.querySelector('h1')");
    browser.until("document.querySelector('.incidents li')");
    let text = browser.eval("document.querySelector('.incidents').innerText");
    let text = text.as_str().unwrap();
    for part in ["PLT0101", "a record could not be processed", "default/strict", PAYLOAD, "stopped"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    world.look("incidents");
    let browser = &mut world.browser;
    browser.press("j");
    browser.until("document.activeElement.textContent === 'PLT0101'");
    browser.until("getComputedStyle(document.activeElement).outlineStyle === 'solid'");
    browser.press("Enter");
    browser.until("document.querySelector('h1').textContent === 'PLT0101: a record could not be processed'");
    browser.until("['Cause.', 'What Pelton did.', 'What to do.'].every((t) => document.querySelector('article').innerText.includes(t))");
    world.look("incident");
    let browser = &mut world.browser;
    browser.press("?");
    browser.until("document.querySelector('#shortcuts').open");
    browser.eval("document.querySelector('#shortcuts').close()");
}

fn dead_letters(world: &mut World) {
    world.go("#/pipelines/default/orders/letters");
    let browser = &mut world.browser;
    browser.until("document.querySelectorAll('.letters li').length === 2");
    browser.eval("document.querySelectorAll('.letters summary').forEach((s) => s.click())");
    browser.until("document.querySelectorAll('.letters .whole').length === 2");
    let text = browser.eval("document.querySelector('.letters').innerText");
    let text = text.as_str().unwrap();
    for part in [PAYLOAD, "second", "refused", "orders[", "check"] {
        assert!(text.contains(part), "no {part} in {text}");
    }
    world.look("letters");
    let browser = &mut world.browser;
    let choose = |key: &str| {
        format!(
            "[...document.querySelectorAll('.letters li')].find((l) => l.querySelector('.key').textContent === {key:?}).querySelector('input').click()"
        )
    };
    browser.eval(&choose("second"));
    let asked = browser.click_and_confirm("button.replay");
    assert!(asked.contains("Write 1 records back"), "{asked}");
    browser.until("document.querySelector('.tools [role=status]').textContent.startsWith('1 written back')");
    // It is read again, refused again, and so waits again.
    browser.until("(document.querySelectorAll('.letters li').length === 2) || (document.querySelector('.tools button:not([class])').click(), false)");
    browser.eval("document.querySelector('.all input').click()");
    browser.click_and_confirm("button.discard");
    browser.until("document.querySelector('.tools [role=status]').textContent.startsWith('2 discarded')");
    browser.until("document.querySelectorAll('.letters li').length === 0");
}

fn tap(world: &mut World) {
    let browser = &mut world.browser;
    browser.press("5");
    browser.until("location.hash.endsWith('/tap')");
    browser.until("document.querySelectorAll('.records li').length > 20");
    let text = browser.eval("document.querySelector('.records').innerText");
    let text = text.as_str().unwrap();
    assert!(text.matches(PAYLOAD).count() > 20 && text.contains("\"ok\":true"), "{text}");
    world.look("tap");
    let browser = &mut world.browser;
    browser.eval("(() => { const s = document.querySelector('select'); s.value = 'check'; s.dispatchEvent(new Event('change')); })()");
    browser.until("document.querySelector('.records .at')?.textContent === 'check'");
}

fn tasks(world: &mut World) {
    let browser = &mut world.browser;
    browser.press("g");
    browser.press("t");
    browser.until("document.querySelector('h1').textContent === 'Tasks'");
    browser.until("['w0', 'w1'].every((w) => document.querySelector('.long').innerText.includes(w))");
    browser.until("document.querySelectorAll('.window .row:not(.group)').length === 8");
    world.look("tasks");
    // A thousand of them: only those in sight are in the page, and the last one is reached.
    world.browser.eval(
        "(async () => {
            const { taskList } = await import('./tasks.js');
            const list = taskList();
            document.querySelector('main').replaceChildren(list.element);
            const task = (n) => ({ task: `default/big[0.g1.t${n}]`, worker: `w${n % 7}`, state: 'running', epoch: 1, in: n, out: n, lag: 0, commits: 1, busy: 5 });
            list.show(1, Array.from({ length: 1000 }, (_, n) => task(n)), []);
            document.querySelector('.view').scrollTop = 1e6;
        })()",
    );
    world.browser.until("document.querySelector('.window').innerText.includes('default/big[0.g1.t9')");
    world.browser.until("document.querySelectorAll('.window .row').length < 80");
    world.look("thousand");
}

/// Kafka has no such names, other queues may.
fn names_and_topics(world: &mut World) {
    world.browser.eval(&format!(
        "(async () => {{
            const {{ drawing }} = await import('./graph.js');
            const p = {PAYLOAD:?};
            const node = (kind, name) => ({{ name, kind, type: p, topics: [p] }});
            const graph = {{ nodes: [node('source', p), node('sink', 'out')], edges: [{{ from: p, port: p, to: 'out' }}] }};
            document.querySelector('main').replaceChildren(drawing(graph, () => '#/', 900).element);
        }})()"
    ));
    world.browser.until("document.querySelector('.graph title').textContent.includes('onerror')");
    world.browser.until("document.querySelectorAll('main img, main script').length === 0");
}
