//! What ADD answers: what it made, after what the plugins before it made.

use std::path::Path;

use beeline_cni::{Code, Dns, Interface, Ip, Route, Success};
use lb_dataplane::{Mac, NodeFile};

use crate::{
    error::{Error, Result},
    pod::{self, Wiring},
};

/// One end of the pod's veth pair.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
}

/// What ADD has made.
pub(crate) struct Made<'a> {
    pub(crate) port: End<'a>,
    pub(crate) pod: End<'a>,
    pub(crate) netns: &'a Path,
    pub(crate) mtu: u32,
    pub(crate) wiring: &'a Wiring,
    pub(crate) dns: Option<Dns>,
}

/// The result of ADD. What plugins before this one made stays, and comes first.
pub(crate) fn of(made: Made<'_>, previous: Option<&Success>) -> Success {
    let mut result = previous.cloned().unwrap_or_default();
    let sandbox = made.netns.to_string_lossy().into_owned();
    for (end, sandbox) in [(made.port, String::new()), (made.pod, sandbox)] {
        result.interfaces.push(Interface {
            name: end.name.to_owned(),
            mac: end.mac.to_string(),
            mtu: Some(made.mtu),
            sandbox,
            ..Interface::default()
        });
    }
    let ours = result.interfaces.len() - 1;
    result.ips.extend(made.wiring.addresses.iter().map(|address| Ip {
        address: pod::network(*address),
        gateway: Some(pod::gateway(*address)),
        interface: Some(ours),
    }));
    let through = |to: &ipnet::IpNet| Route::new(*to, Some(pod::gateway(to.addr())));
    result.routes.extend(made.wiring.destinations.iter().map(through));
    if let Some(dns) = made.dns {
        result.dns = dns;
    }
    result
}

/// Where `routes`, of an IPAM plugin or of the configuration, lead. A pod has one next hop, so that they can say
/// nothing else.
pub(crate) fn destinations(routes: &[Route], file: &NodeFile) -> Result<Vec<ipnet::IpNet>> {
    for route in routes {
        let refuse = |why: &str| {
            let msg =
                format!("the route to {} in the configuration's `ipam` cannot be honoured: {why}", route.dst);
            Err(Error::new(Code::UNSUPPORTED_FIELD, msg))
        };
        let known = |gw: &std::net::IpAddr| *gw == pod::gateway(*gw) || file.gateways.contains(gw);
        if route.gw.as_ref().is_some_and(|gw| !known(gw)) {
            return refuse("all that a pod sends goes through its node; leave `gw` out");
        }
        if *route != Route::new(route.dst, route.gw) {
            return refuse("leave out all but `dst`");
        }
    }
    Ok(routes.iter().map(|route| route.dst).collect())
}

#[cfg(test)]
mod tests {
    use beeline_cni::Version;
    use serde_json::{Value, json};

    use super::*;

    fn added(previous: Option<&Success>) -> Value {
        let addresses = vec!["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()];
        let made = Made {
            port: End { name: "bl0123456789abc", mac: Mac::GATEWAY },
            pod: End { name: "eth0", mac: Mac([0x0a, 0x58, 10, 244, 1, 2]) },
            netns: Path::new("/run/netns/pod"),
            mtu: 1450,
            wiring: &Wiring::new(addresses, Vec::new()),
            dns: None,
        };
        of(made, previous).write(Version::LATEST).unwrap()
    }

    #[test]
    fn the_result_is_the_specifications() {
        assert_eq!(
            added(None),
            json!({
                "cniVersion": "1.1.0",
                "interfaces": [
                    { "name": "bl0123456789abc", "mac": "0a:58:a9:fe:01:01", "mtu": 1450 },
                    { "name": "eth0", "mac": "0a:58:0a:f4:01:02", "mtu": 1450, "sandbox": "/run/netns/pod" },
                ],
                "ips": [
                    { "address": "10.244.1.2/32", "gateway": "169.254.1.1", "interface": 1 },
                    { "address": "fd00::2/128", "gateway": "fe80::1", "interface": 1 },
                ],
                "routes": [{ "dst": "0.0.0.0/0", "gw": "169.254.1.1" }, { "dst": "::/0", "gw": "fe80::1" }],
                "dns": {},
            })
        );
    }

    #[test]
    fn what_was_made_before_stays_and_comes_first() {
        let previous = json!({
            "interfaces": [{ "name": "net1", "sandbox": "/run/netns/pod" }],
            "ips": [{ "address": "192.0.2.1/24", "interface": 0 }],
            "routes": [{ "dst": "192.0.2.0/24" }],
            "dns": { "nameservers": ["192.0.2.53"] },
        });
        let merged = added(Some(&Success::read(previous).unwrap()));
        assert_eq!(
            (&merged["interfaces"][0]["name"], &merged["interfaces"][2]["name"]),
            (&json!("net1"), &json!("eth0"))
        );
        assert_eq!((&merged["ips"][0]["interface"], &merged["ips"][1]["interface"]), (&json!(0), &json!(2)));
        assert_eq!(merged["routes"][0], json!({ "dst": "192.0.2.0/24" }));
        assert_eq!(merged["dns"]["nameservers"], json!(["192.0.2.53"]));
    }
}
