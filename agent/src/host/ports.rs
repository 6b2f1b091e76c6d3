//! Pods' ports, as the agent sees them: which devices they are, and what is wrong with them. The plugin makes them.

use lb_dataplane::{PortOwner, netlink::Link, port_name::is_port_name};

/// How many pods are named; with more, only their number is told.
const NAMED: usize = 5;

/// Whether `link` is a pod's port.
pub(crate) fn is_port(link: &Link) -> bool {
    link.kind.as_deref() == Some("veth") && is_port_name(&link.name)
}

/// Says which pods among `links` were made for a larger MTU than `mtu`, that of pods now, and the cure.
pub(crate) fn too_large(links: &[Link], mtu: u32) -> Option<String> {
    let large: Vec<&Link> = links.iter().filter(|link| is_port(link) && link.mtu > mtu).collect();
    if large.is_empty() {
        return None;
    }
    let mut names: Vec<_> = large.iter().take(NAMED).map(|link| name(link)).collect();
    if large.len() > NAMED {
        names.push(format!("and {} more", large.len() - NAMED));
    }
    Some(format!(
        "{mtu} bytes is the MTU of pods now, less than when these were made: {}; restart these pods, or raise the uplink's MTU \
         again. What they send larger is dropped and they are told (`packet_too_big`), what they are sent larger may be lost",
        names.join(", ")
    ))
}

/// The port's name, and whose it is if it says so.
fn name(port: &Link) -> String {
    match port.alias.as_deref().and_then(PortOwner::from_alias) {
        Some(PortOwner { pod: Some(pod), .. }) => format!("{pod} ({})", port.name),
        Some(owner) => format!("{} ({})", owner.container, port.name),
        None => port.name.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn port(number: usize, mtu: u32, alias: Option<&str>) -> Link {
        Link {
            name: format!("bl{number:013x}"),
            kind: Some("veth".into()),
            mtu,
            alias: alias.map(str::to_owned),
            ..Link::default()
        }
    }

    #[test]
    fn only_ports_of_a_larger_mtu_are_named() {
        let other = Link { name: "veth0".into(), ..port(0, 1500, None) };
        assert_eq!(too_large(&[other.clone(), port(1, 1450, None)], 1450), None);

        let links = [
            other,
            port(1, 1250, None),
            port(2, 1450, Some("c0ffee eth0 default/web")),
            port(3, 1450, Some("c0ffee eth0")),
        ];
        let told = too_large(&links, 1250).unwrap();
        assert!(
            told.contains(": default/web (bl0000000000002), c0ffee (bl0000000000003); restart these pods"),
            "{told}"
        );
    }

    #[test]
    fn many_are_counted() {
        let links: Vec<Link> = (0..9).map(|number| port(number, 1450, None)).collect();
        let told = too_large(&links, 1250).unwrap();
        assert!(told.contains("bl0000000000004, and 4 more;"), "{told}");
    }
}
