//! Typed tables over the pinned maps: opening them, and the plain reads and writes the rest is made of.
//!
//! Nothing here decides what belongs in a table.

use std::{collections::HashMap as StdHashMap, hash::Hash, io};

use aya::{
    Pod,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, lpm_trie::Key},
};
use beeline_abi::{
    Affinity, AffinityKey, Backend, Endpoint, EndpointKey, Flow, FlowKey, FrontendKey, MaglevKey,
    MaglevPiece, Node, Peer, Route, RouteKey, Service, ServiceName, ServiceStats, SourceRange,
    SourceRangeKey, VERSION,
};

use crate::{
    error::{Error, Result},
    pins::Pins,
};

/// Names of all maps in the object, as pinned.
pub(crate) const MAPS: [&str; 27] = [
    "NODE",
    "EPOCH",
    "FLOWS4",
    "FLOWS6",
    "FRAGMENTS4",
    "FRAGMENTS6",
    "FRONTENDS4",
    "FRONTENDS6",
    "SOURCE_RANGES4",
    "SOURCE_RANGES6",
    "AFFINITY4",
    "AFFINITY6",
    "BACKENDS4",
    "BACKENDS6",
    "MAGLEV",
    "ENDPOINTS4",
    "ENDPOINTS6",
    "ROUTES4",
    "ROUTES6",
    "QUOTE",
    "SCRATCH4",
    "SCRATCH6",
    "PEERS",
    "SERVICE_STATS",
    "SERVICE_NAMES",
    "DROPS",
    "HOPS",
];

/// A hash table.
pub(crate) struct Table<K: Pod, V: Pod> {
    name: &'static str,
    map: HashMap<MapData, K, V>,
}

impl<K: Pod + Eq + Hash, V: Pod> Table<K, V> {
    pub(crate) fn open(pins: &Pins, name: &'static str) -> Result<Self> {
        Ok(Self { name, map: open(pins, name)? })
    }

    pub(crate) fn get(&self, key: &K) -> Result<Option<V>> {
        match self.map.get(key, 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(Error::Map { map: self.name, source }),
        }
    }

    pub(crate) fn insert(&mut self, key: K, value: V) -> Result<()> {
        self.map.insert(key, value, 0).map_err(Error::map(self.name))
    }

    /// Removes the entry of `key`, if there is one.
    pub(crate) fn remove(&mut self, key: &K) -> Result<()> {
        gone_is_fine(self.map.remove(key)).map_err(Error::map(self.name))
    }

    /// All keys.
    pub(crate) fn keys(&self) -> Result<Vec<K>> {
        self.map.keys().collect::<Result<_, _>>().map_err(Error::map(self.name))
    }

    /// A copy of the whole table. Entries that come or go meanwhile may or may not be in it.
    pub(crate) fn read(&self) -> Result<StdHashMap<K, V>> {
        self.map
            .iter()
            .filter(|entry| !matches!(entry, Err(MapError::KeyNotFound)))
            .collect::<Result<_, _>>()
            .map_err(Error::map(self.name))
    }
}

/// A table of prefixes: by prefix length, what stands before the address included, and key.
pub(crate) struct Prefixes<K: Pod, V: Pod> {
    name: &'static str,
    map: LpmTrie<MapData, K, V>,
}

impl<K: Pod + Eq + Hash, V: Pod> Prefixes<K, V> {
    pub(crate) fn open(pins: &Pins, name: &'static str) -> Result<Self> {
        Ok(Self { name, map: open(pins, name)? })
    }

    /// The value of the longest prefix that `key` lies in.
    pub(crate) fn get(&self, key: K) -> Result<Option<V>> {
        let bits = u32::try_from(8 * size_of::<K>()).unwrap_or(u32::MAX);
        match self.map.get(&Key::new(bits, key), 0) {
            Ok(value) => Ok(Some(value)),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(source) => Err(Error::Map { map: self.name, source }),
        }
    }

    pub(crate) fn insert(&mut self, (bits, key): (u32, K), value: V) -> Result<()> {
        self.map.insert(&Key::new(bits, key), value, 0).map_err(Error::map(self.name))
    }

    pub(crate) fn remove(&mut self, &(bits, key): &(u32, K)) -> Result<()> {
        gone_is_fine(self.map.remove(&Key::new(bits, key))).map_err(Error::map(self.name))
    }

    pub(crate) fn read(&self) -> Result<StdHashMap<(u32, K), V>> {
        self.map
            .iter()
            .map(|entry| entry.map(|(key, value)| ((key.prefix_len(), key.data()), value)))
            .collect::<Result<_, _>>()
            .map_err(Error::map(self.name))
    }
}

/// One entry, at index 0.
pub(crate) struct Cell<V: Pod> {
    name: &'static str,
    map: Array<MapData, V>,
}

impl<V: Pod> Cell<V> {
    pub(crate) fn open(pins: &Pins, name: &'static str) -> Result<Self> {
        Ok(Self { name, map: open(pins, name)? })
    }

    pub(crate) fn get(&self) -> Result<V> {
        self.map.get(&0, 0).map_err(Error::map(self.name))
    }

