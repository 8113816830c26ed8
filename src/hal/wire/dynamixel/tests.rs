mod vectors;

use proptest::prelude::*;

use super::packet::{crc, emit};
use super::*;
use vectors::{ANSWERS, FAST, SDK_REQUESTS, SDK_STUFFED};

fn fast_part(id: u8, data: &[u8]) -> Status<'_> {
    Status { id, alert: false, refusal: None, data }
}

#[test]
fn requests_are_the_sdks_bytes_in_both_directions() {
    for (request, bytes) in SDK_REQUESTS.into_iter().chain(SDK_STUFFED) {
        let mut out = PacketBuf::new();
        request.emit(&mut out).unwrap();
        assert_eq!(out, bytes, "{request:?}");
        assert_eq!(Request::parse(&Packet::new_checked(&mut out).unwrap()), Some(request));
    }
}

#[test]
fn answers_are_the_manuals_and_the_sdks_bytes_in_both_directions() {
    for (status, bytes) in ANSWERS {
        let mut out = PacketBuf::new();
        status.emit(&mut out).unwrap();
        assert_eq!(out, bytes, "{status:?}");
        assert_eq!(Status::parse(&Packet::new_checked(&mut out).unwrap()), Some(status));
    }
}

#[test]
fn every_error_byte_is_kept() {
    for error in 0..=255 {
        assert_eq!(Status::new(1, error, &[]).error(), error);
    }
}

#[test]
fn a_request_that_does_not_fit_is_refused() {
    let data = [0; MAX_PARAMETERS];
    let mut out = PacketBuf::new();
    let longest = data.get(2..).unwrap();
    assert_eq!(Request::Write { id: 1, address: 0, data: longest }.emit(&mut out), Ok(()));
    assert_eq!(out.len(), MAX_PACKET);
    assert_eq!(Request::Write { id: 1, address: 0, data: &data }.emit(&mut out), Err(TooLong));
    let stuffed = [0xFF, 0xFF, 0xFD].repeat(MAX_PARAMETERS / 4);
    assert_eq!(Request::Write { id: 1, address: 0, data: &stuffed }.emit(&mut out), Ok(()));
    let stuffed = [0xFF, 0xFF, 0xFD].repeat(MAX_PARAMETERS / 4 + 1);
    assert_eq!(Request::Write { id: 1, address: 0, data: &stuffed }.emit(&mut out), Err(TooLong));
    assert!(FastDecoder::new(std::iter::repeat_n(4, 127)).is_ok());
    assert!(FastDecoder::new(std::iter::repeat(4)).is_err());
}

#[test]
fn a_bulk_write_with_half_a_block_is_no_request() {
    let mut out = PacketBuf::new();
    Request::BulkWrite { blocks: &[1, 116, 0, 4, 0, 1, 2, 3] }.emit(&mut out).unwrap();
    assert_eq!(Request::parse(&Packet::new_checked(&mut out).unwrap()), None);
    let blocks = [bulk_block(1, 116, 2).as_slice(), &[9, 8], &bulk_block(2, 64, 0)].concat();
    let found: Vec<_> = bulk_writes(&blocks).collect();
    assert_eq!(found, [(1, 116, [9, 8].as_slice()), (2, 64, &[])]);
    let reads: Vec<_> = bulk_reads(&bulk_block(7, 0x1234, 0x5678)).collect();
    assert_eq!(reads, [(7, 0x1234, 0x5678)]);
}

/// Ids and data of a fast read's parts, `None` for a damaged one, fed in pieces of `cut` bytes.
fn decode_fast(sizes: &[u16], stream: &[u8], cut: usize) -> Vec<Option<(u8, Vec<u8>)>> {
    let mut decoder = FastDecoder::new(sizes.iter().copied()).unwrap();
    let mut found = Vec::new();
    for mut piece in stream.chunks(cut) {
        while let Some(part) = decoder.next(&mut piece) {
            match part {
                Ok(status) => found.push(Some((status.id, status.data.to_vec()))),
                Err(Damage::Crc { .. }) => found.push(None),
                Err(_) => {}
            }
        }
    }
    found
}

