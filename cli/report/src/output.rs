//! How a report reaches its reader: a table for people, JSON for programs. Never colours: reports are piped.

use std::{
    io::{self, Write},
    time::Duration,
};

use clap::ValueEnum;
use serde::Serialize;

/// Who reads the report.
#[derive(Clone, Copy, Default, ValueEnum)]
pub enum Format {
    /// Aligned columns, for people.
    #[default]
    Table,
    /// JSON whose keys stay, for programs.
    Json,
}

/// What a command has to say. Its JSON keys are an interface: they are added to, never renamed.
pub trait Report: Serialize {
    /// The report for people, with its line breaks.
    fn text(&self) -> String;
}

/// Prints `report` on standard output. A reader that has gone away (`| head`) is no error.
pub fn print(format: Format, report: &impl Report) -> anyhow::Result<()> {
    let text = match format {
        Format::Table => report.text(),
        Format::Json => serde_json::to_string_pretty(report)? + "\n",
    };
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A span of time in at most two units: `0s`, `59s`, `4m05s`, `3h20m`, `2d01h`.
#[must_use]
pub fn span(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, _) => format!("{minutes}m{:02}s", seconds % 60),
        (0, _, _) => format!("{hours}h{:02}m", minutes % 60),
        _ => format!("{days}d{:02}h", hours % 24),
    }
}

/// `1 backend`, `2 backends`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    if number == 1 { format!("1 {noun}") } else { format!("{number} {noun}s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_read_well() {
        let cases =
            [(0, "0s"), (59, "59s"), (60, "1m00s"), (245, "4m05s"), (12_000, "3h20m"), (176_400, "2d01h")];
        for (seconds, expected) in cases {
            assert_eq!(span(Duration::from_secs(seconds)), expected);
        }
    }
}
