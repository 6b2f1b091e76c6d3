//! Beeline's packet path, seen from user space: loads, pins and attaches the eBPF programs, and turns desired
//! state into the smallest change of their maps.
//!
//! It knows no Kubernetes, no files but its own, and no CNI; it never allocates an address.

mod attach;
mod dataplane;
pub mod desired;
mod diff;
mod error;
mod family;
pub mod fnv;
pub mod json_file;
mod load;
pub mod maglev;
pub mod netlink;
pub mod netns;
mod network;
pub mod node_file;
pub mod pins;
pub mod port_name;
mod ports;
mod room;
pub mod runtime_dir;
mod service_name;
mod services;
pub mod status_file;
mod tables;
mod trace;
mod unload;
mod view;

pub use attach::AttachMode;
pub use beeline_abi::{
    Action, Address, Drop, Hop, Inet4, Inet6, Mac, Rewrite, ServiceStats, VERSION as ABI_VERSION, Vni,
};
pub use dataplane::Dataplane;
pub use desired::Desired;
pub use diff::Changes;
pub use error::{Error, Result};
pub use json_file::JsonFileError;
pub use netlink::Netlink;
pub use netns::NetNs;
pub use network::{LINK_GATEWAY, LINK_GATEWAY6, VXLAN_OVERHEAD};
pub use node_file::NodeFile;
pub use pins::{Pins, Program};
pub use port_name::PortOwner;
pub use ports::{EndpointView, Ports};
pub use room::{Room, check_room};
pub use status_file::StatusFile;
pub use trace::{Balanced, Trace, Way};
pub use unload::{Unloaded, unload};
pub use view::{FlowView, NodeView, RouteView, ServiceView, View};
