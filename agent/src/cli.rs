//! The command line: what can be said to `beelined`, and nothing of what it then does.

use std::{
    ffi::OsString,
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::{
    Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind,
    parser::ValueSource,
};
use lb_dataplane::{node_file::DEFAULT_RUNTIME_DIR, pins::DEFAULT_BPFFS};

use crate::host::sysctl::DEFAULT_SYSCTLS;

const EXAMPLE: &str = "\
Example of a configuration:
  node: node1                   # which of the nodes this is (or --node)
  nodes:
    - { name: node1, address: 192.0.2.1, podCidrs: [10.244.1.0/24, \"fd00:10:244:1::/64\"] }
    - { name: node2, address: 192.0.2.2, podCidrs: [10.244.2.0/24, \"fd00:10:244:2::/64\"] }
  services:
    - name: echo
      frontends: [{ vip: 10.96.0.10, port: 8000, protocol: tcp }]
      backends:  [{ address: 10.244.1.5, port: 80 }, { address: 10.244.2.7, port: 80 }]
      affinity: none            # or clientIp; affinityTimeout: 3h
      flowTtl: 240s
      dsr: true                 # false leaves the service to the host (kube-proxy)
Also known at the top: vni (1), vxlanPort (4789), uplink (the device that holds the node's address),
attach (auto, tcx or clsact); of a node: zone, and of one that is a plain VXLAN tunnel end: vtepMac.
Of a service: externalFrontends and loadBalancerFrontends (like frontends), loadBalancerSourceRanges
([203.0.113.0/24]: who may ask at the latter), nodePorts ([{ port: 30080, protocol: tcp }]),
internalTrafficPolicy and externalTrafficPolicy (cluster or local), trafficDistribution (preferSameZone
or preferSameNode). Of a backend: state (ready, terminating or notReady), node and zone.";

/// Where the configuration is if nobody says so.
const DEFAULT_CONFIG: &str = "/etc/beeline/node.yaml";
/// Where container runtimes look for conflists and for plugins if nobody tells them otherwise.
const CNI_CONF_DIR: &str = "/etc/cni/net.d";
const CNI_BIN_DIR: &str = "/opt/cni/bin";
/// Where Kubernetes' tools expect a node agent's metrics: at every address of the node, of both families.
const METRICS: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 9965);

/// Options that belong to a command.
const BEHIND: [&str; 12] = [
    "source",
    "config",
    "node",
    "kubeconfig",
    "api_server",
    "cni_conf_dir",
    "cni_conf_name",
    "cni_bin_dir",
    "runtime_dir",
    "bpffs",
    "sysctls",
    "metrics_address",
];

/// Beeline's node agent: makes this machine a node of the pod network.
///
/// It reads the configuration, sets up devices, routes, masquerading and the eBPF dataplane, and follows every
/// change of the file within a fraction of a second. A file that makes no sense changes nothing: the last good
/// state stays, and the log and `beelinectl status` say what is wrong and where. It may be stopped, killed and
/// restarted at any time: packets flow on without it.
#[derive(Debug, Parser)]
#[command(max_term_width = 100, version, after_long_help = EXAMPLE, infer_subcommands = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
    #[command(flatten)]
    pub(crate) run: Run,
    #[command(flatten)]
    pub(crate) logging: Logging,
}

impl Cli {
    /// Reads this process's command line; ends the process if it makes no sense, or only asks for help.
    pub(crate) fn read() -> Self {
        Self::read_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// What the default command takes stands here as well; in front of another command it would be lost unseen. How
    /// to log may stand anywhere.
    fn read_from(line: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(line)?;
        if let Some(name) = matches.subcommand_name() {
            let misplaced = BEHIND
                .into_iter()
                .find(|option| matches.value_source(option) == Some(ValueSource::CommandLine));
            if let Some(option) = misplaced {
                let option = option.replace('_', "-");
                let message = format!("write --{option} behind `{name}`, not in front of it");
                return Err(command.error(ErrorKind::ArgumentConflict, message));
            }
        }
        Self::from_arg_matches(&matches)
    }
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Keep this machine a node until stopped (the default).
    #[command(after_long_help = EXAMPLE)]
    Run(Run),
    /// Say whether the configuration is good, and everything that is wrong with it; touch nothing.
    #[command(after_long_help = EXAMPLE)]
    Check(Check),
    /// Remove programs, pins, devices, routes, masquerading and files from this machine.
    ///
    /// Pods that are still wired lose their network, and their addresses stay accounted for: delete them, then run
    /// this again. The configuration and a mounted bpffs are left, and so are sysctls, since others may have come to
    /// depend on them: `net.ipv4.ip_forward=1` and `net.ipv4.conf.all.send_redirects=0`; with IPv6 also
    /// `net.ipv6.conf.all.forwarding=1`, and `accept_ra=2` where it was 1.
    Uninstall(Uninstall),
    /// Copy the plugin's programs, which lie beside this one, to where the container runtime starts them, and end.
    ///
    /// `run` does so as well when it is told the folder.
    Install(Install),
    /// Mount a bpffs where pins shall be, if there is none, and end.
    ///
    /// For a container that starts before the agent's own and is the only one that must be privileged: without that,
    /// Kubernetes lets none mount what the node shall see too.
    MountBpffs(Pins),
    /// Do nothing until stopped.
    ///
    /// For the pods of a `DaemonSet` that have done their work, such as `uninstall`, and must not end.
    Wait,
}

#[derive(Debug, Args)]
pub(crate) struct Run {
    /// Where the configuration comes from. `auto` takes the cluster if one is at hand (a --kubeconfig, an --api-server,
    /// or the environment of a pod) and no --config is given.
    #[arg(long, value_enum, env = "BEELINE_SOURCE", default_value_t = SourceKind::Auto)]
    pub(crate) source: SourceKind,
    #[command(flatten)]
    pub(crate) file: Check,
    #[command(flatten)]
    pub(crate) kubernetes: Kubernetes,
    #[command(flatten)]
    pub(crate) cni: Cni,
    #[command(flatten)]
    pub(crate) place: Place,
    /// Folder of this network namespace's sysctls that can be written to; in a container, the node's.
    #[arg(long, value_name = "DIR", env = "BEELINE_SYSCTLS", default_value = DEFAULT_SYSCTLS)]
    pub(crate) sysctls: PathBuf,
    /// Address and port for /metrics, /healthz and /readyz; none if the source is a file (in a cluster: 9965 of every address).
    #[arg(long, value_name = "ADDRESS", env = "BEELINE_METRICS_ADDRESS")]
    pub(crate) metrics_address: Option<SocketAddr>,
}

#[derive(Debug, Args)]
pub(crate) struct Check {
    #[arg(long, value_name = "FILE", env = "BEELINE_CONFIG", help = format!("The configuration (YAML) [default: {DEFAULT_CONFIG}]"))]
    config: Option<PathBuf>,
    /// Which of the configuration's or the cluster's nodes this is: over the file's own `node`, and over the variable
    /// `NODE_NAME` for a cluster.
    #[arg(long, value_name = "NAME", env = "BEELINE_NODE")]
    pub(crate) node: Option<String>,
}

impl Check {
    /// Where the configuration is.
    pub(crate) fn config(&self) -> &Path {
        self.config.as_deref().unwrap_or(Path::new(DEFAULT_CONFIG))
    }
}

/// Where the configuration comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum SourceKind {
    /// Whichever is at hand.
    Auto,
    /// The configuration file.
    File,
    /// The cluster that this node is one of.
    Kubernetes,
}

/// How the cluster is reached.
#[derive(Debug, Args)]
pub(crate) struct Kubernetes {
    /// Way to the API server for an agent that is no pod.
    #[arg(long, value_name = "FILE", env = "BEELINE_KUBECONFIG")]
    pub(crate) kubeconfig: Option<PathBuf>,
    /// Address of the API server, over that of the kubeconfig or of the pod's environment. Without kube-proxy it must
    /// be one that works without Beeline, such as `https://192.0.2.1:6443`.
    #[arg(long, value_name = "URL", env = "BEELINE_API_SERVER")]
    pub(crate) api_server: Option<String>,
}

impl Run {
    /// Where the configuration comes from: never [`SourceKind::Auto`].
    pub(crate) fn source(&self) -> SourceKind {
        let cluster = &self.kubernetes;
        let at_hand = cluster.kubeconfig.is_some()
            || cluster.api_server.is_some()
            || std::env::var_os("KUBERNETES_SERVICE_HOST").is_some();
        match self.source {
            SourceKind::Auto if self.file.config.is_none() && at_hand => SourceKind::Kubernetes,
            SourceKind::Auto => SourceKind::File,
            told => told,
        }
    }

    /// In a cluster, what its nodes have by custom is taken where nothing else is said.
    pub(crate) fn with_defaults(mut self) -> Self {
        if self.source() == SourceKind::Kubernetes {
            self.cni.cni_conf_dir.get_or_insert_with(|| CNI_CONF_DIR.into());
            self.cni.cni_bin_dir.get_or_insert_with(|| CNI_BIN_DIR.into());
            self.metrics_address.get_or_insert(METRICS);
        }
        self
    }
}

/// What the container runtime looks for.
#[derive(Debug, Args)]
#[allow(clippy::struct_field_names, reason = "the names of the options")]
pub(crate) struct Cni {
    /// Folder of conflists. Beeline's own is written there once pods can be wired; not at all if no folder is named
    /// and the source is a file [in a cluster: /etc/cni/net.d].
    #[arg(long, value_name = "DIR", env = "BEELINE_CNI_CONF_DIR")]
    pub(crate) cni_conf_dir: Option<PathBuf>,
    /// Name of Beeline's conflist: runtimes take the first in the order of names.
    #[arg(long, value_name = "NAME", env = "BEELINE_CNI_CONF_NAME", default_value = "10-beeline.conflist")]
    pub(crate) cni_conf_name: String,
    /// Folder of plugins. Beeline's, which lie beside beelined, are copied there; not at all if no folder is named and
    /// the source is a file [in a cluster: /opt/cni/bin].
    #[arg(long, value_name = "DIR", env = "BEELINE_CNI_BIN_DIR")]
    pub(crate) cni_bin_dir: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct Uninstall {
    #[command(flatten)]
    pub(crate) place: Place,
    #[command(flatten)]
    pub(crate) cni: Cni,
}

#[derive(Debug, Args)]
pub(crate) struct Install {
    /// Folder of plugins.
    #[arg(long, value_name = "DIR", env = "BEELINE_CNI_BIN_DIR", default_value = CNI_BIN_DIR)]
    pub(crate) cni_bin_dir: PathBuf,
}

/// Where this node's state lives. Both must be its own, if several nodes share a machine.
#[derive(Debug, Args)]
pub(crate) struct Place {
    /// Folder of node.json, status.json and the store of pods' addresses (`ipam`); best on a tmpfs.
    #[arg(long, value_name = "DIR", env = "BEELINE_RUNTIME_DIR", default_value = DEFAULT_RUNTIME_DIR)]
    pub(crate) runtime_dir: PathBuf,
    /// Folder for pinned maps and programs; a bpffs is mounted at its parent if there is none.
    #[arg(long, value_name = "DIR", env = "BEELINE_BPFFS", default_value = DEFAULT_BPFFS)]
    pub(crate) bpffs: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Pins {
    /// Folder for pinned maps and programs; a bpffs is mounted at its parent if there is none.
    #[arg(long, value_name = "DIR", env = "BEELINE_BPFFS", default_value = DEFAULT_BPFFS)]
    pub(crate) bpffs: PathBuf,
}

#[derive(Debug, Args)]
pub(crate) struct Logging {
    /// How much to log: error, warn, info, debug or trace, or a filter such as `warn,beelined=trace`.
    #[arg(long, global = true, value_name = "LEVEL", env = "RUST_LOG", default_value = "info")]
    pub(crate) log_level: String,
    /// How to log to stderr.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people.
    Text,
    /// An object a line, for programs.
    Json,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn run_is_the_default_and_options_go_with_and_without_it() {
        for line in [
            "beelined --config a.yaml --log-level debug",
            "beelined run --config a.yaml --log-level debug",
            "beelined run --log-level debug --config a.yaml",
            "beelined --log-level debug run --config a.yaml",
            "beelined --log-level debug --config a.yaml",
        ] {
            let cli = Cli::read_from(line.split(' ')).unwrap_or_else(|e| panic!("{line}: {e}"));
            let run = match cli.command {
                Some(Command::Run(run)) => run,
                None => cli.run,
                other => panic!("{line}: {other:?}"),
            };
            assert_eq!(run.file.config().to_str(), Some("a.yaml"));
            assert_eq!(run.source(), SourceKind::File);
            assert_eq!(cli.logging.log_level, "debug");
        }
    }

    #[test]
    fn options_that_would_be_lost_are_refused() {
        for line in [
            "beelined --config a.yaml check",
            "beelined --runtime-dir /run/a run",
            "beelined uninstall --config a.yaml",
            "beelined --metrics-address 127.0.0.1:1 uninstall",
        ] {
            assert!(Cli::read_from(line.split(' ')).is_err(), "{line}");
        }
        let error = Cli::read_from(["beelined", "--runtime-dir", "/a", "run"]).unwrap_err();
        assert!(error.to_string().contains("write --runtime-dir behind `run`"), "{error}");
    }

    #[test]
    fn the_source_is_the_one_at_hand_and_brings_its_customs() {
        let run = |line: &str| match Cli::read_from(line.split(' ')).unwrap().command {
            Some(Command::Run(run)) => run.with_defaults(),
            other => panic!("{line}: {other:?}"),
        };
        let cluster = run("beelined run --kubeconfig k --metrics-address 127.0.0.1:1");
        assert_eq!(cluster.source(), SourceKind::Kubernetes);
        assert_eq!(cluster.cni.cni_bin_dir.as_deref(), Some(Path::new("/opt/cni/bin")));
        assert_eq!(cluster.metrics_address.map(|address| address.port()), Some(1));
        let file = run("beelined run --kubeconfig k --config a.yaml");
        assert_eq!((file.source(), file.metrics_address), (SourceKind::File, None));
        assert_eq!(file.cni.cni_conf_dir, None);
        assert_eq!(run("beelined run --source kubernetes --config a.yaml").source(), SourceKind::Kubernetes);
    }
}
