//! The packet as the kernel hands it over: checked access to its bytes, and the helpers that change it.
//!
//! The `unsafe` edge of the programs is here; elsewhere `unsafe` only follows a pointer that a map gave.

use core::mem::MaybeUninit;

use aya_ebpf::{
    bindings::{
        __sk_buff, BPF_F_ADJ_ROOM_ENCAP_L2_ETH, BPF_F_ADJ_ROOM_ENCAP_L3_IPV4, BPF_F_ADJ_ROOM_ENCAP_L4_UDP,
        BPF_F_ADJ_ROOM_FIXED_GSO, BPF_F_INGRESS, bpf_adj_room_mode, bpf_redir_neigh,
        bpf_redir_neigh__bindgen_ty_1, bpf_tunnel_key,
    },
    helpers::generated::{
        bpf_csum_diff, bpf_csum_update, bpf_get_hash_recalc, bpf_ktime_get_coarse_ns, bpf_l4_csum_replace,
        bpf_redirect, bpf_redirect_neigh, bpf_redirect_peer, bpf_skb_adjust_room, bpf_skb_change_tail,
        bpf_skb_change_type, bpf_skb_get_tunnel_key, bpf_skb_load_bytes, bpf_skb_pull_data,
        bpf_skb_store_bytes,
    },
    programs::TcContext,
};
use beeline_abi::{Be16, Drop};

use crate::{Verdict, ipv4::fold, maps::Quote};

/// A packet under way.
#[derive(Clone, Copy)]
pub struct Skb(*mut __sk_buff, u32);

impl Skb {
    #[inline(always)]
    pub fn new(ctx: &TcContext) -> Self {
        Self::from_context(ctx.skb.skb)
    }

    /// The packet whose context the kernel gave.
    #[inline(always)]
    pub fn from_context(skb: *mut __sk_buff) -> Self {
        // Read once, here: the compiler would keep a pointer to the field for a second read, which the verifier
        // does not allow.
        // SAFETY: the kernel's own context pointer, valid for the whole run.
        Self(skb, unsafe { (*skb).ifindex })
    }

    /// The kernel's own name for it.
    #[inline(always)]
    pub fn context(self) -> *mut __sk_buff {
        self.0
    }

    /// Length in bytes, Ethernet header included.
    #[inline(always)]
    pub fn len(self) -> u32 {
        // SAFETY: the kernel's own context pointer, valid for the whole run.
        unsafe { (*self.0).len }
    }

    /// True if the frame came with a VLAN tag, which the kernel keeps beside the packet.
    #[inline(always)]
    pub fn has_vlan_tag(self) -> bool {
        // SAFETY: as in `len`.
        unsafe { (*self.0).vlan_present != 0 }
    }

    /// True for a packet that stands for several and is to be cut into them later (GSO).
    #[inline(always)]
    pub fn is_gso(self) -> bool {
        self.segment() != 0
    }

    /// Bytes of payload in each of the packets that it is to be cut into; 0 if it is one.
    #[inline(always)]
    pub fn segment(self) -> u32 {
        // SAFETY: as in `len`.
        unsafe { (*self.0).gso_size }
    }

    /// Interface the packet came in on.
    #[inline(always)]
    pub fn ifindex(self) -> u32 {
        self.1
    }

    /// Ether type.
    #[inline(always)]
    pub fn protocol(self) -> Be16 {
        // SAFETY: as in `len`.
        Be16(unsafe { (*self.0).protocol } as u16)
    }

    /// The `T` at byte `offset`, if the linear part of the packet holds all of it.
    ///
    /// The pointer is good until the next helper that may change the packet.
    #[inline(always)]
    pub fn at<T>(self, offset: usize) -> Option<*mut T> {
        // SAFETY: as in `len`.
        let (start, end) = unsafe { ((*self.0).data as usize, (*self.0).data_end as usize) };
        if start + offset + size_of::<T>() > end { None } else { Some((start + offset) as *mut T) }
    }

    /// A copy of the `T` at byte `offset`.
    #[inline(always)]
    pub fn read<T: Copy>(self, offset: usize) -> Result<T, Drop> {
        let pointer = self.at::<T>(offset).ok_or(Drop::Malformed)?;
        // SAFETY: `at` has checked the bounds; the verifier checks it again. BPF loads need no alignment.
        Ok(unsafe { *pointer })
    }

