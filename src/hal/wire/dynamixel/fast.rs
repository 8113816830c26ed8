//! The common answer to a fast read: `FF FF FD 00 FE length length 55`, then from each servo
//! `error id data.. crc crc`.
//!
//! The first servo sends the header, each its own part. A part's CRC counts all bytes before it;
//! nothing is stuffed in. Source: ROBOTIS e-manual, "Fast Sync Read"; `dynamixel-sdk` 4.1.0.

use super::super::window::{Scan, Window, up_to};
use super::packet::{
    BROADCAST, Damage, FRONT, HEADER, MAX_PACKET, PacketBuf, TooLong, begin, crc, set_length,
};
use super::status::{STATUS, Status};

/// Header, id, length, instruction.
const START: usize = FRONT + 1;
/// Error byte, id and CRC of a part.
const PART: usize = 4;

/// Reads the common answer to one fast read, fed in any cuts, servo by servo as they come.
///
/// A part's CRC is checked from the CRC in front of it on, so that a damaged part costs itself, and
/// when its CRC is what was damaged also the next one, never those before it.
#[derive(Debug, Clone)]
pub struct FastDecoder<I> {
    window: Window<MAX_PACKET>,
    /// The data sizes of the parts to come.
    sizes: I,
    /// What the length must say.
    length: u16,
    /// The CRC up to here; `None` before the header.
    sum: Option<u16>,
}

impl<I: Iterator<Item = u16> + Clone> FastDecoder<I> {
    /// Expects the answer of servos that were asked for so many bytes each, in the order asked.
    ///
    /// # Errors
    /// The answer would be longer than a packet may be.
    pub fn new(sizes: I) -> Result<Self, TooLong> {
        let size = sizes.clone().try_fold(START, |sum, size| {
            let sum = sum + usize::from(size) + PART;
            (sum <= MAX_PACKET).then_some(sum)
        });
        let length = (size.ok_or(TooLong)? - FRONT) as u16;
        Ok(Self { window: Window::default(), sizes, length, sum: None })
    }

    /// The next servo's answer or damage in what was fed and `input`, which is shortened by what
    /// was used. `None`: all servos have answered, or more bytes are needed.
    pub fn next<'d>(&'d mut self, input: &mut &[u8]) -> Option<Result<Status<'d>, Damage>> {
        let length = self.length;
        let sum = match self.sum {
            Some(sum) => sum,
            None => match self.window.next(input, |bytes| scan_start(bytes, length))? {
                Ok(start) => *self.sum.insert(crc(0, start)),
                Err(damage) => return Some(Err(damage)),
            },
        };
        let size = usize::from(self.sizes.clone().next()?) + PART;
        let part = self.window.next(input, |bytes| scan_part(bytes, size))?.ok()?;
        self.sizes.next();
        let [error, id, data @ .., low, high] = &*part else { return None };
        let claimed = u16::from_le_bytes([*low, *high]);
        self.sum = Some(crc(claimed, &[*low, *high]));
        Some(match crc(crc(sum, &[*error, *id]), data) == claimed {
            true => Ok(Status::new(*id, *error, data)),
            false => Err(Damage::Crc { id: *id }),
        })
    }

    /// Whether every servo's part was handed out.
    pub fn is_done(&self) -> bool {
        self.sizes.clone().next().is_none()
    }
}

fn scan_start(bytes: &[u8], expected: u16) -> Scan<Damage> {
    let [low, high] = expected.to_le_bytes();
    let [h0, h1, h2, h3] = HEADER;
    let start = [h0, h1, h2, h3, BROADCAST, low, high, STATUS];
    if bytes == start {
        return Scan::Whole { size: START };
    }
    if start.starts_with(bytes) {
        return Scan::Partial { missing: START - bytes.len() };
    }
    let skip = up_to(0xFF, bytes);
    let damage = match bytes {
        [f0, f1, f2, f3, BROADCAST, low, high, STATUS] if [*f0, *f1, *f2, *f3] == HEADER => {
            Damage::Length { id: BROADCAST, length: u16::from_le_bytes([*low, *high]) }
        }
        _ => Damage::Garbage { bytes: skip },
    };
    Scan::Damaged { damage, skip }
}

fn scan_part(bytes: &[u8], size: usize) -> Scan<Damage> {
    match size.checked_sub(bytes.len()) {
        None | Some(0) => Scan::Whole { size },
        Some(missing) => Scan::Partial { missing },
    }
}

/// Writes the common answer of several servos into `out`, replacing what was there. Where a servo is
/// missing, the true answer ends before its part.
///
/// # Errors
/// It is longer than a packet may be.
pub fn emit_fast<'a>(
    out: &mut PacketBuf,
    answers: impl Iterator<Item = Status<'a>> + Clone,
) -> Result<(), TooLong> {
    out.clear();
    begin(out, BROADCAST)?;
    out.push(STATUS).map_err(|_| TooLong)?;
    set_length(out, START + answers.clone().map(|part| part.data.len() + PART).sum::<usize>());
    for part in answers {
        out.extend_from_slice(&[part.error(), part.id]).map_err(|_| TooLong)?;
        out.extend_from_slice(part.data).map_err(|_| TooLong)?;
        let sum = crc(0, out);
        out.extend_from_slice(&sum.to_le_bytes()).map_err(|_| TooLong)?;
    }
    Ok(())
}
