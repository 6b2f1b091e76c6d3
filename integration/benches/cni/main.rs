//! How long pods wait for their network: Beeline beside the CNI project's bridge and host-local, in the same run.

mod contender;
mod measure;
mod report;

use std::{fs, num::NonZeroUsize, path::PathBuf, process::ExitCode};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use integration::{Attach, Cluster, binaries, progress::Progress, sandbox};

use contender::Contender;
use report::Report;

/// Measures how long ADD and DEL of a pod take, one at a time and a hundred pods sixteen at a time: Beeline beside the
/// reference plugins bridge and host-local, in turns, both called as libcni calls plugins.
#[derive(Debug, Parser)]
#[command(name = "hack/bench cni", max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    /// How often one pod is made and removed with each plugin.
    #[arg(long, value_name = "N", default_value = "60")]
    rounds: NonZeroUsize,

    /// How often a hundred pods are, sixteen at a time.
    #[arg(long, value_name = "N", default_value = "5")]
    bursts: NonZeroUsize,

    /// How Beeline's programs are attached: auto, tcx or clsact.
    #[arg(long, value_name = "HOW", default_value = "auto", value_parser = attach)]
    attach: Attach,

    /// A table for people, or JSON for programs.
    #[arg(long, short, value_enum, value_name = "text|json", hide_possible_values = true, default_value_t)]
    output: Format,

    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const AFTER_HELP: &str = "\
The same figures are left in target/bench/cni.json. Other work on the machine disturbs them; ratios least of all.";

/// Who reads the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A person.
    #[default]
    Text,
    /// A program.
    Json,
}

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<()> {
    sandbox::enter()?;
    let progress = Progress::new();
    progress.step("starting a node");
    let cluster = Cluster::builder().nodes(1).attach(arguments.attach).start()?;
    let contenders = [Contender::beeline(&cluster)?, Contender::bridge(&cluster)?];
    let measured = measure::all(&contenders, arguments.rounds.get(), arguments.bursts.get(), &progress)?;
    progress.done();
    let report = Report::new(&measured);
    let json = serde_json::to_string_pretty(&report)?;
    let file = output_file()?;
    fs::write(&file, format!("{json}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    match arguments.output {
        Format::Text => print!("{report}"),
        Format::Json => println!("{json}"),
    }
    Ok(())
}

fn attach(text: &str) -> Result<Attach, String> {
    match text {
        "auto" => Ok(Attach::Auto),
        "tcx" => Ok(Attach::Tcx),
        "clsact" => Ok(Attach::Clsact),
        _ => Err("it may be auto, tcx or clsact".into()),
    }
}

/// Where the figures are left.
fn output_file() -> Result<PathBuf> {
    let dir = binaries::target_dir()?.with_file_name("bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir.join("cni.json"))
}
