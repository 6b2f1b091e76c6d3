//! kube-proxy's own rules on flannel's machines: an API server is told of the services, a real kube-proxy on each machine
//! writes its rules, and all of them end before anything is measured. Rules stay.

use std::{
    fs,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    os::unix::process::CommandExt,
    path::PathBuf,
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use integration::{Cluster, Netns, callers, process::Running, sandbox, wait};
use serde_json::{Value, json};

use crate::{
    contender::{BEHIND_VIP, VIP, other_service},
    flannel::{self, Flannel},
};

/// The API server's machine.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 168, 77, 30);
/// Where kubectl passes on to the API server what it is asked without TLS and token.
const OPEN_DOOR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 8001);
const PATIENCE: Duration = Duration::from_mins(2);
/// Requests to the API server at a time.
const AT_ONCE: usize = 4;

/// Writes the rules for the measured service and as many others.
pub(crate) fn write_rules(cluster: &Cluster, flannel: &Flannel, services: usize) -> Result<()> {
    let api = ApiServer::start(cluster)?;
    let mut objects = vec![("/api/v1/nodes", node(1)), ("/api/v1/nodes", node(2))];
    let server = SocketAddr::from((flannel::pod_address(2), BEHIND_VIP));
    objects.extend(service("measured", VIP, &["TCP", "UDP"], &[server]));
    for n in 0..services {
        let (vip, backends) = other_service(n)?;
        objects.extend(service(&format!("other{n}"), vip, &["TCP"], &backends));
    }
    api.create(&objects)?;
    let proxies = flannel.machines.each_ref().map(|machine| api.start_kube_proxy(machine));
    for (machine, proxy) in flannel.machines.iter().zip(proxies) {
        let mut proxy = proxy?;
        wait::until("kube-proxy to write its rules", PATIENCE, || {
            proxy.ensure_alive()?;
            thread::sleep(Duration::from_millis(200));
            let rules = machine.try_exec("nft list map ip kube-proxy service-ips")?.stdout;
            Ok(rules.matches("goto service-").count() >= services + 2)
        })
        .with_context(|| format!("kube-proxy logged:\n{}", proxy.log()))?;
    }
    Ok(())
}

/// An API server, its etcd, and a kubectl that lets us in.
struct ApiServer {
    machine: Netns,
    program: PathBuf,
    dir: PathBuf,
    // They end with it.
    running: Vec<Running>,
}

impl ApiServer {
    fn start(cluster: &Cluster) -> Result<Self> {
        let machine = cluster.outsider("api", ADDRESS)?;
        let (_, dir) = sandbox::new_state_dir()?;
        let mut api = Self { machine, program: callers::kubernetes()?, dir, running: Vec::new() };
        fs::write(api.dir.join("tokens"), "admin,admin,admin,system:masters\n")?;
        fs::write(api.kubeconfig(), api.access().to_string())?;
        let dir = api.dir.display().to_string();
        api.run(
            "etcd",
            &format!(
                "--data-dir={dir}/etcd --unsafe-no-fsync --listen-peer-urls=http://127.0.0.1:2380 \
             --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379"
            ),
        )?;
        api.run("kube-apiserver", &format!(
            "--cert-dir={dir}/certs --token-auth-file={dir}/tokens --etcd-servers=http://127.0.0.1:2379 \
             --service-account-key-file={dir}/certs/apiserver.key \
             --service-account-signing-key-file={dir}/certs/apiserver.key \
             --service-account-issuer=https://kubernetes.default.svc --advertise-address={ADDRESS} --secure-port=6443 \
             --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=RBAC \
             --disable-admission-plugins=ServiceAccount --endpoint-reconciler-type=none"
        ))?;
        // It reads the certificate that the API server makes.
        let certificate = api.dir.join("certs/apiserver.crt");
        wait::until("the API server to make its certificate", PATIENCE, || Ok(certificate.exists()))?;
        api.run(
            "kubectl",
            &format!("proxy --port={} --kubeconfig={}", OPEN_DOOR.port(), api.kubeconfig().display()),
        )?;
        wait::until("the API server to be ready", PATIENCE, || {
            api.running.iter_mut().try_for_each(Running::ensure_alive)?;
            thread::sleep(Duration::from_millis(100));
            // It is ready once it gives addresses to services; the namespace may come later still.
            let is_there =
                |path| request("GET", path, "").is_ok_and(|answer| answer.starts_with("HTTP/1.0 200"));
            api.machine.run(|| ["/readyz", "/api/v1/namespaces/default"].into_iter().all(is_there))
        })?;
        Ok(api)
    }

