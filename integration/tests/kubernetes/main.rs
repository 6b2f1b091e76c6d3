//! Beeline on a real Kubernetes cluster: the one that `hack/kind up` starts, with what `test-images` loads into it.
//!
//! The stories change the cluster and leave it as they found it, so they run one after the other, in this order. They are
//! ignored unless asked for: `cargo test --workspace --test kubernetes -- --ignored`, or `hack/test --kubernetes`.

mod cluster;
mod echo;
mod manifests;
mod nodes;
mod reliability;
mod services;
mod uninstall;

use std::process::ExitCode;

use anyhow::Result;
use integration::tests;
use libtest_mimic::{Arguments, Failed, Trial};

#[rustfmt::skip]
fn main() -> ExitCode {
    run(tests![
        manifests::the_api_server_takes_every_overlay,
        services::pods_are_ready_on_every_node,
        services::a_vip_leads_across_nodes_and_stays_on_one,
        services::a_pod_that_is_not_ready_gets_nothing,
        services::scaled_from_none_to_three_and_back,
        services::a_rolling_update_of_ten_pods_fails_no_request,
        reliability::a_deleted_agent_breaks_nothing,
        reliability::an_upgrade_with_another_ebpf_object_breaks_nothing,
        reliability::a_minute_without_api_server_breaks_nothing,
        nodes::a_node_goes_and_comes_back,
        uninstall::uninstalled_nodes_are_clean,
    ])
}

fn run(tests: impl IntoIterator<Item = (&'static str, fn() -> Result<()>)>) -> ExitCode {
    let mut arguments = Arguments::from_args();
    arguments.test_threads = Some(1);
    let trials = tests.into_iter().map(|(name, test)| {
        let run = move || test().map_err(|e| Failed::from(format!("{e:#}\n{}", cluster::agents_logs())));
        Trial::test(name.replace("::", "/"), run).with_ignored_flag(true)
    });
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}
