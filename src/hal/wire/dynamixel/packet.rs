//! One packet: header, length, stuffing, CRC.

use core::fmt;

/// The id that every servo listens to; it answers a ping and the reads of several servos.
pub const BROADCAST: u8 = 0xFE;
/// The highest id of a servo.
pub const MAX_ID: u8 = 252;
/// The longest packet (bytes).
pub const MAX_PACKET: usize = 1024;
/// The most parameters of a packet, with what is stuffed in (bytes).
pub const MAX_PARAMETERS: usize = MAX_PACKET - OVERHEAD;
/// Header, id, length, instruction and CRC.
pub(super) const OVERHEAD: usize = 10;
/// What stands before the instruction.
pub(super) const FRONT: usize = 7;
pub(super) const HEADER: [u8; 4] = [0xFF, 0xFF, 0xFD, 0x00];
const STUFFING: u8 = 0xFD;

/// Room for any packet.
pub type PacketBuf = heapless::Vec<u8, MAX_PACKET>;

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
        /// The length.
        length: u16,
    },
    /// `FF FF FD` inside without an `FD` after it: a byte is missing, or another packet begins.
    Stuffing {
        /// The id in front; it may be the damaged byte.
        id: u8,
    },
    /// The CRC does not fit.
    Crc {
        /// The id beside it; it may be the damaged byte.
        id: u8,
    },
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Garbage { bytes } => {
                write!(f, "expected FF FF FD 00 and an id, found {bytes} other bytes")
            }
            Self::Length { id, length } => {
                write!(f, "expected another length of a packet with id {id}, found {length}")
            }
            Self::Stuffing { id } => {
                write!(f, "expected FD after FF FF FD in a packet with id {id}, found none")
            }
            Self::Crc { id } => write!(f, "the CRC of a packet with id {id} does not fit"),
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

/// One whole packet whose header, length, stuffing and CRC are right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Whom it is for, or from.
    pub id: u8,
    /// What is asked, 0x55 in an answer.
    pub instruction: u8,
    /// What follows the instruction, without what was stuffed in.
    pub parameters: &'a [u8],
}

impl<'a> Packet<'a> {
    /// The packet that `bytes` are, from first to last. What was stuffed in is taken out in place.
    ///
    /// # Errors
    /// The first damage found; `bytes` are then unchanged.
    pub fn new_checked(bytes: &'a mut [u8]) -> Result<Self, Damage> {
        check(bytes)?;
        Self::of_checked(bytes)
    }

    /// Writes the packet into `out`, replacing what was there.
    ///
    /// # Errors
    /// It is longer than a packet may be.
    pub fn emit(&self, out: &mut PacketBuf) -> Result<(), TooLong> {
        emit(out, self.id, self.instruction, &[self.parameters])
    }

    /// The packet that `bytes` are, when [`check`] found no damage in them.
    pub(super) fn of_checked(bytes: &'a mut [u8]) -> Result<Self, Damage> {
        let short = Damage::Garbage { bytes: bytes.len() };
        let Some(([.., id, _, _], [body @ .., _, _])) = bytes.split_first_chunk_mut::<FRONT>()
        else {
            return Err(short);
        };
        let size = unstuff(body);
        let (instruction, parameters) =
            body.get(..size).and_then(<[u8]>::split_first).ok_or(short)?;
        Ok(Self { id: *id, instruction: *instruction, parameters })
    }
}

/// The first damage in `bytes`, which are to be one packet from first to last.
pub(super) fn check(bytes: &[u8]) -> Result<(), Damage> {
    let Some((&[h0, h1, h2, h3, id, low, high], [body @ .., crc_low, crc_high])) =
        bytes.split_first_chunk::<FRONT>()
    else {
        return Err(Damage::Garbage { bytes: bytes.len() });
    };
    if [h0, h1, h2, h3] != HEADER || !is_id(id) {
        return Err(Damage::Garbage { bytes: bytes.len() });
    }
    let length = u16::from_le_bytes([low, high]);
    if body.is_empty() || usize::from(length) != body.len() + 2 {
        return Err(Damage::Length { id, length });
    }
    if !is_stuffed(body, true) {
        return Err(Damage::Stuffing { id });
    }
    let covered = bytes.get(..bytes.len() - 2).unwrap_or_default();
    if crc(0, covered) != u16::from_le_bytes([*crc_low, *crc_high]) {
        return Err(Damage::Crc { id });
    }
    Ok(())
}

