//! One suite over both transports: the emulator in virtual time, and on a pseudo terminal that is
//! opened as any serial port is.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use rand::RngExt as _;
use regoal::clock::{Clock, ManualClock, SystemClock, Time};
use regoal::config::{Protocol, RobotConfig};
use regoal::hal::bus::Miss;
use regoal::hal::servo::feetech as servo;
use regoal::hal::servo::{RAD_PER_TICK, Register};
use regoal::hal::wire::feetech::status;
use regoal::hal::{
    Arm, ArmError, ArmState, Bus, BusError, Emulator, FaultSpec, MemoryPort, Port, PortError,
    PtyServer, SerialPort,
};
use regoal::joints::JointVec;
use regoal::rng::{Stream, stream};

fn config() -> RobotConfig {
    let text = include_str!("../firmware-config/emulated.toml");
    RobotConfig::parse(text, Path::new("emulated.toml")).unwrap()
}

/// An emulated arm at the end of one transport.
struct Rig {
    emulator: Arc<Mutex<Emulator>>,
    clock: Arc<dyn Clock>,
    server: Option<PtyServer>,
    /// How long a transaction may take: on a pseudo terminal the scheduler has its say.
    patience: Duration,
}

impl Rig {
    fn memory(config: &RobotConfig) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::default());
        let emulator = Arc::new(Mutex::new(Emulator::new(config, 1)));
        Self { emulator, clock, server: None, patience: Duration::from_millis(5) }
    }

    fn pty(config: &RobotConfig) -> Self {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut emulator = Emulator::new(config, 1);
        emulator.advance(clock.now());
        let emulator = Arc::new(Mutex::new(emulator));
        let server =
            PtyServer::start(Arc::clone(&emulator), &FaultSpec::default(), Arc::clone(&clock))
                .unwrap();
        Self { emulator, clock, server: Some(server), patience: Duration::from_secs(2) }
    }

    fn port(&self) -> Box<dyn Port> {
        match &self.server {
            None => Box::new(MemoryPort::new(Arc::clone(&self.emulator), Arc::clone(&self.clock))),
            Some(server) => {
                let path = server.path();
                Box::new(SerialPort::open(path.to_str().unwrap(), config().bus.baud).unwrap())
            }
        }
    }

    fn open(&self) -> Result<Arm, ArmError> {
        self.open_through(self.port())
    }

    fn open_through(&self, port: Box<dyn Port>) -> Result<Arm, ArmError> {
        Arm::open(&config(), port, Arc::clone(&self.clock))
    }

    fn deadline(&self) -> Time {
        self.clock.now() + self.patience
    }

    fn wait(&self, time: Duration) {
        self.clock.sleep_until(self.clock.now() + time);
    }

    fn register(&self, id: u8, register: &Register) -> i32 {
        self.emulator.lock().unwrap().servo(id).unwrap().get(register)
    }

    fn truth(&self) -> JointVec<f64> {
        let mut emulator = self.emulator.lock().unwrap();
        emulator.advance(self.clock.now());
        emulator.positions()
    }
}

/// What a faulty line does to what comes back: the seam is a port around a port.
struct Faulty<F> {
    inner: Box<dyn Port>,
    fault: F,
}

impl<F: FnMut(&mut [u8], usize) -> usize + Send> Port for Faulty<F> {
    fn write(&mut self, bytes: &[u8], deadline: Time) -> Result<(), PortError> {
        self.inner.write(bytes, deadline)
    }
    fn read(&mut self, buf: &mut [u8], deadline: Time) -> Result<usize, PortError> {
        let count = self.inner.read(buf, deadline)?;
        Ok((self.fault)(buf, count))
    }
    fn purge(&mut self) -> Result<usize, PortError> {
        self.inner.purge()
    }
}

fn each_rig(test: impl Fn(Rig)) {
    test(Rig::memory(&config()));
    test(Rig::pty(&config()));
}

fn goal(angles: [f64; 6]) -> JointVec<f64> {
    angles.into_iter().collect()
}

