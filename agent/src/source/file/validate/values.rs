//! Single values: what each scalar of the file may be, and what to write instead.

use std::{
    net::{IpAddr, Ipv4Addr},
    num::NonZeroU16,
    ops::RangeInclusive,
    time::Duration,
};

use ipnet::IpNet;
use lb_dataplane::{
    AttachMode, Mac, Vni,
    desired::{Affinity, DEFAULT_AFFINITY_TIMEOUT, Protocol},
};

use crate::source::{
    balance::{Condition, Reach},
    values::{AFFINITY_TIMEOUTS, FLOW_TTLS, is_for_pods, unfit},
};

/// What is wrong with a value, and the cure.
pub(super) struct Wrong {
    pub(super) cause: String,
    pub(super) cure: String,
}

/// Says that something is wrong.
pub(super) fn wrong(cause: impl Into<String>, cure: impl Into<String>) -> Wrong {
    Wrong { cause: cause.into(), cure: cure.into() }
}

pub(super) fn vni(text: &str) -> Result<Vni, Wrong> {
    text.parse().ok().and_then(Vni::new).ok_or_else(|| {
        wrong(
            format!("`{text}` is no VNI"),
            format!("write a number from 0 to {}: a VNI has 24 bits", (1 << 24) - 1),
        )
    })
}

pub(super) fn port(text: &str) -> Result<NonZeroU16, Wrong> {
    text.parse().map_err(|_| wrong(format!("`{text}` is no port"), "write a number from 1 to 65535"))
}

pub(super) fn device(text: &str) -> Result<String, Wrong> {
    let forbidden = |c: char| c == '/' || c.is_whitespace() || c.is_control();
    if text.is_empty() || text.len() > 15 || text.contains(forbidden) {
        return Err(wrong(
            format!("`{text}` is no name of a network device"),
            "write one as `ip link` shows it: 1 to 15 bytes without spaces",
        ));
    }
    Ok(text.to_owned())
}

pub(super) fn attach(text: &str) -> Result<AttachMode, Wrong> {
    match text {
        "auto" => Ok(AttachMode::Auto),
        "tcx" => Ok(AttachMode::Tcx),
        "clsact" => Ok(AttachMode::Clsact),
        _ => Err(wrong(format!("`{text}` is no way to attach programs"), "write auto, tcx or clsact")),
    }
}

pub(super) fn name(text: &str) -> Result<String, Wrong> {
    if text.is_empty() || text.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(wrong(format!("`{text}` is no name"), "write one without spaces"));
    }
    Ok(text.to_owned())
}

/// An address that one pod or service can have.
pub(super) fn address(text: &str) -> Result<IpAddr, Wrong> {
    let Ok(address) = text.parse() else {
        return Err(wrong(
            format!("`{text}` is no IP address"),
            "write one such as 192.0.2.7 or 2001:db8::7",
        ));
    };
    match unfit(address) {
        None => Ok(address),
        Some(kind) => Err(wrong(format!("`{text}` is {kind}"), "write one that others can send to")),
    }
}

/// An address that a node can have on the underlay.
pub(super) fn underlay_address(text: &str) -> Result<Ipv4Addr, Wrong> {
    match address(text)? {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => Err(wrong(
            format!("`{text}` is an IPv6 address"),
            "write the node's IPv4 address: VXLAN between nodes goes by IPv4, whatever pods speak",
        )),
    }
}

pub(super) fn pod_cidr(text: &str) -> Result<IpNet, Wrong> {
    let cidr: IpNet = text.parse().map_err(|_| {
        wrong(format!("`{text}` is no IP prefix"), "write one such as 10.244.1.0/24 or fd00:10:244:1::/64")
    })?;
    if cidr.trunc() != cidr {
        return Err(bits_set(text, &cidr));
    }
    if !is_for_pods(&cidr) {
        return Err(wrong(
            format!("`{text}` is not for pods"),
            format!("write a unicast prefix of length 8 to {}", cidr.max_prefix_len()),
        ));
    }
    Ok(cidr)
}

