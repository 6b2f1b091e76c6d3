//! What the cluster is told of this node: that its network is there, and in Events what is wrong with it.

use std::time::Duration;

use k8s_openapi::{
    api::core::v1::{Node, ObjectReference},
    jiff::Timestamp,
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
    runtime::events::{Event, EventType, Recorder, Reporter},
};
use serde_json::json;
use tokio::{sync::watch, time::sleep};

use crate::health::Health;

/// Who tells it.
const CONTROLLER: &str = "beelined";
/// How long to wait before what could not be told is tried again.
const AGAIN: Duration = Duration::from_secs(10);

/// Tells what changes, until the agent ends.
pub(crate) async fn run(client: Client, node: String, mut health: watch::Receiver<Health>) {
    let reporter = Reporter { controller: CONTROLLER.to_owned(), instance: Some(node.clone()) };
    let mut report =
        Report { recorder: Recorder::new(client.clone(), reporter), client, node, told: Told::default() };
    loop {
        let now = health.borrow_and_update().clone();
        match report.tell(&now).await {
            Ok(()) => {
                if health.changed().await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "cannot tell the cluster how this node is; trying again");
                sleep(AGAIN).await;
            }
        }
    }
}

struct Report {
    recorder: Recorder,
    client: Client,
    node: String,
    told: Told,
}

/// What the cluster knows.
#[derive(Default)]
struct Told {
    network: bool,
    trouble: Option<String>,
}

impl Report {
    async fn tell(&mut self, health: &Health) -> kube::Result<()> {
        if health.ready && !self.told.network {
            self.network_is_available().await?;
            self.told.network = true;
        }
        if health.trouble == self.told.trouble {
            return Ok(());
        }
        if let Some(trouble) = &health.trouble {
            self.event("NetworkDegraded", EventType::Warning, trouble).await?;
        } else {
            self.event("NetworkRestored", EventType::Normal, "the node's network is as it should be").await?;
        }
        self.told.trouble.clone_from(&health.trouble);
        Ok(())
    }

    /// Sets the condition that keeps pods from nodes whose network is not there yet.
    async fn network_is_available(&self) -> kube::Result<()> {
        let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let condition = json!({
            "type": "NetworkUnavailable",
            "status": "False",
            "reason": "BeelineIsUp",
            "message": "Beeline is running on this node",
            "lastHeartbeatTime": now,
            "lastTransitionTime": now,
        });
        let patch = Patch::Strategic(json!({ "status": { "conditions": [condition] } }));
        let nodes = Api::<Node>::all(self.client.clone());
        nodes.patch_status(&self.node, &PatchParams::default(), &patch).await.map(drop)
    }

    /// An Event about this node, as the kubelet makes them: it is its own uid.
    async fn event(&self, reason: &str, type_: EventType, note: &str) -> kube::Result<()> {
        let event = Event {
            type_,
            reason: reason.to_owned(),
            // The API takes 1,024 bytes at most.
            note: Some(note.chars().take(250).collect()),
            action: "Networking".to_owned(),
            secondary: None,
        };
        let regarding = ObjectReference {
            kind: Some("Node".to_owned()),
            name: Some(self.node.clone()),
            uid: Some(self.node.clone()),
            ..ObjectReference::default()
        };
        self.recorder.publish(&event, &regarding).await
    }
}
