//! Ways to do the same work on one record, and on batches through a chain.

use pelton_expr::{Outcome, Program, Scratch};
use pelton_runtime::{
    chain::{Chain, Output},
    plan::{Input, OperatorPlan, SinkPlan, SourcePlan, StagePlan},
};
use pelton_sdk::{
    BuildContext, Registry,
    types::{Batch, Partition, PipelineName, Record, Span},
};
use serde_json::json;
use std::time::{Duration, Instant};
use vrl::{
    compiler::{TargetValueRef, TimeZone, runtime::Runtime},
    value::{Secrets, Value},
};

/// Does its work on all records and says how many bytes came out, so that ways can be compared.
pub type Way = Box<dyn FnMut(&[Vec<u8>]) -> u64>;

/// Keeps records whose price is above a million.
pub const FILTER: &str = "(.price > 1000000) ?? false";
/// Adds a price in euros and takes a field out.
pub const MAP: &str = "if exists(.price) { .price_eur = int!(.price) * 0.908 }\ndel(.extra)";
/// Changes one field and adds another, behind [`MAP`].
pub const SECOND_MAP: &str = ".channel = \"web\"\n.seen = true";
/// A name, and a filter that keeps about so many records.
pub const SHARES: [(&str, &str); 3] = [
    ("10 %", "(.price > 17800000) ?? false"),
    ("50 %", "(.price > 70800) ?? false"),
    ("100 %", "(.price > 0) ?? true"),
];

/// A filter run record by record.
pub fn filter(fast: bool) -> Way {
    let program = Program::compile_filter(FILTER).unwrap_or_else(|e| panic!("{e:?}"));
    let program = if fast { program } else { program.through_vrl() };
    let mut scratch = Scratch::default();
    Box::new(move |records| {
        let kept = |r: &&Vec<u8>| program.run_filter(&mut scratch, &r[..]).is_ok_and(|keep| keep);
        records.iter().filter(kept).map(|r| r.len() as u64).sum()
    })
}

/// A map run record by record.
pub fn map(fast: bool) -> Way {
    let program = Program::compile_map(MAP).unwrap_or_else(|e| panic!("{e:?}"));
    let program = if fast { program } else { program.through_vrl() };
    let (mut scratch, mut out) = (Scratch::default(), Vec::new());
    Box::new(move |records| {
        out.clear();
        for record in records {
            if let Ok(Outcome::Unchanged) = program.run_map(&mut scratch, &record[..], &mut out) {
                out.extend_from_slice(record);
            }
        }
        out.len() as u64
    })
}

/// VRL over a tree, as its documentation shows.
fn plain(source: &str) -> impl FnMut(&[u8]) -> Option<(Value, Value)> + use<> {
    let compiled = vrl::compiler::compile(source, &vrl::stdlib::all());
    let program = compiled.unwrap_or_else(|_| panic!("{source} does not compile")).program;
    let (mut runtime, zone) = (Runtime::default(), TimeZone::default());
    move |record| {
        let mut value: Value = serde_json::from_slice(record).ok()?;
        let (mut metadata, mut secrets) = (Value::Null, Secrets::new());
        let mut target = TargetValueRef { value: &mut value, metadata: &mut metadata, secrets: &mut secrets };
        runtime.clear();
        let answer = runtime.resolve(&mut target, &program, &zone).ok()?;
        Some((value, answer))
    }
}

/// The filter by VRL over a tree.
pub fn plain_filter() -> Way {
    let mut run = plain(FILTER);
    Box::new(move |records| {
        let mut kept = |r: &&Vec<u8>| run(r).is_some_and(|(_, answer)| answer == Value::Boolean(true));
        records.iter().filter(|r| kept(r)).map(|r| r.len() as u64).sum()
    })
}

/// The map by VRL over a tree.
pub fn plain_map() -> Way {
    let (mut run, mut out) = (plain(MAP), Vec::new());
    Box::new(move |records| {
        out.clear();
        for record in records {
            if let Some((value, _)) = run(record) {
                serde_json::to_writer(&mut out, &value).unwrap_or_else(|e| panic!("{e}"));
            }
        }
        out.len() as u64
    })
}

