//! `beeline`, the CNI plugin: gives a pod its interface, takes it away, and checks that it is whole.
//!
//! A container runtime starts it for each request, with the CNI environment and a network configuration on
//! standard input, and reads JSON from its standard output. It speaks the protocol by `beeline-cni`, allocates by
//! `beeline-ipam` or another IPAM plugin, and wires by `lb-dataplane`; all else it knows of the node is in
//! `node.json`. It loads no programs, starts no processes but another IPAM plugin's, and never calls the agent.

mod addressing;
mod attachment;
mod commands;
mod error;
mod help;
mod node;
mod outcome;
mod pod;
mod reconcile;
mod record;
mod settings;
mod takedown;
mod undo;

use std::{env, process::ExitCode};

fn main() -> ExitCode {
    help::answer(env::args().skip(1)).unwrap_or_else(|| beeline_cni::run(&commands::Beeline))
}
