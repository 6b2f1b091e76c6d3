//! Packets through the eBPF programs, byte by byte, in the running kernel (`bpf_prog_test_run`).
//!
//! [`table`], [`services`], [`sources`], [`refusals`] and others are the stories worth telling one by one, each for both families; [`random`] runs sequences of packets and changes against
//! [`model`], and [`updates`] sequences of services against the maps. Needs root; everything happens in namespaces that this process makes for itself.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test; clippy knows that only of functions with #[test]"
)]

mod ageing;
mod answers;
mod build;
mod chain;
mod clock;
mod extensions;
mod flow_table;
mod fragment;
mod fragmented;
mod frame;
mod icmp;
mod model;
mod mtu;
mod net;
mod random;
mod refusals;
mod sctp;
mod services;
mod source_ranges;
mod sources;
mod table;
mod updates;
mod world;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use crate::{
    net::{IPV6, NETS, Net},
    table::Story,
};

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // All tests share the devices of one network namespace, and each packet's counters are watched.
    arguments.test_threads = Some(1);
    if !arguments.list {
        world::isolate();
    }
    let told = |(name, story): (&str, Story), net: &'static Net| {
        Trial::test(format!("{name}/{}", net.name), move || {
            story(net);
            Ok(())
        })
    };
    let stories = NETS.iter().flat_map(|&net| {
        [
            table::TESTS,
            ageing::TESTS,
            refusals::TESTS,
            services::TESTS,
            sources::TESTS,
            source_ranges::TESTS,
            fragmented::TESTS,
            sctp::TESTS,
            icmp::TESTS,
            flow_table::TESTS,
            mtu::TESTS,
        ]
        .concat()
        .into_iter()
        .map(move |story| told(story, net))
    });
    let of_ipv6 = extensions::TESTS.iter().map(|&story| told(story, &IPV6));
    let updates = Trial::test("the_maps_say_what_was_asked_for_last", || {
        updates::the_maps_say_what_was_asked_for_last(100);
        Ok(())
    });
    let sequences = random::TESTS.iter().map(|&(name, test)| {
        Trial::test(name, move || {
            test();
            Ok(())
        })
    });
    let trials = stories.chain(of_ipv6).chain(sequences).chain([updates]).collect();
    libtest_mimic::run(&arguments, trials).exit_code()
}
