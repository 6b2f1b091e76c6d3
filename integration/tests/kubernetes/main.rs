//! Beeline on a real Kubernetes cluster: the one that `hack/kind up` starts, with what `test-images` loads into it.
//!
//! Stories that change only what is theirs run side by side; then those that change the cluster, and leave it as they found
//! it, one after the other, in this order. They are ignored unless asked for:
//! `cargo test --workspace --test kubernetes -- --ignored`, or all of `hack/test`.

mod beside_kube_proxy;
mod clients;
mod cluster;
mod echo;
mod manifests;
mod nodes;
mod reliability;
mod services;
mod uninstall;

use std::{process::ExitCode, time::Instant};

use integration::{suite::Test, tests};
use libtest_mimic::{Arguments, Failed, Trial};

#[rustfmt::skip]
fn main() -> ExitCode {
    let own = tests![
        manifests::the_api_server_takes_every_overlay,
        services::pods_are_ready_on_every_node,
        services::a_vip_leads_across_nodes_and_stays_on_one,
        services::a_pod_that_is_not_ready_gets_nothing,
        services::scaled_from_none_to_three_and_back,
    ];
    let alone = tests![
        services::a_rolling_update_of_ten_pods_fails_no_request,
        reliability::a_deleted_agent_breaks_nothing,
        reliability::an_upgrade_with_another_ebpf_object_breaks_nothing,
        reliability::a_minute_without_api_server_breaks_nothing,
        beside_kube_proxy::a8_services_without_dsr_are_kube_proxys,
        nodes::a_node_goes_and_comes_back,
        uninstall::uninstalled_nodes_are_clean,
    ];
    let arguments = Arguments::from_args();
    let failed = run(&arguments, own.len(), own) | run(&arguments, 1, alone);
    if let Err(e) = clients::stop_clients() {
        eprintln!("the clients are still there: {e:#}");
    }
    if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

/// Runs this many of `tests` at a time. Whether one failed.
fn run(arguments: &Arguments, at_a_time: usize, tests: impl IntoIterator<Item = Test>) -> bool {
    let trials = tests.into_iter().map(|(name, test)| {
        let run = move || {
            let start = Instant::now();
            let result = test().map_err(|e| Failed::from(format!("{e:#}\n{}", cluster::agents_state())));
            eprintln!("{name} took {} s", start.elapsed().as_secs());
            result
        };
        Trial::test(name.replace("::", "/"), run).with_ignored_flag(true)
    });
    let mut arguments = arguments.clone();
    arguments.test_threads = Some(at_a_time);
    libtest_mimic::run(&arguments, trials.collect()).has_failed()
}
