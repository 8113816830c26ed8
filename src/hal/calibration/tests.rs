use std::path::Path;

use proptest::prelude::*;

use super::*;
use crate::config::{RobotConfig, ServoModel, Tuning};
use crate::hal::servo::RAD_PER_TICK;
use crate::storage::{Memory, Storage as _};

fn joint(zero_ticks: i32, direction: i8, min_rad: f64, max_rad: f64) -> JointConfig {
    JointConfig {
        name: "j".into(),
        id: 1,
        servo: ServoModel::Sts3215,
        zero_ticks,
        direction,
        min_rad,
        max_rad,
        max_velocity: 1.0,
        max_acceleration: 1.0,
        max_jerk: 3000.0,
        park_rad: None,
        home_rad: min_rad,
        tuning: Tuning::default(),
        homing_offset: None,
    }
}

proptest! {
    #[test]
    fn a_tick_within_the_limits_comes_back(
        zero in 0i32..4096, flip in any::<bool>(), min in -3.0f64..2.9, span in 0.01f64..3.0, at in 0.0f64..1.0,
    ) {
        let c = Calibration::new(&joint(zero, if flip { -1 } else { 1 }, min, min + span));
        let (lowest, highest) = c.limits();
        let tick = lowest + (at * f64::from(highest - lowest)) as i32;
        prop_assert_eq!(c.ticks(c.radians(tick)), Ok(tick));
    }

    #[test]
    fn no_angle_leaves_the_limits(zero in 1100i32..3000, flip in any::<bool>(), angle in any::<f64>()) {
        let c = Calibration::new(&joint(zero, if flip { -1 } else { 1 }, -1.5, 0.7));
        match c.ticks(angle) {
            Ok(tick) => {
                prop_assert!((-1.5..=0.7).contains(&c.radians(tick)), "{}", c.radians(tick));
            }
            Err(_) => prop_assert!(!angle.is_finite()),
        }
    }
}

#[test]
fn ticks_are_rounded_to_the_nearest() {
    let c = Calibration::new(&joint(2048, 1, -3.0, 3.0));
    assert_eq!(c.ticks(0.51 * RAD_PER_TICK), Ok(2049));
    assert_eq!(c.ticks(-0.51 * RAD_PER_TICK), Ok(2047));
    assert_eq!(c.ticks(0.49 * RAD_PER_TICK), Ok(2048));
    assert!(c.ticks(f64::NAN).is_err() && c.ticks(f64::INFINITY).is_err());
}

fn robot() -> RobotConfig {
    let text = include_str!("../../../firmware-config/emulated.toml");
    RobotConfig::parse(text, Path::new("robot.toml")).unwrap()
}

/// The middle of a turn.
const MIDDLE: i32 = 2048;

const FEETECH: Encoder = Encoder { turn: 4096, sign: -1, most: 2047, wraps: true };
const DYNAMIXEL: Encoder = Encoder { turn: 4096, sign: 1, most: 1024, wraps: false };

fn plan(encoder: Encoder, offset: i32) -> Plan {
    let (name, id, direction, range) = ("j".to_owned(), 1, 1, 0.2);
    Plan { name, id, direction, range, encoder, offset }
}

/// What a servo says when its encoder, which never stops counting, is at `at`.
fn position(encoder: Encoder, at: i32, offset: i32) -> i32 {
    let shown = at.rem_euclid(encoder.turn) + encoder.sign * offset;
    if encoder.wraps { shown.rem_euclid(encoder.turn) } else { shown }
}

