use super::*;
use proptest::prelude::*;

type Worker = WorkerFacts<u16>;
type Task = TaskFacts<u32, u8, u16>;

#[derive(Clone, Debug)]
struct Cluster {
    workers: Vec<Worker>,
    tasks: Vec<Task>,
}

impl Cluster {
    fn plan(&self) -> Plan<u32, u16> {
        plan(&self.workers, &self.tasks)
    }

    fn after(&self, plan: &Plan<u32, u16>) -> Cluster {
        let mut next = self.clone();
        for task in &mut next.tasks {
            if let Some((_, to)) = plan.grants.iter().find(|(id, _)| *id == task.id) {
                assert!(self.worker(task.held_by).is_none(), "granted, but somebody holds it: {task:?}");
                task.held_by = Some(*to);
            }
            if let Some(m) = plan.moves.iter().find(|m| m.task == task.id) {
                assert_eq!(task.held_by, Some(m.from));
                task.held_by = Some(m.to);
            }
        }
        next
    }

    fn worker(&self, id: Option<u16>) -> Option<&Worker> {
        self.workers.iter().find(|w| Some(w.id) == id)
    }

    fn count(&self, worker: u16) -> u32 {
        self.tasks.iter().filter(|t| t.held_by == Some(worker)).count() as u32
    }

    fn unowned(&self) -> usize {
        self.tasks.iter().filter(|t| self.worker(t.held_by).is_none()).count()
    }

    /// No worker could take a task from one that has two more.
    fn is_balanced(&self) -> bool {
        let open: Vec<_> = self.workers.iter().filter(|w| !w.draining).collect();
        open.iter().all(|low| {
            self.count(low.id) >= low.capacity
                || open.iter().all(|high| self.count(high.id) <= self.count(low.id) + 1)
        })
    }
}

fn any_cluster() -> impl Strategy<Value = Cluster> {
    let workers = prop::collection::vec((0u32..12, prop::bool::weighted(0.2)), 0..8);
    // Some tasks are held by workers that are gone.
    let tasks =
        prop::collection::vec((0u8..4, prop::option::of(0u16..10), 0.0..1.0f64, any::<bool>()), 0..60);
    (workers, tasks).prop_map(|(workers, tasks)| Cluster {
        workers: workers
            .into_iter()
            .enumerate()
            .map(|(i, (capacity, draining))| WorkerFacts { id: i as u16, capacity, draining })
            .collect(),
        tasks: tasks
            .into_iter()
            .enumerate()
            .map(|(i, (group, held_by, load, pinned))| TaskFacts {
                id: i as u32,
                group,
                held_by,
                load,
                pinned,
            })
            .collect(),
    })
}

/// Fewest moves off workers that take tasks, over every way to hand out the extra places.
fn fewest_moves(cluster: &Cluster) -> u32 {
    let open: Vec<_> = cluster.workers.iter().filter(|w| !w.draining).collect();
    let (level, extras) = water_level(open.iter().map(|w| w.capacity), cluster.tasks.len());
    let surplus: Vec<u32> =
        open.iter().map(|w| cluster.count(w.id).saturating_sub(level.min(w.capacity))).collect();
    let gains: Vec<u32> = open
        .iter()
        .zip(&surplus)
        .map(|(w, s)| u32::from(*s > 0 && w.capacity > level))
        .filter(|g| *g > 0)
        .take(extras as usize)
        .collect();
    surplus.iter().sum::<u32>() - gains.iter().sum::<u32>()
}

