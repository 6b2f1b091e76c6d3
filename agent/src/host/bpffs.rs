//! The bpffs that pins live in: found mounted, or mounted here. It is left mounted at the end, for the pins in it.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, Result, bail};
use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
    unistd::{Pid, getpid, getppid},
};

/// Makes sure that the folder for pins can lie in a bpffs, and says in a few words how it is.
pub(crate) fn ensure(pins: &Path) -> Result<String> {
    let point = pins.parent().filter(|parent| !parent.as_os_str().is_empty()).with_context(|| {
        format!("{} has no parent folder; name a folder in a bpffs with --bpffs", pins.display())
    })?;
    if is_bpffs(pins) || is_bpffs(point) {
        return Ok(format!("mounted at {}", point.display()));
    }
    fs::create_dir_all(point).with_context(|| {
        format!(
            "cannot make {} to mount a bpffs there; make it, or name another with --bpffs",
            point.display()
        )
    })?;
    let empty = fs::read_dir(point).is_ok_and(|mut entries| entries.next().is_none());
    if !empty {
        bail!(
            "{0} is not a bpffs, and not empty either; empty it, or mount one (`mount -t bpf bpf {0}`)",
            point.display()
        );
    }
    let none: Option<&str> = None;
    mount(Some("bpf"), point, Some("bpf"), MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC, none)
        .with_context(|| {
            format!(
                "cannot mount a bpffs at {0}; mount it before beelined starts (`mount -t bpf bpf {0}`), \
                 or give it CAP_SYS_ADMIN",
                point.display()
            )
        })?;
    if dies_with_us(point) {
        tracing::warn!(
            at = %point.display(),
            "mounted a bpffs in a mount namespace of its own: the pins are lost when it ends, and with them every \
             running pod's network; mount one on the node and share it"
        );
    }
    Ok(format!("mounted at {} by beelined", point.display()))
}

fn is_bpffs(path: &Path) -> bool {
    statfs(path).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC)
}

/// Whether the mount at `point` ends with this process's mount namespace, and that is not the machine's.
fn dies_with_us(point: &Path) -> bool {
    let shared = fs::read_to_string("/proc/self/mountinfo").is_ok_and(|mounts| is_shared(&mounts, point));
    if shared {
        return false;
    }
    // The first process may be hidden from us, or be us; whoever started us is the next best witness.
    let ours = namespace(getpid());
    [Pid::from_raw(1), getppid()]
        .into_iter()
        .any(|other| ours.is_some() && namespace(other).is_some_and(|theirs| Some(theirs) != ours))
        || getpid().as_raw() == 1
}

fn namespace(process: Pid) -> Option<u64> {
    fs::metadata(format!("/proc/{process}/ns/mnt")).ok().map(|namespace| namespace.ino())
}

/// Whether the topmost mount at `point` is passed on to other mount namespaces, by mountinfo (proc(5)).
fn is_shared(mounts: &str, point: &Path) -> bool {
    let at_point = |line: &&str| line.split(' ').nth(4).is_some_and(|at| Path::new(at) == point);
    let optional = |line: &str| {
        line.split(' ').skip(6).take_while(|field| *field != "-").any(|field| field.starts_with("shared:"))
    };
    mounts.lines().rev().find(at_point).is_some_and(optional)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
24 1 0:22 / /sys rw shared:2 - sysfs sysfs rw
30 24 0:27 / /sys/fs/bpf rw,nosuid shared:9 master:1 - bpf bpf rw
31 24 0:28 / /mnt/bpf rw - bpf bpf rw
32 24 0:29 / /sys/fs/bpf rw master:1 - bpf bpf rw
";

    #[test]
    fn the_topmost_mount_counts() {
        assert!(is_shared(MOUNTS, Path::new("/sys")));
        assert!(!is_shared(MOUNTS, Path::new("/mnt/bpf")));
        assert!(!is_shared(MOUNTS, Path::new("/sys/fs/bpf")));
        assert!(!is_shared(MOUNTS, Path::new("/nowhere")));
    }
}
