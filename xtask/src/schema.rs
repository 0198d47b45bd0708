//! The published JSON Schema under a validator that is not ours.

use std::process::Command;

use crate::report::Done;
use crate::shell;

/// Exact versions, so that a run of today is a run of next year.
const PACKAGES: [&str; 2] = ["jsonschema==4.25.1", "pyyaml==6.0.2"];

/// Run `deploy/schema/check.py` with its packages in a folder below `target`.
pub fn run() -> Result<Done<()>, String> {
    if !shell::have("python3") {
        return Ok(Done::Skipped("no python3: on Debian `apt-get install python3 python3-pip`".into()));
    }
    let folder = shell::target().join("xtask/schema-check");
    if !folder.join("jsonschema").exists() {
        let mut pip = Command::new("python3");
        pip.args(["-m", "pip", "install", "-q", "--disable-pip-version-check", "--target"]).arg(&folder);
        shell::run(pip.args(PACKAGES))?;
    }
    let mut check = Command::new("python3");
    check.arg(shell::top().join("deploy/schema/check.py")).env("PYTHONPATH", &folder);
    shell::run(&mut check).map(Done::With)
}
