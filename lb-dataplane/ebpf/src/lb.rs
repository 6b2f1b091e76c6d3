//! Load balancing: frontend → service → backend, once per flow.

use beeline_abi::{
    Backend, Be16, Drop, Flow, FrontendKey, MaglevKey, MaglevPiece, Rewrite, Service, Vni, flow_hash,
};

use crate::{
    affinity,
    family::{Family, Form, Packet, TCP, has_ports},
    maps::{MAGLEV, Tables},
};

/// What the service of a new flow wants.
pub enum Choice<A> {
    /// The destination is no frontend.
    NoService,
    /// Balanced to this backend.
    Backend { service: Service, id: u32, backend: Backend<A> },
    /// DSR is off: the host's own service proxy decides.
    LeaveToHost { service: Service },
}

/// Chooses for the flow of `packet`. `known` is what was decided for it before: an established flow stays with the host,
/// or with its backend as long as that takes it.
#[inline(always)]
pub fn choose<F: Family>(
    vni: Vni,
    packet: &Packet<F::Addr>,
    known: Option<&Flow<F::Addr>>,
) -> Result<Choice<F::Addr>, Drop> {
    let key = &packet.key;
    let frontend = FrontendKey::new(vni, key.protocol(), key.dst, key.dst_port);
    let service = F::Addr::find_frontend(&frontend);
    // A connection has one backend or none: what is left of it is for nobody else.
    let is_connection = known
        .is_some_and(|known| known.rewrite == Rewrite::Destination as u8 && known.backend != 0)
        && key.protocol() == TCP
        && !packet.opens_connection();
    let Some(service) = service else {
        return if is_connection { Err(Drop::BackendGone) } else { without_service::<F>(vni, packet) };
    };
    if let Some(known) = known {
        let is_same = known.service == service.id;
        if is_same && known.backend == 0 {
            return Ok(Choice::LeaveToHost { service });
        }
        // A connection goes on also where its frontend is another service's by now, as a traffic policy may have it.
        if let Some(backend) = F::Addr::find_backend(known.backend)
            && backend.service == known.service
            && (is_connection || is_same && backend.takes_new_flows())
        {
            if is_same && service.has(Service::CLIENT_IP_AFFINITY) {
                affinity::refresh::<F>(&service, key.src, known.backend);
            }
            let service = Service { id: known.service, ..service };
            return Ok(Choice::Backend { service, id: known.backend, backend });
        }
    }
    if is_connection {
        return Err(Drop::BackendGone);
    }
    if !service.has(Service::DSR) {
        return Ok(Choice::LeaveToHost { service });
    }
    // Whoever has a connection keeps it: as with conntrack, only what begins is asked where it comes from.
    if service.has(Service::SOURCE_RANGES) && !F::Addr::is_in_source_range(service.id, key.src) {
        return Err(Drop::SourceRange);
    }
    if service.slots == 0 {
        return Err(if service.has(Service::SILENT) { Drop::NoLocalBackend } else { Drop::NoBackend });
    }
    if service.has(Service::CLIENT_IP_AFFINITY)
        && let Some((id, backend)) = affinity::find::<F>(&service, key.src)
    {
        affinity::keep::<F>(&service, key.src, id);
        return Ok(Choice::Backend { service, id, backend });
    }
    // It may be gone since a moment ago: the client will ask again, and shall not be told that nobody is there.
    let id = slot(service.table, flow_hash(key) % service.slots).ok_or(Drop::NoLocalBackend)?;
    let backend = F::Addr::find_backend(id).ok_or(Drop::NoLocalBackend)?;
    if service.has(Service::CLIENT_IP_AFFINITY)
        && let Some((id, backend)) = affinity::begin::<F>(&service, key.src, id)
    {
        return Ok(Choice::Backend { service, id, backend });
    }
    Ok(Choice::Backend { service, id, backend })
}

/// What becomes of a packet to an address and port where no service is: if the address is services' alone, nobody else
/// is there either.
#[inline(always)]
fn without_service<F: Family>(vni: Vni, packet: &Packet<F::Addr>) -> Result<Choice<F::Addr>, Drop> {
    let key = &packet.key;
    if !has_ports(key.protocol()) {
        return Ok(Choice::NoService);
    }
    match F::Addr::find_frontend(&FrontendKey::any(vni, key.dst)) {
        // It has no port that could name a service, and must not go where the first one does not.
        Some(_) if packet.form == Form::LATER_FRAGMENT && key.dst_port == Be16(0) => {
            Err(Drop::FragmentWithoutFirst)
        }
        Some(vip) if vip.has(Service::ALL_PORTS) => Err(Drop::NoFrontend),
        _ => Ok(Choice::NoService),
    }
}

/// The backend in one slot of a table.
#[inline(always)]
fn slot(table: u32, slot: u32) -> Option<u32> {
    const SLOTS: u32 = MaglevPiece::SLOTS as u32;
    // SAFETY: tables never change; user space removes one only when no program can still be reading it.
    let piece = unsafe { MAGLEV.get(MaglevKey { table, piece: slot / SLOTS }) }?;
    piece.0.get((slot % SLOTS) as usize).copied()
}