    /// Starts a part of Kubernetes by its name.
    fn run(&mut self, name: &str, arguments: &str) -> Result<()> {
        let part = self.start_in(&self.machine, name, arguments)?;
        // The last one first, as they depend on each other.
        self.running.insert(0, part);
        Ok(())
    }

    fn start_in(&self, machine: &Netns, name: &str, arguments: &str) -> Result<Running> {
        let mut command = machine.command(&self.program);
        command.arg0(name).args(arguments.split_whitespace());
        Running::start(command, &self.dir.join(format!("{name}-{}.log", machine.name())))
    }

    /// As a cluster of nftables has it; the kernel's limits of conntrack are left as they are.
    fn start_kube_proxy(&self, machine: &Netns) -> Result<Running> {
        let (_, name) = machine.name().rsplit_once('-').context("a machine without a name")?;
        let kubeconfig = self.kubeconfig();
        self.start_in(
            machine,
            "kube-proxy",
            &format!(
                "--proxy-mode=nftables --kubeconfig={} --hostname-override={name} --cluster-cidr={} \
             --detect-local-mode=ClusterCIDR --conntrack-max-per-core=0 --conntrack-min=0",
                kubeconfig.display(),
                flannel::POD_CIDR
            ),
        )
    }

    fn kubeconfig(&self) -> PathBuf {
        self.dir.join("kubeconfig")
    }

    fn access(&self) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "cluster",
            "contexts": [{ "name": "cluster", "context": { "cluster": "cluster", "user": "admin" } }],
            "users": [{ "name": "admin", "user": { "token": "admin" } }],
            "clusters": [{ "name": "cluster", "cluster": {
                "server": format!("https://{ADDRESS}:6443"),
                "certificate-authority": self.dir.join("certs/apiserver.crt"),
            } }],
        })
    }

    /// Creates each object at its path.
    fn create(&self, objects: &[(&str, Value)]) -> Result<()> {
        let create = |part: &[(&str, Value)]| -> Result<()> {
            self.machine.enter()?;
            for (path, object) in part {
                let answer = request("POST", path, &object.to_string())?;
                ensure!(answer.starts_with("HTTP/1.0 201"), "the API server refuses {object}: {answer}");
            }
            Ok(())
        };
        let create = &create;
        thread::scope(|scope| {
            let parts = objects.chunks(objects.len().div_ceil(AT_ONCE));
            let threads: Vec<_> = parts.map(|part| scope.spawn(move || create(part))).collect();
            threads
                .into_iter()
                .try_for_each(|thread| thread.join().map_err(|_| anyhow!("a thread panicked"))?)
        })
    }
}

/// Asks kubectl's proxy, on a connection that ends with the answer.
fn request(method: &str, path: &str, body: &str) -> Result<String> {
    let mut stream = TcpStream::connect(OPEN_DOOR)?;
    let length = body.len();
    let head = format!(
        "{method} {path} HTTP/1.0\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(format!("{head}{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn node(n: u8) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Node",
        "metadata": { "name": flannel::name(n) },
        "spec": { "podCIDR": flannel::pod_cidr(n), "podCIDRs": [flannel::pod_cidr(n)] },
        "status": { "addresses": [{ "type": "InternalIP", "address": flannel::address(n) }] },
    })
}

/// A service and its endpoints.
fn service(
    name: &str,
    vip: SocketAddr,
    protocols: &[&str],
    backends: &[SocketAddr],
) -> [(&'static str, Value); 2] {
    let target = backends.first().map_or(0, SocketAddr::port);
    let port = |protocol: &&str, port: u16| json!({ "name": protocol.to_lowercase(), "protocol": protocol, "port": port });
    let service = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": { "name": name },
        "spec": {
            "clusterIP": vip.ip(),
            "ports": protocols.iter().map(|protocol| port(protocol, vip.port())).collect::<Vec<_>>(),
        },
    });
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": { "name": name, "labels": { "kubernetes.io/service-name": name } },
        "ports": protocols.iter().map(|protocol| port(protocol, target)).collect::<Vec<_>>(),
        "endpoints": backends.iter().map(|backend| json!({
            "addresses": [backend.ip()], "conditions": { "ready": true }, "nodeName": flannel::name(2),
        })).collect::<Vec<_>>(),
    });
    [
        ("/api/v1/namespaces/default/services", service),
        ("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", slice),
    ]
}
