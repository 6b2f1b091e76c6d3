//! `beelinectl services`: services with their frontends, backends and counters.

use std::{fmt::Write as _, time::Duration};

use anyhow::bail;
use beeline_report::{Report, Table, count, span};
use lb_dataplane::{
    ServiceStats, ServiceView,
    desired::{Affinity, BackendState},
};
use serde::Serialize;

use crate::live::Live;

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only this service, with each of its backends.
    name: Option<String>,
}

/// Services, by name.
#[derive(Serialize)]
pub(crate) struct Services {
    services: Vec<Service>,
    /// Whether one was asked for by name.
    #[serde(skip)]
    detailed: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Service {
    name: String,
    id: u32,
    frontends: Vec<Frontend>,
    /// Who may ask at the frontends that are `restricted`.
    load_balancer_source_ranges: Vec<String>,
    backends: Vec<Backend>,
    #[serde(rename = "isDSR")]
    is_dsr: bool,
    affinity: &'static str,
    flow_ttl_seconds: f64,
    measured: Measured,
}

#[derive(Serialize)]
struct Frontend {
    vip: String,
    port: u16,
    protocol: String,
    /// Whether only clients in the service's source ranges may ask here.
    restricted: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Backend {
    address: String,
    port: u16,
    /// `ready`, or `draining`: it keeps the connections it has, and gets no new ones.
    state: &'static str,
    /// Slots of the service's table that lead here.
    slots: u32,
    /// The same, as a share of its family's new flows from 0 to 1.
    share: f64,
}

/// What the programs of this node counted for a service.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Measured {
    /// Requests sent to a backend past the host's stack.
    pub(crate) direct_packets: u64,
    /// Their bytes.
    pub(crate) direct_bytes: u64,
    /// Flows that were given a backend.
    pub(crate) new_flows: u64,
    /// Replies that came straight back.
    pub(crate) direct_replies: u64,
    /// Requests left to the host's stack.
    pub(crate) via_host_packets: u64,
}

impl From<&ServiceStats> for Measured {
    fn from(stats: &ServiceStats) -> Self {
        Self {
            direct_packets: stats.packets,
            direct_bytes: stats.bytes,
            new_flows: stats.new_flows,
            direct_replies: stats.replies_undone,
            via_host_packets: stats.via_host,
        }
    }
}

/// An affinity's name.
pub(crate) const fn affinity(affinity: Affinity) -> &'static str {
    match affinity {
        Affinity::None => "none",
        Affinity::ClientIp { .. } => "clientIp",
    }
}

/// A state's name.
const fn state(state: BackendState) -> &'static str {
    match state {
        BackendState::Ready => "ready",
        BackendState::Draining => "draining",
    }
}

/// The services of the node whose name is `wanted`, or all, by name. Asking for one that is not there is an error.
pub(crate) fn chosen(live: &Live, wanted: Option<&str>) -> anyhow::Result<Vec<ServiceView>> {
    let mut services = live.view.services()?;
    if let Some(name) = wanted {
        services.retain(|service| service.name == name);
        if services.is_empty() {
            bail!("this node has no service `{name}`: `beelinectl services` lists them");
        }
    }
    services.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
    Ok(services)
}

/// Reads services and their counters.
pub(crate) fn report(live: &Live, arguments: &Arguments) -> anyhow::Result<Services> {
    let services = chosen(live, arguments.name.as_deref())?;
    Ok(Services {
        services: services.iter().map(Service::from).collect(),
        detailed: arguments.name.is_some(),
    })
}

