//! What was recorded, as a device: the course of an episode's joints, played again.

use std::time::Duration;

use super::{Follower, TeleopError, Teleoperator};
use crate::clock::Time;
use crate::control::TeleopAction;
use crate::episode::Step;
use crate::joints::JointVec;

/// Which of an episode's positions are played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Track {
    /// The goals that were sent to the servos.
    Sent,
    /// Where the joints were measured.
    Measured,
}

/// Joint positions (rad) over time (s), from zero on, at least one.
#[derive(Debug, Clone, PartialEq)]
pub struct Course(Vec<(f64, JointVec<f64>)>);

impl Course {
    /// The part of an episode from `from` to `to` (s since its first step). Steps without these
    /// positions, as those led by hand have none that were sent, are passed over.
    ///
    /// # Errors
    /// None of the steps there has finite positions of this track.
    pub fn of(
        steps: &[Step],
        joints: usize,
        track: Track,
        (from, to): (f64, f64),
    ) -> Result<Self, TeleopError> {
        let began = steps.first().map_or(Time::ZERO, |step| step.time);
        let mut points: Vec<(f64, JointVec<f64>)> = Vec::new();
        for step in steps {
            let at = step.time.since(began).as_secs_f64();
            let positions = match track {
                Track::Sent => &step.sent,
                Track::Measured => &step.position,
            };
            let whole = positions.len() == joints && positions.iter().all(|q| q.is_finite());
            if whole && (from..=to).contains(&at) {
                points.push((at, positions.iter().map(|q| f64::from(*q)).collect()));
            }
        }
        let start = points.first().map(|(at, _)| *at).ok_or(TeleopError::NoCourse { track })?;
        points.iter_mut().for_each(|(at, _)| *at -= start);
        Ok(Self(points))
    }

    /// How long it takes (s).
    pub fn seconds(&self) -> f64 {
        self.0.last().map_or(0.0, |(at, _)| *at)
    }

    /// The positions (rad) at a time (s); those of its ends before and after it.
    pub fn at(&self, seconds: f64) -> JointVec<f64> {
        let next = self.0.partition_point(|(at, _)| *at <= seconds);
        let before = next.checked_sub(1).and_then(|i| self.0.get(i));
        match (before, self.0.get(next)) {
            (Some((t0, a)), Some((t1, b))) => {
                let share = (seconds - t0) / (t1 - t0);
                a.iter().zip(b).map(|(a, b)| a + share * (b - a)).collect()
            }
            (Some((_, end)), None) | (None, Some((_, end))) => end.clone(),
            (None, None) => JointVec::new(),
        }
    }

    /// Each joint's lowest and highest position (rad), and when (s).
    pub fn extremes(&self, joint: usize) -> Option<[(f64, f64); 2]> {
        let of = |(at, q): &(f64, JointVec<f64>)| Some((*q.get(joint)?, *at));
        let values = || self.0.iter().filter_map(of);
        let low = values().min_by(|a, b| a.0.total_cmp(&b.0))?;
        let high = values().max_by(|a, b| a.0.total_cmp(&b.0))?;
        Some([low, high])
    }
}

/// Plays a course: once it is engaged it stays at the beginning until the arm may move at its full
/// speed, then goes along.
pub struct Recorded {
    course: Course,
    speed: f64,
    pause: Duration,
    engaged: Option<Time>,
    now: Time,
}

impl Recorded {
    /// Plays `speed` times as fast as it was recorded, `pause` after it is engaged.
    pub fn new(course: Course, speed: f64, pause: Duration) -> Self {
        Self { course, speed, pause, engaged: None, now: Time::ZERO }
    }

    /// Where in the course it is now (s); below zero at the beginning.
    fn place(&self) -> Option<f64> {
        let engaged = self.engaged?;
        let since = self.now.since(engaged).as_secs_f64() - self.pause.as_secs_f64();
        Some(since * self.speed)
    }
}

impl Teleoperator for Recorded {
    fn poll(&mut self, follower: &Follower) -> Result<Option<TeleopAction>, TeleopError> {
        self.now = follower.now;
        let position = self.course.at(self.place().unwrap_or(0.0));
        Ok(Some(TeleopAction { stamp: follower.now, position }))
    }

    fn engage(&mut self, engaged: bool, follower: &Follower) {
        self.now = follower.now;
        self.engaged = engaged.then_some(follower.now);
    }

    fn autonomous(&self) -> bool {
        true
    }

    fn done(&self) -> bool {
        self.place().is_some_and(|place| place > self.course.seconds())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::joints::stack;

    fn step(ms: u64, sent: f32) -> Step {
        let time = Time(1_000_000_000 + ms * 1_000_000);
        Step { time, sent: stack([sent]), position: stack([sent + 1.0]), ..Step::default() }
    }

    fn course(track: Track, span: (f64, f64)) -> Course {
        let torqueless = Step { sent: JointVec::new(), ..step(15, 0.0) };
        let nonsense = step(16, f32::NAN);
        let steps = [step(0, 0.0), step(10, 0.5), torqueless, nonsense, step(30, 0.25)];
        Course::of(&steps, 1, track, span).unwrap()
    }

    #[test]
    fn between_two_steps_lies_the_way_between_them() {
        let course = course(Track::Sent, (0.0, f64::INFINITY));
        let found = [-1.0, 0.0, 0.005, 0.01, 0.02, 0.03, 9.0].map(|t| course.at(t)[0]);
        let expected = [0.0, 0.0, 0.25, 0.5, 0.375, 0.25, 0.25];
        assert!(found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9), "{found:?}");
        assert_eq!(course.extremes(0), Some([(0.0, 0.0), (0.5, 0.01)]));
        assert_eq!(course.extremes(1), None);
    }

    #[test]
    fn a_part_begins_at_zero_and_a_track_that_is_not_there_is_an_error() {
        let part = course(Track::Measured, (0.005, 0.02));
        assert_eq!((part.at(0.0)[0], part.seconds() < 0.0061), (1.5, true));
        let off = [Step { sent: JointVec::new(), ..step(0, 0.0) }];
        let found = Course::of(&off, 1, Track::Sent, (0.0, 1.0));
        assert!(matches!(found, Err(TeleopError::NoCourse { track: Track::Sent })));
    }

    #[test]
    fn a_course_waits_at_its_beginning_and_is_done_after_its_end() {
        let course = course(Track::Sent, (0.0, f64::INFINITY));
        let mut device = Recorded::new(course, 0.5, Duration::from_millis(100));
        let at = |ms: u64| Follower { now: Time(ms * 1_000_000), ..Follower::default() };
        let poll = |device: &mut Recorded, ms| {
            device
                .poll(&at(ms))
                .unwrap()
                .map(|action| ((1e9 * action.position[0]).round() / 1e9, device.done()))
        };
        assert_eq!(poll(&mut device, 5000), Some((0.0, false)), "nobody has engaged it");
        device.engage(true, &at(6000));
        assert_eq!(poll(&mut device, 6100), Some((0.0, false)));
        assert_eq!(poll(&mut device, 6120), Some((0.5, false)));
        assert_eq!(poll(&mut device, 6165), Some((0.25, true)));
        device.engage(false, &at(6200));
        assert_eq!(poll(&mut device, 7000), Some((0.0, false)));
    }
}
