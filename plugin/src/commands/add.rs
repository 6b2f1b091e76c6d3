//! ADD: gives a container its interface. Either all of it is there afterwards, or nothing.

use std::{net::IpAddr, path::Path};

use beeline_cni::{Attachment, Code, Success};
use beeline_ipam::Sandbox;
use lb_dataplane::{
    Mac, NetNs, Netlink, PortOwner,
    netlink::{Link, Veth, VethEnd, device_name},
};
use tokio::runtime::Runtime;

use crate::{
    addressing::{self, Addressing, Given},
    attachment::{self, Lock},
    error::{ADDRESS, EXHAUSTED, EXISTS, Error, Result},
    node::{self, Node, Remains},
    outcome::{self, End, Made},
    pod::{self, Wiring},
    reconcile::{Which, reconcile},
    record::{Record, Records},
    settings,
    undo::{Done, Means, Undo},
};

/// The container's side.
struct Pod<'a> {
    ifname: &'a str,
    netns: NetNs,
    inside: Netlink,
    sandbox: Sandbox,
}

/// What was wired.
struct Wired {
    wiring: Wiring,
    mac: Mac,
    mtu: u32,
    given: Given,
}

/// All that wiring needs.
struct Work<'a> {
    runtime: &'a Runtime,
    attachment: &'a Attachment,
    runtime_dir: &'a Path,
    node: Node,
    addressing: Addressing,
    records: Records,
    pod: Pod<'a>,
    owner: PortOwner,
    port: String,
}

/// Answers ADD.
pub(super) fn add(runtime: &Runtime, attachment: &Attachment, netns: &Path) -> Result<Success> {
    let _context = runtime.enter();
    let network = &attachment.network;
    let runtime_dir = settings::runtime_dir(network)?;
    // All that can be found wrong without changing anything is found first.
    let node = Node::open(&runtime_dir)?;
    let previous = network.prev_result()?;
    let addressing = Addressing::of(network, &runtime_dir, &node.file)?;
    let owner = attachment::port_owner(&attachment.id, attachment.args.pod.as_ref());
    let mut work = Work {
        runtime,
        attachment,
        runtime_dir: &runtime_dir,
        node,
        addressing,
        records: Records::of(&runtime_dir)?,
        pod: open_pod(&attachment.id.ifname, netns)?,
        port: owner.port_name(),
        owner,
    };
    let _lock = Lock::take(&runtime_dir, &work.port)?;
    refuse_repetition(&work)?;

    let mut undo = Undo::default();
    match work.wire(&mut undo) {
        Ok(wired) => Ok(work.answer(netns, wired, previous)),
        Err(failure) => Err(work.roll_back(undo, failure)),
    }
}

fn open_pod<'a>(ifname: &'a str, path: &Path) -> Result<Pod<'a>> {
    let (netns, inside) = node::open_netns(path)?;
    let sandbox = Sandbox::of(path);
    let sandbox = sandbox.map_err(|e| Error::io(format!("cannot look at {}", path.display()), &e))?;
    Ok(Pod { ifname, netns, inside, sandbox })
}

/// A second ADD for the same interface must fail and leave the first as it is. An attachment of an older Beeline
/// has no record; its lease, port and interface refuse by themselves.
fn refuse_repetition(work: &Work<'_>) -> Result<()> {
    let Some(record) = work.records.read(&work.port)? else { return Ok(()) };
    let id = &work.attachment.id;
    let holds = match record.addresses.as_slice() {
        [] => "was left half-made by an ADD that was cut short".to_owned(),
        addresses => format!("was added already and holds {}", node::list(addresses)),
    };
    Err(Error::new(EXISTS, format!("{id} {holds}: call DEL for it before a new ADD")))
}