/// A hand leads a joint from the middle of `ends` to the lower one, the upper one, and back.
fn sweep(plan: Plan, ends: (i32, i32), step: usize) -> Result<JointCalibration, CalibrationError> {
    let (encoder, offset) = (plan.encoder, plan.offset);
    let mut sweep = Sweep::new([plan]);
    let middle = ends.0.midpoint(ends.1);
    let there = (ends.0..middle).rev().step_by(step).chain([ends.0; 3]);
    let back = (middle..ends.1).step_by(step).chain([ends.1; 3]);
    let home = (middle..ends.1).rev().step_by(step).chain([middle; 3]);
    for at in there.chain((ends.0..middle).step_by(step)).chain(back).chain(home) {
        sweep.see(0, position(encoder, at, offset));
    }
    sweep.finish("r").map(|arm| arm.joint.into_iter().next().unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Whatever the servo's offset was and wherever the encoder's end lay.
    #[test]
    fn after_a_sweep_positions_run_through_the_travel_without_a_jump(
        from in -5000i32..5000, span in 300i32..4060, old in -2047i32..=2047, step in 1usize..900,
    ) {
        let found = sweep(plan(FEETECH, old), (from, from + span), step).unwrap();
        prop_assert!(found.homing_offset.abs() <= 2047);
        prop_assert!((found.middle() - MIDDLE).abs() <= 2, "{:?}", found);
        prop_assert_eq!(found.range_max - found.range_min, span);
        for at in from..=from + span {
            let seen = position(FEETECH, at, found.homing_offset);
            prop_assert_eq!(seen, found.range_min + at - from);
        }
        // The end is as far from one end of the travel as from the other.
        prop_assert!((found.range_min - (4095 - found.range_max)).abs() <= 4, "{:?}", found);
    }

    /// Its offset reaches a quarter of a turn and does not turn positions over.
    #[test]
    fn a_dynamixel_is_calibrated_where_its_encoders_end_is_outside_the_travel(
        from in 0i32..4096, span in 300i32..3000, old in -1024i32..=1024,
    ) {
        match sweep(plan(DYNAMIXEL, old), (from, from + span), 50) {
            Ok(found) => {
                prop_assert!(found.homing_offset.abs() <= 1024);
                prop_assert!(found.range_min >= 0 && found.range_max <= 4095);
                for at in [from, from + span / 2, from + span] {
                    let seen = position(DYNAMIXEL, at, found.homing_offset);
                    prop_assert_eq!(seen, found.range_min + at - from);
                }
            }
            Err(error) => {
                let wrap = matches!(error, CalibrationError::WrapInside { .. });
                prop_assert!(wrap, "{}", error);
                prop_assert!(from + span >= 4096, "{from} {span}");
            }
        }
    }

    #[test]
    fn one_wild_reading_among_good_ones_changes_nothing(
        from in 0i32..4096, wild in 0i32..4096, at in 3usize..60,
    ) {
        let mut clean = Sweep::new([plan(FEETECH, 0)]);
        let mut dirty = Sweep::new([plan(FEETECH, 0)]);
        let way: Vec<i32> = (from..from + 900).step_by(15).collect();
        for (i, x) in way.iter().chain(&[way[59]; 3]).enumerate() {
            clean.see(0, position(FEETECH, *x, 0));
            dirty.see(0, if i == at { wild } else { position(FEETECH, *x, 0) });
        }
        let (clean, dirty) = (clean.travelled(0).unwrap(), dirty.travelled(0).unwrap());
        prop_assert!((clean - dirty).abs() <= 15, "{} {}", clean, dirty);
    }
}

/// LeRobot computes offset 2048 there, which the register cannot hold, and fails.
#[test]
fn a_joint_at_raw_position_4095_is_calibrated() {
    for middle in [4094, 4095, 4096, 0, 1, 2047, 2048] {
        let found = sweep(plan(FEETECH, 0), (middle - 700, middle + 700), 30).unwrap();
        assert!(found.homing_offset.abs() <= 2047, "{middle}: {found:?}");
        assert!((found.middle() - MIDDLE).abs() <= 1, "{middle}: {found:?}");
    }
}

#[test]
fn a_joint_that_goes_round_has_its_middle_where_it_is_left() {
    let found = sweep(plan(FEETECH, 100), (500, 500 + 4200), 100).unwrap();
    assert_eq!((found.range_min, found.range_max), (0, 4095));
    let left_at = 500i32.midpoint(500 + 4200);
    assert_eq!(position(FEETECH, left_at, found.homing_offset), MIDDLE);
}

#[test]
fn a_joint_that_was_hardly_moved_is_named_with_what_it_lacks() {
    let mut still = plan(FEETECH, 0);
    still.range = 3.0;
    let error = sweep(still, (1000, 1300), 20).unwrap_err().to_string();
    assert!(error.contains("`j`: expected a travel of 86° or more, found 26°"), "{error}");
    let unseen = Sweep::new([plan(FEETECH, 0)]);
    assert!(matches!(unseen.finish("r"), Err(CalibrationError::NotSwept { .. })));
    assert!(!unseen.is_swept(0));
}

fn entry(range_min: i32, range_max: i32, drive_mode: u8) -> JointCalibration {
    let name = "shoulder_pan".to_owned();
    JointCalibration { name, id: 1, drive_mode, homing_offset: -5, range_min, range_max }
}

fn arm() -> ArmCalibration {
    let robot = robot();
    let joint = robot.joint.iter().map(|joint| JointCalibration {
        name: joint.name.clone(),
        id: joint.id,
        ..entry(900, 3100, 0)
    });
    ArmCalibration { robot: "arm".into(), joint: joint.collect() }
}

#[test]
fn an_offset_that_a_servo_does_not_heed_is_refused() {
    let koch = include_str!("../../../firmware-config/koch-follower.toml");
    let koch = RobotConfig::parse(koch, Path::new("koch.toml")).unwrap();
    let mut calibration = arm();
    for (entry, joint) in calibration.joint.iter_mut().zip(&koch.joint) {
        entry.name.clone_from(&joint.name);
        entry.homing_offset = 1024;
    }
    calibration.apply(&mut koch.clone()).unwrap();
    calibration.joint[2].homing_offset = -1025;
    let error = calibration.apply(&mut koch.clone()).unwrap_err().to_string();
    assert!(error.contains("`elbow_flex`: expected a homing offset from -1024 to 1024"), "{error}");
}

#[test]
fn a_calibration_moves_zero_with_the_middle_and_narrows_the_limits() {
    let mut calibrated = robot();
    arm().apply(&mut calibrated).unwrap();
    assert_eq!(calibrated.calibration, arm().hash().unwrap());
    assert!(calibrated.joint.iter().all(|joint| joint.homing_offset == Some(-5)));
    // The middle of 900..=3100 is 2000: 48 below where the configuration has it.
    for (now, was) in calibrated.joint.iter().zip(&robot().joint) {
        assert_eq!(now.zero_ticks, was.zero_ticks - 48);
        assert!(now.min_rad >= was.min_rad && now.max_rad <= was.max_rad);
        let (lowest, highest) = Calibration::new(now).limits();
        assert!(lowest >= 900 && highest <= 3100, "{}: {lowest} {highest}", now.name);
        let margin = calibrated.safety.limit_margin_rad;
        let within = now.min_rad + margin..=now.max_rad - margin;
        assert!(within.contains(&now.home_rad) && within.contains(&now.park_rad()), "{now:?}");
    }
    let pan = &calibrated.joint[0];
    assert!((pan.max_rad - 1100.0 * RAD_PER_TICK).abs() < 1e-9, "{}", pan.max_rad);
}

#[test]
fn a_drive_mode_turns_a_joint_round_its_middle() {
    let mut joint = robot().joint[0].clone();
    (joint.zero_ticks, joint.min_rad, joint.max_rad) = (2248, -0.5, 1.5);
    let mut robot = robot();
    robot.joint = vec![joint];
    let mut turned = arm();
    turned.joint[0] = entry(1048, 3047, 1);
    turned.apply(&mut robot).unwrap();
    assert_eq!((robot.joint[0].direction, robot.joint[0].zero_ticks), (-1, 1848));
}

#[test]
fn a_calibration_of_another_arm_is_refused_and_changes_nothing() {
    let (mut missing, mut other) = (arm(), arm());
    missing.joint.pop();
    other.joint[5].id = 9;
    for (calibration, says) in [
        (missing, "expected a calibration of joint `gripper`, found none"),
        (other, "expected the calibration of servo 6, found one of servo 9"),
    ] {
        let mut config = robot();
        let error = calibration.apply(&mut config).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
        assert_eq!(config, robot());
    }
}

#[test]
fn a_calibration_file_comes_back_and_its_hash_is_of_its_values() {
    let storage = Memory::default();
    storage.create_folder(Path::new("/robots")).unwrap();
    let path = ArmCalibration::path_of(Path::new("/robots/so101-follower.toml"));
    assert_eq!(path, Path::new("/robots/so101-follower.calibration.toml"));
    assert_eq!(ArmCalibration::load(&storage, &path).unwrap(), None);
    arm().save(&storage, &path).unwrap();
    let back = ArmCalibration::load(&storage, &path).unwrap().unwrap();
    assert_eq!(back, arm());
    assert_eq!(back.hash().unwrap(), arm().hash().unwrap());
    let mut other = arm();
    other.joint[2].homing_offset += 1;
    assert_ne!(other.hash().unwrap(), arm().hash().unwrap());
    assert_eq!(other.hash().unwrap().len(), 64);
}

#[test]
fn a_broken_calibration_file_is_named_with_what_is_wrong() {
    let storage = Memory::default();
    let path = Path::new("/arm.calibration.toml");
    let good = toml::to_string(&arm()).unwrap();
    for (from, to, says) in [
        ("range_max = 3100", "range_max = 900", "range_max: expected 901 to"),
        ("drive_mode = 0", "drive_mode = 2", "drive_mode: expected 0 to 1, found 2"),
        ("id = 2", "id = 1", "differ in name and id"),
        ("id = 2", "idd = 2", "unknown field `idd`"),
    ] {
        storage.replace(path, good.replacen(from, to, 1).as_bytes()).unwrap();
        let error = ArmCalibration::load(&storage, path).unwrap_err().to_string();
        assert!(error.contains(says) && error.contains("/arm.calibration.toml"), "{error}");
    }
}

/// As LeRobot 0.6 writes it: four spaces, its order of keys, no line end after the last brace.
const LEROBOT: &str = r#"{
    "shoulder_pan": {
        "id": 1,
        "drive_mode": 0,
        "homing_offset": -1470,
        "range_min": 758,
        "range_max": 3292
    },
    "wrist_roll": {
        "id": 5,
        "drive_mode": 1,
        "homing_offset": 2047,
        "range_min": 0,
        "range_max": 4095
    }
}"#;

