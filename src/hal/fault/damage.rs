//! What a fault of the line makes of one packet's bytes.

use rand::RngExt as _;

use super::{Fault, Kind, frame};
use crate::config::Protocol;
use crate::rng::Rng;

/// Of this many bytes one is hit by framing noise.
const DRIFT: u32 = 4;

/// Damages a packet; kinds that are not about the bytes of one packet leave it as it is.
pub(super) fn damage(fault: &Fault, protocol: Protocol, packet: &mut Vec<u8>, rng: &mut Rng) {
    if packet.is_empty() {
        return;
    }
    let len = packet.len();
    let at = fault.byte.unwrap_or_else(|| rng.random_range(0..len));
    let count = fault.count.unwrap_or(1) as usize;
    match fault.kind {
        Kind::Drop => {
            packet.drain(at.min(len)..(at + count).min(len));
        }
        Kind::Duplicate => {
            let range = at.min(len)..(at + count).min(len);
            let twice = packet.get(range.clone()).unwrap_or_default().to_vec();
            packet.splice(range.end..range.end, twice);
        }
        Kind::Insert => {
            packet.splice(at.min(len)..at.min(len), random(count, rng));
        }
        Kind::Garbage => {
            packet.splice(0..0, random(count, rng));
        }
        Kind::Swap if at + 1 < len => packet.swap(at, at + 1),
        Kind::Flip => flip(fault, packet, at, rng),
        Kind::Truncate => packet.truncate(at),
        Kind::Drift => {
            for byte in packet.iter_mut() {
                *byte |= if rng.random_ratio(1, DRIFT) { 0x80 } else { 0 };
            }
        }
        Kind::WrongId => frame::rebuild(protocol, packet, |id, _| {
            *id = ((u16::from(*id) + 1 + rng.random_range(0..250)) % 252) as u8;
        }),
        Kind::WrongLength => frame::rebuild(protocol, packet, |_, data| {
            // The first of Dynamixel's is the error byte.
            let fewest = usize::from(protocol == Protocol::Dynamixel);
            if data.len() > fewest {
                data.pop();
            } else {
                data.push(0);
            }
        }),
        _ => {}
    }
}

/// Flips the bits named in one byte, or as many different bits as asked for.
fn flip(fault: &Fault, packet: &mut [u8], at: usize, rng: &mut Rng) {
    if let (Some(bits), Some(byte)) = (fault.bits, packet.get_mut(at)) {
        *byte ^= bits;
        return;
    }
    let range = match fault.byte {
        Some(at) => at * 8..(at + 1) * 8,
        None => 0..packet.len() * 8,
    };
    let mut left: Vec<usize> = range.collect();
    for _ in 0..(fault.count.unwrap_or(1) as usize).min(left.len()) {
        let bit = left.swap_remove(rng.random_range(0..left.len()));
        if let Some(byte) = packet.get_mut(bit / 8) {
            *byte ^= 1 << (bit % 8);
        }
    }
}

