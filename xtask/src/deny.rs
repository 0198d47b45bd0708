//! `cargo xtask deny`: cargo-deny with deny.toml.

use crate::report::Outcome;
use crate::shell;

/// Checks licences, bans and sources. Advisories are left out: their database is no part of the repository.
pub fn check() -> Result<Outcome, String> {
    let own = shell::target().join("tools/cargo-deny");
    let found = if own.is_file() {
        own.into_os_string()
    } else if shell::have("cargo-deny") {
        "cargo-deny".into()
    } else {
        let how = "no cargo-deny: `cargo install cargo-deny --locked`, or as .ci/run does it";
        return Ok(Outcome::Skipped(how.into()));
    };
    let arguments = ["--locked", "--log-level", "error", "check", "bans", "licenses", "sources"];
    shell::run(shell::program(found).args(arguments))?;
    Ok(Outcome::Passed)
}
