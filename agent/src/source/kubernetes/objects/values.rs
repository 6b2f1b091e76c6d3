//! Single values: addresses, prefixes, ports and protocols as Kubernetes writes them.

use std::{net::IpAddr, num::NonZeroU16};

use ipnet::IpNet;
use lb_dataplane::desired::Protocol;

use super::{Problem, Reason};
use crate::source::values::{is_for_pods, unfit};

/// An address that one machine, pod or service can have.
pub(super) fn address(text: &str) -> Result<IpAddr, Problem> {
    let wrong = |why| Problem::new(Reason::Address, format!("`{text}` is {why}"));
    let address: IpAddr = text.parse().map_err(|_| wrong("no IP address"))?;
    unfit(address).map_or(Ok(address), |kind| Err(wrong(kind)))
}

/// A prefix that pods can get their addresses from.
pub(super) fn pod_cidr(text: &str) -> Result<IpNet, Problem> {
    let wrong = |why| Problem::new(Reason::Address, format!("pod prefix `{text}` {why}"));
    let cidr: IpNet = text.parse().map_err(|_| wrong("is no prefix such as 10.244.1.0/24"))?;
    if cidr.trunc() != cidr {
        return Err(wrong("has bits set behind its length"));
    }
    if !is_for_pods(&cidr) {
        return Err(wrong("is no unicast prefix of length 8 or more"));
    }
    Ok(cidr)
}

/// A prefix that clients may ask from. Bits behind its length say nothing, as kube-proxy has it.
pub(super) fn source_range(text: &str) -> Result<IpNet, Problem> {
    let wrong = |_| {
        let message = format!("source range `{text}` is no prefix such as 203.0.113.0/24");
        Problem::new(Reason::Address, message)
    };
    text.trim().parse::<IpNet>().map(|range| range.trunc()).map_err(wrong)
}

/// A port to send to.
pub(super) fn port(number: i32) -> Result<NonZeroU16, Problem> {
    u16::try_from(number)
        .ok()
        .and_then(NonZeroU16::new)
        .ok_or_else(|| Problem::new(Reason::Port, format!("{number} is no port from 1 to 65535")))
}

/// A protocol; Kubernetes means TCP if it names none.
pub(super) fn protocol(name: Option<&str>) -> Result<Protocol, Problem> {
    match name {
        None => Ok(Protocol::Tcp),
        Some(name) => name.parse().map_err(|_| {
            Problem::new(Reason::Protocol, format!("{name} is not balanced: only TCP, UDP and SCTP are"))
        }),
    }
}
