//! `regoal robot` against the emulated bus: in memory, where waiting costs no time, with a script in
//! the operator's place; and the program itself over a pseudo terminal.

use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use regoal::clock::{Clock, ManualClock};
use regoal::cmd::Context;
use regoal::cmd::robot::operator::Operator;
use regoal::cmd::robot::{calibrate, configure, find_port, monitor, setup};
use regoal::config::{RobotConfig, Tuning};
use regoal::hal::calibration::ArmCalibration;
use regoal::hal::servo::feetech;
use regoal::hal::settings::SettingError;
use regoal::hal::{Arm, ArmError, Bus, Emulator, MemoryPort, servo};
use regoal::storage::{Disk, Memory, Storage as _};

fn config() -> RobotConfig {
    let text = include_str!("../firmware-config/emulated.toml");
    let mut config = RobotConfig::parse(text, Path::new("emulated.toml")).unwrap();
    config.emulator.position_noise_ticks = 0.0;
    config
}

/// An emulated arm at its bus, in virtual time.
struct Rig {
    emulator: Arc<Mutex<Emulator>>,
    clock: Arc<dyn Clock>,
    config: RobotConfig,
}

impl Rig {
    fn new() -> Self {
        Self::of(config())
    }

    fn of(config: RobotConfig) -> Self {
        let emulator = Arc::new(Mutex::new(Emulator::new(&config, 1)));
        Self { emulator, clock: Arc::new(ManualClock::default()), config }
    }

    fn port(&self) -> Box<MemoryPort> {
        Box::new(MemoryPort::new(Arc::clone(&self.emulator), Arc::clone(&self.clock)))
    }

    fn bus(&self) -> Bus {
        Bus::new(
            self.port(),
            Arc::clone(&self.clock),
            self.config.bus.protocol,
            self.config.bus.baud,
        )
    }

    fn emulator(&self) -> MutexGuard<'_, Emulator> {
        self.emulator.lock().unwrap()
    }

    fn register(&self, id: u8, register: &servo::Register) -> i32 {
        self.emulator().servo(id).unwrap().get(register)
    }

    fn set(&self, id: u8, register: &servo::Register, value: i32) {
        self.emulator().servo(id).unwrap().set(register, value);
    }

    fn context(&self) -> Context {
        Context {
            storage: Arc::new(Memory::default()),
            clock: Arc::clone(&self.clock),
            interrupted: Arc::new(AtomicBool::new(false)),
            program: env!("CARGO_BIN_EXE_regoal").into(),
        }
    }
}

/// Answers each question with Enter and does what `act` does; `looks` times before it is done.
struct Script<F> {
    act: F,
    looks: usize,
    done: usize,
    said: Vec<String>,
}

impl<F: FnMut(usize, &str)> Script<F> {
    fn new(looks: usize, act: F) -> Self {
        Self { act, looks, done: 0, said: Vec::new() }
    }
}

impl<F: FnMut(usize, &str)> Operator for Script<F> {
    fn say(&mut self, line: &str) -> anyhow::Result<()> {
        self.said.push(line.to_owned());
        Ok(())
    }
    fn show(&mut self, _: &[String]) -> anyhow::Result<()> {
        Ok(())
    }
    fn ask(&mut self, line: &str) -> anyhow::Result<String> {
        self.said.push(line.to_owned());
        (self.act)(self.done, line);
        Ok(String::new())
    }
    fn pressed(&mut self) -> anyhow::Result<bool> {
        (self.act)(self.done, "");
        self.done += 1;
        Ok(self.done > self.looks)
    }
}

/// A hand that leads all joints from the middle to both ends and back, in 400 looks.
fn hand(rig: &Rig, look: usize) {
    let phase = (look as f64 / 400.0 * std::f64::consts::TAU).sin();
    let mut emulator = rig.emulator();
    for joint in &rig.config.joint {
        let middle = f64::midpoint(joint.min_rad, joint.max_rad);
        let angle = middle + phase * (joint.max_rad - joint.min_rad) / 2.0;
        emulator.servo(joint.id).unwrap().place(angle);
    }
}

fn calibrated(rig: &Rig) -> anyhow::Result<ArmCalibration> {
    let mut script = Script::new(401, |look, asked| {
        if asked.is_empty() {
            hand(rig, look);
        }
    });
    calibrate::calibrate(&mut rig.bus(), &rig.config, &mut script, &rig.context())
}

