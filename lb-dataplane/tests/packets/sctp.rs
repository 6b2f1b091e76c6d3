//! Stories of SCTP, whose checksum covers ports and no addresses.

use lb_dataplane::{Drop, Hop, desired::Protocol};

use crate::{
    build::{arriving, from, name, packet, sent, to, with, wrapped},
    fragment::cut,
    frame::Transport,
    net::{Net, mac},
    table::Story,
    world::{NODE, Outcome, PEER, Place, VNI, World, service},
};

/// Every test of this file.
pub const TESTS: &[(&str, Story)] = &[
    ("c_sctp_is_balanced_with_its_checksum_right", balanced),
    ("c_sctp_checksums_that_are_left_to_a_device_stay_empty", left_to_a_device),
    ("c_sctp_fragments_pass_unless_a_port_changes", fragments),
];

const fn sctp(src: u16, dst: u16) -> Transport {
    Transport::Sctp { src, dst, checksum: true }
}

/// Requests and replies of every length class: the checksum's difference depends on it.
fn balanced(net: &Net) {
    let mut world = World::new(&name(net, "sctp"));
    let remote = service("remote", Protocol::Sctp, net.vip(0), &[(net.pod_c, 38_412)]);
    let local = service("local", Protocol::Sctp, net.vip(1), &[(net.pod_b, 8000)]);
    world.set_services(&[remote, local]);
    for length in [0, 1, 2, 3, 4, 7, 15, 16, 200, 255, 256, 1_411, 2_000, 3_000] {
        let payload: Vec<_> = (0..length).map(|n: u16| n.to_le_bytes()[0] ^ n.to_le_bytes()[1]).collect();
        let make =
            |src, dst, transport| with(packet(src, dst, transport), |p| p.payload.clone_from(&payload));
        let request = make(net.pod_a, net.vip(0), sctp(40_000, 8000));
        let wire = with(make(net.pod_a, net.pod_c, sctp(40_000, 38_412)), |p| p.ttl = 63);
        assert_eq!(
            sent(&mut world, Place::PortA, &from(&request)),
            (Hop::PortToOverlay, wrapped(NODE, PEER, VNI, mac(net.pod_c), mac(net.pod_a), wire)),
            "{length} bytes"
        );
        let reply = make(net.pod_c, net.pod_a, sctp(38_412, 40_000));
        assert_eq!(
            sent(&mut world, Place::Uplink, &arriving(PEER, &reply)),
            (Hop::UplinkToPort, to(net.pod_a, make(net.vip(0), net.pod_a, sctp(8000, 40_000)))),
            "{length} bytes"
        );
        let request = make(net.pod_a, net.vip(1), sctp(40_000, 8000));
        let delivered = with(make(net.pod_a, net.pod_b, sctp(40_000, 8000)), |p| p.ttl = 63);
        assert_eq!(
            sent(&mut world, Place::PortA, &from(&request)),
            (Hop::PortToPort, to(net.pod_b, delivered))
        );
    }
}

fn left_to_a_device(net: &Net) {
    let mut world = World::new(&name(net, "sctp_empty"));
    world.set_services(&[service("sctp", Protocol::Sctp, net.vip(0), &[(net.pod_b, 38_412)])]);
    let empty = |src, dst| Transport::Sctp { src, dst, checksum: false };
    let request = packet(net.pod_a, net.vip(0), empty(40_000, 8000));
    let delivered = with(packet(net.pod_a, net.pod_b, empty(40_000, 38_412)), |p| p.ttl = 63);
    assert_eq!(sent(&mut world, Place::PortA, &from(&request)), (Hop::PortToPort, to(net.pod_b, delivered)));
}

fn fragments(net: &Net) {
    let mut world = World::new(&name(net, "sctp_fragments"));
    let changed = service("changed", Protocol::Sctp, net.vip(0), &[(net.pod_b, 38_412)]);
    let kept = service("kept", Protocol::Sctp, net.vip(1), &[(net.pod_b, 8000)]);
    world.set_services(&[changed, kept]);
    let datagram = |vip| {
        let packet = with(packet(net.pod_a, vip, sctp(40_000, 8000)), |p| p.payload = vec![7; 100]);
        cut(&from(&packet), 9, 6)
    };
    let pieces = datagram(net.vip(0));
    assert_eq!(world.run(Place::PortA, &pieces[0].encode()), Outcome::Dropped(Drop::SctpFragment));
    for piece in datagram(net.vip(1)) {
        assert!(matches!(world.run(Place::PortA, &piece.encode()), Outcome::Sent(Hop::PortToPort, _)));
    }
}
