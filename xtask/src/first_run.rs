//! Does what the README tells a new user to do first, and looks at the account that comes out.

use std::process::Command;
use std::time::Duration;

use serde_json::Value;

use crate::shell;

/// Start, 540 records and the idle time take seconds; this is for a machine under load.
const LIMIT: Duration = Duration::from_secs(180);

/// What tests put into a development build, and nobody may find in what is shipped: the variables they are told by.
const FOR_TESTS_ONLY: [&str; 2] = ["PELTON_FAIL_POINTS", "PELTON_SABOTAGE"];

/// Builds as the command would, so that the build is not part of the limit.
pub fn build() -> Result<(), String> {
    shell::run(&mut shell::cargo(["build", "--release", "--locked", "--package", "pelton"]))?;
    let binary = shell::target().join("release/pelton");
    let bytes = std::fs::read(&binary).map_err(|cause| format!("{}: {cause}", binary.display()))?;
    let found = FOR_TESTS_ONLY.iter().find(|name| memchr::memmem::find(&bytes, name.as_bytes()).is_some());
    found.map_or(Ok(()), |name| Err(format!("{} knows {name}: tests could harm it", binary.display())))
}

/// Runs the README's first command until it is idle.
pub fn run() -> Result<(), String> {
    let readme = shell::top().join("README.md");
    let readme =
        std::fs::read_to_string(&readme).map_err(|cause| format!("{}: {cause}", readme.display()))?;
    let words =
        first_command(&readme).ok_or("README.md has no line that starts with `cargo run --release`")?;
    let mut command = command_of(&words);
    let written = shell::within(command.args(["--until-idle", "3s", "-o", "json"]), LIMIT)?;
    let account = written.lines().last().unwrap_or_default();
    println!("{account}");
    judge(account)
}

fn command_of(words: &[String]) -> Command {
    let arguments = words.iter().skip(1).map(String::as_str);
    shell::cargo(arguments)
}

/// The words of the first `cargo run --release` line, without a comment at its end.
fn first_command(readme: &str) -> Option<Vec<String>> {
    let line = readme.lines().map(str::trim).find(|line| line.starts_with("cargo run --release"))?;
    let command = line.split(" #").next()?;
    Some(command.split_whitespace().map(str::to_owned).collect())
}

/// Every record that came in must be accounted for, and none may be left or refused.
fn judge(account: &str) -> Result<(), String> {
    let account: Value =
        serde_json::from_str(account).map_err(|cause| format!("last line `{account}`: {cause}"))?;
    let count =
        |name: &str| account[name].as_i64().ok_or_else(|| format!("no whole number `{name}` in {account}"));
    let (read, written, expanded) = (count("recordsIn")?, count("emitted")?, count("expanded")?);
    let (filtered, held, refused) = (count("filtered")?, count("held")?, count("deadLettered")?);
    if read == 0 || written == 0 {
        return Err(format!("nothing was processed: {account}"));
    }
    if held != 0 || refused != 0 || count("pending")? != 0 {
        return Err(format!("something is left or refused: {account}"));
    }
    let merged = account["merged"].as_i64().unwrap_or_default();
    if read + expanded != written + filtered + merged {
        return Err(format!("recordsIn + expanded is not emitted + filtered + merged: {account}"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_command_of_the_readme_is_found_without_its_comment() {
        let readme =
            "# Pelton\n\n```sh\ncargo run --release -- dev a.yaml     # the main job\ncargo xtask ci\n```\n";
        assert_eq!(first_command(readme).unwrap(), ["cargo", "run", "--release", "--", "dev", "a.yaml"]);
        assert_eq!(first_command("nothing here"), None);
    }

    #[test]
    fn an_account_with_a_record_missing_left_or_refused_is_a_failure() {
        let account = |read: i64, written: i64, filtered: i64, refused: i64, pending: i64| {
            let account = serde_json::json!({
                "recordsIn": read, "emitted": written, "filtered": filtered, "held": 0, "expanded": 0,
                "deadLettered": refused, "pending": pending, "elapsedSeconds": 4.5, "cpuSeconds": 1.5,
            });
            judge(&account.to_string())
        };
        assert_eq!(account(540, 540, 0, 0, 0), Ok(()));
        assert_eq!(account(540, 500, 40, 0, 0), Ok(()));
        assert!(account(540, 539, 0, 0, 0).is_err(), "one is missing");
        assert!(account(540, 539, 0, 1, 0).is_err(), "one was refused");
        assert!(account(540, 540, 0, 0, 3).is_err(), "three are left");
        assert!(account(0, 0, 0, 0, 0).is_err(), "nothing happened");
        assert!(judge("bye").unwrap_err().contains("`bye`"));
        assert!(judge("{}").unwrap_err().contains("recordsIn"));
    }
}
