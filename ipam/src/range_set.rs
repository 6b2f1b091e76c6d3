//! Range sets: the addresses of one family of which a pod is given one, and the order in which they are tried.

use std::{fmt, net::IpAddr, ops::RangeInclusive};

use serde::{Deserialize, Serialize};

use crate::{
    Exclusion, InvalidRange, Range, RangeConfig,
    number::{Family, number},
};

/// Addresses to choose one from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Described", into = "Described")]
pub struct RangeSet {
    /// At least one, all of one family, none with an address of another's.
    ranges: Vec<Range>,
    /// Never given, whichever range they lie in.
    gateways: Vec<IpAddr>,
    /// What remains of the ranges without gateways and exclusions, in their order.
    free: Vec<RangeInclusive<u128>>,
}

/// A set as it is stored.
#[derive(Serialize, Deserialize)]
struct Described {
    ranges: Vec<RangeConfig>,
    /// Those of other sets, too.
    gateways: Vec<IpAddr>,
}

impl TryFrom<Described> for RangeSet {
    type Error = InvalidRange;

    fn try_from(described: Described) -> Result<Self, InvalidRange> {
        let set = Self::new(&described.ranges)?;
        Ok(Self::build(set.ranges, described.gateways))
    }
}

impl From<RangeSet> for Described {
    fn from(set: RangeSet) -> Self {
        Self { ranges: set.ranges.iter().map(Range::to_config).collect(), gateways: set.gateways }
    }
}

/// Why an address is never given.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It lies in no range.
    #[error("it is outside of the ranges")]
    OutOfRange,
    /// It is a gateway.
    #[error("it is a gateway's")]
    Gateway,
    /// The configuration excludes it.
    #[error("the configuration excludes {0}")]
    Excluded(Exclusion),
}

impl RangeSet {
    /// One set of these ranges.
    pub fn new(ranges: &[RangeConfig]) -> Result<Self, InvalidRange> {
        let ranges: Vec<_> = ranges.iter().map(Range::new).collect::<Result<_, _>>()?;
        check_apart(&ranges)?;
        let gateways: Vec<_> = ranges.iter().filter_map(Range::gateway).collect();
        Ok(Self::build(ranges, gateways))
    }

    /// A set of each of these lists. No address is in two of them, and no set gives another's gateway.
    pub fn several(sets: &[Vec<RangeConfig>]) -> Result<Vec<Self>, InvalidRange> {
        let sets: Vec<_> = sets.iter().map(|ranges| Self::new(ranges)).collect::<Result<_, _>>()?;
        for (i, a) in sets.iter().enumerate() {
            for b in sets[..i].iter().flat_map(|set| &set.ranges) {
                if let Some(a) = a.ranges.iter().find(|a| overlap(a, b)) {
                    return Err(InvalidRange::Overlap(b.to_string(), a.to_string()));
                }
            }
        }
        let gateways: Vec<_> = sets.iter().flat_map(|set| set.gateways.iter().copied()).collect();
        Ok(sets.into_iter().map(|set| Self::build(set.ranges, gateways.clone())).collect())
    }

    fn build(ranges: Vec<Range>, mut gateways: Vec<IpAddr>) -> Self {
        let family = ranges[0].family();
        gateways.retain(|gateway| Family::of(*gateway) == family);
        let taken: Vec<_> = gateways.iter().map(|gateway| number(*gateway)..=number(*gateway)).collect();
        let free = |range: &Range| {
            let exclusions = range.exclusions().iter().map(Exclusion::numbers);
            without(range.numbers(), exclusions.chain(taken.iter().cloned()))
        };
        let free = ranges.iter().flat_map(free).collect();
        Self { ranges, gateways, free }
    }

    /// Its ranges; at least one.
    #[must_use]
    pub fn ranges(&self) -> &[Range] {
        &self.ranges
    }

    /// The range that `address` belongs to.
    #[must_use]
    pub fn range_of(&self, address: IpAddr) -> Option<&Range> {
        self.ranges.iter().find(|range| range.spans(address))
    }

