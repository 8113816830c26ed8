//! The robot's episodes over the API: summaries, curves, labels.

use std::path::PathBuf;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::{Code, ErrorReply, finite};
use super::operation::Body;
use super::text::is_name;
use crate::episode::{
    Episode, EpisodeError, EpisodeHeader, Outcome, PolicyId, Source, Split, Step, Summary, amend,
    episode_number, paths, reason, summary,
};
use crate::joints::JointVec;
use crate::storage::Storage;

/// Where a robot's episodes are.
#[derive(Clone)]
pub struct Episodes {
    /// The files.
    pub storage: Arc<dyn Storage>,
    /// Their folder.
    pub folder: PathBuf,
}

/// Which episodes.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Page {
    /// So many of the newest are passed over.
    pub(super) offset: usize,
    /// So many are told of: 1 to 200, 50 if absent.
    pub(super) count: Option<usize>,
}

/// How finely an episode is shown.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Detail {
    /// The most points of a curve: 2 to 2000, 500 if absent.
    pub(super) points: Option<usize>,
}

/// Some episodes, the newest first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct EpisodePage {
    /// How many there are.
    pub total: usize,
    /// Those asked for.
    pub episodes: Vec<EpisodeSummary>,
}

/// What an episode was, and how it ended.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EpisodeSummary {
    /// Its number in `GET /v1/episodes/{id}`.
    pub id: u64,
    /// Its file's length (bytes).
    pub bytes: u64,
    /// Steps in it.
    pub steps: u64,
    /// From the first step to the last (s).
    pub seconds: f64,
    /// The date of its begin (s since 1970, UTC).
    pub started_s: f64,
    /// What it was for, in words.
    pub task: String,
    /// Who moved the robot: `demonstration`, `attempt`, `run`, `evaluation`.
    pub source: String,
    /// What learning may use it for: `training`, `validation`.
    pub split: String,
    /// The policy at its begin; none when none steered.
    pub policy: Option<String>,
    /// Whether the goal was reached; none when nobody can tell.
    pub success: Option<bool>,
    /// The distance from the goal at its end (m or rad).
    pub distance: Option<f32>,
    /// Why it ended.
    pub reason: String,
    /// What is wrong with the file.
    pub damage: Option<String>,
}

/// An episode and its curves: each value stands at the time of the same place.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
pub struct EpisodeCurves {
    /// What it was.
    pub summary: EpisodeSummary,
    /// The joints' names.
    pub joints: Vec<String>,
    /// Since the first step (s).
    pub time_s: Vec<f64>,
    /// Measured positions (rad), a curve a joint.
    pub positions_rad: Vec<Vec<Option<f32>>>,
    /// Positions written to the servos (rad), a curve a joint.
    pub sent_rad: Vec<Vec<Option<f32>>>,
    /// The goal achieved, at each time.
    pub achieved_goal: Vec<Vec<Option<f32>>>,
    /// The goal wished for, at each time; empty while there was none.
    pub desired_goal: Vec<Vec<Option<f32>>>,
    /// A person steered, at each time.
    pub intervention: Vec<bool>,
}

/// How an episode ended, as a person says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The goal was reached.
    Success,
    /// It was not.
    Failure,
    /// Nobody can tell.
    Unknown,
}

impl Verdict {
    /// Whether the goal was reached, as far as is known.
    pub fn success(self) -> Option<bool> {
        match self {
            Self::Success => Some(true),
            Self::Failure => Some(false),
            Self::Unknown => None,
        }
    }
}

/// What a person says of an episode: the body of `POST /v1/episodes/{id}/label`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Label {
    /// How it ended.
    pub outcome: Option<Verdict>,
    /// What it was for, in words: 1 to 64 characters.
    pub task: Option<String>,
    /// What learning may use it for.
    pub split: Option<Split>,
}

impl Body for Label {
    const EXAMPLE: &'static str = r#"{"outcome": "success" or "failure" or "unknown", "task": "WORDS", "split": "training" or "validation"}"#;
}

