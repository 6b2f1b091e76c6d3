//! What kube-proxy has committed to nftables: heard from the kernel while something small changes, and asked for by `nft`
//! after a restart, when the kernel would have 100,000s of things to tell.

use std::{
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use integration::Netns;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, send, setsockopt,
        socket, sockopt,
    },
};

use crate::objects::{Endpoint, PORT};

/// Multicast group of nftables: 1 << (`NFNLGRP_NFTABLES` - 1).
const GROUP: u32 = 1 << 6;
/// Room for what was not read yet, in bytes.
const QUEUE: usize = 64 << 20;
/// Room for one reading: the kernel sends no more than a page's worth of messages at a time.
const BUFFER: usize = 256 << 10;

/// The kernel's word on each commit, sent once it is made. To be dropped soon: the kernel has work with it.
#[derive(Debug)]
pub(crate) struct Commits {
    socket: OwnedFd,
    buffer: Vec<u8>,
}

impl Commits {
    /// Listens on `machine` from now on.
    pub(crate) fn listen(machine: &Netns) -> Result<Self> {
        Ok(Self { socket: open(machine, GROUP)?, buffer: vec![0; BUFFER] })
    }

    /// When a commit was heard of that leads requests to `endpoint`. A commit is made whole or not at all, so one element
    /// stands for it.
    pub(crate) fn until(&mut self, endpoint: Endpoint, limit: Duration) -> Result<Instant> {
        let element = endpoint.in_rules();
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let mut wanted = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
            if poll(&mut wanted, timeout)? == 0 {
                bail!("kube-proxy has not written {endpoint:?} in {} s", limit.as_secs());
            }
            let length = recv(self.socket.as_raw_fd(), &mut self.buffer, MsgFlags::empty())
                .context("nftables says more than can be heard")?;
            let now = Instant::now();
            if self.buffer[..length].windows(element.len()).any(|bytes| bytes == element) {
                return Ok(now);
            }
        }
    }
}

/// The ruleset's generation: the kernel counts commits, and tells it for next to nothing, while `nft` reads the whole ruleset
/// for one element of it.
#[derive(Debug)]
pub(crate) struct Generations {
    socket: OwnedFd,
    /// The last one at which `nft` was asked, in vain.
    asked: Option<[u8; 4]>,
}

impl Generations {
    /// Those of `machine`.
    pub(crate) fn of(machine: &Netns) -> Result<Self> {
        Ok(Self { socket: open(machine, 0)?, asked: None })
    }

    /// If there was a commit since this was asked last, and kube-proxy's rules on `machine` lead requests for the service at
    /// `vip` to endpoints now: when that commit was found.
    pub(crate) fn lead_to(&mut self, machine: &Netns, vip: Ipv4Addr) -> Result<Option<Instant>> {
        let generation = self.now()?;
        if self.asked == Some(generation) {
            return Ok(None);
        }
        let found = Instant::now();
        self.asked = Some(generation);
        let element = format!("nft get element ip kube-proxy service-ips {{ {vip} . tcp . {PORT} }}");
        Ok(machine.try_exec(&element)?.stdout.contains("goto service-").then_some(found))
    }

    fn now(&self) -> Result<[u8; 4]> {
        // Headers of netlink and nfnetlink (Linux, include/uapi/linux/netlink.h and nfnetlink.h): NFT_MSG_GETGEN.
        let (length, kind, flags) =
            (20_u32.to_ne_bytes(), (10_u16 << 8 | 16).to_ne_bytes(), 1_u16.to_ne_bytes());
        let request = [&length[..], &kind, &flags, &[0; 12]].concat();
        let mut answer = [0; 256];
        send(self.socket.as_raw_fd(), &request, MsgFlags::empty())?;
        let length = recv(self.socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
        // Its first attribute is NFTA_GEN_ID.
        answer[..length].get(24..28).and_then(|id| id.try_into().ok()).context("nftables tells no generation")
    }
}

/// A socket to nftables on `machine`, which hears of what is told to `groups`.
fn open(machine: &Netns, groups: u32) -> Result<OwnedFd> {
    let open = || {
        let kind = SockProtocol::NetlinkNetFilter;
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, kind)?;
        setsockopt(&socket, sockopt::RcvBufForce, &QUEUE)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, groups))?;
        nix::Result::Ok(socket)
    };
    machine.run(open)?.context("cannot talk to nftables")
}