    /// How many addresses can be given at all.
    #[must_use]
    pub fn size(&self) -> u128 {
        self.free
            .iter()
            .fold(0, |sum, part| sum.saturating_add((part.end() - part.start()).saturating_add(1)))
    }

    /// True if `address` can be given.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.refusal(address).is_none()
    }

    /// Why `address` is never given, if so.
    #[must_use]
    pub fn refusal(&self, address: IpAddr) -> Option<Refusal> {
        if self.gateways.contains(&address) {
            return Some(Refusal::Gateway);
        }
        let Some(range) = self.range_of(address) else {
            return Some(Refusal::OutOfRange);
        };
        let excludes = |exclusion: &&Exclusion| exclusion.numbers().contains(&number(address));
        range.exclusions().iter().find(excludes).map(|exclusion| Refusal::Excluded(*exclusion))
    }

    /// True if `address` is in a subnet of the set, given or not.
    pub(crate) fn concerns(&self, address: IpAddr) -> bool {
        self.ranges.iter().any(|range| range.subnet().contains(&address))
    }

    pub(crate) fn family(&self) -> Family {
        self.ranges[0].family()
    }

    /// All that can be given.
    pub(crate) fn free(&self) -> &[RangeInclusive<u128>] {
        &self.free
    }

    /// All that can be given, once, beginning after `last` and going round.
    pub(crate) fn round_robin(&self, last: Option<IpAddr>) -> Vec<RangeInclusive<u128>> {
        let last = last.filter(|address| Family::of(*address) == self.family()).map(number);
        let at = last.and_then(|last| Some((self.free.iter().position(|part| part.contains(&last))?, last)));
        let Some((at, last)) = at else {
            return self.free.clone();
        };
        // The part that `last` is in comes twice: what is after it first, what is up to it at the very end.
        let part = &self.free[at];
        let mut order = Vec::with_capacity(self.free.len() + 1);
        if last < *part.end() {
            order.push(last + 1..=*part.end());
        }
        order.extend_from_slice(&self.free[at + 1..]);
        order.extend_from_slice(&self.free[..at]);
        order.push(*part.start()..=last);
        order
    }
}

impl fmt::Display for RangeSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, range) in self.ranges.iter().enumerate() {
            write!(f, "{}{range}", if i > 0 { ", " } else { "" })?;
        }
        Ok(())
    }
}

fn check_apart(ranges: &[Range]) -> Result<(), InvalidRange> {
    let first = ranges.first().ok_or(InvalidRange::Empty)?;
    for (i, a) in ranges.iter().enumerate() {
        if a.family() != first.family() {
            return Err(InvalidRange::Mixed(first.subnet(), a.subnet()));
        }
        if let Some(b) = ranges[..i].iter().find(|b| overlap(a, b)) {
            return Err(InvalidRange::Overlap(b.to_string(), a.to_string()));
        }
    }
    Ok(())
}

fn overlap(a: &Range, b: &Range) -> bool {
    let (one, other) = (a.numbers(), b.numbers());
    a.family() == b.family() && one.start() <= other.end() && other.start() <= one.end()
}

/// What remains of `whole` without `holes`, which may overlap and come in any order.
fn without(
    whole: &RangeInclusive<u128>,
    holes: impl Iterator<Item = RangeInclusive<u128>>,
) -> Vec<RangeInclusive<u128>> {
    let mut holes: Vec<_> = holes.collect();
    holes.sort_by_key(|hole| *hole.start());
    let mut rest = Vec::new();
    let mut next = *whole.start();
    for hole in holes {
        if *hole.start() > next {
            rest.push(next..=(hole.start() - 1).min(*whole.end()));
        }
        let Some(after) = hole.end().checked_add(1) else {
            return rest;
        };
        next = next.max(after);
        if next > *whole.end() {
            return rest;
        }
    }
    if next <= *whole.end() {
        rest.push(next..=*whole.end());
    }
    rest
}
