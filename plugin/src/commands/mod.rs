//! One file for each command.

mod add;
mod check;
mod del;
mod gc;
mod status;

use std::path::Path;

use beeline_cni::{Attachment, Code, Failure, Network, Plugin, Success};
use tokio::runtime::{Builder, Runtime};

use crate::error::{Error, Result};

/// The plugin.
pub(crate) struct Beeline;

impl Plugin for Beeline {
    fn add(&self, attachment: &Attachment, netns: &Path) -> Result<Success, Failure> {
        let added = runtime().and_then(|runtime| add::add(&runtime, attachment, netns));
        added.map_err(|Error(failure)| failure)
    }

    fn del(&self, attachment: &Attachment) -> Result<(), Failure> {
        done(runtime().and_then(|runtime| runtime.block_on(del::del(attachment))))
    }

    fn check(&self, attachment: &Attachment, netns: &Path) -> Result<(), Failure> {
        done(runtime().and_then(|runtime| runtime.block_on(check::check(attachment, netns))))
    }

    fn gc(&self, network: &Network) -> Result<(), Failure> {
        done(runtime().and_then(|runtime| runtime.block_on(gc::gc(network))))
    }

    fn status(&self, network: &Network) -> Result<(), Failure> {
        done(runtime().and_then(|runtime| runtime.block_on(status::status(network))))
    }
}

fn done(result: Result<()>) -> Result<(), Failure> {
    result.map_err(|Error(failure)| failure)
}

/// One thread is enough for one pod, and the quickest to start.
fn runtime() -> Result<Runtime> {
    let built = Builder::new_current_thread().enable_io().build();
    built.map_err(|e| Error::new(Code::IO, format!("cannot start: {e}")))
}
