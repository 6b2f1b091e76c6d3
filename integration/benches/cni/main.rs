//! How long pods wait for their network: Beeline beside the CNI project's bridge and host-local, in the same run.

mod contender;
mod measure;
mod report;

use std::{num::NonZeroUsize, process::ExitCode};

use anyhow::Result;
use clap::Parser;
use integration::{
    Attach, Cluster,
    bench::{self, Output},
    progress::Progress,
    sandbox,
};

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

    #[command(flatten)]
    output: Output,
}

const AFTER_HELP: &str = "\
The same figures are left in target/bench/cni.json. Other work on the machine disturbs them; ratios least of all.";

fn main() -> ExitCode {
    bench::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    sandbox::enter()?;
    let progress = Progress::new();
    progress.step("starting a node");
    let cluster = Cluster::builder().nodes(1).attach(arguments.attach).start()?;
    let contenders = [Contender::beeline(&cluster)?, Contender::bridge(&cluster)?];
    let measured = measure::all(&contenders, arguments.rounds.get(), arguments.bursts.get(), &progress)?;
    progress.done();
    arguments.output.tell("cni", &Report::new(&measured))
}

fn attach(text: &str) -> Result<Attach, String> {
    match text {
        "auto" => Ok(Attach::Auto),
        "tcx" => Ok(Attach::Tcx),
        "clsact" => Ok(Attach::Clsact),
        _ => Err("it may be auto, tcx or clsact".into()),
    }
}
