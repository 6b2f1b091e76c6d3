//! Results: one form to work with, read from and written in the form of each CNI version. The `cni-plugin` crate's
//! types are those of 1.0.0 with every field mandatory, and write MACs in upper case.

use std::net::IpAddr;

use cni_plugin::reply::Dns;
use ipnet::IpNet;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};

use crate::{Failure, Version};

/// The result of ADD, in the terms of CNI 1.1.0. Without interfaces it is an IPAM plugin's.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Success {
    /// All interfaces made, in the order they were.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub interfaces: Vec<Interface>,
    /// All addresses given.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub ips: Vec<Ip>,
    /// Routes in the container.
    #[serde(skip_serializing_if = "Vec::is_empty", deserialize_with = "null_is_default")]
    pub routes: Vec<Route>,
    /// Resolver settings.
    #[serde(deserialize_with = "null_is_default")]
    pub dns: Dns,
}

/// An interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Interface {
    /// Name.
    pub name: String,
    /// Ethernet address, in lower case.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub mac: String,
    /// MTU in bytes (1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// The namespace it is in; empty for the host's own, which has no name to tell.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sandbox: String,
    /// Socket that stands for it (1.1.0).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub socket_path: Option<String>,
    /// PCI device that stands for it (1.1.0).
    #[serde(rename = "pciID", skip_serializing_if = "Option::is_none")]
    pub pci_id: Option<String>,
}

/// An address.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ip {
    /// The address, with the length of its subnet's prefix.
    pub address: IpNet,
    /// Its subnet's gateway.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_is_none")]
    pub gateway: Option<IpAddr>,
    /// Whose it is: a place in [`Success::interfaces`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface: Option<usize>,
}

/// A route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Where to.
    pub dst: IpNet,
    /// Next hop.
    #[serde(default, skip_serializing_if = "Option::is_none", deserialize_with = "empty_is_none")]
    pub gw: Option<IpAddr>,
    /// Largest packet, in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
    /// TCP's maximum segment size, in bytes (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub advmss: Option<u32>,
    /// Metric (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub priority: Option<u32>,
    /// Routing table (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// Scope (1.1.0).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scope: Option<u8>,
}

impl Route {
    /// A route with nothing special about it.
    #[must_use]
    pub fn new(dst: IpNet, gw: Option<IpAddr>) -> Self {
        Self { dst, gw, mtu: None, advmss: None, priority: None, table: None, scope: None }
    }
}

impl Success {
    /// Reads a result of any version from 0.3.0 up; the error says what is wrong with it.
    pub fn read(value: Value) -> Result<Self, String> {
        if value.get("ip4").is_some() || value.get("ip6").is_some() {
            return Err("it is of CNI 0.2.0 or older".to_owned());
        }
        serde_json::from_value(value).map_err(|e| e.to_string())
    }

    /// Writes it in the form of `version`.
    pub fn write(&self, version: Version) -> Result<Value, Failure> {
        let mut value = serde_json::to_value(self).map_err(Failure::bug)?;
        value["cniVersion"] = json!(version.as_str());
        let lists = if version < Version::V1_1_0 {
            &[
                ("interfaces", &["mtu", "socketPath", "pciID"][..]),
                ("routes", &["mtu", "advmss", "priority", "table", "scope"]),
            ]
        } else {
            &[][..]
        };
        for (list, newer) in lists {
            let items = value.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten();
            for item in items.filter_map(Value::as_object_mut) {
                item.retain(|key, _| !newer.contains(&key.as_str()));
            }
        }
        if version.names_families() {
            for (i, ip) in self.ips.iter().enumerate() {
                value["ips"][i]["version"] = json!(if ip.address.addr().is_ipv4() { "4" } else { "6" });
            }
        }
        Ok(value)
    }

    /// The addresses of the container's interface `ifname`: those whose interface is inside a container and has
    /// this name, and those that name no interface.
    pub fn addresses_of<'a>(&'a self, ifname: &'a str) -> impl Iterator<Item = &'a Ip> + 'a {
        self.ips.iter().filter(move |ip| match ip.interface.map(|index| self.interfaces.get(index)) {
            Some(Some(interface)) => interface.name == ifname && !interface.sandbox.is_empty(),
            Some(None) => false,
            None => true,
        })
    }

    /// The container's interface `ifname`.
    #[must_use]
    pub fn interface(&self, ifname: &str) -> Option<&Interface> {
        self.interfaces.iter().find(|interface| interface.name == ifname && !interface.sandbox.is_empty())
    }
}

