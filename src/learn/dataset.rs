//! Logged episodes as trajectories to learn from.

use super::LearnError;
use crate::episode::{Episode, Mode, Split, Step};
use crate::goal::{ReplayBuffer, Trajectory};
use crate::joints::{GoalVec, JointVec, Row};
use crate::policy::{PolicyError, PolicySpec, Senses};

/// Ticks that may be missing between two steps of one trajectory.
const MAX_GAP: u64 = 3;
/// Shorter pieces teach nothing.
const MIN_STEPS: usize = 10;

/// The usable pieces of an episode, for a policy of this description: cut where ticks are missing or
/// torque was off.
///
/// The action at a time is the change of the goal positions that was really sent, not the one wished
/// for: what the gate changed or refused was never tried. Where the arm was led by hand, nothing was
/// sent: there it is the change of the measured positions. A step without a goal, before one was marked
/// or told in hindsight, has the episode's.
///
/// # Errors
/// The episode's joints are not the policy's, or a number is not finite.
pub fn trajectories(episode: &Episode, spec: &PolicySpec) -> Result<Vec<Trajectory>, LearnError> {
    let joints = &episode.header.joints;
    let places: Option<Vec<usize>> =
        spec.joints.iter().map(|name| joints.iter().position(|j| j == name)).collect();
    let places = places.ok_or_else(|| PolicyError::WrongRobot {
        policy: format!("{} with joints {}", spec.model, spec.joints.join(", ")),
        robot: format!("`{}` with joints {}", episode.header.robot, joints.join(", ")),
    })?;
    let goal = episode.goal();
    let follows = |a: &Step, b: &Step| {
        !commanded(a).is_empty()
            && !commanded(b).is_empty()
            && b.tick.saturating_sub(a.tick) <= MAX_GAP
    };
    episode
        .steps
        .chunk_by(follows)
        .filter(|piece| piece.len() >= MIN_STEPS)
        .map(|piece| trajectory(piece, &goal, spec, &places))
        .collect()
}

/// The positions that the joints were sent to (rad), or led to by hand; empty when neither.
fn commanded(step: &Step) -> &JointVec<f32> {
    let by_hand = step.mode == Mode::Teleop && step.sent.is_empty();
    if by_hand { &step.action } else { &step.sent }
}

fn trajectory(
    steps: &[Step],
    goal: &GoalVec,
    spec: &PolicySpec,
    places: &[usize],
) -> Result<Trajectory, LearnError> {
    let (mut observations, mut goals, mut actions) = (Vec::new(), Vec::new(), Vec::new());
    for pair in steps.windows(2) {
        let [before, now] = pair else { continue };
        let senses = Senses {
            position: &now.position,
            velocity: &now.velocity,
            sent: commanded(before),
            achieved_goal: &now.achieved_goal,
            desired_goal: if now.desired_goal.is_empty() { goal } else { &now.desired_goal },
        };
        let row: Option<Row> = senses.row(&spec.observation, places);
        let row = row.ok_or(PolicyError::BadObservation {
            expected: places.len(),
            goal: spec.goal_size(),
        })?;
        let action: JointVec<f32> = places
            .iter()
            .filter_map(|place| Some(commanded(now).get(*place)? - commanded(before).get(*place)?))
            .collect();
        observations.push(row);
        goals.push(now.achieved_goal.clone());
        actions.push(action);
    }
    // The last action leads to a state that was not logged.
    actions.pop();
    Ok(Trajectory::new(&observations, &goals, &actions, goal)?)
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
