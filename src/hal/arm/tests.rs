//! Arms of Dynamixel servos, of which only the registers are modelled.

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Mutex, MutexGuard};

use super::*;
use crate::clock::ManualClock;
use crate::hal::port::PortError;
use crate::hal::servo::{RAD_PER_TICK, dynamixel as x};
use crate::hal::wire::dynamixel::{Decoder, PacketBuf, Refusal, Request, Status, bulk_reads};

/// A servo that keeps what is written as a Dynamixel does, and goes where it is told at once.
struct Servo {
    model: &'static Model,
    memory: [u8; 256],
    silent: bool,
    alert: bool,
    /// Values that torque and EEPROM had on the way.
    written: Vec<(&'static str, i32)>,
}

impl Servo {
    fn new(model: &'static Model, firmware: i32) -> Self {
        let (memory, written) = ([0; 256], Vec::new());
        let mut servo = Self { model, memory, silent: false, alert: false, written };
        for register in model.registers {
            servo.set(register, register.default.unwrap_or(0));
        }
        servo.set(&x::MODEL, model.number);
        servo.set(&x::FIRMWARE, firmware);
        servo.set(&x::PRESENT_POSITION, 2048);
        servo.set(&x::PRESENT_VOLTAGE, 50);
        servo.set(&x::PRESENT_TEMPERATURE, 30);
        servo
    }

    fn get(&self, register: &Register) -> i32 {
        register.decode_at(0, &self.memory).unwrap()
    }

    fn set(&mut self, register: &Register, value: i32) {
        let bytes = register.encode(value).unwrap();
        self.memory[usize::from(register.address)..][..bytes.len()].copy_from_slice(&bytes);
    }

    fn write(&mut self, address: u16, data: &[u8]) -> Option<Refusal> {
        let register = self.model.registers.iter().find(|r| r.address == address).unwrap();
        let value = register.decode(data).unwrap();
        let eeprom = register.memory == crate::hal::servo::Memory::Eeprom;
        let goal = *register == x::GOAL_POSITION;
        let tripped = self.get(&x::BUS_WATCHDOG) == x::WATCHDOG_TRIPPED;
        if eeprom && self.get(&x::TORQUE_ENABLE) == 1 || goal && tripped {
            return Some(Refusal::Access);
        }
        let (lowest, highest) = (self.get(&x::MIN_POSITION), self.get(&x::MAX_POSITION));
        if goal && self.get(&x::MODE) == 3 && !(lowest..=highest).contains(&value) {
            return Some(Refusal::Limit);
        }
        self.set(register, value);
        self.written.push((register.name, value));
        if goal && self.get(&x::TORQUE_ENABLE) == 1 {
            self.set(&x::PRESENT_POSITION, value);
        }
        None
    }
}

type Servos = BTreeMap<u8, Servo>;

struct Line {
    servos: Arc<Mutex<Servos>>,
    decoder: Decoder,
    ready: VecDeque<u8>,
    clock: ManualClock,
}

impl Line {
    fn reply(&mut self, id: u8, refusal: Option<Refusal>, block: Option<(u16, u16)>) {
        let servos = self.servos.lock().unwrap();
        let Some(servo) = servos.get(&id).filter(|servo| !servo.silent) else { return };
        let data = block.map_or(&[][..], |(address, size)| {
            &servo.memory[usize::from(address)..][..usize::from(size)]
        });
        let mut packet = PacketBuf::new();
        Status { id, alert: servo.alert, refusal, data }.emit(&mut packet).unwrap();
        self.ready.extend(&packet);
    }

    fn serve(&mut self, request: Request<'_>) {
        match request {
            Request::Read { id, address, size } => self.reply(id, None, Some((address, size))),
            Request::Write { id, address, data } => {
                let refusal = self.write(id, address, data);
                self.reply(id, refusal, None);
            }
            Request::SyncRead { address, size, ids } => {
                ids.iter().for_each(|id| self.reply(*id, None, Some((address, size))));
            }
            Request::BulkRead { blocks } => bulk_reads(blocks)
                .for_each(|(id, address, size)| self.reply(id, None, Some((address, size)))),
            Request::SyncWrite { address, size, blocks } => {
                for block in blocks.chunks_exact(usize::from(size) + 1) {
                    self.write(block[0], address, &block[1..]);
                }
            }
            other => panic!("{other:?}"),
        }
    }

