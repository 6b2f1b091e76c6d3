//! What the container runtime finds of Beeline: the plugin's programs, and the conflist that tells it to use them.
//!
//! The conflist is what makes a node ready for pods, so it comes last and goes first. Files of others are never
//! touched.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use lb_dataplane::json_file;
use serde_json::{Value, json};

use crate::cli;

/// Programs that the runtime starts: the plugin, and the IPAM plugin for others' plugins.
const PROGRAMS: [&str; 2] = ["beeline", "beeline-ipam"];
/// The conflist, but for the runtime folder and what is chained.
const CONFLIST: &str = include_str!("../../../manifests/10-beeline.conflist");
/// The CNI project's plugin for pods' `hostPort`, which nearly every node has.
const PORTMAP: &str = "portmap";

/// The folders that the runtime looks into.
#[derive(Debug)]
pub(crate) struct Cni {
    conflist: Option<PathBuf>,
    programs: Option<PathBuf>,
    runtime_dir: PathBuf,
}

impl Cni {
    /// As the command line says; without a folder, nothing is done there.
    pub(crate) fn new(args: &cli::Cni, runtime_dir: &Path) -> Self {
        Self {
            conflist: args.cni_conf_dir.as_ref().map(|dir| dir.join(&args.cni_conf_name)),
            programs: args.cni_bin_dir.clone(),
            runtime_dir: runtime_dir.to_owned(),
        }
    }

    /// Copies the programs, if there is a folder for them. Returns what was copied.
    pub(crate) fn install(&self) -> Result<Vec<PathBuf>> {
        self.programs.as_deref().map_or(Ok(vec![]), install)
    }

    /// Writes the conflist, unless it is there: from now on the runtime starts pods.
    pub(crate) fn announce(&self) -> Result<bool> {
        let Some(path) = &self.conflist else {
            return Ok(false);
        };
        let has_portmap = self.programs.as_ref().is_some_and(|dir| dir.join(PORTMAP).exists());
        let text = conflist(&self.runtime_dir, has_portmap)?;
        if let Some(dir) = path.parent() {
            fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
        }
        write(path, text.as_bytes(), 0o644).with_context(|| {
            format!("cannot write {}, so no pod can start; make its folder writable", path.display())
        })
    }

    /// Takes the conflist away: no pod shall be started.
    pub(crate) fn withdraw(&self) -> io::Result<Option<&Path>> {
        let Some(path) = &self.conflist else {
            return Ok(None);
        };
        Ok(remove(path)?.then_some(path))
    }

    /// Removes the programs. Returns what was removed.
    pub(crate) fn uninstall(&self) -> io::Result<Vec<PathBuf>> {
        let mut removed = vec![];
        for program in self.programs.iter().flat_map(|dir| PROGRAMS.map(|program| dir.join(program))) {
            if remove(&program)? {
                removed.push(program);
            }
        }
        Ok(removed)
    }
}

/// Copies the programs that lie beside this one into `dir`, each whole or not at all; those that are there already
/// stay. Returns what was copied.
pub(crate) fn install(dir: &Path) -> Result<Vec<PathBuf>> {
    let own = std::env::current_exe().context("cannot tell where this program lies")?;
    let beside = own.parent().unwrap_or(Path::new("/"));
    fs::create_dir_all(dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let mut copied = vec![];
    for program in PROGRAMS {
        let (from, to) = (beside.join(program), dir.join(program));
        match fs::read(&from) {
            Ok(bytes) => {
                if write(&to, &bytes, 0o755).with_context(|| format!("cannot write {}", to.display()))? {
                    copied.push(to);
                }
            }
            // A package may come without one or the other.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).with_context(|| format!("cannot read {}", from.display())),
        }
    }
    Ok(copied)
}

/// The conflist for a plugin that works with `runtime_dir`, with `portmap` after it if the node has that.
fn conflist(runtime_dir: &Path, has_portmap: bool) -> Result<String> {
    let mut conflist: Value = serde_json::from_str(CONFLIST)?;
    conflist["plugins"][0]["runtimeDir"] = runtime_dir.to_string_lossy().into();
    if has_portmap && let Some(plugins) = conflist["plugins"].as_array_mut() {
        plugins.push(json!({ "type": PORTMAP, "capabilities": { "portMappings": true } }));
    }
    Ok(serde_json::to_string_pretty(&conflist)? + "\n")
}

/// Writes `bytes` into file `path`, whole or not at all, unless they are in it. Returns whether they were not.
fn write(path: &Path, bytes: &[u8], mode: u32) -> io::Result<bool> {
    let is_there = fs::read(path).is_ok_and(|now| now == bytes)
        && fs::metadata(path)?.permissions().mode() & 0o777 == mode;
    if is_there {
        return Ok(false);
    }
    let beside = beside(path);
    fs::write(&beside, bytes)?;
    fs::set_permissions(&beside, fs::Permissions::from_mode(mode))?;
    fs::rename(&beside, path)?;
    Ok(true)
}

/// Where the file is written before it takes its name: hidden, and with an ending that no runtime reads.
fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    json_file::beside(&path.with_file_name(format!(".{name}")))
}