#[test]
fn an_arm_is_read_in_si_units() {
    each_rig(|rig| {
        let mut arm = rig.open().unwrap();
        rig.emulator.lock().unwrap().servo(2).unwrap().set_status(status::VOLTAGE);
        let mut state = ArmState::default();
        arm.read(&mut state, rig.deadline()).unwrap();
        assert_eq!(arm.counters().implausible, 1, "one answer is not believed: it is asked again");
        let before = rig.clock.now();
        assert_eq!(arm.read(&mut state, rig.deadline()).unwrap(), 6);
        for ((joint, config), truth) in state.joints.iter().zip(&config().joint).zip(rig.truth()) {
            assert!(
                (joint.position - config.home_rad).abs() < 5.0 * RAD_PER_TICK,
                "{}",
                config.name
            );
            assert!((joint.position - truth).abs() < 5.0 * RAD_PER_TICK);
            assert!((joint.voltage - 12.1).abs() < 0.1 && (joint.temperature - 25.0).abs() < 1.0);
            assert!(joint.velocity.abs() < 0.01 && joint.load.abs() < 0.01 && !joint.jumped);
            assert!(before <= joint.stamp && joint.stamp <= rig.clock.now());
        }
        assert_eq!(state.joints[1].status, status::VOLTAGE);
        assert_eq!(state.joints[2].status, 0);
    });
}

#[test]
fn a_goal_is_followed_and_torque_on_moves_nothing() {
    each_rig(|rig| {
        let mut arm = rig.open().unwrap();
        // The goal register lies far from where the arm is when torque comes on.
        rig.emulator.lock().unwrap().servo(1).unwrap().set(&servo::GOAL_POSITION, 3000);
        let start = rig.truth();
        arm.torque(true).unwrap();
        rig.wait(Duration::from_millis(200));
        for (now, start) in rig.truth().iter().zip(&start) {
            assert!((now - start).abs() < 5.0 * RAD_PER_TICK, "{now} {start}");
        }
        let wish = goal([0.3, -0.5, 0.5, 0.5, -0.3, 0.2]);
        arm.write(&wish, rig.deadline()).unwrap();
        rig.wait(Duration::from_millis(700));
        let mut state = ArmState::default();
        arm.read(&mut state, rig.deadline()).unwrap();
        for (joint, wish) in state.joints.iter().zip(&wish) {
            assert!((joint.position - wish).abs() < 6.0 * RAD_PER_TICK, "{joint:?} {wish}");
        }
        arm.torque(false).unwrap();
        assert!((1..=6).all(|id| rig.register(id, &servo::TORQUE_ENABLE) == 0));
    });
}

#[test]
fn goals_that_are_no_numbers_reach_no_servo_and_others_stay_within_limits() {
    each_rig(|rig| {
        let mut arm = rig.open().unwrap();
        let before = rig.register(1, &servo::GOAL_POSITION);
        let mut wish = goal([0.5; 6]);
        wish[5] = f64::NAN;
        let refused = arm.write(&wish, rig.deadline());
        assert!(matches!(refused, Err(ArmError::Goal { joint: 5, .. })), "{refused:?}");
        wish.truncate(5);
        let refused = arm.write(&wish, rig.deadline());
        assert!(matches!(refused, Err(ArmError::GoalLength { expected: 6, found: 5 })));
        assert_eq!(rig.register(1, &servo::GOAL_POSITION), before);
        arm.write(&goal([1e9; 6]), rig.deadline()).unwrap();
        arm.read(&mut ArmState::default(), rig.deadline()).unwrap();
        let highest = config().joint[0].max_rad / RAD_PER_TICK;
        assert_eq!(rig.register(1, &servo::GOAL_POSITION), 2048 + highest as i32);
    });
}

#[test]
fn opening_sets_limits_and_leaves_torque_as_it_was() {
    each_rig(|rig| {
        rig.emulator.lock().unwrap().servo(4).unwrap().set(&servo::PHASE, 0b1_1100);
        drop(rig.open().unwrap());
        let limits = (rig.register(6, &servo::MIN_POSITION), rig.register(6, &servo::MAX_POSITION));
        assert_eq!(limits, (1935, 3185));
        assert_eq!(rig.register(6, &servo::GOAL_VELOCITY), 1630, "2.5 rad/s");
        assert_eq!(rig.register(6, &servo::ACCELERATION), 196, "30 rad/s^2");
        assert_eq!(rig.register(4, &servo::PHASE), 0b0_1100);
        assert_eq!(rig.register(4, &servo::LOCK), 1);
        for torque in [0, 1] {
            (1..=6).for_each(|id| {
                rig.emulator.lock().unwrap().servo(id).unwrap().set(&servo::TORQUE_ENABLE, torque);
            });
            drop(rig.open().unwrap());
            assert!((1..=6).all(|id| rig.register(id, &servo::TORQUE_ENABLE) == torque));
        }
    });
}

