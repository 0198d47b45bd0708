//! `cargo xtask bench scale`: the number of worker containers changes a hundred times under load; no orphan, no record
//! lost. The test that CI runs with a few changes, run with many.

use clap::Args;

use crate::{image, shell};

/// What `cargo xtask bench scale` may be told.
#[derive(Args, Clone, Debug)]
pub struct Scale {
    /// Changes.
    #[arg(long, default_value_t = 100)]
    events: u32,
    /// Image of the workers; it is built unless given.
    #[arg(long)]
    image: Option<String>,
}

/// Builds the image if need be, and scales.
pub fn run(options: &Scale) -> Result<(), String> {
    let tag = match &options.image {
        Some(tag) => tag.clone(),
        None => {
            let fresh = image::Options::release("localhost/pelton:bench");
            println!("{}", image::build(&fresh)?);
            fresh.tag().to_owned()
        }
    };
    let test =
        ["test", "--locked", "--workspace", "--test", "driver", "--", "--nocapture", "a_coordinator_keeps"];
    let mut cargo = shell::cargo(test);
    cargo.env("PELTON_TEST_IMAGE", tag).env("PELTON_TEST_SCALE_EVENTS", options.events.to_string());
    shell::run(&mut cargo)
}
