//! Streams to decode: packets, damaged packets and noise, then packets that come whole.

use rand::RngExt as _;
use regoal::rng::Rng;

use crate::Protocol;

/// Parameters of the answers that end a stream (bytes).
pub const ANSWER: usize = 9;
/// Answers that end a stream.
const TAIL: usize = 6;

pub struct Case {
    pub bytes: Vec<u8>,
    /// Every packet that was sent, whole or damaged later.
    pub sent: Vec<Vec<u8>>,
    /// The packets at the end, which come whole.
    pub tail: Vec<Vec<u8>>,
}

pub fn case<P: Protocol>(rng: &mut Rng) -> Case {
    let (mut bytes, mut sent) = (Vec::new(), Vec::new());
    for _ in 0..rng.random_range(1..24) {
        let packet = P::packet(rng);
        match rng.random_range(0..8) {
            0..3 => bytes.extend(&packet),
            3 => bytes.extend(noise(rng)),
            4 => {
                // The end of another packet where this one should end.
                let other = P::packet(rng);
                bytes.extend(&packet[..rng.random_range(0..packet.len())]);
                bytes.extend(&other[rng.random_range(0..other.len())..]);
                sent.push(other);
            }
            _ => bytes.extend(damaged(rng, &packet)),
        }
        sent.push(packet);
    }
    if rng.random() {
        let count = rng.random_range(1..4);
        for _ in 0..count {
            bytes = damaged(rng, &bytes);
        }
    }
    let tail: Vec<Vec<u8>> = (0..TAIL).map(|_| P::answer(rng)).collect();
    bytes.extend(tail.iter().flatten());
    sent.extend(tail.iter().cloned());
    Case { bytes, sent, tail }
}

/// Some bytes, those of headers frequent.
pub fn noise(rng: &mut Rng) -> Vec<u8> {
    let count = rng.random_range(0..40);
    parameters(rng, count)
}

/// So many bytes, those of headers frequent.
pub fn parameters(rng: &mut Rng, count: usize) -> Vec<u8> {
    let plain: bool = rng.random();
    let one = |rng: &mut Rng| match rng.random_range(0..if plain { 100 } else { 8 }) {
        0..3 => 0xFF,
        3 => 0xFD,
        4 => rng.random_range(0..16),
        _ => rng.random(),
    };
    (0..count).map(|_| one(rng)).collect()
}

/// One fault of a wire.
fn damaged(rng: &mut Rng, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    if bytes.len() < 2 {
        return bytes;
    }
    let at = rng.random_range(0..bytes.len() - 1);
    match rng.random_range(0..9) {
        0 => bytes[at] ^= 1 << rng.random_range(0..8),
        1 => {
            let other = rng.random_range(0..bytes.len());
            bytes[at] ^= 1 << rng.random_range(0..8);
            bytes[other] ^= 1 << rng.random_range(0..8);
        }
        2 => drop(bytes.remove(at)),
        3 => bytes.insert(at, bytes[at]),
        4 => bytes.insert(at, rng.random()),
        5 => bytes.swap(at, at + 1),
        6 => bytes.truncate(at),
        7 => bytes.insert(at, [0xFF, 0xFD, 0x00][rng.random_range(0..3)]),
        _ => {
            let echo = bytes.clone();
            bytes.extend(echo);
        }
    }
    bytes
}
