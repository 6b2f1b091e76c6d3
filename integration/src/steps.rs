//! Killing a program at any one of its steps: a step is a system call by which it is about to change
//! something outside of itself. So every state that it can leave behind is seen, whatever its code is like.

use std::{
    io::Write,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
    thread,
};

use anyhow::{Context, Result, anyhow, bail};
use nix::{
    libc,
    sys::{
        ptrace::{self, Options},
        signal::{Signal, kill},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// How a program that was to be killed went.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Cut {
    /// By SIGKILL, when it was about to make this system call.
    Before(String),
    /// By itself, with this exit code: it has fewer steps.
    Ended(i32),
}

/// Runs `command` with `input` on its standard input, and kills it with SIGKILL when it is about to make its `n`th
/// step, from 1 up, in whatever thread.
///
/// # Errors
/// If it cannot be started or traced.
pub fn kill_at(command: Command, input: &str, n: usize) -> Result<Cut> {
    // Whoever starts a program that asks to be traced is its tracer, and only that thread may wait for it.
    thread::scope(|scope| scope.spawn(|| trace(command, input, n)).join())
        .map_err(|_| anyhow!("the tracing thread panicked"))?
}

fn trace(mut command: Command, input: &str, n: usize) -> Result<Cut> {
    // SAFETY: one system call, async-signal-safe.
    unsafe { command.pre_exec(|| Ok(ptrace::traceme()?)) };
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let leader = Pid::from_raw(i32::try_from(child.id())?);
    waitpid(leader, Some(WaitPidFlag::__WALL)).context("the program did not start")?;
    let options = Options::PTRACE_O_TRACESYSGOOD | Options::PTRACE_O_TRACECLONE | Options::PTRACE_O_EXITKILL;
    ptrace::setoptions(leader, options).context("cannot trace the program")?;
    ptrace::syscall(leader, None)?;
    let mut seen = 0;
    loop {
        let status = waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))?;
        match status {
            WaitStatus::Exited(pid, code) if pid == leader => return Ok(Cut::Ended(code)),
            WaitStatus::Signaled(pid, signal, _) if pid == leader => {
                bail!("the program died of {signal} by itself")
            }
            WaitStatus::PtraceSyscall(pid) => {
                let step = step(pid);
                seen += usize::from(step.is_some());
                if let Some(step) = step.filter(|_| seen == n) {
                    kill(leader, Signal::SIGKILL)?;
                    reap(leader)?;
                    return Ok(Cut::Before(step));
                }
                go_on(pid, None)?;
            }
            WaitStatus::PtraceEvent(pid, ..) | WaitStatus::Stopped(pid, Signal::SIGSTOP) => go_on(pid, None)?,
            WaitStatus::Stopped(pid, signal) => go_on(pid, Some(signal))?,
            WaitStatus::StillAlive => bail!("nothing is left to trace"),
            _ => {}
        }
    }
}

/// A thread may end while it is looked at.
fn go_on(pid: Pid, signal: Option<Signal>) -> Result<()> {
    match ptrace::syscall(pid, signal) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(e) => Err(e).context("the traced program cannot go on"),
    }
}

fn reap(leader: Pid) -> Result<()> {
    loop {
        match waitpid(None, Some(WaitPidFlag::__WALL | WaitPidFlag::__WNOTHREAD))? {
            WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..) if pid == leader => return Ok(()),
            _ => {}
        }
    }
}

/// The step that thread `pid` is about to make, in words.
fn step(pid: Pid) -> Option<String> {
    let info = ptrace::syscall_info(pid).ok().filter(|info| info.op == libc::PTRACE_SYSCALL_INFO_ENTRY)?;
    // SAFETY: `op` says which member of the union the kernel has filled in.
    let entry = unsafe { info.u.entry };
    let number = libc::c_long::try_from(entry.nr).ok()?;
    let creates = entry.args[2] & u64::from(libc::O_CREAT.unsigned_abs()) != 0;
    let name = match number {
        libc::SYS_bpf => bpf_change(entry.args[0])?,
        libc::SYS_openat if creates => "openat(O_CREAT)",
        libc::SYS_sendto | libc::SYS_sendmsg => "send",
        libc::SYS_write | libc::SYS_pwrite64 | libc::SYS_writev | libc::SYS_pwritev => "write",
        libc::SYS_renameat | libc::SYS_renameat2 => "rename",
        libc::SYS_mkdirat => "mkdir",
        libc::SYS_unlinkat => "unlink",
        #[cfg(target_arch = "x86_64")]
        libc::SYS_rename => "rename",
        #[cfg(target_arch = "x86_64")]
        libc::SYS_mkdir => "mkdir",
        #[cfg(target_arch = "x86_64")]
        libc::SYS_unlink | libc::SYS_rmdir => "unlink",
        libc::SYS_exit_group => "exit",
        _ => return None,
    };
    Some(name.to_owned())
}

/// Commands of bpf(2) that change something which outlives the program.
fn bpf_change(command: u64) -> Option<&'static str> {
    match command {
        2 => Some("bpf(MAP_UPDATE_ELEM)"),
        3 => Some("bpf(MAP_DELETE_ELEM)"),
        6 => Some("bpf(OBJ_PIN)"),
        28 => Some("bpf(LINK_CREATE)"),
        29 => Some("bpf(LINK_UPDATE)"),
        _ => None,
    }
}
