//! Records: a file for each attachment that says what it is and where it lives, written before anything else of it
//! is made and removed after everything else is gone. So whatever is left of an attachment, by a call that was
//! killed or a DEL that never came, is found by its record.

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use beeline_cni::{AttachmentId, Code};
use beeline_ipam::Sandbox;
use lb_dataplane::runtime_dir;
use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};

/// An attachment. Stored as JSON, so that later releases can add to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record {
    /// The container.
    pub(crate) container: String,
    /// The interface's name inside the container.
    pub(crate) ifname: String,
    /// Name of the network.
    pub(crate) network: String,
    /// Where the interface is.
    pub(crate) sandbox: Sandbox,
    /// The IPAM plugin that gives the addresses, if it is not this one.
    pub(crate) delegate: Option<String>,
    /// The addresses, once they are known.
    pub(crate) addresses: Vec<IpAddr>,
    /// True if the interface is a further one of its pod, with rules of its own.
    pub(crate) further: bool,
}

impl Record {
    pub(crate) fn id(&self) -> AttachmentId {
        AttachmentId { container_id: self.container.clone(), ifname: self.ifname.clone() }
    }
}

/// The records of this boot: no attachment outlives one.
#[derive(Debug)]
pub(crate) struct Records {
    dir: PathBuf,
}

impl Records {
    /// Those in the agent's runtime folder; there may be none yet.
    pub(crate) fn of(runtime_dir: &Path) -> Result<Self> {
        let file = Path::new("/proc/sys/kernel/random/boot_id");
        let boot =
            fs::read_to_string(file).map_err(|e| Error::io(format!("cannot read {}", file.display()), &e))?;
        Ok(Self { dir: runtime_dir::attachments(runtime_dir).join(boot.trim()) })
    }

    /// Writes the record of the attachment with this port, whole or not at all.
    pub(crate) fn write(&self, port: &str, record: &Record) -> Result<()> {
        let text = serde_json::to_vec(record).map_err(beeline_cni::Failure::bug)?;
        let beside = self.beside(port);
        let write = || fs::write(&beside, &text);
        let written = write().or_else(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                self.make_folder()?;
                write()
            }
            _ => Err(e),
        });
        let renamed = written.and_then(|()| fs::rename(&beside, self.path(port)));
        renamed.map_err(|e| Error::io(format!("cannot write {}", self.path(port).display()), &e))
    }

    /// The record of the attachment with this port.
    pub(crate) fn read(&self, port: &str) -> Result<Option<Record>> {
        let path = self.path(port);
        match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|e| {
                let path = path.display();
                Error::new(
                    Code::IO,
                    format!("{path} cannot be understood: {e}; remove it, and the pod whose port is {port}"),
                )
            }),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(Error::io(format!("cannot read {}", path.display()), &e)),
        }
    }

    /// Removes the record, and what a call that was killed while writing it left; either may not be there.
    pub(crate) fn remove(&self, port: &str) -> Result<()> {
        for path in [self.beside(port), self.path(port)] {
            match fs::remove_file(&path) {
                Err(e) if !is_absent(&e) => {
                    return Err(Error::io(format!("cannot remove {}", path.display()), &e));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// The ports of all attachments that have a record, half-written ones included.
    pub(crate) fn ports(&self) -> Result<Vec<String>> {
        let failed = |e: &io::Error| Error::io(format!("cannot list {}", self.dir.display()), e);
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if is_absent(&e) => return Ok(Vec::new()),
            Err(e) => return Err(failed(&e)),
        };
        let mut ports = Vec::new();
        for entry in entries {
            let name = entry.map_err(|e| failed(&e))?.file_name();
            ports.extend(name.to_str().and_then(|name| name.split('.').next()).map(str::to_owned));
        }
        ports.sort();
        ports.dedup();
        Ok(ports)
    }

    /// Makes this boot's folder, and removes those of earlier boots.
    fn make_folder(&self) -> io::Result<()> {
        fs::create_dir_all(&self.dir)?;
        for entry in self.dir.parent().map(fs::read_dir).transpose()?.into_iter().flatten() {
            let path = entry?.path();
            // Another process may be at the same.
            if path != self.dir
                && let Err(e) = fs::remove_dir_all(path)
                && !is_absent(&e)
            {
                return Err(e);
            }
        }
        Ok(())
    }

    fn path(&self, port: &str) -> PathBuf {
        self.dir.join(port)
    }

    fn beside(&self, port: &str) -> PathBuf {
        self.dir.join(port).with_added_extension("new")
    }
}

fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            container: "c0ffee".into(),
            ifname: "eth0".into(),
            network: "beeline".into(),
            sandbox: Sandbox::of(Path::new("/proc/self/ns/net")).unwrap(),
            delegate: Some("host-local".into()),
            addresses: vec!["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()],
            further: false,
        }
    }

    #[test]
    fn what_was_written_is_read_listed_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::of(dir.path()).unwrap();
        assert_eq!((records.read("bl1").unwrap(), records.ports().unwrap()), (None, vec![]));
        records.remove("bl1").unwrap();
        records.write("bl1", &record()).unwrap();
        assert_eq!(records.read("bl1").unwrap(), Some(record()));
        assert_eq!(records.ports().unwrap(), ["bl1"]);
        records.remove("bl1").unwrap();
        assert_eq!((records.read("bl1").unwrap(), records.ports().unwrap()), (None, vec![]));
    }

    #[test]
    fn what_was_half_written_is_found_and_removed() {
        let dir = tempfile::tempdir().unwrap();
        let records = Records::of(dir.path()).unwrap();
        records.write("bl1", &record()).unwrap();
        fs::rename(records.path("bl1"), records.beside("bl1")).unwrap();
        assert_eq!((records.read("bl1").unwrap(), records.ports().unwrap()), (None, vec!["bl1".to_owned()]));
        records.remove("bl1").unwrap();
        assert!(records.ports().unwrap().is_empty());
    }

    #[test]
    fn those_of_an_earlier_boot_are_forgotten_and_damaged_ones_told() {
        let dir = tempfile::tempdir().unwrap();
        let earlier = dir.path().join("attachments").join("another-boot");
        fs::create_dir_all(&earlier).unwrap();
        fs::write(earlier.join("bl1"), "{}").unwrap();
        let records = Records::of(dir.path()).unwrap();
        assert_eq!(records.read("bl1").unwrap(), None);
        records.write("bl2", &record()).unwrap();
        assert!(!earlier.exists());
        fs::write(records.path("bl2"), "{}").unwrap();
        assert!(records.read("bl2").unwrap_err().to_string().contains("bl2 cannot be understood"));
    }
}
