//! Delegation: another plugin's program does part of the work (specification, section 4), found on `CNI_PATH` and
//! given this call's environment and configuration.

use std::{
    io::{self, Write},
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Stdio},
};

use serde_json::Value;

use crate::{AttachmentId, Code, Failure, Network, Success, environment};

/// What a delegated plugin is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// As in ADD.
    Add,
    /// As in DEL, or to take an ADD back.
    Del,
    /// As in CHECK.
    Check,
    /// As in GC.
    Gc,
    /// As in STATUS.
    Status,
}

impl Verb {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
        }
    }
}

/// Another plugin's program.
#[derive(Debug)]
pub struct Delegate {
    name: String,
    program: PathBuf,
}

impl Delegate {
    /// Finds the plugin called `name` for `network`.
    pub fn find(name: &str, network: &Network) -> Result<Self, Failure> {
        // A name with a slash in it would leave the folders.
        if !environment::is_name(name) {
            let msg =
                format!("`{name}` cannot be a plugin's name: it has letters, digits, `_`, `.` and `-` only");
            return Err(Failure::new(Code::CONFIG, msg));
        }
        let found = network.path.iter().map(|folder| folder.join(name)).find(|program| {
            program.metadata().is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        });
        let program = found.ok_or_else(|| {
            let folders: Vec<_> = network.path.iter().map(|folder| folder.display().to_string()).collect();
            let folders =
                if folders.is_empty() { "is empty".to_owned() } else { format!("is {}", folders.join(":")) };
            Failure::new(
                Code::CONFIG,
                format!(
                    "the plugin `{name}` is not found: install it in a folder of CNI_PATH, which {folders}"
                ),
            )
        })?;
        Ok(Self { name: name.to_owned(), program })
    }

    /// Has it done, for the attachment `id`; for this call's own if that is `None`. The result is that of ADD; of the
    /// others it is empty.
    pub fn call(&self, verb: Verb, network: &Network, id: Option<&AttachmentId>) -> Result<Success, Failure> {
        let command = verb.as_str();
        let fail = |e: io::Error| {
            Failure::new(
                Code::IO,
                format!("cannot run the plugin {} for {command}: {e}", self.program.display()),
            )
        };
        let mut process = Command::new(&self.program);
        process.env("CNI_COMMAND", command);
        if let Some(id) = id {
            process.env("CNI_CONTAINERID", &id.container_id).env("CNI_IFNAME", &id.ifname);
            // What is known of it now is that it is to go.
            process.env("CNI_NETNS", "").env_remove("CNI_ARGS");
        }
        let mut child = process.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().map_err(fail)?;
        if let Some(mut stdin) = child.stdin.take() {
            // One that does not read its input closes it early: that is its right.
            let _ = stdin.write_all(&network.raw);
        }
        let output = child.wait_with_output().map_err(fail)?;
        let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        if !output.status.success() {
            return Err(self.failure(command, answer, &output.status.to_string()));
        }
        if verb != Verb::Add {
            return Ok(Success::default());
        }
        let broken = |why: &str| {
            Failure::new(
                Code::DECODE,
                format!("the plugin `{}` answered {command} with what is no result: {why}", self.name),
            )
        };
        Success::read(answer.ok_or_else(|| broken("no JSON"))?).map_err(|why| broken(&why))
    }

    /// Its own code and words, with its name before them.
    fn failure(&self, command: &str, answer: Option<Value>, status: &str) -> Failure {
        let answer = answer.unwrap_or_default();
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        let code = answer["code"].as_u64().and_then(|code| u16::try_from(code).ok()).filter(|code| *code > 0);
        let msg = Some(text("msg"))
            .filter(|msg| !msg.is_empty())
            .unwrap_or_else(|| format!("it failed ({status})"));
        let mut failure = Failure::new(
            code.map_or(Code::IO, Code),
            format!("the plugin `{}` refuses {command}: {msg}", self.name),
        );
        failure.details = text("details");
        failure
    }
}
