//! How many rows a run should have: measured, because a bigger batch helps some models and harms others.
//!
//! On one core a batch pays only where the cost of a call weighs more than the work in it: many times for a small
//! network, nothing or less for a convolution. A second batch that is measured as better by less than [`WORTH`] is taken
//! for noise.

use crate::{
    error::ModelError,
    model::{Model, Signature},
    tensor::Rows,
};
use std::time::{Duration, Instant};

/// A bigger batch must be this much faster per row, or a smaller one is kept: it delays less.
const WORTH: f64 = 1.25;
/// Runs of one size end when they took so long, or were so many.
const PER_SIZE: Duration = Duration::from_millis(20);
const RUNS_PER_SIZE: u32 = 50;
/// No size is begun when all of it would take longer than this; a single run of one row may.
const IN_ALL: Duration = Duration::from_millis(400);

/// What was measured.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Measured {
    /// Rows a second by rows in a run, sizes rising.
    pub rates: Vec<(usize, f64)>,
    /// The size to take.
    pub best: usize,
}

/// Try sizes 1, 2, 4, ... up to `most` on rows of zeros.
pub(crate) fn measure(
    model: &mut dyn Model,
    signature: &Signature,
    most: usize,
    clock: impl Fn() -> Instant,
) -> Result<Measured, ModelError> {
    let start = clock();
    let mut rates = Vec::new();
    let mut size = 1;
    while size <= most {
        let rows = Rows::from_values(signature.input_width(), vec![0.0; size * signature.input_width()]);
        // The first run of a size sets memory up.
        let before = clock();
        model.run(signature, &rows)?;
        let one = clock() - before;
        let (mut runs, begun) = (0, clock());
        loop {
            model.run(signature, &rows)?;
            runs += 1;
            let took = clock() - begun;
            if took + one >= PER_SIZE || runs >= RUNS_PER_SIZE {
                let seconds = took.as_secs_f64().max(1e-9);
                rates.push((size, (size as u32 * runs) as f64 / seconds));
                break;
            }
        }
        // The next size takes twice as long a run, and two runs at least.
        if clock() - start + one * 4 > IN_ALL {
            break;
        }
        size *= 2;
    }
    Ok(Measured { best: choose(&rates), rates })
}

/// The smallest size that no bigger one beats by what is worth it.
fn choose(rates: &[(usize, f64)]) -> usize {
    let (mut best, mut rate) = rates.first().copied().unwrap_or((1, 0.0));
    for (size, next) in rates.iter().copied() {
        if next > rate * WORTH {
            (best, rate) = (size, next);
        }
    }
    best
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bigger_batch_is_taken_only_where_it_is_worth_it() {
        assert_eq!(choose(&[(1, 100.0), (2, 110.0), (4, 120.0), (8, 90.0)]), 1, "all within noise");
        assert_eq!(choose(&[(1, 100.0), (2, 190.0), (4, 300.0), (8, 310.0)]), 4);
        assert_eq!(choose(&[(1, 100.0), (2, 110.0), (4, 130.0)]), 4, "small steps add up");
        assert_eq!(choose(&[(1, 100.0), (2, 40.0)]), 1, "it harms");
        assert_eq!(choose(&[]), 1);
    }
}
