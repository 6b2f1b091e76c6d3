//! The echo service of the stories: a deployment of servers behind a VIP.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::cluster::{apply, get, items, kubectl, rolled_out, until};

/// Servers and their VIP, in a Kubernetes namespace of their own; all of it goes with this value.
pub(crate) struct Echo {
    /// What the Kubernetes namespace is called.
    pub(crate) name: &'static str,
    /// Where clients ask.
    pub(crate) vip: SocketAddr,
}

/// A pod as the API server knows it.
pub(crate) struct Pod {
    pub(crate) name: String,
    pub(crate) node: String,
    pub(crate) address: String,
}

impl Echo {
    /// `replicas` servers, spread over the nodes. Returns when all are ready.
    ///
    /// A server that is told to end goes on for some seconds: until every node knows.
    pub(crate) fn start(name: &'static str, replicas: u32) -> Result<Self> {
        apply(&manifest(name, replicas))?;
        let mut echo = Self { name, vip: SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), 80) };
        echo.serves(replicas)?;
        let service = get(&format!("-n {name} service echo"))?;
        let address = service["spec"]["clusterIP"].as_str().context("the service has no cluster IP")?;
        echo.vip.set_ip(address.parse::<IpAddr>()?);
        Ok(echo)
    }

    /// Asks for another number of servers, and waits for them.
    pub(crate) fn scale(&self, replicas: u32) -> Result<()> {
        kubectl(&format!("-n {} scale deployment/echo --replicas={replicas}", self.name))?;
        self.serves(replicas)
    }

    /// Waits until this many servers are ready, and the API server tells of them: a Deployment is complete before that.
    fn serves(&self, replicas: u32) -> Result<()> {
        rolled_out(self.name, "deployment/echo")?;
        until(&format!("{replicas} endpoints"), || {
            let slices = get(&format!("-n {} endpointslices -l kubernetes.io/service-name=echo", self.name))?;
            let endpoints =
                items(&slices).flat_map(|slice| slice["endpoints"].as_array().into_iter().flatten());
            let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] == true).count();
            Ok(u32::try_from(ready)? == replicas)
        })
    }

    /// Replaces every server by a new one, and waits until all are.
    pub(crate) fn roll(&self) -> Result<()> {
        kubectl(&format!("-n {} rollout restart deployment/echo", self.name))?;
        rolled_out(self.name, "deployment/echo")
    }

    /// The servers that are not about to end.
    pub(crate) fn servers(&self) -> Result<Vec<Pod>> {
        pods(self.name, "app=echo")
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // A test that fails says why itself.
        let _ = kubectl(&format!("delete namespace {} --wait=false", self.name));
    }
}

/// The pods of a label that run and are not being deleted.
pub(crate) fn pods(namespace: &str, label: &str) -> Result<Vec<Pod>> {
    let list = get(&format!("-n {namespace} pods -l {label}"))?;
    let alive =
        |pod: &&Value| pod["metadata"]["deletionTimestamp"].is_null() && pod["status"]["podIP"].is_string();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let pod = |pod: &Value| Pod {
        name: text(&pod["metadata"]["name"]),
        node: text(&pod["spec"]["nodeName"]),
        address: text(&pod["status"]["podIP"]),
    };
    Ok(items(&list).filter(alive).map(pod).collect())
}

fn manifest(namespace: &str, replicas: u32) -> String {
    format!(
        r#"
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: Service
metadata: {{name: echo, namespace: {namespace}}}
spec:
  selector: {{app: echo}}
  ports:
    - {{name: tcp, port: 80, protocol: TCP}}
    - {{name: udp, port: 80, protocol: UDP}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: echo, namespace: {namespace}}}
spec:
  replicas: {replicas}
  selector: {{matchLabels: {{app: echo}}}}
  template:
    metadata: {{labels: {{app: echo}}}}
    spec:
      terminationGracePeriodSeconds: 12
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector: {{matchLabels: {{app: echo}}}}
      containers:
        - name: echo
          image: localhost/beeline-echo:dev
          imagePullPolicy: Never
          args: [$(POD_NAME), "80"]
          env: [{{name: POD_NAME, valueFrom: {{fieldRef: {{fieldPath: metadata.name}}}}}}]
          readinessProbe: {{tcpSocket: {{port: 80}}, periodSeconds: 1}}
          # For a receive buffer that lasts while a busy machine does not schedule the server.
          securityContext: {{capabilities: {{add: [NET_ADMIN]}}}}
          lifecycle: {{preStop: {{sleep: {{seconds: 10}}}}}}
"#
    )
}