#[test]
fn missing_servos_are_named_and_torque_is_off_after() {
    each_rig(|rig| {
        for id in 1..=6 {
            let mut emulator = rig.emulator.lock().unwrap();
            emulator.servo(id).unwrap().set(&servo::TORQUE_ENABLE, 1);
            emulator.servo(id).unwrap().set_connected(![2, 5].contains(&id));
        }
        let error = rig.open().err().unwrap();
        assert!(error.to_string().contains("expected servos [2, 5]"), "{error}");
        assert!(error.to_string().contains("only [1, 3, 4, 6]"), "{error}");
        for id in [1, 3, 4, 6] {
            assert_eq!(rig.register(id, &servo::TORQUE_ENABLE), 0);
        }
    });
}

#[test]
fn another_model_is_refused() {
    each_rig(|rig| {
        rig.emulator.lock().unwrap().servo(3).unwrap().set(&servo::MODEL, 1284);
        let error = rig.open().err().unwrap();
        assert!(
            matches!(error, ArmError::Model { id: 3, expected: 777, found: 1284, .. }),
            "{error}"
        );
    });
}

#[test]
fn an_unknown_id_is_no_answer_and_a_known_one_is() {
    each_rig(|rig| {
        let mut bus = Bus::new(rig.port(), Arc::clone(&rig.clock), Protocol::Feetech, 1_000_000);
        assert_eq!(bus.ping(1, rig.deadline()).unwrap().status, 0);
        let soon = rig.clock.now() + Duration::from_millis(20);
        assert!(matches!(bus.ping(42, soon), Err(BusError::NoAnswer { id: 42 })));
        assert!(rig.clock.now() >= soon);
    });
}

#[test]
fn bytes_that_came_before_are_purged() {
    each_rig(|rig| {
        let mut port = rig.port();
        // The position of servo 1, asked by somebody before us.
        port.write(&[0xFF, 0xFF, 0x01, 0x04, 0x02, 0x38, 0x02, 0xBE], rig.deadline()).unwrap();
        rig.wait(Duration::from_millis(100));
        let mut bus = Bus::new(port, Arc::clone(&rig.clock), Protocol::Feetech, 1_000_000);
        let model = bus.read(1, &servo::MODEL, rig.deadline()).unwrap();
        assert_eq!(model, (servo::STS3215.number, 0));
        assert_eq!(bus.counters().stale_bytes, 8);
    });
}

#[test]
fn a_late_answer_is_never_taken_for_the_next() {
    let rig = Rig::memory(&config());
    let mut bus = Bus::new(rig.port(), Arc::clone(&rig.clock), Protocol::Feetech, 1_000_000);
    // Time for the request, not for the answer: it comes while the next one is awaited.
    for (asked, next) in [
        (servo::MIN_POSITION, servo::MAX_POSITION),
        (servo::PRESENT_POSITION, servo::MODEL),
        (servo::MODEL, servo::PRESENT_TEMPERATURE),
    ] {
        let truth = rig.register(1, &next);
        for _ in 0..10 {
            let soon = rig.clock.now() + Duration::from_micros(60);
            assert!(bus.read(1, &asked, soon).is_err());
            let (found, _) = bus.read(1, &next, rig.deadline()).unwrap();
            assert!(found == truth || next == servo::PRESENT_TEMPERATURE && found == 25, "{found}");
        }
    }
    assert!(bus.counters().wrong_length >= 30, "{:?}", bus.counters());
}

/// Damages the data of each answer of servo 3, at most `times`.
fn damage_servo_3(mut times: u32) -> impl FnMut(&mut [u8], usize) -> usize + Send {
    let mut last = [0; 6];
    move |buf, count| {
        for byte in &mut buf[..count] {
            last.rotate_left(1);
            last[5] = *byte;
            if last[..3] == [0xFF, 0xFF, 3] && times > 0 {
                *byte ^= 0x40;
                times -= 1;
            }
        }
        count
    }
}

