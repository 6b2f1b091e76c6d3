//! What all benchmarks share: who reads their figures, where those are left, and how a run that fails ends.

use std::{fmt::Display, fs, process::ExitCode, time::Duration};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde::Serialize;

use crate::binaries;

/// The part of the command line that is the same for all.
#[derive(Clone, Copy, Debug, Args)]
pub struct Output {
    /// A table for people, or JSON for programs.
    #[arg(long, short, value_enum, value_name = "text|json", hide_possible_values = true, default_value_t)]
    output: Format,

    /// What `cargo bench` says to every benchmark.
    #[arg(long, hide = true)]
    bench: bool,
}

/// Who reads the figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    /// A person.
    #[default]
    Text,
    /// A program.
    Json,
}

impl Output {
    /// Prints `report`, and leaves it as JSON in `target/bench/NAME.json`.
    ///
    /// # Errors
    /// If the file cannot be written.
    pub fn tell(self, name: &str, report: &(impl Serialize + Display)) -> Result<()> {
        let json = serde_json::to_string_pretty(report)?;
        let dir = binaries::target_dir()?.with_file_name("bench");
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let file = dir.join(format!("{name}.json"));
        fs::write(&file, format!("{json}\n")).with_context(|| format!("cannot write {}", file.display()))?;
        match self.output {
            Format::Text => print!("{report}"),
            Format::Json => println!("{json}"),
        }
        Ok(())
    }
}

/// The `main` of a benchmark that ended so.
#[must_use]
pub fn exit(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// What two contenders took for one kind of work; ratios below 1 are in the first one's favour.
#[derive(Debug, Serialize)]
pub struct Row {
    /// The work.
    pub what: String,
    /// How often each did it.
    pub samples: usize,
    /// Milliseconds, of each contender.
    pub p50_ms: [f64; 2],
    /// Likewise.
    pub p99_ms: [f64; 2],
    /// The first one's part of the second one's.
    pub p50_ratio: f64,
    /// Likewise.
    pub p99_ratio: f64,
}

impl Row {
    /// The figures of what each contender took, which are as many of both.
    #[must_use]
    pub fn new(what: impl Into<String>, durations: &[Vec<Duration>; 2]) -> Self {
        let [p50_ms, p99_ms] = [50, 99].map(|percent| durations.each_ref().map(|of| percentile(of, percent)));
        let ratio = |[ours, other]: [f64; 2]| ours / other;
        Self {
            what: what.into(),
            samples: durations[0].len(),
            p50_ms,
            p99_ms,
            p50_ratio: ratio(p50_ms),
            p99_ratio: ratio(p99_ms),
        }
    }
}

/// The duration, in milliseconds, that `percent` of all do not exceed (nearest rank); no number without durations.
#[must_use]
pub fn percentile(durations: &[Duration], percent: usize) -> f64 {
    let mut sorted = durations.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).map_or(f64::NAN, |duration| duration.as_secs_f64() * 1e3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_one_of_the_durations() {
        let all: Vec<_> = (1..=50).rev().map(Duration::from_millis).collect();
        let at = |percent| format!("{:.0}", percentile(&all, percent));
        assert_eq!([0, 50, 98, 99, 100].map(at), ["1", "25", "49", "50", "50"]);
        assert!(percentile(&[], 50).is_nan());
    }
}
