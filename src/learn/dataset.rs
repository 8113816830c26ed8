//! Logged episodes as trajectories to learn from.

use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::thread::Builder;

use super::LearnError;
use crate::episode::{Episode, EpisodeError, Mode, Step, paths};
use crate::goal::Trajectory;
use crate::joints::{GoalSpace, GoalVec, JointVec, Row};
use crate::policy::{PolicyError, PolicySpec, Senses};
use crate::storage::Storage;

/// Ticks that may be missing between two steps of one trajectory.
const MAX_GAP: u64 = 3;
/// Shorter pieces teach nothing.
const MIN_STEPS: usize = 10;
/// A hand that holds a leader still moves it by no more than this (rad).
const STILL: f32 = 0.01;

/// The usable [`pieces`] of an episode, for a policy of this description.
///
/// The action at a time is the change of the goal positions that was really sent, not the one wished
/// for: what the gate changed or refused was never tried. Where the arm was led by hand, nothing was
/// sent: there it is the change of the measured positions. A step without a goal, before one was marked
/// or told in hindsight, has the episode's.
///
/// # Errors
/// The episode's joints or goals are not the policy's, or a number is not finite.
pub fn trajectories(episode: &Episode, spec: &PolicySpec) -> Result<Vec<Trajectory>, LearnError> {
    trajectories_of(episode, spec, pieces(episode))
}

/// The same of what a person showed to the policy that reached for the goal: the pieces in which they
/// steered, without the time at their end in which they held still to let go.
///
/// # Errors
/// As [`trajectories`].
pub fn corrections(episode: &Episode, spec: &PolicySpec) -> Result<Vec<Trajectory>, LearnError> {
    let by_person =
        pieces(episode).flat_map(|piece| piece.chunk_by(|a, b| a.intervention == b.intervention));
    let by_person = by_person.filter(|piece| piece.first().is_some_and(|step| step.intervention));
    let moved = by_person.map(until_still).filter(|piece| piece.len() >= MIN_STEPS);
    trajectories_of(episode, spec, moved)
}

/// A piece up to where the joints were sent at its end.
fn until_still(piece: &[Step]) -> &[Step] {
    let Some(last) = piece.last().map(commanded) else { return piece };
    let away = |step: &Step| commanded(step).iter().zip(last).any(|(a, b)| (a - b).abs() > STILL);
    let moving = piece.iter().rposition(away).map_or(0, |place| place + 1);
    piece.get(..=moving).unwrap_or(piece)
}

fn trajectories_of<'a>(
    episode: &Episode,
    spec: &PolicySpec,
    pieces: impl Iterator<Item = &'a [Step]>,
) -> Result<Vec<Trajectory>, LearnError> {
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
    let goal = episode.goal();
    pieces.map(|piece| trajectory(piece, &goal, spec, &places)).collect()
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
            // Where the system has no thread to give, they are read by this one.
            let spawn = |part| {
                let thread = Builder::new().spawn_scoped(scope, move || read_all(part));
                thread.map_err(|_| part)
            };
            let parts: Vec<_> = group.chunks(FILES).map(spawn).collect();
            let made = parts.into_iter().map(|part| match part {
                Ok(thread) => thread.join(),
                Err(part) => Ok(read_all(part)),
            });
            made.collect::<Vec<_>>()
        });
        for part in made {
            part.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
                .into_iter()
                .try_for_each(&mut take)?;
        }
    }
    Ok(())
}
