//! Attaching programs: to devices by TCX links where the kernel has them (6.6), and by `clsact` filters before; to
//! pods' ports by `clsact` filters, which are made and go without waiting (a TCX link waits for an RCU grace period
//! both times, with the lock held that all network set-up needs).
//!
//! Only the ingress hook is used. Programs of others stay where they are: ours go last in the chain, and let
//! pass what is not theirs.

mod clsact;

use std::{
    collections::HashSet,
    fs, io,
    os::fd::AsFd,
    path::{Path, PathBuf},
};

use aya::{
    programs::{
        LinkOrder, ProgramError, ProgramInfo, SchedClassifier, TcAttachType,
        links::{FdLink, PinnedLink},
        loaded_programs,
        tc::{SchedClassifierLink, TcAttachOptions},
    },
    util::KernelVersion,
};
use nix::net::if_::if_nametoindex;
use serde::{Deserialize, Serialize};

use crate::{
    error::{Error, Result},
    pins::{Pins, Program},
};

/// How programs are attached.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, Default)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// The node's devices by TCX if the kernel has it, else by `clsact`; pods' ports by `clsact`.
    #[default]
    Auto,
    /// TCX links, pinned.
    Tcx,
    /// A filter on the `clsact` qdisc.
    Clsact,
}

impl AttachMode {
    /// What this mode means for pods' ports: never [`AttachMode::Auto`].
    #[must_use]
    pub fn for_ports(self) -> Self {
        match self {
            Self::Auto => Self::Clsact,
            chosen => chosen,
        }
    }

    /// The other way to attach to pods' ports.
    fn other(self) -> Self {
        match self.for_ports() {
            Self::Clsact => Self::Tcx,
            _ => Self::Clsact,
        }
    }

    /// What this mode means for the node's devices on the running kernel: never [`AttachMode::Auto`].
    #[must_use]
    pub fn resolve(self) -> Self {
        match self {
            Self::Auto if KernelVersion::current().is_ok_and(|v| v >= KernelVersion::new(6, 6, 0)) => {
                Self::Tcx
            }
            Self::Auto => Self::Clsact,
            chosen => chosen,
        }
    }
}

/// A pinned program, and how to put it on devices.
pub(crate) struct Attacher {
    which: Program,
    program: SchedClassifier,
    pins: Pins,
}

impl Attacher {
    /// Opens the pin of `which`.
    pub(crate) fn open(pins: &Pins, which: Program) -> Result<Self> {
        let path = pins.program(which);
        let program = SchedClassifier::from_pin(&path).map_err(|source| unpinned(which, path, source))?;
        Ok(Self { which, program, pins: pins.clone() })
    }

    /// Puts the program on `device`, unless it is there. What is left of an attachment to an earlier device of
    /// that name is removed. Returns whether there was anything to do.
    pub(crate) fn attach(&mut self, device: &str, mode: AttachMode) -> Result<bool> {
        if self.is_attached(device, mode)? {
            return Ok(false);
        }
        match mode.resolve() {
            AttachMode::Tcx | AttachMode::Auto => self.attach_tcx(device),
            AttachMode::Clsact => {
                let program = self.program.fd().map_err(Error::attach("attach", self.which, device))?;
                clsact::attach(program.as_fd(), self.which, device)
                    .map_err(Error::attach("attach", self.which, device))
            }
        }?;
        Ok(true)
    }

    fn attach_tcx(&mut self, device: &str) -> Result<()> {
        let pin = self.pins.link(device);
        if self.adopt(device, &pin)? {
            return Ok(());
        }
        remove_pin(&pin)?;
        let fail = |source: ProgramError| Error::attach("attach", self.which, device)(source);
        let options = TcAttachOptions::TcxOrder(LinkOrder::last());
        let id = self.program.attach_with_options(device, TcAttachType::Ingress, options).map_err(fail)?;
        let link = self.program.take_link(id).map_err(fail)?;
        let link: FdLink = link.try_into().map_err(Error::attach("pin", self.which, device))?;
        link.pin(&pin).map_err(Error::attach("pin", self.which, device))?;
        Ok(())
    }

