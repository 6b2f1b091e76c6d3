//! Random sequences of services, applied one after the other: whatever came before, the maps say what was asked for last and
//! nothing else, also for an agent that starts in between. What was not changed is not written again.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroU16,
    sync::Arc,
};

use ipnet::IpNet;
use lb_dataplane::{
    ServiceView,
    desired::{Affinity, Backend, BackendState, Frontend, Protocol, Service, WithoutBackends},
};
use proptest::{
    prelude::*,
    sample::subsequence,
    test_runner::{Config, TestRunner},
};

use crate::world::World;

/// One of a few services: which frontends, and which backends in which state.
#[derive(Clone, Debug)]
struct Wanted {
    /// Ports of its VIP, of IPv4 and of IPv6; one of them may be asked of an address that others share.
    vips: Vec<(bool, bool, u16)>,
    /// Last part, family, and whether it drains.
    backends: Vec<(bool, u8, bool)>,
    /// Families of which it has a load balancer's address.
    load_balancers: Vec<bool>,
    /// Lengths of its source ranges, with their families.
    source_ranges: Vec<(bool, u8)>,
    dsr: bool,
    silent: bool,
}

const SERVICES: usize = 4;

fn wanted() -> impl Strategy<Value = Wanted> {
    let vips: Vec<_> = [(true, false), (false, false), (true, true)]
        .into_iter()
        .flat_map(|(is_ipv4, shared)| [(is_ipv4, shared, 80), (is_ipv4, shared, 81)])
        .collect();
    let backends: Vec<_> = (1..=12).flat_map(|last| [(true, last), (false, last)]).collect();
    let backends = subsequence(backends, 0..=24).prop_flat_map(|some| {
        let states = prop::collection::vec(prop::bool::weighted(0.2), some.len());
        states.prop_map(move |states| {
            some.iter().zip(states).map(|(&(ipv4, last), drains)| (ipv4, last, drains)).collect()
        })
    });
    let load_balancers = subsequence(vec![true, false], 0..=2);
    let ranges = subsequence(vec![(true, 0), (true, 9), (true, 32), (false, 7), (false, 128)], 0..=5);
    (subsequence(vips, 0..=6), backends, (load_balancers, ranges), prop::bool::weighted(0.9), any::<bool>())
        .prop_map(|(vips, backends, (load_balancers, source_ranges), dsr, silent)| Wanted {
            vips,
            backends,
            load_balancers,
            source_ranges,
            dsr,
            silent,
        })
}

fn service(name: usize, wanted: &Wanted) -> Service {
    let ip = |is_ipv4, third: u8, last| -> IpAddr {
        let v6 = || format!("fd00:{third:x}::{last:x}").parse().unwrap();
        if is_ipv4 { [10, 96, third, last].into() } else { v6() }
    };
    let last = u8::try_from(name).unwrap();
    let frontend = |&(is_ipv4, shared, port): &(bool, bool, u16)| Frontend {
        // The shared address is the same for all: what is found there goes from one to the other.
        vip: if shared { ip(is_ipv4, 9, 9) } else { ip(is_ipv4, 0, last) },
        port: NonZeroU16::new(port).unwrap(),
        protocol: Protocol::Tcp,
    };
    let (shared, own): (Vec<_>, Vec<_>) = wanted.vips.iter().partition(|(_, shared, _)| *shared);
    Service {
        name: format!("service-{name}"),
        frontends: own.iter().map(frontend).collect(),
        shared: shared.iter().map(frontend).collect(),
        load_balancers: wanted
            .load_balancers
            .iter()
            .map(|&is_ipv4| Frontend { vip: ip(is_ipv4, 8, last), ..frontend(&(is_ipv4, false, 80)) })
            .collect(),
        source_ranges: wanted
            .source_ranges
            .iter()
            .map(|&(is_ipv4, length)| IpNet::new(ip(is_ipv4, 7, last), length).unwrap().trunc())
            .collect(),
        backends: wanted
            .backends
            .iter()
            .map(|&(is_ipv4, last, drains)| Backend {
                address: ip(is_ipv4, 1, last),
                port: NonZeroU16::MIN,
                state: if drains { BackendState::Draining } else { BackendState::Ready },
            })
            .collect(),
        without_backends: if wanted.silent { WithoutBackends::Drop } else { WithoutBackends::Reject },
        affinity: Affinity::None,
        flow_ttl: lb_dataplane::desired::DEFAULT_FLOW_TTL,
        dsr: wanted.dsr,
    }
}

/// What the maps say of a service: its frontends, its backends, those of the former that are not for everybody, and for whom
/// they are.
type Facts = (BTreeSet<Frontend>, BTreeSet<Backend>, BTreeSet<Frontend>, BTreeSet<IpNet>);

