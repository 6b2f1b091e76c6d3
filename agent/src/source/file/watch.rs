//! Notices that the file may have changed: soon by inotify, and surely by looking now and then.
//!
//! It watches the folder, not the file: editors replace a file by renaming, and a `ConfigMap` volume swaps a
//! symbolic link beside it. It never reads the contents; whoever does decides whether anything changed.

use std::{path::Path, time::Duration};

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher, event::AccessKind};
use tokio::{sync::mpsc, time};

/// How long the folder must be quiet before a change is told: a write comes in several events.
const SETTLE: Duration = Duration::from_millis(20);
/// How often a change is told though none was seen, for file systems that tell nothing.
pub(super) const POLL: Duration = Duration::from_secs(2);

/// A running watch. Dropping it ends it.
pub(super) struct Watch {
    events: mpsc::Receiver<()>,
    poll: Duration,
    /// `None` if the system gave no inotify watch: then only the polling is left.
    _watcher: Option<RecommendedWatcher>,
}

impl Watch {
    /// Watches the file at `path`, which need not exist, through its folder; tells a change every `poll` at least.
    pub(super) fn new(path: &Path, poll: Duration) -> Self {
        // Room for one: an event that nobody has taken yet stands for all after it.
        let (sender, events) = mpsc::channel(1);
        let watcher = start(path, sender).inspect_err(|error| {
            tracing::warn!(
                path = %path.display(), %error,
                "cannot watch the configuration's folder: changes are seen by polling every {poll:?}; \
                 raise fs.inotify.max_user_watches or max_user_instances if they are used up"
            );
        });
        Self { events, poll, _watcher: watcher.ok() }
    }
}

fn start(path: &Path, sender: mpsc::Sender<()>) -> notify::Result<RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // Our own reading makes access events; they would never end.
        let ours =
            matches!(&event, Ok(event) if matches!(event.kind, EventKind::Access(kind) if !closed(kind)));
        if !ours {
            let _ = sender.try_send(());
        }
    })?;
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    watcher.watch(folder, RecursiveMode::NonRecursive)?;
    Ok(watcher)
}

/// Whether somebody closed a file that was open for writing.
fn closed(kind: AccessKind) -> bool {
    matches!(kind, AccessKind::Close(notify::event::AccessMode::Write))
}

impl Watch {
    /// Waits until the file may have changed.
    pub(super) async fn changed(&mut self) {
        match time::timeout(self.poll, self.events.recv()).await {
            Err(_) => return,
            Ok(None) => return time::sleep(self.poll).await,
            Ok(Some(())) => {}
        }
        // A folder that never settles (a log is written there) must not put a change off for ever.
        for _ in 0..2 {
            if time::timeout(SETTLE, self.events.recv()).await.is_err() {
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::symlink, time::Instant};

    use super::*;

    /// A period in which no polling comes to help, and one that is soon over.
    const SLOW: Duration = Duration::from_mins(1);
    const FAST: Duration = Duration::from_millis(300);

    /// How long a change takes to be told.
    async fn told(watch: &mut Watch) -> Duration {
        let start = Instant::now();
        watch.changed().await;
        start.elapsed()
    }

    #[tokio::test]
    async fn every_way_of_changing_a_file_is_told_without_polling() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.yaml");
        let mut watch = Watch::new(&file, SLOW);

        fs::write(&file, "in place").unwrap();
        assert!(told(&mut watch).await < SLOW);

        fs::write(dir.path().join("new"), "by renaming").unwrap();
        fs::rename(dir.path().join("new"), &file).unwrap();
        assert!(told(&mut watch).await < SLOW);

        fs::remove_file(&file).unwrap();
        assert!(told(&mut watch).await < SLOW);

        symlink("data/node.yaml", &file).unwrap();
        assert!(told(&mut watch).await < SLOW);

        fs::create_dir(dir.path().join("version2")).unwrap();
        symlink("version2", dir.path().join("data.new")).unwrap();
        fs::rename(dir.path().join("data.new"), dir.path().join("data")).unwrap();
        assert!(told(&mut watch).await < SLOW);
    }

    #[tokio::test]
    async fn reading_the_file_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("node.yaml");
        fs::write(&file, "text").unwrap();
        let mut watch = Watch::new(&file, FAST);
        fs::read_to_string(&file).unwrap();
        assert!(told(&mut watch).await >= FAST);
    }

    #[tokio::test]
    async fn a_folder_that_is_not_there_is_polled() {
        let mut watch = Watch::new(Path::new("/nonexistent/folder/node.yaml"), FAST);
        assert!(told(&mut watch).await >= FAST);
    }
}
