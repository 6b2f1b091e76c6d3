//! A real API server with a real etcd on a machine, and parts of Kubernetes that talk to it. No controller and no
//! kubelet stands behind it: whoever starts it writes what those would write.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use anyhow::{Context, Result, anyhow};
use futures_util::{StreamExt, TryStreamExt, stream};
use hyper::{Request, header::CONTENT_TYPE};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::{Value, json};
use tokio::{runtime::Runtime, time::timeout};

use crate::{callers, netns::Netns, process::Running, wait};

/// Who may do anything, and who may do what the agent may once a cluster role says so.
const TOKENS: &str =
    "admin,admin,admin,system:masters\nagent,system:serviceaccount:beeline-system:beeline,agent\n";
/// How long it may take to be ready.
const PATIENCE: Duration = Duration::from_mins(2);
/// Requests at a time when there are many.
const AT_ONCE: usize = 8;

/// Where services and endpoint slices are made.
pub const SERVICES: &str = "/api/v1/namespaces/default/services";
/// Where endpoint slices are.
pub const SLICES: &str = "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices";
/// Where nodes are.
pub const NODES: &str = "/api/v1/nodes";

/// An API server, and its etcd.
#[derive(Debug)]
pub struct ApiServer {
    machine: Netns,
    address: Ipv4Addr,
    program: PathBuf,
    dir: PathBuf,
    // It ends before what it talks to.
    server: Option<Running>,
    _etcd: Running,
}

impl ApiServer {
    /// Starts both on `machine`, which has `address`, with their files in the folder `dir`. Returns once it is ready.
    ///
    /// # Errors
    /// If Kubernetes is not built, or does not start.
    pub fn start(machine: &Netns, address: Ipv4Addr, dir: &Path) -> Result<Self> {
        let program = callers::kubernetes()?;
        fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        fs::write(dir.join("tokens"), TOKENS)?;
        let etcd = part(
            &program,
            machine,
            dir,
            "etcd",
            &format!(
                "--data-dir={}/etcd --unsafe-no-fsync --listen-peer-urls=http://127.0.0.1:2380 \
             --listen-client-urls=http://127.0.0.1:2379 --advertise-client-urls=http://127.0.0.1:2379",
                dir.display()
            ),
        )?;
        let machine = machine.clone();
        let mut started = Self { machine, address, program, dir: dir.to_owned(), server: None, _etcd: etcd };
        started.serve()?;
        Ok(started)
    }

    /// Starts the API server (again), and waits until it is ready: until it gives addresses to services, and has the
    /// namespace that they are made in.
    ///
    /// # Errors
    /// If it does not start.
    pub fn serve(&mut self) -> Result<()> {
        let dir = self.dir.display();
        // The API server makes the key, and nothing here asks for tokens of service accounts.
        let arguments = format!(
            "--cert-dir={dir}/certs --token-auth-file={dir}/tokens --etcd-servers=http://127.0.0.1:2379 \
             --service-account-key-file={dir}/certs/apiserver.key \
             --service-account-signing-key-file={dir}/certs/apiserver.key \
             --service-account-issuer=https://kubernetes.default.svc --advertise-address={} --secure-port=6443 \
             --service-cluster-ip-range=10.96.0.0/16 --authorization-mode=RBAC \
             --disable-admission-plugins=ServiceAccount --endpoint-reconciler-type=none",
            self.address
        );
        let mut server = part(&self.program, &self.machine, &self.dir, "kube-apiserver", &arguments)?;
        wait::until("the API server to be ready", PATIENCE, || {
            thread::sleep(Duration::from_millis(50));
            server.ensure_alive()?;
            self.machine.run(|| self.admin().is_ok_and(|admin| admin.is_served()))
        })?;
        self.server = Some(server);
        Ok(())
    }

    /// Kills the API server; etcd stays.
    ///
    /// # Errors
    /// If it does not run.
    pub fn kill(&mut self) -> Result<()> {
        self.server.take().context("no API server is running")?.kill()
    }

    /// The machine it runs on.
    #[must_use]
    pub fn machine(&self) -> &Netns {
        &self.machine
    }

