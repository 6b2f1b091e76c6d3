//! Addresses from another IPAM plugin: it is asked as the specification says, told of everything, and gets back what
//! could not be used. No real one: this one does as it is told.

use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use anyhow::{Result, ensure};
use integration::{Cluster, Netns, Node, cni::Call, traces::Traces};
use serde_json::{Value, json};

/// A program that notes what it is called for, answers ADD with the file `answer`, and fails if there is a file `fail`.
const PLUGIN: &str = r#"#!/bin/sh
dir=${0%/*}
echo "$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME" >>"$dir/calls"
cat >/dev/null
[ -e "$dir/fail" ] && { echo '{"cniVersion":"1.1.0","code":77,"msg":"no luck today"}'; exit 1; }
[ "$CNI_COMMAND" = ADD ] && cat "$dir/answer"
exit 0
"#;

/// Where the plugin is.
struct Other {
    dir: PathBuf,
}

impl Other {
    fn install(node: &Node) -> Result<Self> {
        let dir = node.log_path("plugins").with_extension("");
        fs::create_dir_all(&dir)?;
        fs::write(dir.join("other"), PLUGIN)?;
        fs::set_permissions(dir.join("other"), fs::Permissions::from_mode(0o755))?;
        Ok(Self { dir })
    }

    fn answers(&self, address: &str) -> Result<()> {
        let answer = json!({ "cniVersion": "1.1.0", "ips": [{ "address": address }], "dns": {} });
        Ok(fs::write(self.dir.join("answer"), answer.to_string())?)
    }

    /// What it was called for since the last time.
    fn calls(&self) -> Vec<String> {
        let calls = fs::read_to_string(self.dir.join("calls")).unwrap_or_default();
        let _ = fs::remove_file(self.dir.join("calls"));
        calls.lines().map(|line| line.trim_end().to_owned()).collect()
    }

    fn call(&self, node: &Node, command: &str, netns: &Netns, fields: &Value) -> Call {
        let mut config = node.network_config();
        config["cniVersion"] = "1.1.0".into();
        config["ipam"] = json!({ "type": "other" });
        for (key, value) in fields.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let call = Call::new(node, command, "c", &netns.path().to_string_lossy());
        let path = format!("/nowhere:{}:/usr/bin:/bin", self.dir.display());
        call.with("CNI_PATH", &path).with("PATH", "/usr/bin:/bin").input(&config.to_string())
    }
}

pub(crate) fn b_another_ipam_plugin_is_asked_and_told() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let netns = Netns::create(&format!("{}pod", cluster.prefix()))?;
    let other = Other::install(node)?;
    let before = Traces::of(node)?;
    let nothing = json!({});
    other.answers("10.244.1.50/24")?;
    let result = other.call(node, "ADD", &netns, &nothing).run(node)?.ok()?;
    ensure!(result["ips"][0]["address"] == "10.244.1.50/32", "{result}");
    ensure!(node.ping("10.244.1.50".parse()?, 56)? == integration::ping::Ping::Answered, "not reached");
    // The same address once more would cut the first pod off.
    let second = Netns::create(&format!("{}second", cluster.prefix()))?;
    let again = other.call(node, "ADD", &second, &nothing).with("CNI_CONTAINERID", "d");
    let (code, message) = again.run(node)?.failure()?;
    ensure!(code == 105 && message.contains("in use by another pod"), "code {code}: {message}");
    ensure!(node.ping("10.244.1.50".parse()?, 56)? == integration::ping::Ping::Answered, "cut off");
    other.calls();
    let told = json!({ "prevResult": result });
    other.call(node, "CHECK", &netns, &told).run(node)?.ok()?;
    other.call(node, "STATUS", &netns, &nothing).run(node)?.ok()?;
    other.call(node, "DEL", &netns, &told).run(node)?.ok()?;
    let calls = other.calls();
    ensure!(calls == ["CHECK c eth0", "STATUS c eth0", "DEL c eth0"], "{calls:?}");
    ensure!(Traces::of(node)? == before);

    // GC takes the attachment away, tells of it, and is handed on.
    other.call(node, "ADD", &netns, &nothing).run(node)?.ok()?;
    other.calls();
    other.call(node, "GC", &netns, &json!({ "cni.dev/valid-attachments": [] })).run(node)?.ok()?;
    let calls = other.calls();
    ensure!(calls.len() == 2 && calls[0] == "DEL c eth0" && calls[1].starts_with("GC"), "{calls:?}");
    ensure!(Traces::of(node)? == before);
    Ok(())
}

pub(crate) fn b_what_another_ipam_plugin_gave_in_vain_goes_back() -> Result<()> {
    let cluster = Cluster::builder().nodes(1).start()?;
    let node = cluster.node(1)?;
    let netns = Netns::create(&format!("{}pod", cluster.prefix()))?;
    let other = Other::install(node)?;
    let before = Traces::of(node)?;
    // An address that no other node would find; and one for an interface that cannot be made.
    for (address, fields, code, word) in [
        ("10.9.9.9/24", json!({}), 7, "pod CIDRs"),
        ("10.244.1.1/24", json!({}), 7, "own"),
        ("10.244.1.50/24", json!({ "mtu": 9000 }), 7, "mtu"),
    ] {
        other.answers(address)?;
        let (found, message) = other.call(node, "ADD", &netns, &fields).run(node)?.failure()?;
        ensure!(found == code && message.contains(word), "{address}: code {found}: {message}");
        let calls = other.calls();
        ensure!(calls == ["ADD c eth0", "DEL c eth0"], "{address}: {calls:?}");
        ensure!(Traces::of(node)? == before, "{address}");
    }
    // Its own words reach the reader, and its failure is no reason to keep anything.
    fs::write(other.dir.join("fail"), "")?;
    let nothing = json!({});
    for command in ["ADD", "STATUS"] {
        let (code, message) = other.call(node, command, &netns, &nothing).run(node)?.failure()?;
        ensure!(
            code == 77 && message.contains("no luck today") && message.contains("other"),
            "{code}: {message}"
        );
    }
    fs::remove_file(other.dir.join("fail"))?;
    other.call(node, "DEL", &netns, &nothing).run(node)?.ok()?;
    ensure!(Traces::of(node)? == before);

    let (code, message) =
        other.call(node, "ADD", &netns, &json!({ "ipam": { "type": "nobody" } })).run(node)?.failure()?;
    ensure!(
        code == 7 && message.contains("`nobody` is not found") && message.contains("/nowhere"),
        "{code}: {message}"
    );
    Ok(())
}