#[test]
fn a_fast_answer_is_the_manuals_in_both_directions() {
    let data: [&[u8]; 3] = [&[0xA6, 0, 0, 0], &[0x1F, 8, 0, 0], &[0xFF, 3, 0, 0]];
    let parts = [3, 7, 4].into_iter().zip(data).map(|(id, data)| fast_part(id, data));
    let mut out = PacketBuf::new();
    emit_fast(&mut out, parts.clone()).unwrap();
    assert_eq!(out, FAST);
    let expected: Vec<_> = parts.map(|part| Some((part.id, part.data.to_vec()))).collect();
    for garbage in [&[][..], &[0xFF], &[0xFF, 0xFF, 0xFD, 0x00], &[0x00, 0xFD]] {
        let stream = [garbage, &FAST].concat();
        for cut in 1..=stream.len() {
            assert_eq!(decode_fast(&[4, 4, 4], &stream, cut), expected, "in pieces of {cut}");
        }
    }
}

#[test]
fn damage_in_a_fast_answer_hides_no_other_servo() {
    let whole = decode_fast(&[4; 3], &FAST, 99);
    for at in 8..FAST.len() {
        let mut bytes = FAST;
        bytes[at] ^= 0x10;
        let found = decode_fast(&[4; 3], &bytes, 99);
        let (part, in_crc) = ((at - 8) / 8, at % 8 >= 6);
        for (index, (found, true_one)) in found.iter().zip(&whole).enumerate() {
            let hit = index == part || in_crc && index == part + 1;
            assert_eq!(found.as_ref(), true_one.as_ref().filter(|_| !hit), "changed at {at}");
        }
        // A byte that never comes.
        let short = [&FAST[..at], &FAST[at + 1..]].concat();
        assert_eq!(decode_fast(&[4; 3], &short, 99)[..part], whole[..part], "dropped at {at}");
        // All that follow never come.
        assert_eq!(decode_fast(&[4; 3], &FAST[..at], 99), whole[..part], "ends at {at}");
    }
}

#[test]
fn a_fast_answer_is_no_status_of_one_servo() {
    let mut bytes = FAST;
    assert_eq!(Status::parse(&Packet::new_checked(&mut bytes).unwrap()), None);
}

/// Ids, instructions and parameters of the packets in `stream`, fed in pieces of `cuts` bytes.
fn decode(
    decoder: &mut Decoder,
    stream: &[u8],
    mut cuts: impl Iterator<Item = usize>,
) -> Vec<(u8, u8, Vec<u8>)> {
    let mut found = Vec::new();
    let mut rest = stream;
    while !rest.is_empty() {
        let (mut piece, later) = rest.split_at(cuts.next().unwrap_or(1).clamp(1, rest.len()));
        rest = later;
        while let Some(event) = decoder.next(&mut piece) {
            if let Ok(packet) = event {
                found.push((packet.id, packet.instruction, packet.parameters.to_vec()));
            }
        }
        assert!(piece.is_empty());
    }
    found
}

fn packet(id: u8, instruction: u8, parameters: &[u8]) -> Vec<u8> {
    let mut out = PacketBuf::new();
    emit(&mut out, id, instruction, &[parameters]).unwrap();
    out.to_vec()
}

/// Bytes of which headers and stuffing are made, among others.
fn byte() -> impl Strategy<Value = u8> + Clone {
    prop_oneof![3 => Just(0xFF), 2 => Just(0xFD), 1 => Just(0x00), 1 => Just(0x05), 2 => any::<u8>()]
}

