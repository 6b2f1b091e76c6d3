//! `kill -9` at every step of every command that writes, and at random ones in random sequences: what was done is done
//! whole or not at all, and the next call finds nothing in its way.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Instant,
};

use proptest::{
    prelude::*,
    test_runner::{Config, TestCaseError, TestRunner},
};
use serde_json::json;

use crate::{
    network::{Network, answer, command_of},
    traced::{End, killed_before},
    until,
};

/// A network whose pods need one address of each family.
fn network() -> Network {
    Network::new(&json!({
        "ranges": [[{ "subnet": "10.1.0.0/28" }], [{ "subnet": "fd00:1::/64", "rangeEnd": "fd00:1::e" }]],
        "cooldown": 0,
    }))
}

/// Every lease has its addresses, nobody else has them, and nothing is held without a lease.
fn assert_whole(network: &Network) -> usize {
    let leases = network.leases();
    let all: Vec<_> = leases.iter().flat_map(|(_, addresses)| addresses).collect();
    assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len(), "an address is held twice");
    let store = network.store();
    for set in store.sets().unwrap() {
        assert_eq!(store.usage(&set).unwrap().held, leases.len() as u128, "{set}: an address leaked");
    }
    leases.len()
}

/// Runs it for every step, from nothing on to the one at which it ends by itself, and says how many there were.
fn at_every_step(mut killed_at: impl FnMut(usize) -> End) -> usize {
    for step in 0.. {
        match killed_at(step) {
            End::Killed => assert!(step < 5_000, "it never ends"),
            End::ByItself { success } => {
                assert!(success);
                return step;
            }
        }
    }
    unreachable!()
}

#[test]
fn at_every_step_of_the_first_add() {
    let mut done = 0;
    let steps = at_every_step(|step| {
        let network = network();
        let end = killed_before(&mut network.command("ADD", "a"), step);
        done += assert_whole(&network);
        // Whether or not that ADD was done, runtimes call DEL after it and ADD for the next.
        network.del("a");
        assert_eq!(assert_whole(&network), 0);
        network.add("b").addresses();
        end
    });
    assert!(steps > 50 && done > 1, "{steps} steps, {done} of them after it was done");
}

#[test]
fn at_every_step_of_add_and_del_in_a_store_in_use() {
    let network = network();
    network.add("a");
    let (mut given, mut kept) = (0, 0);
    let adds = at_every_step(|step| {
        let end = killed_before(&mut network.command("ADD", "b"), step);
        given += assert_whole(&network) - 1;
        network.del("b");
        end
    });
    let dels = at_every_step(|step| {
        // It is there unless the last DEL that was killed had done its work.
        answer(&mut network.command("ADD", "b"));
        let end = killed_before(&mut network.command("DEL", "b"), step);
        kept += assert_whole(&network) - 1;
        end
    });
    assert!(given > 0 && given < adds, "{given} of {adds} killed ADDs had given");
    assert!(kept > 0 && kept <= dels, "{kept} of {dels} killed DELs had not yet taken");
    assert_eq!(network.leases().len(), 1, "another's lease was touched");
}

#[test]
fn at_every_step_of_gc() {
    let network = network();
    let gc = network.with("cni.dev/valid-attachments", json!([{ "containerID": "a", "ifname": "eth0" }]));
    let mut left = BTreeSet::new();
    at_every_step(|step| {
        for id in ["a", "b", "c"] {
            answer(&mut network.command("ADD", id));
        }
        let end = killed_before(&mut command_of(&gc, "GC", ""), step);
        left.insert(assert_whole(&network));
        end
    });
    assert_eq!(left, BTreeSet::from([1, 3]), "GC takes all that is not valid, or nothing");
}

#[derive(Clone, Debug)]
enum Call {
    Add(usize),
    Del(usize),
    KilledAdd(usize, usize),
    KilledDel(usize, usize),
}

fn call() -> impl Strategy<Value = Call> {
    let who = 0..4_usize;
    // Around where the store is written; before and after it nothing happens.
    let step = 40..130_usize;
    prop_oneof![
        2 => who.clone().prop_map(Call::Add),
        2 => who.clone().prop_map(Call::Del),
        3 => (who.clone(), step.clone()).prop_map(|(who, step)| Call::KilledAdd(who, step)),
        3 => (who, step).prop_map(|(who, step)| Call::KilledDel(who, step)),
    ]
}

/// The model: who holds addresses. A call that was killed did it, or did not.
fn agree(calls: Vec<Call>) -> Result<(), TestCaseError> {
    // Two addresses for four.
    let network = Network::new(&json!({
        "ranges": [[{ "subnet": "10.1.0.0/24", "rangeStart": "10.1.0.8", "rangeEnd": "10.1.0.9" }]],
        "cooldown": 0,
    }));
    let mut model: BTreeMap<String, String> = BTreeMap::new();
    for call in calls {
        let (before, id) = (model.clone(), |who: usize| format!("c{who}"));
        let killed = match &call {
            Call::Add(who) => {
                let added = network.add(&id(*who));
                prop_assert_eq!(
                    added.success,
                    model.len() < 2 && !model.contains_key(&id(*who)),
                    "{:?}",
                    added
                );
                false
            }
            Call::Del(who) => {
                network.del(&id(*who));
                model.remove(&id(*who));
                false
            }
            Call::KilledAdd(who, step) => {
                killed_before(&mut network.command("ADD", &id(*who)), *step) == End::Killed
            }
            Call::KilledDel(who, step) => {
                let killed = killed_before(&mut network.command("DEL", &id(*who)), *step) == End::Killed;
                model.remove(&id(*who));
                killed
            }
        };
        let now: BTreeMap<_, _> = network
            .leases()
            .into_iter()
            .map(|(owner, addresses)| (owner.container_id().to_owned(), addresses.concat()))
            .collect();
        assert_whole(&network);
        // What an ADD gave is new; all else is as the model says, or as it was before a call that was killed.
        let mut rest = now.clone();
        if let Call::Add(who) | Call::KilledAdd(who, _) = &call
            && !before.contains_key(&id(*who))
        {
            rest.remove(&id(*who));
        }
        prop_assert!(rest == model || killed && rest == before, "{call:?}: {before:?} became {now:?}");
        model = now;
    }
    Ok(())
}

#[test]
fn at_random_steps_in_random_sequences() {
    let until = until();
    let config = Config { cases: 2, failure_persistence: None, max_shrink_iters: 200, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let mut rounds = 0;
    while rounds == 0 || Instant::now() < until {
        runner.run(&prop::collection::vec(call(), 1..20), agree).unwrap_or_else(|e| panic!("{e}"));
        rounds += 1;
    }
}