/// Removes a file, and what a process left that died while it wrote it. Returns whether it was there.
fn remove(path: &Path) -> io::Result<bool> {
    let _ = fs::remove_file(beside(path));
    match fs::remove_file(path) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cni(dir: &Path) -> Cni {
        Cni {
            conflist: Some(dir.join("net.d/10-beeline.conflist")),
            programs: Some(dir.join("bin")),
            runtime_dir: "/run/other".into(),
        }
    }

    #[test]
    fn the_conflist_comes_whole_once_and_goes() {
        let dir = tempfile::tempdir().unwrap();
        let cni = cni(dir.path());
        assert!(cni.announce().unwrap());
        assert!(!cni.announce().unwrap(), "it is there");
        let path = dir.path().join("net.d/10-beeline.conflist");
        let conflist: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(conflist["plugins"][0]["type"], "beeline");
        assert_eq!(conflist["plugins"][0]["runtimeDir"], "/run/other");
        assert!(conflist["plugins"][1].is_null(), "a runtime starts no pod by a plugin that is not there");

        fs::write(&path, "{").unwrap();
        assert!(cni.announce().unwrap(), "it was damaged");
        assert_eq!(fs::read_dir(dir.path().join("net.d")).unwrap().count(), 1);
        assert_eq!(cni.withdraw().unwrap(), Some(path.as_path()));
        assert_eq!(cni.withdraw().unwrap(), None);
    }

    #[test]
    fn host_ports_are_left_to_portmap_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let cni = cni(dir.path());
        fs::create_dir(dir.path().join("bin")).unwrap();
        fs::write(dir.path().join("bin/portmap"), "").unwrap();
        assert!(cni.announce().unwrap());
        let conflist = fs::read(dir.path().join("net.d/10-beeline.conflist")).unwrap();
        let conflist: Value = serde_json::from_slice(&conflist).unwrap();
        assert_eq!(conflist["plugins"][1]["type"], "portmap");
        assert_eq!(conflist["plugins"][1]["capabilities"]["portMappings"], true);
    }

    #[test]
    fn programs_of_others_stay() {
        let dir = tempfile::tempdir().unwrap();
        let cni = cni(dir.path());
        let bin = dir.path().join("bin");
        fs::create_dir(&bin).unwrap();
        for name in ["beeline", "bridge", ".beeline.new"] {
            fs::write(bin.join(name), name).unwrap();
        }
        assert_eq!(cni.uninstall().unwrap(), [bin.join("beeline")]);
        let left: Vec<_> = fs::read_dir(&bin).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert_eq!(left, ["bridge"]);
    }

    #[test]
    fn a_program_is_replaced_as_a_whole_and_can_be_started() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("beeline");
        assert!(write(&path, b"1", 0o755).unwrap());
        let running = fs::File::open(&path).unwrap();
        assert!(write(&path, b"2", 0o755).unwrap());
        assert_eq!(io::read_to_string(running).unwrap(), "1", "whoever runs it keeps it");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o755);
        assert!(!write(&path, b"2", 0o755).unwrap());
    }
}
