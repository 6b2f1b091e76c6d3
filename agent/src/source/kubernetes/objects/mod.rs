//! Kubernetes' objects, trimmed to what a node network needs of them, and with addresses and ports understood.
//!
//! There may be 100,000s of endpoints: what is not used is not kept. What makes no sense in an object is left out of
//! it and told as a [`Problem`]; the rest of the object, and all others, stay in use.

mod names;
mod node;
mod service;
mod slice;
mod values;

use k8s_openapi::{apimachinery::pkg::apis::meta::v1::ObjectMeta, jiff::Timestamp};

pub(super) use names::Names;
pub(super) use node::Node;
pub(super) use service::{Port, Service, ServicePort};
pub(super) use slice::Slice;

/// An object's name: `namespace/name`, or `name` alone if its kind has no namespaces.
pub(super) use crate::source::balance::Name;

/// The name of the object that `metadata` is of.
pub(super) fn name(metadata: &ObjectMeta) -> Name {
    let name = metadata.name.as_deref().unwrap_or_default();
    match &metadata.namespace {
        Some(namespace) => format!("{namespace}/{name}").into(),
        None => name.into(),
    }
}

/// When the object that `metadata` is of was made. Of two objects that want the same, the older one has it.
fn created(metadata: &ObjectMeta) -> Timestamp {
    metadata.creation_timestamp.as_ref().map_or(Timestamp::MAX, |time| time.0)
}

/// What is wrong with a part of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Problem {
    /// In one word, for metrics.
    pub(super) reason: Reason,
    /// Cause, and cure where there is one.
    pub(super) message: String,
}

/// Kinds of problems.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Reason {
    /// An address, or a prefix, that is none, or that nobody can send to.
    Address,
    /// A port outside 1 to 65535.
    Port,
    /// A protocol that Beeline does not balance.
    Protocol,
    /// What something older has already: a frontend, a prefix, an address.
    Taken,
    /// An annotation whose value makes no sense.
    Annotation,
    /// More than the dataplane has room for.
    Room,
}

impl Reason {
    /// Its name in metrics and logs.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Port => "port",
            Self::Protocol => "protocol",
            Self::Taken => "taken",
            Self::Annotation => "annotation",
            Self::Room => "room",
        }
    }
}

impl Problem {
    pub(super) fn new(reason: Reason, message: impl Into<String>) -> Self {
        Self { reason, message: message.into() }
    }
}

/// Keeps what is good of a list of values; what is not goes to `problems`.
fn good<T>(result: Result<T, Problem>, problems: &mut Vec<Problem>) -> Option<T> {
    result.map_err(|problem| problems.push(problem)).ok()
}
