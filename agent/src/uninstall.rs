//! `beelined uninstall`: takes away all that Beeline added to this machine.
//!
//! First nobody is told to use it any more, then packets take other ways, then what they ran on goes, and last the
//! account of addresses, unless pods still hold some. What cannot be removed is told at the end; the rest is removed
//! all the same. Sysctls stay.

use std::{
    fs,
    io::{self, Write},
    path::Path,
};

use anyhow::{Error, Result, bail};
use lb_dataplane::{Netlink, NodeFile, Pins, Program, StatusFile, json_file, runtime_dir};

use crate::{
    cli::{self, Place},
    error::told,
    host::{cni::Cni, devices, nat, ports::is_port, preflight, routes},
    instance::Instance,
    reconcile::attachments,
};

/// Removes everything, says what it removed, and is content with what is not there.
pub(crate) fn uninstall(args: &cli::Uninstall) -> Result<()> {
    let place = &args.place;
    preflight::privilege().map_err(Error::msg)?;
    let instance = Instance::lock(&place.runtime_dir)?;
    let node = NodeFile::read(&place.runtime_dir).ok();
    let uplink = node.as_ref().map(|node| node.uplink.as_str());
    let mut report = Report::default();

    let cni = Cni::new(&args.cni, &place.runtime_dir);
    let withdrawn = cni.withdraw().map(|path| path.map(|path| path.display().to_string()));
    report.note("the conflist", withdrawn.map_err(Error::from));
    for file in [NodeFile::path(&place.runtime_dir), StatusFile::path(&place.runtime_dir)] {
        // What a process left that died while it wrote the file is removed without a word.
        let _ = fs::remove_file(json_file::beside(&file));
        report.remove(&file, |file| fs::remove_file(file));
    }
    match nat::remove() {
        Ok(tables) => {
            let removed = tables.iter().map(|table| format!("removed nftables table {table}"));
            report.said.extend(removed);
        }
        Err(error) => report.note("the nftables table", Err(error)),
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    match runtime.block_on(remove_network(place, uplink, &mut report)) {
        Ok(pods) => {
            remove_addresses(&place.runtime_dir, pods, &mut report);
            if pods == 0 {
                // As long as there are pods, the runtime needs the plugin to take them down.
                remove_programs(&cni, &mut report);
            }
        }
        Err(error) => report.note("the network", Err(error)),
    }
    // Last the lock, and the folder if nothing is left in it. Both are there because this process made them.
    let _ = fs::remove_file(instance.path());
    drop(instance);
    let _ = fs::remove_dir(&place.runtime_dir);
    report.finish()
}

/// What the plugin keeps about pods and their addresses, if no pod is wired any more.
fn remove_addresses(runtime_dir: &Path, pods: usize, report: &mut Report) {
    let store = runtime_dir::address_store(runtime_dir);
    if pods == 0 {
        report.remove(&store, |store| fs::remove_dir_all(store));
        report.remove(&runtime_dir::attachments(runtime_dir), |records| fs::remove_dir_all(records));
        report.remove(&runtime_dir::attachments_lock(runtime_dir), |lock| fs::remove_file(lock));
        return;
    }
    report.said.push(format!(
        "left: pods that are still wired, without network now ({pods}), and their addresses in {}; delete the pods, then \
         run this again",
        store.display()
    ));
}

fn remove_programs(cni: &Cni, report: &mut Report) {
    match cni.uninstall() {
        Ok(removed) => {
            for program in removed {
                report.said.push(format!("removed {}", program.display()));
            }
        }
        Err(error) => report.note("the plugin's programs", Err(error.into())),
    }
}

/// Routes, programs with their pins, and devices. Returns how many pods were still wired.
async fn remove_network(place: &Place, uplink: Option<&str>, report: &mut Report) -> Result<usize> {
    let netlink = Netlink::open()?;
    let count = routes::remove(&netlink).await;
    report.note("the routes", count.map(|count| (count > 0).then(|| format!("{count} routes"))));

    let links = netlink.links().await?;
    let ports: Vec<&str> = links.iter().filter(|link| is_port(link)).map(|link| link.name.as_str()).collect();
    let mut attached: Vec<(Program, &str)> = ports.iter().map(|port| (Program::FromPod, *port)).collect();
    // Without node.json nobody knows which device was the uplink: a filter may be on any.
    let uplinks = links
        .iter()
        .map(|link| link.name.as_str())
        .filter(|name| uplink.is_none_or(|uplink| uplink == *name));
    for uplink in uplinks {
        attached.extend(attachments(uplink));
    }
    let pins = Pins::new(&place.bpffs);
    let unloaded = lb_dataplane::unload(&pins, &attached);
    let what = format!("programs and maps in {}", place.bpffs.display());
    if unloaded.errors.is_empty() {
        report.note(&what, Ok(unloaded.existed.then(|| what.clone())));
    }
    for error in unloaded.errors {
        report.note(&what, Err(error.into()));
    }

    for (name, kind) in devices::ALL {
        let removed = devices::remove(&netlink, name, kind).await;
        let what = format!("device {name}");
        report.note(&what, removed.map(|removed| removed.then(|| what.clone())));
    }
    Ok(ports.len())
}

/// What was done, and what could not be.
#[derive(Default)]
struct Report {
    said: Vec<String>,
    failed: Vec<String>,
}

impl Report {
    /// Removes what is at `path`, which need not be there.
    fn remove(&mut self, path: &Path, remove: impl FnOnce(&Path) -> io::Result<()>) {
        let name = path.display().to_string();
        let removed = match remove(path) {
            Ok(()) => Ok(Some(name.clone())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error.into()),
        };
        self.note(&name, removed);
    }

    fn note(&mut self, what: &str, removed: Result<Option<String>>) {
        match removed {
            Ok(Some(removed)) => self.said.push(format!("removed {removed}")),
            Ok(None) => {}
            Err(error) => self.failed.push(format!("cannot remove {what}: {}", told(&error))),
        }
    }

    fn finish(self) -> Result<()> {
        let mut out = io::stdout();
        for line in &self.said {
            writeln!(out, "{line}")?;
        }
        if !self.failed.is_empty() {
            bail!("something is left:\n  {}", self.failed.join("\n  "));
        }
        if self.said.is_empty() {
            writeln!(out, "nothing of Beeline is here")?;
        }
        Ok(())
    }
}
