//! The measuring: short slices of all paths in turns, so that what else the machine does meets all alike.

use std::time::Duration;

use anyhow::{Context, Result};
use integration::progress::Progress;

use crate::{
    contender::{Contenders, Path},
    load::{Cores, Load},
};

/// Where the ends of a path run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Placing {
    /// Both on one core: the cost of each packet, with little noise.
    OneCore,
    /// Each on a core of its own.
    TwoCores,
}

impl Placing {
    pub(crate) const ALL: [Self; 2] = [Self::OneCore, Self::TwoCores];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::OneCore => "both ends on one core",
            Self::TwoCores => "an end on each core",
        }
    }

    const fn cores(self, [first, second]: [usize; 2]) -> Cores {
        let server = match self {
            Self::OneCore => first,
            Self::TwoCores => second,
        };
        Cores { client: first, server }
    }
}

/// What was measured of one load in one placing.
#[derive(Debug)]
pub(crate) struct Measured {
    pub(crate) load: Load,
    pub(crate) placing: Placing,
    /// A rate for each path, in the order of [`Path::ALL`], of each round.
    pub(crate) rounds: Vec<[f64; Path::ALL.len()]>,
}

/// Measures everything `rounds` times, for `length` each.
pub(crate) fn all(
    contenders: &Contenders,
    cores: [usize; 2],
    rounds: usize,
    length: Duration,
    progress: &Progress,
) -> Result<Vec<Measured>> {
    let kinds = Placing::ALL.iter().flat_map(|&placing| Load::ALL.map(|load| (load, placing)));
    let mut all: Vec<_> =
        kinds.map(|(load, placing)| Measured { load, placing, rounds: Vec::new() }).collect();
    for round in 0..rounds {
        progress.step(&format!("round {} of {rounds}", round + 1));
        for measured in &mut all {
            let Measured { load, placing, .. } = *measured;
            progress.part(&format!("round {} of {rounds}: {}, {}", round + 1, load.title(), placing.title()));
            let mut rates = [f64::NAN; Path::ALL.len()];
            // Another path begins each round, and every other round goes backwards: none has the best place.
            for turn in 0..Path::ALL.len() {
                let at = (turn + round) % Path::ALL.len();
                let at = if round % 2 == 0 { at } else { Path::ALL.len() - 1 - at };
                let slice = load.slice(contenders.ends(Path::ALL[at]), placing.cores(cores), length);
                rates[at] = slice.with_context(|| format!("{} by {:?}", load.title(), Path::ALL[at]))?;
            }
            measured.rounds.push(rates);
        }
    }
    Ok(all)
}
