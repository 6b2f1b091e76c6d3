//! Owners: one interface of one container, the unit that addresses are held by (CNI's "attachment").

use std::fmt;

/// Longest container id taken. CNI names no limit; file names, which ids become elsewhere, end here.
const MAX_CONTAINER_ID: usize = 255;
/// `IFNAMSIZ` less its closing zero.
const MAX_IFNAME: usize = 15;

/// Who holds an address.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Owner {
    container_id: String,
    ifname: String,
}

/// Why something cannot be an owner.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{value}` cannot be {what}: it must have 1 to {max} characters, none of them a zero byte")]
pub struct InvalidOwner {
    what: &'static str,
    value: String,
    max: usize,
}

impl Owner {
    /// Interface `ifname` of container `container_id`.
    pub fn new(container_id: impl Into<String>, ifname: impl Into<String>) -> Result<Self, InvalidOwner> {
        Ok(Self {
            container_id: checked("a container id", container_id.into(), MAX_CONTAINER_ID)?,
            ifname: checked("an interface name", ifname.into(), MAX_IFNAME)?,
        })
    }

    /// The container.
    #[must_use]
    pub fn container_id(&self) -> &str {
        &self.container_id
    }

    /// The interface inside the container.
    #[must_use]
    pub fn ifname(&self) -> &str {
        &self.ifname
    }

    /// As stored: both names, a zero byte between them.
    pub(crate) fn to_bytes(&self) -> Vec<u8> {
        [self.container_id.as_bytes(), b"\0", self.ifname.as_bytes()].concat()
    }

    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (container_id, ifname) = std::str::from_utf8(bytes).ok()?.split_once('\0')?;
        Self::new(container_id, ifname).ok()
    }
}

fn checked(what: &'static str, value: String, max: usize) -> Result<String, InvalidOwner> {
    if value.is_empty() || value.len() > max || value.contains('\0') {
        return Err(InvalidOwner { what, value, max });
    }
    Ok(value)
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of container {}", self.ifname, self.container_id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_survive_the_store() {
        let owner = Owner::new("C0ffee_1.2-3", "eth0").unwrap();
        assert_eq!(Owner::from_bytes(&owner.to_bytes()), Some(owner));
    }

    #[test]
    fn what_cannot_be_stored_apart_is_refused() {
        for (id, ifname) in
            [("", "eth0"), ("c", ""), ("c\0d", "eth0"), ("c", "sixteen-letters."), (&"x".repeat(256), "eth0")]
        {
            assert!(Owner::new(id, ifname).is_err(), "{id:?} {ifname:?}");
        }
    }
}
