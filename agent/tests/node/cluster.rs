//! The agent as a node of a cluster with a real API server: what it does with objects, and without the API server.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, TcpStream},
    path::Path,
    time::{Duration, Instant},
};

use integration::{ApiServer, Netns};
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
    events::v1::Event,
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

use crate::machine::Machine;

/// Where the API server is: the machine's own address.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 1);

/// A machine that is node `node1` of a cluster.
struct Cluster {
    // First: its agent ends before what it talks to.
    machine: Machine,
    server: ApiServer,
    client: Client,
}

impl Cluster {
    /// A cluster with the nodes `node1` and `node2`, whose agent may do what our manifest allows it, and no more.
    fn new() -> Self {
        let mut machine = Machine::new();
        machine.ip("link set lo up");
        let this = Netns::open(Path::new("/proc/thread-self/ns/net")).unwrap();
        let server = ApiServer::start(&this, ADDRESS, &machine.path("cluster")).unwrap();
        let client = machine.block_on(server.client("admin")).unwrap();
        machine.take_from(vec![
            "--kubeconfig".into(),
            server.kubeconfig("agent").unwrap().into(),
            "--node=node1".into(),
            "--metrics-address=192.168.77.1:9965".into(),
            "--cni-conf-dir".into(),
            machine.path("net.d").into(),
            "--cni-bin-dir".into(),
            machine.path("bin").into(),
        ]);
        let cluster = Self { machine, server, client };
        cluster.allow();
        cluster.add_node("node1", "192.168.77.1", "10.244.1.0/24");
        cluster.add_node("node2", "192.168.77.2", "10.244.2.0/24");
        cluster
    }

    /// Gives the agent the rights that it has in a cluster.
    fn allow(&self) {
        let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/kubernetes/base/access.yaml");
        let manifest = fs::read_to_string(manifest).unwrap();
        self.machine.block_on(async {
            for document in manifest.split("\n---\n") {
                let object: Value = serde_saphyr::from_str(document).unwrap();
                let name = object["metadata"]["name"].as_str().unwrap();
                let path = match object["kind"].as_str().unwrap() {
                    "ClusterRole" => "clusterroles",
                    "ClusterRoleBinding" => "clusterrolebindings",
                    _ => continue,
                };
                let request = hyper::Request::post(format!("/apis/rbac.authorization.k8s.io/v1/{path}"))
                    .header("content-type", "application/json")
                    .body(object.to_string().into_bytes())
                    .unwrap();
                self.client.request_text(request).await.expect(name);
            }
        });
    }

    fn add_node(&self, name: &str, address: &str, pod_cidr: &str) {
        self.machine.block_on(async {
            let nodes = Api::<Node>::all(self.client.clone());
            let node = json!({
                "metadata": { "name": name }, "spec": { "podCIDR": pod_cidr, "podCIDRs": [pod_cidr] },
            });
            nodes.create(&PostParams::default(), &serde_json::from_value(node).unwrap()).await.unwrap();
            let status = json!({ "status": { "addresses": [{ "type": "InternalIP", "address": address }] } });
            nodes.patch_status(name, &PatchParams::default(), &Patch::Strategic(status)).await.unwrap();
        });
    }

    fn delete_node(&self, name: &str) {
        let nodes = Api::<Node>::all(self.client.clone());
        self.machine.block_on(async { nodes.delete(name, &DeleteParams::default()).await.unwrap() });
    }

    /// Makes a service at `vip`, or changes it; `more` goes into its spec.
    fn set_service(&self, name: &str, vip: &str, labels: &Value, more: &Value) {
        let mut object = json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "labels": labels },
            "spec": { "clusterIP": vip, "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] },
        });
        for (key, value) in more.as_object().unwrap() {
            object["spec"][key] = value.clone();
        }
        let services = Api::<Service>::namespaced(self.client.clone(), "default");
        let params = PatchParams::apply("test").force();
        self.machine.block_on(async { services.patch(name, &params, &Patch::Apply(&object)).await.unwrap() });
    }

    fn delete_service(&self, name: &str) {
        let services = Api::<Service>::namespaced(self.client.clone(), "default");
        self.machine.block_on(async { services.delete(name, &DeleteParams::default()).await.unwrap() });
    }

    /// Makes a slice of `service` with endpoints that are all ready, or changes it.
    fn set_slice(&self, name: &str, service: &str, addresses: &[&str]) {
        let endpoints: Vec<_> = addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
        let object = json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
            "metadata": { "name": name, "labels": { "kubernetes.io/service-name": service } },
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{ "name": "http", "port": 8080, "protocol": "TCP" }],
        });
        let slices = Api::<EndpointSlice>::namespaced(self.client.clone(), "default");
        let params = PatchParams::apply("test").force();
        self.machine.block_on(async { slices.patch(name, &params, &Patch::Apply(&object)).await.unwrap() });
    }

    fn until_services(&self, what: &str, expected: &[&str]) {
        // The API server makes a service for itself, which has no endpoints here.
        let own = |line: &String| !line.starts_with("default/kubernetes:");
        self.machine.until(what, || {
            let services: Vec<_> = self.machine.services().into_iter().filter(own).collect();
            services == expected
        });
    }
}