impl From<&ServiceView> for Service {
    fn from(view: &ServiceView) -> Self {
        // Each family has a table of its own.
        let slots = |ipv4| -> u32 {
            let backends = view.backends.iter().filter(|(backend, _)| backend.address.is_ipv4() == ipv4);
            backends.map(|(_, slots)| slots).sum()
        };
        Self {
            name: view.name.clone(),
            id: view.id,
            frontends: view
                .frontends
                .iter()
                .map(|frontend| Frontend {
                    vip: frontend.vip.to_string(),
                    port: frontend.port.get(),
                    protocol: frontend.protocol.to_string(),
                    restricted: view.restricted.contains(frontend),
                })
                .collect(),
            load_balancer_source_ranges: view.source_ranges.iter().map(ToString::to_string).collect(),
            backends: view
                .backends
                .iter()
                .map(|&(backend, own)| Backend {
                    address: backend.address.to_string(),
                    port: backend.port.get(),
                    state: state(backend.state),
                    slots: own,
                    share: f64::from(own) / f64::from(slots(backend.address.is_ipv4()).max(1)),
                })
                .collect(),
            is_dsr: view.dsr,
            affinity: affinity(view.affinity),
            flow_ttl_seconds: view.flow_ttl.as_secs_f64(),
            measured: Measured::from(&view.stats),
        }
    }
}

impl Report for Services {
    fn text(&self) -> String {
        if self.services.is_empty() {
            return "no services\n".into();
        }
        let mut table = Table::new([
            "NAME",
            "FRONTENDS",
            "BACKENDS",
            "DSR",
            "AFFINITY",
            "FLOW TTL",
            "#FLOWS",
            "#DIRECT",
            "#REPLIES",
            "#VIA HOST",
        ]);
        for service in &self.services {
            table.row(service.cells());
        }
        let mut text = table.to_string();
        if self.detailed {
            for service in &self.services {
                if let Some(ranges) = service.source_ranges() {
                    let _ = write!(text, "\n{ranges}\n");
                }
                let backends = count(service.backends.len(), "backend");
                let _ = write!(text, "\n{backends}\n{}", service.backend_table());
            }
        }
        text
    }
}

impl Service {
    fn cells(&self) -> [String; 10] {
        let frontends = self.frontends.iter().map(Frontend::text);
        [
            self.name.clone(),
            frontends.collect::<Vec<_>>().join(","),
            self.backends.len().to_string(),
            if self.is_dsr { "on" } else { "off" }.to_owned(),
            self.affinity.to_owned(),
            span(Duration::from_secs_f64(self.flow_ttl_seconds)),
            self.measured.new_flows.to_string(),
            self.measured.direct_packets.to_string(),
            self.measured.direct_replies.to_string(),
            self.measured.via_host_packets.to_string(),
        ]
    }

    /// Who may ask where not everybody may.
    fn source_ranges(&self) -> Option<String> {
        let restricted: Vec<_> =
            self.frontends.iter().filter(|it| it.restricted).map(Frontend::text).collect();
        let ranges = self.load_balancer_source_ranges.join(", ");
        (!restricted.is_empty()).then(|| format!("{} only from {ranges}", restricted.join(", ")))
    }

    fn backend_table(&self) -> Table<4> {
        let mut table = Table::new(["BACKEND", "STATE", "#SLOTS", "#SHARE"]);
        for backend in &self.backends {
            table.row([
                end(&backend.address, backend.port),
                backend.state.to_owned(),
                backend.slots.to_string(),
                format!("{:.1} %", backend.share * 100.0),
            ]);
        }
        table
    }
}

impl Frontend {
    fn text(&self) -> String {
        format!("{}/{}", end(&self.vip, self.port), self.protocol)
    }
}

