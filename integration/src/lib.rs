//! A cluster in one machine: nodes and pods are network namespaces, and everything between them is real: the
//! kernel, the packets, `beelined`, the CNI plugin and `beelinectl`.
//!
//! Tests and the demo are written over it. It holds nothing of what Beeline itself does: it starts programs,
//! speaks the CNI to them, sends packets and reads counters, all from outside.

pub mod api_server;
pub mod bench;
pub mod binaries;
pub mod callers;
pub mod capture;
pub mod cluster;
pub mod cni;
pub mod config;
pub mod counters;
pub mod ctl;
pub mod demo;
pub mod echo;
pub mod exec;
pub mod family;
pub mod frames;
pub mod http;
pub mod load;
pub mod netns;
pub mod node;
pub mod ping;
pub mod pod;
pub mod process;
pub mod progress;
pub mod sandbox;
pub mod sctp;
pub mod sockets;
pub mod steps;
pub mod suite;
pub mod traces;
pub mod traffic;
pub mod underlay;
pub mod wait;

pub use api_server::ApiServer;
pub use cluster::Cluster;
pub use config::{Affinity, Attach, Protocol, Service};
pub use family::{Family, Stack};
pub use netns::Netns;
pub use node::Node;
pub use pod::Pod;
