//! Dynamixel's protocol as the campaign sees it.

use rand::RngExt as _;
use regoal::hal::wire::dynamixel::{
    Decoder, FastDecoder, MAX_ID, MAX_PACKET, MAX_PARAMETERS, Packet, PacketBuf, Refusal, Request,
    Status, emit_fast,
};
use regoal::rng::Rng;

use crate::Protocol;
use crate::streams::{ANSWER, parameters};

pub struct Dynamixel;

/// Data sizes that the fast reads ask for.
const FAST: [u16; 4] = [4, 10, 0, 1];

impl Protocol for Dynamixel {
    fn packet(rng: &mut Rng) -> Vec<u8> {
        let size = match rng.random_range(0..20) {
            0 => rng.random_range(0..MAX_PARAMETERS * 3 / 4 - 4),
            _ => rng.random_range(0..20),
        };
        let data = parameters(rng, size);
        let (id, address) = (rng.random_range(0..=MAX_ID), rng.random());
        let mut out = PacketBuf::new();
        match rng.random_range(0..9) {
            0 => Request::Read { id, address, size: rng.random() }.emit(&mut out),
            1 => Request::Write { id, address, data: &data }.emit(&mut out),
            2 => Request::SyncRead { address, size: rng.random(), ids: &data }.emit(&mut out),
            3 => Request::BulkWrite { blocks: &data }.emit(&mut out),
            4 => return fast(rng),
            _ => status(id, rng.random(), &data).emit(&mut out),
        }
        .unwrap();
        out.to_vec()
    }

    fn answer(rng: &mut Rng) -> Vec<u8> {
        let data = parameters(rng, ANSWER - 1);
        let mut out = PacketBuf::new();
        status(rng.random_range(0..=MAX_ID), 0, &data).emit(&mut out).unwrap();
        out.to_vec()
    }

    fn stream(
        bytes: &[u8],
        longest: Option<usize>,
        cuts: &mut dyn Iterator<Item = usize>,
    ) -> Vec<Vec<u8>> {
        let (mut decoder, mut found, mut rest) = (Decoder::default(), Vec::new(), bytes);
        if let Some(longest) = longest {
            decoder.restart(longest);
        }
        while !rest.is_empty() {
            let (mut piece, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
            rest = later;
            while let Some(event) = decoder.next(&mut piece) {
                found.extend(event.map(|packet| again(&packet)));
            }
        }
        found
    }

    fn whole(bytes: &[u8], longest: Option<usize>) -> Vec<Vec<u8>> {
        let longest = longest.map_or(MAX_PARAMETERS, |n| (n + n / 3).min(MAX_PARAMETERS));
        let (mut at, mut found) = (0, Vec::new());
        while at + 7 <= bytes.len() {
            let length = usize::from(u16::from_le_bytes([bytes[at + 5], bytes[at + 6]]));
            let header = bytes[at..at + 4] == [0xFF, 0xFF, 0xFD, 0x00];
            let id = bytes[at + 4] <= MAX_ID || bytes[at + 4] == 0xFE;
            let size = 7 + length;
            if !header || !id || length < 3 || length - 3 > longest {
                at += 1;
                continue;
            }
            // The rest of the stream may be the packet's: it is awaited, unless there is a header in it.
            let body = &bytes[at + 7..bytes.len().min(at + size - 2)];
            let stuffed = well_stuffed(body, body.len() == length - 2);
            let packet = bytes.get(at..at + size);
            if stuffed && packet.is_none() {
                break;
            }
            match packet.filter(|packet| stuffed && division(0, packet) == 0) {
                Some(packet) => {
                    found.push(packet.to_vec());
                    at += size;
                }
                None => at += 1,
            }
        }
        found
    }

    fn also(rng: &mut Rng, bytes: &[u8], cuts: &[usize]) -> Result<(), String> {
        let mut bytes = bytes.to_vec();
        // Damage before a common answer that comes whole, sometimes.
        if rng.random() {
            bytes.extend(fast(rng));
        }
        let expected = fast_whole(&bytes);
        let at_once = fast_stream(&bytes, &mut std::iter::repeat(usize::MAX));
        if at_once != expected {
            return Err(format!("fast: found {at_once:02X?}, expected {expected:02X?}"));
        }
        if fast_stream(&bytes, &mut cuts.iter().copied().cycle()) != expected {
            return Err(format!("fast: pieces of {cuts:?} give other parts"));
        }
        Ok(())
    }
}

fn status(id: u8, error: u8, data: &[u8]) -> Status<'_> {
    Status { id, alert: error & 0x80 != 0, refusal: Refusal::of_number(error & 0x7F), data }
}

