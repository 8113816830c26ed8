//! What the joints' measurements say: too hot, too hard, in the way of something, badly supplied.

use std::ops::RangeInclusive;

use crate::clock::Time;
use crate::config::{JointConfig, RobotConfig, SafetyConfig};
use crate::episode::{Events, Fault, Strain};
use crate::hal::JointState;
use crate::hal::servo::Model;
use crate::joints::{JointVec, MAX_JOINTS, stack};

/// A value that may be a damaged byte must show this many ticks in a row.
const AGREEING_TICKS: u32 = 3;
/// More current than allowed for longer than this is a fault (s): the time that Feetech's servos take
/// by themselves, in which a current that is told in turn is told anew.
const CURRENT_TIME: f64 = 2.0;
/// The mean load follows the load in this time (s).
const LOAD_TIME: f64 = 0.5;
/// What is left of the speed at the highest temperature, and at full load.
const HOT_SPEED: f64 = 0.1;
const LOADED_SPEED: f64 = 0.2;

/// What was found in one tick.
#[derive(Debug, Clone, Copy)]
pub(super) struct Findings {
    pub(super) fault: Option<Fault>,
    pub(super) events: Events,
    /// The share of the highest speed that the arm may move at.
    pub(super) speed: f64,
}

/// What the servo of one joint bears.
#[derive(Debug, Clone)]
struct Limits {
    /// Of its supply (V).
    voltage: RangeInclusive<f64>,
    /// For a while (A).
    current: f64,
}

impl Limits {
    fn of(joint: &JointConfig, safety: &SafetyConfig) -> Self {
        let model = Model::of(joint.servo);
        Self {
            voltage: model.supply_window(safety),
            current: joint.tuning.max_current.unwrap_or(model.max_current),
        }
    }
}

/// The joints' health over time.
#[derive(Debug, Clone)]
pub(super) struct Health {
    config: SafetyConfig,
    dt: f64,
    limits: JointVec<Limits>,
    joints: [Strain; MAX_JOINTS],
}

impl Health {
    pub(super) fn new(robot: &RobotConfig) -> Self {
        Self {
            config: robot.safety.clone(),
            dt: robot.period().as_secs_f64(),
            limits: robot.joint.iter().map(|joint| Limits::of(joint, &robot.safety)).collect(),
            joints: Default::default(),
        }
    }

    /// Forgets everything, as after arming.
    pub(super) fn reset(&mut self) {
        self.joints = Default::default();
    }

    /// What is remembered of each joint.
    pub(super) fn strains(&self) -> JointVec<Strain> {
        stack(self.joints)
    }

    /// Remembers that of each joint instead.
    pub(super) fn resume(&mut self, strains: &JointVec<Strain>) {
        self.reset();
        self.joints.iter_mut().zip(strains).for_each(|(joint, strain)| *joint = *strain);
    }

    /// Looks at what was measured; `sent` is where the joints were sent, empty without torque.
    pub(super) fn look(&mut self, joints: &[JointState], sent: &[f64], now: Time) -> Findings {
        let mut found = Findings { fault: None, events: Events::default(), speed: 1.0 };
        let config = &self.config;
        let known = joints.iter().zip(&self.limits).zip(&mut self.joints);
        for (i, ((joint, limits), past)) in known.enumerate() {
            past.judge(joint, limits, now);
            past.follow(joint, sent.get(i).copied(), config, self.dt, now);
            let fault = past.fault(joint, config, now);
            found.fault = found.fault.or(fault);
            found.speed = found.speed.min(past.speed(joint, config));
            if joint.temperature >= config.warn_temperature {
                found.events |= Events::WARM;
            }
        }
        if found.speed < 1.0 {
            found.events |= Events::SLOWED;
        }
        found
    }
}

impl Strain {
    /// Remembers what the servo bears badly.
    fn judge(&mut self, joint: &JointState, limits: &Limits, now: Time) {
        let count = |bad: bool, before: u32| if bad { before.saturating_add(1) } else { 0 };
        // Who has not told its voltage yet has none; who has no voltage tells nothing.
        let measured = joint.voltage != 0.0;
        let bad_voltage = measured && !limits.voltage.contains(&joint.voltage);
        let much = joint.current.is_some_and(|current| current.abs() > limits.current);
        self.bad_status = count(joint.status != 0, self.bad_status);
        self.bad_voltage = count(bad_voltage, self.bad_voltage);
        self.overcurrent = since(much, self.overcurrent, now);
    }

