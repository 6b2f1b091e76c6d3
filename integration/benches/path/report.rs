//! The figures: the median rate of each path, and of each ratio the median over the rounds with its spread.

use std::fmt;

use serde::Serialize;

use crate::{
    contender::Path,
    measure::{Measured, Placing},
};

/// What is divided by what, and how people call that.
const RATIOS: [(Path, Path, &str); 6] = [
    (Path::BeelinePod, Path::Bare, "Beeline pod / bare"),
    (Path::BeelineVip, Path::Bare, "Beeline VIP / bare"),
    (Path::BeelinePod, Path::FlannelPod, "Beeline pod / flannel pod"),
    (Path::BeelineVip, Path::FlannelVip, "Beeline VIP / kube-proxy VIP"),
    (Path::BeelineVip, Path::BeelinePod, "Beeline VIP / Beeline pod"),
    (Path::FlannelPod, Path::Bare, "flannel pod / bare"),
];

/// All figures of a run.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    rounds: usize,
    slice_ms: u128,
    /// Services besides the measured one.
    other_services: usize,
    rows: Vec<Row>,
}

/// One load in one placing.
#[derive(Debug, Serialize)]
struct Row {
    load: crate::load::Load,
    placing: Placing,
    /// Bits or exchanges per second.
    rates: Vec<Rate>,
    ratios: Vec<Ratio>,
    #[serde(skip)]
    title: &'static str,
}

#[derive(Debug, Serialize)]
struct Rate {
    path: Path,
    median: f64,
    rounds: Vec<f64>,
}

/// A ratio of the rates of one round, over all rounds.
#[derive(Debug, Serialize)]
struct Ratio {
    of: Path,
    to: Path,
    median: f64,
    quartiles: [f64; 2],
    range: [f64; 2],
}

impl Report {
    pub(crate) fn new(measured: &[Measured], slice_ms: u128, other_services: usize) -> Self {
        let rounds = measured.first().map_or(0, |measured| measured.rounds.len());
        Self { rounds, slice_ms, other_services, rows: measured.iter().map(Row::new).collect() }
    }
}

impl Row {
    fn new(measured: &Measured) -> Self {
        let of =
            |path: Path| measured.rounds.iter().map(move |rates| rates[path as usize]).collect::<Vec<_>>();
        let rate = |path| Rate { path, median: quantile(&of(path), 0.5), rounds: of(path) };
        let ratio = |(of_path, to, _)| {
            let ratios: Vec<_> = of(of_path).iter().zip(of(to)).map(|(of, to)| of / to).collect();
            let at = |part| quantile(&ratios, part);
            Ratio {
                of: of_path,
                to,
                median: at(0.5),
                quartiles: [at(0.25), at(0.75)],
                range: [at(0.0), at(1.0)],
            }
        };
        Self {
            load: measured.load,
            placing: measured.placing,
            rates: Path::ALL.map(rate).into(),
            ratios: RATIOS.map(ratio).into(),
            title: measured.load.title(),
        }
    }
}

/// The value below which `part` of all are, between neighbours in proportion.
#[allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "few values"
)]
fn quantile(values: &[f64], part: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return f64::NAN };
    let place = part * last as f64;
    let below = place.floor() as usize;
    let above = last.min(below + 1);
    sorted[below] + (sorted[above] - sorted[below]) * place.fract()
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for placing in Placing::ALL {
            let rows: Vec<_> = self.rows.iter().filter(|row| row.placing == placing).collect();
            writeln!(f, "{}, medians of {} rounds of {} ms", placing.title(), self.rounds, self.slice_ms)?;
            write!(f, "  {:<28}", "")?;
            rows.iter().try_for_each(|row| write!(f, "  {:>18}", row.title))?;
            for (n, path) in Path::ALL.iter().enumerate() {
                write!(f, "\n  {:<28}", path.title())?;
                for row in &rows {
                    write!(f, "  {:>18}", row.load.figure(row.rates[n].median))?;
                }
            }
            for (n, (_, _, title)) in RATIOS.iter().enumerate() {
                write!(f, "\n  {title:<28}")?;
                for row in &rows {
                    let Ratio { median, quartiles: [low, high], .. } = &row.ratios[n];
                    write!(f, "  {:>18}", format!("{median:.2} ({low:.2}–{high:.2})"))?;
                }
            }
            writeln!(f, "\n")?;
        }
        writeln!(
            f,
            "Ratios are of each round, their medians with their quartiles; {} other services.",
            self.other_services
        )
    }
}
