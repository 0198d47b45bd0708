//! Running other programs from the repository's top folder.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// The repository's top folder.
pub fn top() -> PathBuf {
    // The manifest of this crate lies one folder below it.
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().map(Path::to_path_buf).unwrap_or_default()
}

/// Where cargo builds to.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(folder) => top().join(folder),
        None => top().join("target"),
    }
}

/// A program that will run in the top folder.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.current_dir(top());
    // `cargo xtask` runs under cargo, whose variables about xtask itself would make build scripts run again.
    for (name, _) in std::env::vars_os() {
        let of_xtask = ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_BIN_", "CARGO_CRATE_"];
        if of_xtask.iter().any(|prefix| name.to_string_lossy().starts_with(prefix)) {
            command.env_remove(&name);
        }
    }
    command
}

/// What compiles the workspace's own crates in the dev profile, once [`lint_dev_builds`] was called.
static LINTER: OnceLock<PathBuf> = OnceLock::new();

/// From now on builds in the dev profile are linted while they compile, and a warning fails them. `cargo clippy` by itself
/// would check every dependency once more before the tests compile it: five minutes of a cold run on two cores.
///
/// # Errors
/// The toolchain has no clippy.
pub fn lint_dev_builds() -> Result<(), String> {
    let cargo = std::env::var_os("CARGO").map(PathBuf::from).unwrap_or_default();
    let driver = cargo.with_file_name("clippy-driver");
    if !driver.is_file() {
        return Err(format!("no {}: `rustup component add clippy`", driver.display()));
    }
    let _ = LINTER.set(driver);
    Ok(())
}

/// cargo with these arguments.
pub fn cargo<'a>(arguments: impl IntoIterator<Item = &'a str>) -> Command {
    let mut command = program(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    let arguments: Vec<&str> = arguments.into_iter().collect();
    let in_dev_profile = !arguments.iter().any(|word| matches!(*word, "--release" | "--profile"));
    if let Some(driver) = LINTER.get().filter(|_| in_dev_profile) {
        // As `cargo clippy -- -D warnings` sets them; the toolchain is pinned, so their form is known.
        command.env("RUSTC_WORKSPACE_WRAPPER", driver);
        command.env("CLIPPY_ARGS", ["-D", "warnings", ""].join("__CLIPPY_HACKERY__"));
    }
    command.args(arguments);
    command
}

/// The command as one would type it.
pub fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program()).file_name().unwrap_or_default();
    let words = std::iter::once(name).chain(command.get_args());
    words.map(OsStr::to_string_lossy).collect::<Vec<_>>().join(" ")
}

/// Runs a command with our own output; its failure is ours.
pub fn run(command: &mut Command) -> Result<(), String> {
    println!("$ {}", shown(command));
    let status = command.status().map_err(|cause| format!("`{}` did not start: {cause}", shown(command)))?;
    judge(command, status)
}

/// Runs a command and gives what it wrote to standard output, without the last line end.
pub fn output(command: &mut Command) -> Result<String, String> {
    let output = command.stdin(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.map_err(|cause| format!("`{}` did not start: {cause}", shown(command)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        return Err(format!("`{}`: {}: {said}", shown(command), output.status));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
}

/// Whether a command ends well; silent.
pub fn succeeds(command: &mut Command) -> bool {
    let status = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).status();
    status.is_ok_and(|status| status.success())
}

/// Whether a program of this name is on the path.
pub fn have(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(name).is_file())
}

/// Runs a command, shows its standard output line by line as it comes, and hands each line to `line`.
pub fn follow(command: &mut Command, mut line: impl FnMut(&str)) -> Result<(), String> {
    println!("$ {}", shown(command));
    let mut child = spawn(command)?;
    if let Some(stdout) = child.stdout.take() {
        for text in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
            let text = String::from_utf8_lossy(&text).into_owned();
            println!("{text}");
            line(&text);
        }
    }
    let status = child.wait().map_err(|cause| format!("`{}`: {cause}", shown(command)))?;
    judge(command, status)
}

/// Runs a command that must end within `limit`; gives its standard output.
pub fn within(command: &mut Command, limit: Duration) -> Result<String, String> {
    println!("$ {}", shown(command));
    let mut child = spawn(command)?;
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut text = Vec::new();
        // What was read before an error is what there is.
        let _ = stdout.map(|mut stdout| stdout.read_to_end(&mut text));
        String::from_utf8_lossy(&text).into_owned()
    });
    let begun = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if begun.elapsed() > limit => {
                // Ended already is as good.
                let _ = child.kill().and_then(|()| child.wait().map(drop));
                return Err(format!("`{}` did not end within {limit:?}", shown(command)));
            }
            Ok(None) => std::thread::sleep(Duration::from_millis(50)),
            Err(cause) => return Err(format!("`{}`: {cause}", shown(command))),
        }
    };
    let text = reader.join().map_err(|_| "the reader of a program's output panicked".to_owned())?;
    judge(command, status).map(|()| text)
}

fn spawn(command: &mut Command) -> Result<Child, String> {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn();
    child.map_err(|cause| format!("`{}` did not start: {cause}", shown(command)))
}

fn judge(command: &Command, status: ExitStatus) -> Result<(), String> {
    if status.success() { Ok(()) } else { Err(format!("`{}`: {status}", shown(command))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_that_fails_or_does_not_exist_says_so_with_its_command() {
        let failed = output(program("sh").args(["-c", "echo no luck >&2; exit 3"])).unwrap_err();
        assert!(failed.contains("exit status: 3") && failed.contains("no luck"), "{failed}");
        let missing = run(&mut program("no-such-program-here")).unwrap_err();
        assert!(missing.contains("`no-such-program-here` did not start"), "{missing}");
    }

    #[test]
    fn a_program_that_does_not_end_is_ended() {
        let late = within(program("sleep").arg("600"), Duration::from_millis(100)).unwrap_err();
        assert!(late.contains("did not end within"), "{late}");
        assert_eq!(within(program("echo").arg("done"), Duration::from_secs(60)).unwrap(), "done\n");
    }

    #[test]
    fn lines_are_followed_as_they_come() {
        let mut lines = Vec::new();
        follow(program("sh").args(["-c", "echo one; echo two"]), |line| lines.push(line.to_owned())).unwrap();
        assert_eq!(lines, ["one", "two"]);
    }
}
