//! Steps as columns and back.

use super::table::{Column, Rows, Values};
use crate::clock::{Time, WallTime};
use crate::episode::proto::{mode, mode_numbers};
use crate::episode::{Episode, EpisodeHeader, Events, Mode, PolicyId, Step};
use crate::joints::{GoalSpace, stack};

/// The joint positions, in the dataset's units.
pub(super) const STATE: &str = "observation.state";
/// Where the joints were sent, in the dataset's units.
pub(super) const ACTION: &str = "action";
const GOAL_STATE: &str = "observation.environment_state";

/// An episode's place in a dataset.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    /// The episode's number.
    pub(super) episode: usize,
    /// The number of its first frame.
    pub(super) first: usize,
    /// Its task's number.
    pub(super) task: usize,
}

/// Numbers in a goal of this episode.
pub(super) fn goal_size(header: &EpisodeHeader, steps: &[Step]) -> usize {
    let longest = steps.iter().map(|s| s.achieved_goal.len().max(s.desired_goal.len())).max();
    let space = GoalSpace::of(&header.goal_space);
    space.map_or(longest.unwrap_or(0), |space| space.size(header.joints.len()))
}

/// The columns of an episode's frames.
pub(super) fn columns(episode: &Episode, place: Place, to: super::Units<'_>) -> Vec<Column> {
    let Episode { header, steps, outcome, .. } = episode;
    let (n, g) = (header.joints.len(), goal_size(header, steps));
    let per_joint = |name, of: &dyn Fn(&Step) -> Vec<f32>| {
        Column::new(name, Values::Float(filled(steps, n, of)), n)
    };
    let in_units =
        |row: &[f32]| row.iter().enumerate().map(|(i, q)| to(i, *q)).collect::<Vec<f32>>();
    let int = |name, of: &dyn Fn(usize, &Step) -> i64| {
        let values = steps.iter().enumerate().map(|(i, step)| of(i, step)).collect();
        Column::new(name, Values::Int(values), 1)
    };
    let bool = |name, of: &dyn Fn(usize, &Step) -> bool| {
        let values = steps.iter().enumerate().map(|(i, step)| of(i, step)).collect();
        Column::new(name, Values::Bool(values), 1)
    };
    let last = steps.len().saturating_sub(1);
    let succeeded = outcome.as_ref().and_then(|o| o.success) == Some(true);
    let timestamps = (0..steps.len()).map(|i| (i as f64 / header.rate_hz) as f32).collect();
    let mut columns = vec![
        per_joint(STATE, &|step| in_units(&step.position)),
        per_joint(ACTION, &|step| in_units(commanded(step))),
    ];
    if g > 0 {
        let told = episode.goal().to_vec();
        let goal = |name, of: &dyn Fn(&Step) -> Vec<f32>| {
            Column::new(name, Values::Float(filled(steps, g, of)), g)
        };
        columns.push(goal(GOAL_STATE, &|step| {
            if step.desired_goal.is_empty() { told.clone() } else { step.desired_goal.to_vec() }
        }));
        columns.push(goal("goal", &|step| step.desired_goal.to_vec()));
        columns.push(goal("achieved_goal", &|step| step.achieved_goal.to_vec()));
    }
    columns.extend([
        per_joint("wished", &|step| step.action.to_vec()),
        per_joint("sent", &|step| step.sent.to_vec()),
        per_joint("velocity", &|step| step.velocity.to_vec()),
        per_joint("load", &|step| step.load.to_vec()),
        per_joint("current", &|step| step.current.to_vec()),
        per_joint("temperature", &|step| step.temperature.to_vec()),
        Column::new("measured_ns", Values::Int(measured(steps, n)), n),
        int("tick", &|_, step| signed(step.tick)),
        int("monotonic_ns", &|_, step| signed(step.time.0)),
        int("wall_ns", &|_, step| signed(step.wall.0)),
        int("mode", &|_, step| mode_numbers(step.mode).0.into()),
        int("fault", &|_, step| mode_numbers(step.mode).1.into()),
        int("events", &|_, step| step.events.0.into()),
        bool("intervention", &|_, step| step.intervention),
        Column::new(
            "policy",
            Values::Int(steps.iter().flat_map(|s| halves(s.policy)).collect()),
            2,
        ),
        bool("next.done", &|i, _| i == last),
        bool("next.success", &|i, _| i == last && succeeded),
        Column::new("timestamp", Values::Float(timestamps), 1),
        int("frame_index", &|i, _| i as i64),
        int("episode_index", &|_, _| place.episode as i64),
        int("index", &|i, _| (place.first + i) as i64),
        int("task_index", &|_, _| place.task as i64),
    ]);
    columns
}

/// Where the joints were to go (rad): as a person wished, else as they were sent, else where they are.
fn commanded(step: &Step) -> &[f32] {
    let wished = step.intervention && step.action.len() == step.position.len();
    match (wished, step.sent.is_empty()) {
        (true, _) => &step.action,
        (false, false) => &step.sent,
        (false, true) => &step.position,
    }
}

/// Rows of `width` numbers; what a step does not have is NaN.
fn filled(steps: &[Step], width: usize, of: &dyn Fn(&Step) -> Vec<f32>) -> Vec<f32> {
    let row = |step| of(step).into_iter().chain(std::iter::repeat(f32::NAN)).take(width);
    steps.iter().flat_map(row).collect()
}

