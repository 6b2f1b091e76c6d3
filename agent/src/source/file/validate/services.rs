//! Services: where they are found, who answers, and how flows are kept.

use std::sync::Arc;

use ipnet::IpNet;
use lb_dataplane::desired::{Affinity, DEFAULT_FLOW_TTL, Frontend, Protocol, Service};

use super::{
    Checker, Unique, backends, families,
    frontends::{self, Claimed},
    nodes::Cluster,
    values::{self, wrong},
};
use crate::source::{
    balance::{self, Policy},
    file::schema,
};

/// What the services that make sense come to on this node.
pub(super) fn services(
    check: &mut Checker,
    entries: &[schema::Service],
    cluster: &Cluster<'_>,
) -> Vec<Arc<Service>> {
    let (mut names, mut claimed) = (Unique::new(), Claimed::new());
    let mut services = Vec::with_capacity(entries.len());
    for (i, entry) in entries.iter().enumerate() {
        let name = check.value(format_args!("services[{i}].name"), &entry.name, |text| {
            let name = service_name(text)?;
            names.insert(name.clone(), entry.name.referenced).map_err(|line| {
                wrong(format!("service `{text}` is already on line {line}"), "give each service its own name")
            })?;
            Ok(name)
        });
        let policy = policy(check, i, entry);
        let claims = frontends::claims(check, i, entry, &mut claimed, cluster);
        let backends = backends::backends(check, i, entry, cluster);
        families::check(check, i, entry, cluster);
        let Some(name) = name else {
            continue;
        };
        let all = claims.internal.iter().chain(&claims.external).chain(&claims.load_balancers);
        let policy = Policy { name, protocol: protocol(all), ..policy };
        let mut candidates = backends.iter().map(backends::Backend::candidate).collect();
        let made = balance::services(&policy, claims, &mut candidates, &cluster.here());
        services.extend(made.into_iter().map(Arc::new));
    }
    services
}

fn service_name(text: &str) -> Result<String, values::Wrong> {
    if text.contains('@') {
        return Err(wrong(format!("`{text}` has an @, which marks parts of services"), "leave it out"));
    }
    values::name(text)
}

/// One protocol stands for all frontends: UDP only if there is no other.
fn protocol<'a>(mut all: impl Iterator<Item = &'a Frontend>) -> Protocol {
    if all.all(|frontend| frontend.protocol == Protocol::Udp) { Protocol::Udp } else { Protocol::Tcp }
}

/// What service `i` wants of its balancing; its name and protocol come later.
fn policy(check: &mut Checker, i: usize, entry: &schema::Service) -> Policy {
    let field = format_args!("services[{i}].internalTrafficPolicy");
    let internal = check.optional(field, entry.internal_traffic_policy.as_ref(), values::reach);
    let field = format_args!("services[{i}].externalTrafficPolicy");
    let external = check.optional(field, entry.external_traffic_policy.as_ref(), values::reach);
    let source_ranges = source_ranges(check, i, entry);
    let affinity = affinity(check, i, entry);
    let flow_ttl =
        check.optional(format_args!("services[{i}].flowTtl"), entry.flow_ttl.as_ref(), values::flow_ttl);
    let dsr = check.optional(format_args!("services[{i}].dsr"), entry.dsr.as_ref(), values::boolean);
    Policy {
        name: String::new(),
        protocol: Protocol::Tcp,
        internal: internal.unwrap_or_default(),
        external: external.unwrap_or_default(),
        source_ranges,
        affinity,
        flow_ttl: flow_ttl.unwrap_or(DEFAULT_FLOW_TTL),
        dsr: dsr.unwrap_or(true),
    }
}

fn source_ranges(check: &mut Checker, i: usize, entry: &schema::Service) -> Box<[IpNet]> {
    let Some(ranges) = &entry.load_balancer_source_ranges else {
        return [].into();
    };
    let field = format_args!("services[{i}].loadBalancerSourceRanges");
    if entry.load_balancer_frontends.is_empty() {
        let cause = "there is no load balancer's address that they could hold for";
        let cure = "write it under `loadBalancerFrontends`, or remove them";
        check.complain(ranges.referenced, field, wrong(cause, cure));
    }
    let mut found = Vec::with_capacity(ranges.value.len());
    for (j, text) in ranges.value.iter().enumerate() {
        let field = format_args!("services[{i}].loadBalancerSourceRanges[{j}]");
        found.extend(check.value(field, text, values::source_range));
    }
    found.into()
}

fn affinity(check: &mut Checker, i: usize, entry: &schema::Service) -> Affinity {
    let field = format_args!("services[{i}].affinity");
    let affinity = check.optional(field, entry.affinity.as_ref(), values::affinity).unwrap_or_default();
    let Some(text) = &entry.affinity_timeout else {
        return affinity;
    };
    let field = format_args!("services[{i}].affinityTimeout");
    let timeout = check.value(field, text, values::affinity_timeout);
    match (affinity, timeout) {
        (Affinity::None, Some(_)) => {
            let cause = "there is no affinity that could time out";
            check.complain(text.referenced, field, wrong(cause, "add `affinity: clientIp`, or remove it"));
            affinity
        }
        (Affinity::ClientIp { .. }, Some(timeout)) => Affinity::ClientIp { timeout },
        (_, None) => affinity,
    }
}
