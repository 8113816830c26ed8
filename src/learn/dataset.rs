//! Logged episodes as trajectories to learn from.

use super::LearnError;
use crate::episode::{Episode, Split, Step};
use crate::goal::{ReplayBuffer, Trajectory};
use crate::joints::{GoalSpace, GoalVec, JointVec, Row};
use crate::policy::{PolicyError, PolicySpec, Senses};

/// Ticks that may be missing between two steps of one trajectory.
const MAX_GAP: u64 = 3;
/// Shorter pieces teach nothing.
const MIN_STEPS: usize = 10;

/// The usable pieces of an episode, for a policy of this description: cut where ticks are missing or
/// torque was off.
///
/// The action at a time is the change of the goal positions that was really sent, not the one wished
/// for: what the gate changed or refused was never tried.
///
/// # Errors
/// The episode's joints or goals are not the policy's, or a number is not finite.
pub fn trajectories(episode: &Episode, spec: &PolicySpec) -> Result<Vec<Trajectory>, LearnError> {
    let (expected, found) = (spec.goal_space.name(), &episode.header.goal_space);
    if spec.goal_space != GoalSpace::None && found != expected {
        return Err(LearnError::GoalSpace { expected, found: found.clone() });
    }
    let joints = &episode.header.joints;
    let places: Option<Vec<usize>> =
        spec.joints.iter().map(|name| joints.iter().position(|j| j == name)).collect();
    let places = places.ok_or_else(|| PolicyError::WrongRobot {
        policy: format!("{} with joints {}", spec.model, spec.joints.join(", ")),
        robot: format!("`{}` with joints {}", episode.header.robot, joints.join(", ")),
    })?;
    let follows = |a: &Step, b: &Step| {
        !a.sent.is_empty() && !b.sent.is_empty() && b.tick.saturating_sub(a.tick) <= MAX_GAP
    };
    episode
        .steps
        .chunk_by(follows)
        .filter(|piece| piece.len() >= MIN_STEPS)
        .map(|piece| trajectory(piece, spec, &places))
        .collect()
}

fn trajectory(
    steps: &[Step],
    spec: &PolicySpec,
    places: &[usize],
) -> Result<Trajectory, LearnError> {
    let (mut observations, mut goals, mut actions) = (Vec::new(), Vec::new(), Vec::new());
    for pair in steps.windows(2) {
        let [before, now] = pair else { continue };
        let senses = Senses {
            position: &now.position,
            velocity: &now.velocity,
            sent: &before.sent,
            achieved_goal: &now.achieved_goal,
            desired_goal: &now.desired_goal,
        };
        let row: Option<Row> = senses.row(&spec.observation, places);
        let row = row.ok_or(PolicyError::BadObservation {
            expected: places.len(),
            goal: spec.goal_size(),
        })?;
        let action: JointVec<f32> = places
            .iter()
            .filter_map(|place| Some(now.sent.get(*place)? - before.sent.get(*place)?))
            .collect();
        observations.push(row);
        goals.push(now.achieved_goal.clone());
        actions.push(action);
    }
    // The last action leads to a state that was not logged.
    actions.pop();
    let desired: GoalVec = steps.first().map(|s| s.desired_goal.clone()).unwrap_or_default();
    Ok(Trajectory::new(&observations, &goals, &actions, &desired)?)
}

/// Adds the episodes of one split to a buffer and says how many episodes could be used. An episode of
/// another split is never looked at: validation episodes are not relabelled into training.
///
/// # Errors
/// An episode of another robot.
pub fn extend(
    buffer: &mut ReplayBuffer,
    episodes: &[Episode],
    split: Split,
    spec: &PolicySpec,
) -> Result<usize, LearnError> {
    let mut used = 0;
    for episode in episodes.iter().filter(|e| e.header.split == split) {
        let pieces = trajectories(episode, spec)?;
        used += usize::from(!pieces.is_empty());
        pieces.into_iter().for_each(|piece| buffer.push(piece));
    }
    Ok(used)
}
