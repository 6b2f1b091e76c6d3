//! What can go wrong below, as failures that a runtime understands: each cause with its code.

use std::{fmt, io};

use beeline_cni::{Code, Failure};
use lb_dataplane::{JsonFileError, netlink::NetlinkError, netns::NetNsError};

/// All addresses are held.
pub(crate) const EXHAUSTED: Code = Code(100);
/// The container's network namespace is gone or cannot be used.
pub(crate) const NETNS: Code = Code(101);
/// A privilege is missing.
pub(crate) const PRIVILEGE: Code = Code(102);
/// The dataplane's pins are missing or foreign, or the kernel refused them.
pub(crate) const DATAPLANE: Code = Code(103);
/// The interface is there already.
pub(crate) const EXISTS: Code = Code(104);
/// The address that was asked for cannot be given.
pub(crate) const ADDRESS: Code = Code(105);
/// CHECK found that something is not as it was made.
pub(crate) const MISMATCH: Code = Code(110);

/// Result of what the plugin does.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

/// A failure, made of whatever went wrong.
#[derive(Debug)]
pub(crate) struct Error(pub(crate) Failure);

impl Error {
    pub(crate) fn new(code: Code, msg: impl Into<String>) -> Self {
        Self(Failure::new(code, msg))
    }

    pub(crate) fn with_details(self, details: impl fmt::Display) -> Self {
        Self(self.0.with_details(details))
    }

    /// Of something that was tried with a file.
    pub(crate) fn io(what: impl fmt::Display, error: &io::Error) -> Self {
        let code = match error.kind() {
            io::ErrorKind::PermissionDenied => PRIVILEGE,
            _ => Code::IO,
        };
        Self::new(code, format!("{what}: {error}"))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        Self(failure)
    }
}

impl From<JsonFileError> for Error {
    fn from(error: JsonFileError) -> Self {
        let code = match &error {
            JsonFileError::Missing(_) => Code::TRY_AGAIN,
            JsonFileError::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => PRIVILEGE,
            JsonFileError::Io { .. } => Code::IO,
            JsonFileError::Damaged { .. } | JsonFileError::Version { .. } => DATAPLANE,
        };
        Self::new(code, error.to_string())
    }
}

impl From<NetNsError> for Error {
    fn from(error: NetNsError) -> Self {
        let code = if error.is_forbidden() { PRIVILEGE } else { NETNS };
        Self::new(code, error.to_string())
    }
}

impl From<NetlinkError> for Error {
    fn from(error: NetlinkError) -> Self {
        let code = match error {
            NetlinkError::NetNs(error) => return error.into(),
            _ if error.is_forbidden() => PRIVILEGE,
            _ if error.is_exists() => EXISTS,
            NetlinkError::NoRuntime => Code::BUG,
            _ => Code::IO,
        };
        Self::new(code, error.to_string())
    }
}

impl From<lb_dataplane::Error> for Error {
    fn from(error: lb_dataplane::Error) -> Self {
        let code = match error {
            lb_dataplane::Error::NotAllowed => PRIVILEGE,
            _ => DATAPLANE,
        };
        Self::new(code, error.to_string())
    }
}

impl From<beeline_ipam::Error> for Error {
    fn from(error: beeline_ipam::Error) -> Self {
        use beeline_ipam::Error;
        let code = match &error {
            Error::Exhausted { .. } => EXHAUSTED,
            Error::Held { .. } => EXISTS,
            Error::OutOfRange { .. }
            | Error::IsGateway { .. }
            | Error::IsExcluded { .. }
            | Error::Taken { .. }
            | Error::TwoOfOneSet { .. } => ADDRESS,
            _ if error.is_forbidden() => PRIVILEGE,
            _ => Code::IO,
        };
        Self::new(code, error.to_string())
    }
}