fn random(count: usize, rng: &mut Rng) -> Vec<u8> {
    (0..count).map(|_| rng.random()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hal::wire::feetech::Packet;
    use crate::rng::{Stream, stream};

    /// Servo 1 at 2048: e-manual style bytes `FF FF 01 04 00 00 08 F2`.
    const PACKET: [u8; 8] = [0xFF, 0xFF, 0x01, 0x04, 0x00, 0x00, 0x08, 0xF2];

    fn damaged(fault: &Fault) -> Vec<u8> {
        let mut packet = PACKET.to_vec();
        damage(fault, Protocol::Feetech, &mut packet, &mut stream(1, Stream::Faults));
        packet
    }

    fn at(kind: Kind, byte: usize) -> Fault {
        Fault { byte: Some(byte), ..Fault::new(kind) }
    }

    #[test]
    fn a_drop_loses_the_byte_named_and_a_count_of_them_as_many() {
        assert_eq!(damaged(&at(Kind::Drop, 2)), [0xFF, 0xFF, 0x04, 0x00, 0x00, 0x08, 0xF2]);
        let two = Fault { count: Some(2), ..at(Kind::Drop, 7) };
        assert_eq!(damaged(&two), PACKET[..7]);
        assert_eq!(damaged(&at(Kind::Drop, 99)), PACKET);
    }

    #[test]
    fn a_duplicate_repeats_the_bytes_named_behind_them() {
        let two = Fault { count: Some(2), ..at(Kind::Duplicate, 2) };
        assert_eq!(damaged(&two), [0xFF, 0xFF, 1, 4, 1, 4, 0, 0, 8, 0xF2]);
    }

    #[test]
    fn an_insert_and_garbage_add_bytes_where_they_say_and_change_none() {
        let inserted = damaged(&Fault { count: Some(3), ..at(Kind::Insert, 5) });
        assert_eq!((&inserted[..5], &inserted[8..]), (&PACKET[..5], &PACKET[5..]));
        let behind = damaged(&Fault { count: Some(5), ..Fault::new(Kind::Garbage) });
        assert_eq!((behind.len(), &behind[5..]), (13, &PACKET[..]));
    }

    #[test]
    fn a_swap_exchanges_neighbours_and_passes_the_checksum() {
        let swapped = damaged(&at(Kind::Swap, 5));
        assert_eq!(swapped, [0xFF, 0xFF, 1, 4, 0, 8, 0, 0xF2]);
        assert!(Packet::new_checked(&swapped).is_ok());
        assert_eq!(damaged(&at(Kind::Swap, 7)), PACKET, "the last byte has no neighbour");
    }

    #[test]
    fn a_flip_changes_the_bits_named_or_as_many_as_asked_for() {
        let named = Fault { bits: Some(0b101), ..at(Kind::Flip, 6) };
        assert_eq!(damaged(&named), [0xFF, 0xFF, 1, 4, 0, 0, 8 ^ 0b101, 0xF2]);
        for count in 1..=8 {
            let flipped = damaged(&Fault { count: Some(count), ..Fault::new(Kind::Flip) });
            let bits: u32 = flipped.iter().zip(PACKET).map(|(a, b)| (a ^ b).count_ones()).sum();
            assert_eq!(bits, count);
            let flipped = damaged(&Fault { count: Some(count), ..at(Kind::Flip, 3) });
            assert_eq!((flipped[3] ^ PACKET[3]).count_ones(), count);
        }
    }

    #[test]
    fn a_truncation_ends_the_packet_and_at_0_loses_it() {
        assert_eq!(damaged(&at(Kind::Truncate, 5)), PACKET[..5]);
        assert!(damaged(&at(Kind::Truncate, 0)).is_empty());
    }

    #[test]
    fn drift_reads_the_last_bit_of_some_bytes_as_the_stop_bit() {
        let mut hit = 0;
        let mut rng = stream(2, Stream::Faults);
        for _ in 0..1000 {
            let mut packet = PACKET.to_vec();
            damage(&Fault::new(Kind::Drift), Protocol::Feetech, &mut packet, &mut rng);
            for (byte, before) in packet.iter().zip(PACKET) {
                assert!(*byte == before || *byte == before | 0x80);
                hit += u32::from(*byte != before);
            }
        }
        // Five of the eight bytes can be hit.
        assert!((1150..1350).contains(&hit), "{hit}");
    }

    #[test]
    fn wrong_ids_and_lengths_pass_the_checksum() {
        let other = damaged(&Fault::new(Kind::WrongId));
        let packet = Packet::new_checked(&other).unwrap();
        assert!(packet.id != 1 && packet.id < 252 && packet.parameters == [0, 8]);
        let shorter = damaged(&Fault::new(Kind::WrongLength));
        assert_eq!(Packet::new_checked(&shorter).unwrap().parameters, [0]);
    }
}
