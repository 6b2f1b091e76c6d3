//! Command lines run inside a namespace. How programs are started, waited for and ended is told in `process`.

use std::{ffi::OsStr, os::unix::process::CommandExt, process::Command};

use anyhow::{Context, Result};
use nix::{
    sched::{CloneFlags, setns},
    sys::{prctl::set_pdeathsig, signal::Signal},
};

use crate::{
    netns::Netns,
    process::{Finished, finish},
};

impl Netns {
    /// A command that will run inside, and be killed if this process dies.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        let netns = self.clone();
        let enter = move || {
            setns(netns.handle(), CloneFlags::CLONE_NEWNET)?;
            set_pdeathsig(Signal::SIGKILL)?;
            Ok(())
        };
        // SAFETY: two system calls, both async-signal-safe; nothing is allocated.
        unsafe { command.pre_exec(enter) };
        command
    }

    /// Runs a command line (words split at spaces, no quoting) to its end and gives what it printed.
    ///
    /// # Errors
    /// If it cannot be started, fails, or takes more than three minutes.
    pub fn exec(&self, line: &str) -> Result<String> {
        self.try_exec(line)?.ok()
    }

    /// As [`Netns::exec`], but a program that fails is no error.
    ///
    /// # Errors
    /// If it cannot be started or takes more than three minutes.
    pub fn try_exec(&self, line: &str) -> Result<Finished> {
        let mut words = line.split_whitespace();
        let mut command = self.command(words.next().context("an empty command line")?);
        command.args(words);
        finish(command, "")
    }

    /// `ip` with these commands, one a line.
    ///
    /// # Errors
    /// If one of them fails.
    pub fn ip(&self, commands: &str) -> Result<()> {
        let mut command = self.command("ip");
        command.args(["-batch", "-"]);
        finish(command, commands)?
            .ok()
            .with_context(|| format!("in {}: {}", self.name(), commands.trim()))?;
        Ok(())
    }

    /// `nft` with this rule set.
    ///
    /// # Errors
    /// If it is refused.
    pub fn nft(&self, rules: &str) -> Result<()> {
        let mut command = self.command("nft");
        command.args(["-f", "-"]);
        finish(command, rules)?.ok().with_context(|| format!("in {}: {}", self.name(), rules.trim()))?;
        Ok(())
    }
}
