//! What ADD has done so far, and how each of it is undone, last first.

use std::net::IpAddr;

use beeline_cni::Attachment;

use crate::{
    addressing::Addressing,
    error::{Error, Result},
    node::Node,
    record::Records,
};

/// Something done.
#[derive(Debug)]
pub(crate) enum Done {
    /// The attachment's record was written.
    Record,
    /// Addresses were given, or may have been.
    Addresses,
    /// A veth pair was made.
    Pair,
    /// The program was attached to the port, or may have been.
    Program,
    /// An endpoint entry was made, or may have been.
    Endpoint(IpAddr),
}

/// All that was done, in order.
#[derive(Debug, Default)]
pub(crate) struct Undo(Vec<Done>);

/// What undoing needs.
pub(crate) struct Means<'a> {
    pub(crate) node: &'a mut Node,
    pub(crate) addressing: &'a Addressing,
    pub(crate) records: &'a Records,
    pub(crate) attachment: &'a Attachment,
    pub(crate) port: &'a str,
}

impl Undo {
    /// Notes what was done.
    pub(crate) fn note(&mut self, done: Done) {
        self.0.push(done);
    }

    /// Undoes all of it, last first, and adds to the failure what could not be undone. Going on after a
    /// failure leaves the least behind.
    pub(crate) async fn roll_back(self, means: Means<'_>, mut failure: Error) -> Error {
        let Means { node, addressing, records, attachment, port } = means;
        for done in self.0.into_iter().rev() {
            let result: Result<()> = match &done {
                Done::Endpoint(address) => node.ports.remove_endpoint(*address).map_err(Into::into),
                Done::Program => node.ports.detach(port).map_err(Into::into),
                Done::Pair => node.host.delete_link_named(port).await.map_err(Into::into),
                Done::Addresses => addressing.take_back(attachment),
                Done::Record => records.remove(port),
            };
            if let Err(error) = result {
                failure = failure.with_details(format!("undoing {done:?} failed: {error}"));
            }
        }
        failure
    }
}
