//! Kafka's own command-line tools, kcat and Java programs.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::parts;

/// What a program said.
#[derive(Debug)]
pub struct Said {
    /// How it ended.
    pub status: ExitStatus,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Said {
    /// Its standard output, if it ended well.
    pub fn ok(self) -> String {
        assert!(self.status.success(), "{}\n{}\n{}", self.status, self.out, self.err);
        self.out
    }
}

/// A program that runs. It is ended when this is dropped.
#[derive(Debug)]
pub struct Started {
    child: Child,
    out: Option<JoinHandle<String>>,
    err: Option<JoinHandle<String>>,
}

impl Started {
    /// Starts a program.
    pub fn new(command: &mut Command) -> Self {
        let piped = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let out = child.stdout.take().map(collect);
        let err = child.stderr.take().map(collect);
        Self { child, out, err }
    }

    /// Whether it has not ended.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// kill -9.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Writes to its standard input, closes that, and waits until it ends.
    pub fn finish(mut self, input: &str, patience: Duration) -> Said {
        if let Some(mut stdin) = self.child.stdin.take() {
            // One that ends without reading says why itself.
            let _ = stdin.write_all(input.as_bytes());
        }
        let deadline = Instant::now() + patience;
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > deadline {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                let (out, err) = self.texts();
                panic!("not at its end after {patience:?}: {out}\n{err}");
            }
            std::thread::sleep(Duration::from_millis(10));
        };
        let (out, err) = self.texts();
        Said { status, out, err }
    }

    fn texts(&mut self) -> (String, String) {
        let text = |reader: &mut Option<JoinHandle<String>>| {
            reader.take().map(|reader| reader.join().unwrap()).unwrap_or_default()
        };
        (text(&mut self.out), text(&mut self.err))
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            let (out, err) = self.texts();
            eprintln!("{out}\n{err}");
        }
    }
}

fn collect(mut from: impl Read + Send + 'static) -> JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        // What was read before a failure is still worth showing.
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// What a tool says that did not get an answer in its time.
const GAVE_UP: &str = "java.util.concurrent.TimeoutException";

/// Java, with Kafka's tools and our own programs on its class path.
#[derive(Debug, Clone, Copy)]
pub struct Java {
    class_path: &'static str,
}

impl Java {
    /// Java, if it is there. Maven fetches and compiles into `folder`, once.
    pub fn find(folder: &str) -> Option<Self> {
        static CLASS_PATH: OnceLock<String> = OnceLock::new();
        if !(parts::program("java") && parts::program("mvn")) {
            return None;
        }
        let class_path = CLASS_PATH.get_or_init(|| build(&Path::new(folder).join("java")));
        Some(Self { class_path })
    }

    /// Runs a class to its end. Some of Kafka's tools give up after 30 s, whatever they are told: on a loaded machine they
    /// are asked again.
    pub fn finish(&self, class: &str, arguments: &[&str], input: &str, patience: Duration) -> Said {
        let run = || self.start(class, arguments).finish(input, patience);
        let mut said = run();
        for _ in 0..3 {
            if said.status.success() || !said.out.contains(GAVE_UP) && !said.err.contains(GAVE_UP) {
                break;
            }
            said = run();
        }
        said
    }

    /// Starts a class.
    pub fn start(&self, class: &str, arguments: &[&str]) -> Started {
        let mut command = Command::new("java");
        // Short runs: the cheap compiler and collector.
        command.args(["-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto", "-Xmx256m"]);
        command.args(["-Dorg.slf4j.simpleLogger.defaultLogLevel=error", "-cp", self.class_path, class]);
        Started::new(command.args(arguments))
    }
}

fn build(folder: &Path) -> String {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("streams");
    let pom = sources.join("pom.xml");
    let program = sources.join("src/main/java/dev/pelton/conformance/WordCount.java");
    let class_path = folder.join("class-path");
    let changed = |path: &Path| path.metadata().and_then(|data| data.modified()).ok();
    let is_new = changed(&class_path).is_some_and(|built| {
        [&pom, &program].into_iter().all(|source| changed(source).is_some_and(|change| change < built))
    });
    if !is_new {
        let mut maven = Command::new("mvn");
        maven.args(["-q", "-B", "compile"]).arg("-f").arg(&pom);
        maven.arg("org.apache.maven.plugins:maven-dependency-plugin:3.6.1:build-classpath");
        maven.arg(format!("-Dout={}", folder.display())).arg("-DincludeScope=runtime");
        maven.arg(format!("-Dmdep.outputFile={}", class_path.display()));
        Started::new(&mut maven).finish("", Duration::from_secs(600)).ok();
    }
    let jars = std::fs::read_to_string(&class_path).unwrap();
    format!("{}:{}", folder.join("classes").display(), jars.trim())
}
