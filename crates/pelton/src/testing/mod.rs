//! `pelton test`: the tests of a definition file, run on the real chain in virtual time.

mod bench;
mod compare;
mod junit;
mod report;
mod run;
mod stand_in;

use crate::{
    cli::TestArgs,
    components,
    exit::{Exit, Failure},
    output, signals,
    verbs::validate,
};
use pelton_sdk::Background;
use report::FileReport;
use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

/// What is read when no file is named.
const DEFAULT_FILE: &str = "pipeline.yaml";
/// Time between two looks at the files with `--watch`.
const LOOK: Duration = Duration::from_millis(300);

/// `pelton test`
pub async fn test(mut args: TestArgs) -> Result<(), Failure> {
    if args.files.is_empty() {
        args.files.push(PathBuf::from(DEFAULT_FILE));
    }
    if !args.watch {
        return once(&args).await;
    }
    let mut shutdown = signals::shutdown()?;
    loop {
        let before = stamps(&args.files);
        if let Err(failure) = once(&args).await {
            eprintln!("error: {failure}");
        }
        eprintln!("watching; Ctrl-C ends");
        while stamps(&args.files) == before {
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                _ = shutdown.changed() => return Ok(()),
            }
        }
    }
}

/// When each file was changed, and its length.
fn stamps(files: &[PathBuf]) -> Vec<Option<(SystemTime, u64)>> {
    let stamp = |path: &PathBuf| {
        let data = std::fs::metadata(path).ok()?;
        Some((data.modified().ok()?, data.len()))
    };
    files.iter().map(stamp).collect()
}

/// Run all tests of all files, and say what came out.
async fn once(args: &TestArgs) -> Result<(), Failure> {
    let handle = tokio::runtime::Handle::current();
    let background = Background::new(move |work| drop(handle.spawn(work)));
    let (files, filter, models) = (args.files.clone(), args.filter.clone(), args.models.clone());
    // Operators may wait for threads of their own, so not on a thread of the runtime.
    let run = move || -> Result<Vec<FileReport>, Failure> {
        files.iter().map(|path| file(path, filter.as_deref(), models.as_deref(), &background)).collect()
    };
    let reports =
        tokio::task::spawn_blocking(run).await.map_err(|e| Failure::unexpected(e.to_string()))??;
    if let Some(path) = &args.junit {
        std::fs::write(path, junit::xml(&reports))
            .map_err(|e| Failure::unexpected(format!("cannot write {}: {e}", path.display())))?;
    }
    match args.output {
        crate::cli::Format::Json | crate::cli::Format::Yaml => {
            output::value(&report::json(&reports), args.output)?
        }
        _ => output::print(&report::text(&reports)),
    }
    let (ran, failed) = report::counts(&reports);
    match (ran, failed) {
        (0, _) => {
            let why = match &args.filter {
                Some(filter) => format!("no test has {filter:?} in its name"),
                None => "no pipeline of these files has `tests:`".to_owned(),
            };
            Err(Failure::new(Exit::Usage, why))
        }
        (_, 0) => Ok(()),
        (ran, failed) => Err(Failure::unexpected(format!("{failed} of {ran} tests failed"))),
    }
}

/// Run the tests of one file.
fn file(
    path: &Path,
    filter: Option<&str>,
    models: Option<&Path>,
    background: &Background,
) -> Result<FileReport, Failure> {
    let definitions = validate::read(path, models, None)?;
    let registry = components::for_checks(&definitions.folder, None)?;
    let models = models.unwrap_or(&definitions.folder);
    let mut tests = Vec::new();
    for document in &definitions.documents {
        for test in &document.spec.tests {
            let name = format!("{}: {}", document.metadata.name, test.name);
            if filter.is_none_or(|filter| name.contains(filter)) {
                tests.push(run::run(document, test, &registry, models, background));
            }
        }
    }
    Ok(FileReport { name: definitions.name, tests })
}
