//! Where packets begin and end in a stream, and how a changed one is made valid again.

use crate::config::Protocol;
use crate::hal::wire::{dynamixel, feetech};

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
const DYNAMIXEL: &[u8] = &[0xFF, 0xFF, 0xFD, 0x00];

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
        Protocol::Dynamixel => DYNAMIXEL,
    }
}

fn length(protocol: Protocol, bytes: &[u8]) -> Option<usize> {
    match protocol {
        Protocol::Feetech => bytes.get(3).map(|length| 4 + usize::from(*length)),
        Protocol::Dynamixel => match bytes {
            [_, _, _, _, _, low, high, ..] => {
                Some(7 + usize::from(u16::from_le_bytes([*low, *high])))
            }
            _ => None,
        },
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
        Protocol::Dynamixel => 2,
    }
}

/// The packet with what `change` makes of its id and its parameters, valid again. Bytes that are no
/// valid packet stay as they are.
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
        Protocol::Dynamixel => {
            let mut bytes = packet.clone();
            let Ok(old) = dynamixel::Packet::new_checked(&mut bytes) else { return };
            let (mut id, mut parameters) = (old.id, old.parameters.to_vec());
            change(&mut id, &mut parameters);
            let mut out = dynamixel::PacketBuf::new();
            if (dynamixel::Packet { id, parameters: &parameters, ..old }).emit(&mut out).is_ok() {
                *packet = out.to_vec();
            }
        }
    }
}
