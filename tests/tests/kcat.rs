//! kcat against the embedded broker: an older client than ours, which asks in older versions of the protocol.

#![allow(clippy::unwrap_used)] // helpers of tests

use std::io::{BufRead, BufReader, Write};
use std::process::{Child, Command, Stdio};

use pelton_tests::parts;

#[test]
fn kcat_lists_writes_and_reads_a_topic_of_the_embedded_broker() {
    if !parts::program("kcat") {
        return;
    }
    let broker = Broker::start();
    broker.kcat(&["-P", "-t", "greetings", "-p", "0", "-K", ":"], "a:hello\nb:good day\n");
    let read =
        broker.kcat(&["-C", "-t", "greetings", "-o", "beginning", "-e", "-q", "-f", "%k %s at %o\n"], "");
    assert_eq!(read, "a hello at 0\nb good day at 1\n");
    let last = broker.kcat(&["-C", "-t", "greetings", "-p", "0", "-o", "-1", "-e", "-q"], "");
    assert_eq!(last, "good day\n");
    let end = broker.kcat(&["-Q", "-t", "greetings:0:-1"], "");
    assert_eq!(end, "greetings [0] offset 2\n");
    assert!(broker.kcat(&["-L"], "").contains("topic \"greetings\" with 4 partitions"));
    let group = ["-G", "readers", "-X", "auto.offset.reset=earliest", "-e", "-q", "greetings"];
    assert_eq!(broker.kcat(&group, ""), "hello\ngood day\n");
}

struct Broker {
    process: Child,
    bootstrap: String,
    _data: tempfile::TempDir,
}

impl Broker {
    fn start() -> Broker {
        let data = tempfile::tempdir().unwrap();
        let mut pelton = Command::new(parts::binary());
        pelton.args([
            "broker",
            "--announce",
            "--listen",
            "127.0.0.1:0",
            "--http",
            "127.0.0.1:0",
            "--data-dir",
        ]);
        let mut process = pelton.arg(data.path()).stdout(Stdio::piped()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let announced: serde_json::Value = serde_json::from_str(&line).unwrap();
        let bootstrap = announced["bootstrap"].as_str().unwrap().to_owned();
        Broker { process, bootstrap, _data: data }
    }

    fn kcat(&self, arguments: &[&str], input: &str) -> String {
        let mut kcat = Command::new("kcat");
        kcat.args(["-b", &self.bootstrap]).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = kcat.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "kcat {arguments:?}: {}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // Gone already is as good.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
