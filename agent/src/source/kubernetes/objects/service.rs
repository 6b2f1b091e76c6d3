//! A service: the addresses and ports it is found at, and how its flows are kept.

use std::{collections::BTreeMap, net::IpAddr, num::NonZeroU16, time::Duration};

use ipnet::IpNet;
use k8s_openapi::{api::core::v1 as api, jiff::Timestamp};
use lb_dataplane::desired::{Affinity, DEFAULT_AFFINITY_TIMEOUT, DEFAULT_FLOW_TTL, Protocol};

use super::{Name, Names, Problem, Reason, created, good, values};
use crate::source::{
    balance::Reach,
    values::{AFFINITY_TIMEOUTS, FLOW_TTLS},
};

/// `"false"` leaves a service to the host (kube-proxy), as `dsr: false` does in a configuration file.
const DSR: &str = "beeline/dsr";
/// Idle time after which a flow of the service is forgotten, such as `300s`.
const FLOW_TTL: &str = "beeline/flow-ttl";

/// A Service, trimmed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Service {
    /// When it was made.
    pub(crate) created: Timestamp,
    /// Its cluster IPs.
    pub(crate) vips: Box<[IpAddr]>,
    /// Addresses outside that it is found at as well.
    pub(crate) external: Box<[IpAddr]>,
    /// Those of load balancers that leave them to nodes.
    pub(crate) load_balancers: Box<[IpAddr]>,
    /// Who may ask there; each family is for itself, and without any, all of it may.
    pub(crate) source_ranges: Box<[IpNet]>,
    /// Its ports.
    pub(crate) ports: Box<[ServicePort]>,
    /// Who may take what is asked of its cluster IPs.
    pub(crate) internal_policy: Reach,
    /// Who may take what is asked of nodes and external addresses.
    pub(crate) external_policy: Reach,
    /// Where nodes say whether they have endpoints of it; only with an external policy of `Local`.
    pub(crate) health_check_port: Option<NonZeroU16>,
    /// Whether a client stays with its backend.
    pub(crate) affinity: Affinity,
    /// Idle time after which a flow is forgotten.
    pub(crate) flow_ttl: Duration,
    /// False if it is left to the host.
    pub(crate) dsr: bool,
}

/// A port of a service, and where nodes have it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServicePort {
    /// As the service's own addresses have it.
    pub(crate) port: Port,
    /// The number that nodes have it under, if they do.
    pub(crate) node_port: Option<NonZeroU16>,
}

/// A port of a service, or the one behind it in a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    /// Name; empty if the service has one port only.
    pub(crate) name: Name,
    /// Number.
    pub(crate) number: NonZeroU16,
    /// Protocol.
    pub(crate) protocol: Protocol,
}

impl Port {
    /// A port as Kubernetes writes it.
    pub(super) fn read(name: Name, number: i32, protocol: Option<&str>) -> Result<Self, Problem> {
        Ok(Self { name, number: values::port(number)?, protocol: values::protocol(protocol)? })
    }
}

impl Service {
    /// What is used of `object`; `None` if there is nothing to balance: headless services have no address of their
    /// own, and external names are DNS' affair.
    pub(crate) fn read(object: api::Service, names: &mut Names, problems: &mut Vec<Problem>) -> Option<Self> {
        let spec = object.spec?;
        // A service that was changed into an external name may keep its address for a while.
        if spec.type_.as_deref() == Some("ExternalName") {
            return None;
        }
        let is_external_local = spec.external_traffic_policy.as_deref() == Some("Local");
        let vips = spec.cluster_ips.unwrap_or_else(|| spec.cluster_ip.into_iter().collect());
        if vips.iter().all(|vip| vip.is_empty() || vip == "None") {
            return None;
        }
        let status = object.status.and_then(|status| status.load_balancer?.ingress);
        let load_balancers = load_balancers(status, problems);
        let external = external(spec.external_ips, &load_balancers, problems);
        let ranges = spec.load_balancer_source_ranges.unwrap_or_default();
        let ports = spec.ports.unwrap_or_default().into_iter();
        let (dsr, flow_ttl) = annotations(object.metadata.annotations.as_ref(), problems);
        Some(Self {
            created: created(&object.metadata),
            vips: vips.iter().filter_map(|vip| good(values::address(vip), problems)).collect(),
            external,
            load_balancers,
            source_ranges: ranges
                .iter()
                .filter_map(|range| good(values::source_range(range), problems))
                .collect(),
            ports: ports.filter_map(|port| good(read_port(port, names), problems)).collect(),
            internal_policy: reach(spec.internal_traffic_policy.as_deref() == Some("Local")),
            external_policy: reach(is_external_local),
            health_check_port: spec
                .health_check_node_port
                .filter(|port| is_external_local && *port != 0)
                .and_then(|port| good(values::port(port), problems)),
            affinity: affinity(spec.session_affinity.as_deref(), spec.session_affinity_config),
            flow_ttl,
            dsr,
        })
    }
}

