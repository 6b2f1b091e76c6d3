//! The call: what the runtime asks, read from the environment and standard input and checked as a whole.

use std::{ffi::OsString, io::Read, path::PathBuf};

use crate::{
    Args, AttachmentId, Code, Failure, Network, Version,
    environment::{Command, Environment},
    network,
};

/// Longest configuration read, in bytes. Kubernetes' are some hundred bytes.
const MAX_INPUT: u64 = 4 << 20;

/// What the runtime asks.
#[derive(Debug)]
pub enum Call {
    /// Give the container its interface.
    Add(Attachment, PathBuf),
    /// Take it away; the namespace may be gone.
    Del(Attachment),
    /// See whether it is still as it was made.
    Check(Attachment, PathBuf),
    /// Take away what no valid attachment owns.
    Gc(Network),
    /// Say whether ADD would succeed.
    Status(Network),
    /// Say which versions are spoken. Holds the version asked with.
    Version(Version),
}

/// One interface of one container, which ADD, DEL and CHECK are about.
#[derive(Debug)]
pub struct Attachment {
    /// Container and interface.
    pub id: AttachmentId,
    /// The container's network namespace, if the runtime says.
    pub netns: Option<PathBuf>,
    /// `CNI_ARGS`; empty for DEL, which does not look at them.
    pub args: Args,
    /// The network configuration.
    pub network: Network,
}

/// A call that makes no sense.
#[derive(Debug)]
pub struct Refused {
    /// What is wrong with it.
    pub failure: Failure,
    /// The CNI version to say so in: the configuration's, as far as that can be read and is spoken.
    pub version: Version,
}

impl Call {
    /// Reads a call from the environment and standard input.
    pub fn read(variable: impl Fn(&str) -> Option<OsString>, stdin: impl Read) -> Result<Self, Refused> {
        let input = input(stdin);
        let asked = input.as_ref().ok().and_then(|input| network::asked_version(input).ok());
        Self::parse(&variable, input)
            .map_err(|failure| Refused { failure, version: asked.unwrap_or(Version::LATEST) })
    }

    /// The environment comes first: what is wrong with it tells more than what it lets miss on standard input.
    fn parse(
        variable: &dyn Fn(&str) -> Option<OsString>,
        input: Result<Vec<u8>, Failure>,
    ) -> Result<Self, Failure> {
        let environment = Environment::new(variable);
        let command = environment.command()?;
        if command == Command::Version {
            return Ok(Self::Version(network::asked_version(&input?)?));
        }
        if let Command::Gc | Command::Status = command {
            let network = Network::parse(input?, environment.path())?;
            if !network.version.has_gc() {
                return Err(too_old("GC and STATUS are", network.version, Version::V1_1_0));
            }
            let gc = command == Command::Gc;
            return Ok(if gc { Self::Gc(network) } else { Self::Status(network) });
        }
        let (id, netns) = environment.attachment(command)?;
        let args = environment.args(command)?;
        let network = Network::parse(input?, environment.path())?;
        let attachment = Attachment { id, netns: netns.clone(), args, network };
        match (command, netns) {
            (Command::Add, Some(netns)) => Ok(Self::Add(attachment, netns)),
            (Command::Check, Some(netns)) if attachment.network.version.has_check() => {
                Ok(Self::Check(attachment, netns))
            }
            (Command::Check, _) => Err(too_old("CHECK is", attachment.network.version, Version::V0_4_0)),
            _ => Ok(Self::Del(attachment)),
        }
    }

    /// The CNI version to answer in.
    #[must_use]
    pub fn version(&self) -> Version {
        match self {
            Self::Add(attachment, _) | Self::Del(attachment) | Self::Check(attachment, _) => {
                attachment.network.version
            }
            Self::Gc(network) | Self::Status(network) => network.version,
            Self::Version(version) => *version,
        }
    }
}

fn too_old(what: &str, version: Version, since: Version) -> Failure {
    Failure::new(
        Code::VERSION,
        format!("{what} of CNI version {since} and later, and the configuration's cniVersion is {version}"),
    )
}

fn input(stdin: impl Read) -> Result<Vec<u8>, Failure> {
    let mut bytes = Vec::new();
    let read = stdin.take(MAX_INPUT + 1).read_to_end(&mut bytes);
    read.map_err(|e| {
        Failure::new(Code::IO, format!("cannot read the network configuration from standard input: {e}"))
    })?;
    if bytes.len() as u64 > MAX_INPUT {
        return Err(Failure::new(
            Code::DECODE,
            format!("the network configuration is longer than {MAX_INPUT} bytes"),
        ));
    }
    Ok(bytes)
}
