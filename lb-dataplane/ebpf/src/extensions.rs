//! IPv6's extension headers (RFC 8200 §4): what stands between the fixed header and the transport header.
//!
//! Hop-by-Hop and Destination Options are carried as they are, and a Fragment header may end them. What changes where the
//! packet goes (Routing) or hides what it is (whatever follows Fragment but the transport header itself) is not.

use aya_ebpf::bindings::__sk_buff;
use beeline_abi::{Be16, Drop};

use crate::skb::Skb;

const HOP_BY_HOP: u8 = 0;
const ROUTING: u8 = 43;
const FRAGMENT: u8 = 44;
const DESTINATION_OPTIONS: u8 = 60;

/// Headers that are read of one packet. A host sends three at most that are carried (§4.1).
const MOST_HEADERS: u32 = 4;
/// Bytes that they may take together: with 50 of VXLAN before them, the transport header still starts below byte 256.
pub const MOST_BYTES: u32 = 144;

/// Extension headers of a packet, all together.
#[derive(Clone, Copy)]
pub struct Extensions {
    /// Protocol of what follows them.
    pub protocol: u8,
    /// Their length in bytes.
    pub len: usize,
    /// Offset and "more fragments" of a Fragment header, as they are in it; 0 if there is none, or if its "fragment" is
    /// all of the packet (RFC 6946).
    pub fragment: u16,
    /// Its identification, as it is on the wire.
    pub id: u32,
}

/// "More fragments", in [`Extensions::fragment`].
pub const MORE: u16 = 1;
/// A fragment's offset, likewise.
const OFFSET: u16 = 0xfff8;

/// What begins any of them. The length is in units of eight bytes, without the first; Fragment has none.
#[repr(C)]
#[derive(Clone, Copy)]
struct Start {
    next_header: u8,
    len: u8,
}

/// Fragment (§4.5).
#[repr(C)]
#[derive(Clone, Copy)]
struct Fragment {
    next_header: u8,
    reserved: u8,
    fragment: Be16,
    id: u32,
}

/// True for a header that is not yet a transport protocol's.
#[inline(always)]
fn is_extension(protocol: u8) -> bool {
    matches!(protocol, HOP_BY_HOP | ROUTING | FRAGMENT | DESTINATION_OPTIONS)
}

/// Reads the extension headers that start at byte `at` with one of number `protocol`.
#[inline(always)]
pub fn read(skb: Skb, at: usize, protocol: u8) -> Result<Extensions, Drop> {
    if !is_extension(protocol) {
        return Ok(Extensions { protocol, len: 0, fragment: 0, id: 0 });
    }
    let found = walk_extensions(skb.context(), at as u32, u32::from(protocol));
    let (protocol, len) = (found as u8, usize::from((found >> 8) as u8));
    if len == 0 {
        return Err(if protocol == MALFORMED { Drop::Malformed } else { Drop::ExtensionHeader });
    }
    Ok(Extensions { protocol, len, fragment: (found >> 16) as u16, id: (found >> 32) as u32 })
}

/// In place of a protocol, where there is no length: the packet ends before they do.
const MALFORMED: u8 = 1;
/// Likewise: not carried.
const REFUSED: u64 = 0;

/// [`read`], in one number: protocol, length, fragment and identification, from the lowest byte up; with no length,
/// what is wrong.
///
/// Exported, so that the verifier looks at it once, by itself, and does not follow the rest of a program from every
/// end of the chain. It reads by copying, and so leaves what the caller knows of the packet as it is.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn walk_extensions(ctx: *mut __sk_buff, at: u32, protocol: u32) -> u64 {
    let skb = Skb::from_context(ctx);
    let mut protocol = protocol as u8;
    let mut len = 0;
    let (mut fragment, mut id) = (0, 0);
    let mut headers = 0;
    while headers < MOST_HEADERS {
        headers += 1;
        match protocol {
            HOP_BY_HOP | DESTINATION_OPTIONS => {
                let Ok(start) = skb.copy::<Start>(at + len) else { return u64::from(MALFORMED) };
                len += 8 * (u32::from(start.len) + 1);
                protocol = start.next_header;
                if len > MOST_BYTES {
                    return REFUSED;
                }
            }
            FRAGMENT => {
                let Ok(header) = skb.copy::<Fragment>(at + len) else { return u64::from(MALFORMED) };
                fragment = header.fragment.get() & (OFFSET | MORE);
                id = header.id;
                protocol = header.next_header;
                len += size_of::<Fragment>() as u32;
                break;
            }
            _ => break,
        }
    }
    if is_extension(protocol) || len > MOST_BYTES {
        return REFUSED;
    }
    u64::from(protocol) | u64::from(len) << 8 | u64::from(fragment) << 16 | u64::from(id) << 32
}
