//! GC: takes away what no valid attachment of the network owns, and whatever pods that no longer exist left.

use beeline_cni::Network;

use crate::{
    addressing::{self, Delegated},
    error::Result,
    node::Remains,
    reconcile::{Which, reconcile},
    settings,
};

/// Answers GC. A runtime that does not say what is valid gets back only what certainly is dead.
pub(super) async fn gc(network: &Network) -> Result<()> {
    let runtime_dir = settings::runtime_dir(network)?;
    let valid = network.valid_attachments()?;
    // Without the runtime folder nothing was made here since boot.
    if runtime_dir.exists() {
        let mut remains = Remains::open(&runtime_dir)?;
        reconcile(&mut remains, network, valid.as_ref().map_or(Which::Dead, Which::Invalid)).await?;
    }
    // To another plugin, a list that is not there could mean that nothing is valid.
    match addressing::delegate(network).filter(|_| valid.is_some()) {
        Some(plugin) => Delegated::find(plugin, network)?.gc(network),
        None => Ok(()),
    }
}
