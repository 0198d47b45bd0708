//! What users write, and what the shipped binary says to it.
// Helpers of tests may unwrap as tests may.
#![allow(clippy::unwrap_used)]

mod golden;
mod schema;
mod tests;

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

/// A path from the root of the repository.
fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(path)
}

/// Run the binary in a folder, with nothing of the caller's settings.
fn pelton(folder: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_pelton"))
        .args(args)
        .current_dir(folder)
        .env_clear()
        .env("TOPIC", "orders")
        .env("TASKS", "4")
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Whether expected texts are to be written anew. Read them before you keep them.
fn blessing() -> bool {
    std::env::var_os("UPDATE_GOLDEN").is_some()
}
