use super::*;

fn spec() -> Spec {
    Spec {
        fleet: "blue".into(),
        image: "localhost/pelton:dev".into(),
        pull: Pull::Never,
        credentials: None,
        arguments: vec!["worker".into()],
        environment: vec![],
        network: Some("net".into()),
        volumes: vec![],
        memory: Some(128 << 20),
        milli_cpus: Some(500),
        grace: Duration::from_secs(35),
        lifeline: false,
    }
}

#[test]
fn a_worker_container_has_no_rights_and_a_limit() {
    let body = spec().body(2, "m");
    let host = body.host_config.unwrap();
    assert_eq!(body.cmd.unwrap(), ["worker", "--id", "blue-worker-3"]);
    assert_eq!((host.readonly_rootfs, host.cap_drop), (Some(true), Some(vec!["ALL".to_owned()])));
    assert_eq!((host.memory, host.memory_swap), (Some(128 << 20), Some(128 << 20)), "no swap on top");
    assert_eq!(host.nano_cpus, Some(500_000_000));
    assert_eq!(body.user.as_deref(), Some("65532:65532"));
}

#[test]
fn what_is_seen_of_a_container_comes_from_its_labels_and_its_name() {
    let labels = spec().body(2, "m").labels;
    let summary = |name: &str, state| ContainerSummary {
        id: Some("0123456789abcdef".into()),
        names: Some(vec![format!("/{name}")]),
        labels: labels.clone(),
        state: Some(state),
        ..ContainerSummary::default()
    };
    let running = seen(&summary("blue-worker-3", Shown::RUNNING)).unwrap();
    assert_eq!((running.slot, running.make.as_str(), running.leaving), (2, "m", false));
    assert_eq!(running.state, State::Running);
    let leaving = seen(&summary("blue-worker-3-leaving-0123456789ab", Shown::EXITED)).unwrap();
    assert_eq!((leaving.leaving, leaving.state), (true, State::Ended));
    let strange = ContainerSummary { labels: Some(HashMap::new()), ..summary("x", Shown::RUNNING) };
    assert_eq!(seen(&strange), None);
}

#[test]
fn an_end_is_told_in_words_that_help() {
    assert!(end_text(137, true, Some(128 << 20)).contains("128 MiB"));
    assert_eq!(end_text(137, false, None), "it was killed (SIGKILL)");
    assert_eq!(end_text(1, false, None), "exit code 1");
}

#[test]
fn another_limit_or_argument_makes_another_container() {
    let (one, mut other) = (spec(), spec());
    other.memory = None;
    assert_ne!(one.make_of(), other.make_of());
    other = Spec { pull: Pull::Always, grace: Duration::ZERO, ..spec() };
    assert_eq!(one.make_of(), other.make_of(), "how it is fetched and ended does not");
}