fn reach(is_local: bool) -> Reach {
    if is_local { Reach::Local } else { Reach::Cluster }
}

fn read_port(port: api::ServicePort, names: &mut Names) -> Result<ServicePort, Problem> {
    let name = names.get(&port.name.unwrap_or_default());
    Ok(ServicePort {
        port: Port::read(name, port.port, port.protocol.as_deref())?,
        node_port: match port.node_port {
            None | Some(0) => None,
            Some(number) => Some(values::port(number)?),
        },
    })
}

/// The addresses of load balancers. One that is a proxy has an address of its own, which requests must reach.
fn load_balancers(
    ingress: Option<Vec<api::LoadBalancerIngress>>,
    problems: &mut Vec<Problem>,
) -> Box<[IpAddr]> {
    let ingress = ingress.unwrap_or_default().into_iter();
    let vips = ingress.filter(|one| one.ip_mode.as_deref() != Some("Proxy")).filter_map(|one| one.ip);
    addresses(vips.filter(|ip| !ip.is_empty()), problems)
}

/// External IPs. A load balancer may be told to have one: then it is that one's, with its source ranges.
fn external(
    ips: Option<Vec<String>>,
    load_balancers: &[IpAddr],
    problems: &mut Vec<Problem>,
) -> Box<[IpAddr]> {
    let all = addresses(ips.unwrap_or_default().into_iter(), problems);
    all.into_iter().filter(|ip| !load_balancers.contains(ip)).collect()
}

/// Those of `texts` that make sense, in order, each once.
fn addresses(texts: impl Iterator<Item = String>, problems: &mut Vec<Problem>) -> Box<[IpAddr]> {
    let mut all: Vec<_> = texts.filter_map(|ip| good(values::address(&ip), problems)).collect();
    all.sort_unstable();
    all.dedup();
    all.into()
}

/// The API server lets only time-outs of a second to a day pass; of any other, the default is what it would have written.
fn affinity(kind: Option<&str>, config: Option<api::SessionAffinityConfig>) -> Affinity {
    if kind != Some("ClientIP") {
        return Affinity::None;
    }
    let seconds = config.and_then(|config| config.client_ip?.timeout_seconds);
    let timeout = seconds.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs);
    let timeout = timeout.filter(|timeout| AFFINITY_TIMEOUTS.contains(timeout));
    Affinity::ClientIp { timeout: timeout.unwrap_or(DEFAULT_AFFINITY_TIMEOUT) }
}

/// What annotations say of `dsr` and the flows' idle time.
fn annotations(all: Option<&BTreeMap<String, String>>, problems: &mut Vec<Problem>) -> (bool, Duration) {
    let mut wrong = |key: &str, value: &str, cure: &str| {
        problems
            .push(Problem::new(Reason::Annotation, format!("annotation {key} is `{value}`: write {cure}")));
    };
    let value = |key| all.and_then(|all| all.get(key)).map(String::as_str);
    let dsr = match value(DSR) {
        None | Some("true") => true,
        Some("false") => false,
        Some(other) => {
            wrong(DSR, other, "true or false");
            true
        }
    };
    let flow_ttl = match value(FLOW_TTL) {
        None => DEFAULT_FLOW_TTL,
        Some(text) => {
            let ttl = humantime::parse_duration(text).ok().filter(|ttl| FLOW_TTLS.contains(ttl));
            ttl.unwrap_or_else(|| {
                wrong(FLOW_TTL, text, "a time from 1s to 24h");
                DEFAULT_FLOW_TTL
            })
        }
    };
    (dsr, flow_ttl)
}
