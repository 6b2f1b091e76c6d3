//! What a runtime asks for beyond "an interface": addresses, a MAC, ranges to choose from. It may say so in three
//! places: the capabilities (`runtimeConfig`), the configuration's `args.cni`, and `CNI_ARGS`.

use std::net::IpAddr;

use ipnet::IpNet;
use serde_json::Value;

use crate::{Args, Code, Failure, MacAddr, Network};

impl Network {
    /// The addresses asked for, in whatever place, each once.
    pub fn requested_addresses(&self, args: &Args) -> Result<Vec<IpAddr>, Failure> {
        let mut addresses = args.ips.clone();
        for (place, values) in
            [("args.cni.ips", self.args.get("ips")), ("runtimeConfig.ips", self.capability("ips"))]
        {
            for value in list(values).map_err(|why| bad(place, why))? {
                let text = value.as_str().ok_or_else(|| bad(place, format!("{value} is no text")))?;
                addresses.push(address(text).map_err(|why| bad(place, why))?);
            }
        }
        let mut seen = std::collections::HashSet::new();
        addresses.retain(|address| seen.insert(*address));
        Ok(addresses)
    }

    /// The MAC asked for: that of the capability, else that of `args.cni`, else that of `CNI_ARGS`.
    pub fn requested_mac(&self, args: &Args) -> Result<Option<MacAddr>, Failure> {
        for (place, value) in
            [("runtimeConfig.mac", self.capability("mac")), ("args.cni.mac", self.args.get("mac"))]
        {
            match value {
                None | Some(Value::Null) => {}
                Some(Value::String(text)) if text.is_empty() => {}
                Some(Value::String(text)) => return mac(text).map(Some).map_err(|why| bad(place, why)),
                Some(other) => return Err(bad(place, format!("{other} is no text"))),
            }
        }
        Ok(args.mac)
    }

    /// The range sets of capability `ipRanges`, if it has any.
    #[must_use]
    pub fn requested_ranges(&self) -> Option<&Value> {
        self.capability("ipRanges").filter(|value| !value.is_null() && *value != &Value::Array(Vec::new()))
    }

    /// True if the pod's bandwidth is to be limited (capability `bandwidth`).
    #[must_use]
    pub fn limits_bandwidth(&self) -> bool {
        self.capability("bandwidth").is_some_and(|limits| !limits.is_null())
    }

    fn capability(&self, name: &str) -> Option<&Value> {
        self.runtime_config.get(name)
    }
}

fn list(values: Option<&Value>) -> Result<&[Value], String> {
    match values {
        None | Some(Value::Null) => Ok(&[]),
        Some(Value::Array(values)) => Ok(values),
        Some(other) => Err(format!("{other} is no list")),
    }
}

/// An address, with or without the length of a prefix, which says nothing here.
pub(crate) fn address(text: &str) -> Result<IpAddr, String> {
    let parsed = text.parse().or_else(|_| text.parse::<IpNet>().map(|net| net.addr()));
    parsed.map_err(|_| format!("`{text}` is no IP address"))
}

pub(crate) fn mac(text: &str) -> Result<MacAddr, String> {
    text.parse().map_err(|_| format!("`{text}` is no MAC, such as 0a:58:0a:f4:01:02"))
}

fn bad(place: &str, why: impl std::fmt::Display) -> Failure {
    Failure::new(Code::CONFIG, format!("the configuration's `{place}` cannot be used: {why}"))
}
