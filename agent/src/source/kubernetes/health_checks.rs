//! Health check node ports: where a load balancer asks a node whether it has endpoints of a service whose external policy
//! is `Local`, as kube-proxy answers it (Kubernetes, `pkg/proxy/healthcheck/service_health.go`).

use std::{
    collections::HashMap,
    net::{Ipv6Addr, SocketAddr},
    num::NonZeroU16,
};

use hyper::{StatusCode, header::HeaderValue};
use serde_json::json;
use tokio::{sync::watch, task::AbortHandle};

use super::objects::Name;
use crate::http::{self, Answer};

/// What is to be answered at a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct HealthCheck {
    /// The service, `namespace/name`.
    pub(super) service: Name,
    /// Its ready endpoints on this node.
    pub(super) local_endpoints: usize,
}

/// The servers, one a port.
#[derive(Default)]
pub(super) struct HealthChecks(HashMap<NonZeroU16, Server>);

struct Server {
    check: watch::Sender<HealthCheck>,
    task: AbortHandle,
}

impl HealthChecks {
    /// Serves what is wanted from now on, and nothing else.
    pub(super) fn set<'a>(&mut self, wanted: impl Iterator<Item = (NonZeroU16, &'a HealthCheck)>) {
        let wanted: HashMap<_, _> = wanted.collect();
        self.0.retain(|port, server| {
            let stays = wanted.contains_key(port) && !server.task.is_finished();
            if !stays {
                server.task.abort();
            }
            stays
        });
        for (port, check) in wanted {
            let server = self.0.entry(port).or_insert_with(|| Server::start(port, check.clone()));
            server.check.send_if_modified(|now| {
                let differs = now != check;
                if differs {
                    now.clone_from(check);
                }
                differs
            });
        }
    }
}

impl Server {
    fn start(port: NonZeroU16, check: HealthCheck) -> Self {
        let check = watch::Sender::new(check);
        let asked = check.subscribe();
        let task = tokio::spawn(async move {
            let address = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port.get());
            match http::listen(address).await {
                Ok(listener) => match http::serve(listener, move |_: &str| answer(&asked.borrow())).await {},
                // It is tried again with the next change.
                Err(error) => {
                    tracing::warn!(%port, service = %asked.borrow().service, %error, "cannot answer health checks");
                }
            }
        });
        Self { check, task: task.abort_handle() }
    }
}

fn answer(check: &HealthCheck) -> Answer {
    let count = check.local_endpoints;
    let status = if count > 0 { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let (namespace, name) = check.service.split_once('/').unwrap_or(("", &check.service));
    let text = json!({
        "service": { "namespace": namespace, "name": name },
        "localEndpoints": count,
        "serviceProxyHealthy": true,
    });
    let mut answer = http::answer(status, "application/json", format!("{text}\n"));
    answer.headers_mut().insert("X-Load-Balancing-Endpoint-Weight", HeaderValue::from(count));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_without_endpoints_says_so() {
        let check = |local_endpoints| HealthCheck { service: "shop/web".into(), local_endpoints };
        assert_eq!(answer(&check(0)).status(), StatusCode::SERVICE_UNAVAILABLE);
        let answer = answer(&check(2));
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.headers()["X-Load-Balancing-Endpoint-Weight"], "2");
    }

    #[tokio::test]
    async fn a_port_is_served_as_long_as_it_is_wanted() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        let port = NonZeroU16::new(address.port()).unwrap();
        let check = HealthCheck { service: "shop/web".into(), local_endpoints: 1 };
        let mut checks = HealthChecks::default();
        checks.set([(port, &check)].into_iter());
        let connect = || tokio::net::TcpStream::connect(address);
        let mut tries = 0;
        while connect().await.is_err() {
            tries += 1;
            assert!(tries < 1_000, "nobody listens");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
        checks.set(std::iter::empty());
        while connect().await.is_ok() {
            tries += 1;
            assert!(tries < 1_000, "somebody still listens");
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
