//! A gamepad, read as the kernel tells it (`linux/input.h`): records of 24 bytes from an event device,
//! the names of buttons and axes as in the kernel's gamepad specification.

use std::io::{ErrorKind, Read};

use nalgebra::Vector3;

use super::jog::{Pointer, SPEED, TURN};
use super::{Follower, TeleopError, Teleoperator, Twist, Word};
use crate::config::RobotConfig;
use crate::control::TeleopAction;

/// `struct input_event`: a time of two words, type, code and value.
const RECORD: usize = 2 * size_of::<usize>() + 8;
const EV_SYN: u16 = 0;
const EV_KEY: u16 = 1;
const EV_ABS: u16 = 3;
const SYN_REPORT: u16 = 0;
const SYN_DROPPED: u16 = 3;

/// The axes that are used: `ABS_X`, `Y`, `Z`, `RX`, `RY`, `RZ`, `HAT0X`, `HAT0Y`.
pub const AXES: [u16; 8] = [0, 1, 2, 3, 4, 5, 0x10, 0x11];
/// Their ranges where the device does not tell: an Xbox pad's.
const RANGES: [(i32, i32); 8] = {
    let (stick, trigger, hat) = ((-32768, 32767), (0, 255), (-1, 1));
    [stick, stick, trigger, stick, stick, trigger, hat, hat]
};
/// Sticks rest somewhere within this share of their way.
const DEAD: f64 = 0.15;
/// Held: else nothing moves (`BTN_TL`).
const DEADMAN: u16 = 0x136;

/// What the controls do, for people.
pub const CONTROLS: &str = "hold L1: left stick along the table, right stick up, down and roll, pad \
    wrist, triggers open and close · start · A success · B failure · X again · R1 mark · select E-STOP";

/// What a button says: `BTN_START`, `SOUTH`, `EAST`, `WEST`, `TR`, `SELECT`.
const WORDS: [(u16, Word); 6] = [
    (0x13b, Word::Start),
    (0x130, Word::Success),
    (0x131, Word::Failure),
    (0x134, Word::Again),
    (0x137, Word::Mark),
    (0x13a, Word::EmergencyStop),
];

/// How the controls are.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Controls {
    /// From -1 to 1, triggers from 0, as the order of [`AXES`].
    axes: [f64; 8],
    /// The deadman button is held.
    held: bool,
}

impl Controls {
    /// The SO arms point along -y of their base frame; a stick says less when it is up or left.
    fn twist(&self) -> Twist {
        if !self.held {
            return Twist::default();
        }
        let [left_x, left_y, open, right_x, right_y, close, _, hat_y] = self.axes;
        Twist {
            linear: SPEED * Vector3::new(-left_x, left_y, -right_y),
            pitch: TURN * hat_y,
            roll: TURN * right_x,
            gripper: TURN * (open - close),
        }
    }
}

/// A gamepad as a device, over what its records are read from without waiting.
pub struct Gamepad<R> {
    device: R,
    ranges: [(i32, i32); 8],
    pointer: Pointer,
    controls: Controls,
    /// The kernel has lost events: those until the next report are not whole.
    dropped: bool,
    words: Vec<Word>,
}

impl<R: Read + Send> Gamepad<R> {
    /// A gamepad for a robot. `range` tells an axis' lowest and highest value, where it is known.
    ///
    /// # Errors
    /// The robot's geometry is wrong.
    pub fn new(
        robot: &RobotConfig,
        device: R,
        range: impl Fn(&R, u16) -> Option<(i32, i32)>,
    ) -> Result<Self, TeleopError> {
        let mut ranges = RANGES;
        for (known, axis) in ranges.iter_mut().zip(AXES) {
            *known = range(&device, axis).filter(|(low, high)| low < high).unwrap_or(*known);
        }
        let (pointer, controls) = (Pointer::new(robot)?, Controls::default());
        Ok(Self { device, ranges, pointer, controls, dropped: false, words: Vec::new() })
    }