impl Label {
    /// Writes it into what is said of an episode.
    pub fn apply(&self, header: &mut EpisodeHeader, outcome: &mut Option<Outcome>) {
        if let Some(task) = &self.task {
            header.task.clone_from(task);
        }
        header.split = self.split.unwrap_or(header.split);
        if let Some(verdict) = self.outcome {
            let outcome = outcome.get_or_insert_default();
            outcome.success = verdict.success();
            if outcome.reason.is_empty() {
                outcome.reason = reason("labelled");
            }
        }
    }
}

/// The longest file that is read for its curves (bytes): an hour at 100 Hz is less.
const READ_LIMIT: u64 = 64 << 20;

impl Episodes {
    pub(super) fn page(&self, page: Page) -> Result<EpisodePage, ErrorReply> {
        let count = in_range("count", page.count.unwrap_or(50), 1, 200)?;
        let paths = paths(self.storage.as_ref(), &self.folder)?;
        let chosen = paths.iter().rev().skip(page.offset).take(count);
        let summarize = |path: &PathBuf| -> Result<_, ErrorReply> {
            Ok((&summary(self.storage.as_ref(), path.clone())?).into())
        };
        Ok(EpisodePage {
            total: paths.len(),
            episodes: chosen.map(summarize).collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn curves(&self, id: u64, detail: Detail) -> Result<EpisodeCurves, ErrorReply> {
        let points = in_range("points", detail.points.unwrap_or(500), 2, 2000)?;
        let path = self.find(id)?;
        let summary = summary(self.storage.as_ref(), path.clone())?;
        if summary.bytes > READ_LIMIT {
            let error = format!(
                "expected an episode of at most {READ_LIMIT} bytes, found {}: `regoal episodes show`",
                summary.bytes
            );
            return Err(ErrorReply::new(Code::TooLong, error));
        }
        let episode = Episode::read(self.storage.as_ref(), &path)?;
        Ok(EpisodeCurves::of((&summary).into(), &episode, points))
    }

    pub(super) fn label(&self, id: u64, label: &Label) -> Result<(), ErrorReply> {
        let bad = |error: &str| Err(ErrorReply::new(Code::BadRequest, error));
        if *label == Label::default() {
            return bad("expected `outcome`, `task` or `split`, found none of them");
        }
        if label.task.as_ref().is_some_and(|task| !is_name(task)) {
            return bad("task: expected 1 to 64 characters, none of them hidden");
        }
        let path = self.find(id)?;
        amend(self.storage.as_ref(), &path, |header, outcome| label.apply(header, outcome))?;
        Ok(())
    }

    /// The file of an episode: one of the folder, whatever number was asked for.
    fn find(&self, id: u64) -> Result<PathBuf, ErrorReply> {
        let paths = paths(self.storage.as_ref(), &self.folder)?;
        paths.into_iter().find(|path| episode_number(path) == Some(id)).ok_or_else(|| {
            ErrorReply::new(Code::NotFound, format!("no episode has the number {id}"))
        })
    }
}

fn in_range(name: &str, found: usize, least: usize, most: usize) -> Result<usize, ErrorReply> {
    if (least..=most).contains(&found) {
        return Ok(found);
    }
    let error = format!("{name}: expected {least} to {most}, found {found}");
    Err(ErrorReply::new(Code::BadRequest, error))
}

impl From<&Summary> for EpisodeSummary {
    fn from(found: &Summary) -> Self {
        let header = found.header.clone().unwrap_or_default();
        let outcome = found.outcome.clone().unwrap_or_default();
        let source: Source = header.source;
        let split: Split = header.split;
        Self {
            id: episode_number(&found.path).unwrap_or(header.number),
            bytes: found.bytes,
            steps: found.steps,
            seconds: found.duration.as_secs_f64(),
            started_s: header.started.0 as f64 * 1e-9,
            task: header.task,
            source: source.to_string(),
            split: split.to_string(),
            policy: (header.policy != PolicyId::default()).then(|| header.policy.to_string()),
            success: outcome.success,
            distance: outcome.final_distance.and_then(finite),
            reason: outcome.reason.as_str().into(),
            damage: found.damage.map(|damage| damage.to_string()),
        }
    }
}

impl EpisodeCurves {
    /// The curves of an episode with at most so many points: every so many steps, and the last one.
    pub fn of(summary: EpisodeSummary, episode: &Episode, points: usize) -> Self {
        let steps = &episode.steps;
        let stride = steps.len().div_ceil(points.saturating_sub(1).max(1)).max(1);
        let last = steps.len().saturating_sub(1);
        let chosen: Vec<&Step> = steps
            .iter()
            .enumerate()
            .filter(|(i, _)| i % stride == 0 || *i == last)
            .map(|(_, step)| step)
            .collect();
        let start = steps.first().map(|step| step.time).unwrap_or_default();
        let by_joint = |of: fn(&Step) -> &JointVec<f32>| -> Vec<Vec<Option<f32>>> {
            let one =
                |joint| chosen.iter().map(|s| of(s).get(joint).copied().and_then(finite)).collect();
            (0..episode.header.joints.len()).map(one).collect()
        };
        let numbers = |goal: &[f32]| goal.iter().copied().map(finite).collect::<Vec<_>>();
        Self {
            summary,
            joints: episode.header.joints.clone(),
            time_s: chosen.iter().map(|step| step.time.since(start).as_secs_f64()).collect(),
            positions_rad: by_joint(|step| &step.position),
            sent_rad: by_joint(|step| &step.sent),
            achieved_goal: chosen.iter().map(|step| numbers(&step.achieved_goal)).collect(),
            desired_goal: chosen.iter().map(|step| numbers(&step.desired_goal)).collect(),
            intervention: chosen.iter().map(|step| step.intervention).collect(),
        }
    }
}

impl From<EpisodeError> for ErrorReply {
    fn from(e: EpisodeError) -> Self {
        let code = match &e {
            EpisodeError::NoEpisode { .. } | EpisodeError::Damaged { .. } => Code::Refused,
            EpisodeError::TooLarge { .. } => Code::TooLong,
            _ => Code::NoAnswer,
        };
        // Names of folders are nobody's business but the daemon's.
        log::warn!("an episode was asked for: {}", super::printable(&e.to_string()));
        Self::new(code, "this episode cannot be read: `regoal episodes check` says why")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::joints::stack;

    fn episode(steps: u64) -> Episode {
        let header =
            EpisodeHeader { joints: vec!["pan".into(), "lift".into()], ..Default::default() };
        let step = |tick: u64| Step {
            tick,
            time: Time(1_000 + tick * 10_000_000),
            position: stack([tick as f32, f32::NAN]),
            achieved_goal: stack([0.1, 0.2, 0.3]),
            ..Step::default()
        };
        let steps = (0..steps).map(step).collect();
        Episode { header, steps, inputs: Vec::new(), outcome: None, damage: None }
    }

    #[test]
    fn a_curve_has_few_points_the_first_and_the_last_among_them() {
        for (steps, points) in [(0, 5), (1, 5), (5, 5), (1000, 2), (1000, 7), (1001, 500)] {
            let found = EpisodeCurves::of(EpisodeSummary::default(), &episode(steps), points);
            let n = found.time_s.len();
            assert!(n <= points && n as u64 <= steps, "{steps} {points}: {n}");
            let of = |joint: usize| found.positions_rad.get(joint).unwrap();
            assert!([of(0).len(), of(1).len(), found.intervention.len()].iter().all(|x| *x == n));
            if steps > 0 {
                assert_eq!(found.time_s.first(), Some(&0.0));
                assert_eq!(*of(0).last().unwrap(), Some((steps - 1) as f32));
                assert_eq!(*of(1).last().unwrap(), None, "JSON has no number for it");
            }
        }
    }
}