/// Whether a packet may have this id: 253 and 255 would make a header look different.
pub(super) fn is_id(id: u8) -> bool {
    id <= MAX_ID || id == BROADCAST
}

/// Writes one packet; `parts` are the parameters, joined.
pub(super) fn emit(
    out: &mut PacketBuf,
    id: u8,
    instruction: u8,
    parts: &[&[u8]],
) -> Result<(), TooLong> {
    out.clear();
    begin(out, id)?;
    let mut tail = Tail::default();
    for byte in core::iter::once(&instruction).chain(parts.iter().copied().flatten()) {
        out.push(*byte).map_err(|_| TooLong)?;
        if tail.wants_stuffing(*byte) {
            out.push(STUFFING).map_err(|_| TooLong)?;
        }
    }
    set_length(out, out.len() + 2);
    let sum = crc(0, out);
    out.extend_from_slice(&sum.to_le_bytes()).map_err(|_| TooLong)
}

/// Header, id and room for the length.
pub(super) fn begin(out: &mut PacketBuf, id: u8) -> Result<(), TooLong> {
    out.extend_from_slice(&HEADER).map_err(|_| TooLong)?;
    out.extend_from_slice(&[id, 0, 0]).map_err(|_| TooLong)
}

/// Says in the packet that it has `size` bytes.
pub(super) fn set_length(out: &mut PacketBuf, size: usize) {
    let length = size.saturating_sub(FRONT).min(usize::from(u16::MAX)) as u16;
    if let Some(place) = out.get_mut(5..FRONT) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

/// The last three bytes of a body, not counting what is stuffed in.
#[derive(Default)]
struct Tail(u32);

impl Tail {
    /// Whether a stuffing byte follows `byte`.
    fn wants_stuffing(&mut self, byte: u8) -> bool {
        self.0 = (self.0 << 8 | u32::from(byte)) & 0xFF_FFFF;
        self.0 == 0xFF_FFFD
    }
}

/// Whether every `FF FF FD` of a body is followed by an `FD`; `whole`: also at its end.
pub(super) fn is_stuffed(body: &[u8], whole: bool) -> bool {
    let mut tail = Tail::default();
    let mut bytes = body.iter();
    while let Some(byte) = bytes.next() {
        if tail.wants_stuffing(*byte) {
            match bytes.next() {
                Some(&STUFFING) => {}
                None => return !whole,
                Some(_) => return false,
            }
        }
    }
    true
}

/// Takes the stuffing out in place and says how many bytes remain.
fn unstuff(body: &mut [u8]) -> usize {
    let (mut tail, mut skip, mut size) = (Tail::default(), false, 0);
    for at in 0..body.len() {
        let Some(byte) = body.get(at).copied() else { break };
        if core::mem::take(&mut skip) {
            continue;
        }
        skip = tail.wants_stuffing(byte);
        if let Some(place) = body.get_mut(size) {
            *place = byte;
        }
        size += 1;
    }
    size
}

/// The CRC-16 of `bytes` after bytes whose CRC is `start`: polynomial 0x8005, no reflection.
///
/// 0x18005 is x + 1 times a polynomial, hence a table entry is its index shifted, and 0x8003 when
/// the index has an odd number of ones: no table is needed.
pub(super) fn crc(start: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(start, |crc, byte| {
        let index = (crc >> 8) ^ u16::from(*byte);
        let odd = (index.count_ones() & 1) as u16;
        (crc << 8) ^ (index << 1) ^ (index << 2) ^ (odd * 0x8003)
    })
}
