//! A process that is killed at a step: before its nth system call. Whatever it does to the world is done by a system
//! call, so that these are all the moments that differ.

use std::{
    io,
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use nix::{
    sys::{
        ptrace,
        signal::Signal,
        wait::{WaitStatus, waitpid},
    },
    unistd::Pid,
};

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Killed,
    /// It had ended before.
    ByItself {
        success: bool,
    },
}

/// Starts `command` and kills it before its system call number `step` (the first is 0).
#[allow(clippy::zombie_processes, reason = "every way out has waited for it, by ptrace's means")]
pub(crate) fn killed_before(command: &mut Command, step: usize) -> End {
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe { command.pre_exec(|| ptrace::traceme().map_err(io::Error::from)) };
    // Nobody reads what a killed process says.
    let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    let pid = Pid::from_raw(child.id().cast_signed());
    // It stops at its exec.
    assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Stopped(_, Signal::SIGTRAP)));
    ptrace::setoptions(pid, ptrace::Options::PTRACE_O_TRACESYSGOOD | ptrace::Options::PTRACE_O_EXITKILL)
        .unwrap();
    // Each call stops twice: before it, and after it.
    let mut stops = 0;
    let mut deliver = None;
    loop {
        ptrace::syscall(pid, deliver.take()).unwrap();
        match waitpid(pid, None).unwrap() {
            WaitStatus::PtraceSyscall(_) if stops == 2 * step => {
                ptrace::kill(pid).unwrap();
                assert!(matches!(waitpid(pid, None).unwrap(), WaitStatus::Signaled(..)));
                return End::Killed;
            }
            WaitStatus::PtraceSyscall(_) => stops += 1,
            WaitStatus::Stopped(_, signal) => deliver = Some(signal),
            WaitStatus::Exited(_, code) => return End::ByItself { success: code == 0 },
            other => panic!("{other:?}"),
        }
    }
}
