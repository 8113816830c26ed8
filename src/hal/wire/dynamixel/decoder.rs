//! Packets out of a stream.

use super::super::window::{Scan, Window, up_to};
use super::packet::{
    Damage, FRONT, HEADER, MAX_PACKET, MAX_PARAMETERS, OVERHEAD, Packet, check, is_id, is_stuffed,
};

/// Finds the packets in a stream that is fed in any cuts, byte by byte onward after damage.
///
/// No false header hides a true packet: a header inside a packet is damage as soon as it is seen.
///
/// ```
/// use regoal::hal::wire::dynamixel::Decoder;
/// let mut decoder = Decoder::default();
/// let mut bytes: &[u8] = &[0x00, 0xFF, 0xFF, 0xFD, 0x00, 0x01, 0x03, 0x00, 0x01, 0x19, 0x4E];
/// let mut packets = 0;
/// while let Some(event) = decoder.next(&mut bytes) {
///     packets += usize::from(event.is_ok());
/// }
/// assert_eq!(packets, 1);
/// ```
#[derive(Debug, Clone)]
pub struct Decoder {
    window: Window<MAX_PACKET>,
    longest: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { window: Window::default(), longest: MAX_PARAMETERS }
    }
}

impl Decoder {
    /// Forgets what was fed. From now on a packet with more than `longest` parameters is damage;
    /// what is stuffed in does not count. An answer has one parameter more than data: its error
    /// byte.
    pub fn restart(&mut self, longest: usize) {
        self.window.clear();
        self.longest = (longest + longest / 3).min(MAX_PARAMETERS);
    }

    /// The next packet or damage in what was fed and `input`, which is shortened by what was used.
    /// `None`: all was used and more is needed.
    pub fn next<'d>(&'d mut self, input: &mut &[u8]) -> Option<Result<Packet<'d>, Damage>> {
        let longest = self.longest;
        let found = self.window.next(input, |bytes| scan(bytes, longest))?;
        Some(found.and_then(Packet::of_checked))
    }
}

fn scan(bytes: &[u8], longest: usize) -> Scan<Damage> {
    let header = bytes.get(..HEADER.len()).unwrap_or(bytes);
    if !HEADER.starts_with(header) {
        return garbage(bytes);
    }
    match bytes.get(HEADER.len()..FRONT) {
        Some(&[id, _, _]) if !is_id(id) => garbage(bytes),
        Some(&[id, low, high]) => scan_body(bytes, id, u16::from_le_bytes([low, high]), longest),
        // The shortest packet is longer.
        _ => Scan::Partial { missing: FRONT - bytes.len() },
    }
}

fn scan_body(bytes: &[u8], id: u8, length: u16, longest: usize) -> Scan<Damage> {
    let size = usize::from(length) + FRONT;
    if !(OVERHEAD..=OVERHEAD + longest).contains(&size) {
        return Scan::Damaged { damage: Damage::Length { id, length }, skip: 1 };
    }
    let Some(packet) = bytes.get(..size) else {
        // Not only when all is here: the header inside may be a true packet's.
        let body = bytes.get(FRONT..bytes.len().min(size - 2)).unwrap_or_default();
        return match is_stuffed(body, false) {
            true => Scan::Partial { missing: size - bytes.len() },
            false => Scan::Damaged { damage: Damage::Stuffing { id }, skip: 1 },
        };
    };
    match check(packet) {
        Ok(()) => Scan::Whole { size },
        // Only the first byte is surely wrong: a true packet may begin inside.
        Err(damage) => Scan::Damaged { damage, skip: 1 },
    }
}

fn garbage(bytes: &[u8]) -> Scan<Damage> {
    let skip = up_to(0xFF, bytes);
    Scan::Damaged { damage: Damage::Garbage { bytes: skip }, skip }
}
