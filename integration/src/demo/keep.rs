//! Keeping the demo's cluster: a process that holds it, a file that says which, and the way into it.
//!
//! The holder is the demo itself, started anew in a session of its own. Kill it in any way, and the cluster goes.

use std::{
    env,
    ffi::OsString,
    fs::{self, File},
    io,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sched::{CloneFlags, setns},
    sys::{
        prctl::set_pdeathsig,
        signal::{Signal, kill},
    },
    unistd::{Pid, dup2_stderr, dup2_stdin, dup2_stdout, setsid},
};
use serde::{Deserialize, Serialize};

use super::stage::Stage;
use crate::{binaries, sandbox::NETNS_DIR, wait};

/// Says who holds the cluster, outside of its sandbox.
const FILE: &str = "/run/beeline-demo.json";
/// Tells the holder that it is one.
const HOLDER: &str = "BEELINE_DEMO_HOLDER";

/// Who holds the cluster, and where its nodes' runtime folders are.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    pid: i32,
    /// When it started, in the kernel's ticks: a process id alone may be another's by now.
    started: u64,
    nodes: Vec<(String, PathBuf)>,
}

/// True in the process that is to hold the cluster.
pub(super) fn is_holder() -> bool {
    env::var_os(HOLDER).is_some()
}

/// Starts the holder, which does the demo, and waits until the cluster is kept.
pub(super) fn start_holder() -> Result<()> {
    if let Some(kept) = kept()? {
        bail!("a cluster is kept already, by process {}: remove it with `hack/demo --down`", kept.pid);
    }
    let mut command = Command::new(binaries::this_program()?);
    command.args(env::args_os().skip(1)).env(HOLDER, "1");
    let detach = || {
        setsid()?;
        // Until it has reached its end, it goes when we go, as on Ctrl-C.
        set_pdeathsig(Signal::SIGKILL)?;
        Ok(())
    };
    // SAFETY: two system calls, both async-signal-safe.
    unsafe { command.pre_exec(detach) };
    let mut holder = command.spawn().context("cannot start the process that holds the cluster")?;
    wait_for(&mut holder)
}

fn wait_for(holder: &mut Child) -> Result<()> {
    wait::until("the demo to end", Duration::from_mins(5), || {
        if let Some(status) = holder.try_wait()? {
            // It has said why.
            ensure!(status.success(), "nothing is kept");
        }
        Ok(kept()?.is_some())
    })
}

/// Holds the cluster of `stage` until somebody kills this process.
pub(super) fn hold(stage: &Stage) -> Result<()> {
    let nodes = stage.cluster.nodes();
    let me = Pid::this().as_raw();
    let kept = Kept {
        pid: me,
        started: start_of(me).context("cannot tell when this process started")?,
        nodes: nodes.iter().map(|node| (node.name().to_owned(), node.runtime_dir())).collect(),
    };
    set_pdeathsig(None)?;
    // Whoever reads our output must not wait for us.
    let null = File::options().read(true).write(true).open("/dev/null")?;
    dup2_stdin(&null)?;
    dup2_stdout(&null)?;
    dup2_stderr(&null)?;
    // At once: who finds half of it would take it for a stale one.
    let new = format!("{FILE}.{me}");
    fs::write(&new, serde_json::to_vec(&kept)?).with_context(|| format!("cannot write {new}"))?;
    fs::rename(&new, FILE).with_context(|| format!("cannot write {FILE}"))?;
    loop {
        std::thread::park();
    }
}

/// Removes the kept cluster.
pub(super) fn down() -> Result<()> {
    let Some(kept) = kept()? else {
        println!("No cluster is kept.");
        return Ok(());
    };
    let pid = Pid::from_raw(kept.pid);
    // Namespaces, mounts and programs all go with it.
    kill(pid, Signal::SIGKILL).context("cannot end the process that holds the cluster: run this as root")?;
    wait::until(
        "the cluster to go",
        Duration::from_secs(5),
        || Ok(start_of(kept.pid) != Some(kept.started)),
    )?;
    fs::remove_file(FILE).with_context(|| format!("cannot remove {FILE}"))?;
    println!("The cluster is gone.");
    Ok(())
}

/// Becomes `command` (or a shell) at `place` in the kept cluster. Call it before any thread is started.
pub(super) fn enter(place: &str, command: &[String]) -> Result<()> {
    let kept = kept()?.context("no cluster is kept: make one with `hack/demo --keep`")?;
    let path = path()?;
    let mounts =
        File::open(format!("/proc/{}/ns/mnt", kept.pid)).context("entering the cluster needs root")?;
    let cwd = env::current_dir();
    setns(mounts, CloneFlags::CLONE_NEWNS).context("cannot enter the cluster's mounts")?;
    // Entering mounts leads to their root.
    let _ = cwd.map(env::set_current_dir);
    let Ok(netns) = File::open(Path::new(NETNS_DIR).join(place)) else {
        bail!("there is no {place} in the cluster, but {}", places()?.join(", "));
    };
    setns(netns, CloneFlags::CLONE_NEWNET).with_context(|| format!("cannot enter {place}"))?;
    let shell = || env::var("SHELL").unwrap_or_else(|_| "/bin/sh".to_owned());
    let (program, arguments) =
        command.split_first().map_or_else(|| (shell(), &[][..]), |(p, a)| (p.clone(), a));
    let mut command = Command::new(&program);
    command.args(arguments).env("PATH", path).env("PS1", format!("{place}# "));
    if let Some((_, dir)) = kept.nodes.iter().find(|(name, _)| name == place) {
        command.env("BEELINE_RUNTIME_DIR", dir);
    }
    Err(command.exec()).with_context(|| format!("cannot run {program}"))
}

/// The path with Beeline's own programs first; to be asked for while still among the mounts they were started from.
fn path() -> Result<OsString> {
    let mut dirs: Vec<PathBuf> = binaries::this_program()?.parent().map(Path::to_owned).into_iter().collect();
    dirs.extend(env::split_paths(&env::var_os("PATH").unwrap_or_default()));
    Ok(env::join_paths(dirs)?)
}

fn places() -> Result<Vec<String>> {
    let mut places = Vec::new();
    for entry in fs::read_dir(NETNS_DIR)? {
        places.push(entry?.file_name().to_string_lossy().into_owned());
    }
    places.sort();
    Ok(places)
}

/// Removes what a holder left that was killed.
pub(super) fn forget_stale() -> Result<()> {
    if kept()?.is_none() {
        match fs::remove_file(FILE) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => {
                return Err(e).with_context(|| format!("cannot remove {FILE}"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The kept cluster, if its holder still lives.
fn kept() -> Result<Option<Kept>> {
    let text = match fs::read(FILE) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
        text => text.with_context(|| format!("cannot read {FILE}"))?,
    };
    let kept: Option<Kept> = serde_json::from_slice(&text).ok();
    Ok(kept.filter(|kept| start_of(kept.pid) == Some(kept.started)))
}

/// When process `pid` started; `None` if there is none, or only its remains. Field 22 of its `stat` (proc(5)),
/// counted behind the name, which may hold anything.
fn start_of(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = stat.rsplit_once(") ")?.1.split(' ');
    let state = fields.next()?;
    (state != "Z").then(|| fields.nth(18)?.parse().ok())?
}