    /// A copy of the `T` at byte `offset`, whether or not it is in the linear part.
    #[inline(always)]
    pub fn copy<T: Copy>(self, offset: u32) -> Result<T, Drop> {
        let mut value = MaybeUninit::<T>::uninit();
        // SAFETY: the kernel's own context pointer; the helper fills all of `value`, or says that it did not.
        unsafe {
            match bpf_skb_load_bytes(self.0.cast(), offset, value.as_mut_ptr().cast(), size_of::<T>() as u32)
            {
                0 => Ok(value.assume_init()),
                _ => Err(Drop::Malformed),
            }
        }
    }

    /// Writes `value` at byte `offset`.
    #[inline(always)]
    pub fn write<T>(self, offset: usize, value: T) -> Result<(), Drop> {
        let pointer = self.at::<T>(offset).ok_or(Drop::Malformed)?;
        // SAFETY: as in `read`; the program's prologue has unshared the header.
        unsafe { *pointer = value };
        Ok(())
    }

    /// Makes sure that the first `len` bytes (or all, if there are fewer) are linear.
    #[inline(always)]
    pub fn pull(self, len: u32) {
        let len = if self.len() < len { self.len() } else { len };
        if len != 0 && self.at::<u8>(len as usize - 1).is_none() {
            // SAFETY: the kernel's own context pointer. A failure shows in the next `at`.
            unsafe { bpf_skb_pull_data(self.0, len) };
        }
    }

    /// Hash of the flow, for the outer source port.
    #[inline(always)]
    pub fn hash(self) -> u32 {
        // SAFETY: the kernel's own context pointer.
        unsafe { bpf_get_hash_recalc(self.0) }
    }

    /// Replaces `from` by `to` (of `size` bytes; 0: `to` is a difference) in the checksum at byte `offset`.
    #[inline(always)]
    pub fn fix_checksum(self, offset: usize, from: u64, to: u64, flags: u64) -> Result<(), Drop> {
        // SAFETY: the kernel's own context pointer; the helper checks the offset.
        match unsafe { bpf_l4_csum_replace(self.0, offset as u32, from, to, flags) } {
            0 => Ok(()),
            _ => Err(Drop::Malformed),
        }
    }

    /// Copies `len` bytes from byte `offset` on to the beginning of `to`.
    #[inline(always)]
    pub fn load(self, offset: usize, to: &mut Quote, len: u32) -> Option<()> {
        // SAFETY: the kernel's own context pointer; the verifier checks that `len` bytes fit.
        match unsafe { bpf_skb_load_bytes(self.0.cast(), offset as u32, (&raw mut to.0).cast(), len) } {
            0 => Some(()),
            _ => None,
        }
    }

    /// Writes the first `len` bytes of `from` at byte `offset`.
    #[inline(always)]
    pub fn store(self, offset: usize, from: &Quote, len: u32) -> Option<()> {
        // SAFETY: as in `load`.
        match unsafe { bpf_skb_store_bytes(self.0, offset as u32, (&raw const from.0).cast(), len, 0) } {
            0 => Some(()),
            _ => None,
        }
    }

    /// Cuts the packet, or stretches it, to `len` bytes. One that stood for several is then one.
    #[inline(always)]
    pub fn resize(self, len: u32) -> Option<()> {
        // SAFETY: the kernel's own context pointer.
        match unsafe { bpf_skb_change_tail(self.0, len, 0) } {
            0 => Some(()),
            _ => None,
        }
    }

    /// Tells the packet that its bytes sum up to `delta` more than before, where no checksum in it makes up for that.
    #[inline(always)]
    pub fn change_sum(self, delta: u32) {
        // SAFETY: the kernel's own context pointer. It refuses what has no sum over the whole packet, rightly.
        unsafe { bpf_csum_update(self.0, delta) };
    }

    /// Makes room for `len` bytes of IPv4, UDP, VXLAN and an Ethernet header after the Ethernet header.
    ///
    /// The L2 length must be that of the inner Ethernet header alone: with VXLAN's 8 bytes in it, every GSO
    /// packet is dropped while small ones pass.
    #[inline(always)]
    pub fn make_room(self, len: i32) -> Result<(), Drop> {
        const INNER_ETHERNET: u64 = 14 << 56;
        let flags = u64::from(
            BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
                | BPF_F_ADJ_ROOM_ENCAP_L4_UDP
                | BPF_F_ADJ_ROOM_ENCAP_L2_ETH
                | BPF_F_ADJ_ROOM_FIXED_GSO,
        ) | INNER_ETHERNET;
        self.adjust(len, flags)
    }

