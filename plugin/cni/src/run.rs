//! What every plugin's `main` does: read the call, have it done, and answer as the specification says.

use std::{
    env,
    io::{self, IsTerminal, Read, Write},
    path::Path,
    process::ExitCode,
};

use serde_json::Value;

use crate::{Attachment, Call, Failure, Network, Success, Version, panics};

/// What a plugin does. Calls that make no sense, and those that the configuration's version does not have, never
/// come here.
pub trait Plugin {
    /// Gives the container its interface (or, as an IPAM plugin, its addresses). The path is the container's
    /// network namespace.
    fn add(&self, attachment: &Attachment, netns: &Path) -> Result<Success, Failure>;

    /// Takes it away. Success also if it is not there.
    fn del(&self, attachment: &Attachment) -> Result<(), Failure>;

    /// Sees whether it is as it was made.
    fn check(&self, attachment: &Attachment, netns: &Path) -> Result<(), Failure>;

    /// Takes away what no valid attachment of the network owns.
    fn gc(&self, network: &Network) -> Result<(), Failure>;

    /// Says whether ADD would succeed.
    fn status(&self, network: &Network) -> Result<(), Failure>;
}

/// Does what the environment and standard input ask of `plugin`, and prints the answer. A panic is answered too.
pub fn run(plugin: &impl Plugin) -> ExitCode {
    panics::answer_as_errors();
    let call = match Call::read(|name| env::var_os(name), stdin()) {
        Ok(call) => call,
        Err(refused) => return fail(&refused.failure, refused.version),
    };
    let version = call.version();
    panics::answer_in(version);
    match answer(plugin, &call) {
        Ok(None) => ExitCode::SUCCESS,
        Ok(Some(reply)) => print(&reply, ExitCode::SUCCESS),
        Err(failure) => fail(&failure, version),
    }
}

/// Does what is asked; `Some` is to be printed.
fn answer(plugin: &impl Plugin, call: &Call) -> Result<Option<Value>, Failure> {
    match call {
        Call::Add(attachment, netns) => {
            plugin.add(attachment, netns)?.write(attachment.network.version).map(Some)
        }
        Call::Del(attachment) => plugin.del(attachment).map(|()| None),
        Call::Check(attachment, netns) => plugin.check(attachment, netns).map(|()| None),
        Call::Gc(network) => plugin.gc(network).map(|()| None),
        Call::Status(network) => plugin.status(network).map(|()| None),
        Call::Version(version) => version.reply().map(Some),
    }
}

/// Standard input, unless a person sits at its other end who only wants to know what this program is.
fn stdin() -> Box<dyn Read> {
    if env::var_os("CNI_COMMAND").is_none() && io::stdin().is_terminal() {
        return Box::new(io::empty());
    }
    Box::new(io::stdin().lock())
}

fn fail(failure: &Failure, version: Version) -> ExitCode {
    print(&failure.reply(version), ExitCode::FAILURE)
}

fn print(reply: &Value, code: ExitCode) -> ExitCode {
    // In one piece: standard output would go line by line.
    match io::stdout().lock().write_all(format!("{reply:#}\n").as_bytes()) {
        Ok(()) => code,
        // Nobody is left to tell.
        Err(_) => ExitCode::FAILURE,
    }
}
