//! Addresses as they stand in packets: IP addresses, ports, MACs, and the 24-bit VNI.

/// An IP address in network byte order: plain bytes. Implemented by each family; everything above is generic over
/// it.
pub trait Address: Copy + PartialEq + Eq + 'static {
    /// Bits of an address.
    const BITS: u32;
    /// All zeroes, which stands for "none" in map values.
    const NONE: Self;

    /// The MAC that every Beeline node derives for this address in the overlay, so that none has to ask.
    fn mac(self) -> Mac;
    /// One word that differs wherever addresses differ, as far as 64 bits can: what hashes start from.
    fn word(self) -> u64;
    /// Checksum difference that a header's change from `self` to `to` makes (RFC 1624), as `bpf_csum_diff`.
    fn checksum_delta(self, to: Self) -> u32;
    /// One's complement sum of its words: what it adds to a pseudo header.
    fn sum(self) -> u32;
    /// What stands for a node's own processes where a service leads them back to the host's stack, which takes nothing from
    /// an address of its own: the first address of the node's pod prefix, which nobody has. `self` is the second, the
    /// node's own (its gateway address); [`Address::NONE`] if it cannot be.
    #[must_use]
    fn service_loopback(self) -> Self;
    /// True for an address of many, which the overlay leads nowhere.
    fn is_multicast(self) -> bool;
    /// True if this is the IPv4 address `word` (network byte order), such as a tunnel end's.
    fn is_ipv4(self, word: u32) -> bool;
}

/// The last bit of a word as it stands in a packet.
const LAST_BIT: u32 = 1_u32.to_be();

/// An IPv4 address: the four bytes of the wire, as one aligned word.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Inet4(pub u32);

impl Inet4 {
    /// From the bytes in wire order.
    #[must_use]
    pub const fn from_octets(octets: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(octets))
    }

    /// The bytes in wire order.
    #[must_use]
    pub const fn octets(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl Address for Inet4 {
    const BITS: u32 = 32;
    const NONE: Self = Self(0);

    #[inline(always)]
    fn mac(self) -> Mac {
        let [a, b, c, d] = self.octets();
        Mac([0x0a, 0x58, a, b, c, d])
    }

    #[inline(always)]
    fn word(self) -> u64 {
        u64::from(self.0)
    }

    #[inline(always)]
    fn checksum_delta(self, to: Self) -> u32 {
        fold(u64::from(!self.0) + u64::from(to.0))
    }

    #[inline(always)]
    fn sum(self) -> u32 {
        self.0
    }

    #[inline(always)]
    fn service_loopback(self) -> Self {
        if self.0 & LAST_BIT == 0 { Self::NONE } else { Self(self.0 ^ LAST_BIT) }
    }

    #[inline(always)]
    fn is_multicast(self) -> bool {
        self.octets()[0] & 0xf0 == 0xe0
    }

    #[inline(always)]
    fn is_ipv4(self, word: u32) -> bool {
        self.0 == word
    }
}

/// An IPv6 address: the sixteen bytes of the wire, as four aligned words.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Inet6(pub [u32; 4]);

impl Inet6 {
    /// From the bytes in wire order.
    #[must_use]
    pub fn from_octets(octets: [u8; 16]) -> Self {
        let mut words = [0; 4];
        for (word, bytes) in words.iter_mut().zip(octets.as_chunks::<4>().0) {
            *word = u32::from_ne_bytes(*bytes);
        }
        Self(words)
    }

    /// The bytes in wire order.
    #[must_use]
    pub fn octets(self) -> [u8; 16] {
        let mut octets = [0; 16];
        for (bytes, word) in octets.as_chunks_mut::<4>().0.iter_mut().zip(self.0) {
            *bytes = word.to_ne_bytes();
        }
        octets
    }
}

impl Address for Inet6 {
    const BITS: u32 = 128;
    const NONE: Self = Self([0; 4]);

    /// Four bytes cannot hold the address: they are its hash (FNV-1a, in words).
    #[inline(always)]
    fn mac(self) -> Mac {
        const OFFSET: u32 = 0x811c_9dc5;
        const PRIME: u32 = 0x0100_0193;
        let mut hash = OFFSET;
        let mut index = 0;
        while index < 4 {
            hash = (hash ^ u32::from_be(self.0[index])).wrapping_mul(PRIME);
            hash ^= hash >> 15;
            index += 1;
        }
        let [a, b, c, d] = hash.to_be_bytes();
        Mac([0x0a, 0x58, a, b, c, d])
    }

    #[inline(always)]
    fn word(self) -> u64 {
        let [a, b, c, d] = self.0;
        let (prefix, host) = (u64::from(a) << 32 | u64::from(b), u64::from(c) << 32 | u64::from(d));
        // Odd, so that no two prefixes fall together for one host part.
        prefix.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ host
    }

    #[inline(always)]
    fn checksum_delta(self, to: Self) -> u32 {
        let mut sum = 0;
        let mut index = 0;
        while index < 4 {
            sum += u64::from(!self.0[index]) + u64::from(to.0[index]);
            index += 1;
        }
        fold(sum)
    }

    #[inline(always)]
    fn sum(self) -> u32 {
        let [a, b, c, d] = self.0;
        fold(u64::from(a) + u64::from(b) + u64::from(c) + u64::from(d))
    }

    #[inline(always)]
    fn service_loopback(self) -> Self {
        let [a, b, c, d] = self.0;
        if d & LAST_BIT == 0 { Self::NONE } else { Self([a, b, c, d ^ LAST_BIT]) }
    }

    #[inline(always)]
    fn is_multicast(self) -> bool {
        self.0[0].to_ne_bytes()[0] == 0xff
    }

    #[inline(always)]
    fn is_ipv4(self, _: u32) -> bool {
        false
    }
}

/// A sum of words as a one's complement sum. Without a branch: the verifier would follow each.
#[inline(always)]
#[expect(clippy::cast_possible_truncation, reason = "nothing is left above after folding twice")]
const fn fold(sum: u64) -> u32 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    ((sum & 0xffff_ffff) + (sum >> 32)) as u32
}

