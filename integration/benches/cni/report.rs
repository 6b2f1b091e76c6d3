//! The figures: p50 and p99 of each contender in milliseconds, and Beeline's divided by the others'.

use std::{fmt, time::Duration};

use integration::bench::{Row, percentile};
use serde::Serialize;

use crate::{
    contender::PODS,
    measure::{AT_ONCE, Calls, Measured},
};

/// All figures of a run. The first contender is ours; ratios below 1 are in its favour.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    contenders: [&'static str; 2],
    rows: Vec<Row>,
    /// Per pod, how much longer a burst takes than one pod by itself, of each contender.
    burst_to_single: [f64; 2],
}

impl Report {
    /// The figures of what was `measured`: of us, and of one other.
    pub(crate) fn new(measured: &[Measured; 2]) -> Self {
        let row = |what: String, of: &dyn Fn(&Measured) -> Vec<Duration>| {
            Row::new(what, &measured.each_ref().map(of))
        };
        let calls = |name: &str, of: fn(&Measured) -> &Calls| {
            [
                row(format!("{name}: ADD"), &|measured| of(measured).add.clone()),
                row(format!("{name}: DEL"), &|measured| of(measured).del.clone()),
                row(format!("{name}: ADD + DEL"), &|measured| of(measured).both()),
            ]
        };
        let mut rows = Vec::from(calls("one pod", |measured| &measured.single));
        let burst = format!("{PODS} pods, {AT_ONCE} at a time");
        rows.extend(calls(&burst, |measured| &measured.burst));
        rows.push(row(format!("{burst}: whole burst, per pod"), &|measured| measured.per_pod.clone()));
        let half = |durations: &[Duration]| percentile(durations, 50);
        Self {
            contenders: measured.each_ref().map(|measured| measured.name),
            rows,
            burst_to_single: measured
                .each_ref()
                .map(|measured| half(&measured.per_pod) / half(&measured.single.both())),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [ours, other] = self.contenders;
        let width = self.rows.iter().map(|row| row.what.len()).max().unwrap_or_default();
        writeln!(f, "{:width$}  {ours:^15}  {other:^19}  {:^13}", "milliseconds", "ratio")?;
        writeln!(
            f,
            "{:width$}  {:>7} {:>7}  {:>9} {:>9}  {:>6} {:>6}",
            "", "p50", "p99", "p50", "p99", "p50", "p99"
        )?;
        for row in &self.rows {
            let Row {
                what, p50_ms: [p50, other_p50], p99_ms: [p99, other_p99], p50_ratio, p99_ratio, ..
            } = row;
            writeln!(
                f,
                "{what:width$}  {p50:7.2} {p99:7.2}  {other_p50:9.2} {other_p99:9.2}  {p50_ratio:6.2} {p99_ratio:6.2}"
            )?;
        }
        let [ours, other] = self.burst_to_single;
        writeln!(f, "{:width$}  {ours:15.2}  {other:19.2}", "a pod in a burst / one by itself")
    }
}
