//! Events: the kernel tells that links, addresses or routes changed. What changed is for the listener to look
//! up.

use futures_util::{FutureExt, StreamExt, stream::BoxStream};
use rtnetlink::MulticastGroup;

use super::NetlinkError;

/// A subscription to the changes of one network namespace.
pub struct Events {
    changes: BoxStream<'static, ()>,
}

impl Events {
    /// Subscribes in this thread's namespace. Must be called within a tokio runtime, which drives the socket.
    pub fn open() -> Result<Self, NetlinkError> {
        let runtime = tokio::runtime::Handle::try_current().map_err(|_| NetlinkError::NoRuntime)?;
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Ipv6Ifaddr,
            MulticastGroup::Ipv6Route,
        ];
        let (connection, _handle, messages) =
            rtnetlink::new_multicast_connection(&groups).map_err(NetlinkError::Open)?;
        runtime.spawn(connection);
        Ok(Self { changes: messages.map(|_| ()).boxed() })
    }

    /// Waits for a change, and takes all that have been told by then as one. Never returns if the socket is
    /// lost.
    pub async fn changed(&mut self) {
        if self.changes.next().await.is_none() {
            std::future::pending::<()>().await;
        }
        while let Some(Some(())) = self.changes.next().now_or_never() {}
    }
}
