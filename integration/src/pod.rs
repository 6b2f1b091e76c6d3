//! Pods: namespaces wired by the CNI plugin.

use std::{net::IpAddr, ops::Deref};

use anyhow::{Context, Result};

use serde_json::Value;

use crate::{cluster::Cluster, cni::Call, family::Family, netns::Netns, node::Node};

/// A pod with its `eth0`; everything that can be done in a [`Netns`] can be done in it. Removed by DEL when it goes.
#[derive(Debug)]
pub struct Pod {
    name: String,
    node: Node,
    netns: Netns,
    /// Never empty.
    addresses: Vec<IpAddr>,
    mac: [u8; 6],
    /// What ADD answered.
    result: Value,
    abandoned: bool,
}

/// A pod to be.
#[derive(Debug)]
#[must_use = "a pod needs a node to run on"]
pub struct PodBuilder<'a> {
    cluster: &'a Cluster,
    name: &'a str,
}

impl Cluster {
    /// A pod called `name`; say where with [`PodBuilder::on`].
    pub fn pod<'a>(&'a self, name: &'a str) -> PodBuilder<'a> {
        PodBuilder { cluster: self, name }
    }
}

impl PodBuilder<'_> {
    /// Makes the pod's namespace and calls ADD for it on `node`.
    ///
    /// # Errors
    /// If ADD fails.
    pub fn on(self, node: &Node) -> Result<Pod> {
        let netns = Netns::create(&format!("{}{}", self.cluster.prefix(), self.name))?;
        let path = netns.path().to_string_lossy().into_owned();
        let arguments = format!("IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME={}", self.name);
        let call = Call::new(node, "ADD", &container_id(self.name), &path).with("CNI_ARGS", &arguments);
        let result = call.run(node)?.ok().with_context(|| format!("ADD of pod {}", self.name))?;
        let addresses = addresses(&result).with_context(|| format!("ADD gave no address: {result}"))?;
        let mac = mac(&result).with_context(|| format!("ADD told no MAC: {result}"))?;
        Ok(Pod {
            name: self.name.to_owned(),
            node: node.clone(),
            netns,
            addresses,
            mac,
            result,
            abandoned: false,
        })
    }
}

impl Pod {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it runs.
    #[must_use]
    pub fn node(&self) -> &Node {
        &self.node
    }

    /// The address ADD gave it; the first, if it has one in each family.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.addresses[0]
    }

    /// All addresses ADD gave it.
    #[must_use]
    pub fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Its address of `family`.
    ///
    /// # Errors
    /// If it has none.
    pub fn address_of(&self, family: Family) -> Result<IpAddr> {
        let mut addresses = self.addresses.iter().copied();
        let found = addresses.find(|address| Family::of(*address) == family);
        found.with_context(|| format!("pod {} has no {} address", self.name, family.name()))
    }

    /// The MAC of its interface, as ADD told it.
    #[must_use]
    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The CNI call `command` for this pod, to be changed or run. With what ADD answered, as the CNI asks of runtimes.
    #[must_use]
    pub fn call(&self, command: &str) -> Call {
        let mut config = self.node.network_config();
        if command != "ADD" {
            config["prevResult"] = self.result.clone();
        }
        let netns = self.netns.path().to_string_lossy();
        Call::new(&self.node, command, &self.container_id(), &netns).input(&config.to_string())
    }

    /// What ADD answered.
    #[must_use]
    pub fn result(&self) -> &Value {
        &self.result
    }

    /// Lets go of the pod without DEL, as a runtime that died with it would.
    pub fn abandon(mut self) {
        self.abandoned = true;
    }

    /// What `CNI_CONTAINERID` is set to.
    #[must_use]
    pub fn container_id(&self) -> String {
        container_id(&self.name)
    }

    /// Starts the echo server on `port` (HTTP and UDP), answering as this pod.
    ///
    /// # Errors
    /// If it does not listen within a few seconds.
    pub fn serve(&self, port: u16) -> Result<crate::process::Running> {
        self.serve_as(&self.name, port, &self.node.log_path(&format!("echo-{}", self.name)))
    }
}

impl Deref for Pod {
    type Target = Netns;

    fn deref(&self) -> &Netns {
        &self.netns
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if self.abandoned {
            return;
        }
        // Most often the test has the pod no more, or the node is going too: nothing depends on it.
        let _ = self.call("DEL").run(&self.node);
    }
}

/// Addresses in ADD's answer, without their prefix lengths; `None` if there is not at least one.
fn addresses(result: &Value) -> Option<Vec<IpAddr>> {
    let address = |ip: &Value| ip["address"].as_str()?.split('/').next()?.parse().ok();
    let addresses: Option<Vec<_>> = result["ips"].as_array()?.iter().map(address).collect();
    addresses.filter(|addresses| !addresses.is_empty())
}

/// MAC of the interface inside the sandbox, by ADD's answer.
fn mac(result: &Value) -> Option<[u8; 6]> {
    let mut interfaces = result["interfaces"].as_array()?.iter();
    let text = interfaces.find(|interface| interface["sandbox"].as_str().is_some_and(|s| !s.is_empty()))?;
    let bytes = text["mac"].as_str()?.split(':').map(|part| u8::from_str_radix(part, 16).ok());
    bytes.collect::<Option<Vec<_>>>()?.try_into().ok()
}

/// Container ids are 64 hexadecimal digits in practice: long enough to notice if somebody cuts them short.
fn container_id(name: &str) -> String {
    let hex = name.bytes().fold(String::new(), |hex, byte| format!("{hex}{byte:02x}"));
    format!("{hex:0>64}")
}
