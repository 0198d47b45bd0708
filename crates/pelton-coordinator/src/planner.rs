//! Which worker runs which task: a pure function from facts to a plan.
//!
//! Guarantees, each a property test in `tests.rs`:
//! * complete: a task is left out only when no worker has room;
//! * balanced: counts differ by at most one, as far as capacities allow; what the counts leave open is decided by
//!   spread (tasks of one pipeline on different workers), then by measured load;
//! * stable: a second pass over the result moves nothing;
//! * few moves: a held task moves only when the counts demand it, and no plan with fewer moves is as balanced;
//! * one owner per task, capacities respected.
//!
//! Load alone never moves a task: measurements are noisy, and every move is a pause.
//! Labels of workers are not looked at: no definition can ask for them yet.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

#[cfg(test)]
mod tests;

/// A worker, as the planner sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct WorkerFacts<W> {
    /// Its name.
    pub id: W,
    /// Tasks it may hold.
    pub capacity: u32,
    /// It takes no tasks, and gives away those it has.
    pub draining: bool,
}

/// A task that should run.
#[derive(Clone, Debug, PartialEq)]
pub struct TaskFacts<T, P, W> {
    /// Its name.
    pub id: T,
    /// Tasks of one group (a pipeline) are spread over workers.
    pub group: P,
    /// Who has it now.
    pub held_by: Option<W>,
    /// Share of an executor it keeps busy, 0 to 1.
    pub load: f64,
    /// Somebody asked for it to be where it is: others are moved first.
    pub pinned: bool,
}

/// A task changes its worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Move<T, W> {
    /// The task.
    pub task: T,
    /// Who has it.
    pub from: W,
    /// Who shall have it.
    pub to: W,
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan<T, W> {
    /// Tasks nobody has, and who gets them.
    pub grants: Vec<(T, W)>,
    /// Tasks that change hands.
    pub moves: Vec<Move<T, W>>,
    /// Tasks nobody has room for.
    pub unplaced: Vec<T>,
}

/// Decide. Workers must have distinct names, and so must tasks; a `held_by` that names no worker counts as nobody.
pub fn plan<T, P, W>(workers: &[WorkerFacts<W>], tasks: &[TaskFacts<T, P, W>]) -> Plan<T, W>
where
    T: Clone + Ord,
    P: Clone + Ord,
    W: Clone + Ord,
{
    let mut board = Board::new(workers, tasks);
    let (free, movers) = board.take_off();
    let mut result = Plan { grants: Vec::new(), moves: Vec::new(), unplaced: Vec::new() };
    // Tasks that nobody runs come first: those of a draining worker still work where they are.
    for (index, to) in board.place(free) {
        match to {
            Some(to) => result.grants.push((tasks[index].id.clone(), workers[to].id.clone())),
            None => result.unplaced.push(tasks[index].id.clone()),
        }
    }
    for (index, to) in board.place(movers) {
        if let (Some(to), Some(from)) = (to, tasks[index].held_by.clone()) {
            result.moves.push(Move { task: tasks[index].id.clone(), from, to: workers[to].id.clone() });
        }
    }
    result.grants.sort();
    result.unplaced.sort();
    result.moves.sort_by(|a, b| a.task.cmp(&b.task));
    result
}

/// One worker while a plan is made.
struct Seat {
    room: u32,
    held: Vec<usize>,
    load: f64,
    draining: bool,
}

struct Board<'a, T, P, W> {
    tasks: &'a [TaskFacts<T, P, W>],
    seats: Vec<Seat>,
    /// Group of each task as a number.
    groups: Vec<usize>,
    /// Tasks of a group on a worker; absent means none.
    spread: Vec<BTreeMap<usize, u32>>,
    /// Every worker may have this many, if its capacity allows.
    level: u32,
    /// So many workers may have one more.
    extras: u32,
    free: Vec<usize>,
}

impl<'a, T: Clone + Ord, P: Clone + Ord, W: Clone + Ord> Board<'a, T, P, W> {
    fn new(workers: &[WorkerFacts<W>], tasks: &'a [TaskFacts<T, P, W>]) -> Self {
        let names: BTreeMap<&W, usize> = workers.iter().enumerate().map(|(i, w)| (&w.id, i)).collect();
        let mut group_numbers: BTreeMap<&P, usize> = BTreeMap::new();
        for task in tasks {
            let next = group_numbers.len();
            group_numbers.entry(&task.group).or_insert(next);
        }
        let groups: Vec<usize> = tasks.iter().map(|t| group_numbers[&t.group]).collect();
        let mut seats: Vec<Seat> = workers
            .iter()
            .map(|w| Seat {
                room: if w.draining { 0 } else { w.capacity },
                held: Vec::new(),
                load: 0.0,
                draining: w.draining,
            })
            .collect();
        let mut spread = vec![BTreeMap::new(); group_numbers.len()];
        let mut free = Vec::new();
        for (index, task) in tasks.iter().enumerate() {
            match task.held_by.as_ref().and_then(|w| names.get(w)) {
                Some(&seat) => {
                    seats[seat].held.push(index);
                    seats[seat].load += task.load;
                    *spread[groups[index]].entry(seat).or_insert(0) += 1;
                }
                None => free.push(index),
            }
        }
        let (level, extras) = water_level(seats.iter().map(|s| s.room), tasks.len());
        Self { tasks, seats, groups, spread, level, extras, free }
    }

