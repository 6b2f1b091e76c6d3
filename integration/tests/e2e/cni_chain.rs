//! Results: in each version's form, taken from the plugins before this one and handed to those after it.

use anyhow::{Result, ensure};
use integration::{Cluster, Netns, cni::Call};
use serde_json::{Value, json};

pub(crate) fn b_every_version_has_its_results() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let netns = Netns::create(&format!("{}pod", cluster.prefix()))?;
    let path = netns.path().to_string_lossy().into_owned();
    let call =
        |command: &str, config: &Value| Call::new(node, command, "c", &path).input(&config.to_string());
    for version in ["0.3.1", "0.4.0", "1.0.0", "1.1.0"] {
        let mut config = node.network_config();
        config["cniVersion"] = version.into();
        let result = call("ADD", &config).run(node)?.ok()?;
        ensure!(result["cniVersion"] == version, "{result}");
        let (ip, pod) = (&result["ips"][0], &result["interfaces"][1]);
        ensure!(ip["interface"] == 1 && pod["name"] == "eth0" && pod["sandbox"] == path, "{result}");
        ensure!((ip["version"] == "4") == version.starts_with("0."), "{version}: {result}");
        ensure!(pod["mtu"].is_number() == (version == "1.1.0"), "{version}: {result}");
        // What plugins after this one add changes nothing for it.
        let mut chained = result.clone();
        chained["interfaces"]
            .as_array_mut()
            .into_iter()
            .for_each(|all| all.push(json!({ "name": "ifb0", "mac": "" })));
        config["prevResult"] = chained;
        let checked = call("CHECK", &config).run(node)?;
        ensure!(checked.clone().ok().is_ok() == (version != "0.3.1"), "{version}: {checked:?}");
        call("DEL", &config).run(node)?.ok()?;
    }
    Ok(())
}

pub(crate) fn b_a_previous_result_is_kept_and_merged() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let netns = Netns::create(&format!("{}pod", cluster.prefix()))?;
    let path = netns.path().to_string_lossy().into_owned();
    netns.ip("link add net0 type veth peer name far0")?;
    let previous = json!({
        "cniVersion": "1.0.0",
        "interfaces": [{ "name": "net0", "sandbox": path }],
        "ips": [{ "address": "192.0.2.7/24", "gateway": "192.0.2.1", "interface": 0 }],
        "routes": [{ "dst": "192.0.2.0/24" }],
        "dns": { "nameservers": ["192.0.2.53"] },
    });
    let mut config = node.network_config();
    config["prevResult"] = previous.clone();
    let call =
        |command: &str, config: &Value| Call::new(node, command, "c", &path).input(&config.to_string());
    let merged = call("ADD", &config).run(node)?.ok()?;
    ensure!(
        merged["interfaces"][0]["name"] == "net0" && merged["interfaces"][2]["name"] == "eth0",
        "{merged}"
    );
    ensure!(merged["ips"][0] == previous["ips"][0] && merged["ips"][1]["interface"] == 2, "{merged}");
    ensure!(merged["routes"][0] == previous["routes"][0] && merged["dns"] == previous["dns"], "{merged}");
    config["prevResult"] = merged.clone();
    call("CHECK", &config).run(node)?.ok()?;
    // A result that tells of another address is not of this pod.
    config["prevResult"]["ips"][1]["address"] = "10.244.1.99/32".into();
    let (code, message) = call("CHECK", &config).run(node)?.failure()?;
    ensure!(code == 110 && message.contains("10.244.1.99"), "code {code}: {message}");
    config["prevResult"] = json!({ "ips": 7 });
    let (code, message) = call("CHECK", &config).run(node)?.failure()?;
    ensure!(code == 6 && message.contains("prevResult"), "code {code}: {message}");
    call("DEL", &config).run(node)?.ok()?;
    // The name that another plugin took cannot be had.
    netns.ip("link add eth0 type veth peer name far1")?;
    config["prevResult"] = previous;
    let (code, message) = call("ADD", &config).run(node)?.failure()?;
    ensure!(code == 104 && message.contains("eth0"), "code {code}: {message}");
    Ok(())
}
