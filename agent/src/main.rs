//! `beelined`, Beeline's node agent: a source says what the network shall be, the reconciler makes it so.
//!
//! Only the start is here: command line, logging, and which command it is.

mod cli;
mod error;
mod health;
mod host;
mod http;
mod instance;
mod logging;
mod memory;
mod metrics;
mod model;
mod reconcile;
mod run;
mod source;
mod status;
mod sweep;
mod uninstall;

use std::{io::Write, process::ExitCode};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{SigSet, Signal};

use crate::cli::{Cli, Command};

fn main() -> ExitCode {
    let cli = Cli::read();
    let result =
        logging::start(&cli.logging).and_then(|()| match cli.command.unwrap_or(Command::Run(cli.run)) {
            Command::Run(args) => run::run(args.with_defaults()),
            Command::Check(args) => check(&args),
            Command::Uninstall(args) => uninstall::uninstall(&args),
            Command::Install(args) => install(args),
            Command::MountBpffs(pins) => mount_bpffs(&pins),
            Command::Wait => wait(),
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", error::told(&error));
            ExitCode::FAILURE
        }
    }
}

/// Says whether the configuration is good, or everything that is wrong with it.
fn check(args: &cli::Check) -> Result<()> {
    let network =
        source::file::load(args.config(), args.node.as_deref()).map_err(|bad| anyhow!("{bad:#}"))?;
    let counts = status::counts(&network);
    writeln!(
        std::io::stdout(),
        "{} is good: node {}, {} other nodes, {} services",
        args.config().display(),
        network.node.name,
        counts.peers,
        counts.services,
    )?;
    Ok(())
}

/// Copies the plugin's programs, and says which were not there yet.
fn install(args: cli::Install) -> Result<()> {
    let dir = args.cni_bin_dir;
    for path in host::cni::install(&dir)? {
        writeln!(std::io::stdout(), "installed {}", path.display())?;
    }
    Ok(())
}

/// Mounts what an agent without that privilege needs, and says how it is.
fn mount_bpffs(pins: &cli::Pins) -> Result<()> {
    let found = host::bpffs::ensure(&pins.bpffs)?;
    writeln!(std::io::stdout(), "bpffs: {found}")?;
    Ok(())
}

/// Waits for SIGTERM or SIGINT, which the first process of a container would not hear otherwise.
fn wait() -> Result<()> {
    let signals: SigSet = [Signal::SIGTERM, Signal::SIGINT].into_iter().collect();
    signals.thread_block().context("cannot block signals")?;
    signals.wait().context("cannot wait for a signal")?;
    Ok(())
}
