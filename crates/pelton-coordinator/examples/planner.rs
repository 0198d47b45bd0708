//! How long the planner takes for 1,000 workers and 10,000 tasks: `cargo xtask bench planner`.

use pelton_coordinator::planner::{TaskFacts, WorkerFacts, plan};
use std::time::Instant;

fn main() {
    let workers: Vec<_> =
        (0..1000_u16).map(|id| WorkerFacts { id, capacity: 16, draining: id % 50 == 0 }).collect();
    for (name, groups) in [("one pipeline", 1), ("100 pipelines", 100), ("10,000 pipelines", 10_000)] {
        for (state, held) in
            [("none held", 0), ("half held", 5_000), ("all held by half of the workers", 10_000)]
        {
            let tasks: Vec<_> = (0..10_000_u32)
                .map(|id| TaskFacts {
                    id,
                    group: id % groups,
                    held_by: (id < held).then_some((id % 500) as u16),
                    load: f64::from(id % 97) / 97.0,
                    pinned: false,
                })
                .collect();
            let at = Instant::now();
            let plan = plan(&workers, &tasks);
            let (grants, moves) = (plan.grants.len(), plan.moves.len());
            println!("{name}, {state}: {grants} grants, {moves} moves in {:?}", at.elapsed());
        }
    }
}
