//! STATUS: says whether an ADD would succeed now, and if not why. Runtimes ask every few seconds, so it only
//! opens what ADD would open; but what dead pods hold comes back before a pool is called exhausted.

use std::fmt::Display;

use beeline_cni::{Code, Network};
use lb_dataplane::{AttachMode, Netlink, NodeFile, Ports, Program};

use crate::{
    addressing::Addressing,
    error::{Error, Result},
    node::Remains,
    reconcile::{Which, reconcile},
    settings,
};

/// Answers STATUS.
pub(super) async fn status(network: &Network) -> Result<()> {
    let runtime_dir = settings::runtime_dir(network)?;
    let file = NodeFile::read(&runtime_dir).map_err(|e| unavailable(&e))?;
    ensure_connected(&file).await?;
    Ports::open(&file).map_err(|e| unavailable(&e))?;
    let program = file.pins().program(Program::FromPod);
    if !program.exists() {
        return Err(unavailable(&lb_dataplane::Error::Missing(program)));
    }
    match Addressing::of(network, &runtime_dir, &file).map_err(|e| unavailable(&e))? {
        Addressing::Delegated(delegated) => delegated.status(network),
        Addressing::Own(own) => {
            let Some(usage) = own.exhausted()? else { return Ok(()) };
            // An ADD would take back what is left of pods that no longer exist.
            let mut remains = Remains::open_with(&runtime_dir, Some(own.store()))?;
            let taken_back = reconcile(&mut remains, network, Which::Dead).await?;
            if taken_back > 0 && own.exhausted()?.is_none() {
                return Ok(());
            }
            Err(unavailable(&format!(
                "all {} addresses that pods of this node can have are held: delete pods from this node, or give it a \
                 larger or a further pod CIDR",
                usage.size
            )))
        }
    }
}

/// Fails if even the pods that are there are cut off from other nodes.
async fn ensure_connected(file: &NodeFile) -> Result<()> {
    let limited =
        |why: String| Err(Error::new(Code::LIMITED, format!("pods of this node reach no other node: {why}")));
    let uplink = &file.uplink;
    match Netlink::open()?.link(uplink).await? {
        None => return limited(format!("its uplink {uplink} is gone")),
        Some(link) if !link.up => return limited(format!("its uplink {uplink} is down; bring it up")),
        Some(_) => {}
    }
    // A filter has no pin to look for.
    if file.attach.resolve() == AttachMode::Tcx && !file.pins().link(uplink).exists() {
        return limited(format!(
            "the program on its uplink {uplink} is gone; restart beelined, which puts it back"
        ));
    }
    Ok(())
}

fn unavailable(why: &dyn Display) -> Error {
    Error::new(Code::NOT_AVAILABLE, format!("no pod can be started on this node: {why}"))
}
