//! `beelinectl hops`: which ways packets took, and whether the host's own stack was among them.

use beeline_report::{Report, Table};
use lb_dataplane::Hop;
use serde::Serialize;

use crate::live::Live;

/// Packets by the way they took.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Ways {
    hops: Vec<Way>,
    /// Packets that never saw the host's stack.
    past_host_stack: u64,
    /// Packets that were handed to it.
    to_host_stack: u64,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Way {
    hop: &'static str,
    packets: u64,
    past_host_stack: bool,
    help: &'static str,
}

/// Reads the counters.
pub(crate) fn report(live: &Live) -> anyhow::Result<Ways> {
    Ok(Ways::new(live.view.hops()?))
}

/// Whether a packet that goes this way stays clear of the host's stack. The slow path does not: the kernel's own
/// VXLAN device decapsulates behind routing and netfilter.
const fn is_past_host_stack(hop: Hop) -> bool {
    matches!(hop, Hop::PortToPort | Hop::PortToOverlay | Hop::UplinkToPort)
}

impl Ways {
    fn new(counters: Vec<(Hop, u64)>) -> Self {
        let total = |past| -> u64 {
            counters
                .iter()
                .filter(|(hop, _)| is_past_host_stack(*hop) == past)
                .map(|(_, packets)| packets)
                .sum()
        };
        let (past_host_stack, to_host_stack) = (total(true), total(false));
        let hops = counters
            .into_iter()
            .map(|(hop, packets)| Way {
                hop: hop.name(),
                packets,
                past_host_stack: is_past_host_stack(hop),
                help: hop.help(),
            })
            .collect();
        Self { hops, past_host_stack, to_host_stack }
    }
}

impl Report for Ways {
    fn text(&self) -> String {
        let mut table = Table::new(["HOP", "#PACKETS", "HOST STACK", "MEANING"]);
        for way in &self.hops {
            let stack = if way.past_host_stack { "bypassed" } else { "entered" };
            table.row([way.hop.to_owned(), way.packets.to_string(), stack.to_owned(), way.help.to_owned()]);
        }
        format!("{table}\npast the host's stack: {}, into it: {}\n", self.past_host_stack, self.to_host_stack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_which_ways_enter_the_host_stack() {
        let hops = Ways::new(vec![(Hop::PortToOverlay, 10), (Hop::UplinkToPort, 9), (Hop::PortToHost, 2)]);
        assert_eq!(
            hops.text(),
            "HOP               PACKETS   HOST STACK   MEANING\n\
             port_to_overlay        10   bypassed     From a port into VXLAN and out of the uplink, past the host's stack.\n\
             uplink_to_port          9   bypassed     From the uplink out of VXLAN straight into a pod, past the host's stack.\n\
             port_to_host            2   entered      From a port up into the host's own stack.\n\
             \n\
             past the host's stack: 19, into it: 2\n"
        );
        let json = serde_json::to_value(hops).unwrap();
        assert_eq!(json["pastHostStack"], 19);
        assert_eq!(json["hops"][2]["pastHostStack"], false);
    }
}