    /// Tasks nobody holds, and those that must leave their worker.
    fn take_off(&mut self) -> (Vec<usize>, Vec<usize>) {
        let mut fullest: Vec<usize> = (0..self.seats.len()).filter(|&s| !self.seats[s].draining).collect();
        // The workers that have most keep the extra places: this is what makes the moves fewest.
        fullest.sort_by_key(|&s| Reverse(self.seats[s].held.len()));
        let mut movers = Vec::new();
        for seat in fullest {
            let mut quota = self.level.min(self.seats[seat].room);
            let held = self.seats[seat].held.len() as u32;
            if held > self.level && self.seats[seat].room > self.level && self.extras > 0 {
                self.extras -= 1;
                quota += 1;
            }
            for _ in quota..held {
                movers.extend(self.give_away(seat));
            }
        }
        for seat in 0..self.seats.len() {
            while self.seats[seat].draining && !self.seats[seat].held.is_empty() {
                movers.extend(self.give_away(seat));
            }
        }
        (std::mem::take(&mut self.free), movers)
    }

    /// Take the task off a worker that it is best to move: of the group that crowds there most, then the busiest.
    fn give_away(&mut self, seat: usize) -> Option<usize> {
        let best = self.seats[seat].held.iter().enumerate().max_by(|(_, a), (_, b)| {
            let (ta, tb) = (&self.tasks[**a], &self.tasks[**b]);
            let crowd = |task: usize| self.spread[self.groups[task]].get(&seat).copied().unwrap_or(0);
            tb.pinned
                .cmp(&ta.pinned)
                .then(crowd(**a).cmp(&crowd(**b)))
                .then(ta.load.total_cmp(&tb.load))
                .then(tb.id.cmp(&ta.id))
        });
        let (at, _) = best?;
        let task = self.seats[seat].held.swap_remove(at);
        self.seats[seat].load -= self.tasks[task].load;
        if let Some(crowd) = self.spread[self.groups[task]].get_mut(&seat) {
            *crowd -= 1;
        }
        Some(task)
    }

    fn has_room(&self, seat: usize) -> bool {
        let s = &self.seats[seat];
        let held = s.held.len() as u32;
        held < self.level.min(s.room) || (held == self.level && s.room > self.level && self.extras > 0)
    }

    fn place(&mut self, mut tasks: Vec<usize>) -> Vec<(usize, Option<usize>)> {
        // A group at a time, busiest first, so that the light ones even the loads out.
        tasks.sort_by(|&a, &b| {
            (self.groups[a].cmp(&self.groups[b]))
                .then(self.tasks[b].load.total_cmp(&self.tasks[a].load))
                .then(self.tasks[a].id.cmp(&self.tasks[b].id))
        });
        let mut open: BTreeSet<Place> =
            (0..self.seats.len()).filter(|&s| self.has_room(s)).map(|s| self.place_of(s)).collect();
        let mut placed = Vec::with_capacity(tasks.len());
        let mut rest = tasks.as_slice();
        while let Some(&first) = rest.first() {
            let size = rest.partition_point(|&t| self.groups[t] == self.groups[first]);
            let (group, others) = rest.split_at(size);
            self.place_group(group, &mut open, &mut placed);
            rest = others;
        }
        placed
    }

    /// Place tasks of one group. `crowded` are the open workers that have some of the group already, by how many;
    /// `open` holds all, so the first of `open` that has none is found after skipping those.
    fn place_group(
        &mut self,
        group: &[usize],
        open: &mut BTreeSet<Place>,
        placed: &mut Vec<(usize, Option<usize>)>,
    ) {
        let Some(&first) = group.first() else { return };
        let number = self.groups[first];
        let mut crowded: BTreeSet<(u32, Place)> = BTreeSet::new();
        for (&seat, &count) in self.spread[number].iter().filter(|(_, c)| **c > 0) {
            let place = self.place_of(seat);
            if open.remove(&place) {
                crowded.insert((count, place));
            }
        }
        for &task in group {
            let (count, place) = match open.pop_first() {
                Some(place) => (0, place),
                None => match crowded.pop_first() {
                    Some(found) => found,
                    None => {
                        placed.push((task, None));
                        continue;
                    }
                },
            };
            // The extra places may have run out since this worker was listed.
            let seat = place.seat;
            let at_level = self.seats[seat].held.len() as u32 == self.level;
            self.seats[seat].held.push(task);
            self.seats[seat].load += self.tasks[task].load;
            *self.spread[number].entry(seat).or_insert(0) += 1;
            placed.push((task, Some(seat)));
            if at_level {
                self.extras -= 1;
                if self.extras == 0 {
                    open.retain(|p| self.has_room(p.seat));
                    crowded.retain(|(_, p)| self.has_room(p.seat));
                }
            }
            if self.has_room(seat) {
                crowded.insert((count + 1, self.place_of(seat)));
            }
        }
        open.extend(crowded.into_iter().map(|(_, place)| place));
    }

    fn place_of(&self, seat: usize) -> Place {
        let s = &self.seats[seat];
        Place { held: s.held.len() as u32, load: (s.load.max(0.0) * 1e6) as u64, seat }
    }
}

/// A worker with room, in order of preference: fewest tasks, least load.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    held: u32,
    load: u64,
    seat: usize,
}

/// Pour `tasks` into workers of these capacities: each has at most `level`, and `extras` of them one more.
fn water_level(rooms: impl Iterator<Item = u32>, tasks: usize) -> (u32, u32) {
    let mut rooms: Vec<u32> = rooms.filter(|r| *r > 0).collect();
    rooms.sort_unstable();
    let (mut left, mut workers) = (tasks as u64, rooms.len() as u64);
    for room in rooms {
        let fair = left / workers;
        if u64::from(room) > fair {
            // Below the room of any worker, so both fit.
            return (fair as u32, (left % workers) as u32);
        }
        left -= u64::from(room);
        workers -= 1;
    }
    (u32::MAX, 0)
}
