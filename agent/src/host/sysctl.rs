//! Sysctls of this network namespace that Beeline depends on. They are left as they are at the end.

use std::{fs, io, path::Path};

use super::devices::HOST;

/// Where sysctls are, but in a container, whose own are read-only: there it has the node's mounted elsewhere.
pub(crate) const DEFAULT_SYSCTLS: &str = "/proc/sys";

/// Below this is a folder for each device with its IPv6 settings.
const IPV6_DEVICES: &str = "net/ipv6/conf";

/// Name below that folder, and value.
fn wanted() -> [(String, &'static str); 3] {
    [
        // The host forwards between pods and the outside.
        ("net/ipv4/ip_forward".to_owned(), "1"),
        // What a pod sends to the outside leaves by another device, but pods must not be told of shorter ways:
        // the effective value is the larger of `all` and the device's.
        ("net/ipv4/conf/all/send_redirects".to_owned(), "0"),
        (format!("net/ipv4/conf/{HOST}/send_redirects"), "0"),
    ]
}

/// Sets those below `root` that differ; IPv6's only if the node has pods of it. What cannot be set is told with its
/// cure.
pub(crate) fn ensure(root: &Path, ipv6: bool) -> Vec<String> {
    let mut troubles: Vec<String> =
        wanted().iter().filter_map(|(name, value)| set(root, name, value).err()).collect();
    if ipv6 {
        // No router is on the host's own device, and whoever claimed to be one would be no friend.
        troubles.extend(set(root, &format!("{IPV6_DEVICES}/{HOST}/accept_ra"), "0").err());
        troubles.extend(forward_ipv6(root).err());
    }
    troubles
}

/// How long the host remembers a TCP connection that one side has closed: where the host's NAT stands before services, the
/// kernel's minute would cut off clients that still read. kube-proxy sets the same (`--conntrack-tcp-timeout-close-wait`).
const HALF_CLOSED: (&str, &str) = ("net/netfilter/nf_conntrack_tcp_timeout_close_wait", "3600");

/// What kube-proxy would set, where Beeline stands in for it. A kernel that tracks no connections needs none of it.
pub(crate) fn ensure_for_services(root: &Path) -> Option<String> {
    let (name, wanted) = HALF_CLOSED;
    value(root, name)?;
    set(root, name, wanted).err()
}

/// Lets the host's own device have IPv6 addresses, also where the machine's default is that devices have none.
pub(crate) fn allow_ipv6(root: &Path) -> Result<(), String> {
    set(root, &format!("{IPV6_DEVICES}/{HOST}/disable_ipv6"), "0")
}

/// Lets the host forward IPv6. A host that forwards no longer listens to routers, and forgets the default routes it has
/// from them, but on devices that are told to do both (`accept_ra` 2, the kernel's ip-sysctl.rst): those that listened
/// until now go on listening.
fn forward_ipv6(root: &Path) -> Result<(), String> {
    let forwarding = format!("{IPV6_DEVICES}/all/forwarding");
    if value(root, &forwarding).as_deref() == Some("1") {
        return Ok(());
    }
    let devices = fs::read_dir(root.join(IPV6_DEVICES)).into_iter().flatten().flatten();
    for device in devices.filter_map(|device| device.file_name().into_string().ok()) {
        let accept = format!("{IPV6_DEVICES}/{device}/accept_ra");
        let is_a_device = !["all", "default", HOST].contains(&device.as_str());
        if is_a_device && value(root, &accept).as_deref() == Some("1") {
            set(root, &accept, "2")?;
        }
    }
    set(root, &forwarding, "1")
}

fn value(root: &Path, name: &str) -> Option<String> {
    fs::read_to_string(root.join(name)).ok().map(|value| value.trim().to_owned())
}

fn set(root: &Path, name: &str, value: &str) -> Result<(), String> {
    let path = root.join(name);
    if self::value(root, name).as_deref() == Some(value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|error| {
        let dotted = name.replace('/', ".");
        let cause = match error.kind() {
            io::ErrorKind::ReadOnlyFilesystem => format!("{} is read-only here", root.display()),
            _ => error.to_string(),
        };
        format!("cannot set {dotted}={value}: {cause}; set it on the node (`sysctl -w {dotted}={value}`)")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sets_what_differs_and_names_what_cannot_be_set() {
        let root = tempfile::tempdir().unwrap();
        fs::write(root.path().join("a"), "0\n").unwrap();
        set(root.path(), "a", "1").unwrap();
        assert_eq!(fs::read_to_string(root.path().join("a")).unwrap(), "1");
        let error = set(root.path(), "net/b", "1").unwrap_err();
        assert!(error.contains("`sysctl -w net.b=1`"), "{error}");
    }

    #[test]
    fn devices_that_listen_to_routers_go_on_listening_when_the_host_forwards() {
        let root = tempfile::tempdir().unwrap();
        let file = |device: &str, name: &str| root.path().join(IPV6_DEVICES).join(device).join(name);
        for (device, accept) in [("all", "1"), ("default", "1"), ("eth0", "1"), ("eth1", "0"), (HOST, "1")] {
            fs::create_dir_all(file(device, "")).unwrap();
            fs::write(file(device, "accept_ra"), accept).unwrap();
        }
        fs::write(file("all", "forwarding"), "0\n").unwrap();
        forward_ipv6(root.path()).unwrap();
        let accepts = |device| fs::read_to_string(file(device, "accept_ra")).unwrap();
        assert_eq!(["all", "default", "eth0", "eth1", HOST].map(accepts), ["1", "1", "2", "0", "1"]);
        assert_eq!(fs::read_to_string(file("all", "forwarding")).unwrap(), "1");

        // Who forwarded before does not listen, and shall not begin to.
        fs::write(file("eth0", "accept_ra"), "1").unwrap();
        forward_ipv6(root.path()).unwrap();
        assert_eq!(accepts("eth0"), "1");
    }
}
