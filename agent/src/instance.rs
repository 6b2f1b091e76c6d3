//! One agent for each runtime folder: a lock that ends with the process, however it ends.

use std::{
    fs::{self, File, OpenOptions},
    io::{Read, Seek, Write},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

/// The lock; held as long as this lives.
pub(crate) struct Instance {
    _lock: Flock<File>,
    path: PathBuf,
}

impl Instance {
    /// Takes the lock of runtime folder `dir`, which is made if it is missing.
    pub(crate) fn lock(dir: &Path) -> Result<Self> {
        fs::create_dir_all(dir).with_context(|| {
            format!("cannot make the runtime folder {}; name another with --runtime-dir", dir.display())
        })?;
        let path = dir.join("beelined.lock");
        let file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path).with_context(
                || format!("cannot open {}; name another folder with --runtime-dir", path.display()),
            )?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(mut lock) => {
                // Only for the message below; the lock is what counts.
                let pid = std::process::id().to_string();
                let _ = lock
                    .set_len(0)
                    .and_then(|()| lock.rewind())
                    .and_then(|()| lock.write_all(pid.as_bytes()));
                Ok(Self { _lock: lock, path })
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut pid = String::new();
                let _ = file.read_to_string(&mut pid);
                bail!(
                    "another beelined (process {}) works with {}; stop it first, or name another folder with --runtime-dir",
                    if pid.is_empty() { "unknown" } else { &pid },
                    dir.display()
                )
            }
            Err((_, error)) => Err(error).with_context(|| format!("cannot lock {}", path.display())),
        }
    }

    /// The file that is locked.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_who_is_there() {
        let dir = tempfile::tempdir().unwrap();
        let first = Instance::lock(dir.path()).unwrap();
        let error = Instance::lock(dir.path()).err().unwrap().to_string();
        assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
        drop(first);
        Instance::lock(dir.path()).unwrap();
    }
}