/// Plugins in Go write `null` for what is empty.
fn null_is_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(from: D) -> Result<T, D::Error> {
    Option::<T>::deserialize(from).map(Option::unwrap_or_default)
}

/// Plugins in Go write an empty text for an address that is not set.
fn empty_is_none<'de, D: Deserializer<'de>>(from: D) -> Result<Option<IpAddr>, D::Error> {
    match Option::<String>::deserialize(from)? {
        None => Ok(None),
        Some(text) if text.is_empty() => Ok(None),
        Some(text) => text.parse().map(Some).map_err(serde::de::Error::custom),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn result() -> Success {
        Success::read(json!({
            "cniVersion": "1.1.0",
            "interfaces": [
                { "name": "bl0123456789abc", "mac": "0a:58:a9:fe:01:01", "mtu": 1450 },
                { "name": "eth0", "mac": "0a:58:0a:f4:01:02", "mtu": 1450, "sandbox": "/run/netns/pod" },
            ],
            "ips": [
                { "address": "10.244.1.2/32", "gateway": "169.254.1.1", "interface": 1 },
                { "address": "fd00::2/128", "interface": 1 },
            ],
            "routes": [{ "dst": "0.0.0.0/0", "gw": "169.254.1.1", "mtu": 1400, "table": 7 }],
            "dns": { "nameservers": ["10.96.0.10"] },
        }))
        .unwrap()
    }

    #[test]
    fn each_version_has_its_own_form() {
        assert_eq!(
            result().write(Version::V0_4_0).unwrap(),
            json!({
                "cniVersion": "0.4.0",
                "interfaces": [
                    { "name": "bl0123456789abc", "mac": "0a:58:a9:fe:01:01" },
                    { "name": "eth0", "mac": "0a:58:0a:f4:01:02", "sandbox": "/run/netns/pod" },
                ],
                "ips": [
                    { "version": "4", "address": "10.244.1.2/32", "gateway": "169.254.1.1", "interface": 1 },
                    { "version": "6", "address": "fd00::2/128", "interface": 1 },
                ],
                "routes": [{ "dst": "0.0.0.0/0", "gw": "169.254.1.1" }],
                "dns": { "nameservers": ["10.96.0.10"] },
            })
        );
        let newer = result().write(Version::V1_0_0).unwrap();
        assert_eq!(
            (&newer["ips"][0]["version"], &newer["interfaces"][1]["mtu"]),
            (&Value::Null, &Value::Null)
        );
        let newest = result().write(Version::V1_1_0).unwrap();
        assert_eq!(
            (&newest["interfaces"][1]["mtu"], &newest["routes"][0]["table"]),
            (&json!(1450), &json!(7))
        );
    }

    #[test]
    fn an_ipam_plugins_result_has_no_interfaces() {
        let result = Success { interfaces: Vec::new(), ..result() };
        for version in Version::ALL {
            assert_eq!(result.write(version).unwrap().get("interfaces"), None, "{version}");
        }
    }

    #[test]
    fn addresses_are_found_by_their_interface() {
        let of = |ips: Value| -> Vec<String> {
            let interfaces = json!([{ "name": "bl1" }, { "name": "eth0", "sandbox": "/n" }]);
            let result = Success::read(json!({ "interfaces": interfaces, "ips": ips })).unwrap();
            result.addresses_of("eth0").map(|ip| ip.address.to_string()).collect()
        };
        assert_eq!(
            of(json!([{ "version": "4", "address": "10.0.0.2/32", "interface": 1 }])),
            ["10.0.0.2/32"]
        );
        assert_eq!(of(json!([{ "address": "10.0.0.2/24", "gateway": "" }])), ["10.0.0.2/24"]);
        let of_others = json!([{ "address": "10.0.0.3/32", "interface": 0 }, { "address": "10.0.0.4/32", "interface": 9 }]);
        assert_eq!(of(of_others), [""; 0]);
        assert_eq!(of(Value::Null), [""; 0]);
    }

    #[test]
    fn what_is_no_result_says_why() {
        for (bad, word) in [
            (json!(7), "invalid type"),
            (json!({ "ips": 7 }), "invalid type"),
            (json!({ "ips": [{ "address": "x" }] }), "address"),
            (json!({ "ip4": { "ip": "10.0.0.1/24" } }), "0.2.0"),
        ] {
            let why = Success::read(bad.clone()).unwrap_err();
            assert!(why.contains(word), "{bad}: {why}");
        }
    }
}
