//! What a cluster's nodes are told: the YAML file that each `beelined` reads, written as a person would write it.

use std::{
    fmt::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
};

/// Whether a client stays with its backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Affinity {
    /// Each connection is balanced for itself.
    #[default]
    None,
    /// One client address always gets the same backend.
    ClientIp,
}

/// What a frontend carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP.
    Sctp,
}

/// What a backend may be asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Ready,
    Terminating,
    NotReady,
}

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Attach {
    /// As the kernel allows.
    #[default]
    Auto,
    /// TCX links.
    Tcx,
    /// Filters on the `clsact` qdisc.
    Clsact,
}

/// A service: a VIP and port, or one in each family, over TCP and UDP alike if nothing else is said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    name: String,
    frontends: Vec<SocketAddr>,
    protocols: Vec<Protocol>,
    backends: Vec<(SocketAddr, State)>,
    affinity: Affinity,
    flow_ttl: Option<&'static str>,
    dsr: bool,
    more: Vec<String>,
}

impl Service {
    /// Service `name` at `frontend`, without backends, without affinity, with DSR.
    #[must_use]
    pub fn new(name: &str, frontend: SocketAddr) -> Self {
        Self {
            name: name.to_owned(),
            frontends: vec![frontend],
            protocols: vec![Protocol::Tcp, Protocol::Udp],
            backends: Vec::new(),
            affinity: Affinity::None,
            flow_ttl: None,
            dsr: true,
            more: Vec::new(),
        }
    }

    /// Adds a frontend.
    #[must_use]
    pub fn at(mut self, frontend: SocketAddr) -> Self {
        self.frontends.push(frontend);
        self
    }

    /// Carries `protocol` alone.
    #[must_use]
    pub fn only(self, protocol: Protocol) -> Self {
        Self { protocols: vec![protocol], ..self }
    }

    /// Adds a backend.
    #[must_use]
    pub fn to(mut self, address: impl Into<IpAddr>, port: u16) -> Self {
        self.backends.push((SocketAddr::new(address.into(), port), State::Ready));
        self
    }

    /// Adds a backend that keeps the connections it has, and gets no new ones while another is ready.
    #[must_use]
    pub fn draining(mut self, address: impl Into<IpAddr>, port: u16) -> Self {
        self.backends.push((SocketAddr::new(address.into(), port), State::Terminating));
        self
    }

    /// Adds a backend that runs and is not ready: it keeps the connections it has, and gets no new ones.
    #[must_use]
    pub fn unready(mut self, address: impl Into<IpAddr>, port: u16) -> Self {
        self.backends.push((SocketAddr::new(address.into(), port), State::NotReady));
        self
    }

    /// Sets the affinity.
    #[must_use]
    pub fn affinity(self, affinity: Affinity) -> Self {
        Self { affinity, ..self }
    }

    /// Sets the flows' idle time to live, as in `90s`.
    #[must_use]
    pub fn flow_ttl(self, flow_ttl: &'static str) -> Self {
        Self { flow_ttl: Some(flow_ttl), ..self }
    }

    /// Says one thing more, in the file's own words, as `externalTrafficPolicy: local`.
    #[must_use]
    pub fn with(mut self, line: &str) -> Self {
        self.more.push(line.to_owned());
        self
    }

    /// Turns DSR on or off.
    #[must_use]
    pub fn dsr(self, dsr: bool) -> Self {
        Self { dsr, ..self }
    }
}

/// A node as the others know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its name.
    pub name: String,
    /// Its underlay address.
    pub address: Ipv4Addr,
    /// What addresses it has besides.
    pub other_addresses: Vec<IpAddr>,
    /// The prefixes its pods are in.
    pub pod_cidrs: Vec<String>,
    /// The inner MAC it wants to see, if it is a plain VTEP and not a Beeline node.
    pub vtep_mac: Option<String>,
    /// The zone it is in.
    pub zone: Option<String>,
}

/// What all nodes of a cluster are told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// VNI of the pod network.
    pub vni: u32,
    /// How programs are attached.
    pub attach: Attach,
    /// The nodes, plain VTEPs included.
    pub nodes: Vec<Peer>,
    /// The services.
    pub services: Vec<Service>,
}