/// What the agent answers at `path`, its status first; nothing if it does not answer (yet).
fn ask(path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect("192.168.77.1:9965") else {
        return String::new();
    };
    let mut answer = String::new();
    let _ = write!(stream, "GET {path} HTTP/1.0\r\n\r\n").and_then(|()| stream.read_to_string(&mut answer));
    answer.trim_start_matches("HTTP/1.0 ").to_owned()
}

/// The value of a metric; 0 if it is not there.
fn metric(name: &str) -> f64 {
    let text = ask("/metrics");
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.map_or(0.0, |value| value.parse().unwrap())
}

const ECHO: &str = "default/echo:http 10.96.0.10:80/tcp -> 10.244.1.5:8080 10.244.2.7:8080";

#[test]
#[ignore = "wants Kubernetes' programs: hack/test builds them"]
fn a_cluster_is_followed_from_its_lists_to_the_last_change() {
    let mut cluster = Cluster::new();
    let none = json!({});
    cluster.set_service("echo", "10.96.0.10", &none, &none);
    cluster.set_slice("echo-1", "echo", &["10.244.1.5"]);
    cluster.set_slice("echo-2", "echo", &["10.244.2.7"]);
    cluster.machine.start_ready();
    cluster.until_services("what was there is in the maps", &[ECHO]);
    assert!(cluster.machine.routes().iter().any(|route| route.starts_with("10.244.2.0/24")));
    let told = cluster.machine.node_file().unwrap();
    assert_eq!((told.node.as_str(), told.pod_cidrs.len()), ("node1", 1));

    // Services and slices.
    let own = |what: &str| metric(&format!("beeline_network_programming_duration_seconds_{what}"));
    let (count, sum, start) = (own("count"), own("sum"), Instant::now());
    cluster.set_slice("echo-2", "echo", &[]);
    cluster.until_services("an endpoint goes", &[ECHO.trim_end_matches(" 10.244.2.7:8080")]);
    cluster.machine.until("it is measured", || own("count") > count + 0.5);
    let (more, took) = (own("count") - count, own("sum") - sum);
    // It waits 4 ms for what may come with a change.
    let possible = 0.004..start.elapsed().as_secs_f64();
    assert!(more < 1.5 && possible.contains(&took), "{more} changes took {took} s of {possible:?}");
    cluster.set_service("other", "10.96.0.11", &none, &json!({ "sessionAffinity": "ClientIP" }));
    let others = [ECHO.trim_end_matches(" 10.244.2.7:8080"), "default/other:http 10.96.0.11:80/tcp ->"];
    cluster.until_services("a service comes", &others);
    let not_ours = json!({ "service.kubernetes.io/service-proxy-name": "other" });
    cluster.set_service("other", "10.96.0.11", &not_ours, &none);
    cluster.until_services("another proxy takes it over", &others[..1]);
    cluster.set_service("headless", "None", &none, &none);
    cluster.set_slice("echo-2", "echo", &["10.244.2.7"]);
    cluster.until_services("a headless service is none", &[ECHO]);
    cluster.delete_service("echo");
    cluster.until_services("a service goes", &[]);

    // Nodes.
    let has = |cidr: &str| cluster.machine.routes().iter().any(|route| route.starts_with(cidr));
    cluster.add_node("node3", "192.168.77.3", "10.244.3.0/24");
    cluster.machine.until("a node comes", || has("10.244.3.0/24"));
    cluster.delete_node("node2");
    cluster.machine.until("a node goes", || !has("10.244.2.0/24"));
    assert!(has("10.244.3.0/24"));
}

#[test]
#[ignore = "wants Kubernetes' programs: hack/test builds them"]
fn the_node_is_told_of_and_found_and_its_trouble_too() {
    let mut cluster = Cluster::new();
    let conflist = cluster.machine.path("net.d/10-beeline.conflist");
    fs::create_dir(cluster.machine.path("net.d")).unwrap();
    fs::write(&conflist, "from before the machine was started anew").unwrap();
    // The cluster's controller has not given it a prefix yet.
    cluster.delete_node("node1");
    cluster.machine.start();
    cluster.machine.until("the trouble is told", || ask("/readyz").contains("no node `node1`"));
    assert!(ask("/readyz").starts_with("503") && ask("/healthz").starts_with("200"));
    assert!(!conflist.exists(), "no pod can be wired");

    cluster.add_node("node1", "192.168.77.1", "10.244.1.0/24");
    cluster.machine.until("the agent is ready", || ask("/readyz").starts_with("200"));
    assert!(cluster.machine.node_file().is_some());
    assert!(fs::read_to_string(&conflist).unwrap().contains("\"type\": \"beeline\""));

    let nodes = Api::<Node>::all(cluster.client.clone());
    cluster.machine.until("the node's network is told to be available", || {
        let node = cluster.machine.block_on(async { nodes.get("node1").await.unwrap() });
        let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
        conditions
            .iter()
            .any(|condition| condition.type_ == "NetworkUnavailable" && condition.status == "False")
    });
    let events = Api::<Event>::namespaced(cluster.client.clone(), "default");
    cluster.machine.until("an event tells what was wrong", || {
        let events = cluster.machine.block_on(async { events.list(&ListParams::default()).await.unwrap() });
        events.iter().any(|event| {
            event.reason.as_deref() == Some("NetworkDegraded")
                && event.note.as_deref().is_some_and(|note| note.contains("no node `node1`"))
        })
    });
}

