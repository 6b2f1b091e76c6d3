//! What a runtime may ask of ADD: addresses, a MAC, ranges, an MTU, routes, resolver settings, a second interface; and
//! how it says so.

use anyhow::{Context, Result, ensure};
use integration::{Cluster, Netns, Node, cni::Call, ping::Ping};
use serde_json::{Value, json};

/// ADD for container `name` in `netns`, with `fields` in the configuration.
fn add(node: &Node, netns: &Netns, name: &str, fields: &Value) -> Call {
    let mut config = node.network_config();
    for (key, value) in fields.as_object().into_iter().flatten() {
        config[key] = value.clone();
    }
    Call::new(node, "ADD", name, &netns.path().to_string_lossy()).input(&config.to_string())
}

/// A cluster of one node, and a pod's namespace.
fn one() -> Result<(Cluster, Netns)> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let netns = Netns::create(&format!("{}pod", cluster.prefix()))?;
    Ok((cluster, netns))
}

fn del(node: &Node, netns: &Netns, name: &str) -> Result<()> {
    Call::new(node, "DEL", name, &netns.path().to_string_lossy()).run(node)?.ok()?;
    Ok(())
}

fn address(result: &Value) -> &str {
    result["ips"][0]["address"].as_str().unwrap_or_default()
}

pub(crate) fn b_an_address_can_be_asked_for_in_three_ways() -> Result<()> {
    let (cluster, netns) = one()?;
    let node = cluster.node(1)?;
    let nothing = json!({});
    for (call, wanted) in [
        (
            add(node, &netns, "c", &json!({ "runtimeConfig": { "ips": ["10.244.1.71/24"] } })),
            "10.244.1.71/32",
        ),
        (add(node, &netns, "c", &json!({ "args": { "cni": { "ips": ["10.244.1.72"] } } })), "10.244.1.72/32"),
        (
            add(node, &netns, "c", &nothing).with("CNI_ARGS", "IgnoreUnknown=1;X=1;IP=10.244.1.73"),
            "10.244.1.73/32",
        ),
    ] {
        let result = call.run(node)?.ok()?;
        ensure!(address(&result) == wanted, "{wanted} was asked for: {result}");
        let host = wanted.trim_end_matches("/32").parse()?;
        ensure!(node.ping(host, 56)? == Ping::Answered, "{wanted} is not reached");
        del(node, &netns, "c")?;
    }
    for (wanted, word) in [("10.9.9.9", "outside"), ("10.244.1.1", "gateway")] {
        let call = add(node, &netns, "c", &json!({ "runtimeConfig": { "ips": [wanted] } }));
        let (code, message) = call.run(node)?.failure()?;
        ensure!(code == 105 && message.contains(word), "{wanted}: code {code}: {message}");
    }
    let holder = cluster.pod("holder").on(node)?;
    let call = add(node, &netns, "c", &json!({ "runtimeConfig": { "ips": [holder.address()] } }));
    let (code, message) = call.run(node)?.failure()?;
    ensure!(code == 105 && message.contains(&holder.container_id()), "code {code}: {message}");
    Ok(())
}

pub(crate) fn b_a_mac_can_be_asked_for_and_is_the_pods() -> Result<()> {
    let (cluster, netns) = one()?;
    let node = cluster.node(1)?;
    let nothing = json!({});
    for (call, wanted) in [
        (
            add(node, &netns, "c", &json!({ "runtimeConfig": { "mac": "02:00:00:AA:00:01" } })),
            "02:00:00:aa:00:01",
        ),
        (
            add(node, &netns, "c", &json!({ "args": { "cni": { "mac": "02:00:00:aa:00:02" } } })),
            "02:00:00:aa:00:02",
        ),
        (add(node, &netns, "c", &nothing).with("CNI_ARGS", "MAC=02:00:00:aa:00:03"), "02:00:00:aa:00:03"),
    ] {
        let result = call.run(node)?.ok()?;
        ensure!(result["interfaces"][1]["mac"] == wanted, "{wanted} was asked for: {result}");
        let link = netns.exec("ip -o link show eth0")?;
        ensure!(link.contains(wanted), "{link}");
        let pod = address(&result).trim_end_matches("/32").parse()?;
        ensure!(node.ping(pod, 56)? == Ping::Answered, "a pod with its own MAC is not reached");
        let mut config = node.network_config();
        config["prevResult"] = result;
        let check = Call::new(node, "CHECK", "c", &netns.path().to_string_lossy()).input(&config.to_string());
        check.run(node)?.ok()?;
        netns.ip("link set eth0 address 02:00:00:aa:00:09")?;
        let (code, message) = check.run(node)?.failure()?;
        ensure!(code == 110 && message.contains(wanted), "code {code}: {message}");
        del(node, &netns, "c")?;
    }
    for bad in ["03:00:00:00:00:01", "00:00:00:00:00:00", "nonsense"] {
        let call = add(node, &netns, "c", &json!({ "runtimeConfig": { "mac": bad } }));
        let (code, message) = call.run(node)?.failure()?;
        ensure!(code == 7 && message.contains("MAC"), "{bad}: code {code}: {message}");
    }
    Ok(())
}