    /// Takes over the link that another pin holds, if the program is on `device` by it: the device had another
    /// name when it was pinned. (A second link of one program to one device is refused by the kernel.)
    fn adopt(&self, device: &str, pin: &Path) -> Result<bool> {
        let id = program_id(&self.program, self.which)?;
        if !self.is_on(device, id)? {
            return Ok(false);
        }
        let index = if_nametoindex(device).map_err(io::Error::from);
        let index = index.map_err(Error::attach("find", self.which, device))?;
        let holds = |other: &PathBuf| {
            PinnedLink::from_pin(other).map(FdLink::from).is_ok_and(|link| {
                link.info().is_ok_and(|info| info.program_id() == id && ifindex(info.id()) == Some(index))
            })
        };
        let Some(other) = list(&self.pins.links())?.into_iter().find(holds) else {
            return Ok(false);
        };
        fs::rename(&other, pin).map_err(Error::pin("rename", &other))?;
        Ok(true)
    }

    /// True if this very program is on `device`, and will stay there.
    pub(crate) fn is_attached(&self, device: &str, mode: AttachMode) -> Result<bool> {
        let id = program_id(&self.program, self.which)?;
        if mode.resolve() == AttachMode::Clsact {
            return clsact::is_attached(id, device).map_err(Error::attach("query", self.which, device));
        }
        if !self.pins.link(device).exists() {
            return Ok(false);
        }
        self.is_on(device, id)
    }

    /// True if this very program is on `device`, in the way of `mode` (looked for first) or in another.
    pub(crate) fn is_attached_somehow(&self, device: &str, mode: AttachMode) -> Result<bool> {
        Ok(self.is_attached(device, mode)? || self.is_attached(device, mode.other())?)
    }

    /// True if the program with kernel id `id` is on `device` by TCX, whoever holds it there.
    fn is_on(&self, device: &str, id: u32) -> Result<bool> {
        match SchedClassifier::query_tcx(device, TcAttachType::Ingress) {
            Ok((_, programs)) => Ok(programs.iter().any(|program| program.id() == id)),
            Err(ProgramError::SyscallError(e)) if e.io_error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(source) => Err(Error::attach("query", self.which, device)(source)),
        }
    }

    /// Takes the program off `device`, if it is there; the device may be gone.
    pub(crate) fn detach(&self, device: &str, mode: AttachMode) -> Result<()> {
        detach(&self.pins, self.which, device, mode)
    }

    /// Puts this program in the place of every other version of it that a pinned link holds.
    pub(crate) fn replace_others(&mut self) -> Result<usize> {
        let own = program_id(&self.program, self.which)?;
        let others = self.others(own)?;
        let mut replaced = 0;
        for pin in list(&self.pins.links())? {
            let Ok(link) = PinnedLink::from_pin(&pin).map(FdLink::from) else {
                continue;
            };
            if link.info().is_ok_and(|info| others.contains(&info.program_id()))
                && self.replace(link, &pin)?
            {
                replaced += 1;
            }
        }
        Ok(replaced)
    }

    /// Kernel ids of all programs of this one's name but `own`.
    fn others(&self, own: u32) -> Result<HashSet<u32>> {
        let mut others = HashSet::new();
        for info in loaded_programs() {
            match info {
                Ok(info) if info.name_as_str() == Some(self.which.name()) && info.id() != own => {
                    others.insert(info.id());
                }
                Ok(_) => {}
                // It ended while the list was read.
                Err(ProgramError::SyscallError(e)) if e.io_error.kind() == io::ErrorKind::NotFound => {}
                Err(ProgramError::SyscallError(e))
                    if e.io_error.kind() == io::ErrorKind::PermissionDenied =>
                {
                    return Err(Error::NotAllowed);
                }
                Err(source) => {
                    return Err(Error::Program { program: self.which.name(), source });
                }
            }
        }
        Ok(others)
    }

