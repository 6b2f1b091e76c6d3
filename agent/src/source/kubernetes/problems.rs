//! What is wrong with objects: each told once in the log when it comes and when it goes, and counted while it lasts.

use std::collections::BTreeMap;

use super::objects::{Name, Problem};
use crate::metrics::Metrics;

/// A kind of object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Node,
    Service,
    EndpointSlice,
}

impl Kind {
    /// As Kubernetes calls it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Node => "Node",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
        }
    }
}

/// Where a problem showed: an object is looked at by itself, then among the others, and then the maps must have room for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Reading,
    Placing,
    Fitting,
}

/// The problems there are.
pub(super) struct Problems {
    of: BTreeMap<(Kind, Name, Stage), Vec<Problem>>,
    metrics: Metrics,
}

impl Problems {
    pub(super) fn new(metrics: Metrics) -> Self {
        Self { of: BTreeMap::new(), metrics }
    }

    /// The object now has these problems at `stage`, and no others.
    pub(super) fn set(&mut self, kind: Kind, name: &Name, stage: Stage, problems: Vec<Problem>) {
        if self.of.is_empty() && problems.is_empty() {
            return;
        }
        let key = (kind, name.clone(), stage);
        let before = self.of.remove(&key).unwrap_or_default();
        for problem in &problems {
            if !before.contains(problem) {
                let (kind, reason) = (kind.name(), problem.reason.name());
                tracing::warn!(kind, name = %name, reason, "left out: {}", problem.message);
                self.metrics.rejected(kind, reason, 1);
            }
        }
        for problem in &before {
            if !problems.contains(problem) {
                let (kind, reason) = (kind.name(), problem.reason.name());
                tracing::info!(kind, name = %name, reason, "no more: {}", problem.message);
                self.metrics.rejected(kind, reason, -1);
            }
        }
        if !problems.is_empty() {
            self.of.insert(key, problems);
        }
    }

    /// The object is gone.
    pub(super) fn forget(&mut self, kind: Kind, name: &Name) {
        for stage in [Stage::Reading, Stage::Placing, Stage::Fitting] {
            self.set(kind, name, stage, vec![]);
        }
    }
}
