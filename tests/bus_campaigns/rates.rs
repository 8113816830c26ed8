//! S3: a bus that damages a share of all packets.

use std::fmt::Write as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use regoal::config::Protocol;
use regoal::hal::fault::{Fault, FaultSpec, Kind, Side};
use regoal::storage::{Disk, Storage as _};

use crate::bench::number;
use crate::rig::{JOINTS, PROTOCOLS, Rig, robot};
use crate::{Failures, seed};

/// Of all packets.
const RATES: [f64; 5] = [0.0001, 0.001, 0.01, 0.05, 0.2];
/// Simulated, of each kind at each rate (s).
const SECONDS: u64 = 60;
/// Ticks a second.
const TICKS: u64 = 100;
/// Rows by rate, of all kinds and mixes together. Written anew with `REGOAL_SNAPSHOT=write`.
const TABLE: &str = "tests/bus_campaigns/rates.txt";

/// Each kind alone, then mixes of them.
fn kinds() -> Vec<(String, Vec<Fault>)> {
    use Kind::*;
    let counted = |kind, count| Fault { count: Some(count), ..Fault::new(kind) };
    let answers = [
        counted(Drop, 1),
        counted(Duplicate, 1),
        counted(Insert, 2),
        counted(Flip, 1),
        counted(Flip, 2),
        counted(Garbage, 5),
        Fault { delay_us: Some(2000.0), ..Fault::new(Slow) },
        Fault { bits: Some(0x20), ..Fault::new(Status) },
    ];
    let plain = [Swap, Truncate, Merge, Echo, WrongId, WrongLength, Late, Drift, Silent];
    let answers: Vec<Fault> = answers.into_iter().chain(plain.map(Fault::new)).collect();
    let requests = [counted(Flip, 2), counted(Drop, 1), Fault::new(Swap), Fault::new(Truncate)];
    let requests = requests.map(|fault| Fault { on: Side::Request, ..fault });
    let name =
        |f: &Fault| format!("{:?} {:?} {}", f.on, f.kind, f.count.unwrap_or(1)).to_lowercase();
    let alone = answers.iter().chain(&requests).map(|f| (name(f), vec![f.clone()]));
    let both = [&answers[..], &requests[..]].concat();
    alone.chain([("mix of answers".into(), answers.clone()), ("mix of all".into(), both)]).collect()
}

#[derive(Debug, Clone, Default)]
struct Row {
    ticks: u64,
    fresh: u64,
    oldest: u32,
    /// Ticks in which the state was too old to move by.
    held: u64,
    faults: u64,
    /// Readings that were wrong and taken for true.
    wrong: u64,
    /// Of them those further away than a joint can move.
    jumps: u64,
    out_of_limits: u64,
}

impl Row {
    fn add(&mut self, other: &Row) {
        self.ticks += other.ticks;
        self.fresh += other.fresh;
        self.oldest = self.oldest.max(other.oldest);
        self.held += other.held;
        self.faults += other.faults;
        self.wrong += other.wrong;
        self.jumps += other.jumps;
        self.out_of_limits += other.out_of_limits;
    }

    fn share(&self) -> f64 {
        100.0 * self.fresh as f64 / self.ticks as f64
    }
}

/// Each of the faults at its share of `rate`, for so long.
fn run(protocol: Protocol, faults: &[Fault], rate: f64, seconds: u64, seed: u64) -> Row {
    let mut rig = Rig::swinging(robot(protocol), seed);
    let rate = rate / faults.len() as f64;
    let fault = faults.iter().map(|fault| Fault { rate, ..fault.clone() }).collect();
    rig.site.inject(&FaultSpec { fault });
    let hold_after = rig.site.robot.control.hold_after_ticks;
    let mut row = Row::default();
    for _ in 0..seconds * TICKS {
        let look = rig.tick();
        row.ticks += 1;
        row.fresh += u64::from(look.age == 0);
        row.oldest = row.oldest.max(look.age);
        row.held += u64::from(look.age >= hold_after);
        row.wrong += look.wrong;
        row.jumps += look.jumps;
        row.out_of_limits += look.out_of_limits;
        if rig.faulted() {
            row.faults += 1;
            rig.arm();
        }
    }
    row
}

