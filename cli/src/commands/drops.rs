//! `beelinectl drops`: how many packets were dropped, by reason.

use beeline_report::{Report, Table};
use lb_dataplane::Drop;
use serde::Serialize;

use crate::live::Live;

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only reasons that occurred.
    #[arg(long)]
    nonzero: bool,
}

/// Drops by reason, in the order that the programs number them.
#[derive(Serialize)]
pub(crate) struct Drops {
    drops: Vec<Line>,
    total: u64,
}

#[derive(Serialize)]
struct Line {
    reason: &'static str,
    packets: u64,
    help: &'static str,
}

/// Reads the counters.
pub(crate) fn report(live: &Live, arguments: &Arguments) -> anyhow::Result<Drops> {
    Ok(Drops::new(live.view.drops()?, arguments.nonzero))
}

impl Drops {
    fn new(counters: Vec<(Drop, u64)>, nonzero: bool) -> Self {
        let total = counters.iter().map(|(_, packets)| packets).sum();
        let shown = counters.into_iter().filter(|(_, packets)| !nonzero || *packets > 0);
        let drops =
            shown.map(|(drop, packets)| Line { reason: drop.name(), packets, help: drop.help() }).collect();
        Self { drops, total }
    }
}

impl Report for Drops {
    fn text(&self) -> String {
        if self.drops.is_empty() {
            return "no packet was dropped\n".into();
        }
        let mut table = Table::new(["REASON", "#PACKETS", "MEANING"]);
        for Line { reason, packets, help } in &self.drops {
            table.row([(*reason).to_owned(), packets.to_string(), (*help).to_owned()]);
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters() -> Vec<(Drop, u64)> {
        Drop::ALL.iter().map(|&drop| (drop, if drop == Drop::ForgedMac { 12 } else { 0 })).collect()
    }

    #[test]
    fn every_reason_has_its_line() {
        let text = Drops::new(counters(), false).text();
        assert_eq!(text.lines().count(), Drop::COUNT + 1);
        assert!(Drop::ALL.iter().all(|drop| text.contains(drop.name()) && text.contains(drop.help())));
    }

    #[test]
    fn reasons_that_never_occurred_can_be_left_out() {
        assert_eq!(
            Drops::new(counters(), true).text(),
            "REASON       PACKETS   MEANING\n\
             forged_mac        12   A port sent from a MAC that is not its own.\n"
        );
        assert_eq!(Drops::new(vec![(Drop::NotIp, 0)], true).text(), "no packet was dropped\n");
    }

    #[test]
    fn json_keeps_its_keys() {
        let json = serde_json::to_value(Drops::new(counters(), true)).unwrap();
        assert_eq!(json["total"], 12);
        assert_eq!(json["drops"][0]["reason"], "forged_mac");
        assert_eq!(json["drops"][0]["packets"], 12);
    }
}
