//! F3: the reader on anything. Bytes change at random, or as records with their CRCs made right again,
//! so that damage comes past them to what decodes.

use std::path::Path;

use rand::{Rng as _, RngExt as _};
use regoal::episode::*;
use regoal::rng::Rng;
use serde_json::json;

use crate::bench::{number, report};
use crate::fixtures::*;

const MAGIC: usize = 8;
const HEAD: usize = 9;
const CHUNK: u8 = 6;
const DATA_END: u8 = 15;
const FOOTER: u8 = 2;
/// Where a chunk's CRC stands, and its records: both lengths and no compression before them.
const CHUNK_CRC: usize = HEAD + 24;
const CHUNK_RECORDS: usize = HEAD + 40;

/// The records of a file, each with its opcode and length.
fn records(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut rest = &bytes[MAGIC..bytes.len() - MAGIC];
    let mut records = Vec::new();
    while !rest.is_empty() {
        let len = u64::from_le_bytes(rest[1..HEAD].try_into().unwrap()) as usize + HEAD;
        records.push(rest[..len].to_vec());
        rest = &rest[len..];
    }
    records
}

/// A number that breaks things.
fn nasty(rng: &mut Rng) -> u64 {
    let near = 1u64 << rng.random_range(0..64);
    [0, u64::MAX, near, near - 1, rng.next_u64(), rng.random_range(0..4096)][rng.random_range(0..6)]
}

/// Changes something within a record's body.
fn change(record: &mut [u8], from: usize, rng: &mut Rng) {
    if record.len() <= from {
        return;
    }
    let at = rng.random_range(from..record.len());
    let end = (at + 8).min(record.len());
    match rng.random_range(0..4) {
        0 => record[at] ^= 1 << rng.random_range(0..8),
        1 => record[at] = rng.random(),
        2 => record[at..end].copy_from_slice(&nasty(rng).to_le_bytes()[..end - at]),
        _ => record[at..end].fill(0xff),
    }
}

fn mutate(records: &mut Vec<Vec<u8>>, rng: &mut Rng) {
    let at = rng.random_range(0..records.len());
    let other = rng.random_range(0..records.len());
    match rng.random_range(0..8) {
        0 => drop(records.remove(at)),
        1 => records.insert(at, records[other].clone()),
        2 => records.swap(at, other),
        3 => records[at][0] = rng.random_range(0..18),
        4 => records[at][1..HEAD].copy_from_slice(&nasty(rng).to_le_bytes()),
        5 => {
            let len = rng.random_range(0..records[at].len());
            records[at].truncate(len.max(HEAD));
        }
        _ => {
            let from = if records[at][0] == CHUNK { CHUNK_RECORDS } else { HEAD };
            (0..rng.random_range(1..4)).for_each(|_| change(&mut records[at], from, rng));
        }
    }
    if records.is_empty() {
        records.push(vec![CHUNK; HEAD]);
    }
}

/// The records as a file whose CRCs hold and whose footer points to its summary.
fn sealed(mut records: Vec<Vec<u8>>) -> Vec<u8> {
    let mut bytes = b"\x89MCAP0\r\n".to_vec();
    let mut summary = 0;
    for record in &mut records {
        let body = record.len().saturating_sub(CHUNK_RECORDS) as u64;
        match record[0] {
            CHUNK if record.len() >= CHUNK_RECORDS => {
                let crc = crc32fast::hash(&record[CHUNK_RECORDS..]);
                record[HEAD + 16..CHUNK_CRC].copy_from_slice(&body.to_le_bytes());
                record[CHUNK_CRC..CHUNK_CRC + 4].copy_from_slice(&crc.to_le_bytes());
                record[CHUNK_RECORDS - 8..CHUNK_RECORDS].copy_from_slice(&body.to_le_bytes());
            }
            DATA_END if record.len() == HEAD + 4 => {
                record[HEAD..].copy_from_slice(&crc32fast::hash(&bytes).to_le_bytes());
                summary = bytes.len() + record.len();
            }
            FOOTER if record.len() == HEAD + 20 => {
                record[HEAD..HEAD + 8].copy_from_slice(&(summary as u64).to_le_bytes());
                let covered = [&bytes[summary..], &record[..HEAD + 16]].concat();
                record[HEAD + 16..].copy_from_slice(&crc32fast::hash(&covered).to_le_bytes());
            }
            _ => {}
        }
        bytes.extend_from_slice(record);
    }
    bytes.extend_from_slice(b"\x89MCAP0\r\n");
    bytes
}

/// One case: its bytes, and whether the CRCs were made right again.
fn case(good: &[u8], rng: &mut Rng) -> (Vec<u8>, bool) {
    match rng.random_range(0..4) {
        0 => {
            let mut bytes = good.to_vec();
            (0..rng.random_range(1..20)).for_each(|_| change(&mut bytes, 0, rng));
            bytes.truncate(rng.random_range(0..2 * good.len()).max(1));
            (bytes, false)
        }
        1 => {
            let mut records = records(good);
            mutate(&mut records, rng);
            let magic = &good[..MAGIC];
            ([magic, &records.concat(), magic].concat(), false)
        }
        _ => {
            let mut records = records(good);
            (0..rng.random_range(1..4)).for_each(|_| mutate(&mut records, rng));
            (sealed(records), true)
        }
    }
}

/// Why what was read cannot be right.
fn judge(bytes: &[u8], good: &Episode, same: bool, resealed: bool) -> Result<(), &'static str> {
    let Some(read) = Episode::decode(bytes) else { return Ok(()) };
    // A step in a file takes at least a message's head.
    if read.steps.len() * 31 > bytes.len() {
        return Err("more steps than bytes");
    }
    if resealed {
        return Ok(());
    }
    let known = |step: &Step| {
        let good = good.steps.get(step.tick as usize);
        good.is_some_and(|good| *step == Step { events: step.events, ..good.clone() })
    };
    if !read.steps.iter().all(known) || read.header != good.header {
        return Err("a step or header that no CRC proves");
    }
    if read.damage.is_none() && !same { Err("unnoticed") } else { Ok(()) }
}

/// The most memory this process ever had (KiB).
fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

#[test]
fn f3_no_bytes_make_the_reader_panic_or_eat_the_memory_or_believe_what_no_crc_proves() {
    let cases = number("REGOAL_CASES", 100_000);
    let (bytes, _) = written(8, true);
    let good = Episode::decode(&bytes).unwrap();
    assert_eq!(sealed(records(&bytes)), bytes, "the seal is made as the writer makes it");
    let (before, mut failures, mut decoded) = (peak_kib(), 0, 0);
    for number in 0..cases {
        let (damaged, resealed) = case(&bytes, &mut rng(number));
        let judged =
            std::panic::catch_unwind(|| judge(&damaged, &good, damaged == bytes, resealed));
        decoded += u64::from(resealed);
        if let Err(why) = judged.unwrap_or(Err("a panic")) {
            eprintln!("case {number}: {why}");
            failures += 1;
        }
        if number % 64 == 0 {
            let (memory, path) = memory_with(&damaged);
            let listed = list(&memory, Path::new(FOLDER)).unwrap();
            let mended = repair(&memory, &path).is_ok();
            failures += u64::from(listed.len() != 1);
            failures += u64::from(mended && check(&memory, &path).unwrap().is_some());
        }
    }
    let grown = (peak_kib() - before) / 1024;
    failures += u64::from(grown > 256);
    let figures = json!({ "past_the_crcs": decoded, "memory_grown_mib": grown });
    report("F3", seed(), cases, failures, figures);
    assert_eq!(failures, 0);
}
