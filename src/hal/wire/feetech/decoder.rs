//! Packets out of a stream.

use super::super::window::{Scan, Window, up_to};
use super::{Damage, HEADER, MAX_PACKET, MAX_PARAMETERS, OVERHEAD, Packet};

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
    window: Window<MAX_PACKET>,
    longest: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { window: Window::default(), longest: MAX_PARAMETERS }
    }
}

impl Decoder {
    /// Forgets what was fed. From now on a packet with more than `longest` parameters is damage:
    /// a false header then never swallows more than one true packet.
    pub fn restart(&mut self, longest: usize) {
        self.window.clear();
        self.longest = longest.min(MAX_PARAMETERS);
    }

    /// The next packet or damage in what was fed and `input`, which is shortened by what was used.
    /// `None`: all was used and more is needed.
    pub fn next<'d>(&'d mut self, input: &mut &[u8]) -> Option<Result<Packet<'d>, Damage>> {
        let longest = self.longest;
        let found = self.window.next(input, |bytes| scan(bytes, longest))?;
        Some(found.and_then(|bytes| Packet::new_checked(bytes)))
    }
}

fn scan(bytes: &[u8], longest: usize) -> Scan<Damage> {
    match bytes {
        [] | [HEADER] | [HEADER, HEADER] => Scan::Partial { missing: 4 - bytes.len() },
        [HEADER, HEADER, id] if *id != HEADER => Scan::Partial { missing: 1 },
        [HEADER, HEADER, id, length, ..] if *id != HEADER => {
            scan_body(bytes, *id, *length, longest)
        }
        _ => {
            let skip = up_to(HEADER, bytes);
            Scan::Damaged { damage: Damage::Garbage { bytes: skip }, skip }
        }
    }
}

fn scan_body(bytes: &[u8], id: u8, length: u8, longest: usize) -> Scan<Damage> {
    let size = usize::from(length) + 4;
    if !(OVERHEAD..=OVERHEAD + longest).contains(&size) {
        return Scan::Damaged { damage: Damage::Length { id, length }, skip: 1 };
    }
    match bytes.get(..size).map(Packet::new_checked) {
        None => Scan::Partial { missing: size - bytes.len() },
        Some(Ok(_)) => Scan::Whole { size },
        // Only the first byte is surely wrong: a true packet may begin inside.
        Some(Err(damage)) => Scan::Damaged { damage, skip: 1 },
    }
}
