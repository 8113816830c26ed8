use proptest::prelude::*;

use super::*;

/// Requests as `feetech-servo-sdk` 1.0.0 (PyPI, `scservo_sdk`) puts them on the wire: `txPacket`,
/// `readTx`, `write1ByteTxOnly`, `write2ByteTxOnly`, `regWriteTxOnly`, `action`,
/// `GroupSyncRead.txPacket`, `GroupSyncWrite.txPacket`, recorded from a stub port.
const SDK_REQUESTS: [(Request<'static>, &[u8]); 8] = [
    (Request::Ping { id: 1 }, &[0xFF, 0xFF, 0x01, 0x02, 0x01, 0xFB]),
    (
        Request::Read { id: 3, address: 56, size: 8 },
        &[0xFF, 0xFF, 0x03, 0x04, 0x02, 0x38, 0x08, 0xB6],
    ),
    (
        Request::Write { id: 5, address: 40, data: &[1] },
        &[0xFF, 0xFF, 0x05, 0x04, 0x03, 0x28, 0x01, 0xCA],
    ),
    (
        Request::Write { id: 1, address: 42, data: &[0x00, 0x08] },
        &[0xFF, 0xFF, 0x01, 0x05, 0x03, 0x2A, 0x00, 0x08, 0xC4],
    ),
    (
        Request::RegWrite { id: 2, address: 42, data: &[0x34, 0x02] },
        &[0xFF, 0xFF, 0x02, 0x05, 0x04, 0x2A, 0x34, 0x02, 0x94],
    ),
    (Request::Action { id: BROADCAST }, &[0xFF, 0xFF, 0xFE, 0x02, 0x05, 0xFA]),
    (
        Request::SyncRead { address: 56, size: 8, ids: &[1, 2, 3, 4, 5, 6] },
        &[0xFF, 0xFF, 0xFE, 0x0A, 0x82, 0x38, 0x08, 1, 2, 3, 4, 5, 6, 0x20],
    ),
    (
        Request::SyncWrite {
            address: 42,
            size: 2,
            blocks: &[1, 0xD1, 0x07, 2, 0xD2, 0x07, 3, 0xD3, 0x07],
        },
        &[
            0xFF, 0xFF, 0xFE, 0x0D, 0x83, 0x2A, 0x02, 1, 0xD1, 0x07, 2, 0xD2, 0x07, 3, 0xD3, 0x07,
            0xB4,
        ],
    ),
];

/// An answer that `scservo_sdk`'s `readRx` takes as position 1304 of servo 1 with the overload bit:
/// it returned `([24, 5], 0, 32)`.
const SDK_STATUS: [u8; 8] = [0xFF, 0xFF, 0x01, 0x04, 0x20, 0x18, 0x05, 0xBD];

#[test]
fn requests_are_the_sdks_bytes_in_both_directions() {
    for (request, bytes) in SDK_REQUESTS {
        let mut out = PacketBuf::new();
        request.emit(&mut out).unwrap();
        assert_eq!(out, bytes, "{request:?}");
        assert_eq!(Request::parse(&Packet::new_checked(bytes).unwrap()), Some(request));
    }
}

#[test]
fn an_answer_with_trouble_keeps_its_data() {
    let packet = Packet::new_checked(&SDK_STATUS).unwrap();
    let expected = Status { id: 1, error: status::OVERLOAD, data: &[24, 5] };
    assert_eq!(Status::parse(&packet), expected);
    let mut out = PacketBuf::new();
    expected.emit(&mut out).unwrap();
    assert_eq!(out, SDK_STATUS);
}

/// Reboot and factory reset as `rustypot` 1.13.1 puts them on the wire.
#[test]
fn what_only_rustypot_knows_is_its_bytes_in_both_directions() {
    let requests: [(Request<'_>, &[u8]); 2] = [
        (Request::Reboot { id: 2 }, &[0xFF, 0xFF, 0x02, 0x02, 0x08, 0xF3]),
        (Request::FactoryReset { id: 2 }, &[0xFF, 0xFF, 0x02, 0x02, 0x06, 0xF5]),
    ];
    for (request, bytes) in requests {
        let mut out = PacketBuf::new();
        request.emit(&mut out).unwrap();
        assert_eq!(out, bytes, "{request:?}");
        assert_eq!(Request::parse(&Packet::new_checked(bytes).unwrap()), Some(request));
    }
}

#[test]
fn byte_orders_are_the_sdks() {
    // scservo_sdk: [SCS_LOBYTE(0x0834), SCS_HIBYTE(0x0834)] after SCS_SETEND(0) and SCS_SETEND(1).
    assert_eq!(ByteOrder::LittleEndian.bytes(0x0834), [0x34, 0x08]);
    assert_eq!(ByteOrder::BigEndian.bytes(0x0834), [0x08, 0x34]);
    // The bytes 5, 4 at an SCS0009's model number, 1284.
    assert_eq!(ByteOrder::BigEndian.word([5, 4]), 1284);
    assert_eq!(ByteOrder::LittleEndian.word([9, 3]), 777);
}

#[test]
fn sign_magnitude_is_the_sdks() {
    // scservo_sdk: SCS_TOHOST(0x8005, 15) == -5, SCS_TOSCS(-5, 15) == 0x8005.
    assert_eq!(from_sign_magnitude(0x8005, 15), -5);
    assert_eq!(to_sign_magnitude(-5, 15), Some(0x8005));
    assert_eq!(to_sign_magnitude(2048, 11), None);
    for bit in [10, 11, 15] {
        for value in [0, 1, -1, 1023, -1023] {
            let raw = to_sign_magnitude(value, bit).unwrap();
            assert_eq!(from_sign_magnitude(raw, bit), value);
        }
    }
}

#[test]
fn a_request_that_does_not_fit_is_refused() {
    let data = [0; MAX_PARAMETERS];
    let mut out = PacketBuf::new();
    let longest = data.get(1..).unwrap();
    assert_eq!(Request::Write { id: 1, address: 0, data: longest }.emit(&mut out), Ok(()));
    assert_eq!(out.len(), MAX_PACKET);
    assert_eq!(Request::Write { id: 1, address: 0, data: &data }.emit(&mut out), Err(TooLong));
}

/// The packets in `stream` and the bytes that belong to none, fed in pieces of `cuts` bytes.
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
                found.push((packet.id, packet.code, packet.parameters.to_vec()));
            }
        }
        assert!(piece.is_empty());
    }
    found
}

