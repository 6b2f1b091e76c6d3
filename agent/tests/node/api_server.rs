//! A real API server with a real etcd, in the network namespace of the thread that starts it. No controller and no
//! kubelet stands behind it: tests write what those would write.

use std::{
    env,
    ffi::OsString,
    fs,
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use serde_json::json;

use crate::machine::Machine;

/// Where the API server is: the machine's own address.
const ADDRESS: &str = "192.168.77.1";
/// Who may do anything, and who may do what the agent may.
const TOKENS: &str =
    "admin,admin,admin,system:masters\nagent,system:serviceaccount:beeline-system:beeline,agent\n";

pub(crate) struct ApiServer {
    program: PathBuf,
    dir: PathBuf,
    etcd: Child,
    server: Option<Child>,
}

/// All of Kubernetes as one program.
pub(crate) fn program() -> PathBuf {
    let state = env::var_os("BEELINE_KIND").map(PathBuf::from).or_else(|| {
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")))?;
        Some(cache.join("beeline/kind"))
    });
    let program = state.expect("HOME names a folder").join("bin/kube");
    assert!(program.exists(), "{} is not there; integration/kubernetes/build makes it", program.display());
    program
}

impl ApiServer {
    /// Starts both in `machine`, and waits until the API server is ready.
    pub(crate) fn start(program: &Path, machine: &Machine) -> Self {
        let dir = machine.path("cluster");
        fs::create_dir(&dir).unwrap();
        fs::write(dir.join("tokens"), TOKENS).unwrap();
        machine.ip("link set lo up");
        let mut etcd = part(program, "etcd", &dir);
        etcd.arg("--data-dir").arg(dir.join("etcd")).args([
            "--listen-client-urls=http://127.0.0.1:2379",
            "--advertise-client-urls=http://127.0.0.1:2379",
            "--listen-peer-urls=http://127.0.0.1:2380",
            "--unsafe-no-fsync",
        ]);
        let etcd = etcd.spawn().unwrap();
        let mut server = Self { program: program.to_owned(), dir, etcd, server: None };
        server.serve(machine);
        server
    }

    /// Starts the API server (again), and waits until it is ready.
    pub(crate) fn serve(&mut self, machine: &Machine) {
        let file = |option: &str, name: &str| {
            let mut argument = OsString::from(format!("--{option}="));
            argument.push(self.dir.join(name));
            argument
        };
        let mut server = part(&self.program, "kube-apiserver", &self.dir);
        server.args([
            file("cert-dir", "certs"),
            file("token-auth-file", "tokens"),
            // The API server makes it, and nothing here asks for tokens of service accounts.
            file("service-account-key-file", "certs/apiserver.key"),
            file("service-account-signing-key-file", "certs/apiserver.key"),
        ]);
        server.args([
            "--etcd-servers=http://127.0.0.1:2379",
            &format!("--advertise-address={ADDRESS}"),
            "--secure-port=6443",
            "--service-account-issuer=https://kubernetes.default.svc",
            "--service-cluster-ip-range=10.96.0.0/16",
            "--authorization-mode=RBAC",
            "--disable-admission-plugins=ServiceAccount",
            "--endpoint-reconciler-type=none",
        ]);
        self.server = Some(server.spawn().unwrap());
        machine.until("the API server is ready", || {
            let Ok(client) = self.client(machine, "admin") else {
                return false;
            };
            machine.block_on(async {
                let request = client.request_text(http_request("/readyz"));
                tokio::time::timeout(Duration::from_secs(5), request).await.is_ok_and(|answer| answer.is_ok())
            })
        });
    }

    /// Kills the API server; etcd stays.
    pub(crate) fn kill(&mut self) {
        let mut server = self.server.take().unwrap();
        server.kill().unwrap();
        server.wait().unwrap();
    }

    /// A kubeconfig for whoever has `token`.
    pub(crate) fn kubeconfig(&self, token: &str) -> PathBuf {
        let path = self.dir.join(format!("{token}.kubeconfig"));
        fs::write(&path, self.config(token).to_string()).unwrap();
        path
    }

    /// A client for whoever has `token`.
    pub(crate) fn client(
        &self,
        machine: &Machine,
        token: &str,
    ) -> Result<Client, Box<dyn std::error::Error>> {
        let config: Kubeconfig = serde_json::from_value(self.config(token))?;
        machine.block_on(async {
            let config = Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
            Ok(Client::try_from(config)?)
        })
    }

    fn config(&self, token: &str) -> serde_json::Value {
        json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "cluster",
            "contexts": [{ "name": "cluster", "context": { "cluster": "cluster", "user": "user" } }],
            "users": [{ "name": "user", "user": { "token": token } }],
            "clusters": [{ "name": "cluster", "cluster": {
                "server": format!("https://{ADDRESS}:6443"),
                "certificate-authority": self.dir.join("certs/apiserver.crt"),
            } }],
        })
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        for child in self.server.iter_mut().chain([&mut self.etcd]) {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// `program` by one of its names, with a log of its own.
fn part(program: &Path, name: &str, dir: &Path) -> Command {
    let log = fs::File::options().append(true).create(true).open(dir.join(format!("{name}.log"))).unwrap();
    let mut command = Command::new(program);
    command.arg0(name).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
    command
}

fn http_request(path: &str) -> hyper::Request<Vec<u8>> {
    hyper::Request::get(path).body(vec![]).unwrap()
}
