//! `CNI_ARGS`: `KEY=value` pairs, parted by semicolons, in any order.

use std::{fmt, net::IpAddr};

use crate::{Code, Failure, MacAddr, request};

/// Keys that may come; of `K8S_POD_*` only the pod's name and namespace are of use here.
const KNOWN: [&str; 7] = [
    "IgnoreUnknown",
    "IP",
    "MAC",
    "K8S_POD_NAMESPACE",
    "K8S_POD_NAME",
    "K8S_POD_INFRA_CONTAINER_ID",
    "K8S_POD_UID",
];

/// A pod as Kubernetes calls it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PodName {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for PodName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What `CNI_ARGS` asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args {
    /// The addresses asked for (`IP`, several parted by commas).
    pub ips: Vec<IpAddr>,
    /// The MAC asked for (`MAC`).
    pub mac: Option<MacAddr>,
    /// The pod, if both parts of its name are told.
    pub pod: Option<PodName>,
}

impl Args {
    /// Reads the variable. Keys that are not known are an error unless `IgnoreUnknown` is set.
    pub fn parse(text: &str) -> Result<Self, Failure> {
        let mut pairs = Vec::new();
        for pair in text.split(';').filter(|pair| !pair.is_empty()) {
            pairs.push(pair.split_once('=').ok_or_else(|| bad(format!("`{pair}` has no `=`")))?);
        }
        let find = |wanted| pairs.iter().find(|(key, _)| *key == wanted).map(|(_, value)| *value);
        let ignore =
            find("IgnoreUnknown").is_some_and(|value| value == "1" || value.eq_ignore_ascii_case("true"));
        let unknown: Vec<_> = pairs.iter().map(|(key, _)| *key).filter(|key| !KNOWN.contains(key)).collect();
        if !unknown.is_empty() && !ignore {
            return Err(bad(format!(
                "{} not known here; add IgnoreUnknown=1 to pass it over",
                unknown.join(", ")
            )));
        }
        let ips = find("IP").unwrap_or_default().split(',').map(str::trim).filter(|ip| !ip.is_empty());
        let pod = find("K8S_POD_NAMESPACE").zip(find("K8S_POD_NAME"));
        Ok(Self {
            ips: ips.map(request::address).collect::<Result<_, _>>().map_err(bad)?,
            mac: find("MAC").filter(|mac| !mac.is_empty()).map(request::mac).transpose().map_err(bad)?,
            pod: pod
                .map(|(namespace, name)| PodName { namespace: namespace.to_owned(), name: name.to_owned() }),
        })
    }
}

fn bad(why: impl fmt::Display) -> Failure {
    Failure::new(Code::ENVIRONMENT, format!("CNI_ARGS cannot be used: {why}"))
}
