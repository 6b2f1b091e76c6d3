//! The file source: a YAML file, read whole, checked whole, and watched.
//!
//! Reading yields either a [`Network`] that makes sense in every point, or all that is wrong with line and field.

mod problem;
mod schema;
mod validate;
mod watch;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use tokio::sync::mpsc;

pub(crate) use problem::{BadFile, Problem};

use super::{Cause, Told, Update};
use crate::model::Network;

/// Reads and checks the file at `path`. `node` says which of its nodes this is, over the file's own `node:`.
pub(crate) fn load(path: &Path, node: Option<&str>) -> Result<Network, BadFile> {
    understand(path, read(path), node)
}

/// Sends what the file at `path` says, now and whenever it says something else, until nobody listens.
pub(crate) async fn run(path: PathBuf, node: Option<String>, updates: mpsc::Sender<Update>) {
    let mut watch = watch::Watch::new(&path, watch::POLL);
    // What it said last: the text, or why it could not be read.
    let mut last: Option<Result<String, io::ErrorKind>> = None;
    loop {
        let text = read(&path);
        let now = text.as_ref().map(String::clone).map_err(io::Error::kind);
        if last.as_ref() != Some(&now) {
            last = Some(now);
            let causes = vec![Cause::now(None)];
            let update = understand(&path, text, node.as_deref())
                .map(|network| Told { network, trouble: None, causes })
                .map_err(|bad| bad.to_string());
            if updates.send(update).await.is_err() {
                return;
            }
        }
        watch.changed().await;
    }
}

/// Reads a file, and nothing else: a pipe or a device might keep whoever reads it waiting for ever.
fn read(path: &Path) -> io::Result<String> {
    let kind = fs::metadata(path)?.file_type();
    if !kind.is_file() && !kind.is_dir() {
        return Err(io::Error::other("it is no regular file, but a pipe, a socket or a device"));
    }
    fs::read_to_string(path)
}

fn understand(path: &Path, text: io::Result<String>, node: Option<&str>) -> Result<Network, BadFile> {
    let text = text.map_err(|source| BadFile::Unreadable { path: path.to_owned(), source })?;
    parse(&text, node).map_err(|problems| BadFile::Wrong { path: path.to_owned(), problems })
}

fn parse(text: &str, node: Option<&str>) -> Result<Network, Vec<Problem>> {
    let file = schema::parse(text).map_err(|problem| vec![problem])?;
    validate::validate(&file, node)
}

#[cfg(test)]
mod tests;