#[test]
fn lerobots_file_comes_back_to_the_byte() {
    let arm = ArmCalibration::from_lerobot("arm", LEROBOT).unwrap();
    assert_eq!(arm.joint("wrist_roll").unwrap().homing_offset, 2047);
    assert_eq!(arm.to_lerobot().unwrap(), LEROBOT);
    for (from, to) in [("\"id\": 5", "\"id\": 1"), ("3292", "300"), ("\"drive_mode\": 1,", "")] {
        assert!(ArmCalibration::from_lerobot("arm", &LEROBOT.replacen(from, to, 1)).is_err());
    }
}

#[test]
fn positions_are_lerobots_to_the_bit() {
    let mut rows = 0;
    let table = include_str!("../../../tests/data/lerobot_normalisation.csv");
    for row in table.lines().filter(|line| !line.starts_with('#')) {
        let cells: Vec<&str> = row.split(',').collect();
        let mode = match cells[1] {
            "m" => Normalisation::RangeM100To100,
            "0" => Normalisation::Range0To100,
            _ => Normalisation::Degrees,
        };
        let number = |i: usize| cells[i].parse::<i32>().unwrap();
        let joint = entry(number(2), number(3), number(4) as u8);
        if cells[0] == "to_user" {
            let expected: f64 = cells[6].parse().unwrap();
            let found = mode.to_user(&joint, number(5));
            assert_eq!(found.to_bits(), expected.to_bits(), "{row}: found {found}");
        } else {
            assert_eq!(mode.to_ticks(&joint, cells[5].parse().unwrap()), Ok(number(6)), "{row}");
        }
        rows += 1;
    }
    assert_eq!(rows, 204);
}

