//! A recorded episode done again by the loop itself: every input comes from the record, so every step
//! must come out as it was recorded, bit for bit.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::actor::{Decision, Pilot};
use super::hardware::Hardware;
use super::teleop::{TeleopSender, teleop_queue};
use super::tick::ControlLoop;
use crate::clock::{Clock, Time, WallTime};
use crate::config::RobotConfig;
use crate::episode::{Answers, Command, Episode, Events, Inputs, Step};
use crate::hal::arm::{ArmError, Counters};
use crate::hal::bus::BusError;
use crate::hal::{ArmState, JointState, PortError};
use crate::joints::JointVec;
use crate::kinematics::KinematicsError;
use crate::policy::{ActionKind, Observation, Plan};

/// Why an episode cannot be done again.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum ReplayError {
    /// It holds what was done, but not all of why.
    #[error(
        "expected an episode with the loop's inputs, found one without: it was written by an older \
         version or by another program, or no loop steered"
    )]
    NoInputs,
    /// It is of another robot.
    #[error("expected an episode of {expected} joints, found one of {found}: name its robot")]
    Joints {
        /// The robot's.
        expected: usize,
        /// The episode's.
        found: usize,
    },
}

/// A value that came out otherwise.
#[derive(Debug, Clone, PartialEq)]
pub struct Difference {
    /// The tick.
    pub tick: u64,
    /// Which of the step's values: `sent`, the command, or another one.
    pub value: &'static str,
    /// Its place, from 0; the joint of a command.
    pub place: usize,
    /// What was recorded.
    pub recorded: String,
    /// What came out.
    pub replayed: String,
}

/// What came out of an episode.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Replayed {
    /// Ticks done again and compared.
    pub compared: u64,
    /// Ticks after steps that are missing in the record, or after more inputs than it holds.
    pub unknown: u64,
    /// Ticks with at least one difference.
    pub different: u64,
    /// The first one.
    pub first: Option<Difference>,
}

/// What the loop is given in a tick.
#[derive(Default)]
struct Given {
    step: Step,
    inputs: Inputs,
    times: VecDeque<Time>,
    answers: VecDeque<bool>,
}

/// The record, in the place of arm, policy and clock.
#[derive(Clone, Default)]
struct Record(Arc<Mutex<Given>>);

impl Record {
    /// A poisoned lock only means that a thread ended badly; the values in it are whole.
    fn given(&self) -> MutexGuard<'_, Given> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn answer(&self) -> bool {
        self.given().answers.pop_front().unwrap_or_default()
    }
}

fn lost() -> ArmError {
    BusError::from(PortError::Lost).into()
}

impl Hardware for Record {
    fn read(&mut self, state: &mut ArmState, _: Time) -> Result<usize, ArmError> {
        let given = self.given();
        let (step, inputs) = (&given.step, &given.inputs);
        let at = |values: &JointVec<f32>, i| values.get(i).copied().map_or(0.0, f64::from);
        let joint = |(i, stamp): (usize, &Time)| {
            let supply = inputs.supplies.get(i).copied().unwrap_or_default();
            JointState {
                position: at(&step.position, i),
                velocity: at(&step.velocity, i),
                load: at(&step.load, i),
                current: step.current.get(i).filter(|x| !x.is_nan()).map(|x| f64::from(*x)),
                voltage: f64::from(supply.voltage),
                temperature: at(&step.temperature, i),
                status: supply.troubles,
                stamp: *stamp,
                jumped: supply.jumped,
            }
        };
        state.joints = step.stamps.iter().enumerate().map(joint).collect();
        if inputs.lost { Err(lost()) } else { Ok(state.joints.len()) }
    }

    fn write(&mut self, _: &JointVec<f64>, _: Time) -> Result<(), ArmError> {
        Ok(())
    }

    fn torque(&mut self, _: bool) -> Result<(), ArmError> {
        if self.answer() { Ok(()) } else { Err(lost()) }
    }

    fn damp(&mut self) -> Result<bool, ArmError> {
        Ok(self.answer())
    }

    fn energised(&self) -> bool {
        false
    }

    fn counters(&self) -> Counters {
        Counters::default()
    }
}

impl Pilot for Record {
    fn exchange(&mut self, observation: &Observation, _: Time) -> Option<Decision> {
        let given = self.given();
        let answered = given.inputs.answered?;
        let action = given.step.action.clone();
        let ahead: Plan = match (answered.planned, answered.spent) {
            (false, _) => Plan::new(),
            // A plan that has ended: it is shorter than its age.
            (true, true) => std::iter::once(JointVec::new()).collect(),
            (true, false) => (0..answered.age.max(1)).map(|_| action.clone()).collect(),
        };
        Some(Decision {
            tick: observation.tick.saturating_sub(answered.age),
            episode: observation.episode,
            action,
            ahead,
            kind: match answered.relative {
                true => ActionKind::JointDelta,
                false => ActionKind::JointPosition,
            },
            policy: given.step.policy,
        })
    }
}

