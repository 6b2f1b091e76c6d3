//! containerd on a node, with all that is its in folders of its own, and a client of its Container Runtime Interface.

use std::{
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Result, ensure};
use integration::{
    Netns, Node, callers,
    process::{self, Running},
    wait,
};
use serde_json::{Value, json};

use crate::{
    image,
    network::{Network, plugin_dirs},
    room,
    talk::Wired,
};

/// How long containerd may take to start; only what hangs takes longer.
const START_LIMIT: Duration = Duration::from_mins(2);

/// containerd, which runs pods on one node. Its pods live on when it ends, as long as the room does.
#[derive(Debug)]
pub(crate) struct Containerd {
    node: Node,
    dir: PathBuf,
    daemon: Option<Running>,
}

/// A pod that containerd runs.
#[derive(Debug)]
pub(crate) struct Pod {
    pub(crate) id: String,
    pub(crate) wired: Wired,
}

impl Containerd {
    /// Starts containerd on `node` with `network` as the only one, and gives it the pods' image.
    pub(crate) fn start(node: &Node, network: &Network) -> Result<Self> {
        callers::installed("runc")?;
        let dir = node.runtime_dir().with_file_name("containerd");
        fs::create_dir_all(&dir)?;
        let mut containerd = Self { node: node.clone(), dir, daemon: None };
        fs::write(containerd.path("config.toml"), containerd.config(network)?)?;
        containerd.run()?;
        let archive = image::archive(&containerd.path("image"))?;
        let mut import = node.command(callers::containerd()?.join("ctr"));
        import.arg("--address").arg(containerd.path("sock")).args([
            "--namespace",
            "k8s.io",
            "image",
            "import",
        ]);
        process::finish(
            {
                import.arg(archive);
                import
            },
            "",
        )?
        .ok()
        .context("importing the pods' image")?;
        Ok(containerd)
    }

    /// Kills containerd as the kernel's out-of-memory killer would, and starts it again.
    pub(crate) fn restart(&mut self) -> Result<()> {
        self.daemon.take().context("it does not run")?.kill()?;
        self.run()
    }

    fn run(&mut self) -> Result<()> {
        let bin = callers::containerd()?;
        let mut command = self.node.command(bin.join("containerd"));
        // It finds its shim by PATH.
        let path = format!("{}:/usr/sbin:/usr/bin:/sbin:/bin", bin.display());
        command.arg("--config").arg(self.path("config.toml")).env("PATH", path);
        let mut daemon = Running::start(command, &self.node.log_path("containerd"))?;
        wait::until("containerd to answer", START_LIMIT, || {
            daemon.ensure_alive()?;
            Ok(self.path("sock").exists() && self.call("Version", &json!({})).is_ok())
        })?;
        self.daemon = Some(daemon);
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    fn config(&self, network: &Network) -> Result<String> {
        let dir = self.dir.display();
        let [ours, others] = plugin_dirs()?;
        let (ours, others, networks) = (ours.display(), others.display(), network.dir().display());
        Ok(format!(
            r#"version = 3
root = "{dir}/root"
state = "{dir}/state"
[grpc]
address = "{dir}/sock"
[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "{image}"
[plugins."io.containerd.cri.v1.runtime"]
disable_apparmor = true
# Where CAP_SYS_RESOURCE is missing, no score can be lowered.
restrict_oom_score_adj = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.cri.v1.runtime".cni]
bin_dirs = ["{ours}", "{others}"]
conf_dir = "{networks}"
[plugins."io.containerd.nri.v1.nri"]
disable = true
"#,
            image = image::NAME,
        ))
    }

    /// One call of the CRI.
    pub(crate) fn call(&self, method: &str, request: &Value) -> Result<Value> {
        let mut cri = self.node.command(callers::containerd()?.join("cri"));
        cri.arg(self.path("sock")).arg(method);
        let text = process::finish(cri, &request.to_string())?.ok()?;
        serde_json::from_str(&text).with_context(|| format!("{method} answered no JSON: {text}"))
    }

    /// Whether the node's network is ready, and why not.
    pub(crate) fn network_ready(&self) -> Result<(bool, String)> {
        let answer = self.call("Status", &json!({}))?;
        let conditions = answer["status"]["conditions"].as_array().into_iter().flatten();
        let mut network = conditions.filter(|condition| condition["type"] == "NetworkReady");
        let network = network.next().with_context(|| format!("no NetworkReady in {answer}"))?;
        Ok((network["status"] == true, network["message"].as_str().unwrap_or_default().to_owned()))
    }

    /// Runs pod `name`, with `host_port` of its node led to `port` of the pod.
    pub(crate) fn run_pod(&self, name: &str, ports: &[(u16, u16)]) -> Result<Pod> {
        let ports = ports
            .iter()
            .map(|(host, pod)| json!({"protocol": "TCP", "hostPort": host, "containerPort": pod}));
        let request = json!({"config": {
            "metadata": {"name": name, "namespace": "default", "uid": format!("uid-of-{name}"), "attempt": 0},
            "hostname": name,
            "logDirectory": self.path("pods"),
            "portMappings": ports.collect::<Vec<_>>(),
            "linux": {"cgroupParent": room::control_group()},
        }});
        let answer = self.call("RunPodSandbox", &request)?;
        let id = answer["podSandboxId"].as_str().with_context(|| format!("no pod in {answer}"))?;
        Ok(Pod { id: id.to_owned(), wired: self.wiring(id)? })
    }

    /// The network of pod `id`, as containerd tells of it.
    fn wiring(&self, id: &str) -> Result<Wired> {
        let answer = self.call("PodSandboxStatus", &json!({"podSandboxId": id, "verbose": true}))?;
        let address = answer["status"]["network"]["ip"].as_str().and_then(|ip| ip.parse().ok());
        let info: Value = serde_json::from_str(answer["info"]["info"].as_str().unwrap_or_default())?;
        let namespaces = info["runtimeSpec"]["linux"]["namespaces"].as_array().into_iter().flatten();
        let path = namespaces.filter(|ns| ns["type"] == "network").find_map(|ns| ns["path"].as_str());
        Ok(Wired {
            netns: Netns::open(Path::new(path.context("no network namespace")?))?,
            address: address.with_context(|| format!("no address in {answer}"))?,
        })
    }

    /// The pods it knows of, with whether they run.
    pub(crate) fn pods(&self) -> Result<Vec<(String, bool)>> {
        let answer = self.call("ListPodSandbox", &json!({}))?;
        let pods = answer["items"].as_array().into_iter().flatten();
        let told = |pod: &Value| Some((pod["id"].as_str()?.to_owned(), pod["state"] == "SANDBOX_READY"));
        Ok(pods.filter_map(told).collect())
    }

    /// Stops and removes a pod, each twice, as the kubelet may.
    pub(crate) fn remove_pod(&self, pod: &Pod) -> Result<()> {
        for method in ["StopPodSandbox", "StopPodSandbox", "RemovePodSandbox", "RemovePodSandbox"] {
            self.call(method, &json!({"podSandboxId": pod.id}))?;
        }
        ensure!(!self.pods()?.iter().any(|(id, _)| *id == pod.id), "{} is still there", pod.id);
        Ok(())
    }
}
