//! Logged episodes as trajectories to learn from.

use std::num::NonZero;
use std::path::{Path, PathBuf};

use super::LearnError;
use crate::episode::{Episode, EpisodeError, Mode, Step, paths};
use crate::goal::Trajectory;
use crate::joints::{GoalVec, JointVec, Row};
use crate::policy::{PolicyError, PolicySpec, Senses};
use crate::storage::Storage;

/// Ticks that may be missing between two steps of one trajectory.
const MAX_GAP: u64 = 3;
/// Shorter pieces teach nothing.
const MIN_STEPS: usize = 10;

/// The usable [`pieces`] of an episode, for a policy of this description.
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
    pieces(episode).map(|piece| trajectory(piece, &goal, spec, &places)).collect()
}

/// The usable pieces of an episode: cut where ticks are missing or torque was off, and long enough to
/// teach something.
pub fn pieces(episode: &Episode) -> impl Iterator<Item = &[Step]> {
    let follows = |a: &Step, b: &Step| {
        !commanded(a).is_empty()
            && !commanded(b).is_empty()
            && b.tick.saturating_sub(a.tick) <= MAX_GAP
    };
    episode.steps.chunk_by(follows).filter(|piece| piece.len() >= MIN_STEPS)
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

/// Files that a thread reads before what they hold is taken: few enough that all of them fit in memory.
const FILES: usize = 32;

/// Reads a folder's episodes with all processors and takes what `of` makes of each, in the order of
/// their numbers. A damaged one is used as far as it is proven, one without a header is left out;
/// both are told about.
///
/// # Errors
/// The folder cannot be listed, or `take` fails.
pub fn read_each<T: Send, E: From<EpisodeError>>(
    storage: &dyn Storage,
    folder: &Path,
    of: impl Fn(Episode) -> T + Sync,
    mut take: impl FnMut(T) -> Result<(), E>,
) -> Result<(), E> {
    let read = |path: &PathBuf| match Episode::read(storage, path) {
        Ok(episode) => {
            if let Some(damage) = &episode.damage {
                log::warn!("{}: {damage}; using what is whole", path.display());
            }
            Some(of(episode))
        }
        Err(error) => {
            log::warn!("left out: {error}");
            None
        }
    };
    let read_all = |paths: &[PathBuf]| -> Vec<T> { paths.iter().filter_map(read).collect() };
    let threads = std::thread::available_parallelism().map_or(1, NonZero::get);
    for group in paths(storage, folder)?.chunks(threads * FILES) {
        let made = std::thread::scope(|scope| {
            let spawn = |part| scope.spawn(move || read_all(part));
            let threads: Vec<_> = group.chunks(FILES).map(spawn).collect();
            threads.into_iter().map(|thread| thread.join()).collect::<Vec<_>>()
        });
        for part in made {
            part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .into_iter()
                .try_for_each(&mut take)?;
        }
    }
    Ok(())
}