/// A prefix that clients may ask from.
pub(super) fn source_range(text: &str) -> Result<IpNet, Wrong> {
    let range: IpNet = text.parse().map_err(|_| {
        wrong(format!("`{text}` is no IP prefix"), "write one such as 203.0.113.0/24 or 2001:db8::/32")
    })?;
    if range.trunc() == range { Ok(range) } else { Err(bits_set(text, &range)) }
}

fn bits_set(text: &str, cidr: &IpNet) -> Wrong {
    wrong(
        format!("`{text}` has bits set behind its prefix length"),
        format!("write {} if that prefix is meant", cidr.trunc()),
    )
}

pub(super) fn mac(text: &str) -> Result<Mac, Wrong> {
    let mut bytes = [0; 6];
    let mut parts = text.split(':');
    let complete = bytes.iter_mut().all(|byte| {
        let part = parts.next().filter(|part| part.len() == 2);
        part.and_then(|part| u8::from_str_radix(part, 16).ok()).is_some_and(|value| {
            *byte = value;
            true
        })
    });
    if !complete || parts.next().is_some() {
        return Err(wrong(format!("`{text}` is no MAC"), "write one such as \"02:00:00:00:00:09\""));
    }
    let mac = Mac(bytes);
    if mac == Mac::NONE || bytes[0] & 1 == 1 {
        return Err(wrong(
            format!("`{text}` is no MAC of one device"),
            "write the unicast MAC of the VTEP's vxlan device",
        ));
    }
    Ok(mac)
}

pub(super) fn protocol(text: &str) -> Result<Protocol, Wrong> {
    text.parse().map_err(|_| wrong(format!("`{text}` is no known protocol"), "write tcp, udp or sctp"))
}

pub(super) fn affinity(text: &str) -> Result<Affinity, Wrong> {
    match text {
        "none" => Ok(Affinity::None),
        "clientIp" => Ok(Affinity::ClientIp { timeout: DEFAULT_AFFINITY_TIMEOUT }),
        _ => Err(wrong(format!("`{text}` is no affinity"), "write none or clientIp")),
    }
}

pub(super) fn reach(text: &str) -> Result<Reach, Wrong> {
    match text {
        "cluster" => Ok(Reach::Cluster),
        "local" => Ok(Reach::Local),
        _ => Err(wrong(format!("`{text}` is no traffic policy"), "write cluster or local")),
    }
}

/// How close backends are wanted.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Distribution {
    SameZone,
    SameNode,
}

pub(super) fn distribution(text: &str) -> Result<Distribution, Wrong> {
    match text {
        "preferSameZone" => Ok(Distribution::SameZone),
        "preferSameNode" => Ok(Distribution::SameNode),
        _ => {
            let cause = format!("`{text}` is no way to distribute traffic");
            Err(wrong(cause, "write preferSameZone or preferSameNode"))
        }
    }
}

pub(super) fn condition(text: &str) -> Result<Condition, Wrong> {
    match text {
        "ready" => Ok(Condition::Ready),
        "terminating" => Ok(Condition::Ending),
        "notReady" => Ok(Condition::Unready),
        _ => Err(wrong(format!("`{text}` is no state of a backend"), "write ready, terminating or notReady")),
    }
}

pub(super) fn flow_ttl(text: &str) -> Result<Duration, Wrong> {
    idle_time(text, &FLOW_TTLS)
}

pub(super) fn affinity_timeout(text: &str) -> Result<Duration, Wrong> {
    idle_time(text, &AFFINITY_TIMEOUTS)
}

fn idle_time(text: &str, sensible: &RangeInclusive<Duration>) -> Result<Duration, Wrong> {
    let time = humantime::parse_duration(text)
        .map_err(|_| wrong(format!("`{text}` is no time"), "write one with its unit, such as 240s or 5m"))?;
    if !sensible.contains(&time) {
        return Err(wrong(format!("`{text}` is no sensible idle time"), "write one from 1s to 24h"));
    }
    Ok(time)
}

pub(super) fn boolean(text: &str) -> Result<bool, Wrong> {
    match text {
        "true" => Ok(true),
        "false" => Ok(false),
        _ => Err(wrong(format!("`{text}` is neither true nor false"), "write true or false")),
    }
}
