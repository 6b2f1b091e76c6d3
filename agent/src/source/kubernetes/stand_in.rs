//! What others ask kube-proxy for at its well-known ports: load balancers, whether a node takes requests for services;
//! people, how it does it. Where Beeline stands in for kube-proxy, it answers; where kube-proxy runs, its ports are taken.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    time::SystemTime,
};

use hyper::StatusCode;
use k8s_openapi::jiff::Timestamp;
use serde_json::json;
use tokio::sync::watch;

use crate::{
    health::Health,
    http::{self, Answer},
};

/// `/healthz` for load balancers (kube-proxy's `--healthz-bind-address`).
const HEALTH: SocketAddr = SocketAddr::new(std::net::IpAddr::V6(Ipv6Addr::UNSPECIFIED), 10_256);
/// `/proxyMode` for people on the node (kube-proxy's `--metrics-bind-address`).
const STATUS: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 10_249);

/// Answers at both ports, as far as they are free, for as long as the agent runs.
pub(crate) async fn serve(health: watch::Receiver<Health>) {
    let beat = health.clone();
    tokio::join!(
        serve_at(HEALTH, move |path| healthz(path, &health.borrow())),
        serve_at(STATUS, move |path| mode(path, &beat.borrow())),
    );
}

async fn serve_at(address: SocketAddr, answer: impl Fn(&str) -> Answer + Clone + Send + 'static) {
    match http::listen(address).await {
        Ok(listener) => match http::serve(listener, answer).await {},
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            tracing::info!(%address, "leaves this port to kube-proxy, or whoever has it");
        }
        Err(error) => tracing::warn!(%address, %error, "cannot answer in kube-proxy's place"),
    }
}

fn healthz(path: &str, health: &Health) -> Answer {
    match path {
        "/healthz" => reported(health.ready().is_ok(), health),
        "/livez" => reported(health.alive().is_ok(), health),
        _ => nothing("here are /healthz and /livez\n"),
    }
}

/// As kube-proxy reports it (Kubernetes, `pkg/proxy/healthcheck/proxy_health.go`).
fn reported(is_well: bool, health: &Health) -> Answer {
    let now = SystemTime::now();
    let time = |time: SystemTime| Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default();
    let text = json!({
        "lastUpdated": time(now - health.beat.elapsed()),
        "currentTime": time(now),
        "nodeEligible": true,
    });
    let status = if is_well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    http::answer(status, "application/json", format!("{text}\n"))
}

fn mode(path: &str, health: &Health) -> Answer {
    match path {
        "/proxyMode" => http::answer(StatusCode::OK, "text/plain", "beeline".to_owned()),
        "/healthz" => judged(health.alive()),
        _ => nothing("here are /proxyMode and /healthz\n"),
    }
}

fn judged(health: Result<String, String>) -> Answer {
    let (status, text) = match health {
        Ok(text) => (StatusCode::OK, text),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, text),
    };
    http::answer(status, "text/plain", text + "\n")
}

fn nothing(text: &str) -> Answer {
    http::answer(StatusCode::NOT_FOUND, "text/plain", text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_cannot_do_its_work_is_not_healthy() {
        let mut health = Health::default();
        assert_eq!(healthz("/healthz", &health).status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(healthz("/livez", &health).status(), StatusCode::OK);
        health.ready = true;
        assert_eq!(healthz("/healthz", &health).status(), StatusCode::OK);
        assert_eq!(mode("/proxyMode", &health).status(), StatusCode::OK);
        assert_eq!(mode("/", &health).status(), StatusCode::NOT_FOUND);
    }
}