#[test]
fn a_corrupted_answer_hides_no_other_servo() {
    each_rig(|rig| {
        for (times, lost) in [(1, 0), (3, 0), (4, 1)] {
            let inner = rig.port();
            let port = Faulty { inner, fault: damage_servo_3(times) };
            let mut bus =
                Bus::new(Box::new(port), Arc::clone(&rig.clock), Protocol::Feetech, 1_000_000);
            let ids = [1, 2, 3, 4, 5, 6];
            let answers = bus.sync_read(&ids, servo::STS3215.health, rig.deadline()).unwrap();
            let missing: Vec<u8> = ids
                .into_iter()
                .zip(&answers)
                .filter(|(_, a)| a.is_err())
                .map(|(id, _)| id)
                .collect();
            assert_eq!(missing, vec![3; lost]);
            assert!(lost == 0 || answers[2] == Err(Miss::Checksum));
            assert_eq!(u64::from(times), bus.counters().checksum);
        }
    });
}

#[test]
fn a_silent_servo_grows_old_while_the_others_are_fresh() {
    each_rig(|rig| {
        let mut arm = rig.open().unwrap();
        let mut state = ArmState::default();
        arm.read(&mut state, rig.deadline()).unwrap();
        let first = state.clone();
        rig.emulator.lock().unwrap().servo(4).unwrap().set_connected(false);
        let soon = rig.clock.now() + rig.patience.min(Duration::from_millis(500));
        assert_eq!(arm.read(&mut state, soon).unwrap(), 5);
        assert_eq!(state.joints[3], first.joints[3]);
        for i in [0, 1, 2, 4, 5] {
            assert!(state.joints[i].stamp > first.joints[i].stamp);
        }
    });
}

#[test]
fn a_jump_is_reported_only_when_readings_agree_on_it() {
    each_rig(|rig| {
        let mut arm = rig.open().unwrap();
        arm.torque(true).unwrap();
        let mut state = ArmState::default();
        let jump = |angle: f64| {
            let mut emulator = rig.emulator.lock().unwrap();
            let servo = emulator.servo(1).unwrap();
            // Stays there: nothing drives it back.
            servo.set(&servo::TORQUE_ENABLE, 0);
            servo.place(angle);
        };
        arm.read(&mut state, rig.deadline()).unwrap();
        let before = state.joints[0].position;
        jump(1.5);
        let mut jumped = Vec::new();
        for _ in 0..4 {
            arm.read(&mut state, rig.deadline()).unwrap();
            jumped.push((state.joints[0].jumped, (state.joints[0].position - before).abs() > 1.0));
        }
        assert_eq!(jumped, [(true, true), (false, true), (false, true), (false, true)]);
        assert_eq!(arm.counters().implausible, 3, "four of one tick agree");
    });
}

#[test]
fn torque_off_reaches_all_servos_past_one_in_trouble() {
    each_rig(|rig| {
        let mut arm = rig.open().unwrap();
        arm.torque(true).unwrap();
        rig.emulator.lock().unwrap().servo(3).unwrap().set_status(status::OVERLOAD);
        rig.emulator.lock().unwrap().servo(4).unwrap().set_connected(false);
        let error = arm.torque(false).unwrap_err();
        assert!(error.to_string().contains("servos [4] did not"), "{error}");
        for id in [1, 2, 3, 5, 6] {
            assert_eq!(rig.register(id, &servo::TORQUE_ENABLE), 0, "servo {id}");
        }
    });
}

#[test]
fn a_joint_beyond_its_limits_is_not_held_there() {
    each_rig(|rig| {
        let mut arm = rig.open().unwrap();
        rig.emulator.lock().unwrap().servo(6).unwrap().place(2.5);
        let error = arm.torque(true).unwrap_err();
        assert!(matches!(error, ArmError::BeyondLimits { .. }), "{error}");
        assert!(
            error.to_string().contains("joint `gripper`: expected -0.175 to 1.745 rad, found 2.")
        );
        assert!((1..=6).all(|id| rig.register(id, &servo::TORQUE_ENABLE) == 0));
    });
}

