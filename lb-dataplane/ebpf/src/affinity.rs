//! Session affinity: which backend a client had last. A miss is no fault: another is chosen then.

use beeline_abi::{Affinity, AffinityKey, Backend, Service};

use crate::{family::Family, maps::Tables, skb::now};

const NANOSECONDS_A_SECOND: u64 = 1_000_000_000;

/// The backend that `client` had of `service`, unless that was too long ago, or it takes nothing new any more.
#[inline(always)]
pub fn find<F: Family>(service: &Service, client: F::Addr) -> Option<(u32, Backend<F::Addr>)> {
    let last = F::Addr::find_affinity(&AffinityKey::new(client, service.id))?;
    let idle = now().saturating_sub(last.last_used);
    if idle > u64::from(service.affinity_timeout_s) * NANOSECONDS_A_SECOND {
        return None;
    }
    let backend = F::Addr::find_backend(last.backend)?;
    if backend.service == service.id && backend.takes_new_flows() {
        Some((last.backend, backend))
    } else {
        None
    }
}

/// Notes that `client`, which has none yet, gets this backend of `service`; unless another connection of its has been given
/// one at the same moment: then they go together, and that one is returned.
#[inline(always)]
pub fn begin<F: Family>(service: &Service, client: F::Addr, backend: u32) -> Option<(u32, Backend<F::Addr>)> {
    let key = AffinityKey::new(client, service.id);
    if F::Addr::begin_affinity(&key, &Affinity { last_used: now(), backend, pad: 0 }) {
        return None;
    }
    let other = find::<F>(service, client);
    if other.is_none() {
        // What is there is out of date.
        keep::<F>(service, client, backend);
    }
    other
}

/// Notes that `client` has this backend of `service`, as of now.
#[inline(always)]
pub fn keep<F: Family>(service: &Service, client: F::Addr, backend: u32) {
    F::Addr::keep_affinity(
        &AffinityKey::new(client, service.id),
        &Affinity { last_used: now(), backend, pad: 0 },
    );
}

/// Notes that `client` still uses this backend of `service`, if it is the one it had last.
#[inline(always)]
pub fn refresh<F: Family>(service: &Service, client: F::Addr, backend: u32) {
    if F::Addr::find_affinity(&AffinityKey::new(client, service.id))
        .is_some_and(|last| last.backend == backend)
    {
        keep::<F>(service, client, backend);
    }
}
