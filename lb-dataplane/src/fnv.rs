//! The hash for whatever outlives a process or must be the same on all nodes: names, digests, shares of a service.
//!
//! It is stable across machines and releases, unlike the standard library's, and no protection against people who
//! want two things to look alike.

/// FNV-1a (draft-eastlake-fnv), then the finalizer of `MurmurHash3`, so that every bit depends on every byte.
#[must_use]
pub fn hash(bytes: impl IntoIterator<Item = u8>) -> u64 {
    let mut hash = fnv1a(bytes);
    for factor in [0xff51_afd7_ed55_8ccd_u64, 0xc4ce_b9fe_1a85_ec53] {
        hash = (hash ^ (hash >> 33)).wrapping_mul(factor);
    }
    hash ^ (hash >> 33)
}

/// The upper half of [`hash`], for where eight hexadecimal digits must do.
#[must_use]
pub fn short(bytes: impl IntoIterator<Item = u8>) -> u32 {
    let [a, b, c, d, ..] = hash(bytes).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

fn fnv1a(bytes: impl IntoIterator<Item = u8>) -> u64 {
    bytes
        .into_iter()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_drafts() {
        assert_eq!(fnv1a(*b""), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a(*b"a"), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(fnv1a(*b"foobar"), 0x8594_4171_f739_67e8);
    }

    #[test]
    fn it_never_changes() {
        // If this fails, nodes of two releases would choose different backends, and ports would not be found.
        assert_eq!(hash(*b"c0ffee\0eth0") >> 12, 0x5_b2a1_1d00_4546);
        assert_eq!(u64::from(short(*b"c0ffee\0eth0")), hash(*b"c0ffee\0eth0") >> 32);
    }
}