#[test]
fn damage_that_passes_the_checksum_moves_no_joint_further_than_it_can() {
    for seed in 0..4 {
        let rig = Rig::memory(&config());
        let on = Arc::new(AtomicBool::new(false));
        let (switch, mut rng) = (Arc::clone(&on), stream(seed, Stream::Training));
        // Flips two bits of, or swaps two neighbours in, one of five answers.
        let fault = move |buf: &mut [u8], count: usize| {
            if on.load(Ordering::Relaxed) && rng.random_bool(0.2) {
                let (one, other) = (rng.random_range(0..count), rng.random_range(0..count));
                if rng.random_bool(0.5) {
                    let bit = 1 << rng.random_range(0..8);
                    buf[one] ^= bit;
                    buf[other] ^= bit;
                } else {
                    buf.swap(one, (one + 1) % count);
                }
            }
            count
        };
        let mut arm = rig.open_through(Box::new(Faulty { inner: rig.port(), fault })).unwrap();
        arm.torque(true).unwrap();
        let mut state = ArmState::default();
        arm.read(&mut state, rig.deadline()).unwrap();
        switch.store(true, Ordering::Relaxed);
        let mut worst = 0.0f64;
        let mut known: VecDeque<ArmState> = VecDeque::from([state.clone()]);
        for tick in 0..2000 {
            arm.read(&mut state, rig.deadline()).unwrap();
            for (i, (joint, truth)) in state.joints.iter().zip(rig.truth()).enumerate() {
                // From the last reading, or from one before it when that was the lie.
                let follows = known.iter().map(|state| state.joints[i]).any(|known| {
                    let can = 1.5 * 2.5 * joint.stamp.since(known.stamp).as_secs_f64() + 0.02;
                    (joint.position - known.position).abs() <= can
                });
                assert!(follows, "seed {seed}, tick {tick}: {known:?} {joint:?}");
                assert!(!joint.jumped, "seed {seed}, tick {tick}: {joint:?}");
                worst = worst.max((joint.position - truth).abs());
            }
            known.push_front(state.clone());
            known.truncate(8);
            let angle = 0.5 * (f64::from(tick) * 0.03).sin();
            arm.write(&goal([angle, angle, angle, angle, angle, 0.1]), rig.deadline()).unwrap();
            rig.wait(Duration::from_millis(8));
        }
        assert!(worst < 0.15, "seed {seed}: {worst} rad off");
        let counters = arm.counters();
        assert!(
            counters.implausible > 20 && counters.bus.checksum > 200,
            "seed {seed}: {counters:?}"
        );
        println!("seed {seed}: at most {worst:.3} rad off, {counters:?}");
    }
}

#[test]
fn an_unplugged_port_is_lost_and_a_new_one_serves_again() {
    let mut rig = Rig::pty(&config());
    let mut arm = rig.open().unwrap();
    let mut state = ArmState::default();
    arm.read(&mut state, rig.deadline()).unwrap();
    rig.server = None;
    let error = arm.read(&mut state, rig.deadline()).unwrap_err();
    assert!(error.lost(), "{error}");
    assert!(matches!(error, ArmError::Bus(BusError::Port(PortError::Lost))));
    assert!(arm.write(&goal([0.0; 6]), rig.deadline()).unwrap_err().lost());
    let (emulator, clock) = (Arc::clone(&rig.emulator), Arc::clone(&rig.clock));
    let again = PtyServer::start(emulator, &FaultSpec::default(), clock).unwrap();
    rig.server = Some(again);
    assert_eq!(rig.open().unwrap().read(&mut state, rig.deadline()).unwrap(), 6);
}

#[test]
fn clients_of_a_pty_come_and_go() {
    let rig = Rig::pty(&config());
    for _ in 0..3 {
        let mut arm = rig.open().unwrap();
        assert_eq!(arm.read(&mut ArmState::default(), rig.deadline()).unwrap(), 6);
    }
}

#[test]
fn a_port_in_use_is_busy() {
    let rig = Rig::pty(&config());
    let _first = rig.port();
    let error = SerialPort::open(rig.server.as_ref().unwrap().path().to_str().unwrap(), 1_000_000);
    assert!(matches!(error, Err(PortError::Busy { .. })), "{error:?}");
}

#[test]
fn the_same_seed_repeats_exactly() {
    let run = || {
        let rig = Rig::memory(&config());
        let mut arm = rig.open().unwrap();
        arm.torque(true).unwrap();
        let mut states = Vec::new();
        for tick in 0..200 {
            let mut state = ArmState::default();
            arm.read(&mut state, rig.deadline()).unwrap();
            states.push(state);
            let angle = 0.3 * (f64::from(tick) * 0.05).sin();
            arm.write(&goal([angle, -0.6, 0.6, 0.6, angle, 0.1]), rig.deadline()).unwrap();
            rig.wait(Duration::from_millis(8));
        }
        (states, arm.counters())
    };
    let (states, counters) = run();
    assert_eq!((states, counters), run());
    assert_eq!(counters, Default::default(), "a sound bus has no faults");
}
