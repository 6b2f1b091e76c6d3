//! Network namespaces: made, named, entered, removed. What is done inside one is told in the files of that deed
//! (`process`, `http`, `capture`, ...).

use std::{
    fs::{self, File},
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    sync::Arc,
    thread,
};

use anyhow::{Context, Result, anyhow};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, setns, unshare},
};

use crate::sandbox::NETNS_DIR;

/// A network namespace with its loopback up. Clones are handles of the same one; the last to go removes its name.
#[derive(Clone, Debug)]
pub struct Netns(Arc<Named>);

#[derive(Debug)]
struct Named {
    name: String,
    path: PathBuf,
    handle: OwnedFd,
    /// Made here, so that its name goes with the last handle.
    ours: bool,
}

impl Netns {
    /// Makes namespace `name`.
    ///
    /// # Errors
    /// If the name is taken or the kernel refuses.
    pub fn create(name: &str) -> Result<Self> {
        let path = Path::new(NETNS_DIR).join(name);
        let made = File::create_new(&path).with_context(|| format!("namespace {name} exists already"))?;
        drop(made);
        // A thread of its own: a thread that has left its namespace must not go back to other work.
        on_thread(|| -> Result<()> {
            unshare(CloneFlags::CLONE_NEWNET).context("the kernel refuses a new network namespace")?;
            mount(Some("/proc/thread-self/ns/net"), &path, None::<&str>, MsFlags::MS_BIND, None::<&str>)
                .with_context(|| format!("cannot name network namespace {name}"))
        })??;
        let handle = File::open(&path).with_context(|| format!("cannot open {}", path.display()))?.into();
        let netns = Self(Arc::new(Named { name: name.to_owned(), path, handle, ours: true }));
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// The namespace at `path`, which somebody else made, and removes.
    ///
    /// # Errors
    /// If there is none.
    pub fn open(path: &Path) -> Result<Self> {
        let handle = File::open(path).with_context(|| format!("cannot open {}", path.display()))?.into();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Ok(Self(Arc::new(Named { name, path: path.to_owned(), handle, ours: false })))
    }

    /// Its name under [`NETNS_DIR`].
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// What `CNI_NETNS` is set to.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0.path
    }

    /// Takes the name away while handles still exist, as a runtime does that removes a pod's namespace before
    /// it calls DEL. Calling it again does nothing.
    pub fn remove_name(&self) {
        self.0.unname();
    }

    pub(crate) fn handle(&self) -> BorrowedFd<'_> {
        self.0.handle.as_fd()
    }

    /// Runs `work` inside, on a thread of its own. Sockets it opens stay inside, wherever they are used.
    ///
    /// # Errors
    /// If the namespace cannot be entered or `work` panics.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        on_thread(|| -> Result<T> {
            self.enter()?;
            Ok(work())
        })?
    }

    /// Moves the calling thread inside, for good.
    ///
    /// # Errors
    /// If the kernel refuses.
    pub fn enter(&self) -> Result<()> {
        setns(self.handle(), CloneFlags::CLONE_NEWNET)
            .with_context(|| format!("cannot enter network namespace {}", self.0.name))
    }

    /// Starts a thread inside that outlives this call.
    pub fn spawn_thread<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> thread::JoinHandle<Result<T>> {
        let netns = self.clone();
        thread::spawn(move || {
            netns.enter()?;
            Ok(work())
        })
    }

    /// Sets a sysctl of this namespace; `key` as under `/proc/sys`, with slashes.
    ///
    /// # Errors
    /// If there is no such key or the kernel refuses the value.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        self.run(|| fs::write(Path::new("/proc/sys").join(key), value))?
            .with_context(|| format!("cannot set {key}={value} in {}", self.0.name))
    }
}

impl Named {
    fn unname(&self) {
        // Nothing can be done about failure, and the name is gone with the sandbox at the latest.
        let _ = umount2(&self.path, MntFlags::MNT_DETACH);
        let _ = fs::remove_file(&self.path);
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if self.ours {
            self.unname();
        }
    }
}

fn on_thread<T: Send>(work: impl FnOnce() -> T + Send) -> Result<T> {
    thread::scope(|scope| scope.spawn(work).join())
        .map_err(|panic| anyhow!("a thread in a namespace panicked: {:?}", panic.downcast_ref::<String>()))
}