pub(crate) fn b_ranges_come_from_the_runtime_and_the_configuration() -> Result<()> {
    let (cluster, netns) = one()?;
    let node = cluster.node(1)?;
    let range = |last: u8| json!([[{ "subnet": "10.244.1.0/24", "rangeStart": format!("10.244.1.{last}"), "rangeEnd": format!("10.244.1.{last}") }]]);
    for (fields, wanted) in [
        (json!({ "runtimeConfig": { "ipRanges": range(201) } }), "10.244.1.201/32"),
        (json!({ "ipam": { "type": "beeline-ipam", "ranges": range(202) } }), "10.244.1.202/32"),
    ] {
        let result = add(node, &netns, "c", &fields).run(node)?.ok()?;
        ensure!(address(&result) == wanted, "{wanted} was asked for: {result}");
        let (code, message) = add(node, &netns, "other", &fields).run(node)?.failure()?;
        ensure!(
            code == 100 && message.contains("10.244.1.20"),
            "a range of one was given twice: {code}: {message}"
        );
        del(node, &netns, "c")?;
    }
    for (fields, code, word) in [
        (json!({ "ipam": { "type": "beeline-ipam", "subnet": "10.9.0.0/24" } }), 7, "pod CIDRs"),
        (json!({ "ipam": { "type": "beeline-ipam", "subnet": "10.244.1.300/24" } }), 7, "subnet"),
        (json!({ "ipam": { "type": "beeline-ipam", "dataDir": "/x" } }), 2, "dataDir"),
    ] {
        let (found, message) = add(node, &netns, "c", &fields).run(node)?.failure()?;
        ensure!(found == code && message.contains(word), "{fields}: code {found}: {message}");
    }
    ensure!(!netns.exec("ip -o link show")?.contains("eth0"), "an ADD that failed left an interface");
    Ok(())
}

pub(crate) fn b_mtu_routes_and_dns_are_as_configured() -> Result<()> {
    let (cluster, netns) = one()?;
    let node = cluster.node(1)?;
    let fields = json!({
        "cniVersion": "1.1.0",
        "mtu": 1400,
        "dns": { "nameservers": ["10.96.0.10"], "search": ["cluster.local"] },
        "ipam": { "type": "beeline-ipam", "routes": [{ "dst": "10.96.0.0/12" }, { "dst": "10.244.0.0/16" }] },
    });
    let result = add(node, &netns, "c", &fields).run(node)?.ok()?;
    ensure!(result["dns"] == fields["dns"] && result["interfaces"][1]["mtu"] == 1400, "{result}");
    let told: Vec<_> = result["routes"].as_array().into_iter().flatten().map(|route| &route["dst"]).collect();
    ensure!(told == ["10.96.0.0/12", "10.244.0.0/16"], "{result}");
    ensure!(netns.exec("ip -o link show eth0")?.contains("mtu 1400"), "the MTU");
    let routes = netns.exec("ip route")?;
    ensure!(routes.contains("10.96.0.0/12 via 169.254.1.1") && !routes.contains("default"), "{routes}");
    let mut config = node.network_config();
    config["prevResult"] = result;
    let check = Call::new(node, "CHECK", "c", &netns.path().to_string_lossy()).input(&config.to_string());
    check.run(node)?.ok()?;
    netns.ip("route del 10.96.0.0/12")?;
    let (code, message) = check.run(node)?.failure()?;
    ensure!(code == 110 && message.contains("10.96.0.0/12"), "code {code}: {message}");
    del(node, &netns, "c")?;
    for (fields, code, word) in [
        (json!({ "mtu": 9000 }), 7, "mtu"),
        (json!({ "mtu": "1400" }), 7, "mtu"),
        (
            json!({ "ipam": { "type": "beeline-ipam", "routes": [{ "dst": "0.0.0.0/0", "gw": "10.244.1.9" }] } }),
            2,
            "gw",
        ),
    ] {
        let (found, message) = add(node, &netns, "c", &fields).run(node)?.failure()?;
        ensure!(found == code && message.contains(word), "{fields}: code {found}: {message}");
    }
    Ok(())
}

pub(crate) fn b_a_second_interface_has_its_own_way_out() -> Result<()> {
    let (cluster, netns) = one()?;
    let node = cluster.node(1)?;
    let path = netns.path().to_string_lossy().into_owned();
    let call = |command: &str, ifname: &str, result: Option<&Value>| {
        let mut config = node.network_config();
        if let Some(result) = result {
            config["prevResult"] = result.clone();
        }
        Call::new(node, command, "c", &path).with("CNI_IFNAME", ifname).input(&config.to_string())
    };
    let mut results = Vec::new();
    for ifname in ["eth0", "net1"] {
        results.push((ifname, call("ADD", ifname, None).run(node)?.ok()?));
    }
    for (ifname, result) in &results {
        call("CHECK", ifname, Some(result)).run(node)?.ok().with_context(|| (*ifname).to_owned())?;
        let pod = address(result).trim_end_matches("/32").parse()?;
        // The reply has to leave by the interface that owns its address, or the guard drops it.
        ensure!(node.ping(pod, 56)? == Ping::Answered, "{ifname} is not reached");
    }
    ensure!(netns.exec("ip rule")?.contains("lookup 10"), "no rule for the second interface");
    call("DEL", "net1", Some(&results[1].1)).run(node)?.ok()?;
    ensure!(!netns.exec("ip rule")?.contains("lookup 10"), "the second interface's rule is left");
    call("CHECK", "eth0", Some(&results[0].1)).run(node)?.ok()?;
    call("DEL", "eth0", None).run(node)?.ok()?;
    Ok(())
}
