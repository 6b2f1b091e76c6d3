//! What the way from pod to pod and from pod to VIP costs: Beeline beside bare machines, and beside a flannel-shaped
//! overlay with kube-proxy's own rules, in the same run.

mod contender;
mod flannel;
mod kube_proxy;
mod load;
mod measure;
mod report;

use std::{
    num::{NonZeroU64, NonZeroUsize},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::Parser;
use integration::{
    bench::{self, Output},
    progress::Progress,
    sandbox,
};
use nix::{
    sched::{CpuSet, sched_getaffinity},
    unistd::Pid,
};

use contender::Contenders;
use report::Report;

/// Measures TCP streams, requests and responses on one TCP connection (RR), with a connection for each (CRR), and by UDP,
/// between two machines: bare, over a flannel-shaped VXLAN with kube-proxy's own nftables rules, and by Beeline; to the
/// server's pod itself and to a VIP; with both ends on one core, and with an end on each of two.
#[derive(Debug, Parser)]
#[command(name = "hack/bench path", max_term_width = 100, after_help = AFTER_HELP)]
struct Arguments {
    /// How often everything is measured, in turns.
    #[arg(long, value_name = "N", default_value = "9")]
    rounds: NonZeroUsize,

    /// How long each of a round's forty slices takes, in milliseconds.
    #[arg(long, value_name = "MS", default_value = "400")]
    slice: NonZeroU64,

    /// Services, of two backends each, that are there besides the measured one.
    #[arg(long, value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u16).range(..=60_000))]
    services: u16,

    #[command(flatten)]
    output: Output,
}

const AFTER_HELP: &str = "\
The same figures are left in target/bench/path.json, those of each round too. Other work on the machine disturbs them;
ratios least of all.";

fn main() -> ExitCode {
    bench::exit(run(&Arguments::parse()))
}

fn run(arguments: &Arguments) -> Result<()> {
    sandbox::enter()?;
    let cores = two_cores()?;
    let progress = Progress::new();
    let services = usize::from(arguments.services);
    let contenders = Contenders::start(services, |what| progress.step(what))?;
    let slice = Duration::from_millis(arguments.slice.get());
    let measured = measure::all(&contenders, cores, arguments.rounds.get(), slice, &progress)?;
    progress.done();
    arguments.output.tell("path", &Report::new(&measured, slice.as_millis(), services))
}

/// The first two cores that this process may use.
fn two_cores() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("cannot tell which cores there are")?;
    let mut cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
    let first = cores.next().context("there is no core")?;
    let second = cores.next().context("there is one core only, and this takes two")?;
    Ok([first, second])
}
