//! Files in the runtime folder that hold one JSON value: read whole, and written so that nobody ever reads half of
//! one. What is in them is told by the files' own modules.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// Why a file could not be had.
#[derive(Debug, thiserror::Error)]
pub enum JsonFileError {
    /// The agent has not run since boot, or keeps its files elsewhere.
    #[error("{0} is not there: beelined has not set this node up yet; start it and try again")]
    Missing(PathBuf),
    /// It cannot be read or written.
    #[error("cannot access {path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It is not what an agent of this release writes.
    #[error(
        "{path} cannot be understood: {source}; use programs of one release, and restart beelined to write it anew"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// It was written by an agent with other map layouts.
    #[error(
        "{path} was written by a beelined with map layout {found}, this program knows {}: use programs of one release",
        beeline_abi::VERSION
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The layout it names.
        found: u32,
    },
}

/// Reads the value in file `path`.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> Result<T, JsonFileError> {
    let bytes = fs::read(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound => JsonFileError::Missing(path.to_owned()),
        _ => io_error(path)(source),
    })?;
    serde_json::from_slice(&bytes).map_err(damaged(path))
}

/// Writes `value` into file `path`, whole or not at all, and makes its folder if it is not there. One process at a
/// time may do so.
pub(crate) fn write<T: Serialize>(path: &Path, value: &T) -> Result<(), JsonFileError> {
    let text = serde_json::to_vec_pretty(value).map_err(damaged(path))?;
    if let Some(dir) = path.parent() {
        fs::create_dir_all(dir).map_err(io_error(path))?;
    }
    let beside = beside(path);
    fs::write(&beside, text).map_err(io_error(path))?;
    fs::rename(&beside, path).map_err(io_error(path))
}

/// Where the file `path` is written before it takes that name.
#[must_use]
pub fn beside(path: &Path) -> PathBuf {
    path.with_added_extension("new")
}

fn io_error(path: &Path) -> impl Fn(io::Error) -> JsonFileError {
    let path = path.to_owned();
    move |source| JsonFileError::Io { path: path.clone(), source }
}

fn damaged(path: &Path) -> impl Fn(serde_json::Error) -> JsonFileError {
    let path = path.to_owned();
    move |source| JsonFileError::Damaged { path: path.clone(), source }
}
