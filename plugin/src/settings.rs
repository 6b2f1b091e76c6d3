//! The keys of the network configuration that are Beeline's own.

use std::path::PathBuf;

use beeline_cni::{Code, Network};
use lb_dataplane::node_file::DEFAULT_RUNTIME_DIR;
use serde_json::Value;

use crate::error::{Error, Result};

/// Smallest MTU of a link that carries IPv4 (RFC 791) and IPv6 (RFC 8200 §5), in bytes.
const MIN_MTU: (u32, u32) = (68, 1280);

/// `runtimeDir`: the agent's runtime folder.
pub(crate) fn runtime_dir(network: &Network) -> Result<PathBuf> {
    match network.specific.get("runtimeDir") {
        None => Ok(PathBuf::from(DEFAULT_RUNTIME_DIR)),
        Some(Value::String(dir)) if dir.starts_with('/') => Ok(PathBuf::from(dir)),
        Some(other) => Err(bad("runtimeDir", other, "an absolute path, as beelined's --runtime-dir")),
    }
}

/// `mtu`: that of the pod's interface, in bytes; without it, the node's. Larger packets than the node's could not
/// reach other nodes.
pub(crate) fn mtu(network: &Network, node: u32, ipv6: bool) -> Result<u32> {
    let min = if ipv6 { MIN_MTU.1 } else { MIN_MTU.0 };
    let Some(value) = network.specific.get("mtu").filter(|value| !value.is_null()) else {
        return Ok(node);
    };
    match value.as_u64().and_then(|mtu| u32::try_from(mtu).ok()) {
        // As the reference plugins have it: not set.
        Some(0) => Ok(node),
        Some(mtu) if (min..=node).contains(&mtu) => Ok(mtu),
        _ => Err(bad(
            "mtu",
            value,
            &format!("between {min} and {node}, which is what packets to other nodes may have"),
        )),
    }
}

fn bad(key: &str, value: &Value, must: &str) -> Error {
    Error::new(Code::CONFIG, format!("the configuration's `{key}` is {value}: it must be {must}"))
}
