//! Feetech's protocol as the campaign sees it.

use rand::RngExt as _;
use regoal::hal::wire::feetech::{Decoder, MAX_PARAMETERS, Packet, PacketBuf, Request, Status};
use regoal::rng::Rng;

use crate::Protocol;
use crate::streams::{ANSWER, parameters};

pub struct Feetech;

impl Protocol for Feetech {
    fn packet(rng: &mut Rng) -> Vec<u8> {
        let size = match rng.random_range(0..20) {
            0 => rng.random_range(0..MAX_PARAMETERS - 2),
            _ => rng.random_range(0..16),
        };
        let data = parameters(rng, size);
        let (id, address) = (rng.random_range(0..=0xFD), rng.random());
        let mut out = PacketBuf::new();
        match rng.random_range(0..6) {
            0 => Request::Read { id, address, size: rng.random() }.emit(&mut out),
            1 => Request::Write { id, address, data: &data }.emit(&mut out),
            2 => Request::SyncRead { address, size: rng.random(), ids: &data }.emit(&mut out),
            _ => Status { id, error: rng.random_range(0..0x80), data: &data }.emit(&mut out),
        }
        .unwrap();
        out.to_vec()
    }

    /// Without FF in the data: there, a false packet could begin, and its weak checksum fit.
    fn answer(rng: &mut Rng) -> Vec<u8> {
        let data: Vec<u8> = (0..ANSWER).map(|_| rng.random_range(0..0xFF)).collect();
        let mut out = PacketBuf::new();
        Status { id: rng.random_range(0..=0xFD), error: 0, data: &data }.emit(&mut out).unwrap();
        out.to_vec()
    }

    fn stream(
        bytes: &[u8],
        longest: Option<usize>,
        cuts: &mut dyn Iterator<Item = usize>,
    ) -> Vec<Vec<u8>> {
        let (mut decoder, mut found, mut rest) = (Decoder::default(), Vec::new(), bytes);
        decoder.restart(longest.unwrap_or(usize::MAX));
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
        let longest = longest.unwrap_or(MAX_PARAMETERS).min(MAX_PARAMETERS);
        let (mut at, mut found) = (0, Vec::new());
        while at + 4 <= bytes.len() {
            let (header, id, length) =
                (&bytes[at..at + 2], bytes[at + 2], usize::from(bytes[at + 3]));
            if header != [0xFF, 0xFF] || id == 0xFF || length < 2 || length - 2 > longest {
                at += 1;
                continue;
            }
            // The rest of the stream may be the packet's: it is awaited.
            let Some(packet) = bytes.get(at..at + 4 + length) else { break };
            let sum: u32 = packet[2..].iter().map(|byte| u32::from(*byte)).sum();
            if sum % 256 == 0xFF {
                found.push(packet.to_vec());
                at += packet.len();
            } else {
                at += 1;
            }
        }
        found
    }

    fn also(_: &mut Rng, _: &[u8], _: &[usize]) -> Result<(), String> {
        Ok(())
    }
}

/// The bytes of a packet, written again from what it says.
fn again(packet: &Packet<'_>) -> Vec<u8> {
    let mut out = PacketBuf::new();
    if let Some(request) = Request::parse(packet) {
        request.emit(&mut out).unwrap();
        let asked = out.clone();
        Status::parse(packet).emit(&mut out).unwrap();
        assert_eq!(asked, out, "as a request and as an answer");
    }
    Status::parse(packet).emit(&mut out).unwrap();
    out.to_vec()
}
