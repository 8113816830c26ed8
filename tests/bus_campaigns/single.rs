//! S2: one fault of each kind at each byte of a cycle.

use regoal::config::Protocol;
use regoal::control::Command;
use regoal::hal::fault::{Fault, FaultSpec, Kind, Side};

use crate::rig::{JOINTS, PROTOCOLS, Rig, robot};
use crate::{Failures, seed};

/// What happens to bytes, with how many of them.
const OF_BYTES: [(Kind, u32); 7] = [
    (Kind::Drop, 1),
    (Kind::Drop, 3),
    (Kind::Duplicate, 1),
    (Kind::Insert, 1),
    (Kind::Insert, 4),
    (Kind::Swap, 1),
    (Kind::Truncate, 1),
];
/// What happens to packets.
const OF_PACKETS: [Kind; 6] =
    [Kind::Garbage, Kind::Merge, Kind::WrongId, Kind::WrongLength, Kind::Drift, Kind::Late];
/// The bytes of a packet at most: an answer of the health block, a request of six goals.
const LONGEST: usize = 64;

/// Cycles until the next one that also asks a servo for its torque or current: the cycle without, and
/// the one with.
const AHEAD: [u64; 2] = [1, 0];

/// Every single fault of a cycle's transactions: the read, in some cycles that of one register, and
/// the write.
fn faults() -> Vec<Fault> {
    let mut all = Vec::new();
    let answers =
        (0..2).flat_map(|at| (1..=JOINTS as u8).map(move |id| (Side::Answer, Some(id), at)));
    let packets = answers.chain((0..3).map(|at| (Side::Request, None, at)));
    for (on, id, transaction) in packets {
        let base = |kind| Fault { on, id, transaction: Some(transaction), ..Fault::new(kind) };
        for byte in 0..LONGEST {
            let at = |kind| Fault { byte: Some(byte), ..base(kind) };
            for (kind, count) in OF_BYTES {
                let counted = !matches!(kind, Kind::Swap | Kind::Truncate);
                all.push(Fault { count: counted.then_some(count), ..at(kind) });
            }
            for bits in (0..8).map(|bit| 1 << bit).chain([0xFF]) {
                all.push(Fault { bits: Some(bits), ..at(Kind::Flip) });
            }
        }
        let late = on == Side::Answer;
        all.extend(OF_PACKETS.into_iter().filter(|k| late || *k != Kind::Late).map(base));
        for delay in [100.0, 1000.0, 3000.0, 8000.0, 12_000.0] {
            // A write that blocks for more than a tick is a tick that comes too late.
            if on == Side::Request && delay > 10_000.0 {
                continue;
            }
            all.push(Fault { delay_us: Some(delay), ..base(Kind::Slow) });
        }
    }
    for transaction in 0..3 {
        all.push(Fault { transaction: Some(transaction), ..Fault::new(Kind::Echo) });
        for id in 1..=JOINTS as u8 {
            let base =
                Fault { id: Some(id), transaction: Some(transaction), ..Fault::new(Kind::Silent) };
            all.push(base.clone());
            for bits in [0x01, 0x02, 0x04, 0x08, 0x20, 0x2F] {
                all.push(Fault { kind: Kind::Status, bits: Some(bits), ..base.clone() });
            }
            all.push(Fault { kind: Kind::EepromRefused, ..base });
        }
    }
    all
}

/// The longest packet of a side: bytes beyond its end have no fault to make.
fn exists(protocol: Protocol, fault: &Fault) -> bool {
    let longest = match (protocol, fault.on) {
        (Protocol::Feetech, Side::Answer) => 14 + 7,
        (Protocol::Feetech, Side::Request) => 26,
        (Protocol::Dynamixel, Side::Answer) => 32 + 7,
        (Protocol::Dynamixel, Side::Request) => 46,
    };
    fault.byte.is_none_or(|byte| byte < longest)
}

/// Runs until a cycle that asks for one register more is so many cycles ahead.
fn come_to(rig: &mut Rig, ahead: u64) {
    const ROUND: u64 = 4;
    loop {
        let before = rig.site.wire().writes;
        rig.tick();
        if rig.site.wire().writes - before > 2 {
            break;
        }
    }
    rig.run(ROUND - 1 - ahead);
}

#[test]
fn s2_one_fault_costs_a_tick_at_most_and_never_makes_an_old_value_new() {
    let (mut runs, mut failures) = (0, Failures::default());
    let (mut stale, mut slowest, mut wrong, mut worst) = (0u64, 0, 0u64, 0.0f64);
    for protocol in PROTOCOLS {
        let mut rig = Rig::swinging(robot(protocol), seed());
        let faults = faults().into_iter().filter(|fault| exists(protocol, fault));
        for (fault, ahead) in faults.flat_map(|fault| AHEAD.map(|ahead| (fault.clone(), ahead))) {
            runs += 1;
            come_to(&mut rig, ahead);
            rig.site.inject(&FaultSpec { fault: vec![fault.clone()] });
            let looks: Vec<_> = (0..5).map(|_| rig.tick()).collect();
            let name = || format!("{protocol:?} {fault:?}: {looks:?}");
            // A servo that its own trouble has switched off is no damage of the bus: that stops the arm.
            let whole = rig.site.torque() == [1; JOINTS];
            failures.unless(!rig.faulted() || !whole, || {
                format!("stopped: {:?} {}", rig.control.mode(), name())
            });
            let oldest = looks.iter().map(|look| look.age).max().unwrap_or(0);
            let fresh = looks.iter().rposition(|look| look.age > 0).map_or(0, |last| last + 1);
            failures.unless(oldest <= 1, || format!("too old: {}", name()));
            failures.unless(fresh <= 2, || format!("recovers late: {}", name()));
            // Exchanged bytes pass the sum; all else is kept out, and nothing makes a joint jump.
            let possible = fault.kind == Kind::Swap && protocol == Protocol::Feetech;
            let wrong_here: u64 = looks.iter().map(|look| look.wrong).sum();
            failures.unless(wrong_here == 0 || possible, || format!("wrong: {}", name()));
            failures.unless(looks.iter().all(|l| l.jumps == 0), || format!("jumps: {}", name()));
            failures.unless(looks.iter().all(|l| l.out_of_limits == 0), || {
                format!("goals: {}", name())
            });
            stale += looks.iter().filter(|look| look.age > 0).count() as u64;
            slowest = slowest.max(fresh);
            wrong += wrong_here;
            worst = looks.iter().fold(worst, |worst, look| worst.max(look.error));
            if rig.faulted() || !whole {
                rig.site.inject(&FaultSpec::default());
                let _ = rig.control.command(&Command::Disarm);
                rig.arm();
                rig.run(120);
            }
        }
    }
    let figures = serde_json::json!({
        "ticks_with_a_stale_joint": stale, "slowest_recovery_ticks": slowest,
        "wrong_readings": wrong, "largest_error_rad": worst,
    });
    failures.report("S2", runs, figures);
}