/// Address and port together, an IPv6 address in brackets (RFC 3986 §3.2.2).
fn end(address: &str, port: u16) -> String {
    if address.contains(':') { format!("[{address}]:{port}") } else { format!("{address}:{port}") }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use lb_dataplane::desired::{Backend, Frontend, Protocol};

    /// The service of the seed's example, two backends on other ports than the VIP's.
    pub(crate) fn echo() -> ServiceView {
        let backend = |address: &str| Backend {
            address: address.parse().unwrap(),
            port: 80.try_into().unwrap(),
            state: BackendState::Ready,
        };
        ServiceView {
            id: 1,
            name: "echo".into(),
            dsr: true,
            affinity: Affinity::None,
            flow_ttl: Duration::from_mins(4),
            frontends: vec![Frontend {
                vip: "10.96.0.10".parse().unwrap(),
                port: 8000.try_into().unwrap(),
                protocol: Protocol::Tcp,
            }],
            restricted: vec![],
            source_ranges: vec![],
            backends: vec![(backend("10.244.1.5"), 510), (backend("10.244.2.7"), 511)],
            stats: ServiceStats { packets: 70, bytes: 7_000, new_flows: 10, replies_undone: 60, via_host: 0 },
        }
    }

    /// The same with a VIP and a backend of IPv6.
    pub(crate) fn dual_stack() -> ServiceView {
        let mut service = echo();
        service.frontends.push(Frontend { vip: "fd00:10:96::10".parse().unwrap(), ..service.frontends[0] });
        let address = "fd00:10:244:1::5".parse().unwrap();
        let backend = Backend { address, state: BackendState::Draining, ..service.backends[0].0 };
        service.backends.push((backend, 0));
        service
    }

    #[test]
    fn each_family_shares_its_own_flows_and_ipv6_stands_in_brackets() {
        let text = Services { services: vec![Service::from(&dual_stack())], detailed: true }.text();
        for part in [
            "10.96.0.10:8000/tcp,[fd00:10:96::10]:8000/tcp",
            "10.244.2.7:80           ready        511   50.0 %",
            "[fd00:10:244:1::5]:80   draining       0    0.0 %",
        ] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }

    #[test]
    fn a_line_for_each_service() {
        let services = Services { services: vec![Service::from(&echo())], detailed: false };
        assert_eq!(
            services.text(),
            "NAME   FRONTENDS             BACKENDS   DSR   AFFINITY   FLOW TTL   FLOWS   DIRECT   REPLIES   VIA HOST\n\
             echo   10.96.0.10:8000/tcp   2          on    none       4m00s         10       70        60          0\n"
        );
    }

    #[test]
    fn one_service_with_its_backends() {
        let services = Services { services: vec![Service::from(&echo())], detailed: true };
        let text = services.text();
        let (_, backends) = text.split_once("\n\n").unwrap();
        assert_eq!(
            backends,
            "2 backends\n\
             BACKEND         STATE   SLOTS    SHARE\n\
             10.244.1.5:80   ready     510   50.0 %\n\
             10.244.2.7:80   ready     511   50.0 %\n"
        );
    }

    #[test]
    fn source_ranges_are_shown_with_the_frontends_they_are_for() {
        let mut service = echo();
        let frontend = Frontend { vip: "203.0.113.7".parse().unwrap(), ..service.frontends[0] };
        service.frontends.push(frontend);
        service.restricted.push(frontend);
        service.source_ranges = ["10.244.0.0/16", "192.0.2.0/24"].map(|range| range.parse().unwrap()).into();
        let services = Services { services: vec![Service::from(&service)], detailed: true };
        let text = services.text();
        assert!(
            text.contains("\n203.0.113.7:8000/tcp only from 10.244.0.0/16, 192.0.2.0/24\n\n2 backends"),
            "{text}"
        );
        let json = serde_json::to_value(services).unwrap();
        let service = &json["services"][0];
        assert_eq!(service["loadBalancerSourceRanges"][1], "192.0.2.0/24");
        assert_eq!(
            (&service["frontends"][0]["restricted"], &service["frontends"][1]["restricted"]),
            (&false.into(), &true.into())
        );
    }

    #[test]
    fn json_keeps_its_keys() {
        let services = Services { services: vec![Service::from(&echo())], detailed: false };
        let json = serde_json::to_value(services).unwrap();
        let service = &json["services"][0];
        assert_eq!(service["isDSR"], true);
        assert_eq!(service["frontends"][0]["port"], 8000);
        assert_eq!(service["flowTtlSeconds"], 240.0);
        assert_eq!(service["measured"]["directReplies"], 60);
        assert_eq!(service["backends"][1]["slots"], 511);
    }
}
