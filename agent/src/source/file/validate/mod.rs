//! From the file's shape to the neutral model: every value understood, every cross-reference checked.
//!
//! It goes on after a problem, so that one run tells all that is wrong. It looks at nothing but the file.

mod backends;
mod families;
mod frontends;
mod nodes;
mod prefixes;
mod services;
mod values;

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt::Arguments,
    hash::Hash,
};

use serde_saphyr::Location;

use self::values::Wrong;
use super::{
    problem::Problem,
    schema::{File, Text},
};
use crate::model::{self, Network};

/// Makes the model out of `file`, or tells all that is wrong, in the order of the file. `name` says which of
/// the nodes this is, over the file's own `node:`.
pub(super) fn validate(file: &File, name: Option<&str>) -> Result<Network, Vec<Problem>> {
    let mut check = Checker::default();
    let vni = check.optional(format_args!("vni"), file.vni.as_ref(), values::vni);
    let vxlan_port = check.optional(format_args!("vxlanPort"), file.vxlan_port.as_ref(), values::port);
    let uplink = check.optional(format_args!("uplink"), file.uplink.as_ref(), values::device);
    let attach = check.optional(format_args!("attach"), file.attach.as_ref(), values::attach);
    let (mut nodes, prefixes) = nodes::nodes(&mut check, &file.nodes);
    let this = nodes::this(&mut check, file, name);
    let cluster = nodes::Cluster::new(
        &file.nodes.value,
        this,
        // Without a problem there is one node for each entry, in the same order.
        this.filter(|_| check.problems.is_empty()).map(|this| &nodes[this]),
        &prefixes,
    );
    let services = services::services(&mut check, &file.services, &cluster);

    match this {
        Some(this) if check.problems.is_empty() => Ok(Network {
            vni: vni.unwrap_or(model::DEFAULT_VNI),
            vxlan_port: vxlan_port.unwrap_or(model::VXLAN_PORT),
            uplink,
            attach: attach.unwrap_or_default(),
            node: nodes.remove(this),
            peers: nodes,
            services,
        }),
        _ => {
            check.problems.sort_by_key(|problem| (problem.line, problem.column));
            Err(check.problems)
        }
    }
}

/// Collects problems on the way through the file.
#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

impl Checker {
    fn complain(&mut self, at: Location, field: Arguments, wrong: Wrong) {
        self.problems.push(Problem {
            line: at.line(),
            column: at.column(),
            field: field.to_string(),
            cause: wrong.cause,
            cure: wrong.cure,
        });
    }

    /// What `text` says according to `parse`; `None` if it makes no sense.
    fn value<T>(
        &mut self,
        field: Arguments,
        text: &Text,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        match parse(&text.value) {
            Ok(value) => Some(value),
            Err(wrong) => {
                self.complain(text.referenced, field, wrong);
                None
            }
        }
    }

    /// The same for a field that may be left out.
    fn optional<T>(
        &mut self,
        field: Arguments,
        text: Option<&Text>,
        parse: impl FnOnce(&str) -> Result<T, Wrong>,
    ) -> Option<T> {
        text.and_then(|text| self.value(field, text, parse))
    }
}

/// Things of which there may be only one each, with the line where it is.
struct Unique<K>(HashMap<K, u64>);

impl<K: Eq + Hash> Unique<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// Notes `key` at `at`; `Err` with the line of the earlier one if there is one.
    fn insert(&mut self, key: K, at: Location) -> Result<(), u64> {
        match self.0.entry(key) {
            Entry::Occupied(earlier) => Err(*earlier.get()),
            Entry::Vacant(vacant) => {
                vacant.insert(at.line());
                Ok(())
            }
        }
    }
}
