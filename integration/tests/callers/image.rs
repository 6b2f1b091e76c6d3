//! The image that pods of runtimes are made of: one static program that waits, in an OCI archive, from no registry.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};
use integration::{callers, process};
use serde_json::{Value, json};

/// Its name.
pub(crate) const NAME: &str = "beeline.test/pause:1";

/// Writes the archive into `dir`, which is made.
pub(crate) fn archive(dir: &Path) -> Result<PathBuf> {
    let layout = dir.join("layout");
    let blobs = layout.join("blobs/sha256");
    fs::create_dir_all(&blobs)?;
    let layer = dir.join("layer.tar");
    tar(&layer, &callers::containerd()?, &["pause"])?;
    let layer = keep(&blobs, "application/vnd.oci.image.layer.v1.tar", &fs::read(layer)?)?;
    let config = json!({
        "architecture": match ARCH { "x86_64" => "amd64", "aarch64" => "arm64", other => other },
        "os": "linux",
        "config": {"Entrypoint": ["/pause"]},
        "rootfs": {"type": "layers", "diff_ids": [layer["digest"]]},
    });
    let config = keep(&blobs, "application/vnd.oci.image.config.v1+json", config.to_string().as_bytes())?;
    let kind = "application/vnd.oci.image.manifest.v1+json";
    let manifest = json!({"schemaVersion": 2, "mediaType": kind, "config": config, "layers": [layer]});
    let mut manifest = keep(&blobs, kind, manifest.to_string().as_bytes())?;
    manifest["annotations"] =
        json!({"org.opencontainers.image.ref.name": NAME, "io.containerd.image.name": NAME});
    let index = json!({"schemaVersion": 2, "manifests": [manifest]});
    fs::write(layout.join("index.json"), index.to_string())?;
    fs::write(layout.join("oci-layout"), r#"{"imageLayoutVersion": "1.0.0"}"#)?;
    let archive = dir.join("pause.tar");
    tar(&archive, &layout, &["oci-layout", "index.json", "blobs"])?;
    Ok(archive)
}

/// Puts `bytes` among the blobs, and describes them as the OCI does.
fn keep(blobs: &Path, kind: &str, bytes: &[u8]) -> Result<Value> {
    let new = blobs.join("new");
    fs::write(&new, bytes)?;
    let mut sum = Command::new("sha256sum");
    sum.arg(&new);
    let line = process::finish(sum, "")?.ok()?;
    let digest = line.split_whitespace().next().context("sha256sum printed nothing")?;
    fs::rename(&new, blobs.join(digest))?;
    Ok(json!({"mediaType": kind, "digest": format!("sha256:{digest}"), "size": bytes.len()}))
}

fn tar(archive: &Path, dir: &Path, files: &[&str]) -> Result<()> {
    let mut tar = Command::new("tar");
    tar.args(["--create", "--owner=0", "--group=0", "--file"])
        .arg(archive)
        .arg("--directory")
        .arg(dir)
        .args(files);
    process::finish(tar, "")?.ok().map(drop)
}
