//! Where things are pinned: the folder in bpffs that outlives every process, and the names in it.

use std::path::{Path, PathBuf};

/// Folder used when nothing else is said.
pub const DEFAULT_BPFFS: &str = "/sys/fs/bpf/beeline";

/// Beeline's own folder in a mounted bpffs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pins(PathBuf);

/// A TC program, by the place its packets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Program {
    /// Ingress of a port: what a pod sends.
    FromPod,
    /// Ingress of the uplink: what arrives as VXLAN.
    FromUplink,
    /// Ingress of the kernel's vxlan device: what arrived as VXLAN by the slow path.
    FromOverlay,
}

impl Program {
    /// Every program in the object.
    pub const ALL: [Self; 3] = [Self::FromPod, Self::FromUplink, Self::FromOverlay];

    /// Its name in the object, in the pins, and in `bpftool prog`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::FromUplink => "from_uplink",
            Self::FromOverlay => "from_overlay",
        }
    }
}

impl Pins {
    /// The folder `dir`, which need not exist yet but must lie in a bpffs.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self(dir.into())
    }

    /// The folder itself.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.0
    }

    /// Folder of the maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.0.join("maps")
    }

    /// Folder of the programs.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.0.join("programs")
    }

    /// Folder of the links, one for each device that a program is attached to by TCX.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.0.join("links")
    }

    /// Pin of map `name`.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Pin of `program`.
    #[must_use]
    pub fn program(&self, program: Program) -> PathBuf {
        self.programs().join(program.name())
    }

    /// Pin of the link that holds a program on device `ifname`.
    #[must_use]
    pub fn link(&self, ifname: &str) -> PathBuf {
        // bpffs refuses dots in names, and devices may have them.
        self.links().join(ifname.replace('.', "_"))
    }
}
