//! One test of one pipeline.

use super::{bench::Bench, compare, stand_in};
use pelton_config::{
    Document, Place,
    tests::{TestDef, TestStep},
};
use pelton_runtime::{
    StagePlan,
    chain::{Chain, LostRecords},
};
use pelton_sdk::{Background, BuildContext, Registry};
use pelton_worker::plan::stage_plan;
use std::{
    path::Path,
    time::{Duration, Instant},
};

/// What came of a test.
#[derive(Debug)]
pub struct Ran {
    /// The pipeline.
    pub pipeline: String,
    /// The test.
    pub name: String,
    /// Where it stands.
    pub place: Place,
    /// What differs from what was expected; nothing: it passed.
    pub differences: Vec<String>,
    /// Real time it took.
    pub took: Duration,
}

/// Run a test.
pub fn run(
    document: &Document,
    test: &TestDef,
    registry: &Registry,
    models: &Path,
    background: &Background,
) -> Ran {
    let started = Instant::now();
    let mut context = BuildContext::detached(models);
    context.background = background.clone();
    let differences = match prepare(document, test, registry, &context) {
        Err(problems) => problems,
        Ok((plan, chain)) => {
            let sinks = plan.sinks.iter().map(|sink| sink.name.clone()).collect();
            let mut bench = Bench::new(chain, sinks);
            match play(test, &plan, &mut bench) {
                Ok(left) => judge(document, test, &bench, left),
                Err(lost) => vec![format!(
                    "operator `{}` panicked with {} records in flight: {}",
                    lost.operator, lost.held, lost.message
                )],
            }
        }
    };
    Ran {
        pipeline: document.metadata.name.clone(),
        name: test.name.clone(),
        place: test.place,
        differences,
        took: started.elapsed(),
    }
}

/// The pipeline's chain, with the stand-ins of the test.
fn prepare(
    document: &Document,
    test: &TestDef,
    registry: &Registry,
    context: &BuildContext,
) -> Result<(StagePlan, Chain), Vec<String>> {
    let mut plan = stage_plan(document, 1, registry, context)?;
    for stub in &test.stubs {
        for operator in plan.operators.iter_mut().filter(|o| o.name == stub.operator) {
            stand_in::answer(operator, stub);
        }
    }
    for failure in &test.failures {
        for operator in plan.operators.iter_mut().filter(|o| o.name == failure.operator) {
            stand_in::fail(operator, failure);
        }
    }
    let chain = Chain::build(&plan, &stand_in::registry(registry), context).map_err(|errors| {
        errors.iter().map(|(name, error)| format!("operator `{name}`: {}", error.message)).collect::<Vec<_>>()
    })?;
    Ok((plan, chain))
}

/// Do what the test says; the records that are still held at the end.
fn play(test: &TestDef, plan: &StagePlan, bench: &mut Bench) -> Result<u64, LostRecords> {
    for step in &test.steps {
        match step {
            TestStep::Advance(time) => bench.advance(*time)?,
            TestStep::Send(source, records) => {
                if let Some(index) = plan.sources.iter().position(|s| s.name == *source) {
                    bench.send(index, source, records)?;
                }
            }
        }
    }
    bench.finish()
}

fn judge(document: &Document, test: &TestDef, bench: &Bench, left: u64) -> Vec<String> {
    let mut lines = Vec::new();
    if left > 0 {
        lines.push(format!("{left} records never came out: an operator holds them"));
    }
    for (sink, expected) in &test.expect {
        let found = bench.got.get(sink).map(Vec::as_slice).unwrap_or_default();
        lines.extend(compare::sink(sink, expected, found));
    }
    if document.spec.on_error.dead_letter.is_none() && !bench.letters.is_empty() {
        lines.push("the pipeline has no `onError`: its task would stop at the first of these".to_owned());
    }
    lines.extend(compare::letters(&test.dead_letters, &bench.letters));
    for (operator, expected) in &test.filtered {
        let of = bench.chain.accounts().filter(|(name, _)| operator.is_empty() || name == operator);
        let found: u64 = of.map(|(_, account)| account.filtered).sum();
        if found != *expected {
            let by = if operator.is_empty() { String::new() } else { format!(" by `{operator}`") };
            lines.push(format!("filtered{by}: expected {expected}, found {found}"));
        }
    }
    if let Some((operator, account)) = bench.chain.imbalance().filter(|_| left == 0) {
        lines.push(format!("the books of operator `{operator}` do not balance: {account:?}"));
    }
    lines
}
