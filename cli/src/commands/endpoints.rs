//! `beelinectl endpoints`: the pods of this node, and the node itself, as the dataplane knows them.

use std::collections::HashMap;

use beeline_report::{Report, Table};
use lb_dataplane::{EndpointView, PortOwner, netlink::Link};
use serde::Serialize;

use crate::live::{Live, links};

/// Endpoints, by address.
#[derive(Serialize)]
pub(crate) struct Endpoints {
    endpoints: Vec<Endpoint>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Endpoint {
    address: String,
    mac: String,
    /// `pod`, or `host` for the node itself.
    kind: &'static str,
    /// The port: the device on the host's side. `null` if the device is gone.
    port: Option<String>,
    ifindex: u32,
    container: Option<String>,
    interface: Option<String>,
    pod: Option<String>,
}

/// Reads endpoints, and who their ports are for.
pub(crate) fn report(live: &Live) -> anyhow::Result<Endpoints> {
    let mut endpoints = live.view.endpoints()?;
    endpoints.sort_by_key(|endpoint| endpoint.address);
    let links = links();
    Ok(Endpoints { endpoints: endpoints.iter().map(|endpoint| Endpoint::new(endpoint, &links)).collect() })
}

impl Endpoint {
    fn new(view: &EndpointView, links: &HashMap<u32, Link>) -> Self {
        let link = links.get(&view.ifindex);
        let owner = link.and_then(|link| PortOwner::from_alias(link.alias.as_deref()?));
        let (container, interface, pod) = match owner {
            Some(owner) => (Some(owner.container), Some(owner.interface), owner.pod),
            None => (None, None, None),
        };
        Self {
            address: view.address.to_string(),
            mac: view.mac.to_string(),
            kind: if view.host { "host" } else { "pod" },
            port: link.map(|link| link.name.clone()),
            ifindex: view.ifindex,
            container,
            interface,
            pod,
        }
    }
}

impl Report for Endpoints {
    fn text(&self) -> String {
        if self.endpoints.is_empty() {
            return "no endpoints\n".into();
        }
        let mut table = Table::new(["ADDRESS", "KIND", "MAC", "PORT", "POD", "INTERFACE", "CONTAINER"]);
        for endpoint in &self.endpoints {
            let gone = || format!("gone (ifindex {})", endpoint.ifindex);
            let short = |id: &String| id.chars().take(13).collect();
            table.row([
                endpoint.address.clone(),
                endpoint.kind.to_owned(),
                endpoint.mac.clone(),
                endpoint.port.clone().unwrap_or_else(gone),
                endpoint.pod.clone().unwrap_or_default(),
                endpoint.interface.clone().unwrap_or_default(),
                endpoint.container.as_ref().map(short).unwrap_or_default(),
            ]);
        }
        table.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use lb_dataplane::Mac;

    fn view(address: &str, ifindex: u32, host: bool) -> EndpointView {
        EndpointView {
            address: address.parse().unwrap(),
            ifindex,
            mac: Mac([0x0a, 0x58, 10, 244, 1, 5]),
            host,
        }
    }

    fn endpoints() -> Endpoints {
        let link = |name: &str, alias: Option<&str>| Link {
            name: name.into(),
            alias: alias.map(str::to_owned),
            ..Link::default()
        };
        let links = HashMap::from([
            (3, link("beeline0", None)),
            (7, link("bl0123456789abc", Some("0123456789abcdef01 eth0 default/a"))),
        ]);
        let views = [view("10.244.1.1", 3, true), view("10.244.1.5", 7, false), view("10.244.1.6", 9, false)];
        Endpoints { endpoints: views.iter().map(|view| Endpoint::new(view, &links)).collect() }
    }

    #[test]
    fn ports_carry_the_names_of_their_pods() {
        assert_eq!(
            endpoints().text(),
            "ADDRESS      KIND   MAC                 PORT               POD         INTERFACE   CONTAINER\n\
             10.244.1.1   host   0a:58:0a:f4:01:05   beeline0           -           -           -\n\
             10.244.1.5   pod    0a:58:0a:f4:01:05   bl0123456789abc    default/a   eth0        0123456789abc\n\
             10.244.1.6   pod    0a:58:0a:f4:01:05   gone (ifindex 9)   -           -           -\n"
        );
    }

    #[test]
    fn json_keeps_its_keys() {
        let json = serde_json::to_value(endpoints()).unwrap();
        assert_eq!(json["endpoints"][1]["container"], "0123456789abcdef01");
        assert_eq!(json["endpoints"][1]["port"], "bl0123456789abc");
        assert_eq!(json["endpoints"][2]["port"], serde_json::Value::Null);
    }
}
