//! `beeline-echo NAME PORT`: the echo server as a program, for pods.

use std::{env, process::ExitCode};

use anyhow::{Context, Result};

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("beeline-echo: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let usage = "usage: beeline-echo NAME PORT";
    let mut arguments = env::args().skip(1);
    let name = arguments.next().context(usage)?;
    let port = arguments.next().and_then(|port| port.parse().ok()).context(usage)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    runtime
        .block_on(integration::echo::serve(&name, port))
        .with_context(|| format!("cannot serve on port {port}"))
}
