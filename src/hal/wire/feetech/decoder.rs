//! Packets out of a stream.

use super::{Damage, HEADER, MAX_PARAMETERS, OVERHEAD, Packet, PacketBuf};

/// Finds the packets in a stream that is fed in any cuts, byte by byte onward after damage.
///
/// ```
/// use regoal::hal::wire::feetech::Decoder;
/// let mut decoder = Decoder::default();
/// let mut bytes: &[u8] = &[0x00, 0xFF, 0xFF, 0x01, 0x02, 0x00, 0xFC];
/// let mut packets = 0;
/// while let Some(event) = decoder.next(&mut bytes) {
///     packets += usize::from(event.is_ok());
/// }
/// assert_eq!(packets, 1);
/// ```
#[derive(Debug, Clone)]
pub struct Decoder {
    /// Never more than the packet that may begin at its front.
    buffer: PacketBuf,
    /// Bytes at the front that the last packet handed out lies in.
    taken: usize,
    longest: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { buffer: PacketBuf::new(), taken: 0, longest: MAX_PARAMETERS }
    }
}

enum Scan {
    Partial { missing: usize },
    Whole { size: usize },
    Damaged { damage: Damage, skip: usize },
}

impl Decoder {
    /// Forgets what was fed. From now on a packet with more than `longest` parameters is damage:
    /// a false header then never swallows more than one true packet.
    pub fn restart(&mut self, longest: usize) {
        self.buffer.clear();
        self.taken = 0;
        self.longest = longest.min(MAX_PARAMETERS);
    }

    /// The next packet or damage in what was fed and `input`, which is shortened by what was used.
    /// `None`: all was used and more is needed.
    pub fn next<'d>(&'d mut self, input: &mut &[u8]) -> Option<Result<Packet<'d>, Damage>> {
        let taken = core::mem::take(&mut self.taken);
        self.skip(taken);
        loop {
            match self.scan() {
                Scan::Whole { size } => {
                    self.taken = size;
                    break;
                }
                Scan::Damaged { damage, skip } => {
                    self.skip(skip);
                    return Some(Err(damage));
                }
                Scan::Partial { missing } => {
                    let (used, rest) = input.split_at(missing.min(input.len()));
                    if used.is_empty() || self.buffer.extend_from_slice(used).is_err() {
                        return None;
                    }
                    *input = rest;
                }
            }
        }
        Some(Packet::new_checked(self.buffer.get(..self.taken)?))
    }

    fn scan(&self) -> Scan {
        match self.buffer.as_slice() {
            [] | [HEADER] | [HEADER, HEADER] => Scan::Partial { missing: 4 - self.buffer.len() },
            [HEADER, HEADER, id] if *id != HEADER => Scan::Partial { missing: 1 },
            [HEADER, HEADER, id, length, ..] if *id != HEADER => self.scan_body(*id, *length),
            [_, rest @ ..] => {
                let bytes = 1 + rest.iter().position(|b| *b == HEADER).unwrap_or(rest.len());
                Scan::Damaged { damage: Damage::Garbage { bytes }, skip: bytes }
            }
        }
    }

    fn scan_body(&self, id: u8, length: u8) -> Scan {
        let size = usize::from(length) + 4;
        if !(OVERHEAD..=OVERHEAD + self.longest).contains(&size) {
            return Scan::Damaged { damage: Damage::Length { id, length }, skip: 1 };
        }
        match self.buffer.get(..size).map(Packet::new_checked) {
            None => Scan::Partial { missing: size - self.buffer.len() },
            Some(Ok(_)) => Scan::Whole { size },
            // Only the first byte is surely wrong: a true packet may begin inside.
            Some(Err(damage)) => Scan::Damaged { damage, skip: 1 },
        }
    }

    fn skip(&mut self, bytes: usize) {
        let rest = self.buffer.len().saturating_sub(bytes);
        let len = self.buffer.len();
        self.buffer.copy_within(len - rest.., 0);
        self.buffer.truncate(rest);
    }
}
