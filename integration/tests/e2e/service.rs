//! The systemd unit: what systemd itself says of it. That it starts is shown on a node of a real cluster, which has systemd.

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use integration::{binaries, process::finish, sandbox};

const UNIT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../manifests/beelined.service");

pub(crate) fn a12_systemd_finds_no_fault_with_the_unit() -> Result<()> {
    let (_, dir) = sandbox::new_state_dir()?;
    // systemd also looks for the program.
    let program = binaries::find("beelined")?;
    let text = fs::read_to_string(UNIT)?;
    let here = text.replace("/usr/local/sbin/beelined", &program.to_string_lossy());
    ensure!(here != text, "the unit starts another program");
    let unit = dir.join("beelined.service");
    let verify = |text: &str| -> Result<_> {
        fs::write(&unit, text)?;
        let mut command = Command::new("systemd-analyze");
        command.arg("verify").arg(&unit);
        finish(command, "").context("is systemd-analyze there? It is in Debian's package systemd")
    };
    let found = verify(&here)?;
    ensure!(found.status.success() && found.stderr.is_empty(), "{}", found.stderr);
    // It would find a fault.
    let found = verify(&here.replace("Restart=always", "Restart=sometimes"))?;
    ensure!(found.stderr.contains("sometimes"), "a wrong word is not found: {}", found.stderr);
    Ok(())
}
