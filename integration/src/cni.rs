//! Calls of the CNI plugin as a runtime makes them: environment, JSON on standard input, JSON on standard output.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use crate::{
    binaries,
    node::Node,
    process,
    steps::{self, Cut},
};

/// One call, which may be made wrong on purpose before it is run.
#[derive(Clone, Debug)]
pub struct Call {
    environment: BTreeMap<&'static str, String>,
    input: String,
    user: Option<u32>,
}

/// What the plugin answered.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    /// Success, with the JSON result (`Null` when there is none, as for DEL).
    Success(Value),
    /// A CNI error.
    Failure {
        /// Its code.
        code: u64,
        /// What it says, message and details.
        message: String,
    },
}

impl Reply {
    /// The result.
    ///
    /// # Errors
    /// If it is a failure.
    pub fn ok(self) -> Result<Value> {
        match self {
            Self::Success(result) => Ok(result),
            Self::Failure { code, message } => bail!("the plugin failed with code {code}: {message}"),
        }
    }

    /// Code and message.
    ///
    /// # Errors
    /// If it is a success.
    pub fn failure(self) -> Result<(u64, String)> {
        match self {
            Self::Success(result) => bail!("the plugin should have failed, but answered {result}"),
            Self::Failure { code, message } => Ok((code, message)),
        }
    }
}

impl Call {
    /// `command` for interface `eth0` of container `container_id` in the namespace at `netns`, on `node`.
    #[must_use]
    pub fn new(node: &Node, command: &str, container_id: &str, netns: &str) -> Self {
        let environment = BTreeMap::from([
            ("CNI_COMMAND", command.to_owned()),
            ("CNI_CONTAINERID", container_id.to_owned()),
            ("CNI_NETNS", netns.to_owned()),
            ("CNI_IFNAME", "eth0".to_owned()),
            ("CNI_PATH", "/opt/cni/bin".to_owned()),
        ]);
        Self { environment, input: node.network_config().to_string(), user: None }
    }

    /// With environment variable `name` set to `value`.
    #[must_use]
    pub fn with(mut self, name: &'static str, value: &str) -> Self {
        self.environment.insert(name, value.to_owned());
        self
    }

    /// Without environment variable `name`.
    #[must_use]
    pub fn without(mut self, name: &'static str) -> Self {
        self.environment.remove(name);
        self
    }

    /// With `input` in place of the network configuration.
    #[must_use]
    pub fn input(self, input: &str) -> Self {
        Self { input: input.to_owned(), ..self }
    }

    /// As user `uid`.
    #[must_use]
    pub fn user(self, uid: u32) -> Self {
        Self { user: Some(uid), ..self }
    }

    /// Runs the plugin on `node`.
    ///
    /// # Errors
    /// If the plugin cannot be run, or answers neither as the CNI says for success nor as for failure.
    pub fn run(&self, node: &Node) -> Result<Reply> {
        let done = process::finish(self.command(node)?, &self.input)?;
        let broken = || format!("the plugin's answer is no CNI: {} (stderr: {})", done.stdout, done.stderr);
        let answer: Value = match done.stdout.trim() {
            "" => Value::Null,
            text => serde_json::from_str(text).with_context(broken)?,
        };
        if done.status.success() {
            return Ok(Reply::Success(answer));
        }
        let code = answer["code"].as_u64().with_context(broken)?;
        let text = |key: &str| answer[key].as_str().unwrap_or_default().to_owned();
        Ok(Reply::Failure { code, message: format!("{} {}", text("msg"), text("details")).trim().to_owned() })
    }
}

impl Call {
    /// Runs the plugin on `node`, and kills it with SIGKILL when it is about to make its `n`th step, from 1 up.
    ///
    /// # Errors
    /// If the plugin cannot be run.
    pub fn kill_at(&self, node: &Node, n: usize) -> Result<Cut> {
        steps::kill_at(self.command(node)?, &self.input, n)
    }

    fn command(&self, node: &Node) -> Result<Command> {
        let mut command = node.command(binaries::find("beeline")?);
        command.env_clear().envs(&self.environment);
        if let Some(uid) = self.user {
            process::run_as(&mut command, uid);
        }
        Ok(command)
    }
}

impl Node {
    /// The call `command`, such as GC or STATUS, about the whole network, with `fields` in its configuration.
    #[must_use]
    pub fn network_call(&self, command: &str, fields: &Value) -> Call {
        let mut config = self.network_config();
        for (key, value) in fields.as_object().into_iter().flatten() {
            config[key] = value.clone();
        }
        let call = Call::new(self, command, "", "").input(&config.to_string());
        call.without("CNI_CONTAINERID").without("CNI_NETNS").without("CNI_IFNAME")
    }

    /// The network configuration a runtime would take from the node's conflist.
    #[must_use]
    pub fn network_config(&self) -> Value {
        json!({
            "cniVersion": "1.0.0",
            "name": "beeline",
            "type": "beeline",
            "runtimeDir": self.runtime_dir(),
        })
    }
}
