//! The smallest change from one table to another: what is written, and what is removed.

use std::{collections::HashMap, hash::Hash};

use crate::error::Result;

/// How many entries a change touched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Entries that were not there.
    pub added: usize,
    /// Entries that said something else.
    pub changed: usize,
    /// Entries nobody wants any more.
    pub removed: usize,
}

impl Changes {
    /// True if nothing was touched.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.count() == 0
    }

    /// All of them together.
    #[must_use]
    pub const fn count(&self) -> usize {
        self.added + self.changed + self.removed
    }
}

/// Writes the entries of `wanted` that `current` has not, or has otherwise.
pub(crate) fn put<K, V>(
    wanted: &HashMap<K, V>,
    current: &HashMap<K, V>,
    changes: &mut Changes,
    mut write: impl FnMut(K, V) -> Result<()>,
) -> Result<()>
where
    K: Eq + Hash + Copy,
    V: PartialEq + Copy,
{
    for (&key, &value) in wanted {
        match current.get(&key) {
            Some(now) if *now == value => continue,
            Some(_) => changes.changed += 1,
            None => changes.added += 1,
        }
        write(key, value)?;
    }
    Ok(())
}

/// Removes the entries of `current` that `wanted` has not.
pub(crate) fn prune<K, V>(
    wanted: &HashMap<K, V>,
    current: &HashMap<K, V>,
    changes: &mut Changes,
    mut remove: impl FnMut(&K) -> Result<()>,
) -> Result<()>
where
    K: Eq + Hash,
{
    for key in current.keys().filter(|key| !wanted.contains_key(key)) {
        remove(key)?;
        changes.removed += 1;
    }
    Ok(())
}