#[test]
fn an_arm_is_calibrated_wherever_its_encoders_began() {
    // Old offsets of any size stand in for horns that were put on anywhere.
    for offsets in [[0, 0, 0, 0, 0, 0], [2047, -2047, 1000, -1500, 2, -2046]] {
        let rig = Rig::new();
        for (id, offset) in (1..).zip(offsets) {
            rig.set(id, &feetech::HOMING_OFFSET, offset);
        }
        let calibration = calibrated(&rig).unwrap();
        let mut robot = rig.config.clone();
        calibration.apply(&mut robot).unwrap();
        for (entry, joint) in calibration.joint.iter().zip(&rig.config.joint) {
            assert!((entry.middle() - 2048).abs() <= 2, "{entry:?}");
            assert_eq!(rig.register(entry.id, &feetech::HOMING_OFFSET), entry.homing_offset);
            assert_eq!(rig.register(entry.id, &feetech::LOCK), 1);
            let travel = f64::from(entry.range_max - entry.range_min) * servo::RAD_PER_TICK;
            assert!((travel - (joint.max_rad - joint.min_rad)).abs() < 0.01, "{entry:?}");
        }
        // An arm with this calibration opens and says where its joints are.
        let arm = Arm::open(&robot, rig.port(), Arc::clone(&rig.clock));
        assert!(arm.is_ok(), "{:?}", arm.err());
        assert_eq!(robot.calibration, calibration.hash().unwrap());
    }
}

#[test]
fn a_koch_is_calibrated_whatever_offset_and_mode_were_left_in_it() {
    use servo::dynamixel::{HOMING_OFFSET, MODE, MODE_EXTENDED_POSITION, MODE_POSITION};
    let koch = include_str!("../firmware-config/koch-follower.toml");
    let koch = RobotConfig::parse(koch, Path::new("koch.toml")).unwrap();
    for (mode, offset) in [
        (MODE_POSITION, 700),
        (MODE_POSITION, 2000),
        (MODE_EXTENDED_POSITION, -2000),
        (MODE_EXTENDED_POSITION, 9000),
    ] {
        let rig = Rig::of(koch.clone());
        for id in 1..=6 {
            rig.set(id, &MODE, mode);
            rig.set(id, &HOMING_OFFSET, offset);
        }
        let calibration = calibrated(&rig).unwrap();
        for entry in &calibration.joint {
            assert!((entry.middle() - 2048).abs() <= 4, "{mode} {offset}: {entry:?}");
            assert!(entry.homing_offset.abs() <= 4, "{mode} {offset}: {entry:?}");
            assert_eq!(rig.register(entry.id, &HOMING_OFFSET), entry.homing_offset);
        }
        calibration.apply(&mut koch.clone()).unwrap();
    }
}

#[test]
fn an_arm_with_other_offsets_than_its_calibration_does_not_open() {
    let rig = Rig::new();
    let calibration = calibrated(&rig).unwrap();
    let mut robot = rig.config.clone();
    calibration.apply(&mut robot).unwrap();
    let there = calibration.joint[2].homing_offset;
    rig.set(3, &feetech::HOMING_OFFSET, there + 7);
    let Err(error) = Arm::open(&robot, rig.port(), Arc::clone(&rig.clock)) else { panic!() };
    assert!(
        matches!(&error, ArmError::Uncalibrated { joint, found, .. } if joint == "elbow_flex" && *found == there + 7),
        "{error}"
    );
    configure::configure(&mut rig.bus(), &robot, Some(&calibration), false).unwrap();
    assert!(Arm::open(&robot, rig.port(), Arc::clone(&rig.clock)).is_ok());
}

#[test]
fn a_calibration_that_is_given_up_has_written_nothing() {
    let rig = Rig::new();
    let before: Vec<_> = (1..=6).map(|id| rig.register(id, &feetech::HOMING_OFFSET)).collect();
    let mut idle = Script::new(20, |_, _| {});
    let error =
        calibrate::calibrate(&mut rig.bus(), &rig.config, &mut idle, &rig.context()).unwrap_err();
    assert!(error.to_string().contains("move it from end to end"), "{error}");
    let after: Vec<_> = (1..=6).map(|id| rig.register(id, &feetech::HOMING_OFFSET)).collect();
    assert_eq!(before, after);
    assert_eq!(rig.register(1, &feetech::MAX_POSITION), 4095);
}

