//! Loading: brings the object into the kernel, takes over what is pinned, and replaces programs under their links.

use std::{fs, path::Path};

use aya::{Ebpf, EbpfLoader, include_bytes_aligned, programs::SchedClassifier, util::KernelVersion};
use beeline_abi::Node;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};

use crate::{
    attach::Attacher,
    error::{Error, Result},
    fnv,
    pins::{Pins, Program},
    tables::{self, Cell, MAPS},
};

/// The object, built by this crate's build script.
static OBJECT: &[u8] = include_bytes_aligned!(concat!(env!("OUT_DIR"), "/beeline.o"));

/// Makes sure that maps and programs are pinned and of this release. Safe to repeat; if all is there already and
/// came from this very object, nothing is loaded at all.
///
/// A program that is replaced gives its place to its successor under every link at once; no packet meets an empty
/// hook.
pub(crate) fn load(pins: &Pins) -> Result<()> {
    make_folders(pins)?;
    if pins.map("NODE").exists() {
        tables::check_layout(pins)?;
        if is_loaded(pins)? {
            return Ok(());
        }
        // From here on the programs may be of two objects, and must not be taken for those of one.
        let mut node = Cell::<Node>::open(pins, "NODE")?;
        node.set(Node { object: 0, ..node.get()? })?;
    }
    let mut object = load_object(pins)?;
    for which in Program::ALL {
        take_over(&mut object, pins, which)?;
    }
    Ok(())
}

/// Digest of the object.
pub(crate) fn digest() -> u64 {
    fnv::hash(OBJECT.iter().copied())
}

/// What the kernel's checksum helper must be told when an IPv6 address changes, if it knows it: without it, packets
/// whose device has summed all of them (`CHECKSUM_COMPLETE`) come out wrong (Linux 6.16, "bpf: Fix L4 csum update on
/// IPv6 in `CHECKSUM_COMPLETE`").
pub(crate) fn ipv6_checksum_flags() -> u32 {
    const BPF_F_IPV6: u32 = 1 << 7;
    let known = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(6, 16, 0));
    if known { BPF_F_IPV6 } else { 0 }
}

/// True if every pin is there and the programs came from this object. The digest is written last, by
/// [`crate::Dataplane::apply`]: a load that was cut short is repeated.
fn is_loaded(pins: &Pins) -> Result<bool> {
    let maps = MAPS.iter().all(|name| pins.map(name).exists());
    let programs = Program::ALL.iter().all(|&which| pins.program(which).exists());
    Ok(maps && programs && Cell::<Node>::open(pins, "NODE")?.get()?.object == digest())
}

fn make_folders(pins: &Pins) -> Result<()> {
    let parent = pins.dir().ancestors().find(|dir| dir.exists()).unwrap_or(Path::new("/"));
    match statfs(parent) {
        Ok(found) if found.filesystem_type() == BPF_FS_MAGIC => {}
        _ => return Err(Error::NotBpffs(pins.dir().to_path_buf())),
    }
    for dir in [pins.maps(), pins.programs(), pins.links()] {
        fs::create_dir_all(&dir).map_err(Error::pin("make", dir))?;
    }
    Ok(())
}

fn load_object(pins: &Pins) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for name in MAPS {
        loader.map_pin_path(name, pins.map(name));
    }
    loader.load(OBJECT).map_err(|source| match &source {
        aya::EbpfError::MapError(aya::maps::MapError::SyscallError(e))
            if e.io_error.kind() == std::io::ErrorKind::PermissionDenied =>
        {
            Error::NotAllowed
        }
        _ => Error::Load(source),
    })
}

/// Loads `which`, pins it, and puts it in the place of its predecessor.
fn take_over(object: &mut Ebpf, pins: &Pins, which: Program) -> Result<()> {
    let refused = |source| Error::Program { program: which.name(), source };
    let missing = || Error::Missing(pins.program(which));
    let fresh: &mut SchedClassifier =
        object.program_mut(which.name()).ok_or_else(missing)?.try_into().map_err(refused)?;
    fresh.load().map_err(refused)?;

    let pin = pins.program(which);
    // Pinned beside the old one and renamed over it, so that the pin is never missing.
    let temporary = pins.programs().join(format!("{}_new", which.name()));
    let _ = fs::remove_file(&temporary);
    fresh.pin(&temporary).map_err(|source| Error::Attach {
        what: "pin",
        program: which.name(),
        device: temporary.display().to_string(),
        source: Box::new(source),
    })?;
    fs::rename(&temporary, &pin).map_err(Error::pin("rename to", &pin))?;
    let links = Attacher::open(pins, which)?.replace_others()?;
    tracing::info!(program = which.name(), links, "program loaded");
    Ok(())
}
