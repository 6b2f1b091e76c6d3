//! The overlay needs no ARP: nobody asks, and nobody has to answer.

use std::{thread, time::Duration};

use anyhow::{Result, ensure};
use integration::{Family, Pod, Stack, load::Connections, wait};

use crate::scene::{Scene, ensure_perfect};

pub(crate) fn a13_no_arp_on_the_pods_wires() -> Result<()> {
    nobody_asks_for_macs(Stack::V4)
}

/// Nothing is on pods' wires but what they say to each other: no ARP, no neighbour discovery, no group membership.
pub(crate) fn nobody_asks_for_macs(stack: Stack) -> Result<()> {
    for scene in Scene::of_each_kind(stack)? {
        // Everything that is not of the family, to be told of more than ARP; what IPv6 has in ARP's place; and some
        // of what is said, to see that the captures work.
        let (filter, gateway) = match scene.family() {
            Family::V4 => ("not ip or tcp[tcpflags] & tcp-syn != 0", "169.254.1.1"),
            // A SYN is at byte 13 of TCP; an echo request and reply are 128 and 129.
            Family::V6 => (
                "not ip6 or ip6[6] = 0 or (ip6[6] = 58 and ip6[40] != 128 and ip6[40] != 129) or \
                 (ip6[6] = 6 and ip6[53] & 2 != 0)",
                "fe80::1",
            ),
        };
        [&scene.client, scene.server()].into_iter().try_for_each(let_announce)?;
        let captures = [scene.client.capture("eth0", filter)?, scene.server().capture("eth0", filter)?];
        ensure_perfect(&scene.client.load(scene.vip(), 100, Connections::New)?, 100)?;
        scene.server().ping(scene.client.address(), 56)?;
        for capture in captures {
            let packets = capture.stop()?;
            ensure!(packets.len() >= 100, "the capture saw {} packets", packets.len());
            let others: Vec<_> = packets.iter().filter(|packet| !packet.contains("Flags [S")).collect();
            ensure!(others.is_empty(), "on the wire besides what was said: {others:#?}");
        }
        let neighbours = scene.client.exec("ip neigh show")?;
        let [only] = neighbours.lines().collect::<Vec<_>>()[..] else {
            anyhow::bail!("one neighbour expected: {neighbours}");
        };
        ensure!(only.contains(gateway) && only.contains("PERMANENT"), "{only}");
    }
    Ok(())
}

/// Waits until the pod's kernel has told of the groups that its IPv6 addresses are in. It does so when it gets them,
/// and once more within a second (RFC 3810 §9.11); its port drops that.
fn let_announce(pod: &Pod) -> Result<()> {
    let told = || -> Result<Option<String>> {
        let counters = pod.exec("cat /proc/net/snmp6")?;
        Ok(counters.lines().find(|line| line.starts_with("Icmp6OutType143")).map(str::to_owned))
    };
    let are_over = || -> Result<bool> {
        let before = told()?;
        thread::sleep(Duration::from_secs(2));
        Ok(told()? == before)
    };
    wait::until("the pod's announcements to end", Duration::from_mins(1), are_over)
}
