//! How long to wait before trying again.

use std::time::Duration;

/// First wait: longer than a fenced rival needs for its own init and claim (4 ms measured), shorter than a person
/// notices.
const FIRST_MS: u64 = 50;
/// Longest wait: a broker that comes back is used again within this time.
const LONGEST_MS: u64 = 5_000;
/// From this attempt on the wait grows no more (50 ms doubled seven times is 6.4 s).
pub(crate) const LAST_STEP: u32 = 8;
/// After a fencing that the coordinator does not explain (P7): at least this long, for a rival's claim to be seen; on a
/// loaded machine it follows its init within 0.7 s.
pub(crate) const FENCED: Duration = Duration::from_secs(1);

/// The wait before attempt `attempt` (from 1): doubling from 50 ms to 5 s, of which the upper half is spread by
/// `seed`, so that tasks that failed together do not come back together. The same arguments give the same wait.
pub fn delay(attempt: u32, seed: u64) -> Duration {
    let doublings = attempt.saturating_sub(1).min(20);
    let full = (FIRST_MS << doublings).min(LONGEST_MS);
    let half = full / 2;
    Duration::from_millis(half + mix(seed ^ u64::from(attempt)) % (full - half + 1))
}

/// A number for [`delay`] from a name and a counter.
pub fn seed(name: &str, counter: u64) -> u64 {
    // FNV-1a: stable across builds, which the standard hasher does not promise.
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    mix(hash ^ counter)
}

/// Finaliser of splitmix64.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_five_seconds_and_never_leave_their_half() {
        for attempt in 1..=40 {
            let full = (50_u64 << (attempt - 1).min(20)).min(5_000);
            for seed in 0..200 {
                let wait = u64::try_from(delay(attempt, seed).as_millis()).unwrap();
                assert!((full / 2..=full).contains(&wait), "attempt {attempt}, seed {seed}: {wait} ms");
            }
        }
    }

    #[test]
    fn tasks_that_fail_together_come_back_apart() {
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|task| delay(8, seed(&format!("pelton.default.u.0.g1.t{task}"), 1))).collect();
        assert!(waits.len() > 90, "{waits:?}");
    }
}
