//! Real callers of the CNI plugin: libcni's cnitool, containerd's CRI, podman; on the nodes of the harness' clusters.

mod cnitool;
mod cnitool_calls;
mod cnitool_delegated;
mod containerd;
mod containerd_pods;
mod image;
mod network;
mod networks;
mod podman;
mod podman_containers;
mod remains;
mod room;
mod talk;

use std::process::ExitCode;

use integration::{suite, tests};

fn main() -> ExitCode {
    match room::enter() {
        Ok(Some(result)) => result,
        Ok(None) => suite::run(tests![
            cnitool_calls::b_cnitool_wires_pods_in_each_version,
            cnitool_calls::b_cnitool_chains_the_reference_plugins,
            cnitool_calls::b_cnitool_collects_garbage_but_what_is_valid,
            cnitool_calls::b_cnitool_hears_why_a_node_is_not_ready,
            cnitool_delegated::b_host_local_gives_addresses_and_takes_them_back,
            cnitool_delegated::b_static_gives_the_address_that_the_configuration_names,
            containerd_pods::b_containerd_runs_pods_that_talk_across_nodes,
            containerd_pods::b_containerd_tells_why_a_pod_cannot_be_wired,
            podman_containers::b_podman_runs_containers_that_talk_across_nodes,
        ]),
        Err(e) => {
            eprintln!("error: {e:#}");
            ExitCode::FAILURE
        }
    }
}
