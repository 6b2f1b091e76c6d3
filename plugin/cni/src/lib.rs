//! The CNI protocol (specification 1.1.0) as a plugin program speaks it, and nothing of what a plugin does.
//!
//! A program implements [`Plugin`] and hands itself to [`run()`], which reads the environment and standard input,
//! refuses what makes no sense, calls the right function, and answers in the form of the version asked for.
//!
//! ```no_run
//! use std::{path::Path, process::ExitCode};
//!
//! use beeline_cni::{Attachment, Failure, Ip, Network, Plugin, Success};
//!
//! struct Static;
//!
//! impl Plugin for Static {
//!     fn add(&self, _: &Attachment, _: &Path) -> Result<Success, Failure> {
//!         let ip = Ip { address: "10.0.0.2/24".parse().map_err(Failure::bug)?, gateway: None, interface: None };
//!         Ok(Success { ips: vec![ip], ..Success::default() })
//!     }
//!     fn del(&self, _: &Attachment) -> Result<(), Failure> {
//!         Ok(())
//!     }
//!     fn check(&self, _: &Attachment, _: &Path) -> Result<(), Failure> {
//!         Ok(())
//!     }
//!     fn gc(&self, _: &Network) -> Result<(), Failure> {
//!         Ok(())
//!     }
//!     fn status(&self, _: &Network) -> Result<(), Failure> {
//!         Ok(())
//!     }
//! }
//!
//! fn main() -> ExitCode {
//!     beeline_cni::run(&Static)
//! }
//! ```
//!
//! The `cni-plugin` crate reads calls too, but names one missing variable at a time, refuses upper-case container
//! ids, knows no GC and STATUS, and compiles a regular expression for each call; so its types are kept where they
//! serve, and its reading is not.

mod args;
mod call;
mod delegate;
mod environment;
mod failure;
mod network;
mod panics;
mod request;
mod run;
mod success;
mod version;

#[cfg(test)]
mod tests;

pub use args::{Args, PodName};
pub use call::{Attachment, Call, Refused};
pub use cni_plugin::{macaddr::MacAddr, reply::Dns};
pub use delegate::{Delegate, Verb};
pub use environment::AttachmentId;
pub use failure::{Code, Failure};
pub use network::{Ipam, Network};
pub use run::{Plugin, run};
pub use success::{Interface, Ip, Route, Success};
pub use version::Version;
