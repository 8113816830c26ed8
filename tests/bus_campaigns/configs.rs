//! F2: damaged configuration files.

use std::panic::catch_unwind;
use std::path::Path;

use rand::RngExt as _;
use regoal::config::{ConfigError, RobotConfig};
use regoal::control::ControlLoop;
use regoal::hal::FaultSpec;
use regoal::hal::calibration::ArmCalibration;
use regoal::learn::settings;
use regoal::rng::Rng;

use crate::bench::{drift, number};
use crate::rig::Site;
use crate::{Failures, rng};

const ROBOTS: [&str; 7] = [
    include_str!("../../firmware-config/emulated.toml"),
    include_str!("../../firmware-config/so101-follower.toml"),
    include_str!("../../firmware-config/so101-leader.toml"),
    include_str!("../../firmware-config/so100-follower.toml"),
    include_str!("../../firmware-config/so100-leader.toml"),
    include_str!("../../firmware-config/koch-follower.toml"),
    include_str!("../../firmware-config/koch-leader.toml"),
];
const FAULTS: &str = include_str!("../../firmware-config/faults.toml");

/// Values that a key may not expect.
const VALUES: [&str; 24] = [
    "nan",
    "-nan",
    "inf",
    "-inf",
    "0",
    "-0.0",
    "1e308",
    "-1e308",
    "5e-324",
    "1e-9",
    "9223372036854775807",
    "-9223372036854775808",
    "256",
    "65536",
    "4294967296",
    "''",
    "'\u{0}'",
    "true",
    "[]",
    "[[1]]",
    "{}",
    "1979-05-27",
    "\"\"\"\n\"\"\"",
    "'koch.urdf'",
];
/// What stands in no file where it should.
const TEXTS: [&str; 10] = [
    "[[joint]]\n",
    "[bus]\n",
    "[safety]\n",
    "=",
    "\n",
    "\u{FEFF}",
    "]",
    "a.b.c = 1\n",
    "[joint.tuning]\n",
    "\\u0000",
];

/// A text with one to four things wrong.
fn mutate(text: &str, rng: &mut Rng) -> String {
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    for _ in 0..rng.random_range(1..=4) {
        let at = rng.random_range(0..lines.len().max(1)).min(lines.len().saturating_sub(1));
        let other = rng.random_range(0..lines.len().max(1));
        let Some(line) = lines.get_mut(at) else { break };
        match rng.random_range(0..8) {
            0..=2 => {
                if let Some((key, _)) = line.split_once('=') {
                    let value = match rng.random_range(0..3) {
                        0 => format!("{}", f64::from_bits(rng.random())),
                        1 => format!("{}", rng.random_range(-10.0..10.0)),
                        _ => VALUES[rng.random_range(0..VALUES.len())].to_owned(),
                    };
                    *line = format!("{key}= {value}");
                }
            }
            3 => drop(lines.remove(at)),
            4 => {
                let copy = line.clone();
                lines.insert(other, copy);
            }
            5 => lines.swap(at, other),
            6 => lines.insert(at, TEXTS[rng.random_range(0..TEXTS.len())].to_owned()),
            _ => {
                let mut bytes = std::mem::take(line).into_bytes();
                if !bytes.is_empty() {
                    let byte = rng.random_range(0..bytes.len());
                    bytes[byte] = rng.random();
                }
                *line = String::from_utf8_lossy(&bytes).into_owned();
            }
        }
    }
    lines.join("\n")
}

/// What a file is read as; an accepted robot is also built and run for a while.
fn read(text: &str, kind: usize) -> bool {
    let path = Path::new("any.toml");
    match kind {
        0 => match RobotConfig::parse(text, path) {
            Ok(robot) if robot.joint.len() <= regoal::joints::MAX_JOINTS => drive(robot),
            _ => false,
        },
        1 => FaultSpec::parse(text, path).is_ok(),
        2 => ArmCalibration::from_lerobot("arm", text).is_ok(),
        _ => settings::read(text, "any.toml").is_ok(),
    }
}

/// Whatever was accepted can be driven: no limit in it makes anything panic.
fn drive(robot: RobotConfig) -> bool {
    // An SCS0009 is not emulated.
    if robot.joint.iter().any(|joint| joint.servo == regoal::config::ServoModel::Scs0009) {
        return true;
    }
    let site = Site::new(robot, 1);
    let Ok(arm) = site.open() else { return true };
    let clock = std::sync::Arc::new(site.clock.clone());
    let Ok(mut control) = ControlLoop::new(&site.robot, arm, drift(0.01), None, clock.clone())
    else {
        return true;
    };
    for tick in 1..5 {
        let start = regoal::clock::Clock::now(&*clock);
        control.tick(tick, start);
        let _ = control.command(&regoal::control::Command::Arm);
        regoal::clock::Clock::sleep_until(&*clock, start + site.robot.period());
    }
    true
}

/// A file with one key misspelt, and its line.
fn misspelt(text: &str, rng: &mut Rng) -> (String, usize) {
    let lines: Vec<&str> = text.lines().collect();
    let keys: Vec<usize> = (0..lines.len())
        .filter(|i| lines[*i].split_once('=').is_some_and(|(k, _)| !k.contains(['#', '.', '{'])))
        .collect();
    let at = keys[rng.random_range(0..keys.len())];
    let mut lines: Vec<String> = lines.into_iter().map(str::to_owned).collect();
    // Beside the right one, so that nothing is missing.
    lines.insert(at, format!("x{}", lines[at]));
    (lines.join("\n"), at + 1)
}

#[test]
fn f2_damaged_files_never_panic_and_an_unknown_key_is_named_with_its_line() {
    let runs = number("REGOAL_CASES", 100_000);
    let (mut failures, mut accepted, mut named) = (Failures::default(), 0u64, 0u64);
    let lerobot = r#"{"a": {"id": 1, "drive_mode": 0, "homing_offset": -5, "range_min": 0, "range_max": 4095}}"#;
    for case in 0..runs {
        let mut rng = rng(case);
        let kind = [0, 0, 0, 0, 0, 1, 2, 3][rng.random_range(0..8)];
        let robot = ROBOTS[rng.random_range(0..ROBOTS.len())];
        let whole = match kind {
            0 | 3 => robot,
            1 => FAULTS,
            _ => lerobot,
        };
        let text = mutate(whole, &mut rng);
        match catch_unwind(|| read(&text, kind)) {
            Ok(taken) => accepted += u64::from(taken),
            Err(_) => failures.unless(false, || format!("case {case} panics:\n{text}")),
        }
        if kind < 2 {
            let (text, line) = misspelt(whole, &mut rng);
            let path = Path::new("any.toml");
            let error = match kind {
                0 => RobotConfig::parse(&text, path).err(),
                _ => FaultSpec::parse(&text, path).err(),
            };
            let found = matches!(&error, Some(ConfigError::Parse { line: at, message, .. })
                if *at == line && message.contains("unknown field"));
            failures.unless(found, || format!("case {case}: line {line} gives {error:?}"));
            named += 1;
        }
    }
    let figures = serde_json::json!({ "accepted": accepted, "unknown_keys": named });
    failures.report("F2", runs + named, figures);
}