type Job = (Protocol, usize, String, Vec<Fault>);

/// All jobs on all processors; the same rows however many there are.
fn run_all(jobs: &[Job], seconds: u64) -> Vec<Row> {
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(vec![Row::default(); jobs.len()]));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some((protocol, rate, _, faults)) = jobs.get(at) else { break };
                    let row = run(*protocol, faults, RATES[*rate], seconds, seed() + at as u64);
                    rows.lock().unwrap()[at] = row;
                }
            });
        }
    });
    rows.into_inner().unwrap()
}

fn table(rows: &[((Protocol, usize), Row)]) -> String {
    let mut text = String::from(
        "protocol   rate    ticks fresh    oldest  ticks held  faults  wrong readings  beyond reach\n",
    );
    for ((protocol, rate), row) in rows {
        let protocol = format!("{protocol:?}").to_lowercase();
        let (rate, share) = (format!("{} %", 100.0 * RATES[*rate]), row.share());
        let Row { oldest, held, faults, wrong, jumps, .. } = row;
        let _ = writeln!(
            text,
            "{protocol:<10} {rate:<7} {share:>9.4} %  {oldest:>6}  {held:>10}  {faults:>6}  {wrong:>14}  {jumps:>12}"
        );
    }
    text
}

#[test]
fn s3_a_bus_that_damages_a_share_of_its_packets_keeps_the_state_fresh_and_true() {
    let seconds = number("REGOAL_SECONDS", SECONDS);
    let jobs: Vec<Job> = PROTOCOLS
        .into_iter()
        .flat_map(|p| (0..RATES.len()).map(move |rate| (p, rate)))
        .flat_map(|(p, rate)| kinds().into_iter().map(move |(name, f)| (p, rate, name, f)))
        .collect();
    let all = run_all(&jobs, seconds);
    let mut failures = Failures::default();
    let mut rows: Vec<((Protocol, usize), Row)> = Vec::new();
    let mut worst = (100.0, String::new());
    for ((protocol, rate, kind, _), row) in jobs.iter().zip(&all) {
        let name = || format!("{protocol:?} {kind} at {}: {row:?}", RATES[*rate]);
        failures.unless(row.jumps == 0, || format!("a false change of state: {}", name()));
        failures.unless(row.out_of_limits == 0, || format!("a goal out of limits: {}", name()));
        if RATES[*rate] <= 0.01 {
            failures.unless(row.share() >= 99.9, || format!("not fresh: {}", name()));
            failures.unless(row.held == 0, || format!("held: {}", name()));
            if row.share() < worst.0 {
                worst = (row.share(), format!("{protocol:?} {kind}"));
            }
        }
        match rows.last_mut().filter(|(of, _)| *of == (*protocol, *rate)) {
            Some((_, sum)) => sum.add(row),
            None => rows.push(((*protocol, *rate), row.clone())),
        }
    }
    let held = rows.iter().any(|((_, rate), row)| *rate == RATES.len() - 1 && row.held > 0);
    failures.unless(held, || "nothing is ever held at the highest rate".into());
    let text = table(&rows);
    print!("{text}");
    if std::env::var("REGOAL_SNAPSHOT").is_ok_and(|wish| wish == "write") {
        Disk.replace(Path::new(TABLE), text.as_bytes()).unwrap();
    } else if (seconds, seed()) == (SECONDS, 1) {
        let pinned = include_str!("rates.txt");
        failures.unless(text == pinned, || format!("expected the table\n{pinned}found\n{text}"));
    }
    let sum = |of: fn(&Row) -> u64| all.iter().map(of).sum::<u64>();
    let figures = serde_json::json!({
        "ticks": sum(|row| row.ticks), "joints": JOINTS,
        "least_fresh_percent_up_to_1_percent": worst.0, "least_fresh_kind": worst.1,
        "wrong_readings": sum(|row| row.wrong), "false_changes_beyond_reach": sum(|row| row.jumps),
        "goals_out_of_limits": sum(|row| row.out_of_limits),
    });
    failures.report("S3", jobs.len() as u64, figures);
}
