//! The hash that picks a slot of a Maglev table: the same on every node, so that all choose alike.

use crate::{Address, Be16, FlowKey};

/// Hash of the whole 5-tuple: each connection is balanced for itself.
#[inline(always)]
pub fn flow_hash<A: Address>(key: &FlowKey<A>) -> u32 {
    let ports = u64::from(key.src_port.0) << 16 | u64::from(key.dst_port.0);
    fold(mix(key.src.word() ^ mix(key.dst.word() ^ mix(ports << 8 | u64::from(key.protocol())))))
}

/// The `attempt`th port that packets named `key` may leave from if their own is taken: from 32768 up, where clients' ports
/// are, and always the same ones.
#[inline(always)]
pub fn source_port<A: Address>(key: &FlowKey<A>, attempt: u32) -> Be16 {
    const STEP: u32 = 0x9e37_79b9;
    let hash = flow_hash(key).wrapping_add(attempt.wrapping_mul(STEP));
    Be16::new((hash >> 16) as u16 | 0x8000)
}

/// `MurmurHash3`'s finalizer: every input bit reaches every output bit.
#[inline(always)]
const fn mix(mut x: u64) -> u64 {
    x ^= x >> 33;
    x = x.wrapping_mul(0xff51_afd7_ed55_8ccd);
    x ^= x >> 33;
    x = x.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    x ^ x >> 33
}

/// Both halves of `x` in one.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "the upper half is folded in first")]
const fn fold(x: u64) -> u32 {
    (x ^ x >> 32) as u32
}
