//! What the way from pod to pod and from pod to VIP costs: Beeline beside bare machines, and beside a flannel-shaped
//! overlay with kube-proxy's own rules, in the same run.

mod contender;
mod flannel;
mod kube_proxy;
mod load;
mod measure;
mod report;

use std::{
    fs,
    num::{NonZeroU64, NonZeroUsize},
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};
use integration::{binaries, progress::Progress, sandbox};
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

    /// A table for people, or JSON for programs.
    #[arg(long, short, value_enum, value_name = "text|json", hide_possible_values = true, default_value_t)]
    output: Format,

    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

const AFTER_HELP: &str = "\
The same figures are left in target/bench/path.json, those of each round too. Other work on the machine disturbs them;
ratios least of all.";

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
    let cores = two_cores()?;
    let progress = Progress::new();
    let services = usize::from(arguments.services);
    let contenders = Contenders::start(services, |what| progress.step(what))?;
    let slice = Duration::from_millis(arguments.slice.get());
    let measured = measure::all(&contenders, cores, arguments.rounds.get(), slice, &progress)?;
    progress.done();
    let report = Report::new(&measured, slice.as_millis(), services);
    let json = serde_json::to_string_pretty(&report)?;
    let file = output_file()?;
    fs::write(&file, format!("{json}\n")).with_context(|| format!("cannot write {}", file.display()))?;
    match arguments.output {
        Format::Text => print!("{report}"),
        Format::Json => println!("{json}"),
    }
    Ok(())
}

/// The first two cores that this process may use.
fn two_cores() -> Result<[usize; 2]> {
    let allowed = sched_getaffinity(Pid::from_raw(0)).context("cannot tell which cores there are")?;
    let mut cores = (0..CpuSet::count()).filter(|&core| allowed.is_set(core).unwrap_or(false));
    let first = cores.next().context("there is no core")?;
    let second = cores.next().context("there is one core only, and this takes two")?;
    Ok([first, second])
}

/// Where the figures are left.
fn output_file() -> Result<PathBuf> {
    let dir = binaries::target_dir()?.with_file_name("bench");
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    Ok(dir.join("path.json"))
}