/// When each joint was measured; -1 where that was not told.
fn measured(steps: &[Step], width: usize) -> Vec<i64> {
    let row = |step: &Step| {
        let stamps: Vec<i64> = step.stamps.iter().map(|stamp| signed(stamp.0)).collect();
        stamps.into_iter().chain(std::iter::repeat(-1)).take(width)
    };
    steps.iter().flat_map(row).collect()
}

/// Parquet's integers have a sign: the same bits.
fn signed(x: u64) -> i64 {
    x.cast_signed()
}

fn halves(policy: PolicyId) -> [i64; 2] {
    let bits = u128::from_be_bytes(policy.0);
    [((bits >> 64) as u64).cast_signed(), (bits as u64).cast_signed()]
}

/// Some rows of a table.
#[derive(Debug, Clone, Copy)]
pub(super) struct Frames<'a> {
    pub(super) columns: &'a [Column],
    /// The first row.
    pub(super) from: usize,
    /// The row after the last.
    pub(super) to: usize,
}

impl<'a> Frames<'a> {
    fn column(&self, name: &str) -> Option<&'a Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// A row's numbers.
    pub(super) fn floats(&self, name: &str, row: usize) -> Option<&'a [f32]> {
        let column = self.column(name)?;
        let Values::Float(values) = &column.values else { return None };
        values.get(range(column, row)?)
    }

    pub(super) fn ints(&self, name: &str, row: usize) -> Option<&'a [i64]> {
        let column = self.column(name)?;
        let Values::Int(values) = &column.values else { return None };
        values.get(range(column, row)?)
    }

    pub(super) fn int(&self, name: &str, row: usize) -> Option<i64> {
        self.ints(name, row)?.first().copied()
    }

    pub(super) fn bool(&self, name: &str, row: usize) -> Option<bool> {
        let Values::Bool(values) = &self.column(name)?.values else { return None };
        values.get(row).copied()
    }

    /// The steps of an export of ours; `None` when one is not whole.
    pub(super) fn steps(&self, joints: usize, from: super::Units<'_>) -> Option<Vec<Step>> {
        (self.from..self.to).map(|row| self.step(row, joints, from)).collect()
    }

    fn step(&self, row: usize, joints: usize, from: super::Units<'_>) -> Option<Step> {
        let per_joint = |name| Some(stack(there(self.floats(name, row)?)));
        let goal = |name| stack(self.floats(name, row).map(there).into_iter().flatten());
        let number = |name| Some(self.int(name, row)?.cast_unsigned());
        let numbers = |name| u32::try_from(self.int(name, row)?).ok();
        let position = there(self.floats(STATE, row)?).enumerate().map(|(i, x)| from(i, x));
        let [high, low] = *self.ints("policy", row)? else { return None };
        let policy = (u128::from(high.cast_unsigned()) << 64) | u128::from(low.cast_unsigned());
        let stamps = self.ints("measured_ns", row)?.iter().take_while(|x| **x != -1);
        Some(Step {
            tick: number("tick")?,
            time: Time(number("monotonic_ns")?),
            wall: WallTime(number("wall_ns")?),
            stamps: stack(stamps.map(|x| Time(x.cast_unsigned()))),
            position: stack(position.take(joints)),
            velocity: per_joint("velocity")?,
            load: per_joint("load")?,
            current: currents(self.floats("current", row)?),
            temperature: per_joint("temperature")?,
            achieved_goal: goal("achieved_goal"),
            desired_goal: goal("goal"),
            action: per_joint("wished")?,
            sent: per_joint("sent")?,
            mode: mode(numbers("mode")?, numbers("fault")?)?,
            events: Events(numbers("events")?),
            intervention: self.bool("intervention", row)?,
            policy: PolicyId(policy.to_be_bytes()),
        })
    }

    /// The steps of somebody else's dataset: a person steered; `achieved` tells the goal achieved at
    /// joint positions (rad).
    pub(super) fn foreign(
        &self,
        rate_hz: f64,
        from: super::Units<'_>,
        achieved: super::import::Achieved<'_>,
    ) -> Option<Vec<Step>> {
        let radians =
            |row: &[f32]| row.iter().enumerate().map(|(i, x)| from(i, *x)).collect::<Vec<_>>();
        (self.from..self.to)
            .enumerate()
            .map(|(i, row)| {
                let position = radians(self.floats(STATE, row)?);
                let action = radians(self.floats(ACTION, row)?);
                let time = self.floats("timestamp", row).and_then(|t| t.first().copied());
                let seconds = time.map_or(i as f64 / rate_hz, f64::from);
                Some(Step {
                    tick: i as u64,
                    time: Time((seconds.max(0.0) * 1e9).round() as u64),
                    achieved_goal: achieved(&position),
                    position: stack(position),
                    sent: stack(action.iter().copied()),
                    action: stack(action),
                    mode: Mode::Teleop,
                    intervention: true,
                    ..Step::default()
                })
            })
            .collect()
    }
}

/// Where in the values a row's are.
fn range(column: &Column, row: usize) -> Option<std::ops::Range<usize>> {
    Some(match &column.rows {
        Rows::One => row..row + 1,
        Rows::Width(width) => row * width..(row + 1) * width,
        Rows::Lists(_) => return None,
    })
}

/// A row without the NaNs at its end.
fn there(row: &[f32]) -> impl Iterator<Item = f32> {
    let end = row.iter().rposition(|x| !x.is_nan()).map_or(0, |last| last + 1);
    row.iter().take(end).copied()
}

/// Servos without a current sensor have NaN; with none at all there are no currents.
fn currents(row: &[f32]) -> crate::joints::JointVec<f32> {
    if row.iter().all(|x| x.is_nan()) { stack([]) } else { stack(row.iter().copied()) }
}
