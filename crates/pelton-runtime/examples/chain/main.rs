//! Records per second and core of filters and maps, through the operators and beside other ways.
//! `cargo xtask bench chain`
//!
//! All ways run in turns in one process, so that what a busy machine does to one it does to the others; the time is the
//! CPU time of the thread. Nothing passes or fails: the bars are printed beside the figures.

#[allow(clippy::cast_precision_loss, reason = "figures for people")]
mod corpus;
mod ways;

use clap::Parser;
use serde_json::json;
use std::{hint::black_box, time::Duration};
use ways::Way;

/// What may be told.
#[derive(Parser)]
struct Options {
    /// Times each way is measured, in turns.
    #[arg(long, default_value_t = 15)]
    rounds: usize,
    /// Records of each corpus.
    #[arg(long, default_value_t = 20_000)]
    records: usize,
    /// Records of a batch.
    #[arg(long, default_value_t = 1_000)]
    batch: usize,
    /// What the corpora are made from.
    #[arg(long, default_value_t = 7)]
    seed: u64,
    /// Only rows whose name holds this.
    #[arg(long, default_value = "")]
    only: String,
}

/// One line of the table.
struct Row {
    name: String,
    /// Rows of one group do the same work on the same records; the first gives the unit.
    group: String,
    /// Records per second and core that it should reach.
    bar: Option<f64>,
    corpus: usize,
    way: Way,
    bytes: u64,
    seconds: Vec<f64>,
}

fn main() {
    let options = Options::parse();
    let mut random = corpus::Random(options.seed);
    let corpora = [corpus::flat(&mut random, options.records), corpus::nested(&mut random, options.records)];
    let mut rows = rows(&corpora, options.batch);
    rows.retain(|row| row.name.contains(&options.only) || row.group.contains(&options.only));
    for _ in 0..=options.rounds {
        for row in &mut rows {
            let start = cpu_time();
            row.bytes = black_box((row.way)(&corpora[row.corpus]));
            row.seconds.push((cpu_time() - start).as_secs_f64());
        }
    }
    for row in &mut rows {
        // The first round warms up.
        row.seconds.remove(0);
        row.seconds.sort_by(f64::total_cmp);
    }
    print(&options, &corpora, &rows);
}

fn rows(corpora: &[Vec<Vec<u8>>; 2], batch: usize) -> Vec<Row> {
    let mut rows = Vec::new();
    for (corpus, label) in ["280 B flat", "874 B nested"].into_iter().enumerate() {
        // The bars are for the flat records.
        let bar = |millions: f64| (corpus == 0).then_some(millions * 1e6);
        let mut add = |group: &str, name: &str, bar: Option<f64>, way: Way| {
            let (group, name) = (format!("{group}, {label}"), name.to_owned());
            rows.push(Row { name, group, bar, corpus, way, bytes: 0, seconds: Vec::new() });
        };
        let records = &corpora[corpus];
        let chain = |operators: &[_], ports| ways::chain(records, batch, operators, ports, true);
        let filter = ("filter", json!(ways::FILTER));
        let map = ("map", json!(ways::MAP));
        add("filter on one field", "fast path", bar(8.0), ways::filter(true));
        add("filter on one field", "VRL, lazy target", bar(4.0), ways::filter(false));
        add("filter on one field", "chain with the operator", None, chain(std::slice::from_ref(&filter), 0));
        add("filter on one field", "plain VRL on a tree", None, ways::plain_filter());
        add("filter on one field", "serde_json by hand", None, ways::serde_filter());
        add("map of two fields", "fast path", bar(3.0), ways::map(true));
        add("map of two fields", "VRL, lazy target", bar(2.5), ways::map(false));
        add("map of two fields", "chain with the operator", None, chain(std::slice::from_ref(&map), 0));
        add("map of two fields", "plain VRL on a tree", None, ways::plain_map());
        add("map of two fields", "serde_json by hand", None, ways::serde_map());
        neighbours(&mut add, records, batch);
    }
    rows
}

/// Chains with and without one index for all.
fn neighbours(add: &mut impl FnMut(&str, &str, Option<f64>, Way), records: &[Vec<u8>], batch: usize) {
    let second = ("filter", json!(".channel != \"none\""));
    let map = ("map", json!(ways::MAP));
    let routes = json!([{ "low": "(.price < 100000) ?? false" }, { "many": "(.bidder > 5000) ?? false" }]);
    let route = ("route", json!({ "routes": routes }));
    for (share, condition) in ways::SHARES {
        let first = ("filter", json!(condition));
        let chains = [
            ("filter, filter", vec![first.clone(), second.clone()], 0),
            ("filter, map", vec![first.clone(), map.clone()], 0),
            ("filter, filter, route", vec![first.clone(), second.clone(), route.clone()], 2),
            ("filter, filter, map, route", vec![first, second.clone(), map.clone(), route.clone()], 2),
        ];
        for (name, operators, ports) in chains {
            let group = format!("{name}, {share} pass");
            add(&group, "apart", None, ways::chain(records, batch, &operators, ports, false));
            add(&group, "one index", None, ways::chain(records, batch, &operators, ports, true));
        }
    }
    let after = ("map", json!(ways::SECOND_MAP));
    let both = ("map", json!(format!("{}\n{}", ways::MAP, ways::SECOND_MAP)));
    let two = [map, after];
    add("two maps", "apart", None, ways::chain(records, batch, &two, 0, false));
    add("two maps", "one index", None, ways::chain(records, batch, &two, 0, true));
    add("two maps", "one map of both", None, ways::chain(records, batch, &[both], 0, true));
}

fn print(options: &Options, corpora: &[Vec<Vec<u8>>; 2], rows: &[Row]) {
    let mean = |records: &[Vec<u8>]| records.iter().map(Vec::len).sum::<usize>() / records.len().max(1);
    println!(
        "seed {}, {} records of {} and {} bytes in the mean, batches of {}, {} rounds, CPU time of the thread",
        options.seed,
        options.records,
        mean(&corpora[0]),
        mean(&corpora[1]),
        options.batch,
        options.rounds
    );
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    println!(
        "load of the machine (1, 5, 15 minutes): {}",
        load.split(' ').take(3).collect::<Vec<_>>().join(" ")
    );
    println!();
    println!(
        "{:<26}{:>10}{:>10}{:>10}{:>8}{:>8}",
        "M rec/s/core", "best", "median", "ns, best", "bar", "times"
    );
    let mut group = "";
    let mut unit = 0.0;
    for row in rows {
        let rate = |seconds: f64| options.records as f64 / seconds;
        let (best, median) = (rate(row.seconds[0]), rate(row.seconds[row.seconds.len() / 2]));
        if group != row.group {
            group = &row.group;
            println!("\n{group} ({} bytes out)", row.bytes);
            unit = best;
        }
        let bar = row.bar.map_or(String::new(), |bar| {
            format!("{:.1}{}", bar / 1e6, if best >= bar { " +" } else { " -" })
        });
        println!(
            "  {:<24}{:>10.2}{:>10.2}{:>10.0}{:>8}{:>8.2}",
            row.name,
            best / 1e6,
            median / 1e6,
            1e9 / best,
            bar,
            best / unit
        );
    }
}

/// CPU time of this thread.
fn cpu_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a timespec that lives here.
    let answer = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(answer, 0, "the thread has no clock");
    Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or_default())
}
