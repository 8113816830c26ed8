//! `regoal doctor` as a user meets it, on an emulated arm of this process.

use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};

use regoal::clock::SystemClock;
use regoal::config::RobotConfig;
use regoal::hal::{Emulator, FaultSpec, PtyServer};
use serde_json::Value;

const ROBOT: &str = "firmware-config/emulated.toml";

fn doctor(args: &[&str]) -> (Option<i32>, String, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
    let output = command.arg("doctor").args(args).env_remove("RUST_LOG").output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

/// The report on an emulated arm with these faults, and the exit code.
fn report(faults: &str, change: impl FnOnce(&mut Emulator)) -> (Option<i32>, Value) {
    let text = std::fs::read_to_string(ROBOT).unwrap();
    let config = RobotConfig::parse(&text, Path::new(ROBOT)).unwrap();
    let mut emulator = Emulator::new(&config, 1);
    change(&mut emulator);
    let faults = FaultSpec::parse(faults, Path::new("faults.toml")).unwrap();
    let emulator = Arc::new(Mutex::new(emulator));
    let server = PtyServer::start(emulator, &faults, Arc::new(SystemClock)).unwrap();
    let (code, said, errors) =
        doctor(&[ROBOT, "--port", server.path().to_str().unwrap(), "--json"]);
    assert!(!errors.contains("panicked"), "{errors}");
    (code, serde_json::from_str(&said).unwrap_or_else(|e| panic!("{e}: {said}{errors}")))
}

fn named<'a>(report: &'a Value, name: &str) -> &'a Value {
    let mut checks = report["checks"].as_array().unwrap().iter();
    checks.find(|check| check["name"] == name).unwrap_or_else(|| panic!("no {name}: {report:#}"))
}

/// The names of the problems that are of the arm: this computer may have its own.
fn problems(report: &Value) -> Vec<&str> {
    let checks = report["checks"].as_array().unwrap().iter();
    let of_the_arm = checks.skip_while(|check| check["name"] != "port");
    let bad = of_the_arm.filter(|check| check["verdict"] == "problem");
    bad.map(|check| check["name"].as_str().unwrap()).collect()
}

#[test]
fn a_sound_arm_has_no_problem_and_every_servo_is_described() {
    let (_, report) = report("", |_| {});
    assert_eq!(problems(&report), [""; 0], "{report:#}");
    for (id, joint) in (1..).zip(["shoulder_pan", "shoulder_lift", "elbow_flex"]) {
        let servo = named(&report, &format!("servo {id} {joint}"));
        let found = servo["found"].as_str().unwrap();
        assert!(found.contains("sts3215, firmware 3.") && found.contains(" V, "), "{servo}");
        assert_eq!(servo["figures"]["answered"], true);
    }
    let cycle = named(&report, "bus cycle");
    assert!(cycle["found"].as_str().unwrap().contains("the wire needs"), "{cycle}");
    assert!(cycle["figures"]["p50_us"].as_f64().unwrap() > 0.0, "{cycle}");
}

#[test]
fn every_line_says_how_to_mend_it_and_the_exit_code_is_that_of_the_worst() {
    let (code, report) = report("", |_| {});
    let checks = report["checks"].as_array().unwrap();
    for check in checks {
        assert_eq!(check["mend"].is_null(), check["verdict"] == "ok", "{check}");
        assert!(!check["found"].as_str().unwrap().is_empty(), "{check}");
    }
    let count = checks.iter().filter(|check| check["verdict"] == "problem").count();
    assert_eq!(report["problems"], count);
    assert_eq!(report["fit"], count == 0);
    assert_eq!(code, Some(i32::from(count > 0)));
    for name in ["kernel", "clock source", "processor governor", "real-time priority"] {
        named(&report, name);
    }
    for name in ["wake-up at rest", "wake-up under load", "terminal round trip"] {
        let histogram = named(&report, name)["figures"]["histogram"].as_array().unwrap().clone();
        let counted: u64 = histogram.iter().map(|bucket| bucket[1].as_u64().unwrap()).sum();
        assert!(counted >= 200, "{name}: {histogram:?}");
    }
}

#[test]
fn a_silent_servo_is_a_problem_and_hides_no_other() {
    let (code, report) = report("[[fault]]\nkind = 'silent'\nid = 3", |_| {});
    assert_eq!(code, Some(1));
    assert_eq!(problems(&report), ["servo 3 elbow_flex", "bus cycle"], "{report:#}");
    let mend = named(&report, "servo 3 elbow_flex")["mend"].as_str().unwrap();
    assert!(mend.contains("check power, cables"), "{mend}");
    assert_eq!(named(&report, "servo 4 wrist_flex")["verdict"], "ok");
}

#[test]
fn a_supply_that_is_too_low_is_a_problem() {
    let (code, report) = report("", |emulator| emulator.set_supply(0.3));
    assert_eq!(code, Some(1));
    assert!(problems(&report).contains(&"servo 1 shoulder_pan"), "{report:#}");
}

#[test]
fn a_port_that_is_not_there_is_named_with_what_to_do() {
    let (code, said, _) = doctor(&[ROBOT, "--port", "/dev/ttyNONE"]);
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("PROBLEM  port") && said.contains("/dev/ttyNONE"), "{said}");
    assert!(said.contains("regoal robot find-port"), "{said}");
}
