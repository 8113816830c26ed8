//! Where packets begin and end in a stream, and how a changed one is made valid again.

use crate::config::Protocol;
use crate::hal::wire::feetech;

/// A piece of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Piece {
    /// This many bytes are a packet by header and length.
    Packet(usize),
    /// This many bytes belong to no packet.
    Other(usize),
    /// More bytes are needed to say.
    Partial,
}

const FEETECH: &[u8] = &[0xFF, 0xFF];

/// What `bytes` begin with.
pub(super) fn first(protocol: Protocol, bytes: &[u8]) -> Piece {
    let header = header(protocol);
    let common = bytes.len().min(header.len());
    if bytes.get(..common) != header.get(..common) {
        let rest = bytes.get(1..).unwrap_or_default();
        return Piece::Other(1 + rest.iter().position(|b| *b == 0xFF).unwrap_or(rest.len()));
    }
    match length(protocol, bytes) {
        Some(length) if length <= bytes.len() => Piece::Packet(length),
        _ => Piece::Partial,
    }
}

/// What every packet begins with.
pub(super) fn header(protocol: Protocol) -> &'static [u8] {
    match protocol {
        Protocol::Feetech => FEETECH,
    }
}

fn length(protocol: Protocol, bytes: &[u8]) -> Option<usize> {
    match protocol {
        Protocol::Feetech => bytes.get(3).map(|length| 4 + usize::from(*length)),
    }
}

/// Whose packet this is.
pub(super) fn id(protocol: Protocol, packet: &[u8]) -> Option<u8> {
    packet.get(header(protocol).len()).copied()
}

/// The bytes at a packet's end that check the rest.
pub(super) fn check_size(protocol: Protocol) -> usize {
    match protocol {
        Protocol::Feetech => 1,
    }
}

/// The packet with what `change` makes of id, parameters and last parameter, valid again.
/// Bytes that are no valid packet stay as they are.
pub(super) fn rebuild(
    protocol: Protocol,
    packet: &mut Vec<u8>,
    change: impl FnOnce(&mut u8, &mut Vec<u8>),
) {
    match protocol {
        Protocol::Feetech => {
            let Ok(old) = feetech::Packet::new_checked(packet) else { return };
            let (mut id, mut data) = (old.id, old.parameters.to_vec());
            change(&mut id, &mut data);
            let mut out = feetech::PacketBuf::new();
            if (feetech::Status { id, error: old.code, data: &data }).emit(&mut out).is_ok() {
                *packet = out.to_vec();
            }
        }
    }
}
