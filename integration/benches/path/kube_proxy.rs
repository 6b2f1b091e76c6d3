//! kube-proxy's own rules on flannel's machines: an API server is told of the services, a real kube-proxy on each machine
//! writes its rules, and all of them end before anything is measured. Rules stay.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
    time::Duration,
};

use anyhow::{Context, Result};
use integration::{
    ApiServer, Cluster, Netns,
    api_server::{NODES, SERVICES, SLICES},
    sandbox, wait,
};
use serde_json::{Value, json};

use crate::{
    contender::{BEHIND_VIP, VIP, other_service},
    flannel::{self, Flannel},
};

/// The API server's machine.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 30);
const PATIENCE: Duration = Duration::from_mins(2);

/// Writes the rules for the measured service and as many others.
pub(crate) fn write_rules(cluster: &Cluster, flannel: &Flannel, services: usize) -> Result<()> {
    let (_, dir) = sandbox::new_state_dir()?;
    let api = ApiServer::start(&cluster.outsider("api", ADDRESS)?, ADDRESS, &dir)?;
    let mut objects = vec![(NODES, node(1)), (NODES, node(2))];
    let server = SocketAddr::from((flannel::pod_address(2), BEHIND_VIP));
    objects.extend(service("measured", VIP, &["TCP", "UDP"], &[server]));
    for n in 0..services {
        let (vip, backends) = other_service(n)?;
        objects.extend(service(&format!("other{n}"), vip, &["TCP"], &backends));
    }
    api.machine().run(|| api.admin()?.create(&objects))??;
    let start = |machine: &Netns, n| api.start_kube_proxy(machine, &flannel::name(n), flannel::POD_CIDR);
    let [first, second] = &flannel.machines;
    for (machine, proxy) in [(first, start(first, 1)), (second, start(second, 2))] {
        let mut proxy = proxy?;
        wait::until("kube-proxy to write its rules", PATIENCE, || {
            proxy.ensure_alive()?;
            thread::sleep(Duration::from_millis(200));
            let rules = machine.try_exec("nft list map ip kube-proxy service-ips")?.stdout;
            Ok(rules.matches("goto service-").count() >= services + 2)
        })
        .with_context(|| format!("kube-proxy logged:\n{}", proxy.log()))?;
    }
    Ok(())
}

fn node(n: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": flannel::name(n) },
        "spec": { "podCIDR": flannel::pod_cidr(n), "podCIDRs": [flannel::pod_cidr(n)] },
        "status": { "addresses": [{ "type": "InternalIP", "address": flannel::address(n) }] },
    })
}

/// A service and its endpoints.
fn service(
    name: &str,
    vip: SocketAddr,
    protocols: &[&str],
    backends: &[SocketAddr],
) -> [(&'static str, Value); 2] {
    let target = backends.first().map_or(0, SocketAddr::port);
    let port = |protocol: &&str, port: u16| json!({ "name": protocol.to_lowercase(), "protocol": protocol, "port": port });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": {
            "clusterIP": vip.ip(),
            "ports": protocols.iter().map(|protocol| port(protocol, vip.port())).collect::<Vec<_>>(),
        },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
        "ports": protocols.iter().map(|protocol| port(protocol, target)).collect::<Vec<_>>(),
        "endpoints": backends.iter().map(|backend| json!({
            "addresses": [backend.ip()], "conditions": { "ready": true }, "nodeName": flannel::name(2),
        })).collect::<Vec<_>>(),
    });
    [(SERVICES, service), (SLICES, slice)]
}
