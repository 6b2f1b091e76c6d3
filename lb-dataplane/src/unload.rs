//! Unloading: takes programs off devices and removes every pin, so that the kernel forgets all of the dataplane.
//!
//! What cannot be removed does not keep the rest: every error is told at the end.

use std::{fs, io, path::Path};

use crate::{
    attach::{self, AttachMode},
    error::Error,
    pins::{Pins, Program},
};

/// What unloading came to.
#[derive(Debug)]
pub struct Unloaded {
    /// Whether there was anything pinned.
    pub existed: bool,
    /// Why something is left, for each thing that is.
    pub errors: Vec<Error>,
}

/// Takes each program off its device, whichever way it is attached, then every other program that a pin holds
/// on a device, then removes all pins and their folders. What is not there is no error, so it can be repeated.
#[must_use]
pub fn unload(pins: &Pins, attachments: &[(Program, &str)]) -> Unloaded {
    let mut errors = Vec::new();
    let existed = pins.dir().exists();
    for (program, device) in attachments {
        errors.extend(attach::detach(pins, *program, device, AttachMode::Clsact).err());
    }
    // Links first: with their pins, TCX links go, and no packet meets a program without its maps.
    for folder in [pins.links(), pins.programs(), pins.maps()] {
        remove_folder(&folder, &mut errors);
    }
    // With something left in it, the folder stays, and the reason is told already.
    if errors.is_empty() {
        errors.extend(absent_is_fine(pins.dir(), fs::remove_dir(pins.dir())));
    }
    Unloaded { existed, errors }
}

/// Removes `folder` with all the pins in it, or as many of them as can be.
fn remove_folder(folder: &Path, errors: &mut Vec<Error>) {
    let before = errors.len();
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => return errors.extend(absent_is_fine(folder, Err(error))),
    };
    for entry in entries {
        match entry.map(|entry| entry.path()) {
            Ok(pin) => errors.extend(absent_is_fine(&pin, fs::remove_file(&pin))),
            Err(error) => errors.push(Error::pin("list", folder)(error)),
        }
    }
    if errors.len() == before {
        errors.extend(absent_is_fine(folder, fs::remove_dir(folder)));
    }
}

fn absent_is_fine(path: &Path, result: io::Result<()>) -> Option<Error> {
    result.err().filter(|error| error.kind() != io::ErrorKind::NotFound).map(Error::pin("remove", path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_removed_does_not_keep_the_rest() {
        let dir = tempfile::tempdir().unwrap();
        let pins = Pins::new(dir.path().join("beeline"));
        for folder in [pins.links(), pins.programs(), pins.maps()] {
            fs::create_dir_all(&folder).unwrap();
            fs::write(folder.join("pin"), "").unwrap();
        }
        let stubborn = pins.link("eth0");
        fs::create_dir(&stubborn).unwrap();

        let unloaded = unload(&pins, &[(Program::FromUplink, "eth0")]);
        assert!(unloaded.existed);
        let [error] = unloaded.errors.as_slice() else { panic!("{unloaded:?}") };
        assert!(error.to_string().contains("links/eth0"), "{error}");
        assert!(!pins.link("pin").exists());
        assert!(!pins.programs().exists() && !pins.maps().exists());

        fs::remove_dir(&stubborn).unwrap();
        assert!(unload(&pins, &[]).errors.is_empty());
        assert!(!pins.dir().exists());
        assert!(!unload(&pins, &[]).existed);
    }
}
