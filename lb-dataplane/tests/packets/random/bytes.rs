//! Whatever bytes come, the programs stay upright.

use std::{cell::RefCell, net::IpAddr};

use lb_dataplane::{Drop, Mac};
use proptest::{
    prelude::*,
    sample::select,
    test_runner::{Config, TestRunner},
};

use crate::{
    fragment::cut,
    frame::{Body, Frame, Packet, Transport},
    net::{IPV4, IPV6, NETS, mac},
    world::{NODE, Outcome, PEER, Place, VNI, World, shortest},
};

/// Whatever bytes come: no panic in the kernel, one counter a packet, and nothing from a port that is not its own
/// ever goes on.
pub fn survive() {
    let world = RefCell::new(World::new("bytes"));
    let mut runner =
        TestRunner::new(Config { cases: 20_000, failure_persistence: None, ..Config::default() });
    let frames = NETS.map(|net| {
        let whole = Frame {
            dst_mac: Mac::GATEWAY.0,
            src_mac: mac(net.pod_a).0,
            body: Body::Ip(Packet {
                src: net.pod_a,
                dst: net.pod_c,
                ttl: 64,
                options: vec![],
                transport: Transport::Udp { src: 1, dst: 2, checksum: true },
                payload: vec![0; 32],
            }),
        };
        let inner = Box::new(whole.clone());
        let body = Body::Vxlan { src: PEER, dst: NODE, vni: VNI, inner };
        let wire = Frame { body, ..whole.clone() };
        {
            let pieces = cut(&whole, 7, 3);
            [whole.encode(), pieces[0].encode(), pieces[1].encode(), wire.encode()]
        }
    });
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 34..200),
        select(frames.concat()).prop_flat_map(mutated)
    ];
    let place = select(vec![Place::PortA, Place::HostPort, Place::Uplink]);
    let bytes = bytes.prop_filter("the kernel takes no less", |bytes| bytes.len() >= shortest(bytes));
    let result = runner.run(&(place, bytes), |(place, bytes)| {
        let outcome = world.borrow_mut().run(place, &bytes);
        if place == Place::PortA {
            prop_assert_ne!(&outcome, &Outcome::Next, "a port's packet is never left to others");
            if let Outcome::Sent(..) = outcome {
                let net = if bytes[12..14] == [0x08, 0x00] { &IPV4 } else { &IPV6 };
                prop_assert_eq!(&bytes[6..12], &mac(net.pod_a).0, "only its own MAC");
                match net.pod_a {
                    IpAddr::V4(own) => prop_assert_eq!(&bytes[26..30], &own.octets(), "only its own address"),
                    IpAddr::V6(own) => prop_assert_eq!(&bytes[22..38], &own.octets(), "only its own address"),
                }
            }
        }
        if place == Place::HostPort {
            prop_assert_ne!(outcome, Outcome::Dropped(Drop::ForgedSource));
        }
        Ok(())
    });
    if let Err(failure) = result {
        panic!("{failure}");
    }
}

/// `bytes` with up to four of them changed, and cut anywhere.
fn mutated(bytes: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = bytes.len();
    let changes = prop::collection::vec((0..length, any::<u8>()), 0..=4);
    (changes, 34..=length).prop_map(move |(changes, cut)| {
        let mut bytes = bytes.clone();
        for (at, value) in changes {
            bytes[at] = value;
        }
        bytes.truncate(cut);
        bytes
    })
}