proptest! {
    #[test]
    fn a_task_is_left_out_only_when_no_worker_has_room(cluster in any_cluster()) {
        let after = cluster.after(&cluster.plan());
        let room = after.workers.iter().any(|w| !w.draining && after.count(w.id) < w.capacity);
        prop_assert!(after.unowned() == 0 || !room, "{after:?}");
        prop_assert_eq!(after.unowned(), cluster.plan().unplaced.len());
    }

    #[test]
    fn counts_are_balanced_and_capacities_respected(cluster in any_cluster()) {
        let after = cluster.after(&cluster.plan());
        prop_assert!(after.is_balanced(), "{after:?}");
        for w in &after.workers {
            let before = cluster.count(w.id);
            let now = after.count(w.id);
            prop_assert!(now <= w.capacity || now <= before, "{} has {now}, had {before}", w.id);
            prop_assert!(!w.draining || now <= before);
        }
    }

    #[test]
    fn a_second_pass_moves_nothing(cluster in any_cluster()) {
        let after = cluster.after(&cluster.plan());
        let again = after.plan();
        prop_assert!(again.moves.is_empty() && again.grants.is_empty(), "{again:?} after {after:?}");
    }

    #[test]
    fn no_balanced_plan_has_fewer_moves(cluster in any_cluster()) {
        let off_open = cluster.plan().moves.iter()
            .filter(|m| cluster.worker(Some(m.from)).is_some_and(|w| !w.draining)).count() as u32;
        prop_assert!(off_open <= fewest_moves(&cluster));
    }

    #[test]
    fn a_draining_worker_keeps_a_task_only_when_nobody_has_room(cluster in any_cluster()) {
        let after = cluster.after(&cluster.plan());
        let room = after.workers.iter().any(|w| !w.draining && after.count(w.id) < w.capacity);
        let kept = after.workers.iter().any(|w| w.draining && after.count(w.id) > 0);
        prop_assert!(!(room && kept), "{after:?}");
    }

    #[test]
    fn no_task_gets_two_owners(cluster in any_cluster()) {
        let plan = cluster.plan();
        let mut named: Vec<u32> = plan.grants.iter().map(|g| g.0)
            .chain(plan.moves.iter().map(|m| m.task)).chain(plan.unplaced.clone()).collect();
        let all = named.len();
        named.sort_unstable();
        named.dedup();
        prop_assert_eq!(named.len(), all);
    }

    #[test]
    fn tasks_of_a_pipeline_spread_over_equal_workers(workers in 1u16..9, groups in prop::collection::vec(1u32..20, 1..6)) {
        let mut tasks = Vec::new();
        for (group, size) in groups.iter().enumerate() {
            for _ in 0..*size {
                tasks.push(TaskFacts { id: tasks.len() as u32, group: group as u8, held_by: None, load: 0.0, pinned: false });
            }
        }
        let workers = (0..workers).map(|id| WorkerFacts { id, capacity: 1000, draining: false }).collect();
        let cluster = Cluster { workers, tasks };
        let after = cluster.after(&cluster.plan());
        for group in 0..groups.len() {
            let on = |w: &Worker| after.tasks.iter()
                .filter(|t| t.group == group as u8 && t.held_by == Some(w.id)).count();
            let counts: Vec<usize> = after.workers.iter().map(on).collect();
            prop_assert!(counts.iter().max().unwrap() - counts.iter().min().unwrap() <= 1, "{counts:?}");
        }
    }
}

fn task(id: u32, held_by: u16, load: f64) -> Task {
    TaskFacts { id, group: 0, held_by: Some(held_by), load, pinned: false }
}

#[test]
fn the_busiest_task_leaves_an_overfull_worker_and_goes_to_the_least_loaded() {
    let workers = (0..3).map(|id| WorkerFacts { id, capacity: 9, draining: false }).collect();
    let mut tasks = vec![task(0, 0, 0.1), task(1, 0, 0.9), task(2, 0, 0.2), task(3, 1, 0.5), task(4, 2, 0.1)];
    for t in &mut tasks {
        t.group = t.id as u8;
    }
    let cluster = Cluster { workers, tasks };
    assert_eq!(cluster.plan().moves, vec![Move { task: 1, from: 0, to: 2 }]);
}

#[test]
fn a_task_somebody_placed_by_hand_stays_while_another_can_go() {
    let workers = (0..2).map(|id| WorkerFacts { id, capacity: 9, draining: false }).collect();
    let mut tasks = vec![task(0, 0, 0.1), task(1, 0, 0.9), task(2, 0, 0.2), task(3, 1, 0.5)];
    tasks[1].pinned = true;
    let moved = Cluster { workers, tasks }.plan().moves;
    assert_eq!(moved, vec![Move { task: 2, from: 0, to: 1 }]);
}