#[test]
fn a_silent_servo_is_named_when_its_joint_could_not_be_swept() {
    let rig = Rig::new();
    let mut script = Script::new(401, |look, asked| {
        if asked.is_empty() {
            hand(&rig, look);
            rig.emulator().servo(4).unwrap().set_connected(false);
        }
    });
    let context = rig.context();
    let error =
        calibrate::calibrate(&mut rig.bus(), &rig.config, &mut script, &context).unwrap_err();
    assert!(error.to_string().contains("`wrist_flex`"), "{error}");
}

#[test]
fn configure_writes_only_what_differs_and_a_second_time_nothing() {
    let rig = Rig::new();
    let mut robot = rig.config.clone();
    robot.joint[5].tuning = Tuning {
        p_gain: Some(16),
        max_torque: Some(0.5),
        max_current: Some(1.625),
        overload_torque: Some(0.25),
        ..Tuning::default()
    };
    rig.set(2, &feetech::PHASE, feetech::PHASE_MULTI_TURN | feetech::PHASE_FINE_SPEED);
    let configure = |dry_run| configure::configure(&mut rig.bus(), &robot, None, dry_run).unwrap();
    let shown = configure(true);
    assert_eq!(rig.register(6, &feetech::P_GAIN), 32, "a dry run writes nothing");
    assert_eq!(configure(false), shown);
    for (register, value) in [
        (feetech::P_GAIN, 16),
        (feetech::MAX_TORQUE, 500),
        (feetech::PROTECTION_CURRENT, 250),
        (feetech::OVERLOAD_TORQUE, 25),
        (feetech::LOCK, 1),
    ] {
        assert_eq!(rig.register(6, &register), value, "{}", register.name);
    }
    assert_eq!(rig.register(2, &feetech::PHASE), feetech::PHASE_FINE_SPEED);
    let limits =
        |d: &&regoal::hal::settings::Difference| d.register.name.contains("Position_Limit");
    assert_eq!(shown.iter().filter(limits).count(), 12);
    assert_eq!(configure(false), []);
}

#[test]
fn configure_leaves_an_arm_alone_that_holds() {
    let rig = Rig::new();
    rig.set(1, &feetech::TORQUE_ENABLE, 1);
    let error = configure::configure(&mut rig.bus(), &rig.config, None, false).unwrap_err();
    let error = error.downcast::<SettingError>().unwrap();
    assert!(
        matches!(&error, SettingError::TorqueOn { joint } if joint == "shoulder_pan"),
        "{error}"
    );
    assert_eq!(rig.register(1, &feetech::MAX_POSITION), 4095);
}

#[test]
fn settings_that_a_servo_does_not_have_are_named_before_anything_is_written() {
    let rig = Rig::new();
    let mut robot = rig.config.clone();
    robot.joint[5].tuning.p_gain = Some(300);
    let error = configure::configure(&mut rig.bus(), &robot, None, false).unwrap_err().to_string();
    assert!(error.contains("`gripper`") && error.contains("P_Coefficient"), "{error}");
    assert_eq!(rig.register(1, &feetech::MAX_POSITION), 4095);
}

#[test]
fn every_shipped_tuning_fits_its_servos() {
    for file in [
        "so101-follower",
        "so101-leader",
        "so100-follower",
        "so100-leader",
        "koch-follower",
        "koch-leader",
    ] {
        let path = PathBuf::from(format!("firmware-config/{file}.toml"));
        let robot = RobotConfig::load(&Disk, &path).unwrap();
        for joint in &robot.joint {
            let settings = regoal::hal::settings::settings(joint, None).unwrap();
            assert!(settings.len() >= 6, "{file} {}", joint.name);
        }
    }
}

/// Six new servos: all with id 1, and only one of them plugged in at a time.
fn fresh(rig: &Rig) {
    let mut emulator = rig.emulator();
    for id in 2..=6 {
        emulator.servo(id).unwrap().set_connected(false);
    }
    emulator.servo(1).unwrap().set_connected(false);
}

