//! A client pod on every node, the same ones for all stories.

use std::sync::{Mutex, PoisonError};

use anyhow::{Context, Result};
use integration::Netns;

use crate::{
    cluster::{apply, kubectl, netns_of, rolled_out},
    echo::pods,
};

const NAMESPACE: &str = "clients";
const MANIFEST: &str = r#"
apiVersion: v1
kind: Namespace
metadata: {name: clients}
---
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: client, namespace: clients}
spec:
  selector: {matchLabels: {app: client}}
  template:
    metadata: {labels: {app: client}}
    spec:
      terminationGracePeriodSeconds: 0
      tolerations: [{operator: Exists}]
      containers:
        - {name: client, image: "localhost/beeline-echo:dev", imagePullPolicy: Never, args: [client, "80"]}
"#;

/// Whether they are there. Held while that changes: stories run side by side.
static STARTED: Mutex<bool> = Mutex::new(false);

/// The network namespace of the client on `node`. The first to ask starts them all.
pub(crate) fn client(node: &str) -> Result<Netns> {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if !*started {
        apply(MANIFEST)?;
        *started = true;
        rolled_out(NAMESPACE, "daemonset/client")?;
    }
    let all = pods(NAMESPACE, "app=client")?;
    let one = all.iter().find(|pod| pod.node == node).with_context(|| format!("no client on {node}"))?;
    netns_of(node, &one.address)
}

/// Removes them, and waits until they are gone; whoever asks next starts them anew.
pub(crate) fn stop_clients() -> Result<()> {
    let mut started = STARTED.lock().unwrap_or_else(PoisonError::into_inner);
    if *started {
        kubectl(&format!("delete namespace {NAMESPACE}"))?;
        *started = false;
    }
    Ok(())
}