    /// Takes `len` bytes away after the Ethernet header; `family` says what comes out of them.
    #[inline(always)]
    pub fn take_room(self, len: i32, family: u32) -> Result<(), Drop> {
        self.adjust(-len, u64::from(BPF_F_ADJ_ROOM_FIXED_GSO | family))
    }

    #[inline(always)]
    fn adjust(self, difference: i32, flags: u64) -> Result<(), Drop> {
        // SAFETY: the kernel's own context pointer.
        match unsafe { bpf_skb_adjust_room(self.0, difference, bpf_adj_room_mode::BPF_ADJ_ROOM_MAC, flags) } {
            0 => Ok(()),
            _ => Err(Drop::EncapFailed),
        }
    }

    /// Marks the packet as addressed to this machine, whatever its MAC says: before Linux 6.15
    /// `bpf_redirect_peer` leaves that to us.
    #[inline(always)]
    pub fn take_as_ours(self) {
        const PACKET_HOST: u32 = 0;
        // SAFETY: as in `len`, and the kernel's own context pointer.
        unsafe {
            if (*self.0).pkt_type != PACKET_HOST {
                bpf_skb_change_type(self.0, PACKET_HOST);
            }
        }
    }

    /// VNI and outer source (network byte order) of a packet that a vxlan device decapsulated.
    #[inline(always)]
    pub fn tunnel(self) -> Option<(u32, u32)> {
        // SAFETY: all zeroes is a valid key; the helper fills it within the size given.
        unsafe {
            let mut key: bpf_tunnel_key = core::mem::zeroed();
            // Without the local address, which kernels before 5.19 do not know.
            let size = core::mem::offset_of!(bpf_tunnel_key, __bindgen_anon_3) as u32;
            match bpf_skb_get_tunnel_key(self.0, &mut key, size, 0) {
                0 => Some((key.tunnel_id, key.__bindgen_anon_1.remote_ipv4.to_be())),
                _ => None,
            }
        }
    }
}

/// One's complement sum of the first `len` bytes (a multiple of four) of `data`, added to `seed`.
#[inline(always)]
pub fn sum<T>(data: &T, len: u32, seed: u32) -> Option<u32> {
    // SAFETY: no `from`; the helper only reads, and the verifier checks that `len` bytes are there.
    let sum = unsafe {
        bpf_csum_diff(core::ptr::null_mut(), 0, core::ptr::from_ref(data).cast_mut().cast(), len, seed)
    };
    if sum < 0 { None } else { Some(sum as u32) }
}

/// Internet checksum of the first `len` bytes of `data` and of what `seed` is the sum of (RFC 1071).
#[inline(always)]
pub fn checksum<T>(data: &T, len: u32, seed: u32) -> Option<u16> {
    sum(data, len, seed).map(|sum| !fold(sum))
}

/// Sends the packet to the peer of port `ifindex`, in its own namespace, without a softirq between.
#[inline(always)]
pub fn redirect_to_peer(ifindex: u32) -> Verdict {
    // SAFETY: no pointers are passed.
    Verdict(unsafe { bpf_redirect_peer(ifindex, 0) } as i32)
}

/// Lets the packet come in on `ifindex`, as if received there.
#[inline(always)]
pub fn redirect_to_ingress(ifindex: u32) -> Verdict {
    // SAFETY: no pointers are passed.
    Verdict(unsafe { bpf_redirect(ifindex, u64::from(BPF_F_INGRESS)) } as i32)
}

/// Sends an IPv4 packet out of `ifindex` to the neighbour `next_hop` (network byte order; 0: as the kernel's
/// routes say).
#[inline(always)]
pub fn redirect_to_neighbour(ifindex: u32, next_hop: u32) -> Verdict {
    const AF_INET: u32 = 2;
    if next_hop == 0 {
        // SAFETY: a null pointer of size 0 is what the helper wants for "look it up".
        return Verdict(unsafe { bpf_redirect_neigh(ifindex, core::ptr::null_mut(), 0, 0) } as i32);
    }
    let mut neighbour = bpf_redir_neigh {
        nh_family: AF_INET,
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh: [next_hop, 0, 0, 0] },
    };
    // SAFETY: the pointer and its size belong together.
    Verdict(
        unsafe { bpf_redirect_neigh(ifindex, &mut neighbour, size_of::<bpf_redir_neigh>() as i32, 0) } as i32
    )
}

/// Nanoseconds since boot, as of the last timer tick.
#[inline(always)]
pub fn now() -> u64 {
    // SAFETY: no pointers are passed.
    unsafe { bpf_ktime_get_coarse_ns() }
}