impl Config {
    /// The file for node `name`.
    #[must_use]
    pub fn yaml(&self, name: &str) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = self.write_yaml(&mut text, name);
        text
    }

    fn write_yaml(&self, to: &mut String, name: &str) -> fmt::Result {
        writeln!(to, "node: {name}\nvni: {}\nattach: {}\nnodes:", self.vni, self.attach.word())?;
        for node in &self.nodes {
            let Peer { name, address, other_addresses, pod_cidrs, vtep_mac, zone } = node;
            let pod_cidrs: Vec<_> = pod_cidrs.iter().map(|cidr| quoted(cidr)).collect();
            let pod_cidrs = pod_cidrs.join(", ");
            write!(to, "  - {{ name: {name}, address: {address}, podCidrs: [{pod_cidrs}]")?;
            if !other_addresses.is_empty() {
                let others: Vec<_> =
                    other_addresses.iter().map(|address| quoted(&address.to_string())).collect();
                write!(to, ", otherAddresses: [{}]", others.join(", "))?;
            }
            if let Some(mac) = vtep_mac {
                write!(to, ", vtepMac: \"{mac}\"")?;
            }
            if let Some(zone) = zone {
                write!(to, ", zone: {zone}")?;
            }
            writeln!(to, " }}")?;
        }
        if self.services.is_empty() {
            return writeln!(to, "services: []");
        }
        writeln!(to, "services:")?;
        for service in &self.services {
            service.write_yaml(to)?;
        }
        Ok(())
    }
}

impl Service {
    fn write_yaml(&self, to: &mut String) -> fmt::Result {
        writeln!(to, "  - name: {}\n    frontends:", self.name)?;
        for frontend in &self.frontends {
            let (vip, port) = (quoted(&frontend.ip().to_string()), frontend.port());
            for protocol in &self.protocols {
                let protocol = protocol.word();
                writeln!(to, "      - {{ vip: {vip}, port: {port}, protocol: {protocol} }}")?;
            }
        }
        let empty = if self.backends.is_empty() { " []" } else { "" };
        writeln!(to, "    backends:{empty}")?;
        for (backend, state) in &self.backends {
            let (address, port) = (quoted(&backend.ip().to_string()), backend.port());
            let state = match state {
                State::Ready => "",
                State::Terminating => ", state: terminating",
                State::NotReady => ", state: notReady",
            };
            writeln!(to, "      - {{ address: {address}, port: {port}{state} }}")?;
        }
        writeln!(to, "    affinity: {}\n    dsr: {}", self.affinity.word(), self.dsr)?;
        if let Some(ttl) = self.flow_ttl {
            writeln!(to, "    flowTtl: {ttl}")?;
        }
        for line in &self.more {
            writeln!(to, "    {line}")?;
        }
        Ok(())
    }
}

/// An address or prefix, in quotes if YAML might take it for something else (`::` begins and ends so many things).
fn quoted(address: &str) -> String {
    if address.contains(':') { format!("\"{address}\"") } else { address.to_owned() }
}

impl Affinity {
    const fn word(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::ClientIp => "clientIp",
        }
    }
}

impl Protocol {
    const fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Sctp => "sctp",
        }
    }
}

impl Attach {
    const fn word(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_reads_as_a_person_would_write_it() {
        let vip = "10.96.0.10:8000".parse().unwrap();
        let config = Config {
            vni: 7,
            attach: Attach::Auto,
            nodes: vec![Peer {
                name: "n1".into(),
                address: Ipv4Addr::new(192, 168, 77, 1),
                other_addresses: vec!["fd00:192:168:77::1".parse().unwrap()],
                pod_cidrs: vec!["10.244.1.0/24".into(), "fd00:10:244:1::/64".into()],
                vtep_mac: None,
                zone: Some("east".into()),
            }],
            services: vec![
                Service::new("echo", vip)
                    .at("[fd00:10:96::10]:8000".parse().unwrap())
                    .to(Ipv4Addr::new(10, 244, 1, 5), 80)
                    .draining("fd00:10:244:1::5".parse::<IpAddr>().unwrap(), 80)
                    .dsr(false),
            ],
        };
        let expected = r#"node: n1
vni: 7
attach: auto
nodes:
  - { name: n1, address: 192.168.77.1, podCidrs: [10.244.1.0/24, "fd00:10:244:1::/64"], otherAddresses: ["fd00:192:168:77::1"], zone: east }
services:
  - name: echo
    frontends:
      - { vip: 10.96.0.10, port: 8000, protocol: tcp }
      - { vip: 10.96.0.10, port: 8000, protocol: udp }
      - { vip: "fd00:10:96::10", port: 8000, protocol: tcp }
      - { vip: "fd00:10:96::10", port: 8000, protocol: udp }
    backends:
      - { address: 10.244.1.5, port: 80 }
      - { address: "fd00:10:244:1::5", port: 80, state: terminating }
    affinity: none
    dsr: false
"#;
        assert_eq!(config.yaml("n1"), expected);
    }
}
