//! Many processes at once over one store.

use std::{collections::BTreeSet, process::Child, thread, time::Duration};

use serde_json::json;

use crate::network::{Network, answer};

fn ids(letter: char) -> Vec<String> {
    (0..64).map(|n| format!("{letter}{n}")).collect()
}

/// All at once; the addresses that were given, and how many were refused because there was none.
fn add_all(network: &Network, ids: &[String]) -> (Vec<String>, usize) {
    let children: Vec<Child> = ids.iter().map(|id| network.command("ADD", id).spawn().unwrap()).collect();
    let (mut given, mut refused) = (Vec::new(), 0);
    for child in children {
        let output = child.wait_with_output().unwrap();
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        if output.status.success() {
            given.push(json["ips"][0]["address"].as_str().unwrap().to_owned());
        } else {
            assert_eq!(json["code"], 100, "{json}");
            refused += 1;
        }
    }
    (given, refused)
}

#[test]
fn sixty_four_over_a_pool_that_was_exhausted_and_freed() {
    let network = Network::new(
        &json!({ "ranges": [[{ "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.100", "rangeEnd": "10.1.0.163" }]] }),
    );
    let (given, refused) = add_all(&network, &ids('a'));
    assert_eq!((given.iter().collect::<BTreeSet<_>>().len(), refused), (64, 0));
    let (given, refused) = add_all(&network, &ids('b'));
    assert_eq!((given.len(), refused), (0, 64), "{given:?}");

    let mut dels: Vec<Child> =
        ids('a').iter().map(|id| network.command("DEL", id).spawn().unwrap()).collect();
    assert!(dels.iter_mut().all(|del| del.wait().unwrap().success()));
    assert_eq!(network.leases(), []);
    // All of them rest; that is no reason to keep 64 pods from starting.
    let (given, refused) = add_all(&network, &ids('c'));
    assert_eq!((given.iter().collect::<BTreeSet<_>>().len(), refused), (64, 0));
    assert_eq!(network.store().early_reuses().unwrap(), 64);
}

#[test]
fn adds_and_dels_that_cross_leave_what_they_should() {
    let network = Network::of("10.1.0.0/24");
    thread::scope(|scope| {
        for worker in 0..8 {
            let network = &network;
            scope.spawn(move || {
                for round in 0..8 {
                    let id = format!("w{worker}-{round}");
                    network.add(&id).addresses();
                    if round < 7 {
                        network.del(&id);
                    }
                }
            });
        }
    });
    let held: BTreeSet<_> = network.leases().into_iter().flat_map(|(_, addresses)| addresses).collect();
    assert_eq!(held.len(), 8);
}

#[test]
fn killing_some_of_many_at_random_moments_keeps_the_rest_whole() {
    let network = Network::new(&json!({ "ranges": [[{ "subnet": "10.1.0.0/24" }]], "cooldown": 0 }));
    for round in 0..6_u64 {
        let ids: Vec<_> = (0..16).map(|n| format!("r{round}-{n}")).collect();
        let mut children: Vec<Child> =
            ids.iter().map(|id| network.command("ADD", id).spawn().unwrap()).collect();
        for (n, child) in children.iter_mut().enumerate().filter(|(n, _)| n % 2 == 0) {
            thread::sleep(Duration::from_micros(200 + (round * 16 + n as u64) * 613 % 3_000));
            child.kill().unwrap();
        }
        for (n, child) in children.into_iter().enumerate() {
            let output = child.wait_with_output().unwrap();
            assert!(n % 2 == 0 || output.status.success(), "{output:?}");
        }
        let leases = network.leases();
        let held: BTreeSet<_> = leases.iter().flat_map(|(_, addresses)| addresses).collect();
        assert_eq!(held.len(), leases.len(), "an address is held twice");
        let store = network.store();
        assert_eq!(store.usage(&store.sets().unwrap()[0]).unwrap().held, leases.len() as u128);
        drop(store);
        for id in &ids {
            assert!(answer(&mut network.command("DEL", id)).success);
        }
        assert_eq!(network.leases(), []);
    }
}
