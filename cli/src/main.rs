//! `beelinectl`: shows what Beeline does on this node. It reads the pinned maps and never writes, so it works
//! with the agent running, dead or not installed.

mod commands;
mod live;
mod names;

use std::{path::PathBuf, process::ExitCode};

use beeline_report::{Format, print};
use clap::{Parser, Subcommand};

use crate::live::Live;

/// Shows what Beeline does on this node, from the live maps.
#[derive(Parser)]
#[command(version, about, max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    /// The agent's runtime folder on this node.
    #[arg(long, global = true, env = "BEELINE_RUNTIME_DIR", value_name = "DIR",
          default_value = lb_dataplane::node_file::DEFAULT_RUNTIME_DIR)]
    runtime_dir: PathBuf,

    /// Tables for people, or JSON for programs.
    #[arg(long, short, global = true, value_enum, value_name = "FORMAT", default_value_t)]
    output: Format,

    #[command(subcommand)]
    command: Command,
}

const AFTER_HELP: &str = "\
Is DSR on?         beelinectl policy            (IsDSR: TRUE, and the packets that prove it)
Which way?         beelinectl hops              (past the host's stack, or through it)
Packets missing?   beelinectl drops --nonzero   (every drop has a named reason)
What would happen? beelinectl trace default/client 10.96.0.10:80
Who talks?         beelinectl flows --pod 10.244.1.5";

#[derive(Subcommand)]
enum Command {
    /// This node: agent, network, how much is in the maps, and what is wrong.
    ///
    /// Exits with 0 if the node is ready. Exits with 1 if it is not set up yet, or degraded: the agent does not run, or
    /// has something to complain of (a bad configuration, a device or program that it cannot have), the maps cannot
    /// be read, or no program is on the uplink. Traffic may well go on; somebody should look.
    Status,
    /// Load balancing rules as VFP shows them: whether DSR is on, and what was measured.
    Policy(commands::policy::Arguments),
    /// Services with their frontends, backends and counters.
    Services(commands::services::Arguments),
    /// Local pods, and this node itself, as the dataplane knows them.
    Endpoints,
    /// Flows that are remembered, most recently used first.
    Flows(commands::flows::Arguments),
    /// Dropped packets, by reason.
    Drops(commands::drops::Arguments),
    /// Forwarded packets, by the way they took.
    Hops,
    /// What each layer would do with a pod's packet, step by step. Nothing is sent.
    Trace(commands::trace::Arguments),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let dir = &arguments.runtime_dir;
    let format = arguments.output;
    match &arguments.command {
        Command::Status => {
            let status = commands::status::report(dir)?;
            print(format, &status)?;
            if !status.is_ready() {
                return Ok(ExitCode::FAILURE);
            }
        }
        Command::Policy(chosen) => {
            print(format, &commands::policy::report(&Live::open(dir)?, chosen)?)?;
        }
        Command::Services(chosen) => {
            print(format, &commands::services::report(&Live::open(dir)?, chosen)?)?;
        }
        Command::Endpoints => print(format, &commands::endpoints::report(&Live::open(dir)?)?)?,
        Command::Flows(chosen) => {
            print(format, &commands::flows::report(&Live::open(dir)?, chosen, format)?)?;
        }
        Command::Drops(chosen) => {
            print(format, &commands::drops::report(&Live::open(dir)?, chosen)?)?;
        }
        Command::Hops => print(format, &commands::hops::report(&Live::open(dir)?)?)?,
        Command::Trace(chosen) => {
            print(format, &commands::trace::report(&Live::open(dir)?, chosen)?)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
