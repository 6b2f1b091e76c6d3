//! Whether the agent does its work: what probes are answered, and what the cluster is told.

use std::time::{Duration, Instant};

/// A loop that has not come round for this long hangs: it looks at everything every few seconds.
const HANGS: Duration = Duration::from_mins(1);

/// How the agent is.
#[derive(Clone, Debug)]
pub(crate) struct Health {
    /// Pods can be wired, and packets go where they should.
    pub(crate) ready: bool,
    /// What is wrong all the same, or why it is not ready.
    pub(crate) trouble: Option<String>,
    /// When the loop last came round.
    pub(crate) beat: Instant,
}

impl Default for Health {
    fn default() -> Self {
        Self { ready: false, trouble: None, beat: Instant::now() }
    }
}

impl Health {
    /// `Err` if only a restart can help.
    pub(crate) fn alive(&self) -> Result<String, String> {
        let silent = self.beat.elapsed();
        if silent > HANGS {
            return Err(format!("the agent has been stuck for {} s", silent.as_secs()));
        }
        Ok("alive".to_owned())
    }

    /// `Err` with the reason if this node cannot do its work.
    pub(crate) fn ready(&self) -> Result<String, String> {
        match (&self.trouble, self.ready) {
            (None, true) => Ok("ready".to_owned()),
            (Some(trouble), true) => Ok(format!("ready, but: {trouble}")),
            (None, false) => Err("not ready: nothing has been applied yet".to_owned()),
            (Some(trouble), false) => Err(format!("not ready: {trouble}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_hangs_is_not_alive() {
        let beat = Instant::now().checked_sub(HANGS * 2).unwrap();
        let error = Health { beat, ..Health::default() }.alive().unwrap_err();
        assert!(error.contains("stuck for 120 s"), "{error}");
        Health::default().alive().unwrap();
    }
}