/// The filter by hand over a tree of `serde_json`.
pub fn serde_filter() -> Way {
    Box::new(|records| {
        let kept = |r: &&Vec<u8>| {
            let value: Option<serde_json::Value> = serde_json::from_slice(r).ok();
            value.is_some_and(|v| v["price"].as_i64().is_some_and(|price| price > 1_000_000))
        };
        records.iter().filter(kept).map(|r| r.len() as u64).sum()
    })
}

/// The map by hand over a tree of `serde_json`.
pub fn serde_map() -> Way {
    let mut out = Vec::new();
    Box::new(move |records| {
        out.clear();
        for record in records {
            let Ok(mut value) = serde_json::from_slice::<serde_json::Value>(record) else { continue };
            if let Some(price) = value["price"].as_i64() {
                value["price_eur"] = json!(price as f64 * 0.908);
            }
            value.as_object_mut().map(|members| members.remove("extra"));
            serde_json::to_writer(&mut out, &value).unwrap_or_else(|e| panic!("{e}"));
        }
        out.len() as u64
    })
}

fn registry() -> Registry {
    Registry::default()
        .operator(pelton_filter::FilterFactory)
        .operator(pelton_map::MapFactory)
        .operator(pelton_route::RouteFactory)
}

/// Operators one after the other, into one sink that takes every output of the last.
fn plan(operators: &[(&str, serde_json::Value)], ports: usize) -> StagePlan {
    let end = |name: &str| (name.to_owned(), "none".to_owned(), serde_json::Value::Null);
    let (name, connector, options) = end("in");
    let source = SourcePlan { name, connector, options };
    let (name, connector, options) = end("out");
    let last = operators.len() - 1;
    let sink_inputs = (0..=ports).map(|port| Input::Operator { index: last, port }).collect();
    StagePlan {
        pipeline: PipelineName::new("bench", "chain"),
        revision: 1,
        delivery: pelton_checkpoint::Delivery::AtLeastOnce,
        commit_interval: Duration::from_secs(1),
        sources: vec![source],
        operators: operators
            .iter()
            .enumerate()
            .map(|(n, (kind, options))| OperatorPlan {
                name: format!("{kind}{n}"),
                kind: (*kind).to_owned(),
                options: options.clone(),
                inputs: vec![
                    n.checked_sub(1).map_or(Input::Source(0), |index| Input::Operator { index, port: 0 }),
                ],
            })
            .collect(),
        sinks: vec![SinkPlan { name, connector, options, inputs: sink_inputs }],
        dead_letter: None,
    }
}

/// Batches of `size` through the chain of these operators. What a source does (copying records into batches) is not
/// measured: each batch is forked from one that was filled before. `shared`: operators use what others found.
pub fn chain(
    records: &[Vec<u8>],
    size: usize,
    operators: &[(&str, serde_json::Value)],
    ports: usize,
    shared: bool,
) -> Way {
    let plan = plan(operators, ports);
    let build = if shared { Chain::build } else { Chain::build_apart };
    let mut chain =
        build(&plan, &registry(), &BuildContext::detached("models")).unwrap_or_else(|e| panic!("{e:?}"));
    let batches: Vec<Batch> = records.chunks(size).map(batch).collect();
    Box::new(move |_| {
        let mut bytes = 0;
        for batch in &batches {
            let mut out = Output::default();
            chain.process(0, batch.fork(), Instant::now(), &mut out).unwrap_or_else(|e| panic!("{e:?}"));
            for (_, batch) in &out.sinks {
                bytes += batch.records.iter().map(|r| r.value.len() as u64).sum::<u64>();
            }
        }
        bytes
    })
}

fn batch(records: &[Vec<u8>]) -> Batch {
    let mut batch = Batch::new(Partition::new("in", 0));
    for (offset, value) in records.iter().enumerate() {
        let value = batch.put(Some(value));
        let (key, headers) = (Span::NULL, Span::NULL);
        batch.records.push(Record { key, value, headers, timestamp_ms: 0, offset: offset as i64 });
    }
    batch.mark_origin();
    batch
}
