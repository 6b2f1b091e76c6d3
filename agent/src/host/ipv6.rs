//! IPv6 of this machine: whether the kernel has it, where pods are to have it.

use std::path::Path;

use ipnet::IpNet;

/// What a kernel with IPv6 shows, and no other.
const SHOWN: &str = "/proc/net/if_inet6";

/// Pods are to have IPv6, and the kernel has none.
#[derive(Debug, thiserror::Error)]
#[error(
    "this node's pod prefix {0} is IPv6, and the kernel has no IPv6 ({SHOWN} is not there); boot it without \
     `ipv6.disable=1`, or with the module `ipv6`, or take {0} off the node's pod prefixes"
)]
pub(crate) struct Lacking(IpNet);

/// Whether pods can have addresses of `prefix`, an IPv6 prefix.
pub(crate) fn check(prefix: IpNet) -> Result<(), Lacking> {
    if Path::new(SHOWN).exists() { Ok(()) } else { Err(Lacking(prefix)) }
}

/// Whether the kernel itself may have given a device this address.
pub(super) fn is_link_local(address: &IpNet) -> bool {
    matches!(address, IpNet::V6(address) if address.addr().is_unicast_link_local())
}