#[test]
fn setup_gives_one_servo_after_another_its_id() {
    let rig = Rig::new();
    fresh(&rig);
    let names: Vec<String> = rig.config.joint.iter().map(|joint| joint.name.clone()).collect();
    // A new servo's id is one that no joint has, so that the emulator tells them apart.
    let mut script = Script::new(0, |_, asked: &str| {
        let mut emulator = rig.emulator();
        for (id, name) in (1u8..).zip(&names) {
            let own = asked.contains(&format!("`{name}`"));
            if own {
                emulator.servo(id).unwrap().set(&feetech::ID, 100 + i32::from(id));
            }
            let at = if own { 100 + id } else { id };
            if let Some(servo) = emulator.servo(at) {
                servo.set_connected(own);
            }
        }
    });
    setup::set_up(&rig.config, &[], &mut script, |_| Ok(rig.bus())).unwrap();
    assert!(script.said[0].contains("`gripper`"), "{:?}", script.said);
    assert_eq!(script.said.iter().filter(|line| line.contains("press Enter")).count(), 6);
    drop(script);
    for id in 1..=6 {
        assert_eq!(rig.register(id, &feetech::ID), i32::from(id));
        assert_eq!(rig.register(id, &feetech::LOCK), 1);
    }
}

#[test]
fn setup_finds_a_servo_at_any_speed_and_brings_it_to_the_buss() {
    let koch = include_str!("../firmware-config/koch-follower.toml");
    let koch = RobotConfig::parse(koch, Path::new("koch.toml")).unwrap();
    for config in [config(), koch] {
        let joint = config.joint[0].clone();
        let model = servo::Model::of(joint.servo);
        for (code, speed) in (0..).zip(model.bauds) {
            let rig = Rig::of(config.clone());
            fresh(&rig);
            rig.set(1, &model.baud_rate, code);
            rig.set(1, &model.id, 42);
            rig.emulator().servo(42).unwrap().set_connected(true);
            let mut script = Script::new(0, |_, _: &str| {});
            let only = [joint.name.clone()];
            setup::set_up(&rig.config, &only, &mut script, |baud| {
                rig.emulator().set_baud(baud);
                Ok(rig.bus())
            })
            .unwrap_or_else(|error| panic!("{} at {speed}: {error}", model.name));
            let expected = model.baud_code(config.bus.baud).unwrap();
            assert_eq!(rig.register(1, &model.baud_rate), expected, "{} at {speed}", model.name);
            let was = format!("(was 42 at {speed})");
            assert!(script.said.iter().any(|line| line.contains(&was)), "{:?}", script.said);
        }
    }
}

#[test]
fn setup_refuses_several_servos_none_and_others() {
    let rig = Rig::new();
    let only = ["gripper".to_owned()];
    let set_up = |only: &[String]| {
        let mut script = Script::new(0, |_, _: &str| {});
        setup::set_up(&rig.config, only, &mut script, |_| Ok(rig.bus())).unwrap_err().to_string()
    };
    assert!(set_up(&only).contains("expected one servo, found 6"), "{}", set_up(&only));
    assert!(set_up(&["thumb".to_owned()]).contains("found `thumb`"));
    fresh(&rig);
    assert!(set_up(&only).contains("expected a servo at any speed, found none"));
    rig.emulator().servo(3).unwrap().set_connected(true);
    rig.set(3, &feetech::MODEL, 2825);
    let error = set_up(&only);
    assert!(
        error.contains("expected a sts3215 for `gripper`, found sts3250 (2825) with id 3"),
        "{error}"
    );
}

#[test]
fn monitor_shows_every_servo_and_what_ails_it() {
    let rig = Rig::new();
    {
        let mut emulator = rig.emulator();
        emulator.servo(2).unwrap().set_connected(false);
        emulator.servo(3).unwrap().heat(75.0);
        emulator.servo(5).unwrap().place(1.0);
    }
    let look = monitor::look(&mut rig.bus(), &rig.config).unwrap();
    let answered: Vec<_> = look.joints.iter().map(|row| row.answered).collect();
    assert_eq!(answered, [true, false, true, true, true, true]);
    let row = &look.joints[2];
    assert_eq!(row.faults, ["overheat"]);
    assert!(row.temperature.unwrap() > 70.0);
    let row = &look.joints[4];
    assert!((row.position.unwrap() - 1.0).abs() < 2e-3, "{row:?}");
    assert!(row.goal.is_some() && row.velocity.is_some() && row.current.is_some());
    assert!((11.0..13.0).contains(&row.voltage.unwrap()), "{row:?}");
    assert_eq!(row.torque, Some(false));
    let json = serde_json::to_value(&look).unwrap();
    assert_eq!(json["joints"][1]["position"], serde_json::Value::Null);
}

