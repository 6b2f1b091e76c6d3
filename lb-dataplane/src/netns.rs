//! Network namespaces: opening one, telling two apart, and running code inside one.
//!
//! Code for another namespace runs on a thread of its own that ends with it, so no thread of ours is ever
//! left in a namespace that is not its own. What is done inside is the caller's business.

use std::{
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    thread,
};

use nix::sched::{CloneFlags, setns};

/// An open network namespace; it lives at least as long as this.
#[derive(Debug)]
pub struct NetNs {
    file: File,
    path: PathBuf,
}

/// Why a network namespace cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum NetNsError {
    /// Nothing is at the path.
    #[error("network namespace {0} does not exist: the container is gone, or never started")]
    Gone(PathBuf),
    /// Something is at the path, but no network namespace.
    #[error("{0} is not a network namespace (its mount is gone, or the path is wrong)")]
    NotANetNs(PathBuf),
    /// This process may not enter it.
    #[error(
        "may not use network namespace {path}: {source}; CAP_SYS_ADMIN and CAP_NET_ADMIN are needed (run as root)"
    )]
    Forbidden {
        /// The namespace.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// The system failed in another way.
    #[error("cannot use network namespace {path}: {source}")]
    Io {
        /// The namespace.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
}

impl NetNsError {
    fn new(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => Self::Gone(path),
            io::ErrorKind::PermissionDenied => Self::Forbidden { path, source },
            _ => Self::Io { path, source },
        }
    }

    /// True if there is no such namespace (any more), so nothing in it is left to take care of.
    #[must_use]
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::Gone(_) | Self::NotANetNs(_))
    }

    /// True if only a privilege is missing.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self, Self::Forbidden { .. })
    }
}

mod ioctl {
    // `_IO(0xb7, 0x3)`, linux/nsfs.h: the CLONE_NEW* flag of a namespace's kind.
    nix::ioctl_none!(ns_get_nstype, 0xb7, 0x3);
}

impl NetNs {
    /// Opens the namespace at `path`, such as `/run/netns/blue` or `/proc/42/ns/net`.
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, NetNsError> {
        let path = path.into();
        let file = File::open(&path).map_err(|e| NetNsError::new(&path, e))?;
        // SAFETY: the request takes no argument and only reads what `file` refers to.
        match unsafe { ioctl::ns_get_nstype(file.as_raw_fd()) } {
            Ok(kind) if kind == CloneFlags::CLONE_NEWNET.bits() => Ok(Self { file, path }),
            _ => Err(NetNsError::NotANetNs(path)),
        }
    }

    /// The namespace this thread is in.
    pub fn current() -> Result<Self, NetNsError> {
        Self::open("/proc/thread-self/ns/net")
    }

    /// The path it was opened by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// True if both are one namespace, by whatever paths they were opened.
    pub fn is_same(&self, other: &Self) -> Result<bool, NetNsError> {
        Ok(self.identity()? == other.identity()?)
    }

    /// Device and inode in nsfs: what names a namespace while it lives.
    fn identity(&self) -> Result<(u64, u64), NetNsError> {
        let meta = self.file.metadata().map_err(|e| NetNsError::new(&self.path, e))?;
        Ok((meta.dev(), meta.ino()))
    }

    /// Runs `work` inside the namespace, on a thread made for it.
    ///
    /// # Panics
    ///
    /// Passes on a panic of `work`.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetNsError> {
        thread::scope(|scope| {
            let inside = thread::Builder::new()
                .name("netns".to_owned())
                .spawn_scoped(scope, || {
                    setns(&self.file, CloneFlags::CLONE_NEWNET)
                        .map_err(|e| NetNsError::new(&self.path, e.into()))?;
                    Ok(work())
                })
                .map_err(|e| NetNsError::new(&self.path, e))?;
            match inside.join() {
                Ok(result) => result,
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }
}

impl AsFd for NetNs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl AsRawFd for NetNs {
    fn as_raw_fd(&self) -> RawFd {
        self.file.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_is_no_namespace_says_which_way() {
        assert!(matches!(NetNs::open("/run/netns/no-such"), Err(NetNsError::Gone(_))));
        assert!(matches!(NetNs::open("/proc/self/status"), Err(NetNsError::NotANetNs(_))));
        assert!(matches!(NetNs::open("/proc/self/ns/uts"), Err(NetNsError::NotANetNs(_))));
    }

    #[test]
    fn a_namespace_is_itself_by_any_path() {
        let here = NetNs::current().unwrap();
        assert!(here.is_same(&NetNs::open("/proc/self/ns/net").unwrap()).unwrap());
    }
}
