//! What can go wrong with the dataplane, with cause and cure.

use std::{io, path::PathBuf};

use crate::pins::Program;

/// Result of the dataplane's functions.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the dataplane.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The folder for pins does not lie in a bpffs.
    #[error("{0} is not in a bpffs: mount one (`mount -t bpf bpf /sys/fs/bpf`), or name a folder in one")]
    NotBpffs(PathBuf),
    /// A folder or pin cannot be made, read or removed.
    #[error("cannot {what} {path}: {source}")]
    Pin {
        /// What was tried.
        what: &'static str,
        /// The pin.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A map or program is not pinned: the agent has not run, or somebody removed it.
    #[error("{0} is not there: start beelined, which makes it")]
    Missing(PathBuf),
    /// The pinned maps have another layout.
    #[error(
        "the maps in {path} have layout {found}, this program knows {}: \
         run `beelined uninstall` of the release that made them, then start this one",
        beeline_abi::VERSION
    )]
    Layout {
        /// Folder of the maps.
        path: PathBuf,
        /// The layout found.
        found: u32,
    },
    /// The caller may not use eBPF.
    #[error("not allowed to use eBPF: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN")]
    NotAllowed,
    /// The kernel refused the object, usually for a program it cannot verify.
    #[error(
        "the kernel refused the eBPF object: {0}; it needs Linux 5.15 or newer with BTF (/sys/kernel/btf/vmlinux)"
    )]
    Load(#[from] aya::EbpfError),
    /// The kernel refused a program.
    #[error("the kernel refused program {program}: {source}")]
    Program {
        /// The program.
        program: &'static str,
        /// What the kernel says.
        source: aya::programs::ProgramError,
    },
    /// A program could not be attached to, or detached from, a device.
    #[error("cannot {what} {program} on {device}: {source}")]
    Attach {
        /// What was tried.
        what: &'static str,
        /// The program.
        program: &'static str,
        /// The device.
        device: String,
        /// What the kernel says.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A map could not be read or written.
    #[error("map {map}: {source}; if this lasts, restart beelined")]
    Map {
        /// The map.
        map: &'static str,
        /// What the kernel says.
        source: aya::maps::MapError,
    },
    /// A map has no room for all that is wanted.
    #[error("map {map} is full: it holds {capacity} entries, {wanted} are wanted")]
    Full {
        /// The map.
        map: &'static str,
        /// Entries it can hold.
        capacity: usize,
        /// Entries wanted.
        wanted: usize,
    },
    /// Pods are wired in another VNI.
    #[error(
        "pods of this node are wired in VNI {has}, and would be cut off in VNI {wanted}: remove them first, or keep the VNI"
    )]
    VniInUse {
        /// VNI of the pods.
        has: u32,
        /// VNI wanted.
        wanted: u32,
    },
}

impl Error {
    pub(crate) fn map(map: &'static str) -> impl FnOnce(aya::maps::MapError) -> Self {
        move |source| Self::Map { map, source }
    }

    pub(crate) fn pin(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Pin { what, path: path.into(), source }
    }

    pub(crate) fn attach<E>(what: &'static str, program: Program, device: &str) -> impl FnOnce(E) -> Self
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        let device = device.to_owned();
        move |source| Self::Attach { what, program: program.name(), device, source: Box::new(source) }
    }
}
