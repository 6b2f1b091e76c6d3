//! Logging to stderr: what, how much, and in which form.

use std::io::{IsTerminal, stderr};

use anyhow::{Context, Result};
use tracing_subscriber::EnvFilter;

use crate::cli::{LogFormat, Logging};

/// Starts it, for the whole process.
pub(crate) fn start(logging: &Logging) -> Result<()> {
    let level = &logging.log_level;
    // A bare level is meant for Beeline; libraries speak up when something is wrong. What the Kubernetes client cannot
    // do it also returns, with the cause, and its source tells that once.
    let directives = match level.parse::<tracing::Level>() {
        Ok(_) => format!("warn,kube_client=off,beelined={level},lb_dataplane={level}"),
        Err(_) => level.clone(),
    };
    let filter = EnvFilter::try_new(directives)
        .with_context(|| format!("`{level}` is no log level; write error, warn, info, debug or trace"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(stderr)
        .with_target(false)
        // If stderr is gone, saying so on stderr would be the end of the agent.
        .log_internal_errors(false);
    match logging.log_format {
        LogFormat::Text => builder.with_ansi(stderr().is_terminal()).init(),
        LogFormat::Json => builder.json().flatten_event(true).init(),
    }
    Ok(())
}
