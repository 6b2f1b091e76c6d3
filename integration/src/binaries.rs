//! Where the programs under test are. They are built by `cargo build` beforehand, never by the harness.

use std::{
    env, fs,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::SystemTime,
};

use anyhow::{Context, Result, bail};

/// Names a folder with the programs under test, when they are not beside the running program. What is in it is
/// taken as it is.
pub const DIR_VARIABLE: &str = "BEELINE_BIN_DIR";

/// Finds program `name`.
///
/// # Errors
/// If it is not there, or is older than a source it was built from: the error names the command that helps.
pub fn find(name: &str) -> Result<PathBuf> {
    if let Some(dir) = env::var_os(DIR_VARIABLE) {
        let path = Path::new(&dir).join(name);
        if !path.exists() {
            bail!("{} is not there, and {DIR_VARIABLE} says that it is", path.display());
        }
        return Ok(path);
    }
    let dir = target_dir()?;
    let release = if dir.ends_with("release") { " --release" } else { "" };
    let path = dir.join(name);
    let Ok(built) = modified(&path) else {
        bail!("{} is not built: run `cargo build --workspace{release}`", path.display());
    };
    if let Some(newer) = newer_source(&dir.join(format!("{name}.d")), built) {
        bail!("{} is older than {}: run `cargo build --workspace{release}`", path.display(), newer.display());
    }
    Ok(path)
}

/// The running program's path. [`crate::sandbox::enter`] asks first: once the mounts that the program was started from
/// are gone, the kernel tells it without the mount point that it was under.
///
/// # Errors
/// If the kernel does not tell.
pub fn this_program() -> Result<&'static Path> {
    static PATH: OnceLock<PathBuf> = OnceLock::new();
    if let Some(path) = PATH.get() {
        return Ok(path);
    }
    let path = env::current_exe().context("cannot tell where this program is")?;
    Ok(PATH.get_or_init(|| path))
}

/// The profile's folder that the running program was built into: tests are in its `deps`.
///
/// # Errors
/// If the kernel does not tell where the program is.
pub fn target_dir() -> Result<PathBuf> {
    let dir = this_program()?.parent().context("this program is nowhere")?;
    let dir = if dir.ends_with("deps") { dir.parent().unwrap_or(dir) } else { dir };
    Ok(dir.to_owned())
}

/// The first source newer than `built` in Cargo's list of what a program was made from (Makefile syntax). No
/// list, no verdict: an installed program has none.
fn newer_source(list: &Path, built: SystemTime) -> Option<PathBuf> {
    let text = fs::read_to_string(list).ok()?;
    let (_, sources) = text.split_once(": ")?;
    sources
        .replace("\\ ", "\0")
        .split_whitespace()
        .map(|source| PathBuf::from(source.replace('\0', " ")))
        .find(|source| modified(source).is_ok_and(|time| time > built))
}

/// When a file was written last; of a folder, the youngest file in it, for a folder's own time also changes when an
/// editor comes and goes.
fn modified(path: &Path) -> Result<SystemTime> {
    if !path.is_dir() {
        return Ok(fs::metadata(path)?.modified()?);
    }
    let mut youngest = SystemTime::UNIX_EPOCH;
    for entry in fs::read_dir(path)? {
        youngest = youngest.max(modified(&entry?.path())?);
    }
    Ok(youngest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_newer_source_is_named() {
        let list = env::temp_dir().join(format!("beeline-dep-info-{}", std::process::id()));
        fs::write(&list, format!("/x/beeline: /no/such/file {}\n", list.display())).unwrap();
        let found = newer_source(&list, SystemTime::UNIX_EPOCH);
        let none = newer_source(&list, SystemTime::now() + std::time::Duration::from_secs(9));
        fs::remove_file(&list).unwrap();
        assert_eq!(found, Some(list));
        assert_eq!(none, None);
    }
}