/// The common answer to a fast read.
fn fast(rng: &mut Rng) -> Vec<u8> {
    let data = FAST.map(|size| parameters(rng, size.into()));
    let mut out = PacketBuf::new();
    let parts = data.iter().map(|data| status(data.len() as u8, 0, data));
    emit_fast(&mut out, parts).unwrap();
    out.to_vec()
}

/// The bytes of a packet, written again from what it says.
fn again(packet: &Packet<'_>) -> Vec<u8> {
    let mut out = PacketBuf::new();
    let known = Request::parse(packet).map(|request| request.emit(&mut out));
    let known = known.or_else(|| Status::parse(packet).map(|status| status.emit(&mut out)));
    match known {
        Some(emitted) => emitted.unwrap(),
        None => unnamed(packet, &mut out),
    }
    assert!(out.len() <= MAX_PACKET);
    out.to_vec()
}

/// A packet whose instruction or parameters the codec has no name for.
fn unnamed(packet: &Packet<'_>, out: &mut PacketBuf) {
    let mut tail = [0; 3];
    out.extend_from_slice(&[0xFF, 0xFF, 0xFD, 0x00, packet.id, 0, 0]).unwrap();
    for byte in std::iter::once(&packet.instruction).chain(packet.parameters) {
        tail = [tail[1], tail[2], *byte];
        out.push(*byte).unwrap();
        if tail == [0xFF, 0xFF, 0xFD] {
            out.push(0xFD).unwrap();
        }
    }
    let length = (out.len() - 5) as u16;
    out[5..7].copy_from_slice(&length.to_le_bytes());
    let sum = remainder(0, out);
    out.extend_from_slice(&sum.to_le_bytes()).unwrap();
}

/// By the definition: no `FF FF FD` that an `FD` doesn't follow.
fn well_stuffed(body: &[u8], whole: bool) -> bool {
    let mut at = 0;
    while at + 3 <= body.len() {
        if body[at..at + 3] == [0xFF, 0xFF, 0xFD] {
            match body.get(at + 3) {
                Some(0xFD) => at += 4,
                Some(_) => return false,
                None => return !whole,
            }
        } else {
            at += 1;
        }
    }
    true
}

/// By the definition, bit by bit.
fn remainder(start: u16, bytes: &[u8]) -> u16 {
    bytes.iter().fold(start, |sum, byte| {
        (0..8).fold(sum ^ (u16::from(*byte) << 8), |sum, _| {
            (sum << 1) ^ if sum & 0x8000 == 0 { 0 } else { 0x8005 }
        })
    })
}

/// What remains of a packet with its CRC: 0 when that fits.
fn division(start: u16, packet: &[u8]) -> u16 {
    let (covered, sum) = packet.split_at(packet.len() - 2);
    remainder(start, covered) ^ u16::from_le_bytes([sum[0], sum[1]])
}

type Part = Result<Vec<u8>, ()>;

fn fast_stream(bytes: &[u8], cuts: &mut dyn Iterator<Item = usize>) -> Vec<Part> {
    let (mut decoder, mut found) = (FastDecoder::new(FAST.into_iter()).unwrap(), Vec::new());
    let mut rest = bytes;
    while !rest.is_empty() {
        let (mut piece, later) = rest.split_at(cuts.next().unwrap_or(1).min(rest.len()));
        rest = later;
        while let Some(event) = decoder.next(&mut piece) {
            match event {
                Ok(s) => found.push(Ok([&[s.error(), s.id], s.data].concat())),
                Err(regoal::hal::wire::dynamixel::Damage::Crc { .. }) => found.push(Err(())),
                Err(_) => {}
            }
        }
    }
    assert_eq!(decoder.is_done(), found.len() == FAST.len());
    found
}

/// The parts after the first header, the whole buffer at hand.
fn fast_whole(bytes: &[u8]) -> Vec<Part> {
    let length = 1 + FAST.iter().map(|size| size + 4).sum::<u16>();
    let [low, high] = length.to_le_bytes();
    let header = [0xFF, 0xFF, 0xFD, 0x00, 0xFE, low, high, 0x55];
    let Some(at) = bytes.windows(8).position(|window| window == header) else { return Vec::new() };
    let (mut at, mut sum, mut found) = (at + 8, remainder(0, &header), Vec::new());
    for size in FAST {
        let Some(part) = bytes.get(at..at + usize::from(size) + 4) else { break };
        let fits = division(sum, part) == 0;
        found.push(if fits { Ok(part[..part.len() - 2].to_vec()) } else { Err(()) });
        let claimed = &part[part.len() - 2..];
        sum = remainder(u16::from_le_bytes([claimed[0], claimed[1]]), claimed);
        at += part.len();
    }
    found
}