    /// Puts this program under `link`. False, and no pin any more, if the link's device is gone.
    fn replace(&mut self, link: FdLink, pin: &Path) -> Result<bool> {
        let name = pin.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let link =
            SchedClassifierLink::try_from(link).map_err(Error::attach("replace", self.which, &name))?;
        match self.program.attach_to_link(link).and_then(|id| self.program.take_link(id)) {
            Ok(link) => {
                // The pin holds the link; closing this handle of it does not detach it.
                drop(FdLink::try_from(link));
                Ok(true)
            }
            Err(ProgramError::SyscallError(e)) if e.io_error.raw_os_error() == Some(libc::ENOLINK) => {
                remove_pin(pin)?;
                Ok(false)
            }
            Err(source) => Err(Error::attach("replace", self.which, &name)(source)),
        }
    }
}

/// Puts the pinned `which` on `device` by `clsact`, whatever is there. It asks the kernel for no more than that:
/// [`Attacher::open`] has it verify small programs in order to find out what it can do.
pub(crate) fn attach_clsact(pins: &Pins, which: Program, device: &str) -> Result<()> {
    let path = pins.program(which);
    let program = ProgramInfo::from_pin(&path).and_then(|info| info.fd());
    let program = program.map_err(|source| unpinned(which, path, source))?;
    clsact::attach(program.as_fd(), which, device).map_err(Error::attach("attach", which, device))
}

/// What it means that the pin of `which` cannot be opened.
fn unpinned(which: Program, path: PathBuf, source: ProgramError) -> Error {
    match source {
        ProgramError::SyscallError(e) if e.io_error.kind() == io::ErrorKind::NotFound => Error::Missing(path),
        ProgramError::SyscallError(e) if e.io_error.kind() == io::ErrorKind::PermissionDenied => {
            Error::NotAllowed
        }
        source => Error::Program { program: which.name(), source },
    }
}

/// Takes `which` off `device`, if it is there; the device, the program and its pin may be gone.
pub(crate) fn detach(pins: &Pins, which: Program, device: &str, mode: AttachMode) -> Result<()> {
    match mode.resolve() {
        AttachMode::Clsact => clsact::detach(which, device).map_err(Error::attach("detach", which, device)),
        _ => remove_pin(&pins.link(device)),
    }
}

/// Kernel id of a loaded program.
pub(crate) fn program_id(program: &SchedClassifier, which: Program) -> Result<u32> {
    program.info().map(|info| info.id()).map_err(|source| Error::Program { program: which.name(), source })
}

/// Index of the device that the TCX link with kernel id `link` is on; 0 if that device is gone. The link must be
/// open in this process: the system tells it of open files only, as text.
fn ifindex(link: u32) -> Option<u32> {
    let field = |text: &str, name: &str| -> Option<u32> {
        text.lines().find_map(|line| line.strip_prefix(name))?.trim().parse().ok()
    };
    let files = fs::read_dir("/proc/self/fdinfo").ok()?.flatten();
    let mut texts = files.filter_map(|file| fs::read_to_string(file.path()).ok());
    let text = texts.find(|text| field(text, "link_id:") == Some(link))?;
    field(&text, "ifindex:")
}

/// Removes the pin of a TCX link on `device`, if there is one; the program and device may be gone.
pub(crate) fn remove_link(pins: &Pins, device: &str) -> Result<()> {
    remove_pin(&pins.link(device))
}

fn remove_pin(pin: &Path) -> Result<()> {
    match fs::remove_file(pin) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::pin("remove", pin)(e)),
        _ => Ok(()),
    }
}

fn list(dir: &Path) -> Result<Vec<PathBuf>> {
    let fail = || Error::pin("list", dir);
    fs::read_dir(dir).map_err(fail())?.map(|entry| Ok(entry.map_err(fail())?.path())).collect()
}
