//! One story after the other, each from an empty store.

use std::{path::Path, time::Duration};

use super::{Bench, address, addresses, holder, owner, set};
use crate::{
    Error, Owner, RangeConfig, RangeSet, Request, Sandbox, Usage,
    store::key::{self, Use},
};

#[test]
fn addresses_go_round() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/29")];
    let reserve = |n| bench.store.reserve(&Request::new(&owner(n), &sets)).unwrap().addresses;
    assert_eq!(reserve(1), addresses(&["10.0.0.2"]));
    bench.store.release(&owner(1)).unwrap();
    bench.wait(31);
    for last in 3..=6 {
        assert_eq!(reserve(last), addresses(&[&format!("10.0.0.{last}")]));
    }
    assert_eq!(reserve(1), addresses(&["10.0.0.2"]));
    assert_eq!(holder(&bench.store, address("10.0.0.4")), Some(owner(4)));
    assert_eq!(bench.store.leases().unwrap().len(), 5);
    assert_eq!(bench.store.early_reuses().unwrap(), 0);
}

#[test]
fn an_address_rests_for_its_cooldown() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/29")];
    let reserve = |n| bench.store.reserve(&Request::new(&owner(n), &sets)).unwrap().addresses[0];
    for n in 2..=6 {
        reserve(n);
    }
    bench.store.release(&owner(3)).unwrap();
    bench.wait(20);
    bench.store.release(&owner(2)).unwrap();
    bench.wait(9);
    assert_eq!(bench.store.usage(&sets[0]).unwrap(), Usage { size: 5, held: 3, resting: 2 });
    bench.wait(1);
    assert_eq!(bench.store.usage(&sets[0]).unwrap(), Usage { size: 5, held: 3, resting: 1 });
    // Going round, 10.0.0.2 would be the next one.
    assert_eq!(reserve(7), address("10.0.0.3"), "an address was given within its cool-down");
    assert_eq!(bench.store.early_reuses().unwrap(), 0);
    assert_eq!(reserve(8), address("10.0.0.2"), "a pod was refused what only rests");
    assert_eq!(bench.store.early_reuses().unwrap(), 1);
}

#[test]
fn when_all_that_is_left_rests_the_longest_rest_ends() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/29")];
    for n in 2..=6 {
        bench.store.reserve(&Request::new(&owner(n), &sets)).unwrap();
    }
    for n in [5, 2, 4, 6, 3] {
        bench.store.release(&owner(n)).unwrap();
        bench.wait(1);
    }
    for (n, last) in [5, 2, 4, 6, 3].into_iter().enumerate() {
        let lease = bench.store.reserve(&Request::new(&owner(n), &sets)).unwrap();
        assert_eq!(lease.addresses, addresses(&[&format!("10.0.0.{last}")]));
    }
    assert_eq!(bench.store.early_reuses().unwrap(), 5);
    assert_eq!(bench.store.usage(&sets[0]).unwrap().resting, 0);
}

#[test]
fn without_a_cooldown_nothing_rests() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/30")];
    for n in 0..3 {
        let who = owner(n);
        bench.store.reserve(&Request { cooldown: Duration::ZERO, ..Request::new(&who, &sets) }).unwrap();
        bench.store.release(&who).unwrap();
    }
    assert_eq!(bench.store.early_reuses().unwrap(), 0);
}

#[test]
fn an_exhausted_set_says_so_with_figures_and_gives_nothing() {
    let bench = Bench::new();
    let (large, small) = (set("10.0.0.0/24"), set("10.9.0.0/30"));
    bench.store.reserve(&Request::new(&owner(1), std::slice::from_ref(&small))).unwrap();
    let error = bench.store.reserve(&Request::new(&owner(2), &[large.clone(), small.clone()])).unwrap_err();
    assert!(matches!(&error, Error::Exhausted { size: 1, .. }), "{error}");
    assert!(error.to_string().contains("10.9.0.0/30"), "{error}");
    assert_eq!(bench.store.lease(&owner(2)).unwrap(), None);
    assert_eq!(bench.store.usage(&large).unwrap().held, 0, "all or none");
    let usage = bench.store.usage(&small).unwrap();
    assert_eq!(usage, Usage { size: 1, held: 1, resting: 0 });
    assert!(usage.is_exhausted());
}

#[test]
fn a_second_reservation_is_refused_and_harms_nothing() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24")];
    let first = bench.store.reserve(&Request::new(&owner(1), &sets)).unwrap();
    assert!(matches!(bench.store.reserve(&Request::new(&owner(1), &sets)), Err(Error::Held { .. })));
    assert_eq!(bench.store.lease(&owner(1)).unwrap(), Some(first));
    let second = Owner::new("container1", "net1").unwrap();
    let lease = bench.store.reserve(&Request::new(&second, &sets)).unwrap();
    assert_eq!(lease.addresses, addresses(&["10.0.0.3"]));
    bench.store.release(&owner(1)).unwrap();
    assert_eq!(bench.store.lease(&second).unwrap(), Some(lease), "an interface took another's with it");
}

