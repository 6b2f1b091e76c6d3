//! The CNI variables of the environment: all that are missing named at once, and what they hold checked.

use std::{ffi::OsString, fmt, path::PathBuf};

use serde::Deserialize;

use crate::{Args, Code, Failure};

/// One interface of one container: what the specification calls an attachment.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
pub struct AttachmentId {
    /// The container, as the runtime calls it.
    #[serde(rename = "containerID")]
    pub container_id: String,
    /// The interface's name inside the container.
    pub ifname: String,
}

impl fmt::Display for AttachmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of container {}", self.ifname, self.container_id)
    }
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    const ALL: [(&str, Self); 6] = [
        ("ADD", Self::Add),
        ("DEL", Self::Del),
        ("CHECK", Self::Check),
        ("GC", Self::Gc),
        ("STATUS", Self::Status),
        ("VERSION", Self::Version),
    ];
}

/// The environment of a call.
pub(crate) struct Environment<'a> {
    variable: &'a dyn Fn(&str) -> Option<OsString>,
}

impl<'a> Environment<'a> {
    pub(crate) fn new(variable: &'a dyn Fn(&str) -> Option<OsString>) -> Self {
        Self { variable }
    }

    /// What is to be done.
    pub(crate) fn command(&self) -> Result<Command, Failure> {
        let name = self.get("CNI_COMMAND")?.ok_or_else(|| {
            bad("CNI_COMMAND is not set: container runtimes start this program; its --help says more")
        })?;
        let found = Command::ALL.iter().find(|(known, _)| *known == name);
        found.map(|(_, command)| *command).ok_or_else(|| {
            let known = Command::ALL.map(|(known, _)| known).join(", ");
            bad(format!("CNI_COMMAND is `{name}`: the specification has {known}"))
        })
    }

    /// Whom it is about, and the namespace, which DEL can do without.
    pub(crate) fn attachment(&self, command: Command) -> Result<(AttachmentId, Option<PathBuf>), Failure> {
        let container_id = self.get("CNI_CONTAINERID")?;
        let ifname = self.get("CNI_IFNAME")?;
        let netns = self.get("CNI_NETNS")?.map(PathBuf::from);
        let needs_netns = command != Command::Del;
        match (container_id, ifname) {
            (Some(container_id), Some(ifname)) if netns.is_some() || !needs_netns => {
                check_container_id(&container_id)?;
                check_ifname(&ifname)?;
                Ok((AttachmentId { container_id, ifname }, netns))
            }
            (container_id, ifname) => {
                let wanted = [
                    ("CNI_CONTAINERID", container_id.is_none()),
                    ("CNI_NETNS", netns.is_none() && needs_netns),
                    ("CNI_IFNAME", ifname.is_none()),
                ];
                let missing: Vec<_> =
                    wanted.iter().filter(|(_, missing)| *missing).map(|(name, _)| *name).collect();
                Err(bad(format!("variables are missing or empty: {}", missing.join(", "))))
            }
        }
    }

    /// `CNI_ARGS`. DEL must not fail for bad ones and does not look at them.
    pub(crate) fn args(&self, command: Command) -> Result<Args, Failure> {
        if command == Command::Del {
            return Ok(Args::default());
        }
        self.get("CNI_ARGS")?.map_or(Ok(Args::default()), |text| Args::parse(&text))
    }

    /// `CNI_PATH`: the folders in which delegated plugins are looked for, in order.
    pub(crate) fn path(&self) -> Vec<PathBuf> {
        let path = (self.variable)("CNI_PATH").unwrap_or_default();
        std::env::split_paths(&path).filter(|folder| folder.is_absolute()).collect()
    }

    /// A variable; `None` if it is missing or empty.
    fn get(&self, name: &str) -> Result<Option<String>, Failure> {
        match (self.variable)(name).map(OsString::into_string) {
            Some(Ok(value)) => Ok(Some(value).filter(|value| !value.is_empty())),
            Some(Err(_)) => Err(bad(format!("{name} is not UTF-8"))),
            None => Ok(None),
        }
    }
}

/// As the specification says: letters, digits, `_`, `.` and `-`, the first a letter or digit. Networks' names
/// follow the same rule.
pub(crate) fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_alphanumeric())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c))
}

fn check_container_id(id: &str) -> Result<(), Failure> {
    // CNI names no limit; file names, which ids become in many plugins, end here.
    if is_name(id) && id.len() <= 255 {
        return Ok(());
    }
    Err(bad(format!(
        "CNI_CONTAINERID is `{id}`: it must begin with a letter or digit, have only these and `_`, `.`, `-`, and not \
         be longer than 255"
    )))
}

/// As the kernel does (`dev_valid_name`).
fn check_ifname(name: &str) -> Result<(), Failure> {
    let bad_char = |c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control();
    if name.len() <= 15 && name != "." && name != ".." && !name.contains(bad_char) {
        return Ok(());
    }
    Err(bad(format!(
        "CNI_IFNAME is `{name}`: an interface name has at most 15 bytes, no `/`, `:` or space, and is not `.` or `..`"
    )))
}

fn bad(msg: impl Into<String>) -> Failure {
    Failure::new(Code::ENVIRONMENT, msg)
}
