//! The store: told stories, compared with a model, shared by processes, and killed with them.

mod files;
mod model;
mod processes;
mod stories;

use std::{
    collections::BTreeSet,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use tempfile::TempDir;

use super::key::{self, Use};
use crate::{Clock, Owner, RangeConfig, RangeSet, Store};

/// All of `prefix` but its first address, the gateway.
fn set(prefix: &str) -> RangeSet {
    RangeSet::new(&[RangeConfig::from(prefix.parse::<ipnet::IpNet>().unwrap())]).unwrap()
}

fn owner(n: usize) -> Owner {
    Owner::new(format!("container{n}"), "eth0").unwrap()
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| address(text)).collect()
}

/// A store of its own, with a clock that stands still until it is told to go on.
struct Bench {
    store: Store,
    seconds: Arc<AtomicU64>,
    dir: TempDir,
}

impl Bench {
    fn new() -> Self {
        Self::at(tempfile::tempdir().unwrap(), Arc::new(AtomicU64::new(1000)))
    }

    fn at(dir: TempDir, seconds: Arc<AtomicU64>) -> Self {
        let shown = Arc::clone(&seconds);
        let clock = Clock::from_fn(move || Duration::from_secs(shown.load(Ordering::Relaxed)));
        Self { store: Store::open_with_clock(dir.path(), clock).unwrap(), seconds, dir }
    }

    fn wait(&self, seconds: u64) {
        self.seconds.fetch_add(seconds, Ordering::Relaxed);
    }

    /// The same store, as the next process finds it.
    fn reopened(self) -> Self {
        let Self { store, seconds, dir } = self;
        drop(store);
        Self::at(dir, seconds)
    }

    /// The same folder after a reboot: what there is was made by a boot of another id.
    fn rebooted(self) -> Self {
        let Self { store, seconds, dir } = self;
        let path = store.path.clone();
        drop(store);
        std::fs::rename(path, dir.path().join("00000000-0000-4000-8000-000000000000")).unwrap();
        Self::at(dir, seconds)
    }
}

/// Who holds `address`.
fn holder(store: &Store, address: IpAddr) -> Option<Owner> {
    let txn = store.read().unwrap();
    let found = store.get(&txn, &key::address(address)).unwrap()?;
    match store.parse_use(found).unwrap() {
        Use::Held(owner) => Some(owner),
        Use::Resting(_) => None,
    }
}

/// Every held address has one owner, every owner's addresses are held by it, and nothing else of `sets` is held. Says
/// how many leases there are.
fn assert_consistent(store: &Store, sets: &[RangeSet]) -> usize {
    let leases = store.leases().unwrap();
    let all: Vec<_> = leases.iter().flat_map(|(_, lease)| &lease.addresses).collect();
    let held: BTreeSet<_> = all.iter().collect();
    assert_eq!(held.len(), all.len(), "an address is held twice");
    let used: u128 = sets.iter().map(|set| store.usage(set).unwrap().held).sum();
    assert_eq!(used, held.len() as u128, "an address is held by nobody");
    for (owner, lease) in &leases {
        for address in &lease.addresses {
            assert_eq!(holder(store, *address).as_ref(), Some(owner));
        }
    }
    leases.len()
}