    /// Remembers how the joint gets where it was sent.
    fn follow(
        &mut self,
        joint: &JointState,
        sent: Option<f64>,
        config: &SafetyConfig,
        dt: f64,
        now: Time,
    ) {
        let error = sent.map_or(0.0, |sent| (joint.position - sent).abs());
        let pressing = joint.load.abs() > config.stall_load && error > config.stall_error_rad;
        if joint.load.is_finite() {
            self.load += (joint.load.abs() - self.load) * (dt / LOAD_TIME).min(1.0);
        }
        self.off_track = since(error > config.max_tracking_error, self.off_track, now);
        self.stalled = since(pressing, self.stalled, now);
    }

    fn fault(&self, joint: &JointState, config: &SafetyConfig, now: Time) -> Option<Fault> {
        let lasts = |since: Option<Time>, limit: f64| {
            since.is_some_and(|since| now.since(since).as_secs_f64() > limit)
        };
        Some(match () {
            () if joint.jumped || !finite(joint) => Fault::ImplausibleState,
            () if joint.temperature > config.max_temperature => Fault::Overheat,
            () if self.bad_status >= AGREEING_TICKS => Fault::Servo,
            () if self.bad_voltage >= AGREEING_TICKS => Fault::Voltage,
            () if lasts(self.overcurrent, CURRENT_TIME) => Fault::Servo,
            () if lasts(self.stalled, config.stall_time_s) => Fault::Stall,
            () if lasts(self.off_track, config.tracking_time_s) => Fault::Tracking,
            () => return None,
        })
    }

    fn speed(&self, joint: &JointState, config: &SafetyConfig) -> f64 {
        let hot = (config.slow_temperature, config.max_temperature);
        slowing(joint.temperature, hot, HOT_SPEED).min(slowing(
            self.load,
            (config.slow_load, 1.0),
            LOADED_SPEED,
        ))
    }
}

/// Since when it is bad without a break.
fn since(bad: bool, before: Option<Time>, now: Time) -> Option<Time> {
    bad.then(|| before.unwrap_or(now))
}

/// 1 up to `from`, straight down to `least` at `to` and beyond.
fn slowing(x: f64, (from, to): (f64, f64), least: f64) -> f64 {
    if x <= from {
        return 1.0;
    }
    let way = if to > from { (x - from) / (to - from) } else { 1.0 };
    (1.0 - (1.0 - least) * way).max(least)
}

/// Whether every measured value is a number.
fn finite(joint: &JointState) -> bool {
    [joint.position, joint.velocity, joint.load, joint.voltage, joint.temperature]
        .iter()
        .all(|x| x.is_finite())
}

