//! `beelinectl trace`: what each layer would do with a pod's packet, step by step, from the live maps. Nothing is sent.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, bail};
use beeline_report::{Report, Table, span};
use lb_dataplane::{Balanced, FlowView, Rewrite, Trace, Way, desired::Protocol};
use serde::Serialize;

use crate::{
    live::Live,
    names::{Names, Place},
};

/// Which packet.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// The pod of this node that sends it: its address, or its name.
    #[arg(value_name = "ADDRESS|[NAMESPACE/]NAME")]
    pod: String,

    /// Where it is sent to, such as 10.96.0.10:80; an IPv6 address stands in brackets.
    #[arg(value_name = "ADDRESS:PORT")]
    to: SocketAddr,

    /// Its protocol: tcp, udp or sctp.
    #[arg(long, value_name = "PROTOCOL", default_value = "tcp")]
    protocol: Protocol,

    /// The port it is sent from: new connections from another may get another backend.
    #[arg(long, value_name = "PORT", default_value_t = 40_000)]
    source_port: u16,
}

/// What becomes of the packet.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Walk {
    protocol: String,
    source: String,
    destination: String,
    steps: Vec<Step>,
    /// The service that is asked, if one is.
    service: Option<String>,
    /// The backend that it chooses for a new flow.
    backend: Option<String>,
    /// Where the packet goes; `null` if nowhere.
    to: Option<Place>,
    /// Why it goes nowhere, by the name that `beelinectl drops` has for it.
    drop: Option<&'static str>,
}

/// What one layer says.
#[derive(Serialize)]
struct Step {
    layer: &'static str,
    says: String,
}

/// Follows the packet.
pub(crate) fn report(live: &Live, arguments: &Arguments) -> anyhow::Result<Walk> {
    let names = Names::read(live)?;
    let to = arguments.to;
    let source = source(live, arguments, &names)?;
    let source = SocketAddr::new(source, arguments.source_port);
    let trace = live.view.trace(arguments.protocol, source, to)?.context("both are to be of one family")?;
    Ok(Walk::new(&trace, &names, arguments.protocol, source, to))
}

/// The pod's address of the family that it sends to.
fn source(live: &Live, arguments: &Arguments, names: &Names) -> anyhow::Result<IpAddr> {
    let is_ipv4 = arguments.to.is_ipv4();
    let addresses = match arguments.pod.parse() {
        Ok(address) => vec![address],
        Err(_) => names.addresses(&arguments.pod, &live.view.endpoints()?)?,
    };
    match addresses.iter().find(|address| address.is_ipv4() == is_ipv4) {
        Some(address) => Ok(*address),
        None => bail!("{} has no address of the family of {}", arguments.pod, arguments.to.ip()),
    }
}

impl Walk {
    fn new(trace: &Trace, names: &Names, protocol: Protocol, source: SocketAddr, to: SocketAddr) -> Self {
        let mut steps = vec![];
        let mut step = |layer, says| steps.push(Step { layer, says });
        step(
            "guard",
            match &trace.port {
                Some(port) => {
                    let place = names.place(Some(port.ifindex), None);
                    format!(
                        "{} may send from {} ({}), behind {}",
                        place.text(),
                        source.ip(),
                        port.mac,
                        device(&place)
                    )
                }
                None => format!("no port of this node is that of {}", source.ip()),
            },
        );
        if trace.port.is_some() {
            step("flow", trace.flow.as_ref().map_or_else(new_flow, known_flow));
        }
        let (mut service, mut backend) = (None, None);
        if let Some(balanced) = &trace.balanced {
            step("lb", lb(balanced, to));
            match balanced {
                Balanced::NoService => {}
                Balanced::LeftToHost { service: name }
                | Balanced::OutOfRange { service: name }
                | Balanced::NoBackend { service: name } => {
                    service = Some(name.clone());
                }
                Balanced::Backend { service: name, backend: chosen, .. } => {
                    (service, backend) = (Some(name.clone()), Some(chosen.to_string()));
                }
            }
        }
        let place = trace.way.as_ref().map(|way| match way {
            Way::Pod(endpoint) => names.place(Some(endpoint.ifindex), None),
            Way::Host => names.place(names.host.first().copied(), None),
            Way::Overlay { vtep, .. } => names.place(None, Some(*vtep)),
        });
        if let (Some(way), Some(place)) = (&trace.way, &place) {
            step("forward", forward(way, place, trace.destination));
        }
        if let Some(drop) = trace.drop {
            step("drop", format!("{}: {}", drop.name(), drop.help()));
        }
        Self {
            protocol: protocol.to_string(),
            source: source.to_string(),
            destination: to.to_string(),
            steps,
            service,
            backend,
            to: place,
            drop: trace.drop.map(lb_dataplane::Drop::name),
        }
    }
}

fn device(place: &Place) -> &str {
    place.device.as_deref().unwrap_or("a port that is gone")
}

