//! `beelinectl flows`: the flows that the dataplane remembers, and what becomes of their packets.

use std::net::{IpAddr, SocketAddr};

use anyhow::bail;
use beeline_report::{Format, Report, Table, span};
use lb_dataplane::{Action, EndpointView, FlowView, Rewrite};
use serde::Serialize;

use crate::{
    live::Live,
    names::{Names, Place, protocol_name, protocol_number},
};

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only flows that this service decided.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,

    /// Only flows from or to this pod: its address, or for a pod of this node its name.
    #[arg(long, value_name = "ADDRESS|[NAMESPACE/]NAME")]
    pod: Option<String>,

    /// Only flows of this protocol.
    #[arg(long, value_name = "tcp|udp|icmp|icmpv6|NUMBER", value_parser = protocol_number)]
    protocol: Option<u8>,

    /// At most so many, those used last; 0 for all. [default: 200 in a table, all in JSON]
    #[arg(long, value_name = "N")]
    limit: Option<usize>,
}

impl Arguments {
    /// How many flows a reader of `format` is to get at most.
    fn limit(&self, format: Format) -> usize {
        match (self.limit, format) {
            (None, Format::Table) => READABLE,
            (None | Some(0), _) => usize::MAX,
            (Some(limit), _) => limit,
        }
    }
}

/// Rows of a table that people get unless they ask for more.
const READABLE: usize = 200;

/// Flows, most recently used first.
#[derive(Serialize)]
pub(crate) struct Flows {
    flows: Vec<Flow>,
    /// How many there are besides, left out by the limit.
    more: usize,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Flow {
    protocol: String,
    source: String,
    destination: String,
    /// `request` for the half that came with a request, `reply` for the half made for replies; `null` for a plain
    /// flow, which is half of nothing.
    half: Option<&'static str>,
    /// What is changed: `none`, `source` or `destination`.
    rewrite: &'static str,
    /// The address and port it is changed to.
    rewritten: Option<String>,
    from: Place,
    to: Place,
    service: Option<String>,
    idle_seconds: u64,
}

/// Reads the flow table.
pub(crate) fn report(live: &Live, arguments: &Arguments, format: Format) -> anyhow::Result<Flows> {
    let names = Names::read(live)?;
    let filter = Filter::new(arguments, &names, &live.view.endpoints()?)?;
    let mut flows = live.view.flows()?;
    flows.retain(|flow| filter.admits(flow));
    Ok(Flows::new(&flows, &names, arguments.limit(format)))
}

impl Flows {
    /// The first `limit` of `flows`.
    fn new(flows: &[FlowView], names: &Names, limit: usize) -> Self {
        let shown = limit.min(flows.len());
        Self {
            flows: flows[..shown].iter().map(|flow| Flow::new(flow, names)).collect(),
            more: flows.len() - shown,
        }
    }
}

struct Filter {
    service: Option<u32>,
    pod: Option<Vec<IpAddr>>,
    protocol: Option<u8>,
}

impl Filter {
    fn new(arguments: &Arguments, names: &Names, endpoints: &[EndpointView]) -> anyhow::Result<Self> {
        let service = match &arguments.service {
            None => None,
            Some(wanted) => match names.services.iter().find(|(_, name)| *name == wanted) {
                Some((id, _)) => Some(*id),
                None => bail!("this node has no service `{wanted}`: `beelinectl services` lists them"),
            },
        };
        let pod = match &arguments.pod {
            None => None,
            Some(wanted) => match wanted.parse::<IpAddr>() {
                Ok(address) => Some(vec![address]),
                Err(_) => Some(names.addresses(wanted, endpoints)?),
            },
        };
        Ok(Self { service, pod, protocol: arguments.protocol })
    }

    fn admits(&self, flow: &FlowView) -> bool {
        let ends = [Some(flow.src), Some(flow.dst), flow.rewritten];
        self.service.is_none_or(|service| flow.service == service)
            && self.protocol.is_none_or(|protocol| flow.protocol == protocol)
            && self
                .pod
                .as_ref()
                .is_none_or(|pod| ends.iter().flatten().any(|end: &SocketAddr| pod.contains(&end.ip())))
    }
}

impl Flow {
    fn new(flow: &FlowView, names: &Names) -> Self {
        let to = Place {
            kind: match flow.action {
                Action::ToPod => "pod",
                Action::ToOverlay => "node",
                Action::ToHost => "host",
            },
            ..names.place(Some(flow.to_ifindex), flow.to_vtep)
        };
        Self {
            protocol: protocol_name(flow.protocol),
            source: socket(flow.protocol, flow.src),
            destination: socket(flow.protocol, flow.dst),
            half: match flow {
                FlowView { forward: false, .. } => Some("reply"),
                FlowView { service: 0, rewrite: Rewrite::None, .. } => None,
                _ => Some("request"),
            },
            rewrite: match flow.rewrite {
                Rewrite::None => "none",
                Rewrite::Source => "source",
                Rewrite::Destination => "destination",
            },
            rewritten: flow.rewritten.map(|to| socket(flow.protocol, to)),
            from: names.place(flow.from_ifindex, flow.from_vtep),
            to,
            service: names.services.get(&flow.service).cloned(),
            idle_seconds: flow.idle.as_secs(),
        }
    }
}

/// An end of a flow: with its port, if the protocol has ports.
fn socket(protocol: u8, end: SocketAddr) -> String {
    if matches!(protocol, 6 | 17) { end.to_string() } else { end.ip().to_string() }
}

impl Report for Flows {
    fn text(&self) -> String {
        if self.flows.is_empty() {
            return "no flows\n".into();
        }
        let mut table = Table::new([
            "PROTO",
            "SOURCE",
            "DESTINATION",
            "BECOMES",
            "FROM",
            "TO",
            "SERVICE",
            "HALF",
            "#IDLE",
        ]);
        for flow in &self.flows {
            let becomes = match (&flow.rewritten, flow.rewrite) {
                (Some(to), "source") => format!("src {to}"),
                (Some(to), _) => format!("dst {to}"),
                (None, _) => String::new(),
            };
            table.row([
                flow.protocol.clone(),
                flow.source.clone(),
                flow.destination.clone(),
                becomes,
                flow.from.text(),
                flow.to.text(),
                flow.service.clone().unwrap_or_default(),
                flow.half.unwrap_or_default().to_owned(),
                span(std::time::Duration::from_secs(flow.idle_seconds)),
            ]);
        }
        let mut text = table.to_string();
        if self.more > 0 {
            text.extend(["… ", &self.more.to_string(), " more; --limit 0 shows all\n"]);
        }
        text
    }
}

#[cfg(test)]
mod tests;