    /// Takes all that has come.
    fn read(&mut self) -> Result<(), TeleopError> {
        let mut records = [0; 64 * RECORD];
        loop {
            match self.device.read(&mut records) {
                // The kernel gives whole records.
                Ok(count) if count >= RECORD => {
                    let whole = records.get(..count).unwrap_or_default();
                    whole.chunks_exact(RECORD).for_each(|record| self.take(record));
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                gone => {
                    self.controls = Controls::default();
                    let why = gone.err().map_or("it ended".into(), |error| error.to_string());
                    return Err(TeleopError::Gamepad(why));
                }
            }
        }
    }

    fn take(&mut self, record: &[u8]) {
        let Some((kind, code, value)) = event(record) else { return };
        match (kind, code) {
            (EV_SYN, SYN_DROPPED) => {
                // What is held now is not known: as if all was let go.
                (self.controls, self.dropped) = (Controls::default(), true);
            }
            (EV_SYN, SYN_REPORT) => self.dropped = false,
            _ if self.dropped => {}
            (EV_KEY, DEADMAN) => self.controls.held = value != 0,
            (EV_KEY, _) if value == 1 => {
                let word = WORDS.iter().find(|(button, _)| *button == code);
                self.words.extend(word.map(|(_, word)| *word));
            }
            (EV_ABS, _) => self.turn(code, value),
            _ => {}
        }
    }

    fn turn(&mut self, axis: u16, value: i32) {
        let places = AXES.iter().zip(&self.ranges).zip(&mut self.controls.axes);
        for ((known, (low, high)), place) in places {
            if *known != axis {
                continue;
            }
            let [value, low, high] = [value, *low, *high].map(f64::from);
            let share = ((value - low) / (high - low)).clamp(0.0, 1.0);
            let trigger = matches!(axis, 2 | 5);
            let way = if trigger { share } else { 2.0 * share - 1.0 };
            // Nothing where it rests, and from there on without a jump.
            *place = way.signum() * (way.abs() - DEAD).max(0.0) / (1.0 - DEAD);
        }
    }
}

impl<R: Read + Send> Teleoperator for Gamepad<R> {
    fn poll(&mut self, follower: &Follower) -> Result<Option<TeleopAction>, TeleopError> {
        self.read()?;
        Ok(Some(self.pointer.wish(&self.controls.twist(), follower)))
    }

    fn engage(&mut self, engaged: bool, follower: &Follower) {
        self.pointer.engage(engaged, follower);
    }

