//! More services than the maps have room for.

use serde_json::{Value, json};

use super::{Cluster, ECHO, cluster, http, service, slice};

/// Ports and endpoints of a service that has more backends than there is room for.
const PORTS: u32 = 300;
const ENDPOINTS: u32 = 1_000;

fn ports(of_slice: bool) -> Value {
    let port = |n: u32| {
        let mut port = json!({ "name": format!("p{n}"), "port": 1_000 + n });
        if !of_slice {
            port["targetPort"] = (1_000 + n).into();
        }
        port
    };
    (0..PORTS).map(port).collect()
}

fn endpoints(count: u32) -> Value {
    let address = |n: u32| format!("10.244.{}.{}", 1 + n / 200, 2 + n % 200);
    (0..count).map(|n| json!({ "addresses": [address(n)] })).collect()
}

/// `default/big`, which is there since `created`.
fn with_too_large_a_service(created: &str) -> Cluster {
    let mut cluster = cluster();
    let mut big = service("big", "10.96.0.20", &ports(false));
    big["metadata"]["creationTimestamp"] = created.into();
    cluster.apply_service(&big);
    cluster.apply_slice(&slice("big-1", "big", &ports(true), &endpoints(ENDPOINTS)));
    cluster
}

#[test]
fn what_the_maps_have_no_room_for_is_left_out_and_the_rest_works() {
    // Older than the other, and too large all the same.
    for created in ["2025-01-01T00:00:00Z", "2027-01-01T00:00:00Z"] {
        let mut cluster = with_too_large_a_service(created);
        assert_eq!(cluster.services(), [ECHO]);
        assert_eq!(cluster.rejected("Service", "room"), 1);
        cluster.apply_service(&service("other", "10.96.0.11", &http()));
        assert_eq!(cluster.services(), [ECHO, "default/other:http 10.96.0.11:80/tcp ->"]);
        assert_eq!(cluster.rejected("Service", "room"), 1, "told once");

        cluster.apply_slice(&slice("big-1", "big", &ports(true), &endpoints(1)));
        assert_eq!(cluster.services().len(), 2 + PORTS as usize);
        assert_eq!(cluster.rejected("Service", "room"), 0);
    }
}

#[test]
fn a_service_that_is_deleted_is_told_of_no_more() {
    let mut cluster = with_too_large_a_service("2027-01-01T00:00:00Z");
    assert_eq!(cluster.services(), [ECHO]);
    cluster.delete_service(&service("big", "10.96.0.20", &http()));
    assert_eq!(cluster.services(), [ECHO]);
    assert_eq!(cluster.rejected("Service", "room"), 0);
}