#[test]
fn monitor_writes_nothing() {
    let rig = Rig::new();
    let registers = |rig: &Rig| {
        let writable = feetech::STS.iter().filter(|r| r.access == servo::Access::ReadWrite);
        writable.map(|r| rig.register(3, r)).collect::<Vec<_>>()
    };
    let before = registers(&rig);
    monitor::look(&mut rig.bus(), &rig.config).unwrap();
    assert_eq!(registers(&rig), before);
}

fn port(name: &str) -> find_port::Found {
    find_port::Found { port: name.into(), by_id: None, by_path: None, adapter: String::new() }
}

#[test]
fn the_port_that_goes_is_the_arms() {
    let ports = |names: &[&str]| names.iter().map(|name| port(name)).collect::<Vec<_>>();
    for (after, says) in [
        (&["/dev/ttyACM0"][..], Ok("/dev/ttyACM1")),
        (&["/dev/ttyACM0", "/dev/ttyACM1"], Err("right cable")),
        (&[], Err("2 gone")),
    ] {
        let unplugged = std::cell::Cell::new(false);
        let mut script = Script::new(0, |_, _: &str| unplugged.set(true));
        let found = find_port::by_unplugging(&mut script, || match unplugged.get() {
            false => ports(&["/dev/ttyACM0", "/dev/ttyACM1"]),
            true => ports(after),
        });
        match says {
            Ok(name) => assert_eq!(found.unwrap().port, name),
            Err(text) => assert!(found.unwrap_err().to_string().contains(text)),
        }
    }
    let mut nobody = Script::new(0, |_, _: &str| {});
    assert!(find_port::by_unplugging(&mut nobody, Vec::new).is_err());
}

#[test]
fn a_ports_lasting_name_is_the_link_that_leads_to_it() {
    let folder = tempfile::tempdir().unwrap();
    let (device, links) = (folder.path().join("ttyACM0"), folder.path().join("by-id"));
    std::fs::File::options().create(true).append(true).open(&device).unwrap();
    std::fs::create_dir(&links).unwrap();
    std::os::unix::fs::symlink("../ttyACM0", links.join("usb-arm")).unwrap();
    std::os::unix::fs::symlink("../ttyACM1", links.join("a-dead-link")).unwrap();
    assert_eq!(find_port::link_to(&device, &links), Some(links.join("usb-arm")));
    assert_eq!(find_port::link_to(&folder.path().join("ttyACM7"), &links), None);
}

/// The program over a pseudo terminal: what is written with one verb, the next one reads.
#[test]
fn the_verbs_work_on_an_emulator_behind_a_pseudo_terminal() {
    use std::process::{Command, Stdio};
    let folder = tempfile::tempdir().unwrap();
    let robot = folder.path().join("arm.toml");
    std::fs::copy("firmware-config/emulated.toml", &robot).unwrap();
    let link = folder.path().join("port");
    let regoal = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
        command.env_remove("RUST_LOG");
        command
    };
    let mut emulator = regoal()
        .args(["emulate", "--link", link.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = String::new();
    std::io::BufRead::read_line(
        &mut std::io::BufReader::new(emulator.stdout.take().unwrap()),
        &mut first,
    )
    .unwrap();
    let verb = |args: &[&str]| {
        let which = ["--robot", robot.to_str().unwrap(), "--port", link.to_str().unwrap()];
        let output = regoal().arg("robot").args(args).args(which).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.success(), text(&output.stdout) + &text(&output.stderr))
    };
    let looks = [
        verb(&["configure", "--dry-run"]),
        verb(&["configure"]),
        verb(&["configure", "--json"]),
        verb(&["monitor", "--once"]),
        verb(&["monitor", "--once", "--json"]),
    ];
    // Its own process, told to end as Ctrl-C would.
    let pid = rustix::process::Pid::from_child(&emulator);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    emulator.wait().unwrap();
    assert!(looks.iter().all(|(success, _)| *success), "{looks:#?}");
    assert!(looks[0].1.contains("12 registers differ; nothing was written"), "{}", looks[0].1);
    assert!(looks[1].1.contains("12 registers written and read back"), "{}", looks[1].1);
    let json: serde_json::Value = serde_json::from_str(&looks[2].1).unwrap();
    assert_eq!(json["differences"], serde_json::json!([]));
    assert_eq!(looks[3].1.lines().count(), 8, "{}", looks[3].1);
    let json: serde_json::Value = serde_json::from_str(&looks[4].1).unwrap();
    assert_eq!(json["joints"].as_array().unwrap().len(), 6);
}