#[test]
fn one_owner_gets_one_address_from_each_set() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24"), set("fd00::/64")];
    let lease = bench.store.reserve(&Request::new(&owner(1), &sets)).unwrap();
    assert_eq!(lease.addresses, addresses(&["10.0.0.2", "fd00::2"]));
    assert_eq!(bench.store.release(&owner(1)).unwrap(), Some(lease));
    assert_eq!(bench.store.release(&owner(1)).unwrap(), None);
    assert_eq!(bench.store.usage(&sets[1]).unwrap().held, 0);
}

#[test]
fn the_walk_goes_through_all_ranges_of_a_set_and_round_again() {
    let bench = Bench::new();
    let range = |json| serde_json::from_value::<RangeConfig>(json).unwrap();
    let sets = [RangeSet::new(&[
        range(
            serde_json::json!({ "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.10" }),
        ),
        range(serde_json::json!({ "subnet": "10.0.1.0/30", "exclude": ["10.0.1.2/32"] })),
        range(serde_json::json!({ "subnet": "10.0.2.4/31", "gateway": "10.0.2.4" })),
    ])
    .unwrap()];
    for round in 0..3 {
        for expected in ["10.0.0.9", "10.0.0.10", "10.0.2.5"] {
            let lease = bench.store.reserve(&Request::new(&owner(1), &sets)).unwrap();
            assert_eq!(lease.addresses, addresses(&[expected]), "round {round}");
            bench.store.release(&owner(1)).unwrap();
            bench.wait(31);
        }
    }
}

#[test]
fn the_store_knows_which_sets_it_gave_from() {
    let bench = Bench::new();
    let range: RangeConfig = serde_json::from_value(serde_json::json!({
        "subnet": "10.0.0.0/24", "rangeStart": "10.0.0.9", "rangeEnd": "10.0.0.99", "gateway": "192.0.2.1",
        "exclude": ["10.0.0.64/28", "10.0.0.10"]
    }))
    .unwrap();
    let sets = RangeSet::several(&[
        vec![range],
        vec![RangeConfig::from("fd00::/64".parse::<ipnet::IpNet>().unwrap())],
    ]);
    let sets = sets.unwrap();
    assert_eq!(bench.store.sets().unwrap(), []);
    bench.store.reserve(&Request::new(&owner(1), &sets)).unwrap();
    assert_eq!(bench.store.sets().unwrap(), sets);
    bench.store.reserve(&Request::new(&owner(2), &[set("10.9.0.0/24")])).unwrap();
    assert_eq!(bench.store.sets().unwrap().len(), 3);
}

#[test]
fn wanted_addresses_are_given_or_refused_by_name() {
    let bench = Bench::new();
    let narrow: RangeConfig = serde_json::from_value(serde_json::json!({
        "subnet": "10.0.0.0/24", "rangeEnd": "10.0.0.99", "exclude": ["10.0.0.64/27", "10.0.0.9"]
    }))
    .unwrap();
    let sets = [RangeSet::new(&[narrow]).unwrap(), set("fd00::/64")];
    let reserve = |n, wanted: &[&str]| {
        bench.store.reserve(&Request { wanted: &addresses(wanted), ..Request::new(&owner(n), &sets) })
    };
    let lease = reserve(1, &["fd00::77", "10.0.0.50"]).unwrap();
    assert_eq!(lease.addresses, addresses(&["10.0.0.50", "fd00::77"]), "in the order of the sets");
    let lease = reserve(2, &["fd00::99"]).unwrap();
    assert_eq!(lease.addresses, addresses(&["10.0.0.2", "fd00::99"]), "what is not wanted is chosen");

    let refused = |wanted: &[&str]| reserve(3, wanted).unwrap_err();
    for outside in ["192.0.2.1", "10.0.0.100", "10.0.0.255", "10.0.0.0", "fd01::1", "fd00::"] {
        assert!(
            matches!(refused(&[outside]), Error::OutOfRange { .. }),
            "{outside}: {}",
            refused(&[outside])
        );
    }
    for gateway in ["10.0.0.1", "fd00::1"] {
        assert!(matches!(refused(&[gateway]), Error::IsGateway { .. }), "{}", refused(&[gateway]));
    }
    for (excluded, by) in [("10.0.0.70", "10.0.0.64/27"), ("10.0.0.9", "10.0.0.9")] {
        let error = refused(&[excluded]);
        assert!(
            matches!(&error, Error::IsExcluded { exclusion, .. } if exclusion.to_string() == by),
            "{error}"
        );
    }
    let error = refused(&["10.0.0.50"]);
    assert!(matches!(&error, Error::Taken { owner: other, .. } if *other == owner(1)), "{error}");
    assert!(matches!(refused(&["10.0.0.51", "10.0.0.52"]), Error::TwoOfOneSet { .. }));
    assert_eq!(bench.store.lease(&owner(3)).unwrap(), None);
    assert_eq!(bench.store.usage(&sets[0]).unwrap().held, 2, "a refusal left something behind");
}

