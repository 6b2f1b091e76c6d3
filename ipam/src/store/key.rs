//! The store's keys and values. All keys are in LMDB's unnamed table, which opens without a write.
//!
//! Keys of addresses stand in the order of the addresses, each family by itself, so that a walk over them finds
//! the gaps. Numbers are big endian for the same reason.

use std::{net::IpAddr, ops::RangeInclusive};

use crate::{
    Owner, RangeSet,
    number::{Family, number},
};

/// → [`super::FORMAT`], four bytes, little endian.
pub(super) const FORMAT: &[u8] = b"format";
/// → how many addresses were given while they rested, eight bytes.
pub(super) const EARLY: &[u8] = b"#early";
/// → the serial number of the last lease, eight bytes.
pub(super) const SERIAL: &[u8] = b"#serial";
/// Begins every key of an owner.
pub(super) const OWNERS: &[u8] = b"o";
/// Begins every key of the end of a rest.
pub(super) const RESTS: &[u8] = b"t";
/// Begins every key of a range set's last address.
pub(super) const LAST: &[u8] = b"l";
/// Begins every key of a range set's description.
pub(super) const SETS: &[u8] = b"s";

const V4: u8 = b'4';
const V6: u8 = b'6';

/// An address → its [`Use`]; no entry: free.
pub(super) fn address(address: IpAddr) -> Vec<u8> {
    let (tag, bytes) = match address {
        IpAddr::V4(v4) => (V4, v4.octets().to_vec()),
        IpAddr::V6(v6) => (V6, v6.octets().to_vec()),
    };
    [&[tag], bytes.as_slice()].concat()
}

/// Back from [`address`].
pub(super) fn to_address(key: &[u8]) -> Option<IpAddr> {
    match key.split_first()? {
        (&V4, bytes) => <[u8; 4]>::try_from(bytes).ok().map(IpAddr::from),
        (&V6, bytes) => <[u8; 16]>::try_from(bytes).ok().map(IpAddr::from),
        _ => None,
    }
}

/// First and last key of these addresses.
pub(super) fn span(family: Family, numbers: &RangeInclusive<u128>) -> Option<(Vec<u8>, Vec<u8>)> {
    let key = |number| family.address(number).map(address);
    Some((key(*numbers.start())?, key(*numbers.end())?))
}

/// The number in the key of an address.
pub(super) fn to_number(key: &[u8]) -> Option<u128> {
    to_address(key).map(number)
}

/// An owner → its lease, JSON.
pub(super) fn owner(owner: &Owner) -> Vec<u8> {
    [OWNERS, &owner.to_bytes()].concat()
}

/// The end of an address's rest, in milliseconds since boot → nothing. They stand in the order in which they end.
pub(super) fn rest(until: u64, of: IpAddr) -> Vec<u8> {
    [RESTS, &until.to_be_bytes(), &address(of)].concat()
}

/// Back from [`rest`].
pub(super) fn to_rest(key: &[u8]) -> Option<(u64, IpAddr)> {
    let (until, address) = key.strip_prefix(RESTS)?.split_first_chunk()?;
    Some((u64::from_be_bytes(*until), to_address(address)?))
}

/// A range set, by its first range → the key of the address given last.
pub(super) fn last(set: &RangeSet) -> Vec<u8> {
    [LAST, &set_name(set)].concat()
}

/// A range set, by its first range → its description, JSON.
pub(super) fn set(set: &RangeSet) -> Vec<u8> {
    [SETS, &set_name(set)].concat()
}

/// Later ranges may come and go; the set goes on where it was.
fn set_name(set: &RangeSet) -> Vec<u8> {
    let first = &set.ranges()[0];
    [&first.numbers().start().to_be_bytes(), first.subnet().to_string().as_bytes()].concat()
}

/// Why an address is not free.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Use {
    Held(Owner),
    /// It was given back, and rests until then, in milliseconds since boot.
    Resting(u64),
}

const HELD: u8 = b'h';
const RESTING: u8 = b'r';

impl Use {
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        match self {
            Self::Held(owner) => [&[HELD], owner.to_bytes().as_slice()].concat(),
            Self::Resting(until) => [&[RESTING], until.to_be_bytes().as_slice()].concat(),
        }
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        match bytes.split_first()? {
            (&HELD, owner) => Owner::from_bytes(owner).map(Self::Held),
            (&RESTING, until) => until.try_into().ok().map(u64::from_be_bytes).map(Self::Resting),
            _ => None,
        }
    }
}
