//! Feetech STS, SMS and SCS: `FF FF id length code parameters.. checksum`.
//!
//! `length` counts the parameters and 2; `code` is the instruction of a request and the status byte
//! of an answer; the checksum is the inverted sum of all from `id` on. Source: Feetech, "SMS/STS
//! communication protocol manual"; limits as in `feetech-servo-sdk` 1.0.0 (PyPI); the instructions
//! 06 and 08, which neither has, as in `rustypot` 1.13 (crates.io).
//!
//! The checksum is weak: two swapped bytes always pass. Who acts on a value checks that it is
//! plausible.

mod decoder;
mod value;

use core::fmt;

pub use decoder::Decoder;
pub use value::{ByteOrder, from_sign_magnitude, to_sign_magnitude};

/// The id that every servo listens to and none answers, but for a ping.
pub const BROADCAST: u8 = 0xFE;
/// The longest packet (bytes).
pub const MAX_PACKET: usize = 250;
/// The most parameters of a packet (bytes).
pub const MAX_PARAMETERS: usize = MAX_PACKET - OVERHEAD;
const OVERHEAD: usize = 6;
const HEADER: u8 = 0xFF;

/// Room for any packet.
pub type PacketBuf = heapless::Vec<u8, MAX_PACKET>;

/// The bits of an answer's status byte.
pub mod status {
    /// The supply voltage is out of its limits.
    pub const VOLTAGE: u8 = 0x01;
    /// The angle sensor fails.
    pub const ANGLE: u8 = 0x02;
    /// Too hot.
    pub const OVERHEAT: u8 = 0x04;
    /// Too much current.
    pub const OVERCURRENT: u8 = 0x08;
    /// Too much load for too long.
    pub const OVERLOAD: u8 = 0x20;
}

const PING: u8 = 0x01;
const READ: u8 = 0x02;
const WRITE: u8 = 0x03;
const REG_WRITE: u8 = 0x04;
const ACTION: u8 = 0x05;
const FACTORY_RESET: u8 = 0x06;
const REBOOT: u8 = 0x08;
const SYNC_READ: u8 = 0x82;
const SYNC_WRITE: u8 = 0x83;

/// What is wrong with bytes that are no packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Damage {
    /// No packet begins in these bytes.
    Garbage {
        /// How many.
        bytes: usize,
    },
    /// A header with a length that was not to be expected.
    Length {
        /// The id beside it.
        id: u8,
        /// The length byte.
        length: u8,
    },
    /// The checksum does not fit.
    Checksum {
        /// The id beside it; it may be the damaged byte.
        id: u8,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbage { bytes } => {
                write!(f, "expected FF FF and an id, found {bytes} other bytes")
            }
            Self::Length { id, length } => {
                write!(f, "expected another length of a packet with id {id}, found {length}")
            }
            Self::Checksum { id } => {
                write!(f, "the checksum of a packet with id {id} does not fit")
            }
        }
    }
}

impl core::error::Error for Damage {}

/// The parameters do not fit a packet of [`MAX_PACKET`] bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLong;

impl fmt::Display for TooLong {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected at most {MAX_PARAMETERS} parameter bytes; split the request")
    }
}

impl core::error::Error for TooLong {}

/// A view of one whole packet whose header, length and checksum are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Whom it is for, or from.
    pub id: u8,
    /// The instruction, or the status byte.
    pub code: u8,
    /// What follows the code.
    pub parameters: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet that `bytes` are, from first to last.
    ///
    /// # Errors
    /// The first damage found.
    pub fn new_checked(bytes: &'a [u8]) -> Result<Self, Damage> {
        let [HEADER, HEADER, id, length, code, parameters @ .., sum] = bytes else {
            return Err(Damage::Garbage { bytes: bytes.len() });
        };
        if *id == HEADER {
            return Err(Damage::Garbage { bytes: bytes.len() });
        }
        if usize::from(*length) != parameters.len() + 2 {
            return Err(Damage::Length { id: *id, length: *length });
        }
        if *sum != checksum(*id, *length, *code, parameters) {
            return Err(Damage::Checksum { id: *id });
        }
        Ok(Self { id: *id, code: *code, parameters })
    }
}

fn checksum(id: u8, length: u8, code: u8, parameters: &[u8]) -> u8 {
    let fixed = id.wrapping_add(length).wrapping_add(code);
    !parameters.iter().fold(fixed, |sum, byte| sum.wrapping_add(*byte))
}

/// Writes one packet; `parts` are the parameters, joined.
fn emit(out: &mut PacketBuf, id: u8, code: u8, parts: &[&[u8]]) -> Result<(), TooLong> {
    let size: usize = parts.iter().map(|part| part.len()).sum();
    if size > MAX_PARAMETERS {
        return Err(TooLong);
    }
    let length = size as u8 + 2;
    out.clear();
    out.extend_from_slice(&[HEADER, HEADER, id, length, code]).map_err(|_| TooLong)?;
    for part in parts {
        out.extend_from_slice(part).map_err(|_| TooLong)?;
    }
    let sum = checksum(id, length, code, out.get(5..).unwrap_or_default());
    out.push(sum).map_err(|_| TooLong)
}