    fn write(&mut self, id: u8, address: u16, data: &[u8]) -> Option<Refusal> {
        let mut servos = self.servos.lock().unwrap();
        let servo = servos.get_mut(&id).filter(|servo| !servo.silent)?;
        servo.write(address, data)
    }
}

impl Port for Line {
    fn write(&mut self, mut bytes: &[u8], _deadline: Time) -> Result<(), PortError> {
        // Time goes on, so that stamps differ.
        self.clock.sleep_until(self.clock.now() + std::time::Duration::from_micros(100));
        let mut decoder = std::mem::take(&mut self.decoder);
        while let Some(event) = decoder.next(&mut bytes) {
            self.serve(Request::parse(&event.unwrap()).unwrap());
        }
        self.decoder = decoder;
        Ok(())
    }
    fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
        let count = self.ready.len().min(buf.len());
        buf.iter_mut().zip(self.ready.drain(..count)).for_each(|(to, byte)| *to = byte);
        if count == 0 {
            self.clock.sleep_until(deadline);
            return Err(PortError::TimedOut);
        }
        Ok(count)
    }
    fn purge(&mut self) -> Result<usize, PortError> {
        Ok(self.ready.drain(..).count())
    }
}

/// A Koch arm: two XL430, four XL330.
struct Koch {
    servos: Arc<Mutex<Servos>>,
    clock: ManualClock,
}

impl Koch {
    fn new() -> Self {
        let model = |id| if id <= 2 { &x::XL430_W250 } else { &x::XL330_M288 };
        // Too old for fast reads.
        let servos = (1..=6).map(|id| (id, Servo::new(model(id), 40))).collect();
        Self { servos: Arc::new(Mutex::new(servos)), clock: ManualClock::default() }
    }

    fn config() -> RobotConfig {
        let text = include_str!("../../../firmware-config/emulated.toml");
        let mut config = RobotConfig::parse(text, Path::new("emulated.toml")).unwrap();
        config.bus.protocol = Protocol::Dynamixel;
        for joint in &mut config.joint {
            joint.tuning.p_gain = Some(321);
            let xl430 = joint.id <= 2;
            joint.servo = if xl430 {
                crate::config::ServoModel::Xl430W250
            } else {
                crate::config::ServoModel::Xl330M288
            };
        }
        config
    }

    fn servos(&self) -> MutexGuard<'_, Servos> {
        self.servos.lock().unwrap()
    }

    fn each(&self, mut act: impl FnMut(&mut Servo)) {
        self.servos().values_mut().for_each(&mut act);
    }

    fn open(&self) -> Result<Arm, ArmError> {
        let line = Line {
            servos: Arc::clone(&self.servos),
            decoder: Decoder::default(),
            ready: VecDeque::new(),
            clock: self.clock.clone(),
        };
        Arm::open(&Self::config(), Box::new(line), Arc::new(self.clock.clone()))
    }

    fn deadline(&self) -> Time {
        self.clock.now() + std::time::Duration::from_millis(5)
    }

    fn all(&self, register: &Register) -> Vec<i32> {
        self.servos().values().map(|servo| servo.get(register)).collect()
    }
}

#[test]
fn opening_writes_limits_only_where_they_differ_and_leaves_torque_off() {
    let koch = Koch::new();
    drop(koch.open().unwrap());
    for servo in koch.servos().values() {
        assert_eq!(servo.get(&x::RETURN_DELAY), 0);
        assert_eq!(servo.get(&x::TORQUE_ENABLE), 0);
        assert_eq!(servo.get(&x::GOAL_POSITION), 2048);
        // 2.5 rad/s of 0.229 rpm each, 30 rad/s² of 214.577 rpm² each, rounded up.
        assert_eq!(servo.get(&x::PROFILE_VELOCITY), 105);
        assert_eq!(servo.get(&x::PROFILE_ACCELERATION), 81);
        assert_eq!(servo.get(&x::P_GAIN), 321, "it stands in RAM: as configured");
        assert!(servo.written.iter().all(|(name, _)| *name != "Operating_Mode"));
    }
    assert_eq!(koch.all(&x::MIN_POSITION)[5], 1935);
    assert_eq!(koch.all(&x::MAX_POSITION)[5], 3185);
    koch.each(|servo| servo.written.clear());
    drop(koch.open().unwrap());
    let eeprom = |name: &str| x::XL330_M288.register(name).is_some_and(|r| r.address < 64);
    koch.each(|servo| assert!(!servo.written.iter().any(|(name, _)| eeprom(name))));
}

