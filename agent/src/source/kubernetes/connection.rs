//! Whether the API server can be heard: what fails, since when, and how one knows that it is over.

use std::{collections::BTreeMap, time::Duration};

use kube::{Client, runtime::watcher};
use tokio::time::timeout;

use super::problems::Kind;
use crate::error::told;

/// How often to ask whether the API server is back.
pub(super) const ASK: Duration = Duration::from_secs(2);

/// What is wrong with the connection.
pub(super) struct Connection {
    url: String,
    failures: BTreeMap<Kind, Failure>,
}

struct Failure {
    message: String,
    /// True if the API server answered, but refused.
    refused: bool,
}

impl Connection {
    /// Nothing is wrong yet with the API server at `url`.
    pub(super) fn new(url: String) -> Self {
        Self { url, failures: BTreeMap::new() }
    }

    /// Objects of `kind` could not be had. Returns whether that is news.
    pub(super) fn failed(&mut self, kind: Kind, error: watcher::Error) -> bool {
        let before = self.trouble();
        let (message, refused) = understand(error);
        self.failures.insert(kind, Failure { message, refused });
        self.trouble() != before
    }

    /// Objects of `kind` came. Returns whether that ended the trouble.
    pub(super) fn works(&mut self, kind: Kind) -> bool {
        self.failures.remove(&kind).is_some() && self.failures.is_empty()
    }

    /// What is wrong, in a sentence.
    pub(super) fn trouble(&self) -> Option<String> {
        let (kind, failure) = self.failures.first_key_value()?;
        Some(format!(
            "cannot hear of {}s from the API server at {}: {}",
            kind.name(),
            self.url,
            failure.message
        ))
    }

    /// Whether only asking will tell that it is over: a watch that goes on says nothing until something happens.
    pub(super) fn is_silent(&self) -> bool {
        self.failures.values().any(|failure| !failure.refused)
    }

    /// Asks whether the API server is back. Returns whether that ended the trouble.
    pub(super) async fn ask(&mut self, client: &Client) -> bool {
        if !matches!(timeout(ASK, client.apiserver_version()).await, Ok(Ok(_))) {
            return false;
        }
        self.failures.retain(|_, failure| failure.refused);
        self.failures.is_empty()
    }
}

/// What `error` says to a person, and whether it is the API server's own word.
fn understand(error: watcher::Error) -> (String, bool) {
    match error {
        watcher::Error::WatchError(status)
        | watcher::Error::InitialListFailed(kube::Error::Api(status))
        | watcher::Error::WatchStartFailed(kube::Error::Api(status))
        | watcher::Error::WatchFailed(kube::Error::Api(status)) => (status.message, true),
        other => (told(&other.into()), false),
    }
}
