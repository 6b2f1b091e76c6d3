//! Counting: drops by reason, packets by way, and what each service does.

use beeline_abi::{Drop, Hop, ServiceStats};

use crate::maps::{DROPS, HOPS, SERVICE_STATS};

/// One packet dropped for `reason`.
#[inline(always)]
pub fn drop(reason: Drop) {
    if let Some(count) = DROPS.get_ptr_mut(reason as u32) {
        // SAFETY: this CPU's own slot; programs on one CPU do not interrupt each other.
        unsafe { *count += 1 };
    }
}

/// One packet that goes the way `hop`.
#[inline(always)]
pub fn hop(hop: Hop) {
    if let Some(count) = HOPS.get_ptr_mut(hop as u32) {
        // SAFETY: as in `drop`.
        unsafe { *count += 1 };
    }
}

/// Lets `change` count something for service `id`; 0 is no service.
#[inline(always)]
pub fn service(id: u32, change: impl FnOnce(&mut ServiceStats)) {
    if id != 0
        && let Some(stats) = SERVICE_STATS.get_ptr_mut(id)
    {
        // SAFETY: as in `drop`.
        change(unsafe { &mut *stats });
    }
}
