//! The codecs against other people's: `rustypot` here, the vendors' SDKs by `tools/sdk_check/run`.
//! In this package, since `rustypot` brings more dependencies than the program's tests should wait for.

mod port;
mod rustypot_agrees;
mod sdk;

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng as Rng;
use wire_nostd::wire::{dynamixel, feetech};

/// The generator of one case.
fn rng(seed: u64, case: u64) -> Rng {
    let mut rng = Rng::seed_from_u64(seed);
    rng.set_stream(case);
    rng
}

fn feetech_request(request: feetech::Request<'_>) -> Vec<u8> {
    let mut out = feetech::PacketBuf::new();
    request.emit(&mut out).unwrap();
    out.to_vec()
}

fn feetech_answer(id: u8, error: u8, data: &[u8]) -> Vec<u8> {
    let mut out = feetech::PacketBuf::new();
    feetech::Status { id, error, data }.emit(&mut out).unwrap();
    out.to_vec()
}

fn dynamixel_request(request: dynamixel::Request<'_>) -> Vec<u8> {
    let mut out = dynamixel::PacketBuf::new();
    request.emit(&mut out).unwrap();
    out.to_vec()
}

fn dynamixel_status(id: u8, error: u8, data: &[u8]) -> dynamixel::Status<'_> {
    let refusal = dynamixel::Refusal::of_number(error & 0x7F);
    dynamixel::Status { id, alert: error & 0x80 != 0, refusal, data }
}

fn dynamixel_answer(id: u8, error: u8, data: &[u8]) -> Vec<u8> {
    let mut out = dynamixel::PacketBuf::new();
    dynamixel_status(id, error, data).emit(&mut out).unwrap();
    out.to_vec()
}

/// Ids, error bytes and data of all answers that our decoder finds.
fn feetech_answers(mut bytes: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
    let (mut decoder, mut found) = (feetech::Decoder::default(), Vec::new());
    while let Some(event) = decoder.next(&mut bytes) {
        let status = event.map(|packet| feetech::Status::parse(&packet));
        found.extend(status.map(|s| (s.id, s.error, s.data.to_vec())));
    }
    found
}

/// Ids, error bytes and data of all answers that our decoder finds.
fn dynamixel_answers(mut bytes: &[u8]) -> Vec<(u8, u8, Vec<u8>)> {
    let (mut decoder, mut found) = (dynamixel::Decoder::default(), Vec::new());
    while let Some(event) = decoder.next(&mut bytes) {
        let status = event.ok().and_then(|packet| dynamixel::Status::parse(&packet));
        found.extend(status.map(|s| (s.id, s.error(), s.data.to_vec())));
    }
    found
}

/// Bytes among which those of headers are frequent.
fn bytes(rng: &mut Rng, count: usize) -> Vec<u8> {
    let one = |rng: &mut Rng| match rng.random_range(0..8) {
        0..3 => 0xFF,
        3 => 0xFD,
        _ => rng.random(),
    };
    (0..count).map(|_| one(rng)).collect()
}

/// One damage: nothing, a flipped bit, two swapped neighbours, a byte more or less.
fn damage(rng: &mut Rng, mut bytes: Vec<u8>) -> Vec<u8> {
    let at = rng.random_range(0..bytes.len() - 1);
    match rng.random_range(0..6) {
        0 => {}
        1 => bytes[at] ^= 1 << rng.random_range(0..8),
        2 | 3 => bytes.swap(at, at + 1),
        4 => bytes.insert(at, rng.random()),
        _ => drop(bytes.remove(at)),
    }
    bytes
}
