//! Maglev hashing (Eisenbud et al., NSDI'16, §3.4): which backend each slot of a service's table gets.
//!
//! Every backend fills the table in an order of its own; they take turns. So each gets an equal share, and when
//! one comes or goes the others keep nearly all of theirs. Pure computation: it knows no maps.

use std::net::IpAddr;

use beeline_abi::maglev_size;

use crate::{desired::Backend, fnv};

/// For each slot the index into `backends` of the backend that gets it. Empty without backends.
///
/// The result depends on the set of backends alone, not on their order in the slice, so that all nodes agree.
#[must_use]
pub fn table(backends: &[Backend]) -> Vec<u32> {
    let size = maglev_size(backends.len()) as usize;
    if size == 0 {
        return Vec::new();
    }
    let mut by_name: Vec<u32> = (0u32..).take(backends.len()).collect();
    by_name.sort_by_key(|&index| backends[index as usize]);
    let mut orders: Vec<Order> =
        by_name.iter().map(|&index| Order::new(&backends[index as usize], size)).collect();

    let mut slots = vec![None; size];
    let mut taken = 0;
    'filled: loop {
        for (order, &index) in orders.iter_mut().zip(&by_name) {
            let slot = order.by_ref().find(|&slot| slots[slot].is_none());
            if let Some(slot) = slot {
                slots[slot] = Some(index);
                taken += 1;
            }
            if taken == size {
                break 'filled;
            }
        }
    }
    slots.into_iter().flatten().collect()
}

/// The order in which one backend wants the slots: a permutation, since the size is prime.
struct Order {
    next: usize,
    skip: usize,
    size: usize,
    left: usize,
}

impl Order {
    #[expect(clippy::cast_possible_truncation, reason = "both remainders are below the table's size")]
    fn new(backend: &Backend, size: usize) -> Self {
        let next = (hash(b'n', backend) % size as u64) as usize;
        let skip = match size {
            1 => 0,
            _ => (hash(b's', backend) % (size as u64 - 1)) as usize + 1,
        };
        Self { next, skip, size, left: size }
    }
}

impl Iterator for Order {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let slot = self.next;
        self.next = (self.next + self.skip) % self.size;
        Some(slot)
    }
}

/// The same on all nodes; `seed` tells the two uses apart.
fn hash(seed: u8, backend: &Backend) -> u64 {
    let port = backend.port.get().to_be_bytes();
    let hash = |address: &[u8]| fnv::hash([&[seed], address, &port].concat());
    match backend.address {
        IpAddr::V4(address) => hash(&address.octets()),
        IpAddr::V6(address) => hash(&address.octets()),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, num::NonZeroU16};

    use proptest::prelude::*;

    use super::*;
    use crate::desired::BackendState;

    fn backends(count: u32) -> Vec<Backend> {
        (0..count)
            .map(|n| Backend {
                address: Ipv4Addr::from_bits(0x0af4_0000 + n).into(),
                port: NonZeroU16::new(80).unwrap(),
                state: BackendState::Ready,
            })
            .collect()
    }

    #[test]
    fn shares_are_equal_to_one_percent() {
        for count in [1, 2, 10, 11, 100, 101, 600] {
            let mut shares = vec![0; count];
            for slot in table(&backends(u32::try_from(count).unwrap())) {
                shares[slot as usize] += 1;
            }
            let (least, most) = (shares.iter().min().unwrap(), shares.iter().max().unwrap());
            assert!(most - least <= 1, "{count} backends have shares from {least} to {most}");
        }
    }

    #[test]
    fn a_backend_that_leaves_moves_few_of_the_others_slots() {
        for count in [3_u32, 5, 10, 50, 100, 160, 320] {
            let all = backends(count);
            let before = table(&all);
            for gone in [0, count / 2, count - 1] {
                let left: Vec<_> =
                    all.iter().copied().filter(|&backend| backend != all[gone as usize]).collect();
                let after = table(&left);
                if before.len() != after.len() {
                    continue;
                }
                let moved = before
                    .iter()
                    .zip(&after)
                    .filter(|&(&b, &a)| b != gone && all[b as usize] != left[a as usize])
                    .count();
                let limit = before.len() / count as usize + before.len() / 100;
                assert!(moved <= limit, "{moved} of {} slots moved, {count} backends", before.len());
            }
        }
    }

    proptest! {
        #[test]
        fn the_order_of_backends_does_not_matter(mut all in Just(backends(12)).prop_shuffle()) {
            let shuffled: Vec<_> = table(&all).iter().map(|&i| all[i as usize]).collect();
            all.sort();
            let sorted: Vec<_> = table(&all).iter().map(|&i| all[i as usize]).collect();
            prop_assert_eq!(shuffled, sorted);
        }
    }
}
