//! Load balancers' addresses that are not for everybody: `loadBalancerSourceRanges`.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Result, ensure};
use integration::{Cluster, Family, Netns, Node, Service, Stack, http::Connection};

use crate::scene::{BOTH, Scene, vip_of};

/// Where a load balancer has the echo service.
const fn balancer(family: Family) -> SocketAddr {
    match family {
        Family::V4 => SocketAddr::new(IpAddr::V4(std::net::Ipv4Addr::new(203, 0, 113, 7)), 80),
        Family::V6 => {
            let address = std::net::Ipv6Addr::new(0x2001, 0xdb8, 0x113, 0, 0, 0, 0, 7);
            SocketAddr::new(IpAddr::V6(address), 80)
        }
    }
}

/// The echo service at its VIPs and at both load balancers' addresses, where only these may ask.
fn service(scene: &Scene, ranges: &[String]) -> Service {
    let frontends = BOTH.map(|family| {
        let at = balancer(family);
        format!("{{ vip: \"{}\", port: {} }}", at.ip(), at.port())
    });
    let ranges: Vec<_> = ranges.iter().map(|range| format!("\"{range}\"")).collect();
    scene
        .service()
        .with(&format!("loadBalancerFrontends: [{}]", frontends.join(", ")))
        .with(&format!("loadBalancerSourceRanges: [{}]", ranges.join(", ")))
}

fn whole(address: IpAddr) -> String {
    format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
}

/// Whether `at` answers within a second; if not, it must be for the ranges.
fn is_let_in(client: &Netns, node: &Node, at: SocketAddr) -> Result<bool> {
    let dropped = || -> Result<u64> { Ok(node.drops()?.of("source_range")) };
    let before = dropped()?;
    let asked = client.try_exec(&format!("curl -sS -g --max-time 1 http://{at}/"))?;
    let is_dropped = dropped()? > before;
    ensure!(
        asked.status.success() != is_dropped,
        "{at}: {asked:?}, and dropped for the ranges: {is_dropped}"
    );
    if is_dropped {
        // Silence: not even a refusal.
        ensure!(asked.stderr.contains("timed out"), "{at}: {asked:?}");
    }
    Ok(asked.status.success())
}

pub(crate) fn c_load_balancer_source_ranges_let_in_whom_they_name_and_only_there() -> Result<()> {
    let scene = Scene::with_servers_on(Cluster::builder().stack(Stack::Dual), &[1, 2])?;
    let node = scene.cluster.node(1)?;
    let stranger = scene.cluster.pod("stranger").on(node)?;
    // Nothing of the host's leads to such an address by itself.
    node.ip("route add 203.0.113.7 via 169.254.1.1 dev beeline0 onlink src 10.244.1.1")?;
    node.ip("route add 2001:db8:113::7 via fe80::1 dev beeline0 onlink src fd00:10:244:1::1")?;
    for family in BOTH {
        let at = balancer(family);
        let client = whole(scene.client.address_of(family)?);
        let who = |expected: [bool; 3]| -> Result<()> {
            let let_in = [
                is_let_in(&scene.client, node, at)?,
                is_let_in(&stranger, node, at)?,
                is_let_in(node, node, at)?,
            ];
            ensure!(let_in == expected, "{family:?}: client, stranger, node: {let_in:?}");
            // Elsewhere, the ranges say nothing.
            for other in [&scene.client as &Netns, &stranger, node] {
                other.get(vip_of(family))?;
            }
            Ok(())
        };
        scene.cluster.set_services([service(&scene, &[])])?;
        who([true; 3])?;
        let mut kept = stranger.run(|| Connection::open(at))??;
        kept.ask()?;

        scene.cluster.set_services([service(&scene, std::slice::from_ref(&client))])?;
        who([true, false, false])?;
        for _ in 0..20 {
            kept.ask()?;
        }
        let shown = node.ctl_json("services echo")?;
        let shown = &shown["services"][0];
        ensure!(shown["loadBalancerSourceRanges"] == serde_json::json!([client]), "{shown}");
        let traced = node.ctl_json(&format!("trace {} {at}", stranger.address_of(family)?))?;
        ensure!(traced["drop"] == "source_range" && traced["service"] == "echo", "{traced}");

        // The pods of this node, and so its own address in the overlay.
        let pods = if family == Family::V4 { "10.244.1.0/24" } else { "fd00:10:244:1::/64" };
        scene.cluster.set_services([service(&scene, &[pods.into()])])?;
        who([true; 3])?;
    }
    // The node where it is reached: its processes ask from its address in the overlay.
    scene.cluster.set_services([service(&scene, &["192.168.77.0/24".into()])])?;
    ensure!(is_let_in(node, node, balancer(Family::V4))?, "the node's own process is refused");
    ensure!(!is_let_in(&stranger, node, balancer(Family::V4))?, "a pod is taken for its node");
    ensure!(is_let_in(&stranger, node, balancer(Family::V6))?, "ranges of IPv4 say something of IPv6");
    Ok(())
}