/// What a host asks. Addresses are register addresses, sizes are bytes; for values see
/// [`ByteOrder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Are you there?
    Ping {
        /// Whom, or [`BROADCAST`].
        id: u8,
    },
    /// Read registers.
    Read {
        /// Whom.
        id: u8,
        /// The first register.
        address: u8,
        /// How many bytes.
        size: u8,
    },
    /// Write registers.
    Write {
        /// Whom, or [`BROADCAST`].
        id: u8,
        /// The first register.
        address: u8,
        /// The bytes.
        data: &'a [u8],
    },
    /// Write registers when [`Request::Action`] comes.
    RegWrite {
        /// Whom, or [`BROADCAST`].
        id: u8,
        /// The first register.
        address: u8,
        /// The bytes.
        data: &'a [u8],
    },
    /// Do what [`Request::RegWrite`] said.
    Action {
        /// Whom, or [`BROADCAST`].
        id: u8,
    },
    /// Set all registers to what the factory set.
    FactoryReset {
        /// Whom.
        id: u8,
    },
    /// Start anew.
    Reboot {
        /// Whom.
        id: u8,
    },
    /// Read the same registers of several servos, which answer in this order.
    SyncRead {
        /// The first register.
        address: u8,
        /// How many bytes of each.
        size: u8,
        /// Whom.
        ids: &'a [u8],
    },
    /// Write the same registers of several servos; nobody answers.
    SyncWrite {
        /// The first register.
        address: u8,
        /// How many bytes to each.
        size: u8,
        /// For each servo its id, then its bytes.
        blocks: &'a [u8],
    },
}

impl<'a> Request<'a> {
    /// The request that a packet is, `None` when its instruction is unknown or lacks parameters.
    pub fn parse(packet: &Packet<'a>) -> Option<Self> {
        let id = packet.id;
        Some(match (packet.code, packet.parameters) {
            (PING, []) => Self::Ping { id },
            (READ, [address, size]) => Self::Read { id, address: *address, size: *size },
            (WRITE, [address, data @ ..]) => Self::Write { id, address: *address, data },
            (REG_WRITE, [address, data @ ..]) => Self::RegWrite { id, address: *address, data },
            (ACTION, []) => Self::Action { id },
            (FACTORY_RESET, []) => Self::FactoryReset { id },
            (REBOOT, []) => Self::Reboot { id },
            (SYNC_READ, [address, size, ids @ ..]) if id == BROADCAST => {
                Self::SyncRead { address: *address, size: *size, ids }
            }
            (SYNC_WRITE, [address, size, blocks @ ..])
                if id == BROADCAST && blocks.len().is_multiple_of(usize::from(*size) + 1) =>
            {
                Self::SyncWrite { address: *address, size: *size, blocks }
            }
            _ => return None,
        })
    }

    /// Writes the request's packet into `out`, replacing what was there.
    ///
    /// # Errors
    /// It is longer than a packet may be.
    pub fn emit(&self, out: &mut PacketBuf) -> Result<(), TooLong> {
        match *self {
            Self::Ping { id } => emit(out, id, PING, &[]),
            Self::Read { id, address, size } => emit(out, id, READ, &[&[address, size]]),
            Self::Write { id, address, data } => emit(out, id, WRITE, &[&[address], data]),
            Self::RegWrite { id, address, data } => emit(out, id, REG_WRITE, &[&[address], data]),
            Self::Action { id } => emit(out, id, ACTION, &[]),
            Self::FactoryReset { id } => emit(out, id, FACTORY_RESET, &[]),
            Self::Reboot { id } => emit(out, id, REBOOT, &[]),
            Self::SyncRead { address, size, ids } => {
                emit(out, BROADCAST, SYNC_READ, &[&[address, size], ids])
            }
            Self::SyncWrite { address, size, blocks } => {
                emit(out, BROADCAST, SYNC_WRITE, &[&[address, size], blocks])
            }
        }
    }
}

/// What a servo answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Status<'a> {
    /// Who.
    pub id: u8,
    /// Its troubles, bits of [`status`]; the data is valid beside them.
    pub error: u8,
    /// The registers asked for.
    pub data: &'a [u8],
}

impl<'a> Status<'a> {
    /// The answer that a packet is. Requests look the same: who sent it is known only by context.
    pub fn parse(packet: &Packet<'a>) -> Self {
        Self { id: packet.id, error: packet.code, data: packet.parameters }
    }

    /// Writes the answer's packet into `out`, replacing what was there.
    ///
    /// # Errors
    /// It is longer than a packet may be.
    pub fn emit(&self, out: &mut PacketBuf) -> Result<(), TooLong> {
        emit(out, self.id, self.error, &[self.data])
    }
}

#[cfg(test)]
mod tests;
