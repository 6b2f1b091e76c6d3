//! What the plugin keeps in the runtime folder and the agent must know of: to sweep, and to take Beeline off. (The agent's
//! own files there are [`crate::node_file`] and [`crate::status_file`].)

use std::path::{Path, PathBuf};

/// The store of addresses.
#[must_use]
pub fn address_store(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("ipam")
}

/// Records of attachments: a folder for each boot, and in it a file for each port.
#[must_use]
pub fn attachments(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("attachments")
}

/// The file on whose bytes calls lock attachments.
#[must_use]
pub fn attachments_lock(runtime_dir: &Path) -> PathBuf {
    runtime_dir.join("attachments.lock")
}
