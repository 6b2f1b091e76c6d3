//! `beeline-ipam` as main plugins and people start it: a process for each call.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests say what is wrong by panicking")]

mod bad_input;
mod commands;
mod killed;
mod network;
mod parallel;
mod people;
mod reclaim;
mod requests;
mod traced;

/// How long random input is tried: a few seconds, or as many as the environment says.
fn until() -> std::time::Instant {
    let seconds = std::env::var("BEELINE_FUZZ_SECONDS").ok().and_then(|text| text.parse().ok()).unwrap_or(2);
    std::time::Instant::now() + std::time::Duration::from_secs(seconds)
}