    pub(crate) fn set(&mut self, value: V) -> Result<()> {
        self.map.set(0, value, 0).map_err(Error::map(self.name))
    }
}

/// Counters, summed over the CPUs when read.
pub(crate) struct Counters<V: Pod> {
    name: &'static str,
    map: PerCpuArray<MapData, V>,
}

impl<V: Pod> Counters<V> {
    pub(crate) fn open(pins: &Pins, name: &'static str) -> Result<Self> {
        Ok(Self { name, map: open(pins, name)? })
    }

    /// The sum of `index` over the CPUs.
    pub(crate) fn sum(&self, index: u32, add: impl Fn(V, &V) -> V) -> Result<Option<V>> {
        let values = self.map.get(&index, 0).map_err(Error::map(self.name))?;
        Ok(values.iter().copied().reduce(|sum, value| add(sum, &value)))
    }

    pub(crate) fn reset(&mut self, index: u32, zero: V) -> Result<()> {
        let cpus = self.map.get(&index, 0).map_err(Error::map(self.name))?.len();
        let values = aya::maps::PerCpuValues::try_from(vec![zero; cpus])
            .map_err(|source| Error::Map { map: self.name, source: MapError::IoError(source) })?;
        self.map.set(index, values, 0).map_err(Error::map(self.name))
    }
}

/// Shorthands for the tables there are.
pub(crate) type Flows<A> = Table<FlowKey<A>, Flow<A>>;
pub(crate) type Frontends<A> = Table<FrontendKey<A>, Service>;
pub(crate) type Routes<A> = Prefixes<RouteKey<A>, Route>;
pub(crate) type SourceRanges<A> = Prefixes<SourceRangeKey<A>, SourceRange>;
pub(crate) type Backends<A> = Table<u32, Backend<A>>;
pub(crate) type Affinities<A> = Table<AffinityKey<A>, Affinity>;
pub(crate) type Endpoints<A> = Table<EndpointKey<A>, Endpoint>;
pub(crate) type MaglevPieces = Table<MaglevKey, MaglevPiece>;
pub(crate) type Peers = Table<u32, Peer>;
pub(crate) type ServiceNames = Table<u32, ServiceName>;
pub(crate) type Stats = Counters<ServiceStats>;

/// Refuses maps of another layout. Maps that no agent has filled yet are of no layout.
pub(crate) fn check_layout(pins: &Pins) -> Result<()> {
    let found = Cell::<Node>::open(pins, "NODE").map_err(|error| match error {
        // Another size is another layout, of unknown number.
        Error::Map { source: MapError::InvalidValueSize { .. }, .. } => {
            Error::Layout { path: pins.maps(), found: 0 }
        }
        other => other,
    })?;
    match found.get()?.abi_version {
        0 | VERSION => Ok(()),
        found => Err(Error::Layout { path: pins.maps(), found }),
    }
}

fn open<T: TryFrom<Map, Error = MapError>>(pins: &Pins, name: &'static str) -> Result<T> {
    let path = pins.map(name);
    let data = MapData::from_pin(&path).map_err(|source| match &source {
        MapError::SyscallError(e) if e.io_error.kind() == io::ErrorKind::NotFound => Error::Missing(path),
        MapError::SyscallError(e) if e.io_error.kind() == io::ErrorKind::PermissionDenied => {
            Error::NotAllowed
        }
        _ => Error::Map { map: name, source },
    })?;
    Map::from_map_data(data).and_then(T::try_from).map_err(Error::map(name))
}

fn gone_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound) => Ok(()),
        Err(MapError::SyscallError(e)) if e.io_error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// The next id from `*next` up, round after `limit`, that is not taken.
pub(crate) fn next_free(next: &mut u32, limit: u32, taken: impl Fn(u32) -> bool) -> Option<u32> {
    let start = *next;
    loop {
        let id = if *next > limit { 1 } else { *next };
        *next = if id >= limit { 1 } else { id + 1 };
        if !taken(id) {
            return Some(id);
        }
        if *next == start {
            return None;
        }
    }
}

/// Returns when every program run that had begun before has ended.
///
/// TC programs run within an RCU read-side section, and `MEMBARRIER_CMD_GLOBAL` waits for an RCU grace period
/// (membarrier(2)). Where the kernel refuses it, a pause far longer than any run does.
pub(crate) fn wait_for_programs() {
    const MEMBARRIER_CMD_GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes no pointers.
    if unsafe { libc::syscall(libc::SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0) } != 0 {
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// A new value for `EPOCH`: the monotonic clock never gives one twice, so writers need not agree on an order.
pub(crate) fn bump_epoch(epoch: &mut Cell<u64>) -> Result<()> {
    epoch.set(monotonic_ns().max(1))
}

/// Nanoseconds since boot, on the clock that the programs' time stamps are of.
pub(crate) fn monotonic_ns() -> u64 {
    use nix::time::{ClockId, clock_gettime};
    clock_gettime(ClockId::CLOCK_MONOTONIC)
        .map_or(0, |now| u64::try_from(std::time::Duration::from(now).as_nanos()).unwrap_or(u64::MAX))
}
