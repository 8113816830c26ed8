//! A2: a running daemon under floods. Times are judged only in the larger sizes, the loop's figures are
//! told.

use std::io::Write;
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use regoal::clock::{Clock as _, SystemClock};
use regoal::daemon::{Client, Command, Goal, KeyFile};
use serde_json::json;

use crate::bench::{number, report, times_count};
use crate::rig::connect;
use crate::secrets::Daemon;
use crate::seed;

/// Beyond what it was before (KiB).
const MEMORY_KIB: u64 = 64 * 1024;
/// An operator is answered within this time.
const ANSWER: Duration = Duration::from_millis(100);
/// Connections of one kind that are held open at once.
const HELD: usize = 100;

/// The memory of a process (KiB).
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

/// Connections that say nothing, or very little, very slowly; the oldest make room.
fn slow(cases: u64, mut connect: impl FnMut() -> Option<Box<dyn Write>>) {
    let mut held = std::collections::VecDeque::new();
    for case in 0..cases {
        let Some(mut stream) = connect() else { continue };
        // Every third is silent, every third sends a byte now and then, the rest half a head.
        match case % 3 {
            0 => {}
            1 => drop(stream.write_all(b"P")),
            _ => drop(stream.write_all(b"POST /v1/goal HTTP/1.1\r\nhost: x\r\n")),
        }
        held.push_back((case % 3, stream));
        if held.len() > HELD {
            held.pop_front();
        }
        if let Some((1, stream)) = held.front_mut() {
            let _ = stream.write_all(b"O");
        }
    }
}

/// A body of 1 GiB, for as long as it is taken; how many bytes were.
fn huge(stream: &mut impl Write, header: &str) -> u64 {
    let head = format!(
        "POST /v1/goal HTTP/1.1\r\nhost: x\r\n{header}content-length: {}\r\n\r\n",
        1_u64 << 30
    );
    let block = [b' '; 16 * 1024];
    if stream.write_all(head.as_bytes()).is_err() {
        return 0;
    }
    let mut taken = 0;
    while taken < 1 << 30 && stream.write_all(&block).is_ok() {
        taken += block.len() as u64;
    }
    taken
}

/// Goals, as fast as they are taken.
fn goals(daemon: &Daemon, cases: u64) {
    let client = daemon.client();
    let goal = Goal { goal: vec![0.1, -0.25, 0.12], ..Goal::default() };
    for case in 0..cases {
        let _ = if case % 2 == 0 { client.reach(&goal).err() } else { client.enqueue(&goal).err() };
    }
}

/// Asks how the robot is and stops it, again and again; the longest time that took.
fn operator(client: &Client, done: &AtomicBool, unanswered: &AtomicU64) -> (u64, Duration) {
    let (mut asked, mut longest) = (0, Duration::ZERO);
    while !done.load(Ordering::Relaxed) {
        for stop in [false, true] {
            let begin = SystemClock.now();
            let answer = match stop {
                false => client.status().map(drop),
                true => client.command(Command::EmergencyStop),
            };
            longest = longest.max(SystemClock.now().since(begin));
            asked += 1;
            if let Err(e) = answer {
                unanswered.fetch_add(1, Ordering::Relaxed);
                eprintln!("an operator was not answered: {e}");
            }
        }
    }
    (asked, longest)
}

fn flood(daemon: &Daemon, key: &KeyFile, at: SocketAddr, cases: u64) -> u64 {
    let tcp = || {
        let stream = std::net::TcpStream::connect(at).ok()?;
        Some(Box::new(stream) as Box<dyn Write>)
    };
    let unix = || Some(Box::new(UnixStream::connect(daemon.socket()).ok()?) as Box<dyn Write>);
    std::thread::scope(|scope| {
        scope.spawn(|| slow(cases / 2, tcp));
        scope.spawn(|| slow(cases / 2, unix));
        scope.spawn(|| goals(daemon, cases / 10));
        let socket = scope.spawn(|| {
            let mut stream = UnixStream::connect(daemon.socket()).unwrap();
            huge(&mut stream, "")
        });
        let bearer = format!("authorization: Bearer {}\r\n", key.key);
        let tls = scope.spawn(move || {
            let without = huge(&mut daemon.tls(key.fingerprint, connect(at)), "");
            huge(&mut daemon.tls(key.fingerprint, connect(at)), &bearer).max(without)
        });
        socket.join().unwrap().max(tls.join().unwrap())
    })
}

#[test]
fn a2_floods_cost_little_memory_and_operators_are_answered_throughout() {
    let cases = number("REGOAL_CASES", 2000);
    let daemon = Daemon::start(&[]);
    let (pid, at) = (daemon.control(), daemon.listening());
    let key = daemon.pair("operator", "admin");
    let (socket, elsewhere) = (daemon.client(), Client::with_key(&key));
    let (before, loop_before) = (memory(pid), socket.status().unwrap());
    let (done, unanswered, peak) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (taken, near, far) = std::thread::scope(|scope| {
        let near = scope.spawn(|| operator(&socket, &done, &unanswered));
        let far = scope.spawn(|| operator(&elsewhere, &done, &unanswered));
        scope.spawn(|| {
            while !done.load(Ordering::Relaxed) {
                peak.fetch_max(memory(pid), Ordering::Relaxed);
                SystemClock.sleep_until(SystemClock.now() + Duration::from_millis(10));
            }
        });
        let taken = flood(&daemon, &key, at, cases);
        done.store(true, Ordering::Relaxed);
        (taken, near.join().unwrap(), far.join().unwrap())
    });
    let after = socket.status().unwrap();
    let grown = peak.into_inner().saturating_sub(before);
    let lost = unanswered.into_inner();
    let late = times_count() && near.1.max(far.1) > ANSWER;
    let missed = after.counters.missed - loop_before.counters.missed;
    let figures = json!({
        "memory_before_kib": before, "memory_grown_kib": grown, "body_taken_bytes": taken,
        "operator_asked": near.0 + far.0, "operator_unanswered": lost,
        "operator_longest_ms": [near.1.as_millis() as u64, far.1.as_millis() as u64],
        "ticks": after.tick - loop_before.tick, "ticks_missed": missed,
        "judged": times_count(), "late_p99_us": [loop_before.timing.lateness_us.p99, after.timing.lateness_us.p99],
    });
    let failures =
        lost + u64::from(grown > MEMORY_KIB) + u64::from(taken > 1 << 24) + u64::from(late);
    report("A2", seed(), cases, failures, figures);
    assert!(grown <= MEMORY_KIB, "{grown} KiB more than before");
    assert!(taken <= 1 << 24, "{taken} bytes of one body were taken");
    assert!(!late, "an operator waited {:?} and {:?}", near.1, far.1);
    assert!(lost == 0 && near.0 > 0 && far.0 > 0, "{lost} requests of operators were not answered");
}
