//! What a port says of itself: its name, always the same for one interface of one container, and its alias, which
//! tells people and tools whose it is. Knows no links.

use std::fmt::{self, Display, Formatter};

use crate::fnv;

/// Begins the name of every pod's port.
const PREFIX: &str = "bl";
/// Hexadecimal digits after it: as many as `IFNAMSIZ` leaves room for.
const DIGITS: usize = 13;
/// Longest alias of a link, in bytes: `IFALIASZ` less a closing zero of the kernel's, and one of the message's.
const MAX_ALIAS: usize = 254;

/// Whom a port is for: one interface of one container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PortOwner {
    /// The container's id, as the runtime gave it.
    pub container: String,
    /// The interface's name inside the container.
    pub interface: String,
    /// `<namespace>/<name>` of the pod, where the runtime told it.
    pub pod: Option<String>,
}

impl PortOwner {
    /// Name of the port, the host end of the owner's veth pair. It depends on container and interface alone, so
    /// that it is found without a record.
    #[must_use]
    pub fn port_name(&self) -> String {
        let bytes = self.container.bytes().chain([0]).chain(self.interface.bytes());
        format!("{PREFIX}{:0DIGITS$x}", fnv::hash(bytes) >> 12)
    }

    /// The port's alias: the owner in words, cut to what a link can keep.
    #[must_use]
    pub fn alias(&self) -> String {
        let mut alias = self.to_string();
        alias.truncate(alias.floor_char_boundary(MAX_ALIAS));
        alias
    }

    /// Reads a link's alias; `None` if it is no port's.
    #[must_use]
    pub fn from_alias(alias: &str) -> Option<Self> {
        let mut words = alias.split(' ').filter(|word| !word.is_empty());
        let owner = Self {
            container: words.next()?.to_owned(),
            interface: words.next()?.to_owned(),
            pod: words.next().map(str::to_owned),
        };
        words.next().is_none().then_some(owner)
    }

    /// True if `alias` is one of this owner's port, whichever pod it names.
    #[must_use]
    pub fn has_alias(&self, alias: &str) -> bool {
        let without_pod = Self { pod: None, ..self.clone() };
        alias.strip_prefix(&without_pod.alias()).is_some_and(|rest| rest.is_empty() || rest.starts_with(' '))
    }
}

impl Display for PortOwner {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.container, self.interface)?;
        match &self.pod {
            Some(pod) => write!(f, " {pod}"),
            None => Ok(()),
        }
    }
}

/// True if a pod's port may be called `name`.
#[must_use]
pub fn is_port_name(name: &str) -> bool {
    name.strip_prefix(PREFIX)
        .is_some_and(|digits| digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owner(container: &str, interface: &str, pod: Option<&str>) -> PortOwner {
        PortOwner { container: container.into(), interface: interface.into(), pod: pod.map(str::to_owned) }
    }

    #[test]
    fn port_names_never_change() {
        // If this fails, pods that run now could not be deleted by the new release.
        assert_eq!(owner("c0ffee", "eth0", None).port_name(), "bl5b2a11d004546");
        assert_eq!(
            owner("c0ffee", "eth0", Some("default/web")).port_name(),
            owner("c0ffee", "eth0", None).port_name()
        );
        assert_ne!(owner("c0ffee", "eth1", None).port_name(), owner("c0ffee", "eth0", None).port_name());
    }

    #[test]
    fn port_names_are_known_from_others() {
        for container in ["c0ffee", "", &"f".repeat(64)] {
            let name = owner(container, "eth0", None).port_name();
            assert!(is_port_name(&name) && name.len() == 15, "{name}");
        }
        for name in ["eth0", "bl0", "blue0", "bl5b2a11d00454g", "br5b2a11d004546", "bl5b2a11d0045461"] {
            assert!(!is_port_name(name), "{name}");
        }
    }

    #[test]
    fn an_alias_tells_whose_the_port_is() {
        for owner in [owner("c0ffee", "eth0", None), owner("c0ffee", "eth0", Some("default/web"))] {
            assert_eq!(PortOwner::from_alias(&owner.alias()), Some(owner));
        }
        for alias in ["somebody's own words, and many", "uplink", "", " ", "uplink "] {
            assert_eq!(PortOwner::from_alias(alias), None, "{alias:?}");
        }
        let mine = owner("c0ffee", "eth0", Some("default/web"));
        for (alias, ours) in [
            ("c0ffee eth0", true),
            ("c0ffee eth0 default/web", true),
            ("c0ffee eth01", false),
            ("other eth0", false),
        ] {
            assert_eq!(mine.has_alias(alias), ours, "{alias}");
        }
    }

    #[test]
    fn a_long_alias_is_cut_and_still_the_owners() {
        let long = owner(&"é".repeat(127), "eth0", Some("default/web"));
        assert!(long.alias().len() <= MAX_ALIAS);
        assert!(long.has_alias(&long.alias()));
    }
}