fn packet(id: u8, code: u8, parameters: &[u8]) -> Vec<u8> {
    let mut out = PacketBuf::new();
    emit(&mut out, id, code, &[parameters]).unwrap();
    out.to_vec()
}

/// Streams in which packets, pieces of packets and noise with many header bytes follow each other.
fn stream() -> impl Strategy<Value = Vec<u8>> {
    let whole = (0u8..=0xFE, any::<u8>(), prop::collection::vec(any::<u8>(), 0..12))
        .prop_map(|(id, code, parameters)| packet(id, code, &parameters));
    let torn = (whole.clone(), 0usize..18).prop_map(|(mut p, cut)| {
        p.truncate(cut);
        p
    });
    let noise = prop::collection::vec(prop_oneof![Just(0xFF), Just(0x04), any::<u8>()], 0..20);
    prop::collection::vec(prop_oneof![3 => whole, 1 => torn, 1 => noise], 0..12)
        .prop_map(|parts| parts.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn any_cuts_find_what_the_whole_finds(
        bytes in stream(),
        cuts in prop::collection::vec(1usize..9, 1..64),
        longest in 0usize..300,
    ) {
        let mut whole = Decoder::default();
        whole.restart(longest);
        let mut cut = whole.clone();
        let expected = decode(&mut whole, &bytes, std::iter::repeat(usize::MAX));
        prop_assert_eq!(decode(&mut cut, &bytes, cuts.into_iter().cycle()), expected);
    }

    #[test]
    fn random_bytes_never_panic_and_only_checked_packets_come_out(
        bytes in prop::collection::vec(prop_oneof![2 => Just(0xFFu8), 3 => any::<u8>()], 0..600),
    ) {
        for (id, code, parameters) in decode(&mut Decoder::default(), &bytes, std::iter::repeat(7)) {
            let again = packet(id, code, &parameters);
            prop_assert!(bytes.windows(again.len()).any(|window| window == again));
        }
        let _ = Packet::new_checked(&bytes).map(|p| Request::parse(&p));
    }

    #[test]
    fn one_changed_byte_is_never_accepted(
        id in 0u8..=0xFD,
        code in any::<u8>(),
        parameters in prop::collection::vec(any::<u8>(), 0..12),
        at in any::<prop::sample::Index>(),
        change in 1u8..=255,
    ) {
        let mut bytes = packet(id, code, &parameters);
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        prop_assert!(Packet::new_checked(&bytes).is_err());
    }

    #[test]
    fn after_garbage_at_most_one_packet_is_lost(
        garbage in prop::collection::vec(prop_oneof![Just(0xFFu8), Just(10), any::<u8>()], 0..40),
        parameters in prop::collection::vec(0u8..=0xFD, 8),
    ) {
        let mut stream = garbage;
        for id in 1..=6 {
            stream.extend(packet(id, 0, &parameters));
        }
        let mut decoder = Decoder::default();
        decoder.restart(parameters.len());
        let found: Vec<u8> =
            decode(&mut decoder, &stream, std::iter::repeat(5)).iter().map(|p| p.0).collect();
        prop_assert!(found.ends_with(&[2, 3, 4, 5, 6]), "{:?}", found);
    }
}

#[test]
fn a_false_header_before_the_last_answer_does_not_hide_it() {
    let mut stream = vec![0xFF, 0xFF, 0x01, 0x0A];
    stream.extend(packet(6, 0, &[1, 2, 3, 4, 5, 6, 7, 8]));
    let mut decoder = Decoder::default();
    decoder.restart(8);
    assert_eq!(decode(&mut decoder, &stream, std::iter::repeat(99)).len(), 1);
}

/// Not for data with FF in it: when such a byte is dropped, the checksum becomes data and the first
/// byte of the next packet, FF, is its right checksum. Only plausibility finds that.
#[test]
fn one_fault_at_any_byte_costs_at_most_the_answer_it_is_in() {
    let answers: Vec<Vec<u8>> =
        (1..=6).map(|id| packet(id, 0, &[id, 0x08, 0xFE, 0, 0, 0, 121, 35])).collect();
    let stream = answers.concat();
    for at in 0..stream.len() {
        let faults: [(&str, Vec<u8>); 5] = [
            ("flip", [&stream[..at], &[stream[at] ^ 0x10], &stream[at + 1..]].concat()),
            ("drop", [&stream[..at], &stream[at + 1..]].concat()),
            ("double", [&stream[..=at], &stream[at..]].concat()),
            ("insert FF", [&stream[..at], &[0xFF], &stream[at..]].concat()),
            ("insert 00", [&stream[..at], &[0x00], &stream[at..]].concat()),
        ];
        for (fault, bytes) in faults {
            let mut decoder = Decoder::default();
            decoder.restart(8);
            let found = decode(&mut decoder, &bytes, std::iter::repeat(9));
            let true_ones =
                found.iter().filter(|p| packet(p.0, p.1, &p.2) == answers[usize::from(p.0) - 1]);
            assert!(true_ones.count() >= 5, "{fault} at {at}: {found:?}");
            assert!(found.len() <= 6, "{fault} at {at}: {found:?}");
        }
    }
}
