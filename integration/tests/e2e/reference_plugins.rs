//! Main plugins that are not ours, bridge and ptp, with addresses of beeline-ipam: their pods talk in both families, and
//! all that they ask of an IPAM plugin is answered.

use std::{env, path::PathBuf, time::Duration};

use anyhow::{Context, Result, ensure};
use integration::{
    Netns, binaries, callers,
    ping::Ping,
    process::{self, Finished},
    sandbox, wait,
};
use serde_json::{Value, json};

/// A machine with a network of a main plugin that is not ours.
struct Machine {
    prefix: String,
    host: Netns,
    config: Value,
    path: String,
}

/// A pod, and what ADD said of it.
struct Pod {
    netns: Netns,
    result: Value,
}

impl Machine {
    /// Its network has addresses for two pods.
    fn new(plugin: &str) -> Result<Self> {
        let dirs =
            [callers::cni()?, PathBuf::from(binaries::find("beeline-ipam")?.parent().context("nowhere")?)];
        let (prefix, dir) = sandbox::new_state_dir()?;
        let config = json!({
            "cniVersion": "1.1.0", "name": "lan", "type": plugin, "bridge": "br0", "isGateway": true,
            "ipam": {
                "type": "beeline-ipam", "dataDir": dir, "cooldown": 0,
                "ranges": [[{ "subnet": "10.1.0.0/24", "rangeEnd": "10.1.0.3" }], [{ "subnet": "fd00:1::/64" }]],
                "routes": [{ "dst": "0.0.0.0/0" }, { "dst": "::/0" }],
            },
        });
        let host = Netns::create(&format!("{prefix}-host"))?;
        // A main plugin turns on what it needs of these, but for what was off in the whole machine.
        host.sysctl("net/ipv6/conf/all/forwarding", "1")?;
        Ok(Self { host, config, path: env::join_paths(dirs)?.to_string_lossy().into_owned(), prefix })
    }

    fn pod(&self, name: &str) -> Result<Pod> {
        Ok(Pod { netns: Netns::create(&format!("{}-{name}", self.prefix))?, result: Value::Null })
    }

    fn call(&self, command: &str, pod: Option<&Pod>, config: &Value) -> Result<Finished> {
        let plugin = config["type"].as_str().context("no type")?;
        let mut program = self.host.command(callers::cni()?.join(plugin));
        program.envs([("CNI_COMMAND", command), ("CNI_PATH", self.path.as_str())]);
        if let Some(pod) = pod {
            program.envs([("CNI_CONTAINERID", pod.netns.name()), ("CNI_IFNAME", "eth0")]);
            program.env("CNI_NETNS", pod.netns.path());
        }
        process::finish(program, &config.to_string())
    }

    fn add(&self, pod: &mut Pod) -> Result<()> {
        let answer = self.call("ADD", Some(pod), &self.config)?.ok()?;
        pod.result = serde_json::from_str(&answer).with_context(|| format!("no result: {answer}"))?;
        Ok(())
    }

    fn with(&self, key: &str, value: Value) -> Value {
        let mut config = self.config.clone();
        config[key] = value;
        config
    }

    /// How many addresses are held, as beeline-ipam tells it.
    fn held(&self) -> Result<usize> {
        let mut list = self.host.command(binaries::find("beeline-ipam")?);
        list.args(["list", "--output", "json", "--data-dir"])
            .arg(self.config["ipam"]["dataDir"].as_str().unwrap_or_default());
        let leases: Value = serde_json::from_str(&process::finish(list, "")?.ok()?)?;
        Ok(leases.as_array().context("no list")?.len())
    }
}

impl Pod {
    fn addresses(&self) -> Result<Vec<std::net::IpAddr>> {
        let ips = self.result["ips"].as_array().into_iter().flatten();
        let texts = ips.filter_map(|ip| ip["address"].as_str()?.split('/').next());
        texts.map(|text| text.parse().with_context(|| format!("{text} is no address"))).collect()
    }
}

fn serves(plugin: &str) -> Result<()> {
    let machine = Machine::new(plugin)?;
    let (mut one, mut two, mut three) = (machine.pod("one")?, machine.pod("two")?, machine.pod("three")?);
    machine.add(&mut one)?;
    machine.add(&mut two)?;
    let expected = [["10.1.0.2", "fd00:1::2"], ["10.1.0.3", "fd00:1::3"]];
    for (pod, expected) in [&one, &two].into_iter().zip(expected) {
        let addresses: Vec<_> = pod.addresses()?.iter().map(ToString::to_string).collect();
        ensure!(addresses == expected, "{addresses:?}, not {expected:?}");
        let check = machine.with("prevResult", pod.result.clone());
        machine.call("CHECK", Some(pod), &check)?.ok().context("CHECK")?;
    }
    for to in two.addresses()? {
        // These plugins do not wait until their gateways' IPv6 addresses are usable.
        let answered = || Ok(one.netns.ping(to, 56)? == Ping::Answered);
        wait::until(&format!("an answer of {to}"), Duration::from_secs(10), answered)?;
    }

    let refused = machine.call("ADD", Some(&three), &machine.config)?;
    ensure!(refused.stdout.contains("no free address in 10.1.0.1 to 10.1.0.3"), "{}", refused.stdout);
    // As runtimes do after every ADD that failed; these plugins rely on it.
    machine.call("DEL", Some(&three), &machine.config)?.ok()?;
    let status = machine.call("STATUS", None, &machine.config)?;
    let answer: Value = serde_json::from_str(&status.stdout).with_context(|| format!("{status:?}"))?;
    ensure!(answer["code"] == 50, "STATUS with an exhausted range: {answer}");
    ensure!(machine.held()? == 2, "a refused ADD holds an address");

    machine.call("DEL", Some(&one), &machine.config)?.ok()?;
    ensure!(machine.held()? == 1, "DEL gave nothing back");
    machine.add(&mut three)?;
    ensure!(three.addresses()?[0] == one.addresses()?[0], "what is free was not given");
    for pod in [&two, &three, &one] {
        machine.call("DEL", Some(pod), &machine.config)?.ok()?;
    }
    ensure!(machine.held()? == 0, "addresses are left");
    Ok(())
}

pub(crate) fn b_bridge_takes_addresses_of_beeline_ipam() -> Result<()> {
    serves("bridge")
}

pub(crate) fn b_ptp_takes_addresses_of_beeline_ipam() -> Result<()> {
    serves("ptp")
}
