//! What a host asks.

use super::packet::{BROADCAST, Packet, PacketBuf, TooLong, emit};

const PING: u8 = 0x01;
const READ: u8 = 0x02;
const WRITE: u8 = 0x03;
const REG_WRITE: u8 = 0x04;
const ACTION: u8 = 0x05;
const FACTORY_RESET: u8 = 0x06;
const REBOOT: u8 = 0x08;
const CLEAR: u8 = 0x10;
const SYNC_READ: u8 = 0x82;
const SYNC_WRITE: u8 = 0x83;
const FAST_SYNC_READ: u8 = 0x8A;
const BULK_READ: u8 = 0x92;
const BULK_WRITE: u8 = 0x93;
const FAST_BULK_READ: u8 = 0x9A;
/// "Forget whole turns" and the letters that guard against doing it by mistake.
const MULTI_TURN: [u8; 5] = [0x01, 0x44, 0x58, 0x4C, 0x22];

/// What a factory reset keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// Nothing; refused when sent to [`BROADCAST`].
    Nothing,
    /// The id.
    Id,
    /// The id and the baud rate.
    IdAndBaudRate,
}

impl Keep {
    fn byte(self) -> u8 {
        match self {
            Self::Nothing => 0xFF,
            Self::Id => 0x01,
            Self::IdAndBaudRate => 0x02,
        }
    }
}

/// What a host asks. Addresses are register addresses, sizes are bytes, values little-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Request<'a> {
    /// Are you there? All servos answer a ping to [`BROADCAST`], one after the other by id.
    Ping {
        /// Whom, or [`BROADCAST`].
        id: u8,
    },
    /// Read registers.
    Read {
        /// Whom.
        id: u8,
        /// The first register.
        address: u16,
        /// How many bytes.
        size: u16,
    },
    /// Write registers.
    Write {
        /// Whom, or [`BROADCAST`].
        id: u8,
        /// The first register.
        address: u16,
        /// The bytes.
        data: &'a [u8],
    },
    /// Write registers when [`Request::Action`] comes.
    RegWrite {
        /// Whom, or [`BROADCAST`].
        id: u8,
        /// The first register.
        address: u16,
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
        /// But for these.
        keep: Keep,
    },
    /// Start anew; clears a hardware error.
    Reboot {
        /// Whom.
        id: u8,
    },
    /// Forget whole turns: the present position is then within one turn. Torque must be off.
    ClearMultiTurn {
        /// Whom.
        id: u8,
    },
    /// Read the same registers of several servos, which answer one after the other in this order.
    SyncRead {
        /// The first register.
        address: u16,
        /// How many bytes of each.
        size: u16,
        /// Whom.
        ids: &'a [u8],
    },
    /// Write the same registers of several servos; nobody answers.
    SyncWrite {
        /// The first register.
        address: u16,
        /// How many bytes to each.
        size: u16,
        /// For each servo its id, then its bytes.
        blocks: &'a [u8],
    },
    /// As [`Request::SyncRead`], with one common answer, see [`FastDecoder`](super::FastDecoder).
    FastSyncRead {
        /// The first register.
        address: u16,
        /// How many bytes of each.
        size: u16,
        /// Whom.
        ids: &'a [u8],
    },
    /// Read from each servo registers of its own; they answer one after the other in this order.
    BulkRead {
        /// For each servo a [`bulk_block`].
        blocks: &'a [u8],
    },
    /// Write to each servo registers of its own; nobody answers.
    BulkWrite {
        /// For each servo a [`bulk_block`], then its bytes.
        blocks: &'a [u8],
    },
    /// As [`Request::BulkRead`], with one common answer, see [`FastDecoder`](super::FastDecoder).
    FastBulkRead {
        /// For each servo a [`bulk_block`].
        blocks: &'a [u8],
    },
}

impl<'a> Request<'a> {
    /// The request that a packet is, `None` when its instruction is unknown or its parameters do
    /// not fit that.
    pub fn parse(packet: &Packet<'a>) -> Option<Self> {
        let id = packet.id;
        Some(match (packet.instruction, packet.parameters) {
            (PING, []) => Self::Ping { id },
            (READ, &[a0, a1, s0, s1]) => {
                Self::Read { id, address: word(a0, a1), size: word(s0, s1) }
            }
            (WRITE, [a0, a1, data @ ..]) => Self::Write { id, address: word(*a0, *a1), data },
            (REG_WRITE, [a0, a1, data @ ..]) => {
                Self::RegWrite { id, address: word(*a0, *a1), data }
            }
            (ACTION, []) => Self::Action { id },
            (FACTORY_RESET, [option]) => {
                let kinds = [Keep::Nothing, Keep::Id, Keep::IdAndBaudRate];
                let keep = kinds.into_iter().find(|keep| keep.byte() == *option)?;
                Self::FactoryReset { id, keep }
            }
            (REBOOT, []) => Self::Reboot { id },
            (CLEAR, parameters) if parameters == MULTI_TURN => Self::ClearMultiTurn { id },
            _ if id == BROADCAST => return Self::parse_several(packet),
            _ => return None,
        })
    }

