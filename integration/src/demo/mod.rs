//! The demo: two nodes, three pods, two VIPs: one with DSR, one without;
//! where a request and its reply went, and what that costs.
//!
//! It shows what was measured in this very run, or fails. How clusters are made is the harness's affair.

mod facts;
mod keep;
mod measure;
mod stage;
mod text;
mod walk;

use std::io::{self, IsTerminal, Write};

use anyhow::Result;
use clap::{Parser, ValueEnum};

use crate::{progress::Progress, sandbox};
use stage::Stage;

/// Shows Direct Server Return on a cluster of network namespaces: where one request and its reply went, hop by hop,
/// with the counters that prove it, and the same with DSR off.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 100, override_usage = USAGE, after_help = AFTER_HELP)]
pub struct Arguments {
    /// A report for people, or JSON with the same facts for programs.
    #[arg(long, short, value_enum, value_name = "text|json", hide_possible_values = true, default_value_t)]
    output: Format,

    /// Leave the cluster up afterwards, to look around in it.
    #[arg(long)]
    keep: bool,

    /// Remove the cluster that --keep left.
    #[arg(long, conflicts_with = "keep")]
    down: bool,

    /// Run COMMAND (a shell, if none is given) inside the kept cluster: on node1 or node2, or in pod client, web1 or web2.
    #[arg(long = "in", value_name = "PLACE", conflicts_with_all = ["keep", "down"])]
    place: Option<String>,

    /// What to run there.
    #[arg(requires = "place", value_name = "COMMAND", trailing_var_arg = true)]
    command: Vec<String>,
}

const USAGE: &str = "hack/demo [--output json] [--keep]
       hack/demo --in PLACE [COMMAND…]
       hack/demo --down";

const AFTER_HELP: &str = "\
Everything lives in network namespaces and mounts of the demo's own, and goes with it: at its end,
on Ctrl-C, and even after kill -9.";

/// Who reads the report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    #[default]
    Text,
    /// For programs.
    Json,
}

/// Does what the command line asks. Call it before any thread is started.
///
/// # Errors
/// If the cluster cannot be made, or does not do what the demo is there to show.
pub fn run(arguments: &Arguments) -> Result<()> {
    if arguments.place.is_none() {
        keep::forget_stale()?;
    }
    if arguments.down {
        return keep::down();
    }
    if let Some(place) = &arguments.place {
        return keep::enter(place, &arguments.command);
    }
    if arguments.keep && !keep::is_holder() {
        return keep::start_holder();
    }
    sandbox::enter()?;
    let progress = Progress::new();
    let stage = Stage::set(&progress)?;
    let facts = measure::all(&stage, &progress)?;
    progress.done();
    let report = match arguments.output {
        Format::Json => serde_json::to_string_pretty(&facts)? + "\n",
        Format::Text => text::render(&facts, arguments.keep, use_colour()),
    };
    match io::stdout().lock().write_all(report.as_bytes()) {
        // A reader that has gone away (`| head`) has seen enough.
        Err(e) if e.kind() != io::ErrorKind::BrokenPipe => return Err(e.into()),
        _ => {}
    }
    if arguments.keep {
        keep::hold(&stage)?;
    }
    Ok(())
}

fn use_colour() -> bool {
    io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}