/// The measured positions (rad).
pub(super) fn positions(joints: &[JointState]) -> JointVec<f64> {
    joints.iter().take(MAX_JOINTS).map(|joint| joint.position).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOUND: JointState = JointState {
        position: 0.1,
        velocity: 0.0,
        load: 0.0,
        current: None,
        voltage: 12.0,
        temperature: 30.0,
        status: 0,
        stamp: Time(1),
        jumped: false,
    };

    fn robot(file: &str) -> RobotConfig {
        let path = format!("{}/firmware-config/{file}.toml", env!("CARGO_MANIFEST_DIR"));
        RobotConfig::load(&crate::storage::Disk, path.as_ref()).unwrap()
    }

    fn health() -> Health {
        Health::new(&robot("emulated"))
    }

    /// The ticks of 10 ms until a fault, and the fault.
    fn until_fault(joint: JointState, sent: f64) -> Option<(u64, Fault)> {
        let mut health = health();
        (0..1000u64).find_map(|tick| {
            let found = health.look(&[SOUND, joint], &[0.1, sent], Time(tick * 10_000_000));
            found.fault.map(|fault| (tick, fault))
        })
    }

    #[test]
    fn any_value_that_is_no_number_is_a_fault_in_the_same_tick() {
        for bad in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for joint in [
                JointState { position: bad, ..SOUND },
                JointState { velocity: bad, ..SOUND },
                JointState { load: bad, ..SOUND },
                JointState { voltage: bad, ..SOUND },
                JointState { temperature: bad, ..SOUND },
            ] {
                assert_eq!(until_fault(joint, 0.1), Some((0, Fault::ImplausibleState)));
            }
        }
    }

    #[test]
    fn a_stall_needs_load_and_error_and_time() {
        let stalled = JointState { load: -0.7, ..SOUND };
        assert_eq!(until_fault(stalled, 0.2), Some((31, Fault::Stall)));
        assert_eq!(until_fault(stalled, 0.15), None);
        assert_eq!(until_fault(JointState { load: 0.5, ..SOUND }, 0.2), None);
    }

    #[test]
    fn a_supply_out_of_its_window_is_a_fault_after_three_ticks() {
        for voltage in [4.0, 15.0] {
            let joint = JointState { voltage, ..SOUND };
            assert_eq!(until_fault(joint, 0.1), Some((2, Fault::Voltage)));
        }
    }

    #[test]
    fn each_servo_of_an_arm_of_two_supplies_has_the_window_of_its_model() {
        let koch = robot("koch-follower");
        for (volts, xl430, xl330) in [
            (4.0, false, false),
            (5.0, false, true),
            (6.4, true, false),
            (12.1, true, false),
            (12.7, false, false),
        ] {
            let joint = JointState { voltage: volts, ..SOUND };
            for (i, sound) in [xl430, xl430, xl330, xl330, xl330, xl330].into_iter().enumerate() {
                let mut health = Health::new(&koch);
                let mut joints =
                    [12.0, 12.0, 5.0, 5.0, 5.0, 5.0].map(|v| JointState { voltage: v, ..SOUND });
                joints[i] = joint;
                let fault = (0..3).filter_map(|t| health.look(&joints, &[], Time(t)).fault).last();
                assert_eq!(fault, (!sound).then_some(Fault::Voltage), "joint {i} at {volts} V");
            }
        }
    }

    #[test]
    fn a_current_above_the_joints_limit_is_a_fault_after_two_seconds() {
        // 1.625 A is configured for the gripper, the others have all that the servo can.
        let robot = robot("so101-follower");
        let until = |joint: usize, amperes: f64| {
            let mut health = Health::new(&robot);
            let mut joints = [SOUND; 6];
            joints[joint].current = Some(amperes);
            (0..500u64).find_map(|tick| {
                let now = Time(tick * 10_000_000);
                health.look(&joints, &[0.1; 6], now).fault.map(|fault| (tick, fault))
            })
        };
        assert_eq!(until(5, -1.7), Some((201, Fault::Servo)));
        assert_eq!(until(5, 1.6), None);
        assert_eq!(until(1, 2.5), None);
        assert_eq!(until(1, 2.8), Some((201, Fault::Servo)));
    }

    #[test]
    fn who_does_not_follow_for_a_second_is_a_fault() {
        assert_eq!(until_fault(SOUND, 0.45), Some((101, Fault::Tracking)));
        assert_eq!(until_fault(SOUND, 0.35), None);
    }

    #[test]
    fn heat_warns_then_slows_then_stops() {
        let at =
            |temperature| health().look(&[JointState { temperature, ..SOUND }], &[0.1], Time(1));
        assert_eq!((at(54.0).events, at(54.0).speed), (Events::default(), 1.0));
        assert!(at(55.0).events == Events::WARM && at(60.0).speed == 1.0);
        assert!(at(62.5).events.contains(Events::SLOWED) && (at(62.5).speed - 0.55).abs() < 1e-9);
        assert_eq!((at(65.0).fault, at(66.0).fault), (None, Some(Fault::Overheat)));
        assert!((at(65.0).speed - 0.1).abs() < 1e-9);
    }

    #[test]
    fn a_lasting_load_slows_the_arm_and_a_short_one_does_not() {
        let mut health = health();
        let mut speed = |ticks: u64| {
            let full = JointState { load: 1.0, ..SOUND };
            (0..ticks).map(|_| health.look(&[full], &[0.1], Time(1)).speed).last().unwrap()
        };
        assert_eq!(speed(10), 1.0);
        assert!(speed(500) < 0.21);
    }
}
