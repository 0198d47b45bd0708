//! Which workers Prometheus is to ask, for the list of its HTTP service discovery.

use crate::core::Snapshot;
use pelton_telemetry::Target;
use std::{collections::BTreeMap, net::SocketAddr};

/// The workers that are attached or draining, by name. A lost one is left out: if it still runs, it comes back.
pub fn targets(now: &Snapshot) -> Vec<Target> {
    let live = now.workers.iter().filter(|worker| worker.state != "lost" && !worker.http.is_empty());
    live.map(|worker| Target {
        targets: [worker.http.clone()],
        labels: BTreeMap::from([
            ("worker", worker.id.clone()),
            ("__meta_pelton_worker_state", worker.state.clone()),
            ("__meta_pelton_worker_version", worker.version.clone()),
        ]),
    })
    .collect()
}

/// The address of a worker's HTTP endpoints as others can use it: where it listens on all addresses of its host, that
/// of its connection takes their place.
pub(crate) fn reachable(http: &str, peer: Option<SocketAddr>) -> String {
    match (http.parse::<SocketAddr>(), peer) {
        (Ok(own), Some(peer)) if own.ip().is_unspecified() => {
            SocketAddr::new(peer.ip().to_canonical(), own.port()).to_string()
        }
        _ => http.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pelton_proto::v1;

    fn worker(id: &str, state: &str, http: &str) -> v1::Worker {
        v1::Worker {
            id: id.into(),
            state: state.into(),
            http: http.into(),
            version: "0.1.0".into(),
            ..Default::default()
        }
    }

    #[test]
    fn live_workers_are_listed_as_prometheus_reads_them_and_lost_ones_are_not() {
        let workers = vec![
            worker("w0", "attached", "10.0.0.7:7463"),
            worker("w1", "lost", "10.0.0.8:7463"),
            worker("w2", "draining", "10.0.0.9:7463"),
            worker("w3", "attached", ""),
        ];
        let now = Snapshot { workers, ..Default::default() };
        let listed = serde_json::to_value(targets(&now)).unwrap();
        let group = |address: &str, id: &str, state: &str| {
            let labels = serde_json::json!({
                "worker": id, "__meta_pelton_worker_state": state, "__meta_pelton_worker_version": "0.1.0"
            });
            serde_json::json!({ "targets": [address], "labels": labels })
        };
        let wanted = [group("10.0.0.7:7463", "w0", "attached"), group("10.0.0.9:7463", "w2", "draining")];
        assert_eq!(listed, serde_json::json!(wanted));
    }

    #[test]
    fn a_worker_on_all_addresses_is_found_where_its_connection_came_from() {
        let peer = |text: &str| Some(text.parse().unwrap());
        for (http, peer, wanted) in [
            ("0.0.0.0:7463", peer("10.0.0.7:50000"), "10.0.0.7:7463"),
            ("[::]:7463", peer("[fd00::7]:50000"), "[fd00::7]:7463"),
            ("[::]:7463", peer("[::ffff:10.0.0.7]:50000"), "10.0.0.7:7463"),
            ("10.1.0.7:7463", peer("10.0.0.7:50000"), "10.1.0.7:7463"),
            ("0.0.0.0:7463", None, "0.0.0.0:7463"),
            ("", peer("10.0.0.7:50000"), ""),
        ] {
            assert_eq!(reachable(http, peer), wanted, "{http} of {peer:?}");
        }
    }
}
