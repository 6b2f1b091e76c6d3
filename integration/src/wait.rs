//! Waiting for something to become true, with a limit and a name for what did not come.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};

/// Asks `ready` every few milliseconds until it gives a value.
///
/// # Errors
/// If `ready` fails, or `limit` passes: then the error names `what` was waited for.
pub fn until_some<T>(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let start = Instant::now();
    loop {
        if let Some(value) = ready()? {
            return Ok(value);
        }
        if start.elapsed() > limit {
            bail!("waited {:.1} s for {what}", limit.as_secs_f32());
        }
        thread::sleep(Duration::from_millis(3));
    }
}

/// Asks `ready` every few milliseconds until it says yes.
///
/// # Errors
/// As [`until_some`].
pub fn until(what: &str, limit: Duration, mut ready: impl FnMut() -> Result<bool>) -> Result<()> {
    until_some(what, limit, || Ok(ready()?.then_some(())))
}
