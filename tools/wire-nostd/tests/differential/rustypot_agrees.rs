//! `rustypot` puts the same bytes on the wire and reads the same from it.

use proptest::prelude::*;
use rustypot::DynamixelProtocolHandler;
use wire_nostd::wire::{dynamixel, feetech};

use crate::port::exchange;
use crate::{
    bytes, damage, dynamixel_answer, dynamixel_answers, dynamixel_request, dynamixel_status,
    feetech_answer, feetech_answers, feetech_request, rng,
};

const CASES: u64 = 20_000;
const SEED: u64 = 1;

/// Bytes of which headers and stuffing are made, among others.
fn byte() -> impl Strategy<Value = u8> {
    prop_oneof![3 => Just(0xFF), 1 => Just(0xFD), 4 => any::<u8>()]
}

/// Distinct servos with data of one size.
fn servos(size: usize) -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let ids = prop::collection::hash_set(0..=252u8, 1..8);
    ids.prop_flat_map(move |ids| {
        let data = prop::collection::vec(prop::collection::vec(byte(), size), ids.len());
        (Just(ids), data).prop_map(|(ids, data)| ids.into_iter().zip(data).collect())
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn feetech_with_one_servo(
        id in 0..=252u8,
        address in any::<u8>(),
        error in any::<u8>(),
        data in prop::collection::vec(byte(), 1..40),
    ) {
        let v1 = DynamixelProtocolHandler::v1();
        let size = data.len() as u8;
        let silent = feetech_answer(id, error, &[]);

        let (sent, there) = exchange(&silent, |port| v1.ping(port, id));
        prop_assert_eq!(sent, feetech_request(feetech::Request::Ping { id }));
        prop_assert!(there.unwrap());
        let (sent, done) = exchange(&silent, |port| v1.reboot(port, id));
        prop_assert_eq!(sent, feetech_request(feetech::Request::Reboot { id }));
        prop_assert!(done.unwrap());
        let (sent, done) = exchange(&silent, |port| v1.factory_reset(port, id, false, false));
        prop_assert_eq!(sent, feetech_request(feetech::Request::FactoryReset { id }));
        done.unwrap();
        let (sent, done) = exchange(&silent, |port| v1.write_with_error(port, id, address, &data));
        let request = feetech::Request::Write { id, address, data: &data };
        prop_assert_eq!(sent, feetech_request(request));
        prop_assert_eq!(done.unwrap().byte(), error);
        let answer = feetech_answer(id, error, &data);
        let (sent, read) = exchange(&answer, |port| v1.read_with_error(port, id, address, size));
        prop_assert_eq!(sent, feetech_request(feetech::Request::Read { id, address, size }));
        let (found, found_error) = read.unwrap();
        prop_assert_eq!((found, found_error.byte()), (data, error));
    }

    #[test]
    fn feetech_with_several_servos(address in any::<u8>(), servos in servos(4)) {
        let v1 = DynamixelProtocolHandler::v1();
        let (ids, data): (Vec<u8>, Vec<Vec<u8>>) = servos.iter().cloned().unzip();
        let answers: Vec<u8> =
            servos.iter().flat_map(|(id, data)| feetech_answer(*id, 0, data)).collect();
        let (sent, read) = exchange(&answers, |port| v1.sync_read(port, &ids, address, 4));
        let request = feetech::Request::SyncRead { address, size: 4, ids: &ids };
        prop_assert_eq!(sent, feetech_request(request));
        prop_assert_eq!(&read.unwrap(), &data);
        let (sent, done) = exchange(&[], |port| v1.sync_write(port, &ids, address, &data));
        let blocks: Vec<u8> =
            servos.iter().flat_map(|(id, data)| [&[*id], data.as_slice()].concat()).collect();
        let request = feetech::Request::SyncWrite { address, size: 4, blocks: &blocks };
        prop_assert_eq!(sent, feetech_request(request));
        done.unwrap();
        let (sent, found) = exchange(&answers, |port| v1.broadcast_ping(port));
        let everyone = feetech::Request::Ping { id: feetech::BROADCAST };
        prop_assert_eq!(sent, feetech_request(everyone));
        prop_assert_eq!(found.unwrap(), ids);
    }

    #[test]
    fn dynamixel_with_one_servo(
        id in 0..=252u8,
        address in any::<u8>(),
        error in any::<u8>(),
        data in prop::collection::vec(byte(), 1..40),
    ) {
        let v2 = DynamixelProtocolHandler::v2();
        let register = u16::from(address);
        let size = data.len() as u8;
        let silent = dynamixel_answer(id, error, &[]);

        let (sent, there) = exchange(&silent, |port| v2.ping(port, id));
        prop_assert_eq!(sent, dynamixel_request(dynamixel::Request::Ping { id }));
        prop_assert!(there.unwrap());
        let (sent, done) = exchange(&silent, |port| v2.reboot(port, id));
        prop_assert_eq!(sent, dynamixel_request(dynamixel::Request::Reboot { id }));
        prop_assert!(done.unwrap());
        for (keep, keep_id, keep_baud) in [
            (dynamixel::Keep::Nothing, false, false),
            (dynamixel::Keep::Id, true, false),
            (dynamixel::Keep::IdAndBaudRate, true, true),
        ] {
            let (sent, done) =
                exchange(&silent, |port| v2.factory_reset(port, id, keep_id, keep_baud));
            prop_assert_eq!(sent, dynamixel_request(dynamixel::Request::FactoryReset { id, keep }));
            done.unwrap();
        }
        let (sent, done) = exchange(&silent, |port| v2.write_with_error(port, id, address, &data));
        let request = dynamixel::Request::Write { id, address: register, data: &data };
        prop_assert_eq!(sent, dynamixel_request(request));
        prop_assert_eq!(done.unwrap().byte(), error);
        let answer = dynamixel_answer(id, error, &data);
        let (sent, read) = exchange(&answer, |port| v2.read_with_error(port, id, address, size));
        let request = dynamixel::Request::Read { id, address: register, size: size.into() };
        prop_assert_eq!(sent, dynamixel_request(request));
        let (found, found_error) = read.unwrap();
        prop_assert_eq!((found, found_error.byte()), (data, error));
    }

    #[test]
    fn dynamixel_with_several_servos(address in any::<u8>(), servos in servos(4)) {
        let v2 = DynamixelProtocolHandler::v2();
        let register = u16::from(address);
        let (ids, data): (Vec<u8>, Vec<Vec<u8>>) = servos.iter().cloned().unzip();
        let answers: Vec<u8> =
            servos.iter().flat_map(|(id, data)| dynamixel_answer(*id, 0, data)).collect();
        let (sent, read) = exchange(&answers, |port| v2.sync_read(port, &ids, address, 4));
        let request = dynamixel::Request::SyncRead { address: register, size: 4, ids: &ids };
        prop_assert_eq!(sent, dynamixel_request(request));
        prop_assert_eq!(&read.unwrap(), &data);
        let mut fast = dynamixel::PacketBuf::new();
        let parts = servos.iter().map(|(id, data)| dynamixel_status(*id, 0, data));
        dynamixel::emit_fast(&mut fast, parts).unwrap();
        let (sent, read) = exchange(&fast, |port| v2.fast_sync_read(port, &ids, address, 4));
        let request = dynamixel::Request::FastSyncRead { address: register, size: 4, ids: &ids };
        prop_assert_eq!(sent, dynamixel_request(request));
        prop_assert_eq!(&read.unwrap(), &data);
        let (sent, done) = exchange(&[], |port| v2.sync_write(port, &ids, address, &data));
        let blocks: Vec<u8> =
            servos.iter().flat_map(|(id, data)| [&[*id], data.as_slice()].concat()).collect();
        let request = dynamixel::Request::SyncWrite { address: register, size: 4, blocks: &blocks };
        prop_assert_eq!(sent, dynamixel_request(request));
        done.unwrap();
        let (sent, found) = exchange(&answers, |port| v2.broadcast_ping(port));
        let everyone = dynamixel::Request::Ping { id: dynamixel::BROADCAST };
        prop_assert_eq!(sent, dynamixel_request(everyone));
        prop_assert_eq!(found.unwrap(), ids);
    }
}

#[test]
fn feetech_answers_that_rustypot_takes_we_take_and_no_other_whole_packet() {
    let (mut taken, mut refused) = (0, 0);
    for case in 0..CASES {
        let mut rng = rng(SEED, case);
        let (id, error) = (rng.random_range(0..=252), rng.random());
        let data = bytes(&mut rng, case as usize % 12);
        let answer = damage(&mut rng, feetech_answer(id, error, &data));
        let (_, theirs) =
            exchange(&answer, |p| DynamixelProtocolHandler::v1().read_with_error(p, id, 56, 0));
        let theirs = theirs.ok().map(|(data, error)| (id, error.byte(), data));
        let whole = feetech::Packet::new_checked(&answer).ok().map(|p| feetech::Status::parse(&p));
        let whole = whole.filter(|s| s.id == id).map(|s| (s.id, s.error, s.data.to_vec()));
        match theirs {
            Some(theirs) => {
                taken += 1;
                let ours = feetech_answers(&answer);
                assert!(ours.contains(&theirs), "seed {SEED}, case {case}: {answer:02X?}");
            }
            None => {
                refused += 1;
                assert_eq!(whole, None, "seed {SEED}, case {case}: {answer:02X?}");
            }
        }
    }
    assert!(taken > CASES / 20 && refused > CASES / 20, "{taken} taken, {refused} refused");
}

#[test]
fn dynamixel_answers_that_rustypot_takes_we_take_and_no_other_whole_packet() {
    let (mut taken, mut refused) = (0, 0);
    for case in 0..CASES {
        let mut rng = rng(SEED, case);
        let (id, error) = (rng.random_range(0..=252), rng.random());
        let data = bytes(&mut rng, case as usize % 12);
        let answer = damage(&mut rng, dynamixel_answer(id, error, &data));
        let (_, theirs) =
            exchange(&answer, |p| DynamixelProtocolHandler::v2().read_with_error(p, id, 132, 0));
        let theirs = theirs.ok().map(|(data, error)| (id, error.byte(), data));
        match theirs {
            Some(theirs) => {
                taken += 1;
                let ours = dynamixel_answers(&answer);
                assert!(ours.contains(&theirs), "seed {SEED}, case {case}: {answer:02X?}");
            }
            None => {
                refused += 1;
                let mut copy = answer.clone();
                let whole = dynamixel::Packet::new_checked(&mut copy).ok();
                let whole = whole.and_then(|p| dynamixel::Status::parse(&p));
                assert_eq!(whole.filter(|s| s.id == id), None, "seed {SEED}, case {case}");
            }
        }
    }
    assert!(taken > CASES / 20 && refused > CASES / 20, "{taken} taken, {refused} refused");
}

/// `rustypot` takes a packet in which the stuffing is missing; we don't, since then a header inside
/// a packet would be data.
#[test]
fn only_we_refuse_an_answer_without_its_stuffing() {
    // `dynamixel_sdk`'s updateCRC over the bytes before.
    let answer = [0xFF, 0xFF, 0xFD, 0, 1, 8, 0, 0x55, 0, 0xFF, 0xFF, 0xFD, 0xA6, 0x43, 0xB5];
    let (_, theirs) = exchange(&answer, |p| DynamixelProtocolHandler::v2().read(p, 1, 132, 4));
    assert_eq!(theirs.unwrap(), [0xFF, 0xFF, 0xFD, 0xA6]);
    let ours = dynamixel::Packet::new_checked(&mut { answer }).map(|_| ());
    assert_eq!(ours, Err(dynamixel::Damage::Stuffing { id: 1 }));
}

#[test]
fn fast_answers_that_rustypot_takes_we_take() {
    let (mut taken, mut partly) = (0, 0);
    for case in 0..CASES {
        let mut rng = rng(SEED, case);
        let ids = [3, 7, 4, 1];
        let data = ids.map(|_| bytes(&mut rng, 4));
        let mut answer = dynamixel::PacketBuf::new();
        let parts = ids.iter().zip(&data).map(|(id, data)| dynamixel_status(*id, 0x80, data));
        dynamixel::emit_fast(&mut answer, parts).unwrap();
        let answer = damage(&mut rng, answer.to_vec());
        let v2 = DynamixelProtocolHandler::v2();
        let (_, theirs) = exchange(&answer, |port| v2.fast_sync_read(port, &ids, 132, 4));
        let mut decoder = dynamixel::FastDecoder::new(std::iter::repeat_n(4, 4)).unwrap();
        let (mut rest, mut ours) = (answer.as_slice(), Vec::new());
        while let Some(event) = decoder.next(&mut rest) {
            ours.extend(event.map(|status| status.data.to_vec()));
        }
        match theirs {
            Ok(theirs) => {
                taken += 1;
                assert_eq!(ours, theirs, "seed {SEED}, case {case}: {answer:02X?}");
            }
            Err(_) => partly += u64::from(!ours.is_empty()),
        }
    }
    assert!(taken > CASES / 20 && partly > CASES / 20, "{taken} taken, {partly} partly by us");
}
