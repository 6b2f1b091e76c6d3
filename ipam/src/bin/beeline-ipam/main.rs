//! `beeline-ipam`, a CNI IPAM plugin: gives addresses for other plugins (bridge, ptp, macvlan…) from ranges in their
//! network configuration, and shows people what it gave.
//!
//! A main plugin starts it for each request. It keeps a store for each network, allocates by the library, and touches
//! no interface. Started by a person, without `CNI_COMMAND`, it tells instead of giving.

mod config;
mod failure;
mod people;
mod plugin;
mod resolv_conf;

use std::{
    env,
    io::{self, IsTerminal},
    process::ExitCode,
};

fn main() -> ExitCode {
    let by_hand = env::args_os().len() > 1 || io::stdin().is_terminal();
    if by_hand && env::var_os("CNI_COMMAND").is_none() {
        return people::answer();
    }
    beeline_cni::run(&plugin::Allocator)
}
