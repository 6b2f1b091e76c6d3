//! What can go wrong with the store, with cause and cure.

use std::{io, net::IpAddr, path::PathBuf};

use crate::{Exclusion, Owner};

/// Why the store did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The owner holds addresses already.
    #[error("{owner} already holds {}: call DEL for it first", list(.addresses))]
    Held {
        /// Who.
        owner: Owner,
        /// What.
        addresses: Vec<IpAddr>,
    },
    /// Every address is held.
    #[error(
        "no free address in {set}: all {size} that pods can have are held (network, broadcast, gateway and excluded \
         addresses are never given); delete pods from this node, or give it a larger or a further range"
    )]
    Exhausted {
        /// The range set.
        set: String,
        /// Addresses it has.
        size: u128,
    },
    /// A wanted address is in no range.
    #[error("{address} cannot be given: it is outside of {sets}; ask for an address of these")]
    OutOfRange {
        /// What was wanted.
        address: IpAddr,
        /// What there is.
        sets: String,
    },
    /// A wanted address is the gateway's.
    #[error("{address} cannot be given: it is a gateway's; ask for another address of {set}")]
    IsGateway {
        /// What was wanted.
        address: IpAddr,
        /// Its range set.
        set: String,
    },
    /// A wanted address is excluded.
    #[error(
        "{address} cannot be given: the configuration excludes {exclusion}; ask for another address of {set}"
    )]
    IsExcluded {
        /// What was wanted.
        address: IpAddr,
        /// By what.
        exclusion: Exclusion,
        /// Its range set.
        set: String,
    },
    /// A wanted address is another's.
    #[error("{address} cannot be given: {owner} holds it; delete that one, or ask for another address")]
    Taken {
        /// What was wanted.
        address: IpAddr,
        /// Who has it.
        owner: Owner,
    },
    /// Two wanted addresses are of one range set.
    #[error(
        "{first} and {second} cannot both be given: they are of one range set ({set}), which gives one address"
    )]
    TwoOfOneSet {
        /// One.
        first: IpAddr,
        /// The other.
        second: IpAddr,
        /// The range set.
        set: String,
    },
    /// The store's folder cannot be made or used.
    #[error("cannot use the address store {path}: {source}")]
    Io {
        /// The folder.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// It cannot be told which sandboxes exist.
    #[error("cannot tell which sandboxes still exist: {0}; nothing was taken back")]
    Sandboxes(io::Error),
    /// The store has grown to its limit.
    #[error("the address store {path} is full: it holds about 250,000 leases; delete pods from this node")]
    Full {
        /// The folder.
        path: PathBuf,
    },
    /// The store is not what this crate writes.
    #[error("the address store {path} is damaged ({what}): stop this node's pods and remove it")]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// The store was made by a later release.
    #[error(
        "the address store {path} has format {found}, this release knows up to {}: use programs of one release, \
         or stop this node's pods and remove it",
        crate::store::FORMAT
    )]
    Format {
        /// The folder.
        path: PathBuf,
        /// The format found.
        found: u32,
    },
    /// The store's library failed.
    #[error("the address store {path} failed: {source}")]
    Failed {
        /// The folder.
        path: PathBuf,
        /// What the library says.
        source: Box<heed::Error>,
    },
}

impl Error {
    /// True if only a privilege is missing.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(
            self,
            Self::Io { source, .. } | Self::Sandboxes(source)
                if source.kind() == io::ErrorKind::PermissionDenied
        )
    }
}

fn list(addresses: &[IpAddr]) -> String {
    addresses.iter().map(IpAddr::to_string).collect::<Vec<_>>().join(" and ")
}
