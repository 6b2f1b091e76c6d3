//! Where the programs of others are that call our plugin, or are called beside it: containerd, cnitool, the CNI
//! project's plugins, podman. `hack/setup --test` gets them; which is what, `hack/lib/callers.sh` says.
//!
//! A test that wants one that is not there is left out, and says so; where `CI=true`, it fails.

use std::{
    env, fmt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Error, Result, bail};

use crate::binaries;

/// A program of others that is not on this machine.
#[derive(Debug)]
pub struct Missing(String);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is not there: run `hack/setup --test`", self.0)
    }
}

impl std::error::Error for Missing {}

impl Missing {
    /// `what` is missing.
    #[must_use]
    pub fn new(what: &str) -> Self {
        Self(what.to_owned())
    }
}

/// The reason to leave a test out that ended with `error`, if there is one.
pub(crate) fn excuse(error: &Error) -> Option<String> {
    let must_run = env::var("CI").is_ok_and(|value| value == "true");
    error.downcast_ref::<Missing>().filter(|_| !must_run).map(Missing::to_string)
}

/// The folder of cnitool, `gc` and the CNI project's plugins, for `CNI_PATH`.
///
/// # Errors
/// [`Missing`], if they are not built.
pub fn cni() -> Result<PathBuf> {
    built("cni")
}

/// The folder of containerd, its shim, `ctr`, `cri` and `pause`.
///
/// # Errors
/// [`Missing`], if they are not built.
pub fn containerd() -> Result<PathBuf> {
    built("containerd")
}

/// All of Kubernetes as one program, which is each of its parts by that part's name.
///
/// # Errors
/// If it is not built.
pub fn kubernetes() -> Result<PathBuf> {
    let cache = || {
        let cache = env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
        cache.or_else(|| Some(Path::new(&env::var_os("HOME")?).join(".cache")))
    };
    let state = env::var_os("BEELINE_KIND").map(PathBuf::from);
    let state = state.or_else(|| Some(cache()?.join("beeline/kind"))).context("HOME is not set")?;
    let program = state.join("bin/kube");
    if !program.exists() {
        bail!("{} is not there: run `integration/kubernetes/build`", program.display());
    }
    Ok(program)
}

fn built(module: &str) -> Result<PathBuf> {
    let dir = binaries::target_dir()?.with_file_name("callers").join(module);
    // Written last.
    if !dir.join(".made-from").exists() {
        return Err(Missing(dir.display().to_string()).into());
    }
    Ok(dir)
}

/// A program that the distribution's packages bring, like `podman`.
///
/// # Errors
/// [`Missing`], if it is nowhere on `PATH`, nor where administrators' programs are.
pub fn installed(name: &str) -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(["/usr/sbin", "/sbin"].map(PathBuf::from))
        .map(|dir: PathBuf| dir.join(name))
        .find(|path| Path::is_file(path))
        .ok_or_else(|| Missing(name.to_owned()).into())
}
