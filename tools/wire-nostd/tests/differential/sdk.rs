//! The vendors' SDKs put the same bytes on the wire and read the same from it; run by
//! `tools/sdk_check/run`, which passes what they say in a folder.

use std::path::PathBuf;

use rand::RngExt as _;
use rand_chacha::ChaCha8Rng as Rng;
use serde::{Deserialize, Serialize};
use wire_nostd::wire::{dynamixel, feetech};

use crate::{
    bytes, damage, dynamixel_answer, dynamixel_answers, dynamixel_request, feetech_answer,
    feetech_answers, feetech_request, rng,
};

const CASES: u64 = 4_000;
const SEED: u64 = 1;

/// Bytes that may be an answer of servo `id` with `size` bytes of data.
#[derive(Serialize, Deserialize)]
struct Answer {
    protocol: u8,
    id: u8,
    size: usize,
    bytes: Vec<u8>,
    damaged: bool,
}

/// A request and the bytes that an SDK made of it.
#[derive(Deserialize, Debug)]
struct Asked {
    protocol: u8,
    kind: String,
    id: u8,
    address: u16,
    size: u16,
    data: Vec<u8>,
    bytes: Vec<u8>,
}

/// What the SDKs say: to each answer its error byte and data, or nothing.
#[derive(Deserialize)]
struct Said {
    requests: Vec<Asked>,
    verdicts: Vec<Option<(u8, Vec<u8>)>>,
}

fn folder() -> PathBuf {
    let folder = std::env::var_os("REGOAL_SDK_FOLDER");
    folder.expect("expected the folder of tools/sdk_check/run in REGOAL_SDK_FOLDER").into()
}

fn answer(rng: &mut Rng, protocol: u8) -> Answer {
    let (id, size) = (rng.random_range(0..=252), rng.random_range(1..12));
    let data = bytes(rng, size);
    let whole = match protocol {
        // The SDK takes no other error bytes for one.
        1 => feetech_answer(id, rng.random_range(0..0x80), &data),
        _ => dynamixel_answer(id, rng.random(), &data),
    };
    let bytes = if rng.random() { whole.clone() } else { damage(rng, whole.clone()) };
    Answer { protocol, id, size, damaged: bytes != whole, bytes }
}

#[test]
#[ignore = "run by tools/sdk_check/run"]
#[allow(clippy::disallowed_methods, reason = "for the SDKs to read")]
fn answers_for_the_sdks() {
    let answers: Vec<Answer> =
        (0..CASES).map(|case| answer(&mut rng(SEED, case), 1 + (case % 2) as u8)).collect();
    std::fs::write(folder().join("answers.json"), serde_json::to_vec(&answers).unwrap()).unwrap();
}

/// Whether `dynamixel_sdk` takes a byte of data for stuffing: after the first that it has taken out, it
/// looks for `FF FF FD FD` in bytes of which it has already moved one, and finds it in `FF FD FD`.
fn misread_by_the_sdk(answer: &Answer) -> bool {
    let stuffed = |four: &[u8]| four == [0xFF, 0xFF, 0xFD, 0xFD];
    let misread = |four: &[u8]| four[0] != 0xFF && four[1..] == [0xFF, 0xFD, 0xFD];
    let first = answer.bytes.windows(4).position(stuffed);
    answer.protocol == 2
        && first.is_some_and(|first| answer.bytes[first + 3..].windows(4).any(misread))
}

#[test]
#[ignore = "run by tools/sdk_check/run"]
fn the_sdks_read_what_we_read() {
    let answers: Vec<Answer> = read("answers.json");
    let verdicts = read::<Said>("said.json").verdicts;
    assert_eq!(answers.len(), verdicts.len());
    let (mut taken, mut refused, mut misread) = (0, 0, 0);
    for (answer, verdict) in answers.iter().zip(verdicts) {
        if misread_by_the_sdk(answer) {
            misread += 1;
            continue;
        }
        let ours = match answer.protocol {
            1 => feetech_answers(&answer.bytes),
            _ => dynamixel_answers(&answer.bytes),
        };
        match verdict {
            Some((error, data)) if data.len() == answer.size => {
                taken += 1;
                assert!(ours.contains(&(answer.id, error, data)), "{:02X?}", answer.bytes);
            }
            _ => {
                refused += 1;
                assert!(answer.damaged, "refused by the SDK: {:02X?}", answer.bytes);
            }
        }
    }
    println!("{taken} taken, {refused} damaged ones refused, {misread} misread by the SDKs");
    assert!(taken > CASES / 4 && refused > CASES / 20 && misread < CASES / 20);
}

#[test]
#[ignore = "run by tools/sdk_check/run"]
fn requests_are_the_sdks() {
    let requests = read::<Said>("said.json").requests;
    for asked in &requests {
        match asked.protocol {
            1 => feetech_agrees(asked),
            _ => dynamixel_agrees(asked),
        }
    }
    println!("{} requests are the SDKs'", requests.len());
    assert!(requests.len() as u64 > CASES / 2);
}

fn read<T: for<'de> Deserialize<'de>>(name: &str) -> T {
    let path = folder().join(name);
    let text = std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_slice(&text).unwrap()
}

fn feetech_agrees(asked: &Asked) {
    use feetech::Request;
    let (id, address, size, data) =
        (asked.id, asked.address as u8, asked.size as u8, asked.data.as_slice());
    let request = match asked.kind.as_str() {
        "ping" => Request::Ping { id },
        "read" => Request::Read { id, address, size },
        "write" => Request::Write { id, address, data },
        "reg_write" => Request::RegWrite { id, address, data },
        "action" => Request::Action { id },
        "sync_read" => Request::SyncRead { address, size, ids: data },
        "sync_write" => Request::SyncWrite { address, size, blocks: data },
        other => panic!("{other}"),
    };
    assert_eq!(feetech_request(request), asked.bytes, "{asked:?}");
    assert_eq!(Request::parse(&feetech::Packet::new_checked(&asked.bytes).unwrap()), Some(request));
}

fn dynamixel_agrees(asked: &Asked) {
    use dynamixel::Request;
    let (id, address, size, data) = (asked.id, asked.address, asked.size, asked.data.as_slice());
    let request = match asked.kind.as_str() {
        "ping" => Request::Ping { id },
        "read" => Request::Read { id, address, size },
        "write" => Request::Write { id, address, data },
        "reg_write" => Request::RegWrite { id, address, data },
        "action" => Request::Action { id },
        "reboot" => Request::Reboot { id },
        "clear_multi_turn" => Request::ClearMultiTurn { id },
        "factory_reset_all" => Request::FactoryReset { id, keep: dynamixel::Keep::Nothing },
        "factory_reset_id" => Request::FactoryReset { id, keep: dynamixel::Keep::Id },
        "sync_read" => Request::SyncRead { address, size, ids: data },
        "fast_sync_read" => Request::FastSyncRead { address, size, ids: data },
        "sync_write" => Request::SyncWrite { address, size, blocks: data },
        "bulk_read" => Request::BulkRead { blocks: data },
        "fast_bulk_read" => Request::FastBulkRead { blocks: data },
        "bulk_write" => Request::BulkWrite { blocks: data },
        other => panic!("{other}"),
    };
    assert_eq!(dynamixel_request(request), asked.bytes, "{asked:?}");
    let mut bytes = asked.bytes.clone();
    let packet = dynamixel::Packet::new_checked(&mut bytes).unwrap();
    assert_eq!(Request::parse(&packet), Some(request));
}