#[test]
fn what_lerobot_would_send_for_nonsense_is_refused() {
    use Normalisation::{Degrees, Range0To100, RangeM100To100};
    for mode in [RangeM100To100, Range0To100, Degrees] {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert!(mode.to_ticks(&entry(800, 3200, 0), bad).is_err(), "{mode:?} {bad}");
        }
    }
    assert!(Degrees.to_ticks(&entry(800, 3200, 0), 1e30).is_err());
}

#[test]
fn what_is_wrong_in_lerobots_file_names_the_joint_and_the_key() {
    let wrong = |from: &str, to: &str| {
        let json = LEROBOT.replacen(from, to, 1);
        assert_ne!(json, LEROBOT);
        ArmCalibration::from_lerobot("arm", &json).unwrap_err().to_string()
    };
    for (from, to, says) in [
        ("\"homing_offset\": ", "\"homing_offset\": \"a\", \"x\": ", "homing_offset: invalid type"),
        ("\"range_min\"", "\"range_mni\"", "range_min: expected a number, found none"),
        ("\"id\": 1,", "\"id\": 1, \"speed\": 3,", "expected no key `speed`, found it"),
        ("\"id\": 1,", "\"id\": 1000,", "id: invalid value"),
    ] {
        let error = wrong(from, to);
        assert!(error.contains(&format!("joint `shoulder_pan`: {says}")), "{error}");
    }
}
