//! A keyboard in a terminal: it tells when a key goes down and, held, down again; never when it goes
//! up. So each press moves the arm for a moment.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use nalgebra::Vector3;
use ratatui::crossterm::event::KeyCode;

use super::jog::{Pointer, SPEED, TURN};
use super::{Follower, TeleopError, Teleoperator, Twist};
use crate::clock::Time;
use crate::config::RobotConfig;
use crate::control::TeleopAction;

/// A press moves for so long: longer than the pause between a held key's repeats.
const PRESS: Duration = Duration::from_millis(120);

/// What the keys do, for people.
pub const KEYS: &str =
    "arrows: along the table · PgUp PgDn: up, down · , . wrist · [ ] roll · c o gripper";

/// Where the keys come from.
#[derive(Debug, Clone)]
pub struct Keys(Sender<KeyCode>);

impl Keys {
    /// A key went down; whether it is one that moves the arm.
    pub fn press(&self, key: KeyCode) -> bool {
        let moves = motion(key).is_some();
        if moves {
            // Nobody steers any more: nothing is to be moved.
            let _ = self.0.send(key);
        }
        moves
    }
}

/// The keyboard as a device.
#[derive(Debug)]
pub struct Keyboard {
    pointer: Pointer,
    keys: Receiver<KeyCode>,
    /// The keys that are down, as far as one can tell, and until when.
    down: Vec<(KeyCode, Time)>,
}

/// A keyboard for a robot, and where its keys come from.
///
/// # Errors
/// The robot's geometry is wrong.
pub fn keyboard(robot: &RobotConfig) -> Result<(Keyboard, Keys), TeleopError> {
    let (sender, keys) = channel();
    let pointer = Pointer::new(robot)?;
    Ok((Keyboard { pointer, keys, down: Vec::new() }, Keys(sender)))
}

/// What a key moves. The SO arms point along -y of their base frame.
fn motion(key: KeyCode) -> Option<Twist> {
    let still = Twist::default();
    let tip = |x: f64, y: f64, z: f64| Twist { linear: SPEED * Vector3::new(x, y, z), ..still };
    Some(match key {
        KeyCode::Up => tip(0.0, -1.0, 0.0),
        KeyCode::Down => tip(0.0, 1.0, 0.0),
        KeyCode::Left => tip(1.0, 0.0, 0.0),
        KeyCode::Right => tip(-1.0, 0.0, 0.0),
        KeyCode::PageUp => tip(0.0, 0.0, 1.0),
        KeyCode::PageDown => tip(0.0, 0.0, -1.0),
        KeyCode::Char(',') => Twist { pitch: -TURN, ..still },
        KeyCode::Char('.') => Twist { pitch: TURN, ..still },
        KeyCode::Char('[') => Twist { roll: -TURN, ..still },
        KeyCode::Char(']') => Twist { roll: TURN, ..still },
        KeyCode::Char('c') => Twist { gripper: -TURN, ..still },
        KeyCode::Char('o') => Twist { gripper: TURN, ..still },
        _ => return None,
    })
}

impl Keyboard {
    /// The keys that are down at `now`, as one motion.
    fn twist(&mut self, now: Time) -> Twist {
        for key in self.keys.try_iter() {
            self.down.retain(|(other, _)| *other != key);
            self.down.push((key, now + PRESS));
        }
        self.down.retain(|(_, until)| *until > now);
        let motions = self.down.iter().filter_map(|(key, _)| motion(*key));
        motions.fold(Twist::default(), |sum, twist| Twist {
            linear: sum.linear + twist.linear,
            pitch: sum.pitch + twist.pitch,
            roll: sum.roll + twist.roll,
            gripper: sum.gripper + twist.gripper,
        })
    }
}

impl Teleoperator for Keyboard {
    fn poll(&mut self, follower: &Follower) -> Result<Option<TeleopAction>, TeleopError> {
        let twist = self.twist(follower.now);
        Ok(Some(self.pointer.wish(&twist, follower)))
    }

    fn engage(&mut self, engaged: bool, follower: &Follower) {
        self.pointer.engage(engaged, follower);
        self.down.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::joints::JointVec;
    use crate::storage::Disk;
    use std::path::Path;

    fn polled(keyboard: &mut Keyboard, follower: &Follower) -> JointVec<f64> {
        keyboard.poll(follower).unwrap().unwrap().position
    }

    #[test]
    fn a_press_moves_for_a_moment_and_a_held_key_goes_on() {
        let path = Path::new("firmware-config/emulated.toml");
        let robot = RobotConfig::load(&Disk, path).unwrap();
        let home: JointVec<f64> = robot.joint.iter().map(|joint| joint.home_rad).collect();
        let (mut keyboard, keys) = keyboard(&robot).unwrap();
        let mut follower = Follower { position: home.clone(), sent: home, ..Follower::default() };
        let mut moved = |presses: u64, engaged: bool| {
            keyboard.engage(engaged, &follower);
            let before = polled(&mut keyboard, &follower);
            for tick in 0..200 {
                // A terminal repeats a held key every 30 ms or so.
                if tick % 3 == 0 && tick < 3 * presses {
                    assert!(keys.press(KeyCode::Char(']')));
                }
                follower.now = follower.now + Duration::from_millis(10);
                polled(&mut keyboard, &follower);
            }
            polled(&mut keyboard, &follower)[4] - before[4]
        };
        assert_eq!(moved(5, false), 0.0, "nothing moves before it is engaged");
        let (once, held) = (moved(1, true), moved(40, true));
        assert!((0.05..0.15).contains(&once), "one press: {once} rad");
        assert!((held - TURN * 1.3).abs() < 0.1, "1.2 s held: {held} rad");
        assert!(!keys.press(KeyCode::Char('q')), "other keys are for others");
    }
}