    /// A kubeconfig for whoever has `token`: `admin` or `agent`.
    ///
    /// # Errors
    /// If it cannot be written.
    pub fn kubeconfig(&self, token: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("{token}.kubeconfig"));
        fs::write(&path, self.access(token).to_string())
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(path)
    }

    /// A client for whoever has `token`. Its connections are made by the thread that polls it, and so must be on a machine
    /// that reaches the API server.
    ///
    /// # Errors
    /// If the API server has not made its certificate yet.
    pub async fn client(&self, token: &str) -> Result<Client> {
        let config: Kubeconfig = serde_json::from_value(self.access(token))?;
        let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// Requests of an administrator, from the calling thread's machine.
    ///
    /// # Errors
    /// If there is no certificate yet.
    pub fn admin(&self) -> Result<Admin> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let client = runtime.block_on(self.client("admin"))?;
        Ok(Admin { runtime, client })
    }

    /// Starts kube-proxy in its nftables mode for node `name` on `machine`, with everything else as it is by default, but
    /// that the kernel's limits of conntrack are left alone.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start_kube_proxy(&self, machine: &Netns, name: &str, pod_cidr: &str) -> Result<Running> {
        let kubeconfig = self.kubeconfig("admin")?;
        part(
            &self.program,
            machine,
            &self.dir,
            "kube-proxy",
            &format!(
                "--proxy-mode=nftables --kubeconfig={} --hostname-override={name} --cluster-cidr={pod_cidr} \
             --detect-local-mode=ClusterCIDR --conntrack-max-per-core=0 --conntrack-min=0",
                kubeconfig.display()
            ),
        )
    }

    fn access(&self, token: &str) -> Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "cluster",
            "contexts": [{ "name": "cluster", "context": { "cluster": "cluster", "user": "user" } }],
            "users": [{ "name": "user", "user": { "token": token } }],
            "clusters": [{ "name": "cluster", "cluster": {
                "server": format!("https://{}:6443", self.address),
                "certificate-authority": self.dir.join("certs/apiserver.crt"),
            } }],
        })
    }
}

/// Starts a part of Kubernetes by its name.
fn part(program: &Path, machine: &Netns, dir: &Path, name: &str, arguments: &str) -> Result<Running> {
    let mut command = machine.command(program);
    command.arg0(name).args(arguments.split_whitespace());
    Running::start(command, &dir.join(format!("{name}-{}.log", machine.name())))
}

/// An administrator of the cluster.
pub struct Admin {
    runtime: Runtime,
    client: Client,
}

impl Admin {
    /// Creates each object at its path, several at a time.
    ///
    /// # Errors
    /// If the API server refuses one.
    pub fn create(&self, objects: &[(&str, Value)]) -> Result<()> {
        let create = |(path, object): &(&str, Value)| {
            let request = request("POST", path, "application/json", object);
            async { self.send(request?).await }
        };
        let all = stream::iter(objects).map(create).buffer_unordered(AT_ONCE);
        self.runtime.block_on(all.try_for_each(async |()| Ok(())))
    }

    /// Changes the object at `path` by a merge patch (RFC 7396).
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn patch(&self, path: &str, change: &Value) -> Result<()> {
        self.runtime.block_on(self.send(request("PATCH", path, "application/merge-patch+json", change)?))
    }

    /// Deletes the object at `path`.
    ///
    /// # Errors
    /// If the API server refuses.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.runtime.block_on(self.send(request("DELETE", path, "application/json", &json!({}))?))
    }

    async fn send(&self, request: Request<Vec<u8>>) -> Result<()> {
        let what = format!("{} {}", request.method(), request.uri());
        self.client.request_text(request).await.map_err(|e| anyhow!("the API server refuses {what}: {e}"))?;
        Ok(())
    }

    fn is_served(&self) -> bool {
        let answers = async |path: &str| {
            let request = request("GET", path, "application/json", &Value::Null);
            let Ok(request) = request else { return false };
            let answer = timeout(Duration::from_secs(5), self.client.request_text(request)).await;
            matches!(answer, Ok(Ok(_)))
        };
        self.runtime
            .block_on(async { answers("/readyz").await && answers("/api/v1/namespaces/default").await })
    }
}

fn request(method: &str, path: &str, kind: &str, body: &Value) -> Result<Request<Vec<u8>>> {
    let body = if body.is_null() { vec![] } else { serde_json::to_vec(body)? };
    Ok(Request::builder().method(method).uri(path).header(CONTENT_TYPE, kind).body(body)?)
}
