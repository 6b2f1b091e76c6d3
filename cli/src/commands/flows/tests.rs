use std::{collections::HashMap, time::Duration};

use super::*;
use lb_dataplane::{Mac, netlink::Link};

fn names() -> Names {
    let link = |name: &str, alias: Option<&str>| Link {
        name: name.into(),
        alias: alias.map(str::to_owned),
        ..Link::default()
    };
    Names {
        services: HashMap::from([(1, "echo".to_owned())]),
        links: HashMap::from([
            (2, link("eth0", None)),
            (3, link("beeline0", None)),
            (7, link("bl0123456789abc", Some("c0ffee eth0 default/a"))),
        ]),
        host: vec![3, 4],
    }
}

fn request() -> FlowView {
    FlowView {
        protocol: 6,
        src: "10.244.1.5:40000".parse().unwrap(),
        dst: "10.96.0.10:8000".parse().unwrap(),
        action: Action::ToOverlay,
        rewrite: Rewrite::Destination,
        rewritten: Some("10.244.2.7:80".parse().unwrap()),
        service: 1,
        from_ifindex: Some(7),
        from_vtep: None,
        to_ifindex: 2,
        to_vtep: Some("192.168.77.2".parse().unwrap()),
        idle: Duration::from_millis(1_900),
        forward: true,
    }
}

fn reply() -> FlowView {
    FlowView {
        src: "10.244.2.7:80".parse().unwrap(),
        dst: "10.244.1.5:40000".parse().unwrap(),
        action: Action::ToPod,
        rewrite: Rewrite::Source,
        rewritten: Some("10.96.0.10:8000".parse().unwrap()),
        from_ifindex: None,
        from_vtep: Some("192.168.77.2".parse().unwrap()),
        to_ifindex: 7,
        to_vtep: None,
        forward: false,
        ..request()
    }
}

fn ping() -> FlowView {
    FlowView {
        protocol: 1,
        src: "10.244.1.6:0".parse().unwrap(),
        dst: "192.0.2.1:0".parse().unwrap(),
        action: Action::ToHost,
        rewrite: Rewrite::None,
        rewritten: None,
        service: 0,
        from_ifindex: Some(9),
        to_ifindex: 3,
        to_vtep: None,
        ..request()
    }
}

fn admitted(service: Option<&str>, pod: Option<&str>, protocol: Option<u8>) -> anyhow::Result<Vec<bool>> {
    let arguments =
        Arguments { service: service.map(str::to_owned), pod: pod.map(str::to_owned), protocol, limit: None };
    let endpoint =
        EndpointView { address: "10.244.1.5".parse().unwrap(), ifindex: 7, mac: Mac::NONE, host: false };
    let filter = Filter::new(&arguments, &names(), &[endpoint])?;
    Ok([request(), reply(), ping()].iter().map(|flow| filter.admits(flow)).collect())
}

#[test]
fn both_halves_say_what_becomes_of_them() {
    let flows = Flows::new(&[request(), reply(), ping()], &names(), usize::MAX);
    assert_eq!(
        flows.text(),
        "PROTO   SOURCE             DESTINATION        BECOMES               FROM                TO                  SERVICE   HALF      IDLE\n\
         tcp     10.244.1.5:40000   10.96.0.10:8000    dst 10.244.2.7:80     pod default/a       node 192.168.77.2   echo      request     1s\n\
         tcp     10.244.2.7:80      10.244.1.5:40000   src 10.96.0.10:8000   node 192.168.77.2   pod default/a       echo      reply       1s\n\
         icmp    10.244.1.6         192.0.2.1          -                     pod #9              host                -         -           1s\n"
    );
}

#[test]
fn filters_choose() {
    assert_eq!(admitted(None, None, None).unwrap(), [true, true, true]);
    assert_eq!(admitted(Some("echo"), None, None).unwrap(), [true, true, false]);
    assert_eq!(admitted(None, Some("10.244.2.7"), None).unwrap(), [true, true, false]);
    assert_eq!(admitted(None, Some("10.244.1.6"), None).unwrap(), [false, false, true]);
    assert_eq!(admitted(None, Some("default/a"), None).unwrap(), [true, true, false]);
    assert_eq!(admitted(None, Some("a"), None).unwrap(), [true, true, false]);
    assert_eq!(admitted(None, None, Some(1)).unwrap(), [false, false, true]);
}

#[test]
fn filters_that_can_choose_nothing_are_refused() {
    assert!(admitted(Some("nobody"), None, None).is_err());
    assert!(admitted(None, Some("nobody"), None).is_err());
    assert_eq!(protocol_number("TCP"), Ok(6));
    assert_eq!(protocol_number("132"), Ok(132));
    assert!(protocol_number("tpc").is_err());
}

#[test]
fn a_table_is_short_unless_asked_for_and_says_so() {
    let text = Flows::new(&[request(), reply(), ping()], &names(), 1).text();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.ends_with("\n… 2 more; --limit 0 shows all\n"), "{text}");

    let limit = |limit, format| {
        let arguments = Arguments { service: None, pod: None, protocol: None, limit };
        arguments.limit(format)
    };
    assert_eq!(limit(None, Format::Table), 200);
    assert_eq!(limit(None, Format::Json), usize::MAX);
    assert_eq!(limit(Some(0), Format::Table), usize::MAX);
    assert_eq!(limit(Some(7), Format::Table), 7);
    assert_eq!(limit(Some(7), Format::Json), 7);
}

#[test]
fn json_keeps_its_keys() {
    let json = serde_json::to_value(Flows::new(&[request(), ping()], &names(), 1)).unwrap();
    assert_eq!(json["more"], 1);
    let flow = &json["flows"][0];
    assert_eq!(flow["rewrite"], "destination");
    assert_eq!(flow["rewritten"], "10.244.2.7:80");
    assert_eq!(flow["from"]["pod"], "default/a");
    assert_eq!(flow["to"]["vtep"], "192.168.77.2");
    assert_eq!(flow["idleSeconds"], 1);
}
