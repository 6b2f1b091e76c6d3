//! IPv6's extension headers as values: a chain in which each header has its own number in the place where, on the wire, it
//! has its successor's.

pub const HOP_BY_HOP: u8 = 0;
pub const ROUTING: u8 = 43;
pub const FRAGMENT: u8 = 44;
pub const DESTINATION_OPTIONS: u8 = 60;

/// A header of options of this kind and of `bytes` bytes (a multiple of eight), all of them padding (RFC 8200 §4.2).
pub fn padding(kind: u8, bytes: usize) -> Vec<u8> {
    let mut header = vec![0; bytes];
    header[0] = kind;
    header[1] = u8::try_from(bytes / 8 - 1).unwrap();
    let mut at = 2;
    while at < bytes {
        let rest = (bytes - at - 2).min(255);
        (header[at], header[at + 1]) = (1, u8::try_from(rest).unwrap());
        at += 2 + rest;
    }
    header
}

/// The number of the first header of `chain`, and `chain` as it is on the wire in front of `protocol`.
pub fn encode(chain: &[u8], protocol: u8) -> (u8, Vec<u8>) {
    let mut bytes = chain.to_vec();
    let mut starts = Vec::new();
    let mut at = 0;
    while at < chain.len() {
        starts.push(at);
        at += length(&chain[at..]);
    }
    for (n, &start) in starts.iter().enumerate() {
        bytes[start] = starts.get(n + 1).map_or(protocol, |&next| chain[next]);
    }
    (chain.first().copied().unwrap_or(protocol), bytes)
}

/// The options headers that `bytes` begins with, the first of which is of number `first`; what follows them, and its number.
pub fn decode(first: u8, bytes: &[u8]) -> Result<(Vec<u8>, u8, &[u8]), String> {
    let mut chain = Vec::new();
    let (mut number, mut rest) = (first, bytes);
    while matches!(number, HOP_BY_HOP | DESTINATION_OPTIONS) {
        let (header, after) = (rest.len() >= 8)
            .then(|| rest.split_at_checked(length(rest)))
            .flatten()
            .ok_or("an extension header that is cut off")?;
        chain.push(number);
        chain.extend(&header[1..]);
        (number, rest) = (header[0], after);
    }
    Ok((chain, number, rest))
}

fn length(header: &[u8]) -> usize {
    (usize::from(header[1]) + 1) * 8
}