impl Work<'_> {
    /// Everything there is to be done, in an order in which nothing the pod sends is ever unguarded: the program
    /// is on the port before it comes up, and the pod's end comes up last of the two.
    fn wire(&mut self, undo: &mut Undo) -> Result<Wired> {
        undo.note(Done::Record);
        let mut record = self.record();
        self.records.write(&self.port, &record)?;
        let given = self.give(undo)?;
        addressing::ensure_usable(&given.addresses, &self.node.file)?;
        record.addresses.clone_from(&given.addresses);
        self.records.write(&self.port, &record)?;

        let destinations = outcome::destinations(&given.routes, &self.node.file)?;
        let wiring = Wiring::new(given.addresses.clone(), destinations);
        let ipv6 = wiring.addresses.iter().any(IpAddr::is_ipv6);
        let mtu = settings::mtu(&self.attachment.network, self.node.file.mtu, ipv6)?;
        let mac = self.mac(&wiring.addresses)?;

        let near = self.make_pair(mac, mtu)?;
        undo.note(Done::Pair);
        if ipv6 {
            pod::prepare_ipv6(&self.pod.netns, self.pod.ifname)?;
        }
        undo.note(Done::Program);
        let far = self.runtime.block_on(self.attach_and_prepare(&near, &wiring))?;
        self.runtime.block_on(self.node.host.set_up(near.index))?;
        if self.runtime.block_on(pod::connect(&self.pod.inside, &far, &wiring))? {
            record.further = true;
            self.records.write(&self.port, &record)?;
        }
        self.refuse_addresses_of_others(&wiring.addresses)?;
        for address in &wiring.addresses {
            // First noted: the entry may be there although making it failed, and undoing what was not done is fine.
            undo.note(Done::Endpoint(*address));
            self.node.ports.insert_endpoint(*address, near.index, mac)?;
        }
        Ok(Wired { wiring, mac, mtu, given })
    }

    /// Another IPAM plugin may give an address that is in use here already. To take its entry over would cut that pod
    /// off.
    fn refuse_addresses_of_others(&self, addresses: &[IpAddr]) -> Result<()> {
        for address in addresses {
            if let Some(entry) = self.node.ports.endpoint(*address)?
                && (entry.host || device_name(entry.ifindex).is_some())
            {
                let whose = if entry.host { "this node itself" } else { "another pod of this node" };
                let message = format!(
                    "{address} is in use by {whose}: whatever gives addresses (`ipam`) must give each only once, and \
                     two networks must not share any"
                );
                return Err(Error::new(ADDRESS, message));
            }
        }
        Ok(())
    }

    fn record(&self) -> Record {
        Record {
            container: self.attachment.id.container_id.clone(),
            ifname: self.attachment.id.ifname.clone(),
            network: self.attachment.network.name.clone(),
            sandbox: self.pod.sandbox.clone(),
            delegate: addressing::delegate(&self.attachment.network).map(str::to_owned),
            addresses: Vec::new(),
            further: false,
        }
    }

    /// Gets the addresses. If there are none to be had, those of pods that no longer exist come back first.
    fn give(&self, undo: &mut Undo) -> Result<Given> {
        let give = || self.addressing.give(self.attachment, &self.pod.sandbox);
        let delegated = matches!(self.addressing, Addressing::Delegated(_));
        if delegated {
            // Another plugin may have given an address and failed all the same.
            undo.note(Done::Addresses);
        }
        let short = |error: &Error| delegated || [EXHAUSTED, ADDRESS].contains(&error.0.code);
        let given = give().or_else(|error| {
            // Beeline's own store may hold again what another call got back; others are not asked twice in vain.
            if short(&error) && (self.reclaim()? > 0 || !delegated) { give() } else { Err(error) }
        })?;
        if !delegated {
            undo.note(Done::Addresses);
        }
        Ok(given)
    }

    fn reclaim(&self) -> Result<usize> {
        self.runtime.block_on(async {
            let mut remains = match &self.addressing {
                Addressing::Own(own) => Remains::open_with(self.runtime_dir, Some(own.store()))?,
                Addressing::Delegated(_) => Remains::open(self.runtime_dir)?,
            };
            reconcile(&mut remains, &self.attachment.network, Which::Dead).await
        })
    }

    /// The MAC that was asked for, else the one that every node derives.
    fn mac(&self, addresses: &[IpAddr]) -> Result<Mac> {
        let asked = self.attachment.network.requested_mac(&self.attachment.args)?;
        let Some(asked) = asked.map(|mac| Mac(mac.0.into_array())) else {
            return pod::mac(addresses)
                .ok_or_else(|| Error::new(Code::BUG, "a pod without an address was wired"));
        };
        if asked.0[0] & 1 == 1 || asked.0 == [0; 6] || asked == Mac::GATEWAY {
            let msg = format!(
                "the MAC {asked} cannot be a pod's: it is a group's, empty, or the node's side of the link's"
            );
            return Err(Error::new(Code::CONFIG, msg));
        }
        Ok(asked)
    }

    fn make_pair(&self, mac: Mac, mtu: u32) -> Result<Link> {
        let veth = Veth {
            near: VethEnd { name: &self.port, mac: Mac::GATEWAY, mtu },
            far: VethEnd { name: self.pod.ifname, mac, mtu },
            far_netns: Some(&self.pod.netns),
        };
        let made = self.runtime.block_on(self.node.host.create_veth(&veth));
        made.map_err(
            |error| if error.is_exists() { self.explain_existing(error.into()) } else { error.into() },
        )
    }

    /// Which of the pair's names is taken.
    fn explain_existing(&self, error: Error) -> Error {
        let (id, ifname) = (&self.attachment.id, self.pod.ifname);
        let netns = self.pod.netns.path().display();
        match self.runtime.block_on(self.pod.inside.link(ifname)) {
            Ok(Some(_)) => {
                Error::new(EXISTS, format!("{netns} has an interface {ifname} already: ask for another name"))
            }
            _ => Error::new(
                EXISTS,
                format!("the port {} of {id} is left from an earlier ADD: call DEL for it first", self.port),
            )
            .with_details(error),
        }
    }

    /// Puts the program on the port, and gives both ends what they can have while they are down. Gives the pod's end.
    async fn attach_and_prepare(&self, near: &Link, wiring: &Wiring) -> Result<Link> {
        let ports = &self.node.ports;
        // Whoever limits bandwidth later in the chain wants a qdisc on the port.
        if self.attachment.network.limits_bandwidth() {
            ports.attach_beside(&self.port)?;
        } else {
            ports.attach(&self.port)?;
        }
        self.node.host.set_alias(near.index, &self.owner.alias()).await?;
        self.node.host.set_addr_gen_none(near.index).await?;
        pod::silence_port(&self.port);
        let far = self.pod.inside.require_link(self.pod.ifname).await?;
        pod::prepare(&self.pod.inside, &far, wiring).await?;
        Ok(far)
    }

    fn answer(&self, netns: &Path, wired: Wired, previous: Option<&Success>) -> Success {
        let made = Made {
            port: End { name: &self.port, mac: Mac::GATEWAY },
            pod: End { name: self.pod.ifname, mac: wired.mac },
            netns,
            mtu: wired.mtu,
            wiring: &wired.wiring,
            // What the configuration says goes before what the giver of addresses does.
            dns: self.attachment.network.dns.clone().or(wired.given.dns),
        };
        outcome::of(made, previous)
    }

    fn roll_back(&mut self, undo: Undo, failure: Error) -> Error {
        let means = Means {
            node: &mut self.node,
            addressing: &self.addressing,
            records: &self.records,
            attachment: self.attachment,
            port: &self.port,
        };
        self.runtime.block_on(undo.roll_back(means, failure))
    }
}
