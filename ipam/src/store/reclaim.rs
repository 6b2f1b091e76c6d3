//! Taking back what nobody uses any more.

use super::Store;
use crate::{Error, Lease, LivingSandboxes, Owner};

impl Store {
    /// Takes back every lease that `keep` does not want kept, and says which these were.
    ///
    /// `keep` is asked before anything is locked, so it may take its time. A lease that changes hands meanwhile is
    /// left alone.
    pub fn retain(&self, mut keep: impl FnMut(&Owner, &Lease) -> bool) -> Result<Vec<(Owner, Lease)>, Error> {
        let leases = self.leases()?;
        self.release_leases(leases.into_iter().filter(|(owner, lease)| !keep(owner, lease)).collect())
    }

    /// The leases whose sandboxes no longer exist. Those that name no sandbox are not among them.
    pub fn orphans(&self) -> Result<Vec<(Owner, Lease)>, Error> {
        let mut living = LivingSandboxes::new();
        let mut orphans = Vec::new();
        for (owner, lease) in self.leases()? {
            if let Some(sandbox) = &lease.sandbox
                && !living.contains(sandbox).map_err(Error::Sandboxes)?
            {
                orphans.push((owner, lease));
            }
        }
        Ok(orphans)
    }

    /// Takes back those of `leases` that are still as they were when they were read, and says which these are.
    pub fn release_leases(&self, leases: Vec<(Owner, Lease)>) -> Result<Vec<(Owner, Lease)>, Error> {
        if leases.is_empty() {
            return Ok(leases);
        }
        let mut txn = self.env.write_txn().map_err(self.failed())?;
        let mut released = Vec::with_capacity(leases.len());
        for (owner, lease) in leases {
            if self.lease_in(&txn, &owner)?.as_ref() == Some(&lease) {
                self.take_back(&mut txn, &owner, &lease)?;
                released.push((owner, lease));
            }
        }
        txn.commit().map_err(self.failed())?;
        Ok(released)
    }
}
