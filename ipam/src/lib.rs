//! Address allocation for pods: who holds which address of this node, in one store that all processes share.
//!
//! It knows no CNI, no links and no agent. A caller says who asks ([`Owner`]), from what ([`RangeSet`]) and for
//! which sandbox ([`Sandbox`]); the [`Store`] answers with a [`Lease`], in one transaction that either happened or
//! did not, whoever is killed.
//!
//! ```
//! use beeline_ipam::{Owner, RangeConfig, RangeSet, Request, Store};
//!
//! # let dir = tempfile::tempdir()?;
//! let store = Store::open(&dir.path().join("ipam"))?;
//! let sets = RangeSet::several(&[
//!     vec![RangeConfig::from("10.244.1.0/24".parse::<ipnet::IpNet>()?)],
//!     vec![RangeConfig::from("fd00:1::/64".parse::<ipnet::IpNet>()?)],
//! ])?;
//! let owner = Owner::new("c0ffee", "eth0")?;
//!
//! let lease = store.reserve(&Request::new(&owner, &sets))?;
//! assert_eq!(lease.addresses[0], "10.244.1.2".parse::<std::net::IpAddr>()?); // .1 is the gateway's
//! assert_eq!(lease.addresses[1], "fd00:1::2".parse::<std::net::IpAddr>()?);
//! assert_eq!(store.usage(&sets[0])?.held, 1);
//!
//! store.release(&owner)?;
//! store.release(&owner)?; // Releasing what is not held is fine.
//! assert_eq!(store.usage(&sets[0])?.resting, 1);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod clock;
mod error;
mod lease;
mod number;
mod owner;
mod range;
mod range_set;
mod request;
mod sandbox;
mod settings;
mod store;

pub use clock::Clock;
pub use error::Error;
pub use lease::Lease;
pub use owner::{InvalidOwner, Owner};
pub use range::{Exclusion, InvalidRange, Range, RangeConfig};
pub use range_set::{RangeSet, Refusal};
pub use request::{DEFAULT_COOLDOWN, Request};
pub use sandbox::{LivingSandboxes, Sandbox};
pub use settings::{InvalidSettings, Settings};
pub use store::{Store, Usage};