impl Clock for Record {
    fn now(&self) -> Time {
        let mut given = self.given();
        given.times.pop_front().unwrap_or(given.step.time)
    }
    fn wall(&self) -> WallTime {
        self.given().step.wall
    }
    fn sleep_until(&self, _: Time) {}
}

/// Does episodes of one robot again.
pub struct Replay {
    control: ControlLoop,
    record: Record,
    person: TeleopSender,
    joints: usize,
}

impl Replay {
    /// A loop of this robot, whose inputs will come from records.
    ///
    /// # Errors
    /// The robot's goals need a geometry that it does not have.
    pub fn new(robot: &RobotConfig) -> Result<Self, KinematicsError> {
        let record = Record::default();
        let (person, heard) = teleop_queue();
        let (arm, pilot) = (Box::new(record.clone()), Box::new(record.clone()));
        let clock = Arc::new(record.clone());
        let control = ControlLoop::over(robot, arm, pilot, None, clock)?.with_teleop(heard);
        Ok(Self { control, record, person, joints: robot.joint.len() })
    }

    /// Does an episode again and compares each step. Nothing after a gap in the record can be done.
    ///
    /// # Errors
    /// The episode does not hold its inputs, or is of another robot.
    pub fn run(&mut self, episode: &Episode) -> Result<Replayed, ReplayError> {
        let origin = episode.header.origin.as_ref().ok_or(ReplayError::NoInputs)?;
        let (expected, found) = (self.joints, episode.header.joints.len());
        if expected != found {
            return Err(ReplayError::Joints { expected, found });
        }
        self.control.resume(origin);
        let mut replayed = Replayed::default();
        let mut held = Inputs::default();
        for (step, inputs) in episode.with_inputs() {
            match inputs {
                Some(inputs) => held.clone_from(inputs),
                None => held.settle(),
            }
            let gap = step.events.contains(Events::LOG_GAP) || held.incomplete;
            if gap || (replayed.compared == 0 && inputs.is_none()) {
                replayed.unknown = episode.steps.len() as u64 - replayed.compared;
                break;
            }
            let difference = difference(step, self.tick(step, &held));
            replayed.compared += 1;
            replayed.different += u64::from(difference.is_some());
            replayed.first = replayed.first.or(difference);
        }
        Ok(replayed)
    }

    /// One tick with the inputs of a recorded one.
    fn tick(&mut self, step: &Step, inputs: &Inputs) -> &Step {
        {
            let mut given = self.record.given();
            given.step.clone_from(step);
            given.inputs.clone_from(inputs);
        }
        for order in &inputs.orders {
            self.give(&order.answers, order.times.iter().copied().collect());
            if let Some(heard) = &order.heard {
                self.person.send(heard.clone());
            }
            self.command(&order.command);
        }
        self.give(&inputs.answers, VecDeque::new());
        if let Some(heard) = &inputs.heard {
            self.person.send(heard.clone());
        }
        self.control.tick(step.tick, step.time)
    }

    fn give(&self, answers: &Answers, times: VecDeque<Time>) {
        let mut given = self.record.given();
        (given.answers, given.times) = (answers.iter().copied().collect(), times);
    }

    fn command(&mut self, command: &Command) {
        // What was refused then is refused now.
        let _ = self.control.command(command);
    }
}

/// The first value in which two steps differ, commands first.
fn difference(recorded: &Step, replayed: &Step) -> Option<Difference> {
    let numbers: [(&'static str, &[f32], &[f32]); 4] = [
        ("sent", &recorded.sent, &replayed.sent),
        ("action", &recorded.action, &replayed.action),
        ("achieved_goal", &recorded.achieved_goal, &replayed.achieved_goal),
        ("desired_goal", &recorded.desired_goal, &replayed.desired_goal),
    ];
    let told = |x: Option<f32>| x.map_or("nothing".to_owned(), |x| format!("{x:?}"));
    let found = numbers.into_iter().find_map(|(value, a, b)| {
        let place = |i: &usize| a.get(*i).map(|x| x.to_bits()) != b.get(*i).map(|x| x.to_bits());
        let place = (0..a.len().max(b.len())).find(place)?;
        Some((value, place, told(a.get(place).copied()), told(b.get(place).copied())))
    });
    let (a, b) = (recorded, replayed);
    let word = || match () {
        () if a.mode != b.mode => {
            Some(("mode", 0, format!("{:?}", a.mode), format!("{:?}", b.mode)))
        }
        () if a.events != b.events => {
            Some(("events", 0, format!("{:#b}", a.events.0), format!("{:#b}", b.events.0)))
        }
        () if a.intervention != b.intervention => {
            Some(("intervention", 0, a.intervention.to_string(), b.intervention.to_string()))
        }
        () => None,
    };
    let (value, place, recorded, replayed) = found.or_else(word)?;
    Some(Difference { tick: a.tick, value, place, recorded, replayed })
}
