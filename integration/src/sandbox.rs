//! The room a run lives in: mounts that only this process and its children see, and that vanish with them,
//! even after `kill -9`.

use std::{
    fs::{self, File},
    os::{
        fd::IntoRawFd,
        unix::{fs::MetadataExt, process::CommandExt},
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use anyhow::{Context, Error, Result, anyhow, ensure};
use nix::{
    errno::Errno,
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

use crate::binaries;

/// Where named network namespaces are, for `ip -n` and friends.
pub const NETNS_DIR: &str = "/run/netns";
/// Where each cluster keeps its files: configuration, runtime folders, bpffs mounts, logs.
pub const STATE_DIR: &str = "/run/beeline-clusters";

/// Gives this process mounts of its own, with an empty [`NETNS_DIR`] and [`STATE_DIR`].
///
/// Call it first thing in `main`: mount namespaces belong to threads, and threads started later share it.
///
/// # Errors
/// If not root, if other threads run already, or if the kernel refuses.
pub fn enter() -> Result<()> {
    ensure!(
        geteuid().is_root(),
        "this makes network namespaces and loads eBPF programs, which only root may do: run it with sudo"
    );
    let threads = fs::read_dir("/proc/self/task").context("cannot list this process's threads")?.count();
    ensure!(threads == 1, "the sandbox must be entered before any thread is started, {threads} run");
    binaries::this_program()?;
    claim_state_dir()?;
    unshare(CloneFlags::CLONE_NEWNS).context("the kernel refuses a mount namespace of our own")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).map_err(
        |e| match e {
            Errno::EINVAL => anyhow!(
                "cannot make mounts private: / is no mount point (a chroot?): bind-mount the root on itself before chroot"
            ),
            e => Error::new(e).context("cannot make mounts private"),
        },
    )?;
    for dir in [NETNS_DIR, STATE_DIR] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {dir}"))?;
        mount_fs("tmpfs", Path::new(dir))?;
    }
    Ok(())
}

/// Makes the folder that [`STATE_DIR`] is mounted on, and has it removed once the last run that uses it is gone, however
/// it went. Runs hold a shared lock on the folder; whoever removes it holds the lock alone, for the kernel unmounts
/// what others have on a folder that is removed.
fn claim_state_dir() -> Result<()> {
    let claimed = loop {
        fs::create_dir_all(STATE_DIR).with_context(|| format!("cannot make {STATE_DIR}"))?;
        // It may go between any two lines, until the lock is ours.
        let Ok(dir) = File::open(STATE_DIR) else { continue };
        dir.lock_shared().with_context(|| format!("cannot lock {STATE_DIR}"))?;
        if fs::metadata(STATE_DIR).is_ok_and(|now| Some(now.ino()) == dir.metadata().map(|m| m.ino()).ok()) {
            break dir;
        }
    };
    let mut broom = Command::new("sh");
    broom.args(["-c", r#"exec 9<"$0" && flock 9 && [ "$0" -ef /dev/fd/9 ] && rmdir "$0""#, STATE_DIR]);
    // Neither Ctrl-C nor a reader of our output is its affair.
    broom.process_group(0).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    #[allow(clippy::zombie_processes, reason = "it outlives us: nobody can wait for it")]
    broom.spawn().context("cannot start the shell that tidies up after us")?;
    // The lock goes with this process.
    let _ = claimed.into_raw_fd();
    Ok(())
}

/// Mounts a file system of type `kind` (`tmpfs`, `bpf`) on `dir`, which must exist.
///
/// # Errors
/// If the kernel refuses.
pub fn mount_fs(kind: &str, dir: &Path) -> Result<()> {
    mount(Some(kind), dir, Some(kind), MsFlags::empty(), None::<&str>)
        .with_context(|| format!("cannot mount {kind} on {}", dir.display()))
}

/// A new folder under [`STATE_DIR`], and the prefix by which namespaces of its owner are told apart.
///
/// # Errors
/// If it cannot be made; most often because [`enter`] was not called.
pub fn new_state_dir() -> Result<(String, PathBuf)> {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    let name = format!("c{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let dir = Path::new(STATE_DIR).join(&name);
    fs::create_dir(&dir)
        .with_context(|| format!("cannot make {}; was the sandbox entered?", dir.display()))?;
    Ok((name, dir))
}