/// Streams in which packets, pieces of packets and noise with many header bytes follow each other.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let whole = (0..=MAX_ID, any::<u8>(), prop::collection::vec(byte(), 0..16))
        .prop_map(|(id, instruction, parameters)| packet(id, instruction, &parameters));
    let torn = (whole.clone(), 0usize..24).prop_map(|(mut p, cut)| {
        p.truncate(cut);
        p
    });
    let noise = prop::collection::vec(byte(), 0..20);
    prop::collection::vec(prop_oneof![3 => whole, 1 => torn, 1 => noise], 0..12)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn any_cuts_find_what_the_whole_finds(
        bytes in stream(),
        cuts in prop::collection::vec(1usize..9, 1..64),
        longest in 0usize..1100,
    ) {
        let mut whole = Decoder::default();
        whole.restart(longest);
        let mut cut = whole.clone();
        let expected = decode(&mut whole, &bytes, std::iter::repeat(usize::MAX));
        prop_assert_eq!(decode(&mut cut, &bytes, cuts.into_iter().cycle()), expected);
    }

    #[test]
    fn random_bytes_never_panic_and_only_checked_packets_come_out(
        mut bytes in prop::collection::vec(byte(), 0..600),
        sizes in prop::collection::vec(0u16..9, 0..9),
    ) {
        for (id, code, parameters) in decode(&mut Decoder::default(), &bytes, std::iter::repeat(7)) {
            let again = packet(id, code, &parameters);
            prop_assert!(bytes.windows(again.len()).any(|window| window == again));
        }
        decode_fast(&sizes, &bytes, 5);
        let _ = Packet::new_checked(&mut bytes).map(|p| Request::parse(&p));
    }

    #[test]
    fn one_or_two_changed_neighbours_are_never_accepted(
        id in 0..=MAX_ID,
        instruction in any::<u8>(),
        parameters in prop::collection::vec(byte(), 0..16),
        at in any::<prop::sample::Index>(),
        change in 1u16..,
    ) {
        let mut bytes = packet(id, instruction, &parameters);
        // The CRC's low byte is sent first: with the last byte before it, it is no burst of 16 bits.
        let before_crc = bytes.len() - 3;
        let at = at.index(bytes.len() - 1);
        let at = if at == before_crc { at + 1 } else { at };
        bytes[at] ^= change as u8;
        bytes[at + 1] ^= (change >> 8) as u8;
        prop_assert!(Packet::new_checked(&mut bytes).is_err());
    }

    #[test]
    fn any_parameters_come_back(
        id in 0..=MAX_ID,
        instruction in any::<u8>(),
        parameters in prop::collection::vec(byte(), 0..200),
    ) {
        let mut bytes = packet(id, instruction, &parameters);
        let body = &bytes[4..bytes.len() - 2];
        prop_assert!(!body.windows(4).any(|four| four == [0xFF, 0xFF, 0xFD, 0x00]));
        let found = Packet::new_checked(&mut bytes).unwrap();
        prop_assert_eq!(found, Packet { id, instruction, parameters: &parameters });
    }

    #[test]
    fn after_garbage_no_packet_is_lost(
        garbage in prop::collection::vec(byte(), 0..40),
        data in prop::collection::vec(byte(), 8),
    ) {
        let mut stream = garbage;
        for id in 1..=6 {
            stream.extend(packet(id, 0x55, &data));
        }
        let found: Vec<u8> = decode(&mut Decoder::default(), &stream, std::iter::repeat(5))
            .iter().map(|p| p.0).collect();
        prop_assert!(found.ends_with(&[1, 2, 3, 4, 5, 6]), "{:?}", found);
    }

    #[test]
    fn the_crc_is_the_division(start in any::<u16>(), bytes in prop::collection::vec(any::<u8>(), 0..40)) {
        let mut sum = start;
        for byte in &bytes {
            sum ^= u16::from(*byte) << 8;
            for _ in 0..8 {
                sum = if sum & 0x8000 == 0 { sum << 1 } else { (sum << 1) ^ 0x8005 };
            }
        }
        prop_assert_eq!(crc(start, &bytes), sum);
    }
}

#[test]
fn one_fault_at_any_byte_costs_at_most_the_answer_it_is_in() {
    let answers: Vec<Vec<u8>> =
        (1..=6).map(|id| packet(id, 0x55, &[0, id, 0x08, 0xFF, 0xFF, 0xFD, 0xFF, 121])).collect();
    let stream = answers.concat();
    for at in 0..stream.len() {
        let faults: [(&str, Vec<u8>); 6] = [
            ("flip", [&stream[..at], &[stream[at] ^ 0x10], &stream[at + 1..]].concat()),
            ("drop", [&stream[..at], &stream[at + 1..]].concat()),
            ("double", [&stream[..=at], &stream[at..]].concat()),
            ("insert FF", [&stream[..at], &[0xFF], &stream[at..]].concat()),
            ("insert FD", [&stream[..at], &[0xFD], &stream[at..]].concat()),
            ("insert 00", [&stream[..at], &[0x00], &stream[at..]].concat()),
        ];
        for (fault, bytes) in faults {
            let mut decoder = Decoder::default();
            decoder.restart(8);
            let found = decode(&mut decoder, &bytes, std::iter::repeat(9));
            let right =
                found.iter().filter(|p| packet(p.0, p.1, &p.2) == answers[usize::from(p.0) - 1]);
            assert!(right.count() >= 5, "{fault} at {at}: {found:?}");
            assert!(found.len() <= 6, "{fault} at {at}: {found:?}");
        }
    }
}
