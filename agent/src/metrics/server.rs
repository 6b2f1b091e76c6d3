//! What the agent answers over HTTP: `/metrics`, `/healthz` and `/readyz`. Nothing can be changed by it.

use std::{convert::Infallible, net::SocketAddr};

use anyhow::{Context, Result};
use hyper::StatusCode;
use tokio::sync::watch;

use super::Metrics;
use crate::{
    health::Health,
    http::{self, Answer},
};

/// Answers at `address` for as long as the agent runs.
pub(crate) async fn serve(
    address: SocketAddr,
    metrics: Metrics,
    health: watch::Receiver<Health>,
) -> Result<Infallible> {
    let listener = http::listen(address).await.with_context(|| {
        format!("cannot serve metrics at {address}; name another address with --metrics-address")
    })?;
    Ok(http::serve(listener, move |path: &str| answer(path, &metrics, &health.borrow())).await)
}

fn answer(path: &str, metrics: &Metrics, health: &Health) -> Answer {
    let (status, kind, text) = match path {
        "/metrics" => match metrics.text() {
            Ok(text) => (StatusCode::OK, "application/openmetrics-text; version=1.0.0; charset=utf-8", text),
            Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", error.to_string()),
        },
        "/healthz" => judged(health.alive()),
        "/readyz" => judged(health.ready()),
        _ => (StatusCode::NOT_FOUND, "text/plain", "here are /metrics, /healthz and /readyz\n".to_owned()),
    };
    http::answer(status, kind, text)
}

fn judged(health: Result<String, String>) -> (StatusCode, &'static str, String) {
    match health {
        Ok(text) => (StatusCode::OK, "text/plain", text + "\n"),
        Err(text) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", text + "\n"),
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use http_body_util::BodyExt;

    use super::*;

    async fn text(response: Answer) -> (u16, String) {
        let status = response.status().as_u16();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    #[tokio::test]
    async fn readiness_and_metrics_say_what_is_so() {
        let metrics = Metrics::new(Path::new("/nonexistent"));
        let mut health = Health::default();
        let (status, body) = text(answer("/readyz", &metrics, &health)).await;
        assert_eq!((status, body.contains("nothing has been applied")), (503, true), "{body}");
        assert_eq!(text(answer("/healthz", &metrics, &health)).await.0, 200);

        health.ready = true;
        health.trouble = Some("the API server is away".into());
        let (status, body) = text(answer("/readyz", &metrics, &health)).await;
        assert_eq!((status, body.contains("the API server is away")), (200, true), "{body}");

        metrics.rejected("Service", "port", 2);
        metrics.rejected("Service", "port", -1);
        let (status, body) = text(answer("/metrics", &metrics, &health)).await;
        assert_eq!(status, 200);
        assert!(body.contains("beeline_rejected{kind=\"Service\",reason=\"port\"} 1\n"), "{body}");
        assert!(body.ends_with("# EOF\n"), "{body}");
        assert_eq!(text(answer("/", &metrics, &health)).await.0, 404);
    }
}
