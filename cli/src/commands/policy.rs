//! `beelinectl policy`: load balancing rules the way VFP shows its LBNAT rules, with `IsDSR` as it is in the live
//! maps and the packets that prove it.
//!
//! A rule is one frontend of a service. Names of the fields are VFP's, so that who knows one can read the other.

use std::fmt::Write;

use beeline_report::Report;
use lb_dataplane::{
    ServiceView,
    desired::{Backend, Frontend},
    fnv,
};
use serde::Serialize;

use super::services::{Measured, affinity, chosen};
use crate::live::Live;

/// What to show.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Only rules of this service.
    #[arg(long, value_name = "NAME")]
    service: Option<String>,
}

/// The rules, by service and frontend.
#[derive(Serialize)]
pub(crate) struct Policies {
    policies: Vec<Policy>,
}

/// One rule.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Policy {
    friendly_name: String,
    service: String,
    priority: u32,
    flags: u32,
    #[serde(rename = "type")]
    kind: &'static str,
    /// IP protocol number.
    protocol: u8,
    destination_ip: String,
    destination_port: u16,
    flow_ttl_seconds: f64,
    affinity: &'static str,
    rule_data: Vec<&'static str>,
    /// VNI in which the rule holds.
    map_space: u32,
    dip_ranges: Vec<DipRange>,
    flags_ex: u32,
    #[serde(rename = "isDSR")]
    is_dsr: bool,
    /// Counted for the whole service, over all its frontends.
    measured: Measured,
}

/// An address and port behind the rule.
#[derive(Serialize)]
struct DipRange {
    address: String,
    port: u16,
}

/// Reads the rules from the live maps.
pub(crate) fn report(live: &Live, arguments: &Arguments) -> anyhow::Result<Policies> {
    let services = chosen(live, arguments.service.as_deref())?;
    Ok(Policies::new(&services, live.node.vni.get()))
}

impl Policies {
    fn new(services: &[ServiceView], vni: u32) -> Self {
        let rules = services.iter().flat_map(|service| {
            service.frontends.iter().map(move |frontend| Policy::new(service, frontend, vni))
        });
        Self { policies: rules.collect() }
    }
}

impl Policy {
    fn new(service: &ServiceView, frontend: &Frontend, vni: u32) -> Self {
        // A frontend leads to the backends of its own family.
        let of_family = |backend: &Backend| backend.address.is_ipv4() == frontend.vip.is_ipv4();
        let backends = service.backends.iter().map(|(backend, _)| *backend);
        let backends: Vec<Backend> = backends.filter(of_family).collect();
        Self {
            friendly_name: friendly_name(service, frontend, &backends),
            service: service.name.clone(),
            priority: 100,
            flags: 1,
            kind: "lbnat",
            protocol: frontend.protocol.number(),
            destination_ip: frontend.vip.to_string(),
            destination_port: frontend.port.get(),
            flow_ttl_seconds: service.flow_ttl.as_secs_f64(),
            affinity: affinity(service.affinity),
            rule_data: rule_data(service.dsr, frontend, &backends),
            map_space: vni,
            dip_ranges: backends
                .iter()
                .map(|backend| DipRange { address: backend.address.to_string(), port: backend.port.get() })
                .collect(),
            flags_ex: 0,
            is_dsr: service.dsr,
            measured: Measured::from(&service.stats),
        }
    }
}

/// `LB_DSR_<hash>_<VIP>_<DIP>_<port>_<DIP's port>_<protocol>`. A rule with many DIPs names the first and how many more
/// there are; the hash, of service and frontend, stays the same when DIPs come and go.
fn friendly_name(service: &ServiceView, frontend: &Frontend, backends: &[Backend]) -> String {
    let kind = if service.dsr { "LB_DSR" } else { "LB" };
    let hash = fnv::short(format!("{} {frontend}", service.name).bytes()) >> 12;
    let (dip, dip_port) = match backends {
        [] => ("none".to_owned(), 0),
        [only] => (only.address.to_string(), only.port.get()),
        [first, others @ ..] => (format!("{}+{}", first.address, others.len()), first.port.get()),
    };
    let Frontend { vip, port, protocol } = frontend;
    format!("{kind}_{hash:05X}_{vip}_{dip}_{port}_{dip_port}_{}", protocol.number())
}

/// What the rule does to a packet.
fn rule_data(dsr: bool, frontend: &Frontend, backends: &[Backend]) -> Vec<&'static str> {
    if !dsr {
        return vec!["Passing to the host's stack"];
    }
    if backends.is_empty() {
        return vec!["Dropping (no backend)"];
    }
    let mut data = vec!["Decrementing TTL", "Fixing MAC", "Modifying destination IP"];
    if backends.iter().any(|backend| backend.port != frontend.port) {
        data.push("Modifying destination port");
    }
    data.push("Creating a flow pair");
    data
}

impl Report for Policies {
    fn text(&self) -> String {
        if self.policies.is_empty() {
            return "no policies: this node has no services\n".into();
        }
        let blocks: Vec<String> = self.policies.iter().map(Policy::block).collect();
        blocks.join("\n")
    }
}

