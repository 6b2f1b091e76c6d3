//! What Beeline's maps say of a service, asked of the kernel itself: a look-up takes a microsecond, so that it can be done
//! thousands of times a second beside what is measured. The layouts are those of version 3 of the maps, and of IPv4.

use std::{
    ffi::CString,
    io,
    net::Ipv4Addr,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use anyhow::{Context, Result};

use crate::objects::PORT;

/// VNI of a cluster that names none, and TCP, as frontends' keys have them.
const SCOPE: u32 = 1 << 8 | 6;

/// The maps that a change of a service ends up in.
#[derive(Debug)]
pub(crate) struct Maps {
    frontends: OwnedFd,
    epoch: OwnedFd,
}

/// What they say of one service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Said {
    /// Its frontend, if it is there.
    frontend: Option<Frontend>,
    /// Flows that began in another epoch resolve their destination anew. It changes after all else.
    epoch: u64,
}

/// A frontend, in words of 32 bits.
type Frontend = [u32; 7];

impl Said {
    /// Whether new flows to the service have so many backends.
    pub(crate) fn has_backends(&self, count: u32) -> bool {
        self.frontend.is_some_and(|[_ttl, _id, _table, _slots, backends, ..]| backends == count)
    }

    /// Whether everything differs from `before`: which table new flows take, and the epoch.
    pub(crate) fn follows(&self, before: &Self) -> bool {
        self.frontend != before.frontend && self.epoch != before.epoch
    }
}

impl Maps {
    /// Those that are pinned in the folder `bpffs`.
    pub(crate) fn open(bpffs: &Path) -> Result<Self> {
        Ok(Self { frontends: open(&bpffs.join("maps/FRONTENDS4"))?, epoch: open(&bpffs.join("maps/EPOCH"))? })
    }

    /// What they say of the service at `vip`.
    pub(crate) fn ask(&self, vip: Ipv4Addr) -> Result<Said> {
        let [high, low] = PORT.to_be_bytes();
        let key = [u32::from_ne_bytes(vip.octets()), SCOPE, u32::from_ne_bytes([high, low, 0, 0])];
        let frontend = look_up(&self.frontends, &key).context("cannot read FRONTENDS4")?;
        let epoch = look_up(&self.epoch, &0_u32).context("cannot read EPOCH")?.unwrap_or_default();
        Ok(Said { frontend, epoch })
    }
}

/// `BPF_MAP_LOOKUP_ELEM`'s part of `union bpf_attr` (Linux, include/uapi/linux/bpf.h).
#[repr(C)]
struct LookUp {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// `BPF_OBJ_GET`'s.
#[repr(C)]
struct Get {
    path: u64,
    fd: u32,
    flags: u32,
}

fn open(path: &Path) -> Result<OwnedFd> {
    const OBJ_GET: libc::c_int = 7;
    let name = CString::new(path.as_os_str().as_bytes())?;
    let attr = Get { path: name.as_ptr().expose_provenance() as u64, fd: 0, flags: 0 };
    // SAFETY: `attr` is what the command reads, and the path that it leads to lives until after the call.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, OBJ_GET, &raw const attr, size_of::<Get>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("cannot open {}", path.display()));
    }
    // SAFETY: the kernel has just given it to us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(i32::try_from(fd)?) })
}

/// The value at `key`; `K` and `V` are as large as the map has them, and any bytes make a `V`.
fn look_up<K, V: Default + Bytes>(map: &OwnedFd, key: &K) -> io::Result<Option<V>> {
    const MAP_LOOKUP_ELEM: libc::c_int = 1;
    let mut value = V::default();
    let attr = LookUp {
        map: map.as_raw_fd().cast_unsigned(),
        pad: 0,
        key: std::ptr::from_ref(key).expose_provenance() as u64,
        value: (&raw mut value).expose_provenance() as u64,
        flags: 0,
    };
    // SAFETY: key and value outlive the call, and are of the map's sizes: those of FRONTENDS4 or EPOCH.
    match unsafe { libc::syscall(libc::SYS_bpf, MAP_LOOKUP_ELEM, &raw const attr, size_of::<LookUp>()) } {
        0 => Ok(Some(value)),
        _ => match io::Error::last_os_error() {
            error if error.raw_os_error() == Some(libc::ENOENT) => Ok(None),
            error => Err(error),
        },
    }
}

/// What the kernel may write any bytes into.
trait Bytes {}
impl Bytes for Frontend {}
impl Bytes for u64 {}
