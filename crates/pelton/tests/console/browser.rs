//! A real Chromium, told what to do over the DevTools protocol.
//!
//! Through a pipe, so that there is no port and no WebSocket. Crates for this protocol compile its whole description,
//! some 60,000 lines; a dozen of its methods are used here.

use crate::support::PATIENCE;
use base64::{Engine as _, prelude::BASE64_STANDARD};
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::{Duration, Instant},
};

/// See the module.
pub struct Browser {
    process: Child,
    commands: Option<ChildStdin>,
    messages: Receiver<Value>,
    next: u64,
    session: Option<String>,
    events: Vec<Value>,
    _profile: tempfile::TempDir,
}

/// The program to run: from `PELTON_TEST_CHROMIUM`, else the first of its names on the path. `None`: this run goes
/// without; under `PELTON_TEST_REQUIRE_ALL=1` it may not.
pub fn program() -> Option<String> {
    if let Some(given) = std::env::var("PELTON_TEST_CHROMIUM").ok().filter(|given| !given.is_empty()) {
        return Some(given);
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let there = |name: &&str| std::env::split_paths(&path).any(|folder| folder.join(name).is_file());
    let found = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(there);
    let all = std::env::var("PELTON_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(found.is_some() || !all, "no chromium on the path, and this run may skip nothing");
    if found.is_none() {
        eprintln!("skipped: no chromium on the path; on Debian `apt-get install chromium`");
    }
    found.map(str::to_owned)
}

impl Browser {
    /// Start one with a fresh profile and one page.
    pub fn start(program: &str) -> Browser {
        let profile = tempfile::tempdir().unwrap();
        let data = format!("--user-data-dir={}", profile.path().display());
        // The protocol wants file descriptors 3 and 4, which the shell can give without unsafe code.
        let mut process = Command::new("sh")
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh", program])
            // A sandbox needs rights that root in a container has not; only our own pages are opened.
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"])
            // Chromium's own services would ask the network.
            .args(["--disable-background-networking", "--disable-component-update", "--no-first-run"])
            .args(["--remote-debugging-pipe", &data, "about:blank"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, messages) = channel();
        let mut from = BufReader::new(process.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while from.read_until(0, &mut message).is_ok_and(|n| n > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else { return };
                if sender.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let commands = process.stdin.take();
        let (session, events) = (None, Vec::new());
        let mut browser =
            Browser { process, commands, messages, next: 0, session, events, _profile: profile };
        browser.attach();
        browser
    }

    fn attach(&mut self) {
        let page = crate::support::until("a page", || {
            let targets = self.call("Target.getTargets", json!({}));
            let all = targets["targetInfos"].as_array().unwrap();
            let page = all.iter().find(|t| t["type"] == "page")?;
            Some(page["targetId"].as_str().unwrap().to_owned())
        });
        let attached = self.call("Target.attachToTarget", json!({ "targetId": page, "flatten": true }));
        self.session = attached["sessionId"].as_str().map(str::to_owned);
        for domain in ["Page", "Runtime", "Network", "Log"] {
            self.call(&format!("{domain}.enable"), json!({}));
        }
    }

    /// Call a method and wait for its result.
    #[track_caller]
    pub fn call(&mut self, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let id = self.next;
        let mut message = json!({ "id": id, "method": method, "params": parameters });
        if let Some(session) = &self.session {
            message["sessionId"] = session.as_str().into();
        }
        let pipe = self.commands.as_mut().unwrap();
        pipe.write_all(format!("{message}\0").as_bytes()).unwrap();
        loop {
            let message = self.messages.recv_timeout(PATIENCE).unwrap_or_else(|e| panic!("{method}: {e}"));
            if message["id"] != id {
                self.events.push(message);
                continue;
            }
            assert!(message.get("error").is_none(), "{method}: {message}");
            return message["result"].clone();
        }
    }

    /// The value of an expression in the page, or its exception; a promise is waited for.
    fn evaluate(&mut self, expression: &str) -> Result<Value, Value> {
        let asked = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let result = self.call("Runtime.evaluate", asked);
        match result.get("exceptionDetails") {
            Some(details) => Err(details.clone()),
            None => Ok(result["result"]["value"].clone()),
        }
    }

    /// The value of an expression in the page.
    #[track_caller]
    pub fn eval(&mut self, expression: &str) -> Value {
        self.evaluate(expression).unwrap_or_else(|e| panic!("{expression}: {e}"))
    }

    /// Wait until an expression is true. What it asks of an element that is not there yet is not.
    #[track_caller]
    pub fn until(&mut self, expression: &str) {
        let deadline = Instant::now() + PATIENCE;
        while !self.evaluate(&format!("Boolean({expression})")).is_ok_and(|is| is == true) {
            if Instant::now() > deadline {
                let page = self.eval("document.body.innerText.slice(0, 3000)");
                let title = self.eval("location.hash + ' ' + document.title");
                let wrong = self.complaints();
                panic!("waited in vain for: {expression}\n{title}\n{page}\n{wrong:?}");
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Open an address.
    #[track_caller]
    pub fn open(&mut self, url: &str) {
        let opened = self.call("Page.navigate", json!({ "url": url }));
        assert!(opened.get("errorText").is_none(), "{url}: {opened}");
    }

    /// Press and release a key.
    pub fn press(&mut self, key: &str) {
        let text = if key == "Enter" { "\r" } else { key };
        let written = key.chars().count() == 1 || key == "Enter";
        let down = if written {
            json!({ "type": "keyDown", "key": key, "text": text })
        } else {
            json!({ "type": "rawKeyDown", "key": key, "code": key, "windowsVirtualKeyCode": 9 })
        };
        self.call("Input.dispatchKeyEvent", down);
        self.call("Input.dispatchKeyEvent", json!({ "type": "keyUp", "key": key }));
    }

    /// Click an element; if that asks for confirmation, say yes. Returns what was asked.
    #[track_caller]
    pub fn click_and_confirm(&mut self, selector: &str) -> String {
        // Later, for a question holds the page and would hold the answer of the call.
        self.eval(&format!("void setTimeout(() => document.querySelector({selector:?}).click(), 0)"));
        let deadline = Instant::now() + PATIENCE;
        let question = loop {
            let asked = |e: &Value| e["method"] == "Page.javascriptDialogOpening";
            if let Some(at) = self.events.iter().position(asked) {
                break self.events.remove(at);
            }
            assert!(Instant::now() < deadline, "{selector} asked nothing");
            if let Ok(message) = self.messages.recv_timeout(Duration::from_millis(100)) {
                self.events.push(message);
            }
        };
        self.call("Page.handleJavaScriptDialog", json!({ "accept": true }));
        question["params"]["message"].as_str().unwrap().to_owned()
    }

    /// A window of this size, in this scheme.
    pub fn size(&mut self, width: u32, height: u32, scheme: &str) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        self.call("Emulation.setDeviceMetricsOverride", size);
        let scheme = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", scheme);
    }

    /// Keep a picture of what is in sight.
    pub fn picture(&mut self, file: &Path) {
        let taken = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        let bytes = BASE64_STANDARD.decode(taken["data"].as_str().unwrap()).unwrap();
        std::fs::write(file, bytes).unwrap();
    }

    /// Addresses of all requests so far.
    pub fn requests(&self) -> Vec<String> {
        let sent = self.events.iter().filter(|e| e["method"] == "Network.requestWillBeSent");
        sent.map(|e| e["params"]["request"]["url"].as_str().unwrap().to_owned()).collect()
    }

    /// Errors and warnings of the page so far: exceptions, refusals by its policy, requests that failed, ...
    pub fn complaints(&self) -> Vec<String> {
        let wrong = |e: &&Value| match e["method"].as_str() {
            Some("Runtime.exceptionThrown") => true,
            Some("Log.entryAdded") => e["params"]["entry"]["level"] == "error",
            Some("Runtime.consoleAPICalled") => e["params"]["type"] == "error",
            _ => false,
        };
        self.events.iter().filter(wrong).map(|e| e["params"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The end of the pipe is the end of the browser, with all its processes; it may be gone already.
        drop(self.commands.take());
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline && self.process.try_wait().is_ok_and(|ended| ended.is_none()) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
