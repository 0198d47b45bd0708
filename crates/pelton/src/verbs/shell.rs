//! `pelton completion`, `pelton man`: generated from the command line's own definition.

use crate::{cli::Cli, exit::Failure, output};
use clap::CommandFactory;
use clap_complete::Shell;
use std::path::Path;

/// `pelton completion`
pub fn completion(shell: Shell) {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pelton", &mut script);
    output::print(String::from_utf8_lossy(&script).trim_end());
}

/// `pelton man`: the page of the program, or with a folder one page for every command.
pub fn man(folder: Option<&Path>) -> Result<(), Failure> {
    let Some(folder) = folder else {
        let mut page = Vec::new();
        clap_mangen::Man::new(Cli::command()).render(&mut page)?;
        output::print(String::from_utf8_lossy(&page).trim_end());
        return Ok(());
    };
    std::fs::create_dir_all(folder)
        .and_then(|()| clap_mangen::generate_to(Cli::command(), folder))
        .map_err(|e| Failure::bad(format!("cannot write to {}: {e}", folder.display())))
}