/// Two checksum differences as one.
#[inline(always)]
#[must_use]
pub const fn add_checksums(one: u32, other: u32) -> u32 {
    fold(one as u64 + other as u64)
}

#[cfg(feature = "user")]
impl From<core::net::Ipv6Addr> for Inet6 {
    fn from(addr: core::net::Ipv6Addr) -> Self {
        Self::from_octets(addr.octets())
    }
}

#[cfg(feature = "user")]
impl From<Inet6> for core::net::Ipv6Addr {
    fn from(addr: Inet6) -> Self {
        Self::from(addr.octets())
    }
}

#[cfg(feature = "user")]
impl From<core::net::Ipv4Addr> for Inet4 {
    fn from(addr: core::net::Ipv4Addr) -> Self {
        Self::from_octets(addr.octets())
    }
}

#[cfg(feature = "user")]
impl From<Inet4> for core::net::Ipv4Addr {
    fn from(addr: Inet4) -> Self {
        Self::from(addr.octets())
    }
}

/// A 16-bit number in network byte order: a port, or an ether type.
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Be16(pub u16);

impl Be16 {
    /// From the machine's own byte order.
    #[must_use]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// In the machine's own byte order.
    #[must_use]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }
}

/// An Ethernet address. Aligned to two bytes, as it is in a packet, so that it is copied and compared in words.
#[repr(C, align(2))]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All zeroes, which stands for "none" in map values.
    pub const NONE: Self = Self([0; 6]);
    /// The MAC of every port's host end, derived from the gateway address 169.254.1.1 that pods route to.
    pub const GATEWAY: Self = Self([0x0a, 0x58, 169, 254, 1, 1]);
}

#[cfg(feature = "user")]
impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        for (index, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

/// A VXLAN network identifier: 24 bits (RFC 7348 §5).
#[repr(transparent)]
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default)]
pub struct Vni(u32);

impl Vni {
    /// `None` if `vni` does not fit 24 bits.
    #[must_use]
    pub const fn new(vni: u32) -> Option<Self> {
        if vni < 1 << 24 { Some(Self(vni)) } else { None }
    }

    /// As a number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}