#[test]
fn an_arm_of_two_models_is_read_in_si_units_supply_and_temperature_in_turn() {
    let koch = Koch::new();
    let mut arm = koch.open().unwrap();
    koch.each(|servo| {
        servo.set(&x::PRESENT_POSITION, 2048 + 100);
        servo.set(&x::PRESENT_VELOCITY, -10);
        servo.set(&x::PRESENT_LOAD, 500);
        servo.set(&x::PRESENT_TEMPERATURE, 31);
    });
    // As long as a hand takes for it.
    koch.clock.sleep_until(koch.clock.now() + std::time::Duration::from_millis(100));
    let mut state = ArmState::default();
    for tick in 1..=6 {
        let before = koch.clock.now();
        assert_eq!(arm.read(&mut state, koch.deadline()).unwrap(), 6);
        assert!(state.joints.iter().all(|joint| joint.stamp >= before));
        let told = state.joints.iter().filter(|joint| joint.temperature == 31.0).count();
        assert_eq!(told, tick);
    }
    for (joint, xl430) in state.joints.iter().zip([true, true, false, false, false, false]) {
        assert!((joint.position - 100.0 * RAD_PER_TICK).abs() < 1e-9);
        assert!((joint.velocity + 2.29 * std::f64::consts::TAU / 60.0).abs() < 1e-9);
        assert!((joint.voltage - 5.0).abs() < 1e-9 && joint.status == 0);
        // Address 126 is the load of one and the current of the other.
        match joint.current {
            None => assert!(xl430 && (joint.load - 0.5).abs() < 1e-9),
            Some(current) => {
                assert!(!xl430 && (current - 0.5).abs() < 1e-9);
                assert!((joint.load - 0.5 / 1.75).abs() < 1e-9);
            }
        }
    }
    assert_eq!(arm.counters(), Counters::default(), "a sound bus has no faults");
}

#[test]
fn torque_on_arms_the_watchdog_and_torque_off_clears_it() {
    let koch = Koch::new();
    let mut arm = koch.open().unwrap();
    assert_eq!(koch.all(&x::BUS_WATCHDOG), [0; 6]);
    arm.torque(true).unwrap();
    assert_eq!(koch.all(&x::TORQUE_ENABLE), [1; 6]);
    assert_eq!(koch.all(&x::BUS_WATCHDOG), [5; 6], "100 ms");
    let goal: JointVec<f64> = [0.3; 6].into_iter().collect();
    arm.write(&goal, koch.deadline()).unwrap();
    let ticks = 2048 + (0.3 / RAD_PER_TICK).round() as i32;
    assert_eq!(koch.all(&x::GOAL_POSITION), [ticks; 6]);
    arm.torque(false).unwrap();
    assert_eq!(koch.all(&x::TORQUE_ENABLE), [0; 6]);
    assert_eq!(koch.all(&x::BUS_WATCHDOG), [0; 6]);
}

#[test]
fn a_watchdog_that_stopped_the_arm_is_cleared_before_the_next_goal() {
    let koch = Koch::new();
    let mut arm = koch.open().unwrap();
    arm.torque(true).unwrap();
    koch.each(|servo| servo.set(&x::BUS_WATCHDOG, x::WATCHDOG_TRIPPED));
    arm.torque(true).unwrap();
    assert_eq!(koch.all(&x::BUS_WATCHDOG), [5; 6]);
    koch.each(|servo| servo.set(&x::BUS_WATCHDOG, x::WATCHDOG_TRIPPED));
    assert!(koch.open().unwrap().held());
    assert_eq!(koch.all(&x::BUS_WATCHDOG), [0; 6]);
}

#[test]
fn a_servo_that_lost_its_power_is_set_up_again_before_it_holds() {
    let koch = Koch::new();
    let mut arm = koch.open().unwrap();
    arm.torque(true).unwrap();
    koch.each(|servo| {
        for register in servo.model.registers.iter().filter(|r| r.address >= 64) {
            if let Some(value) = register.default {
                servo.set(register, value);
            }
        }
    });
    let limits = [x::PROFILE_VELOCITY, x::PROFILE_ACCELERATION, x::BUS_WATCHDOG, x::P_GAIN];
    assert_eq!(koch.all(&x::PROFILE_VELOCITY), [0; 6], "0 is no limit");
    arm.torque(true).unwrap();
    for (register, expected) in limits.iter().zip([105, 81, 5, 321]) {
        assert_eq!(koch.all(register), [expected; 6], "{}", register.name);
    }
}

