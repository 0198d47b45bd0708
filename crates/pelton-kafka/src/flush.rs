//! Waits until records are stored, without making the library busy.
//!
//! `rd_kafka_flush` of librdkafka 2.12.1 is not told to wait for long: as long as it waits, a broker's thread that has
//! more records than it may send turns round and round (`rd_kafka_toppar_producer_serve` asks to be woken at once), so that
//! a broker that is slow for want of CPU gets less of it, and without delivery reports as events it looks only every 10 ms.
//! Called for a millisecond it makes the library send without lingering; what cannot be sent then follows the answers.

use crate::{errors::code, native::Client};
use rdkafka_sys as sys;
use std::time::{Duration, Instant};

/// Long enough for a broker's thread to wake up and send.
const LOOK_MS: i32 = 1;
/// Shortest pause between two looks.
const SHORTEST: Duration = Duration::from_micros(100);
/// Longest.
const LONGEST: Duration = Duration::from_millis(10);

/// Wait until no record of a client is on its way, stored or failed, or nobody waits any more. Whether it came to that.
pub(crate) fn until_sent(client: &Client, nobody_waits: impl Fn() -> bool) -> bool {
    let since = Instant::now();
    while !nobody_waits() {
        // SAFETY: a live client.
        if unsafe { sys::rd_kafka_flush(client.raw(), LOOK_MS) as i32 } != code::TIMED_OUT {
            return true;
        }
        std::thread::sleep(pause(since.elapsed()));
    }
    false
}

/// The next pause: an eighth of the time so far, which is then as much as the wait may become longer by.
fn pause(elapsed: Duration) -> Duration {
    (elapsed / 8).clamp(SHORTEST, LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_becomes_longer_by_an_eighth_at_most_and_a_long_one_looks_a_hundred_times_a_second() {
        let mut elapsed = Duration::from_millis(1);
        let mut looks = 0;
        while elapsed < Duration::from_secs(1) {
            assert!(pause(elapsed) <= elapsed / 8 + SHORTEST);
            elapsed += pause(elapsed);
            looks += 1;
        }
        assert!(looks < 140, "{looks}");
        assert_eq!(pause(Duration::from_secs(60)), LONGEST);
    }
}
