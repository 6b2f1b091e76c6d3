//! SCTP's checksum (RFC 9260, appendix A): a CRC32c of the whole packet, of its ports therefore, and of no address.
//!
//! A CRC is linear: what a change of the ports makes of it depends on nothing but that change and how many bytes
//! follow, so that no byte of these need be read.

use beeline_abi::Drop;

use crate::skb::Skb;

/// Byte of the checksum in the header.
const CHECKSUM_AT: usize = 8;
/// Castagnoli's polynomial; bits reflected, as in all that follows.
const POLYNOMIAL: u32 = 0x82f6_3b78;
/// What follows a remainder changes it by a linear map, kept as what it makes of each nibble: `SHIFTS[digit][value]` is
/// that of `value << (4 * digit)` bytes. Look-ups, because the verifier would follow a multiplication bit by bit from
/// every path that leads to it.
static SHIFTS: [[[[u32; 16]; 8]; 16]; 4] = shifts();

/// Mends the checksum of the packet of `len` bytes at byte `l4` for ports that change from `old` to `new` (both of them
/// as they stand in the packet).
///
/// A checksum of 0 stays: it is one that a device is to fill in later (veth does without between pods), or that is not
/// used (RFC 9653).
#[inline(always)]
pub fn mend_checksum(skb: Skb, l4: usize, len: u32, old: u32, new: u32) -> Result<(), Drop> {
    let checksum: u32 = skb.read(l4 + CHECKSUM_AT)?;
    if checksum == 0 {
        return Ok(());
    }
    // The wire has it with the least significant byte first.
    let difference = difference(u32::from_le(old ^ new), len);
    skb.write(l4 + CHECKSUM_AT, checksum ^ difference.to_le())
}

/// What flipping the bits `change` in the first four of `len` bytes does to their CRC32c.
#[inline(always)]
const fn difference(change: u32, len: u32) -> u32 {
    let mut remainder = change;
    let mut digit = 0;
    while digit < 4 {
        let nibbles = &SHIFTS[digit][(len >> (4 * digit) & 0xf) as usize];
        let mut shifted = 0;
        let mut n = 0;
        while n < 8 {
            shifted ^= nibbles[n][(remainder >> (4 * n) & 0xf) as usize];
            n += 1;
        }
        remainder = shifted;
        digit += 1;
    }
    remainder
}

// By a CRC32c of so many bytes, computed bit by bit elsewhere: packets in tests are shorter.
const _: () = assert!(difference(0x1234_5678, 0xfedc) == 0xf63e_923d);

const fn shifts() -> [[[[u32; 16]; 8]; 16]; 4] {
    const ONE: u32 = 1 << 31;
    const X_TO_THE_8: u32 = ONE >> 8;
    let mut shifts = [[[[0; 16]; 8]; 16]; 4];
    // x to the 8th, and what that is to the 16th, 256th and 4096th.
    let mut step = X_TO_THE_8;
    let mut digit = 0;
    while digit < 4 {
        let mut power = ONE;
        let mut value = 0;
        while value < 16 {
            let mut n = 0;
            while n < 8 {
                let mut nibble = 0;
                while nibble < 16 {
                    shifts[digit][value][n][nibble] = multiply(power, (nibble as u32) << (4 * n));
                    nibble += 1;
                }
                n += 1;
            }
            power = multiply(power, step);
            value += 1;
        }
        step = power;
        digit += 1;
    }
    shifts
}

/// `a * b` modulo the polynomial.
const fn multiply(a: u32, mut b: u32) -> u32 {
    let mut product = 0;
    let mut power = 0;
    while power < 32 {
        product ^= b & 0_u32.wrapping_sub(a >> (31 - power) & 1);
        b = b >> 1 ^ POLYNOMIAL & 0_u32.wrapping_sub(b & 1);
        power += 1;
    }
    product
}