/// Runs `regoal robot` with Enter pressed twelve times; whether it succeeded, and what it said.
fn robot_verb(args: &[&str]) -> (bool, String) {
    use std::process::{Command, Stdio};
    let mut command = Command::new(env!("CARGO_BIN_EXE_regoal"));
    command.env_remove("RUST_LOG").arg("robot").args(args);
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended without a question.
    let _ = std::io::Write::write_all(&mut child.stdin.take().unwrap(), &[b'\n'; 12]);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout) + &text(&output.stderr))
}

#[test]
fn every_verb_speaks_with_the_built_in_emulator_whatever_calibration_lies_beside() {
    let folder = tempfile::tempdir().unwrap();
    let robot = folder.path().join("arm.toml");
    std::fs::copy("firmware-config/emulated.toml", &robot).unwrap();
    let beside = ArmCalibration::path_of(&robot);
    calibrated(&Rig::new()).unwrap().save(&Disk, &beside).unwrap();
    let robot = robot.to_str().unwrap();
    for (args, success, says) in [
        (&["configure", "--dry-run"][..], true, "12 registers differ; nothing was written"),
        (&["configure"], true, "12 registers written and read back"),
        (&["monitor", "--once"], true, "shoulder_pan"),
        (&["calibrate", "--headless"], false, "start `regoal emulate --link"),
        (&["setup", "--headless"], false, "expected one servo, found 6"),
    ] {
        let which = ["--robot", robot, "--port", "emulated"];
        let (succeeded, said) = robot_verb(&[args, &which].concat());
        assert!(succeeded == success && said.contains(says), "{args:?}: {said}");
    }
}

#[test]
fn a_servo_that_is_not_emulated_is_refused_by_every_verb() {
    let folder = tempfile::tempdir().unwrap();
    let robot = folder.path().join("arm.toml");
    let text = include_str!("../firmware-config/emulated.toml");
    Disk.replace(&robot, text.replacen("\"sts3215\"", "\"scs0009\"", 1).as_bytes()).unwrap();
    let which = ["--robot", robot.to_str().unwrap(), "--port", "emulated"];
    for args in [&["monitor", "--once"][..], &["configure"], &["setup", "--headless"]] {
        let (succeeded, said) = robot_verb(&[args, &which].concat());
        assert!(!succeeded && said.contains("an SCS0009, which is not emulated"), "{said}");
    }
}

#[test]
fn a_monitor_that_nobody_answers_says_what_to_look_at_and_fails() {
    let text = include_str!("../firmware-config/emulated.toml");
    let feetech = RobotConfig::parse(text, Path::new("emulated.toml")).unwrap();
    let emulator = Arc::new(Mutex::new(Emulator::new(&feetech, 1)));
    let clock = Arc::new(regoal::clock::SystemClock);
    let server =
        regoal::hal::PtyServer::start(emulator, &regoal::hal::FaultSpec::default(), clock).unwrap();
    let port = server.path();
    let which = ["--robot", "firmware-config/koch-follower.toml", "--port", port.to_str().unwrap()];
    let (succeeded, said) = robot_verb(&[&["monitor", "--once"][..], &which].concat());
    assert!(!succeeded && said.contains("bus.protocol (dynamixel)"), "{said}");
    assert_eq!(said.matches("no answer").count(), 6, "{said}");
}

#[test]
fn a_monitor_without_a_terminal_prints_its_table_again_and_again() {
    use std::process::{Command, Stdio};
    let mut child = Command::new(env!("CARGO_BIN_EXE_regoal"))
        .args(["robot", "monitor", "--port", "emulated"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = std::io::BufReader::new(child.stdout.take().unwrap());
    let heads = std::io::BufRead::lines(out).map_while(Result::ok);
    assert_eq!(heads.filter(|line| line.starts_with("joint")).take(2).count(), 2);
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn all_ports_are_listed_and_where_no_arm_can_be_it_is_said() {
    let (succeeded, said) = robot_verb(&["find-port", "--list"]);
    let usb =
        find_port::ports(Path::new("/dev/serial")).iter().any(|port| !port.adapter.is_empty());
    assert!(succeeded && usb != said.contains("no USB adapter"), "{said}");
    for port in find_port::ports(Path::new("/dev/serial")) {
        assert!(said.contains(&port.port), "{said}");
    }
}
