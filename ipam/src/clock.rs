//! The clock that addresses rest by: time since boot, which neither a step of the wall clock nor a suspended
//! machine confuses.

use std::{fmt, time::Duration};

use nix::{
    errno::Errno,
    time::{ClockId, clock_gettime},
};

/// Tells the time since boot.
pub struct Clock(Box<dyn Fn() -> Result<Duration, Errno> + Send + Sync>);

impl Clock {
    /// The kernel's `CLOCK_BOOTTIME` (`clock_gettime(2)`): it goes on while the machine sleeps, never back, and is
    /// the same in every process but those of a time namespace.
    #[must_use]
    pub fn boot_time() -> Self {
        Self(Box::new(|| clock_gettime(ClockId::CLOCK_BOOTTIME).map(Into::into)))
    }

    /// A clock of the caller's, for tests that cannot wait.
    pub fn from_fn(now: impl Fn() -> Duration + Send + Sync + 'static) -> Self {
        Self(Box::new(move || Ok(now())))
    }

    /// Milliseconds since boot.
    pub(crate) fn now(&self) -> Result<u64, Errno> {
        (self.0)().map(milliseconds)
    }
}

/// Whole milliseconds; those beyond 2⁶⁴ are all the same.
pub(crate) fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}
