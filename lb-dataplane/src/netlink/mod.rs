//! Links, addresses, routes and neighbours of the kernel: the one place that speaks rtnetlink.
//!
//! It says how to make a thing, never which things a node or a pod should have: that is the agent's and the
//! plugin's. Requests are idempotent where that has a meaning: making what is there and deleting what is not
//! are no errors.

mod address;
mod error;
mod events;
mod link;
mod neighbour;
mod route;
mod rule;
mod veth;
mod vxlan;

#[cfg(test)]
mod tests;

pub use error::NetlinkError;
pub use events::Events;
pub use link::{Link, device_name};
pub use neighbour::Neighbour;
pub use route::{NextHop, Route};
pub use veth::{Veth, VethEnd};
pub use vxlan::Vxlan;

use rtnetlink::sys::AsyncSocket;

use crate::netns::NetNs;

/// An rtnetlink socket in one network namespace. Cheap to clone; clones share the socket.
#[derive(Clone, Debug)]
pub struct Netlink {
    handle: rtnetlink::Handle,
}

impl Netlink {
    /// Opens a socket in this thread's namespace. Must be called within a tokio runtime, which drives the
    /// socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| NetlinkError::NoRuntime)?;
        let (mut connection, handle, _unsolicited) =
            rtnetlink::new_connection().map_err(NetlinkError::Open)?;
        let socket = connection.socket_mut().socket_ref();
        // Errors then carry the kernel's own words, and no copy of the request. Kernels before 4.12 have
        // neither: the error number alone must do there.
        let _ = socket.set_ext_ack(true).and_then(|()| socket.set_cap_ack(true));
        runtime.spawn(connection);
        Ok(Self { handle })
    }

    /// Opens a socket in namespace `netns`; this thread stays where it is.
    pub fn open_in(netns: &NetNs) -> Result<Self, NetlinkError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| NetlinkError::NoRuntime)?;
        netns.run(|| {
            let _context = runtime.enter();
            Self::open()
        })?
    }
}
