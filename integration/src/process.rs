//! Programs: run to the end, or kept running. None outlives this process.

use std::{
    ffi::OsStr,
    fs::{self, File},
    io::{self, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{LazyLock, mpsc},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, bail, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::{Gid, Pid, Uid, setgid, setuid},
};

/// How long a program that should end may take.
const LIMIT: Duration = Duration::from_mins(3);

/// A program that has ended.
#[derive(Debug, Clone)]
pub struct Finished {
    /// How.
    pub status: ExitStatus,
    /// What it printed.
    pub stdout: String,
    /// What it complained about.
    pub stderr: String,
    what: String,
}

impl Finished {
    /// What it printed, or an error with what it complained about.
    ///
    /// # Errors
    /// If it did not succeed.
    pub fn ok(self) -> Result<String> {
        ensure!(
            self.status.success(),
            "`{}` failed ({}): {}{}",
            self.what,
            self.status,
            self.stderr.trim(),
            if self.stderr.trim().is_empty() { self.stdout.trim() } else { "" },
        );
        Ok(self.stdout)
    }
}

/// Makes `command` run as user and group `id`, once it has entered its namespace as root.
pub fn run_as(command: &mut Command, id: u32) {
    let become_user = move || {
        setgid(Gid::from_raw(id))?;
        setuid(Uid::from_raw(id))?;
        Ok(())
    };
    // SAFETY: two system calls (in a process of one thread), both async-signal-safe.
    unsafe { command.pre_exec(become_user) };
}

/// Runs `command` to its end with `input` on its standard input.
///
/// # Errors
/// If it cannot be started or takes more than three minutes.
pub fn finish(mut command: Command, input: &str) -> Result<Finished> {
    let what = line_of(&command);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = spawn(command).with_context(|| format!("cannot start `{what}`"))?;
    let pid = pid_of(&child);
    let mut stdin = child.stdin.take();
    let (alive, ended) = mpsc::channel::<()>();
    let (output, too_long) = thread::scope(|scope| {
        let watchdog = scope.spawn(move || {
            let too_long = ended.recv_timeout(LIMIT) == Err(mpsc::RecvTimeoutError::Timeout);
            if too_long {
                let _ = kill(pid, Signal::SIGKILL);
            }
            too_long
        });
        // A program that does not read its input closes it early: that is its right.
        scope.spawn(move || stdin.take().map(|mut pipe| pipe.write_all(input.as_bytes())));
        let output = child.wait_with_output();
        drop(alive);
        (output, watchdog.join().unwrap_or(false))
    });
    ensure!(!too_long, "`{what}` did not end within {} s", LIMIT.as_secs());
    let output = output.with_context(|| format!("cannot wait for `{what}`"))?;
    Ok(Finished {
        status: output.status,
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        what,
    })
}

/// A program that keeps running; killed when this value goes.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
    log: PathBuf,
}

impl Running {
    /// Starts `command` with what it prints appended to the file `log`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(mut command: Command, log: &Path) -> Result<Self> {
        let what = line_of(&command);
        let file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = spawn(command).with_context(|| format!("cannot start `{what}`"))?;
        Ok(Self { child, what, log: log.to_owned() })
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> Pid {
        pid_of(&self.child)
    }

    /// All it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Where what it prints goes.
    #[must_use]
    pub fn log_path(&self) -> &Path {
        &self.log
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// If the system cannot tell.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("cannot ask for `{}`", self.what))
    }

    /// Fails, with what it printed, if it has ended.
    ///
    /// # Errors
    /// If it has ended.
    pub fn ensure_alive(&mut self) -> Result<()> {
        if let Some(status) = self.ended()? {
            bail!("`{}` ended ({status}): {}", self.what, self.log().trim());
        }
        Ok(())
    }

    /// Kills it as the kernel's out-of-memory killer would.
    ///
    /// # Errors
    /// If the system cannot tell how it ended.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends `signal` and waits for the end.
    ///
    /// # Errors
    /// If it does not end within ten seconds.
    pub fn stop(mut self, signal: Signal) -> Result<ExitStatus> {
        kill(self.pid(), signal).with_context(|| format!("cannot signal `{}`", self.what))?;
        let what = format!("`{}` to end after {signal}", self.what);
        crate::wait::until_some(&what, Duration::from_secs(10), || self.ended())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A command as a person would type it.
fn line_of(command: &Command) -> String {
    let program = Path::new(command.get_program()).file_name().unwrap_or(command.get_program());
    std::iter::once(program)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}

#[allow(clippy::cast_possible_wrap, reason = "the kernel's process ids are positive 32-bit numbers")]
fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id() as i32)
}

/// Spawns on one thread that lives as long as this process: `PR_SET_PDEATHSIG` fires when the *thread* that
/// forked ends, and tests run on threads that come and go.
fn spawn(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::SyncSender<io::Result<Child>>);
    static SPAWNER: LazyLock<mpsc::Sender<Order>> = LazyLock::new(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for (mut command, reply) in inbox {
                let _ = reply.send(command.spawn());
            }
        });
        orders
    });
    let gone = || io::Error::other("the spawning thread is gone");
    let (reply, answer) = mpsc::sync_channel(1);
    SPAWNER.send((command, reply)).map_err(|_| gone())?;
    answer.recv().map_err(|_| gone())?
}