impl Policy {
    fn block(&self) -> String {
        let mut text = format!(
            "Friendly name : {}\n\
             Priority : {}\n\
             Flags : {} terminating\n\
             Type : {}\n    \
                 Protocols : {}\n    \
                 Destination IP : {}\n    \
                 Destination ports : {}\n\
             Flow TTL: {}\n\
             Rule Data:\n",
            self.friendly_name,
            self.priority,
            self.flags,
            self.kind,
            self.protocol,
            self.destination_ip,
            self.destination_port,
            self.flow_ttl_seconds,
        );
        for line in &self.rule_data {
            let _ = writeln!(text, "    {line}");
        }
        let _ = write!(
            text,
            "Map space : VNI {}\nCount of DIP Ranges: {}\nDIP Range(s) :\n",
            self.map_space,
            self.dip_ranges.len()
        );
        for DipRange { address, port } in &self.dip_ranges {
            let _ = writeln!(text, "    {{ {address} : {port} }}");
        }
        let Measured { direct_packets, direct_replies, new_flows, via_host_packets, .. } = self.measured;
        let _ = writeln!(
            text,
            "FlagsEx : {}\n\
             IsDSR: {}\n\
             Service: {}, affinity {}\n\
             Measured: {direct_packets} direct packets, {direct_replies} direct replies, {new_flows} flows, \
             {via_host_packets} packets via the host",
            self.flags_ex,
            if self.is_dsr { "TRUE" } else { "FALSE" },
            self.service,
            self.affinity,
        );
        text
    }
}

#[cfg(test)]
mod tests {
    use super::super::services::tests::{dual_stack, echo};
    use super::*;

    #[test]
    fn a_rule_leads_to_the_backends_of_its_own_family() {
        let policies = Policies::new(&[dual_stack()], 7).policies;
        let dips =
            |policy: &Policy| policy.dip_ranges.iter().map(|dip| dip.address.clone()).collect::<Vec<_>>();
        assert_eq!(dips(&policies[0]), ["10.244.1.5", "10.244.2.7"]);
        assert_eq!(
            (dips(&policies[1]), policies[1].destination_ip.as_str()),
            (vec!["fd00:10:244:1::5".into()], "fd00:10:96::10")
        );
    }

    #[test]
    fn reads_like_a_vfp_rule() {
        assert_eq!(
            Policies::new(&[echo()], 7).text(),
            "Friendly name : LB_DSR_1DF7F_10.96.0.10_10.244.1.5+1_8000_80_6
Priority : 100
Flags : 1 terminating
Type : lbnat
    Protocols : 6
    Destination IP : 10.96.0.10
    Destination ports : 8000
Flow TTL: 240
Rule Data:
    Decrementing TTL
    Fixing MAC
    Modifying destination IP
    Modifying destination port
    Creating a flow pair
Map space : VNI 7
Count of DIP Ranges: 2
DIP Range(s) :
    { 10.244.1.5 : 80 }
    { 10.244.2.7 : 80 }
FlagsEx : 0
IsDSR: TRUE
Service: echo, affinity none
Measured: 70 direct packets, 60 direct replies, 10 flows, 0 packets via the host
"
        );
    }

    #[test]
    fn a_rule_says_only_what_it_does() {
        let mut service = echo();
        service.backends.truncate(1);
        service.backends[0].0.port = 8000.try_into().unwrap();
        let text = Policies::new(&[service], 7).text();
        assert!(text.contains("_10.244.1.5_8000_8000_6\n"), "{text}");
        assert!(!text.contains("destination port\n"), "{text}");

        let mut off = echo();
        off.dsr = false;
        let text = Policies::new(&[off], 7).text();
        assert!(text.starts_with("Friendly name : LB_1DF7F_"), "{text}");
        assert!(text.contains("Passing to the host's stack\n") && text.contains("IsDSR: FALSE\n"), "{text}");
        assert!(!text.contains("Modifying"), "{text}");
    }

    #[test]
    fn a_rule_without_backends_drops() {
        let mut service = echo();
        service.backends.clear();
        let text = Policies::new(&[service], 7).text();
        assert!(text.contains("_10.96.0.10_none_8000_0_6\n"), "{text}");
        assert!(
            text.contains("Count of DIP Ranges: 0\n") && text.contains("Dropping (no backend)\n"),
            "{text}"
        );
    }

    #[test]
    fn json_keeps_its_keys() {
        let json = serde_json::to_value(Policies::new(&[echo()], 7)).unwrap();
        let policy = &json["policies"][0];
        assert_eq!(policy["isDSR"], true);
        assert_eq!(policy["type"], "lbnat");
        assert_eq!(policy["dipRanges"][1]["address"], "10.244.2.7");
        assert_eq!(policy["measured"]["directPackets"], 70);
        assert_eq!(policy["ruleData"][4], "Creating a flow pair");
    }
}