#[test]
fn an_arm_that_holds_is_taken_over_without_a_drop_and_its_eeprom_waits() {
    let koch = Koch::new();
    koch.each(|servo| {
        servo.set(&x::MODE, x::MODE_EXTENDED_POSITION);
        servo.set(&x::TORQUE_ENABLE, 1);
    });
    let mut arm = koch.open().unwrap();
    assert!(arm.held());
    arm.torque(false).unwrap();
    koch.each(|servo| {
        let torques: Vec<i32> =
            servo.written.iter().filter(|(n, _)| *n == "Torque_Enable").map(|w| w.1).collect();
        // The first 0 is of the torque off: none came from the opening.
        assert_eq!((torques[0], servo.get(&x::MODE)), (0, x::MODE_EXTENDED_POSITION));
        assert!(servo.written.iter().position(|w| w.0 == "Goal_Position").is_some());
    });
    arm.torque(true).unwrap();
    assert_eq!(koch.all(&x::MODE), [x::MODE_POSITION; 6]);
    assert_eq!(koch.all(&x::TORQUE_ENABLE), [1; 6]);
}

#[test]
fn an_arm_that_holds_in_another_mode_is_refused_and_released() {
    let koch = Koch::new();
    koch.each(|servo| servo.set(&x::TORQUE_ENABLE, 1));
    koch.servos().get_mut(&4).unwrap().set(&x::MODE, 1);
    let error = koch.open().err().unwrap();
    assert!(matches!(error, ArmError::NotKept { register: "Operating_Mode", .. }), "{error}");
    assert_eq!(koch.all(&x::TORQUE_ENABLE), [0; 6]);
}

#[test]
fn torque_off_reaches_all_past_a_silent_one() {
    let koch = Koch::new();
    let mut arm = koch.open().unwrap();
    arm.torque(true).unwrap();
    koch.servos().get_mut(&3).unwrap().silent = true;
    let error = arm.torque(false).unwrap_err();
    assert!(error.to_string().contains("servos [3] did not"), "{error}");
    assert_eq!(koch.all(&x::TORQUE_ENABLE), [0, 0, 1, 0, 0, 0]);
}

#[test]
fn an_alert_servo_is_asked_what_its_trouble_is() {
    let koch = Koch::new();
    let mut arm = koch.open().unwrap();
    let mut state = ArmState::default();
    {
        let mut servos = koch.servos();
        let servo = servos.get_mut(&5).unwrap();
        servo.alert = true;
        servo.set(&x::HARDWARE_ERROR, 0x20);
    }
    let mut statuses = Vec::new();
    for _ in 0..3 {
        arm.read(&mut state, koch.deadline()).unwrap();
        statuses.push(state.joints[4].status);
    }
    let named = trouble::ALERT | trouble::OVERLOAD;
    assert_eq!(statuses, [trouble::ALERT, named, named]);
    koch.servos().get_mut(&5).unwrap().alert = false;
    arm.read(&mut state, koch.deadline()).unwrap();
    assert_eq!(state.joints[4].status, 0);
}

#[test]
fn a_silent_servo_grows_old_while_the_others_are_fresh() {
    let koch = Koch::new();
    let mut arm = koch.open().unwrap();
    let mut state = ArmState::default();
    arm.read(&mut state, koch.deadline()).unwrap();
    let before = state.clone();
    koch.servos().get_mut(&2).unwrap().silent = true;
    assert_eq!(arm.read(&mut state, koch.deadline()).unwrap(), 5);
    for (i, (now, then)) in state.joints.iter().zip(&before.joints).enumerate() {
        assert_eq!(now.stamp > then.stamp, i != 1, "joint {i}");
    }
    assert!(arm.counters().bus.timeouts > 0 && arm.counters().bus.retries == 3);
}

#[test]
fn a_servo_without_torque_is_named_after_two_readings_and_one_damaged_reading_is_nothing() {
    let koch = Koch::new();
    let mut arm = koch.open().unwrap();
    arm.torque(true).unwrap();
    let mut state = ArmState::default();
    let torque = |on| koch.servos().get_mut(&3).unwrap().set(&x::TORQUE_ENABLE, on);
    let mut restarted = |reads: usize| {
        (0..reads).any(|_| {
            arm.read(&mut state, koch.deadline()).unwrap();
            state.joints[2].status == trouble::RESTARTED
        })
    };
    for _ in 0..100 {
        torque(0);
        assert!(!restarted(1), "one reading is none");
        torque(1);
        assert!(!restarted(4));
    }
    torque(0);
    assert!(restarted(60));
    torque(1);
    assert!(restarted(60), "it stays, for its limits are lost too");
    arm.torque(true).unwrap();
    arm.read(&mut state, koch.deadline()).unwrap();
    assert_eq!(state.joints[2].status, 0);
}
