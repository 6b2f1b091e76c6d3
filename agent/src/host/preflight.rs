//! Preflight: what this machine must have before anything is tried, told with the cure where it lacks.

mod kube_proxy;

use std::{fs, path::Path, process::Command};

use lb_dataplane::{AttachMode, status_file::Check};

use super::bpffs;
use crate::error::told;

/// Oldest kernel that has what the programs use.
const MIN_KERNEL: (u32, u32) = (5, 15);

/// What beelined needs, by bits of capabilities(7), and what for. `CAP_SYS_ADMIN` comprises `CAP_BPF`, which is not
/// enough: without it, bpf(2) lists no loaded programs, and none could be replaced by those of a new release.
const CAPABILITIES: [(u32, &str, &str); 2] = [
    (12, "CAP_NET_ADMIN", "to set up devices, routes and programs on them"),
    (21, "CAP_SYS_ADMIN", "to load eBPF programs, and to find those that they replace"),
];

/// What was found.
pub(crate) struct Findings {
    /// Every fact, good or bad.
    pub(crate) checks: Vec<Check>,
    /// What makes it pointless to go on.
    pub(crate) fatal: Vec<String>,
}

/// Looks at the machine, and mounts a bpffs if there is none where `pins` shall be.
pub(crate) fn run(pins: &Path) -> Findings {
    let privilege = privilege();
    // Without privilege there is no use in trying, and the reason would be told twice.
    let mounted = match &privilege {
        Ok(_) => mounted(pins),
        Err(_) => Ok("not looked at".to_owned()),
    };
    let fatal = [("kernel", kernel()), ("privilege", privilege), ("bpffs", mounted)];
    let others =
        [("nft", nft()), ("btf", btf()), ("rp_filter", Ok(rp_filter())), ("kube-proxy", kube_proxy::left())];
    Findings {
        fatal: fatal.iter().filter_map(|(_, found)| found.clone().err()).collect(),
        checks: fatal.into_iter().chain(others).map(|(name, found)| check(name, found)).collect(),
    }
}

fn check(name: &str, found: Result<String, String>) -> Check {
    let ok = found.is_ok();
    Check { name: name.to_owned(), ok, detail: found.unwrap_or_else(|lack| lack) }
}

fn kernel() -> Result<String, String> {
    let release = nix::sys::utsname::uname()
        .map(|uname| uname.release().to_string_lossy().into_owned())
        .map_err(|error| format!("cannot tell the kernel's version: {error}"))?;
    let (major, minor) = MIN_KERNEL;
    match version(&release) {
        Some(version) if version < MIN_KERNEL => Err(format!(
            "Linux {release} is too old: beelined needs {major}.{minor} or later; update the kernel"
        )),
        _ => {
            let by = match AttachMode::Auto.resolve() {
                AttachMode::Clsact => "clsact filters: TCX needs 6.6",
                _ => "TCX",
            };
            Ok(format!("Linux {release} ({by})"))
        }
    }
}

/// Major and minor of a release such as `6.12.9-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

/// Whether this process may do what beelined does.
pub(crate) fn privilege() -> Result<String, String> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective =
        effective_capabilities(&status).ok_or("cannot read the capabilities in /proc/self/status")?;
    sufficient(effective)?;
    Ok(if nix::unistd::geteuid().is_root() { "root" } else { "CAP_NET_ADMIN and CAP_SYS_ADMIN" }.to_owned())
}

/// Whether the capabilities in `effective` are enough.
fn sufficient(effective: u64) -> Result<(), String> {
    let lacking: Vec<_> = CAPABILITIES
        .iter()
        .filter(|(bit, ..)| effective & (1_u64 << bit) == 0)
        .map(|(_, name, purpose)| format!("{name} ({purpose})"))
        .collect();
    if lacking.is_empty() {
        return Ok(());
    }
    Err(format!(
        "lacks {}; run beelined as root (in a container: a privileged one), or give it these capabilities",
        lacking.join(" and ")
    ))
}

fn effective_capabilities(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(line.trim(), 16).ok()
}

fn mounted(pins: &Path) -> Result<String, String> {
    bpffs::ensure(pins).map_err(|error| told(&error))
}

fn nft() -> Result<String, String> {
    let cure = "pods cannot reach the outside; install the package nftables";
    match Command::new("nft").arg("--version").output() {
        Ok(output) if output.status.success() => {
            Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
        }
        Ok(output) => Err(format!("`nft --version` ended with {}; {cure}", output.status)),
        Err(error) => Err(format!("`nft` cannot be run ({error}); {cure}")),
    }
}

/// Programs load without it; only what tools show of them is less.
fn btf() -> Result<String, String> {
    let path = "/sys/kernel/btf/vmlinux";
    if Path::new(path).exists() {
        return Ok(path.to_owned());
    }
    Err(format!(
        "{path} is not there, so bpftool cannot show what is in maps and programs; take a kernel with \
         CONFIG_DEBUG_INFO_BTF=y to see it"
    ))
}

/// Any value does: what pods send to the host comes in where answers go out. It is told because other networks need
/// it to be 0 or 2.
fn rp_filter() -> String {
    let value = fs::read_to_string("/proc/sys/net/ipv4/conf/all/rp_filter").unwrap_or_default();
    match value.trim() {
        "0" => "0 (off) for all devices",
        "1" => "1 (strict) for all devices, as it may be",
        "2" => "2 (loose) for all devices",
        _ => "unknown",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CAP_NET_ADMIN: u64 = 1 << 12;
    const CAP_SYS_ADMIN: u64 = 1 << 21;
    const CAP_BPF: u64 = 1 << 39;

    #[test]
    fn versions_are_read_from_all_kinds_of_releases() {
        for (release, expected) in [
            ("6.12.9-amd64", Some((6, 12))),
            ("5.15.0-1051-aws", Some((5, 15))),
            ("5.4", Some((5, 4))),
            ("7.0-rc1", Some((7, 0))),
            ("unknown", None),
        ] {
            assert_eq!(version(release), expected, "{release}");
        }
    }

    #[test]
    fn capabilities_are_those_in_effect() {
        let status = "CapInh:\t0000000000000000\nCapPrm:\tffff\nCapEff:\t0000008000001000\n";
        assert_eq!(effective_capabilities(status), Some(CAP_BPF | CAP_NET_ADMIN));
    }

    #[test]
    fn what_is_lacking_is_told_with_the_reason() {
        sufficient(CAP_SYS_ADMIN | CAP_NET_ADMIN).unwrap();
        let error = sufficient(CAP_BPF | CAP_NET_ADMIN).unwrap_err();
        assert!(
            error.contains("lacks CAP_SYS_ADMIN (to ") && error.contains("run beelined as root"),
            "{error}"
        );
        let error = sufficient(0).unwrap_err();
        assert!(error.contains("CAP_NET_ADMIN") && error.contains("CAP_SYS_ADMIN"), "{error}");
    }
}
