//! Sandboxes: the network namespaces that addresses are used in, and whether they are still there.
//!
//! Runtimes do not always tell that a pod is gone. A namespace is gone for certain when its path no longer leads
//! to it and no process is in it, holds it open or has it mounted.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// A network namespace, by its path and by what the kernel knows it as (`namespaces(7)`).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sandbox {
    /// Where the runtime said that it is.
    pub netns: PathBuf,
    /// Device of the kernel's file system of namespaces.
    pub dev: u64,
    /// Its number there. The kernel may give it anew once the namespace is gone.
    pub ino: u64,
}

impl Sandbox {
    /// The namespace at `netns`.
    pub fn of(netns: &Path) -> io::Result<Self> {
        let found = fs::metadata(netns)?;
        Ok(Self { netns: netns.to_owned(), dev: found.dev(), ino: found.ino() })
    }

    fn is_at_its_path(&self) -> bool {
        Self::of(&self.netns).is_ok_and(|found| found == *self)
    }
}

/// Tells which sandboxes exist. Looks at the processes once, and only if it must.
#[derive(Debug, Default)]
pub struct LivingSandboxes {
    /// Numbers of the namespaces that some process is in, holds open, or has mounted.
    used: Option<HashSet<u64>>,
}

impl LivingSandboxes {
    /// Has not looked yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// True if `sandbox` exists.
    ///
    /// # Errors
    /// If a process may not be looked at: then nobody can tell, and everything must be taken to exist.
    pub fn contains(&mut self, sandbox: &Sandbox) -> io::Result<bool> {
        if sandbox.is_at_its_path() {
            return Ok(true);
        }
        let used = match self.used.take() {
            Some(used) => used,
            None => namespaces_in_use()?,
        };
        Ok(self.used.insert(used).contains(&sandbox.ino))
    }
}

/// Numbers of all network namespaces that processes hold in any way that `/proc` shows.
fn namespaces_in_use() -> io::Result<HashSet<u64>> {
    let mut found = HashSet::new();
    let mut mount_namespaces = HashSet::new();
    for process in entries(Path::new("/proc"))?.filter(|path| is_number(path)) {
        match look_at(&process, &mut found, &mut mount_namespaces) {
            // Some machines hide their init from everybody. It is in no pod's namespace.
            Err(e) if e.kind() == io::ErrorKind::PermissionDenied && process.ends_with("1") => {}
            result => result?,
        }
    }
    Ok(found)
}

/// Adds what the process at `/proc/PID` holds open, and what each of its threads is in or sees mounted: threads may
/// have namespaces of their own.
fn look_at(
    process: &Path,
    found: &mut HashSet<u64>,
    mount_namespaces: &mut HashSet<String>,
) -> io::Result<()> {
    for file in entries(&process.join("fd"))? {
        found.extend(target(&file)?.as_deref().and_then(network_namespace));
    }
    for task in entries(&process.join("task"))? {
        found.extend(target(&task.join("ns/net"))?.as_deref().and_then(network_namespace));
        let Some(mounts) = target(&task.join("ns/mnt"))? else { continue };
        if mount_namespaces.insert(mounts) {
            let mounts = unless_gone(fs::read_to_string(task.join("mountinfo")))?.unwrap_or_default();
            // The fourth field says what of its file system is mounted (proc_pid_mountinfo(5)).
            let roots = mounts.lines().filter_map(|line| line.split(' ').nth(3));
            found.extend(roots.filter_map(network_namespace));
        }
    }
    Ok(())
}

/// The number in `net:[4026531840]`.
fn network_namespace(text: &str) -> Option<u64> {
    text.strip_prefix("net:[")?.strip_suffix(']')?.parse().ok()
}

fn is_number(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.parse::<u32>().is_ok())
}

fn entries(dir: &Path) -> io::Result<impl Iterator<Item = PathBuf>> {
    let entries = unless_gone(fs::read_dir(dir))?.into_iter().flatten();
    Ok(entries.filter_map(|entry| entry.ok().map(|entry| entry.path())))
}

fn target(link: &Path) -> io::Result<Option<String>> {
    Ok(unless_gone(fs::read_link(link))?.map(|target| target.to_string_lossy().into_owned()))
}

/// Processes end while they are looked at; that is no error.
fn unless_gone<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(e) if e.kind() == io::ErrorKind::NotFound || e.raw_os_error() == Some(nix::libc::ESRCH) => {
            Ok(None)
        }
        Err(e) => Err(e),
    }
}