    fn words(&mut self) -> Vec<Word> {
        std::mem::take(&mut self.words)
    }
}

/// Waits until any key or button of an input device is pressed; what it is read from waits.
///
/// # Errors
/// The device is gone.
pub fn wait_for_key(device: &mut impl Read) -> std::io::Result<()> {
    let mut record = [0; RECORD];
    loop {
        device.read_exact(&mut record)?;
        if event(&record).is_some_and(|(kind, _, value)| (kind, value) == (EV_KEY, 1)) {
            return Ok(());
        }
    }
}

/// Type, code and value of a record.
fn event(record: &[u8]) -> Option<(u16, u16, i32)> {
    let [t0, t1, c0, c1, value @ ..] = record.last_chunk::<8>()?;
    let (kind, code) = (u16::from_ne_bytes([*t0, *t1]), u16::from_ne_bytes([*c0, *c1]));
    Some((kind, code, i32::from_ne_bytes(*value)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::joints::JointVec;
    use crate::kinematics::Chain;
    use crate::storage::Disk;
    use std::path::Path;
    use std::sync::{Arc, Mutex};
    use std::time::Duration;

    /// What a test writes, and whether it is unplugged.
    #[derive(Clone, Default)]
    struct Wire(Arc<Mutex<(Vec<u8>, bool)>>);

    impl Wire {
        fn tell(&self, events: &[(u16, u16, i32)]) {
            for (kind, code, value) in events {
                let bytes = &mut self.0.lock().unwrap().0;
                bytes.extend([0xAA; RECORD - 8]);
                bytes.extend(kind.to_ne_bytes().iter().chain(&code.to_ne_bytes()));
                bytes.extend(value.to_ne_bytes());
            }
        }
    }

    impl Read for Wire {
        fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
            let (bytes, gone) = &mut *self.0.lock().unwrap();
            if *gone {
                return Err(std::io::Error::from_raw_os_error(19));
            }
            let count = buf.len().min(bytes.len());
            if count == 0 {
                return Err(ErrorKind::WouldBlock.into());
            }
            buf.iter_mut().zip(bytes.drain(..count)).for_each(|(to, byte)| *to = byte);
            Ok(count)
        }
    }

    struct Bench {
        pad: Gamepad<Wire>,
        wire: Wire,
        follower: Follower,
        robot: RobotConfig,
    }

    impl Bench {
        fn new() -> Self {
            let path = Path::new("firmware-config/emulated.toml");
            let robot = RobotConfig::load(&Disk, path).unwrap();
            let wire = Wire::default();
            // A PlayStation pad's sticks.
            let range = |_: &Wire, axis| matches!(axis, 0 | 1 | 3 | 4).then_some((0, 255));
            let mut pad = Gamepad::new(&robot, wire.clone(), range).unwrap();
            let home: JointVec<f64> = robot.joint.iter().map(|joint| joint.home_rad).collect();
            let follower = Follower { sent: home, ..Follower::default() };
            pad.engage(true, &follower);
            Self { pad, wire, follower, robot }
        }

        /// Half a second; where the wish is then.
        fn run(&mut self) -> JointVec<f64> {
            let mut wish = JointVec::new();
            for _ in 0..50 {
                self.follower.now = self.follower.now + Duration::from_millis(10);
                wish = self.pad.poll(&self.follower).unwrap().unwrap().position;
            }
            wish
        }

        fn way(&self, a: &[f64], b: &[f64]) -> [f64; 3] {
            let chain = Chain::of(&self.robot).unwrap();
            (chain.position(b) - chain.position(a)).into()
        }
    }

    const HOLD: (u16, u16, i32) = (EV_KEY, DEADMAN, 1);
    const REPORT: (u16, u16, i32) = (EV_SYN, SYN_REPORT, 0);

    #[test]
    fn the_sticks_move_the_tip_only_while_the_deadman_button_is_held() {
        let mut bench = Bench::new();
        let home = bench.run();
        bench.wire.tell(&[(EV_ABS, 1, 0), REPORT]);
        assert_eq!(bench.run(), home, "not held");
        bench.wire.tell(&[HOLD, REPORT]);
        let forward = bench.run();
        let [x, y, z] = bench.way(&home, &forward);
        assert!((y + SPEED / 2.0).abs() < 0.005, "half a second at full speed: {y} m");
        assert!(x.abs() < 0.005 && z.abs() < 0.005, "{x} {z}");
        bench.wire.tell(&[(EV_KEY, DEADMAN, 0), REPORT]);
        let held = bench.run();
        assert!(bench.run() == held && bench.way(&forward, &held)[1].abs() < 0.002);
        bench.wire.tell(&[HOLD, (EV_ABS, 1, 135), (EV_ABS, 5, 255), (EV_ABS, 4, 255), REPORT]);
        let low = bench.run();
        assert!(bench.way(&held, &low)[2] < -0.03, "the right stick is down");
        assert!(bench.way(&held, &low)[1].abs() < 0.005, "the left one rests beside its middle");
        assert!(low[5] < held[5], "the gripper closes: {low:?}");
    }

    #[test]
    fn lost_events_and_unplugging_let_go_of_all() {
        let mut bench = Bench::new();
        bench.wire.tell(&[HOLD, (EV_ABS, 1, 0), REPORT]);
        bench.run();
        // What comes before the next report is of a packet that is not whole.
        bench.wire.tell(&[(EV_SYN, SYN_DROPPED, 0), HOLD, (EV_ABS, 0, 0), REPORT]);
        let stopped = bench.run();
        assert_eq!(bench.run(), stopped);
        bench.wire.tell(&[HOLD, (EV_ABS, 0, 0), REPORT]);
        assert_ne!(bench.run(), stopped);
        bench.wire.0.lock().unwrap().1 = true;
        assert!(bench.pad.poll(&bench.follower).is_err());
        bench.wire.0.lock().unwrap().1 = false;
        let found = bench.run();
        assert_eq!(bench.run(), found, "held again only when it is pressed again");
    }

    #[test]
    fn buttons_say_words_once_and_what_is_not_known_says_nothing() {
        let mut bench = Bench::new();
        let home = bench.run();
        bench.wire.tell(&[HOLD, (EV_KEY, 0x13b, 1), (EV_KEY, 0x13b, 2), (EV_KEY, 0x13b, 0)]);
        bench.wire.tell(&[(EV_KEY, 0x13a, 1), (EV_KEY, 0x2ff, 1), (EV_ABS, 0x3f, 9)]);
        bench.wire.tell(&[(4, 4, 7), (0x15, 0x50, -1), REPORT]);
        assert_eq!(bench.run(), home);
        assert_eq!(bench.pad.words(), [Word::Start, Word::EmergencyStop]);
        assert_eq!(bench.pad.words(), []);
    }

    #[test]
    fn any_key_that_goes_down_is_a_press_and_nothing_else_is() {
        let stream = |events: &[(u16, u16, i32)]| {
            let wire = Wire::default();
            wire.tell(events);
            wire.0.lock().unwrap().0.clone()
        };
        let press = |events: &[(u16, u16, i32)]| wait_for_key(&mut stream(events).as_slice());
        // Turned, let go, held on; then any key.
        let others = [(EV_ABS, 1, 1), REPORT, (EV_KEY, 0x30, 0), (EV_KEY, 0x30, 2)];
        assert_eq!(press(&others).unwrap_err().kind(), ErrorKind::UnexpectedEof);
        for key in [0x1e, 0x110, 0x13a] {
            assert!(press(&[&others[..], &[(EV_KEY, key, 1)]].concat()).is_ok(), "{key:#x}");
        }
    }
}
