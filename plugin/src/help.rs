//! What a person sees who starts the plugin by hand.

use std::process::ExitCode;

const HELP: &str = "\
beeline: Beeline's CNI plugin

Container runtimes start it; people seldom do. It takes no arguments: the request is in the
environment (CNI_COMMAND, CNI_CONTAINERID, CNI_NETNS, CNI_IFNAME, CNI_ARGS, CNI_PATH), the network
configuration on standard input.

Which CNI versions it speaks:
  CNI_COMMAND=VERSION beeline </dev/null

An interface by hand, while beelined runs; with DEL for ADD it goes again:
  ip netns add try
  echo '{\"cniVersion\": \"1.0.0\", \"name\": \"beeline\", \"type\": \"beeline\"}' |
    CNI_COMMAND=ADD CNI_CONTAINERID=try CNI_NETNS=/run/netns/try CNI_IFNAME=eth0 beeline

The configuration may also have
  \"runtimeDir\"  where beelined keeps node.json, and addresses are accounted for; /run/beeline
  \"mtu\"         of the pod's interface, in bytes; the node's, and never more
  \"ipam\"        {\"type\": \"beeline-ipam\", \"ranges\": [[{\"subnet\": ...}]], \"routes\": [{\"dst\": ...}]}, or
                another IPAM plugin's section; one address of each of the node's pod CIDRs' families
  \"dns\"         handed on in the result
and the capabilities ips, mac, ipRanges and bandwidth (which makes room for that plugin).

Options:
  -h, --help       this text
  -V, --version    the plugin's version
";

/// Answers `--help` and `--version`; `None` if the plugin is to do its work.
pub(crate) fn answer(mut args: impl Iterator<Item = String>) -> Option<ExitCode> {
    match args.next()?.as_str() {
        "-h" | "--help" => print!("{HELP}"),
        "-V" | "--version" => println!("beeline {}", env!("CARGO_PKG_VERSION")),
        other => {
            eprintln!("error: unknown argument `{other}`; see `beeline --help`");
            return Some(ExitCode::FAILURE);
        }
    }
    Some(ExitCode::SUCCESS)
}