    fn parse_several(packet: &Packet<'a>) -> Option<Self> {
        Some(match (packet.instruction, packet.parameters) {
            (SYNC_READ, [a0, a1, s0, s1, ids @ ..]) => {
                Self::SyncRead { address: word(*a0, *a1), size: word(*s0, *s1), ids }
            }
            (FAST_SYNC_READ, [a0, a1, s0, s1, ids @ ..]) => {
                Self::FastSyncRead { address: word(*a0, *a1), size: word(*s0, *s1), ids }
            }
            (SYNC_WRITE, [a0, a1, s0, s1, blocks @ ..])
                if blocks.len().is_multiple_of(usize::from(word(*s0, *s1)) + 1) =>
            {
                Self::SyncWrite { address: word(*a0, *a1), size: word(*s0, *s1), blocks }
            }
            (BULK_READ, blocks) if blocks.len().is_multiple_of(5) => Self::BulkRead { blocks },
            (FAST_BULK_READ, blocks) if blocks.len().is_multiple_of(5) => {
                Self::FastBulkRead { blocks }
            }
            (BULK_WRITE, blocks)
                if bulk_writes(blocks).map(|(_, _, data)| data.len() + 5).sum::<usize>()
                    == blocks.len() =>
            {
                Self::BulkWrite { blocks }
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
            Self::Read { id, address, size } => {
                emit(out, id, READ, &[&address.to_le_bytes(), &size.to_le_bytes()])
            }
            Self::Write { id, address, data } => {
                emit(out, id, WRITE, &[&address.to_le_bytes(), data])
            }
            Self::RegWrite { id, address, data } => {
                emit(out, id, REG_WRITE, &[&address.to_le_bytes(), data])
            }
            Self::Action { id } => emit(out, id, ACTION, &[]),
            Self::FactoryReset { id, keep } => emit(out, id, FACTORY_RESET, &[&[keep.byte()]]),
            Self::Reboot { id } => emit(out, id, REBOOT, &[]),
            Self::ClearMultiTurn { id } => emit(out, id, CLEAR, &[&MULTI_TURN]),
            Self::SyncRead { address, size, ids } => emit_sync(out, SYNC_READ, address, size, ids),
            Self::SyncWrite { address, size, blocks } => {
                emit_sync(out, SYNC_WRITE, address, size, blocks)
            }
            Self::FastSyncRead { address, size, ids } => {
                emit_sync(out, FAST_SYNC_READ, address, size, ids)
            }
            Self::BulkRead { blocks } => emit(out, BROADCAST, BULK_READ, &[blocks]),
            Self::BulkWrite { blocks } => emit(out, BROADCAST, BULK_WRITE, &[blocks]),
            Self::FastBulkRead { blocks } => emit(out, BROADCAST, FAST_BULK_READ, &[blocks]),
        }
    }
}

fn emit_sync(
    out: &mut PacketBuf,
    instruction: u8,
    address: u16,
    size: u16,
    rest: &[u8],
) -> Result<(), TooLong> {
    emit(out, BROADCAST, instruction, &[&address.to_le_bytes(), &size.to_le_bytes(), rest])
}

fn word(low: u8, high: u8) -> u16 {
    u16::from_le_bytes([low, high])
}

/// One servo's id, first register and size in a bulk read or write.
pub fn bulk_block(id: u8, address: u16, size: u16) -> [u8; 5] {
    let ([a0, a1], [s0, s1]) = (address.to_le_bytes(), size.to_le_bytes());
    [id, a0, a1, s0, s1]
}

/// Ids, addresses and sizes of the blocks of a bulk read.
pub fn bulk_reads(blocks: &[u8]) -> impl Iterator<Item = (u8, u16, u16)> + Clone + '_ {
    let (blocks, _) = blocks.as_chunks();
    blocks.iter().map(|&[id, a0, a1, s0, s1]| (id, word(a0, a1), word(s0, s1)))
}

/// Ids, addresses and bytes of the blocks of a bulk write, up to the first that is not whole.
pub fn bulk_writes(blocks: &[u8]) -> impl Iterator<Item = (u8, u16, &[u8])> + Clone + '_ {
    let mut rest = blocks;
    core::iter::from_fn(move || {
        let (&[id, a0, a1, s0, s1], after) = rest.split_first_chunk()?;
        let (data, after) = after.split_at_checked(usize::from(word(s0, s1)))?;
        rest = after;
        Some((id, word(a0, a1), data))
    })
}
