//! What follows from an attachment's names alone: whom its port names as its owner, and the lock that orders its
//! calls.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use beeline_cni::{AttachmentId, Code, PodName};
use beeline_ipam::Owner;
use lb_dataplane::{PortOwner, fnv, runtime_dir};
use nix::{
    errno::Errno,
    fcntl::{FcntlArg, fcntl},
    libc,
};

use crate::error::{Error, Result};

/// The owner as its port knows it, with the pod's name if the runtime says it.
pub(crate) fn port_owner(id: &AttachmentId, pod: Option<&PodName>) -> PortOwner {
    PortOwner {
        container: id.container_id.clone(),
        interface: id.ifname.clone(),
        pod: pod.map(PodName::to_string),
    }
}

/// Name of the attachment's port.
pub(crate) fn port_name(id: &AttachmentId) -> String {
    port_owner(id, None).port_name()
}

/// The owner as the address store knows it.
pub(crate) fn owner(id: &AttachmentId) -> Result<Owner> {
    Owner::new(id.container_id.as_str(), id.ifname.as_str())
        .map_err(|e| Error::new(Code::ENVIRONMENT, e.to_string()))
}

/// Held while a call works on an attachment, so that a DEL that overtakes its ADD finds all of it or nothing.
///
/// It is a lock on one byte of a common file, far beyond its end: there is nothing to clean up, and the
/// kernel lets go of it when its holder dies.
pub(crate) struct Lock {
    _file: File,
}

impl Lock {
    /// Waits for the lock of the attachment with this port. The runtime folder must be there.
    pub(crate) fn take(runtime_dir: &Path, port: &str) -> Result<Self> {
        let (file, byte) = open(runtime_dir, port)?;
        loop {
            match fcntl(&file, FcntlArg::F_OFD_SETLKW(&byte)) {
                Ok(_) => return Ok(Self { _file: file }),
                Err(Errno::EINTR) => {}
                Err(e) => return Err(failed(runtime_dir, &e.into())),
            }
        }
    }

    /// Takes the lock if nobody has it. To whoever has one already, waiting for another could be for ever.
    pub(crate) fn try_take(runtime_dir: &Path, port: &str) -> Result<Option<Self>> {
        let (file, byte) = open(runtime_dir, port)?;
        match fcntl(&file, FcntlArg::F_OFD_SETLK(&byte)) {
            Ok(_) => Ok(Some(Self { _file: file })),
            Err(Errno::EAGAIN | Errno::EACCES) => Ok(None),
            Err(e) => Err(failed(runtime_dir, &e.into())),
        }
    }
}

fn open(runtime_dir: &Path, port: &str) -> Result<(File, libc::flock)> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(false).mode(0o600);
    let file =
        options.open(runtime_dir::attachments_lock(runtime_dir)).map_err(|e| failed(runtime_dir, &e))?;
    Ok((file, one_byte(fnv::hash(port.bytes()))))
}

fn failed(runtime_dir: &Path, error: &io::Error) -> Error {
    Error::io(format!("cannot lock {}", runtime_dir::attachments_lock(runtime_dir).display()), error)
}

/// An exclusive lock on the byte that `hash` names.
#[allow(clippy::cast_possible_truncation, reason = "libc gives tiny constants as i32, and wants them as i16")]
fn one_byte(hash: u64) -> libc::flock {
    libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        // Two bits less: offsets are signed, and the byte must have an end.
        l_start: (hash >> 2).cast_signed(),
        l_len: 1,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_attachment_is_worked_on_by_one_call_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let held = Lock::take(dir.path(), "bl1").unwrap();
        Lock::take(dir.path(), "bl2").unwrap();
        assert!(Lock::try_take(dir.path(), "bl1").unwrap().is_none());
        assert!(Lock::try_take(dir.path(), "bl3").unwrap().is_some());
        let (done, waits) = std::sync::mpsc::channel();
        let path = dir.path().to_owned();
        std::thread::spawn(move || {
            Lock::take(&path, "bl1").unwrap();
            done.send(()).unwrap();
        });
        let soon = std::time::Duration::from_millis(100);
        assert!(waits.recv_timeout(soon).is_err(), "a held lock was given again");
        drop(held);
        waits.recv_timeout(soon * 20).expect("a released lock was not given");
    }
}
