//! The manifests that people apply, as the API server itself judges them.

use std::{fs, path::PathBuf};

use anyhow::{Context, Result, ensure};

use crate::cluster::{kubectl, repository};

pub(crate) fn the_api_server_takes_every_overlay() -> Result<()> {
    let folders = overlays()?;
    ensure!(folders.len() >= 4, "only {folders:?}");
    for folder in folders {
        let line = format!("apply --dry-run=server --validate=strict -k {}", folder.display());
        kubectl(&line).with_context(|| format!("{} is refused", folder.display()))?;
    }
    // What is wrong with a manifest does not go unnoticed.
    let wrong = "apply --dry-run=server --validate=strict -f -";
    let words: Vec<_> = std::iter::once("kubectl").chain(wrong.split_whitespace()).collect();
    let manifest = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: wrong}\ndatas: {}\n";
    ensure!(crate::cluster::kind(&words, manifest).is_err(), "an unknown field was taken");
    Ok(())
}

/// Every folder that can be given to `kubectl apply -k`.
fn overlays() -> Result<Vec<PathBuf>> {
    let root = repository().join("manifests/kubernetes");
    let mut folders = vec![root.join("uninstall")];
    for entry in fs::read_dir(root.join("overlays"))? {
        folders.push(entry?.path());
    }
    Ok(folders)
}
