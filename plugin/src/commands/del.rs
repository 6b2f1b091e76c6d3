//! DEL: takes away all that an ADD made, or began to make. What is not there is no error: runtimes call it
//! again and again, after the namespace went, after a reboot, and for containers that never were.

use beeline_cni::Attachment;

use crate::{
    addressing,
    attachment::{self, Lock},
    error::Result,
    node::Remains,
    settings,
    takedown::{Target, take_down},
};

/// Answers DEL.
pub(super) async fn del(attachment: &Attachment) -> Result<()> {
    let (id, network) = (&attachment.id, &attachment.network);
    let runtime_dir = settings::runtime_dir(network)?;
    let port = attachment::port_name(id);
    // Without the runtime folder nothing was made here since boot, and there is nothing to lock.
    let _lock = if runtime_dir.exists() { Some(Lock::take(&runtime_dir, &port)?) } else { None };
    let mut remains = Remains::open(&runtime_dir)?;
    // One that cannot be read says no more than none: the port's name and the lease suffice.
    let record = remains.records.read(&port).ok().flatten();
    // DEL must not mind a result that cannot be read.
    let result = network.prev_result().ok().flatten();
    let told = result.iter().flat_map(|result| result.addresses_of(&id.ifname)).map(|ip| ip.address.addr());
    let target = Target {
        id,
        record: record.as_ref(),
        told: told.collect(),
        network: addressing::delegate(network).map(|_| network),
        own: true,
    };
    take_down(&mut remains, &target).await
}
