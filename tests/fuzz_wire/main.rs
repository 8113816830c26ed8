//! Campaigns S1 and F5: streams of packets, damage and noise through the decoders of both protocols.
//! Each case is a function of its seed and number alone:
//!
//! ```text
//! REGOAL_BYTES=1000000000 cargo test --release --test fuzz_wire -- --nocapture
//! REGOAL_SEED=7 REGOAL_CASES=1234..1235 cargo test --release --test fuzz_wire -- --nocapture
//! ```
//!
//! That they allocate nothing needs no test: `tools/wire-nostd` builds them without an allocator.

mod dynamixel;
mod feetech;
mod streams;

use std::collections::HashSet;
use std::ops::{AddAssign, Range};
use std::panic::catch_unwind;

use rand::RngExt as _;
use regoal::rng::{Rng, Stream, item};

use streams::{Case, case};

/// Bytes without `REGOAL_BYTES`.
const BYTES: u64 = 10_000_000;

/// One protocol as the campaign sees it.
trait Protocol {
    /// A request or answer of any kind.
    fn packet(rng: &mut Rng) -> Vec<u8>;

    /// An answer as of the servos read in every cycle.
    fn answer(rng: &mut Rng) -> Vec<u8>;

    /// The bytes of all packets that the decoder finds in pieces of these sizes. `longest`: how many
    /// parameters a packet may have, any when `None`.
    fn stream(
        bytes: &[u8],
        longest: Option<usize>,
        cuts: &mut dyn Iterator<Item = usize>,
    ) -> Vec<Vec<u8>>;

    /// The same found by the definition of the protocol, the whole buffer at hand.
    fn whole(bytes: &[u8], longest: Option<usize>) -> Vec<Vec<u8>>;

    /// What else must hold for these bytes.
    fn also(rng: &mut Rng, bytes: &[u8], cuts: &[usize]) -> Result<(), String>;
}

#[derive(Default, serde::Serialize)]
struct Figures {
    bytes: u64,
    packets_sent: u64,
    packets_accepted: u64,
    /// Accepted though nobody sent them: damage that the checksum doesn't show.
    accepted_by_chance: u64,
    /// Packets that came whole after the damage ended and were not found: at most the first.
    lost_after_damage: u64,
}

impl AddAssign for Figures {
    fn add_assign(&mut self, more: Self) {
        self.bytes += more.bytes;
        self.packets_sent += more.packets_sent;
        self.packets_accepted += more.packets_accepted;
        self.accepted_by_chance += more.accepted_by_chance;
        self.lost_after_damage += more.lost_after_damage;
    }
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}

/// Runs one case; an error says what did not hold.
fn run<P: Protocol>(seed: u64, index: u64) -> Result<Figures, String> {
    let mut rng = item(seed, Stream::Emulator, index);
    let Case { bytes, sent, tail } = case::<P>(&mut rng);
    let cuts: Vec<usize> = (0..32).map(|_| rng.random_range(1..64)).collect();
    let limit = rng.random_range(0..40);
    let found = streamed::<P>(&bytes, None, &cuts)?;
    streamed::<P>(&bytes, Some(limit), &cuts)?;
    let short = streamed::<P>(&bytes, Some(streams::ANSWER), &cuts)?;
    let after = short.iter().rev().zip(tail.iter().rev()).take_while(|(a, b)| a == b).count();
    let lost = tail.len() - after;
    if lost > 1 {
        return Err(format!("{lost} packets lost after the damage: {short:02X?}"));
    }
    P::also(&mut rng, &bytes, &cuts)?;
    let sent_set: HashSet<&Vec<u8>> = sent.iter().collect();
    Ok(Figures {
        bytes: bytes.len() as u64,
        packets_sent: sent.len() as u64,
        packets_accepted: found.len() as u64,
        accepted_by_chance: found.iter().filter(|p| !sent_set.contains(p)).count() as u64,
        lost_after_damage: lost as u64,
    })
}

/// The packets of a stream, when the decoder finds in one piece and in many what the definition does.
fn streamed<P: Protocol>(
    bytes: &[u8],
    longest: Option<usize>,
    cuts: &[usize],
) -> Result<Vec<Vec<u8>>, String> {
    let whole = P::whole(bytes, longest);
    let at_once = P::stream(bytes, longest, &mut std::iter::repeat(usize::MAX));
    if at_once != whole {
        return Err(format!("longest {longest:?}: found {at_once:02X?}, expected {whole:02X?}"));
    }
    if P::stream(bytes, longest, &mut cuts.iter().copied().cycle()) != whole {
        return Err(format!("longest {longest:?}: pieces of {cuts:?} give other packets"));
    }
    Ok(whole)
}

/// `REGOAL_CASES`, or all until the bytes are reached.
fn cases() -> Range<u64> {
    let Ok(text) = std::env::var("REGOAL_CASES") else { return 0..u64::MAX };
    let (from, to) = text.split_once("..").unwrap();
    from.parse().unwrap()..to.parse().unwrap()
}

/// Runs cases of one protocol until it has seen its share of the bytes, and lists those that failed.
fn campaign<P: Protocol>(seed: u64, bytes: u64) -> (u64, Figures, Vec<String>) {
    let (mut runs, mut figures, mut failures) = (0, Figures::default(), Vec::new());
    for index in cases() {
        if figures.bytes >= bytes || failures.len() >= 10 {
            break;
        }
        runs += 1;
        match catch_unwind(|| run::<P>(seed, index)) {
            Ok(Ok(more)) => figures += more,
            Ok(Err(what)) => failures.push(format!("case {index}: {what}")),
            Err(_) => failures.push(format!("case {index}: panicked")),
        }
    }
    (runs, figures, failures)
}

#[test]
fn damaged_streams_neither_panic_nor_pass_nor_stop_the_decoders() {
    let (seed, bytes) = (number("REGOAL_SEED", 1), number("REGOAL_BYTES", BYTES));
    let (feetech_runs, feetech, mut failures) = campaign::<feetech::Feetech>(seed, bytes / 2);
    let (dynamixel_runs, dynamixel, more) = campaign::<dynamixel::Dynamixel>(seed, bytes / 2);
    failures.extend(more);
    for id in ["S1", "F5"] {
        println!(
            "{}",
            serde_json::json!({
                "id": id, "seed": seed, "runs": feetech_runs + dynamixel_runs,
                "failures": failures.len(),
                "figures": { "feetech": &feetech, "dynamixel": &dynamixel },
                "pass": failures.is_empty(),
            })
        );
    }
    assert!(failures.is_empty(), "seed {seed}: {}", failures.join("\n"));
    // Damage that always breaks everything tests only the search for headers. One case may.
    for figures in [feetech, dynamixel].iter().filter(|figures| figures.packets_sent > 1000) {
        assert!(figures.packets_accepted * 4 > figures.packets_sent);
        assert!(figures.packets_accepted < figures.packets_sent);
    }
}