#[test]
#[ignore = "wants Kubernetes' programs: hack/test builds them"]
fn objects_that_make_no_sense_are_named_and_disturb_nothing() {
    let mut cluster = Cluster::new();
    let none = json!({});
    cluster.set_service("echo", "10.96.0.10", &none, &none);
    cluster.set_slice("echo-1", "echo", &["10.244.1.5", "10.244.2.7"]);
    cluster.machine.start_ready();
    cluster.until_services("what was there is in the maps", &[ECHO]);

    // External addresses of pods and of everybody; a slice has one of everybody too.
    cluster.set_service(
        "bad",
        "10.96.0.12",
        &none,
        &json!({ "externalIPs": ["10.244.2.9", "255.255.255.255"] }),
    );
    cluster.set_slice("bad-1", "bad", &["255.255.255.255", "10.244.2.8"]);
    cluster.add_node("bad", "192.168.77.2", "10.244.9.0/24");
    let rejected = "beeline_rejected{kind=\"Service\",reason=\"taken\"}";
    for (kind, reason) in
        [("Service", "taken"), ("Service", "address"), ("EndpointSlice", "address"), ("Node", "taken")]
    {
        let name = format!("beeline_rejected{{kind=\"{kind}\",reason=\"{reason}\"}}");
        cluster.machine.until("each is counted", || metric(&name) > 0.5);
    }
    let log = cluster.machine.log();
    for problem in
        ["10.244.2.9 lies in the pod prefix 10.244.2.0/24", "`255.255.255.255` is the broadcast address"]
    {
        let lines = log.lines().filter(|line| line.contains(problem) && line.contains("default/bad"));
        assert!(lines.count() >= 1, "{problem}: {log}");
    }
    let bad = "default/bad:http 10.96.0.12:80/tcp -> 10.244.2.8:8080";
    cluster.until_services("their good parts and the others stay", &[bad, ECHO]);
    assert!(cluster.machine.routes().iter().any(|route| route.starts_with("10.244.2.0/24")));
    cluster.delete_service("bad");
    cluster.machine.until("it is counted no more", || metric(rejected) < 0.5);
    assert!(metric("beeline_network_programming_duration_seconds_count") > 0.5);
}

#[test]
#[ignore = "wants Kubernetes' programs: hack/test builds them"]
fn without_the_api_server_all_stays_and_what_changed_meanwhile_is_made_good_without_a_flush() {
    let mut cluster = Cluster::new();
    let none = json!({});
    cluster.set_service("echo", "10.96.0.10", &none, &none);
    cluster.set_slice("echo-1", "echo", &["10.244.1.5", "10.244.2.7"]);
    cluster.set_service("gone", "10.96.0.11", &none, &none);
    cluster.machine.start_ready();
    let both = [ECHO, "default/gone:http 10.96.0.11:80/tcp ->"];
    cluster.until_services("what was there is in the maps", &both);

    cluster.server.kill().unwrap();
    cluster.machine.until("it is told", || cluster.machine.error().contains("cannot hear of "));
    assert!(ask("/readyz").starts_with("200"), "packets go on, and pods can be wired");
    cluster.until_services("all stays", &both);

    // An agent that starts without it knows nothing of the cluster, and leaves all as it is.
    cluster.machine.kill();
    cluster.machine.start();
    cluster.machine.until("it looks for the API server", || {
        cluster.machine.error().contains("cannot hear of ") && ask("/healthz").starts_with("200")
    });
    std::thread::sleep(Duration::from_secs(4));
    cluster.until_services("all stays", &both);
    assert!(cluster.machine.node_file().is_some());

    // Somebody removes a service while no agent can see it.
    cluster.machine.kill();
    cluster.server.serve().unwrap();
    cluster.delete_service("gone");
    cluster.server.kill().unwrap();
    cluster.machine.start();
    cluster.machine.until("it looks again", || cluster.machine.error().contains("cannot hear of "));
    cluster.server.serve().unwrap();
    cluster.machine.until("what stayed never goes", || {
        let services = cluster.machine.services();
        assert!(services.iter().any(|line| line == ECHO), "{services:?}");
        !services.iter().any(|line| line.contains("default/gone"))
    });
    cluster.machine.until("all is well", || cluster.machine.error().is_empty());
    cluster.set_slice("echo-1", "echo", &["10.244.1.5"]);
    cluster.until_services("changes are heard again", &[ECHO.trim_end_matches(" 10.244.2.7:8080")]);
}
