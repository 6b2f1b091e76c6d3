//! What can go wrong with an rtnetlink request, in words that name the request, the cause and the cure.

use std::io;

use crate::netns::NetNsError;

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// No socket could be had.
    #[error("cannot open an rtnetlink socket: {0}")]
    Open(#[source] io::Error),
    /// Called outside of a tokio runtime: a mistake in the program.
    #[error("rtnetlink was used outside of a tokio runtime; this is a bug in the program")]
    NoRuntime,
    /// The namespace to work in cannot be entered.
    #[error(transparent)]
    NetNs(#[from] NetNsError),
    /// The kernel said no.
    #[error("cannot {what}: {source}{}{}", said(.kernel.as_deref()), cure(.source))]
    Refused {
        /// What was asked, to be read after "cannot".
        what: String,
        /// The kernel's own words, if it had any.
        kernel: Option<String>,
        /// The error number.
        source: io::Error,
    },
    /// The kernel's answer never came, or made no sense.
    #[error("cannot {what}: rtnetlink failed: {source}")]
    Broken {
        /// What was asked, to be read after "cannot".
        what: String,
        /// What the library says.
        source: Box<rtnetlink::Error>,
    },
    /// Something that must be there is not.
    #[error("cannot {what}: {missing} is not there")]
    Missing {
        /// What was asked, to be read after "cannot".
        what: String,
        /// What was not found.
        missing: String,
    },
}

fn said(kernel: Option<&str>) -> String {
    kernel.map_or_else(String::new, |words| format!(" ({})", words.trim_end_matches('.')))
}

fn cure(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => "; CAP_NET_ADMIN is needed: run as root",
        Some(libc::EOPNOTSUPP) => "; this kernel lacks the device type or the feature: load its module",
        Some(libc::ENETUNREACH | libc::ENETDOWN) => {
            "; the device it goes by must be up and the gateway on it"
        }
        _ => "",
    }
}

impl NetlinkError {
    /// Makes one of what rtnetlink reports about the request `what`.
    pub(super) fn new(what: impl Into<String>, error: rtnetlink::Error) -> Self {
        let what = what.into();
        match error {
            rtnetlink::Error::NetlinkError(message) => {
                Self::Refused { what, kernel: extended_message(&message.header), source: message.to_io() }
            }
            other => Self::Broken { what, source: Box::new(other) },
        }
    }

    /// The error number, if the kernel gave one.
    #[must_use]
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { source, .. } | Self::Open(source) => source.raw_os_error(),
            _ => None,
        }
    }

    /// True if what was to be made is there already.
    #[must_use]
    pub fn is_exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// True if what the request was about is not there.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Missing { .. })
            || matches!(
                self.errno(),
                Some(libc::ENODEV | libc::ENOENT | libc::ESRCH | libc::ENXIO | libc::EADDRNOTAVAIL)
            )
    }

    /// True if only a privilege is missing.
    #[must_use]
    pub fn is_forbidden(&self) -> bool {
        matches!(self.errno(), Some(libc::EPERM | libc::EACCES))
            || matches!(self, Self::NetNs(e) if e.is_forbidden())
    }
}

/// `NLMSGERR_ATTR_MSG` (linux/netlink.h) among the attributes after the request's header, 16 bytes long.
fn extended_message(reply: &[u8]) -> Option<String> {
    const ATTR_MSG: u16 = 1;
    let mut rest = reply.get(16..)?;
    while let Some(header) = rest.first_chunk::<4>() {
        let len = usize::from(u16::from_ne_bytes([header[0], header[1]]));
        let kind = u16::from_ne_bytes([header[2], header[3]]) & !0xc000;
        let value = rest.get(4..len)?;
        if kind == ATTR_MSG {
            let text = value.split(|byte| *byte == 0).next()?;
            return Some(String::from_utf8_lossy(text).into_owned());
        }
        rest = rest.get(len.next_multiple_of(4)..)?;
    }
    None
}

/// Turns "not there" into success: for requests that delete.
pub(super) fn absent_is_fine(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(e) if e.is_absent() => Ok(()),
        other => other,
    }
}

/// Turns "there already" into success: for requests that make.
pub(super) fn exists_is_fine(result: Result<(), NetlinkError>) -> Result<(), NetlinkError> {
    match result {
        Err(e) if e.is_exists() => Ok(()),
        other => other,
    }
}
