//! The room that daemons of others live in. Runtimes start processes that outlive them and write to fixed places, so this
//! program runs in a process namespace of its own, which ends with it however it ends, and sees `/run`, `/dev/shm` and
//! `/var/lib` of its own.

use std::{
    env, fs,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{self, Command, ExitCode, ExitStatus},
};

use anyhow::{Context, Result};
use integration::sandbox;
use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        prctl::set_pdeathsig,
        signal::Signal,
        wait::{WaitStatus, wait},
    },
    unistd::geteuid,
};

/// Tells this program, started anew, which part it has: [`INIT`] or [`TESTS`]; and the control group of its runtimes.
const PART: &str = "BEELINE_CALLERS_PART";
/// Process 1 of the room.
const INIT: &str = "init";
/// The process that runs the tests.
const TESTS: &str = "tests";
/// Names the control group that runtimes are told to keep their containers in.
const GROUP: &str = "BEELINE_CALLERS_CGROUP";
const GROUP_PREFIX: &str = "beeline-callers-";
const CGROUPS: &str = "/sys/fs/cgroup";

/// Enters the room. `None`: this process is inside and runs the tests; else they have been run, with this result.
///
/// # Errors
/// If the kernel refuses a part of the room.
pub(crate) fn enter() -> Result<Option<ExitCode>> {
    match env::var(PART).as_deref() {
        Ok(TESTS) => furnish().map(|()| None),
        Ok(INIT) => reap(TESTS).map(Some),
        // The suite says what is wrong.
        _ if !geteuid().is_root() || env::args().any(|argument| argument == "--list") => Ok(None),
        _ => {
            sweep();
            unshare(CloneFlags::CLONE_NEWPID).context("the kernel refuses a process namespace of our own")?;
            let group = format!("{GROUP_PREFIX}{}", process::id());
            let status = again(INIT).env(GROUP, &group).status().context("cannot start anew in the room");
            remove_group(&group);
            Ok(Some(code_of(status?)))
        }
    }
}

/// The control group that containers belong in, as runtimes want to be told of it.
pub(crate) fn control_group() -> String {
    format!("/{}", env::var(GROUP).unwrap_or_else(|_| GROUP_PREFIX.to_owned()))
}

/// This program with its arguments, in `part`; it dies with the process that starts it.
fn again(part: &str) -> Command {
    let mut command = Command::new("/proc/self/exe");
    command.args(env::args_os().skip(1)).env(PART, part);
    // SAFETY: one system call, async-signal-safe.
    unsafe { command.pre_exec(|| Ok(set_pdeathsig(Signal::SIGKILL)?)) };
    command
}

/// What process 1 does: starts this program in `part`, and waits for whatever ends until that has.
fn reap(part: &str) -> Result<ExitCode> {
    let tests = again(part).spawn().context("cannot start the tests in the room")?;
    loop {
        let status = wait().context("cannot wait for the tests")?;
        if status.pid().is_some_and(|pid| pid.as_raw().cast_unsigned() == tests.id()) {
            return Ok(match status {
                WaitStatus::Exited(_, code) => code_of(ExitStatus::from_raw(code << 8)),
                _ => ExitCode::FAILURE,
            });
        }
    }
}

fn code_of(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// Mounts what runtimes write to, and this process namespace's `/proc`.
fn furnish() -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("the kernel refuses a mount namespace of our own")?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
        .context("cannot make mounts private")?;
    sandbox::mount_fs("proc", Path::new("/proc"))?;
    for dir in ["/run", "/dev/shm"] {
        sandbox::mount_fs("tmpfs", Path::new(dir))?;
    }
    // What is there stays in sight, for the programs under test may be below it.
    for dir in ["/run/var-lib/upper", "/run/var-lib/work"] {
        fs::create_dir_all(dir).with_context(|| format!("cannot make {dir}"))?;
    }
    let layers = "lowerdir=/var/lib,upperdir=/run/var-lib/upper,workdir=/run/var-lib/work";
    mount(Some("overlay"), "/var/lib", Some("overlay"), MsFlags::empty(), Some(layers))
        .context("cannot lay a writable layer over /var/lib")
}

/// Removes control groups of runs that were killed.
fn sweep() {
    for hierarchy in hierarchies() {
        for entry in fs::read_dir(hierarchy).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let owner = name.strip_prefix(GROUP_PREFIX).and_then(|pid| pid.parse::<u32>().ok());
            if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                remove_tree(&entry.path());
            }
        }
    }
}

fn remove_group(group: &str) {
    for hierarchy in hierarchies() {
        remove_tree(&hierarchy.join(group));
    }
}

/// The one of version 2, or all those of version 1.
fn hierarchies() -> Vec<std::path::PathBuf> {
    if Path::new(CGROUPS).join("cgroup.controllers").exists() {
        return vec![CGROUPS.into()];
    }
    fs::read_dir(CGROUPS).into_iter().flatten().flatten().map(|entry| entry.path()).collect()
}

/// Removes a control group with those in it, as far as they are empty: the kernel removes no other.
fn remove_tree(group: &Path) {
    for entry in fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    let _ = fs::remove_dir(group);
}
