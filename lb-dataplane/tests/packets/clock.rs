//! The test's own clock: what the programs remember grows older when the test says so, and only then.

use std::time::{Duration, Instant};

use nix::time::{ClockId, clock_gettime};

use crate::world::World;

/// Time passes in multiples of this, in seconds: no sum of them is a time to live, nor so close below one that the real time
/// which passes meanwhile would make a difference.
pub const UNIT: u64 = 11;
/// Real time after which it is taken out again.
const PATIENCE: Duration = Duration::from_secs(1);
const NANOSECONDS_A_SECOND: u64 = 1_000_000_000;

pub struct Clock {
    /// When real time was taken out last.
    settled: Instant,
    /// Seconds that have passed.
    passed: u64,
}

impl Clock {
    /// Starts with whatever is remembered now.
    pub fn new() -> Self {
        Self { settled: Instant::now(), passed: 0 }
    }

    /// Takes out the real time that has passed, if it is much.
    pub fn hold(&mut self, world: &World) {
        if self.settled.elapsed() > PATIENCE {
            self.age(world, 0);
        }
    }

    /// Lets `seconds` pass. False, and nothing has happened, if this machine has not run for as long: the programs know no
    /// earlier time.
    pub fn pass(&mut self, world: &World, seconds: u64) -> bool {
        assert!(seconds.is_multiple_of(UNIT));
        if now() <= (self.passed + seconds + UNIT) * NANOSECONDS_A_SECOND {
            return false;
        }
        self.passed += seconds;
        self.age(world, seconds);
        true
    }

    /// Makes everything `seconds` older than the whole units of time that it has.
    fn age(&mut self, world: &World, seconds: u64) {
        age::<16, 88>(world, "FLOWS4", 8, seconds);
        age::<40, 112>(world, "FLOWS6", 8, seconds);
        age::<16, 16>(world, "FRAGMENTS4", 0, seconds);
        age::<40, 16>(world, "FRAGMENTS6", 0, seconds);
        age::<8, 16>(world, "AFFINITY4", 0, seconds);
        age::<20, 16>(world, "AFFINITY6", 0, seconds);
        self.settled = Instant::now();
    }
}

/// The same for one table, whose values have their time at byte `at`.
fn age<const KEY: usize, const VALUE: usize>(world: &World, table: &str, at: usize, seconds: u64) {
    const NANOSECONDS_A_UNIT: u64 = UNIT * NANOSECONDS_A_SECOND;
    let mut table = world.table::<KEY, VALUE>(table);
    let entries: Vec<_> = table.iter().collect::<Result<_, _>>().unwrap();
    let now = now();
    for (key, mut value) in entries {
        let seen = u64::from_ne_bytes(*value[at..].first_chunk().unwrap());
        let age = now.saturating_sub(seen) / NANOSECONDS_A_UNIT * NANOSECONDS_A_UNIT;
        let seen = now - age - seconds * NANOSECONDS_A_SECOND;
        value[at..at + 8].copy_from_slice(&seen.to_ne_bytes());
        table.insert(key, value, 0).unwrap();
    }
}

/// Nanoseconds since boot, as the programs have them.
fn now() -> u64 {
    let now = Duration::from(clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE).unwrap());
    u64::try_from(now.as_nanos()).unwrap()
}
