//! libcni, called by its own cnitool, and by `gc`, which can name the attachments that are valid.

use std::process::Command;

use anyhow::{Context, Result};
use integration::{
    Netns, Node, callers,
    process::{self, Finished},
};
use serde_json::Value;

use crate::{
    network::{Network, plugin_path},
    talk::Wired,
};

/// cnitool on a node.
#[derive(Debug)]
pub(crate) struct Cnitool<'a> {
    node: &'a Node,
    network: &'a Network,
    /// Capability arguments, as runtimes give them for a pod.
    capabilities: Option<Value>,
}

impl<'a> Cnitool<'a> {
    pub(crate) fn new(node: &'a Node, network: &'a Network) -> Self {
        Self { node, network, capabilities: None }
    }

    pub(crate) fn with(self, capabilities: Value) -> Self {
        Self { capabilities: Some(capabilities), ..self }
    }

    /// `cnitool COMMAND NETWORK NETNS`.
    pub(crate) fn call(&self, command: &str, netns: &Netns) -> Result<Finished> {
        let mut cnitool = self.program("cnitool")?;
        cnitool.args([command, self.network.name()]).arg(netns.path());
        if let Some(capabilities) = &self.capabilities {
            cnitool.env("CAP_ARGS", capabilities.to_string());
        }
        process::finish(cnitool, "")
    }

    /// Wires `netns`; also gives what the last plugin answered.
    pub(crate) fn add(&self, netns: &Netns) -> Result<(Wired, Value)> {
        let text = self.call("add", netns)?.ok()?;
        let result: Value =
            serde_json::from_str(&text).with_context(|| format!("cnitool printed no result: {text}"))?;
        let ips = result["ips"].as_array().into_iter().flatten();
        let address = ips
            .filter_map(|ip| ip["address"].as_str()?.split('/').next()?.parse().ok())
            .find(|address: &std::net::IpAddr| !address.is_loopback());
        let address = address.with_context(|| format!("no address in {result}"))?;
        Ok((Wired { netns: netns.clone(), address }, result))
    }

    /// Garbage collection in which these attachments are valid, as `CONTAINER/IFNAME`.
    pub(crate) fn gc(&self, valid: &[String]) -> Result<()> {
        let mut gc = self.program("gc")?;
        gc.arg(self.network.name()).args(valid);
        process::finish(gc, "")?.ok().map(drop)
    }

    fn program(&self, name: &str) -> Result<Command> {
        let mut command = self.node.command(callers::cni()?.join(name));
        command.env("CNI_PATH", plugin_path()?).env("NETCONFPATH", self.network.dir());
        Ok(command)
    }
}