/// What the maps must say of `services`, by name.
fn expected(services: &[Arc<Service>]) -> BTreeMap<String, Facts> {
    let is_found = |service: &&Arc<Service>| service.all_frontends().next().is_some();
    // Backends that no frontend of their family leads to are nobody's.
    let facts = |service: &Arc<Service>| {
        let is_asked = |one: &&Backend| {
            service.all_frontends().any(|frontend| frontend.vip.is_ipv4() == one.address.is_ipv4())
        };
        let backends = service.backends.iter().filter(is_asked).copied().collect();
        let is_alike = |frontend: &Frontend, range: &IpNet| frontend.vip.is_ipv4() == range.addr().is_ipv4();
        let restricted = service
            .load_balancers
            .iter()
            .filter(|frontend| service.source_ranges.iter().any(|range| is_alike(frontend, range)));
        let ranges = service
            .source_ranges
            .iter()
            .filter(|range| service.load_balancers.iter().any(|frontend| is_alike(frontend, range)));
        let frontends = service.all_frontends().copied().collect();
        (frontends, backends, restricted.copied().collect(), ranges.copied().collect())
    };
    services.iter().filter(is_found).map(|service| (service.name.clone(), facts(service))).collect()
}

fn found(views: &[ServiceView]) -> BTreeMap<String, Facts> {
    let facts = |view: &ServiceView| {
        let is_asked = |one: &Backend| {
            view.frontends.iter().any(|frontend| frontend.vip.is_ipv4() == one.address.is_ipv4())
        };
        let backends = view.backends.iter().map(|(backend, _)| *backend).filter(is_asked);
        let frontends = view.frontends.iter().copied().collect();
        let restricted = view.restricted.iter().copied().collect();
        (frontends, backends.collect(), restricted, view.source_ranges.iter().copied().collect())
    };
    views.iter().map(|view| (view.name.clone(), facts(view))).collect()
}

/// Every ready backend has slots, and no other has any.
fn slots_are_the_ready_ones(view: &ServiceView) -> bool {
    view.backends.iter().all(|(backend, slots)| {
        let is_asked = view.frontends.iter().any(|one| one.vip.is_ipv4() == backend.address.is_ipv4());
        (*slots > 0) == (is_asked && backend.state == BackendState::Ready)
    })
}

/// A few services change, or an agent starts.
#[derive(Clone, Debug)]
enum Step {
    Apply(Vec<Option<Wanted>>),
    Restart,
}

pub fn the_maps_say_what_was_asked_for_last(cases: u32) {
    let steps = prop_oneof![
        4 => prop::collection::vec(prop::option::weighted(0.7, wanted()), SERVICES).prop_map(Step::Apply),
        1 => Just(Step::Restart),
    ];
    let mut world = World::new("updates");
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    let world = std::cell::RefCell::new(&mut world);
    runner
        .run(&prop::collection::vec(steps, 1..12), |steps| {
            let mut world = world.borrow_mut();
            let mut now: Vec<Option<Arc<Service>>> = vec![None; SERVICES];
            for step in steps {
                match step {
                    Step::Restart => world.restart(),
                    // What is not named stays the very same.
                    Step::Apply(changes) => {
                        let stay = now.iter().zip(&changes).filter(|(_, change)| change.is_none());
                        let mut taken: BTreeSet<Frontend> = stay
                            .flat_map(|(service, _)| {
                                service.iter().flat_map(|it| it.all_frontends().copied())
                            })
                            .collect();
                        for (n, wanted) in changes.iter().enumerate() {
                            let Some(wanted) = wanted else { continue };
                            let mut service = service(n, wanted);
                            service.shared.retain(|frontend| taken.insert(*frontend));
                            let is_found = service.all_frontends().next().is_some();
                            now[n] = is_found.then(|| Arc::new(service));
                        }
                    }
                }
                let services: Vec<_> = now.iter().flatten().cloned().collect();
                world.set_shared_services(&services);
                let views = world.view().services().unwrap();
                prop_assert_eq!(found(&views), expected(&services));
                prop_assert!(views.iter().all(slots_are_the_ready_ones), "{:?}", views);
                let again = world.set_shared_services(&services);
                prop_assert!(again.is_empty(), "nothing was to be done, but {:?}", again);
            }
            // An agent that starts finds nothing to do.
            let services: Vec<_> = now.iter().flatten().cloned().collect();
            world.restart();
            let restarted = world.set_shared_services(&services);
            prop_assert!(restarted.is_empty(), "nothing was to be done, but {:?}", restarted);
            Ok(())
        })
        .unwrap();
}
