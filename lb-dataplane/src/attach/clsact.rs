//! Filters on the `clsact` qdisc: how programs are attached to pods' ports, and to all devices before Linux 6.6.
//!
//! Ours is always at one priority and handle, so that it can be found and replaced without any record.

use std::{
    io,
    os::fd::{AsRawFd, BorrowedFd},
};

use aya::programs::{
    TcAttachType,
    tc::{TcError, qdisc_detach_program},
};
use netlink_packet_route::{
    RouteNetlinkMessage,
    tc::{TcAttribute, TcBpfFlags, TcFilterBpf, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
};
use nix::net::if_::if_nametoindex;
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload,
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use crate::pins::Program;

const PRIORITY: u32 = 0xbee;
const HANDLE: TcHandle = TcHandle { major: 0, minor: 1 };
/// `TC_H_CLSACT`, where the qdisc is.
const QDISC: TcHandle = TcHandle { major: 0xffff, minor: 0xfff1 };
const QDISC_HANDLE: TcHandle = TcHandle { major: 0xffff, minor: 0 };
/// Parent of ingress filters: `TC_H_MAKE(TC_H_CLSACT, TC_H_MIN_INGRESS)`.
const INGRESS: TcHandle = TcHandle { major: 0xffff, minor: 0xfff2 };
/// `ETH_P_ALL`, network byte order.
const ALL_PROTOCOLS: u32 = 0x0003_u16.to_be() as u32;

/// Puts `program` on `device`, in the place of whatever has our priority and handle there: no packet meets an empty
/// hook on the way.
pub(super) fn attach(program: BorrowedFd<'_>, which: Program, device: &str) -> io::Result<()> {
    let index = if_nametoindex(device)?;
    let rtnetlink = Rtnetlink::open()?;
    match rtnetlink.ask(qdisc(index)) {
        Err(e) if e.raw_os_error() == Some(libc::EEXIST) => {}
        other => other?,
    }
    rtnetlink.ask(filter(index, program, which))
}

fn qdisc(index: u32) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut qdisc = message(index, QDISC);
    qdisc.header.handle = QDISC_HANDLE;
    qdisc.attributes = vec![TcAttribute::Kind("clsact".into())];
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewQueueDiscipline(qdisc));
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
    message
}

fn filter(index: u32, program: BorrowedFd<'_>, which: Program) -> NetlinkMessage<RouteNetlinkMessage> {
    let mut filter = message(index, INGRESS);
    filter.header.handle = HANDLE;
    filter.header.info = PRIORITY << 16 | ALL_PROTOCOLS;
    let options = [
        TcFilterBpfOption::ProgFd(program.as_raw_fd().cast_unsigned()),
        TcFilterBpfOption::ProgName(which.name().into()),
        TcFilterBpfOption::Flags(TcBpfFlags::DirectAction),
    ];
    filter.attributes = vec![
        TcAttribute::Kind(TcFilterBpf::KIND.into()),
        TcAttribute::Options(options.map(TcOption::Bpf).into()),
    ];
    let mut message = NetlinkMessage::from(RouteNetlinkMessage::NewTrafficFilter(filter));
    // Without NLM_F_EXCL, what has the handle is replaced.
    message.header.flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    message
}

#[expect(clippy::cast_possible_wrap, reason = "the kernel's own type for an interface index")]
fn message(index: u32, parent: TcHandle) -> TcMessage {
    let mut message = TcMessage::with_index(index as i32);
    message.header.parent = parent;
    message
}

/// Takes the program off `device`, if it is there; the device may be gone.
pub(super) fn detach(which: Program, device: &str) -> Result<(), TcError> {
    match qdisc_detach_program(device, TcAttachType::Ingress, which.name()) {
        Err(TcError::IoError(e)) if matches!(e.kind(), io::ErrorKind::NotFound) => Ok(()),
        Err(TcError::IoError(e)) if e.raw_os_error() == Some(libc::ENODEV) => Ok(()),
        Err(TcError::NetlinkError(e)) if matches!(e.raw_os_error(), Some(libc::EINVAL | libc::ENOENT)) => {
            Ok(())
        }
        other => other,
    }
}

/// True if the program with kernel id `id` is on `device`.
pub(super) fn is_attached(id: u32, device: &str) -> io::Result<bool> {
    let index = if_nametoindex(device)?;
    let mut list = NetlinkMessage::from(RouteNetlinkMessage::GetTrafficFilter(message(index, INGRESS)));
    list.header.flags = NLM_F_REQUEST | NLM_F_DUMP;
    let mut found = false;
    match Rtnetlink::open()?.exchange(list, |answer| {
        found |= matches!(answer, RouteNetlinkMessage::NewTrafficFilter(filter) if holds(&filter, id));
    }) {
        // No clsact here.
        Err(e) if e.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(e) => Err(e),
        Ok(()) => Ok(found),
    }
}

fn holds(filter: &TcMessage, id: u32) -> bool {
    filter.attributes.iter().any(|attribute| match attribute {
        TcAttribute::Options(options) => options
            .iter()
            .any(|option| matches!(option, TcOption::Bpf(TcFilterBpfOption::ProgId(found)) if *found == id)),
        _ => false,
    })
}

/// A socket that asks one thing at a time. `crate::netlink` knows no traffic control, and wants a runtime.
struct Rtnetlink(Socket);

impl Rtnetlink {
    fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self(socket))
    }

    /// Sends `request`, and waits until it is done.
    fn ask(&self, request: NetlinkMessage<RouteNetlinkMessage>) -> io::Result<()> {
        self.exchange(request, |_| {})
    }

    /// Sends `request`, and gives each answer to `take` until there are no more.
    fn exchange(
        &self,
        mut request: NetlinkMessage<RouteNetlinkMessage>,
        mut take: impl FnMut(RouteNetlinkMessage),
    ) -> io::Result<()> {
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        loop {
            let (bytes, _) = self.0.recv_from_full()?;
            let mut rest = bytes.as_slice();
            while !rest.is_empty() {
                let message =
                    NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = (message.header.length as usize).next_multiple_of(4).clamp(1, rest.len());
                rest = &rest[length..];
                match message.payload {
                    NetlinkPayload::Done(_) => return Ok(()),
                    // An error without a code is an acknowledgement.
                    NetlinkPayload::Error(error) => {
                        return error.code.map_or(Ok(()), |_| Err(error.to_io()));
                    }
                    NetlinkPayload::InnerMessage(answer) => take(answer),
                    _ => {}
                }
            }
        }
    }
}
