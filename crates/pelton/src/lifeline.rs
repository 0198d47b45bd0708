//! Children that end with their parent.
//!
//! A parent keeps the writing end of a pipe that is its child's standard input. However the parent ends, the system
//! closes that end, and the child reads the end of its input and exits at once. Nothing is lost: what was committed is
//! committed, the rest is read again.

use std::{io::Read, process::exit};

/// End this process when standard input closes.
pub fn hold() {
    std::thread::spawn(|| {
        let mut sink = [0_u8; 64];
        let mut input = std::io::stdin().lock();
        loop {
            match input.read(&mut sink) {
                Ok(0) => exit(0),
                Ok(_) => {}
                Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => exit(0),
            }
        }
    });
}

/// Tell the parent where this process listens: one line of JSON on standard output.
pub fn announce(addresses: &serde_json::Value) {
    println!("{addresses}");
}