#[test]
fn a_wanted_address_is_given_within_its_cooldown_and_that_is_counted() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24")];
    let who = owner(1);
    let wanted = addresses(&["10.0.0.7"]);
    let request = Request { wanted: &wanted, ..Request::new(&who, &sets) };
    for _ in 0..2 {
        assert_eq!(bench.store.reserve(&request).unwrap().addresses, wanted);
        bench.store.release(&who).unwrap();
    }
    assert_eq!(bench.store.early_reuses().unwrap(), 1);
    bench.wait(31);
    bench.store.reserve(&request).unwrap();
    assert_eq!(bench.store.early_reuses().unwrap(), 1);
}

#[test]
fn retain_takes_back_what_is_not_kept_unless_it_changed_hands() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24")];
    let reserve = |n| bench.store.reserve(&Request::new(&owner(n), &sets)).unwrap();
    for n in 1..=4 {
        reserve(n);
    }
    let taken = bench.store.retain(|who, _| {
        if *who == owner(3) {
            // Deleted and added anew while the decision is made.
            bench.store.release(&owner(3)).unwrap();
            reserve(3);
        }
        *who == owner(1)
    });
    let taken: Vec<_> = taken.unwrap().into_iter().map(|(who, _)| who).collect();
    assert_eq!(taken, [owner(2), owner(4)]);
    let left: Vec<_> = bench.store.leases().unwrap().into_iter().map(|(who, _)| who).collect();
    assert_eq!(left, [owner(1), owner(3)]);
    assert_eq!(bench.store.usage(&sets[0]).unwrap().resting, 3);
}

#[test]
fn orphans_are_the_leases_of_sandboxes_that_are_gone() {
    let bench = Bench::new();
    let sets = [set("10.0.0.0/24")];
    let reserve = |n, sandbox| {
        bench.store.reserve(&Request { sandbox, ..Request::new(&owner(n), &sets) }).unwrap();
    };
    let here = Sandbox::of(Path::new("/proc/self/ns/net")).unwrap();
    let never = Sandbox { netns: "/run/netns/none".into(), ino: 1, ..here.clone() };
    reserve(1, Some(here.clone()));
    reserve(2, None);
    reserve(3, Some(never));
    // Its path is gone, but this process is in it.
    reserve(4, Some(Sandbox { netns: "/run/netns/none".into(), ..here }));
    let orphans = bench.store.orphans().unwrap();
    assert_eq!(orphans.iter().map(|(who, _)| who.clone()).collect::<Vec<_>>(), [owner(3)]);
    assert_eq!(bench.store.release_leases(orphans.clone()).unwrap(), orphans);
    assert_eq!(bench.store.leases().unwrap().len(), 3);
}

/// Fills all of `set` at once, as if as many pods had been added.
fn fill(bench: &Bench, set: &RangeSet) {
    let mut txn = bench.store.env.write_txn().unwrap();
    let holder = Use::Held(owner(0)).to_bytes();
    for number in set.free().iter().cloned().flatten() {
        let address = set.family().address(number).unwrap();
        bench.store.put(&mut txn, &key::address(address), &holder).unwrap();
    }
    txn.commit().unwrap();
}

#[test]
fn a_full_large_set_says_so_and_gives_what_becomes_free() {
    let bench = Bench::new();
    let sets = [set("10.1.0.0/16")];
    fill(&bench, &sets[0]);
    for n in 1..20 {
        let result = bench.store.reserve(&Request::new(&owner(n), &sets));
        assert!(matches!(result, Err(Error::Exhausted { size: 65_533, .. })));
    }
    let mut txn = bench.store.env.write_txn().unwrap();
    bench.store.delete(&mut txn, &key::address(address("10.1.200.7"))).unwrap();
    txn.commit().unwrap();
    assert_eq!(bench.store.usage(&sets[0]).unwrap().held, 65_532);
    let lease = bench.store.reserve(&Request::new(&owner(1), &sets)).unwrap();
    assert_eq!(lease.addresses, addresses(&["10.1.200.7"]));
}

#[test]
fn an_ipv6_prefix_is_as_quick_as_a_small_one_wherever_the_walk_stands() {
    let bench = Bench::new();
    let sets = [set("fd00::/64")];
    let who = owner(1);
    let wanted = addresses(&["fd00::ffff:ffff:ffff:fffe"]);
    bench.store.reserve(&Request { wanted: &wanted, ..Request::new(&who, &sets) }).unwrap();
    let reserve = |n| bench.store.reserve(&Request::new(&owner(n), &sets)).unwrap().addresses;
    assert_eq!(reserve(2), addresses(&["fd00::2"]), "what is wanted does not move the walk");
    let mut txn = bench.store.env.write_txn().unwrap();
    bench
        .store
        .put(&mut txn, &key::last(&sets[0]), &key::address(address("fd00::ffff:ffff:ffff:fffd")))
        .unwrap();
    txn.commit().unwrap();
    assert_eq!(reserve(3), addresses(&["fd00::ffff:ffff:ffff:ffff"]), "the taken one is stepped over");
    assert_eq!(reserve(4), addresses(&["fd00::3"]), "and round again");
    assert_eq!(bench.store.usage(&sets[0]).unwrap(), Usage { size: (1 << 64) - 2, held: 4, resting: 0 });
}
