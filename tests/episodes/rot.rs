//! L3: bits that flip and blocks that are lost.

use std::ops::Range;
use std::path::Path;

use rand::{Rng as _, RngExt as _};
use regoal::episode::*;
use serde_json::json;

use crate::bench::{number, report};
use crate::fixtures::*;

/// A log, its bytes and what they hold.
struct Log {
    bytes: Vec<u8>,
    good: Episode,
    /// The bytes of the chunks, each with the steps it holds.
    chunks: Vec<(Range<usize>, Range<u64>)>,
}

impl Log {
    fn new(steps: u64, end: bool) -> Self {
        let (bytes, written) = written(steps, end);
        let good = Episode::decode(&bytes).unwrap();
        let ends: Vec<u64> = (0..=good.steps.len() as u64)
            .filter(|tick| *tick == 0 || written[*tick as usize] > written[*tick as usize - 1])
            .collect();
        let chunks = ends.windows(2).map(|pair| {
            let [from, to] = [0, 1].map(|i| written[pair[i] as usize] as usize);
            (from..to, pair[0]..pair[1])
        });
        Self { chunks: chunks.collect(), bytes, good }
    }

    /// Why what is read of the bytes, damaged in this range, is not right.
    fn judge(&self, bytes: &[u8], damaged: &Range<usize>) -> Result<(), String> {
        let head = self.chunks[0].0.start;
        let Some(read) = Episode::decode(bytes) else {
            let only = self.good.outcome.is_none() && damaged.start < head;
            return if only { Ok(()) } else { Err("the header is lost".into()) };
        };
        if read.damage.is_none() {
            return Err("the damage went unnoticed".into());
        }
        if read.header != self.good.header {
            return Err("another header".into());
        }
        if read.outcome.is_some() && read.outcome != self.good.outcome {
            return Err("another outcome".into());
        }
        let mut found = read.steps.iter().peekable();
        for (chunk, ticks) in &self.chunks {
            let touched = damaged.start < chunk.end && chunk.start < damaged.end;
            for tick in ticks.clone() {
                let Some(step) = found.next_if(|step| step.tick == tick) else {
                    if touched {
                        continue;
                    }
                    return Err(format!("step {tick} is lost"));
                };
                let good = &self.good.steps[tick as usize];
                let marked = step.events.contains(Events::LOG_GAP);
                if step != good
                    && !(marked && *step == Step { events: step.events, ..good.clone() })
                {
                    return Err(format!("step {tick} is another"));
                }
            }
        }
        found.next().map_or(Ok(()), |step| Err(format!("step {} is from nowhere", step.tick)))
    }

    /// Flips each of these bits alone.
    fn flips(&self, bits: &[usize]) -> Vec<String> {
        let mut bytes = self.bytes.clone();
        let mut failures = Vec::new();
        for &bit in bits {
            let at = bit / 8;
            bytes[at] ^= 1 << (bit % 8);
            if let Err(why) = self.judge(&bytes, &(at..at + 1)) {
                failures.push(format!("bit {bit}: {why}"));
            }
            bytes[at] = self.bytes[at];
        }
        failures
    }

    /// Loses blocks of 1 to 4 KiB.
    fn blocks(&self, cases: u64) -> Vec<String> {
        let mut failures = Vec::new();
        for case in 0..cases {
            let (mut rng, mut bytes) = (rng(case), self.bytes.clone());
            let len = rng.random_range(1024..4096);
            let to = rng.random_range(0..bytes.len() - len);
            match rng.random_range(0..3) {
                0 => bytes[to..to + len].fill(0),
                1 => rng.fill_bytes(&mut bytes[to..to + len]),
                _ => {
                    let from = rng.random_range(0..bytes.len() - len);
                    bytes.copy_within(from..from + len, to);
                }
            }
            if bytes == self.bytes {
                continue;
            }
            if let Err(why) = self.judge(&bytes, &(to..to + len)) {
                failures.push(format!("block {case}: {why}"));
            }
        }
        failures
    }
}

/// The bits of 64 KiB.
const BITS: usize = 64 * 1024 * 8;

#[test]
fn l3_no_damage_changes_what_is_read_unnoticed_and_costs_more_than_the_chunks_it_touches() {
    let log = Log::new(142, true);
    assert!(log.bytes.len() * 8 >= BITS, "{} bytes", log.bytes.len());
    // All of them, or one in so many all over it.
    let stride = number("REGOAL_ONE_BIT_IN", 4) as usize;
    let blocks = number("REGOAL_CASES", 10_000);
    let bits: Vec<usize> = (seed() as usize % stride..BITS).step_by(stride).collect();
    let (front, back) = bits.split_at(bits.len() / 2);
    let (front, back) = std::thread::scope(|scope| {
        let back = scope.spawn(|| log.flips(back));
        (log.flips(front), back.join().unwrap())
    });
    let lost = log.blocks(blocks);
    let failures = [front, back, lost].concat();
    failures.iter().take(10).for_each(|failure| eprintln!("{failure}"));
    let figures = json!({
        "flips": bits.len(), "blocks": blocks, "bytes": log.bytes.len(), "chunks": log.chunks.len(),
    });
    report("L3", seed(), bits.len() as u64 + blocks, failures.len() as u64, figures);
    assert!(failures.is_empty());
}

#[test]
fn mending_keeps_every_step_that_a_flipped_bit_leaves_good() {
    for end in [false, true] {
        let log = Log::new(6, end);
        let bits: Vec<usize> = (0..log.bytes.len() * 8).collect();
        assert_eq!(log.flips(&bits), [""; 0]);
        for bit in bits {
            let mut bytes = log.bytes.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let Some(read) = Episode::decode(&bytes) else { continue };
            let (memory, path) = memory_with(&bytes);
            assert_eq!(check(&memory, &path).unwrap(), read.damage, "bit {bit}");
            assert_eq!(repair(&memory, &path).unwrap(), read.damage, "bit {bit}");
            let mended = Episode::read(&memory, Path::new(FIRST)).unwrap();
            assert_eq!(mended, Episode { damage: None, ..read }, "bit {bit}");
        }
    }
}
