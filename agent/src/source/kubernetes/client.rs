//! How the API server is reached: by a kubeconfig, or as a pod of the cluster, at an address of its own if one is
//! named. That is needed where nothing but Beeline makes the cluster's own VIP for it work.

use std::time::Duration;

use anyhow::{Context, Result};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

use super::watch::WATCH;
use crate::cli;

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(5);

/// A client, and the address it goes to. Nothing is asked of the API server yet.
pub(super) async fn connect(args: &cli::Kubernetes) -> Result<(Client, String)> {
    let mut config = config(args).await?;
    if let Some(server) = &args.api_server {
        let url = if server.contains("://") { server.clone() } else { format!("https://{server}") };
        config.cluster_url = url.parse().with_context(|| {
            format!("`{server}` is no address of an API server; write one such as https://192.0.2.1:6443")
        })?;
    }
    config.connect_timeout = Some(CONNECT);
    // A server that says nothing for longer than a watch lasts is gone, even if nobody has told.
    config.read_timeout = Some(WATCH + Duration::from_secs(10));
    config.reset_reader_on_write = true;
    let url = config.cluster_url.to_string();
    let client = Client::try_from(config).context("cannot prepare connections to the API server")?;
    Ok((client, url.trim_end_matches('/').to_owned()))
}

async fn config(args: &cli::Kubernetes) -> Result<Config> {
    if let Some(path) = &args.kubeconfig {
        let wrong = || format!("cannot use the kubeconfig {}", path.display());
        let kubeconfig = Kubeconfig::read_from(path).with_context(wrong)?;
        let options = KubeConfigOptions::default();
        return Config::from_custom_kubeconfig(kubeconfig, &options).await.with_context(wrong);
    }
    let config = match args.api_server {
        // The address is replaced anyway.
        Some(_) => Config::incluster_dns(),
        None => Config::incluster_env(),
    };
    config.context(
        "there is no way to the API server: run as a pod with a service account, or name a --kubeconfig",
    )
}
