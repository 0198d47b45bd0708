use super::*;

#[test]
fn the_page_shows_what_was_counted_with_help_and_labels() {
    let metrics = Metrics::new("worker");
    let commits =
        metrics.counters("pelton_commits_total", "Commits by result.", &[Label::Pipeline, Label::Result]);
    let commits = commits.unwrap();
    commits.with(&["orders", "clean"]).inc_by(3);
    commits.with(&["orders", "failed"]).inc();
    metrics.gauge("pelton_leader", "1 on the leader.").unwrap().set(1);
    metrics.histogram("pelton_commit_duration_seconds", "Commits.", SECONDS).unwrap().observe(0.003);
    let page = metrics.page().unwrap();
    for line in [
        "# HELP pelton_commits_total Commits by result.",
        "# TYPE pelton_commits_total counter",
        "pelton_commits_total{pipeline=\"orders\",result=\"clean\"} 3",
        "pelton_commits_total{pipeline=\"orders\",result=\"failed\"} 1",
        "pelton_leader 1",
        "pelton_commit_duration_seconds_bucket{le=\"0.002\"} 0",
        "pelton_commit_duration_seconds_bucket{le=\"0.005\"} 1",
        "pelton_commit_duration_seconds_count 1",
    ] {
        assert!(page.lines().any(|have| have == line), "no line `{line}` in\n{page}");
    }
    assert!(page.contains("pelton_build_info{commit="), "{page}");
    assert!(page.contains("role=\"worker\""), "{page}");
    #[cfg(target_os = "linux")]
    assert!(page.contains("process_resident_memory_bytes"), "{page}");
}

#[test]
fn names_that_hide_their_unit_or_kind_are_refused() {
    let metrics = Metrics::new("worker");
    let refused = |result: Result<(), MetricError>, why: &str| {
        let error = result.expect_err(why).to_string();
        assert!(error.contains(why), "{error} does not say {why}");
    };
    refused(metrics.counter("records_total", "").map(drop), "start with `pelton_`");
    refused(metrics.counter("pelton_records", "").map(drop), "end in `_total`");
    refused(metrics.gauge("pelton_records_total", "").map(drop), "end in `_total`");
    refused(metrics.float_gauge("pelton_lag_ms", "").map(drop), "base unit");
    refused(metrics.float_gauge("pelton_busy_percent", "").map(drop), "base unit");
    refused(metrics.counter("pelton_Records_total", "").map(drop), "lower case");
    refused(metrics.histogram("pelton_commit_duration", "", SECONDS).map(drop), "`_seconds`, `_bytes`");
}

#[test]
fn one_name_asked_for_twice_is_one_metric_and_never_two_kinds() {
    let metrics = Metrics::new("worker");
    let first = metrics.counters("pelton_records_in_total", "In.", &[Label::Task]).unwrap();
    let second = metrics.counters("pelton_records_in_total", "In.", &[Label::Task]).unwrap();
    first.with(&["0"]).inc();
    second.with(&["0"]).inc();
    assert_eq!(first.with(&["0"]).get(), 2);
    let taken = MetricError::Taken { name: "pelton_records_in_total".into() };
    assert_eq!(metrics.counters("pelton_records_in_total", "In.", &[Label::Stage]).unwrap_err(), taken);
    assert_eq!(metrics.counter("pelton_records_in_total", "In.").unwrap_err(), taken);
}

#[test]
fn series_beyond_the_limit_are_folded_into_one_and_counted() {
    let metrics = Metrics::new("worker");
    let lag = metrics.gauges("pelton_source_lag_records", "Lag.", &[Label::Topic, Label::Partition]).unwrap();
    for partition in 0..SERIES_LIMIT + 5 {
        lag.with(&["orders", &partition.to_string()]).set(1);
    }
    let page = metrics.page().unwrap();
    let series = page.lines().filter(|line| line.starts_with("pelton_source_lag_records{")).count();
    assert_eq!(series, SERIES_LIMIT + 1);
    assert!(page.contains("pelton_source_lag_records{partition=\"_other\",topic=\"_other\"} 1"));
    assert!(page.contains("pelton_metric_series_folded_total{metric=\"pelton_source_lag_records\"} 5"));
    // A series that is forgotten makes room for another.
    lag.remove(&["orders", "0"]);
    lag.with(&["payments", "0"]).set(7);
    assert!(
        metrics.page().unwrap().contains("pelton_source_lag_records{partition=\"0\",topic=\"payments\"} 7")
    );
}

#[test]
fn a_task_that_leaves_takes_all_its_series_along() {
    let metrics = Metrics::new("worker");
    let out = metrics.counters(
        "pelton_records_out_total",
        "Out.",
        &[Label::Pipeline, Label::Task, Label::Operator],
    );
    let out = out.unwrap();
    out.with(&["orders", "1", "large"]).inc();
    out.with(&["orders", "1", "convert"]).inc();
    out.with(&["orders", "10", "large"]).inc();
    out.remove_prefix(&["orders", "1"]);
    let page = metrics.page().unwrap();
    let left: Vec<&str> = page.lines().filter(|line| line.starts_with("pelton_records_out_total{")).collect();
    assert_eq!(left, ["pelton_records_out_total{operator=\"large\",pipeline=\"orders\",task=\"10\"} 1"]);
}

#[test]
fn gauges_that_are_computed_are_fresh_at_each_reading() {
    let metrics = Metrics::new("worker");
    let age = metrics.float_gauge("pelton_open_txn_age_seconds", "Age.").unwrap();
    metrics.before_scrape(move || age.add(1.5));
    assert!(metrics.page().unwrap().contains("pelton_open_txn_age_seconds 1.5"));
    assert!(metrics.page().unwrap().contains("pelton_open_txn_age_seconds 3\n"));
}

#[test]
fn every_metric_can_be_listed_with_what_it_tells() {
    let metrics = Metrics::new("worker");
    metrics.counters("pelton_commits_total", "Commits.", &[Label::Pipeline, Label::Result]).unwrap();
    metrics
        .float_counters("pelton_task_busy_seconds_total", "Work.", &[Label::Task])
        .unwrap()
        .with(&["1"])
        .inc_by(0.5);
    let all = metrics.described();
    let names: Vec<&str> = all.iter().map(|metric| metric.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "pelton_build_info",
            "pelton_commits_total",
            "pelton_metric_series_folded_total",
            "pelton_task_busy_seconds_total",
        ]
    );
    let commits = Described {
        name: "pelton_commits_total".into(),
        kind: "counter",
        labels: vec!["pipeline", "result"],
        help: "Commits.".into(),
    };
    assert_eq!(all[1], commits);
    assert!(metrics.page().unwrap().contains("pelton_task_busy_seconds_total{task=\"1\"} 0.5"));
}