fn new_flow() -> String {
    "nothing is remembered: the next layers decide".into()
}

fn known_flow(flow: &FlowView) -> String {
    let becomes = match (flow.rewrite, flow.rewritten) {
        (Rewrite::Destination, Some(to)) => format!("goes to {to}"),
        (Rewrite::Source, Some(from)) => format!("is a reply, and comes from {from} then"),
        _ => "goes on as it is".into(),
    };
    let idle = span(flow.idle);
    format!("remembered, idle for {idle}: it {becomes}; what the next layers say is for a new flow")
}

fn lb(balanced: &Balanced, to: SocketAddr) -> String {
    match balanced {
        Balanced::NoService => format!("no service is at {to}"),
        Balanced::LeftToHost { service } => format!("service {service} is left to the host: DSR is off"),
        Balanced::OutOfRange { service } => {
            format!("service {service} takes nothing at {to} from outside its source ranges")
        }
        Balanced::NoBackend { service } => format!("service {service} has no backend that takes it"),
        Balanced::Backend { service, slot, slots, backend, by_client } => {
            let by = if *by_client { ", by the client's address alone" } else { "" };
            format!("service {service}, slot {slot} of {slots}{by}: destination {to} becomes {backend}")
        }
    }
}

fn forward(way: &Way, place: &Place, destination: SocketAddr) -> String {
    match way {
        Way::Pod(endpoint) => {
            format!("{destination} is {}: straight to {} ({})", place.text(), device(place), endpoint.mac)
        }
        Way::Host => format!("{destination} is the host's affair: up into its stack by {}", device(place)),
        Way::Overlay { vtep, next_hop } => {
            let hop = next_hop.map_or_else(String::new, |hop| format!(", next hop {hop}"));
            format!("{destination} is behind node {vtep}: by VXLAN{hop}")
        }
    }
}

impl Report for Walk {
    fn text(&self) -> String {
        let mut table = Table::new(["LAYER", "SAYS"]);
        for step in &self.steps {
            table.row([step.layer.to_owned(), step.says.clone()]);
        }
        format!("{} {} -> {}\n\n{table}", self.protocol, self.source, self.destination)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use lb_dataplane::{Drop, EndpointView, Mac};

    use super::*;

    const VIP: &str = "10.96.0.10:80";

    fn walk(trace: &Trace) -> Walk {
        let names = Names { services: HashMap::new(), links: HashMap::new(), host: vec![9] };
        let source = "10.244.1.5:40000".parse().unwrap();
        Walk::new(trace, &names, Protocol::Tcp, source, VIP.parse().unwrap())
    }

    fn trace() -> Trace {
        let mac = Mac([2, 0, 0, 0, 0, 5]);
        let port = EndpointView { address: [10, 244, 1, 5].into(), ifindex: 7, mac, host: false };
        Trace {
            port: Some(port),
            flow: None,
            balanced: Some(Balanced::Backend {
                service: "default/echo:http".into(),
                slot: 17,
                slots: 1_021,
                backend: "10.244.2.7:8080".parse().unwrap(),
                by_client: false,
            }),
            destination: "10.244.2.7:8080".parse().unwrap(),
            way: Some(Way::Overlay { vtep: [192, 0, 2, 2].into(), next_hop: None }),
            drop: None,
        }
    }

    #[test]
    fn each_layer_has_a_line() {
        assert_eq!(
            walk(&trace()).text(),
            "tcp 10.244.1.5:40000 -> 10.96.0.10:80\n\n\
             LAYER     SAYS\n\
             guard     pod #7 may send from 10.244.1.5 (02:00:00:00:00:05), behind #7\n\
             flow      nothing is remembered: the next layers decide\n\
             lb        service default/echo:http, slot 17 of 1021: destination 10.96.0.10:80 becomes 10.244.2.7:8080\n\
             forward   10.244.2.7:8080 is behind node 192.0.2.2: by VXLAN\n"
        );
        let json = serde_json::to_value(walk(&trace())).unwrap();
        assert_eq!(json["service"], "default/echo:http");
        assert_eq!(json["backend"], "10.244.2.7:8080");
        assert_eq!(json["to"]["vtep"], "192.0.2.2");
        assert_eq!((&json["steps"][2]["layer"], json["drop"].is_null()), (&"lb".into(), true));
    }

    #[test]
    fn the_end_is_named_as_among_the_drops() {
        let trace = Trace {
            balanced: Some(Balanced::NoBackend { service: "echo".into() }),
            destination: VIP.parse().unwrap(),
            way: None,
            drop: Some(Drop::NoBackend),
            ..trace()
        };
        let json = serde_json::to_value(walk(&trace)).unwrap();
        assert_eq!((&json["drop"], &json["service"]), (&"no_backend".into(), &"echo".into()));
        assert!(json["to"].is_null() && json["backend"].is_null());
        assert!(walk(&trace).text().contains("drop    no_backend: "), "{}", walk(&trace).text());
    }
}
