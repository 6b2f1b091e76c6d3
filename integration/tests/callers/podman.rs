//! podman on a node, with its CNI backend and all that is its in folders of its own.

use std::{
    ffi::OsStr,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use integration::{
    Netns, Node, callers,
    process::{self, Finished},
};
use serde_json::Value;

use crate::{
    image,
    network::{Network, plugin_dirs},
    room,
    talk::Wired,
};

/// podman of one node.
#[derive(Debug)]
pub(crate) struct Podman {
    node: Node,
    network: Network,
    dir: PathBuf,
}

impl Podman {
    /// podman on `node`, whose only network is `network`, with the image that containers are made of.
    pub(crate) fn new(node: &Node, network: &Network) -> Result<Self> {
        let dir = node.runtime_dir().with_file_name("podman");
        fs::create_dir_all(&dir)?;
        let podman = Self { node: node.clone(), network: network.clone(), dir };
        fs::write(podman.dir.join("containers.conf"), podman.config()?)?;
        // Newer ones have no CNI any more.
        let backend = podman.run(["info", "--format", "{{.Host.NetworkBackend}}"])?;
        if backend.stdout.trim() != "cni" {
            return Err(callers::Missing::new("a podman with a CNI backend (version 4)").into());
        }
        let archive = image::archive(&podman.dir.join("image"))?;
        podman
            .run(["load".as_ref(), "--input".as_ref(), archive.as_os_str()])?
            .ok()
            .context("podman load")?;
        Ok(podman)
    }

    fn config(&self) -> Result<String> {
        let [ours, others] = plugin_dirs()?;
        let (ours, others) = (ours.display(), others.display());
        let (networks, runc) = (self.network.dir().display(), callers::installed("runc")?);
        // The limits are those that any machine allows.
        Ok(format!(
            r#"[containers]
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
[engine]
cgroup_manager = "cgroupfs"
events_logger = "none"
runtime = "runc"
[engine.runtimes]
runc = ["{}"]
[network]
network_backend = "cni"
network_config_dir = "{networks}"
cni_plugin_dirs = ["{ours}", "{others}"]
"#,
            runc.display()
        ))
    }

    /// podman with these words.
    pub(crate) fn run(&self, words: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<Finished> {
        let mut podman = self.node.command(callers::installed("podman")?);
        podman.env("CONTAINERS_CONF", self.dir.join("containers.conf"));
        for (option, dir) in [("--root", "storage"), ("--runroot", "run"), ("--tmpdir", "tmp")] {
            podman.arg(option).arg(self.dir.join(dir));
        }
        podman.args(words);
        process::finish(podman, "")
    }

    /// Starts container `name` on the network, with `options` of `podman run` besides.
    pub(crate) fn start(&self, name: &str, options: &[&str]) -> Result<Wired> {
        let group = room::control_group();
        let words =
            ["run", "--detach", "--name", name, "--network", self.network.name(), "--cgroup-parent", &group];
        self.run(words.iter().chain(options).chain(&[image::NAME]))?.ok()?;
        self.wiring(name)
    }

    fn wiring(&self, name: &str) -> Result<Wired> {
        let text = self.run(["inspect", name])?.ok()?;
        let told: Value = serde_json::from_str(&text).context("podman inspect")?;
        let settings = &told[0]["NetworkSettings"];
        let address = settings["Networks"][self.network.name()]["IPAddress"].as_str();
        let address: Option<IpAddr> = address.and_then(|address| address.parse().ok());
        let path = settings["SandboxKey"].as_str().context("no network namespace")?;
        Ok(Wired {
            netns: Netns::open(Path::new(path))?,
            address: address.with_context(|| format!("no address in {settings}"))?,
        })
    }

    /// Kills and removes container `name`.
    pub(crate) fn remove(&self, name: &str) -> Result<()> {
        self.run(["rm", "--force", "--time", "0", name])?.ok().map(drop)
    }
}
