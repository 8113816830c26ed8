//! What a policy is for, written into its ONNX metadata.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::tensors::Binding;
use super::{Chunk, PolicyError, StateTensor, Tensors};
use crate::config::RobotConfig;
use crate::joints::{GoalSpace, MAX_JOINTS, MAX_ROW};
use crate::onnx::Graph;

/// The metadata key that holds the [`PolicySpec`] as JSON.
pub const METADATA_KEY: &str = "regoal.policy";

/// The newest version of the description.
pub const VERSION: u32 = 2;

/// The usual names of a policy's tensors: see [`Tensors`].
pub mod tensor {
    /// Input `[N, o]`: see [`PolicySpec::observation`](super::PolicySpec::observation).
    pub const OBSERVATION: &str = "observation";
    /// Input `[N, g]`: the goal achieved at the observation.
    pub const ACHIEVED_GOAL: &str = "achieved_goal";
    /// Input `[N, g]`: the goal wished for.
    pub const DESIRED_GOAL: &str = "desired_goal";
    /// Output `[N, a]`: see [`PolicySpec::action`](super::PolicySpec::action).
    pub const ACTION: &str = "action";
}

/// One part of the observation row: one number per acting joint, or a goal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObservationTerm {
    /// Measured positions (rad).
    JointPosition,
    /// Measured velocities (rad/s).
    JointVelocity,
    /// The goal positions sent last (rad).
    SentPosition,
    /// The goal achieved now, for a policy that takes all in one tensor.
    AchievedGoal,
    /// The goal wished for, likewise.
    DesiredGoal,
}

/// What an action means; always SI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ActionKind {
    /// Goal positions (rad).
    JointPosition,
    /// Changes of the goal positions sent last, per tick (rad).
    #[default]
    JointDelta,
}

/// What a policy is for and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicySpec {
    /// Version of this description: 1, or 2 with tensors of other names, chunks or state.
    pub version: u32,
    /// The robot's kinematic model.
    pub model: String,
    /// The joints observed and moved, base first; other joints of the arm hold.
    pub joints: Vec<String>,
    /// Ticks per second.
    pub rate_hz: f64,
    /// The observation row: these terms, one after the other.
    pub observation: Vec<ObservationTerm>,
    /// The goal space.
    pub goal_space: GoalSpace,
    /// What the action means.
    pub action: ActionKind,
    /// The names of the tensors.
    #[serde(default, skip_serializing_if = "is_default")]
    pub tensors: Tensors,
    /// The policy answers with this many actions at once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub chunk: Option<Chunk>,
    /// What a recurrent policy keeps from one tick to the next.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub state: Vec<StateTensor>,
    /// Training provenance: method, data, seeds, success rates.
    #[serde(default)]
    pub provenance: BTreeMap<String, serde_json::Value>,
}

impl PolicySpec {
    /// Reads the description from a graph and checks it against the graph's tensors.
    ///
    /// # Errors
    /// No description, not valid, or the tensors differ from it.
    pub fn of(graph: &Graph) -> Result<Self, PolicyError> {
        let metadata = graph.metadata();
        let json = metadata.get(METADATA_KEY).ok_or(PolicyError::NoSpec)?;
        let spec: Self =
            serde_json::from_str(json).map_err(|e| PolicyError::BadSpec(e.to_string()))?;
        spec.check(graph)?;
        Ok(spec)
    }

    /// Checks the description itself, and against the tensors of its graph.
    ///
    /// # Errors
    /// Not valid, or the tensors differ from it.
    pub fn check(&self, graph: &Graph) -> Result<(), PolicyError> {
        let bad = |what: String| Err(PolicyError::BadSpec(what));
        if !(1..=VERSION).contains(&self.version) {
            return bad(format!("expected version 1 to {VERSION}, found {}", self.version));
        }
        if !(1..=MAX_JOINTS).contains(&self.joints.len()) {
            return bad(format!("joints: expected 1 to {MAX_JOINTS}, found {}", self.joints.len()));
        }
        if !(1..=MAX_ROW).contains(&self.observation_size()) {
            let found = self.observation_size();
            return bad(format!("observation: expected 1 to {MAX_ROW} numbers, found {found}"));
        }
        let goal = |t: &ObservationTerm| {
            matches!(t, ObservationTerm::AchievedGoal | ObservationTerm::DesiredGoal)
        };
        if self.goal_space == GoalSpace::None && self.observation.iter().any(goal) {
            return bad("observation: expected no goal without a goal space".into());
        }
        self.chunk().check()?;
        Binding::of(self, graph).map(drop)
    }

    /// What is done with the policy's answers: without chunks, one action at a time.
    pub fn chunk(&self) -> Chunk {
        self.chunk.clone().unwrap_or_default()
    }

    /// The description as the text of its metadata entry.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Numbers in a goal.
    pub fn goal_size(&self) -> usize {
        self.goal_space.size(self.joints.len())
    }

    /// Numbers in an observation row.
    pub fn observation_size(&self) -> usize {
        self.observation.iter().map(|term| self.term_size(*term)).sum()
    }

    /// Where a term begins in the observation row.
    pub fn offset_of(&self, term: ObservationTerm) -> Option<usize> {
        let place = self.observation.iter().position(|t| *t == term)?;
        Some(self.observation.iter().take(place).map(|term| self.term_size(*term)).sum())
    }

    fn term_size(&self, term: ObservationTerm) -> usize {
        match term {
            ObservationTerm::AchievedGoal | ObservationTerm::DesiredGoal => self.goal_size(),
            _ => self.joints.len(),
        }
    }

    /// Each acting joint's place among the robot's joints.
    ///
    /// # Errors
    /// The policy is for another robot; the message names both.
    pub fn joint_places(&self, robot: &RobotConfig) -> Result<Vec<usize>, PolicyError> {
        let places: Option<Vec<usize>> = self
            .joints
            .iter()
            .map(|name| robot.joint.iter().position(|joint| joint.name == *name))
            .collect();
        let same_rate = (self.rate_hz - robot.control.rate_hz).abs() < 1e-6;
        let space = robot.control.goal_space;
        // Goals of joints are of all of them, in the robot's order.
        let same_goals = self.goal_space == GoalSpace::None
            || self.goal_space == space && self.goal_size() == space.size(robot.joint.len());
        match places {
            Some(places) if self.model == robot.model && same_rate && same_goals => Ok(places),
            _ => Err(PolicyError::WrongRobot {
                policy: format!(
                    "{} at {} Hz with joints {} and goals of {}",
                    self.model,
                    self.rate_hz,
                    self.joints.join(", "),
                    self.goal_space.name()
                ),
                robot: format!(
                    "`{}`: {} at {} Hz with joints {} and goals of {}",
                    robot.name,
                    robot.model,
                    robot.control.rate_hz,
                    robot.joint.iter().map(|j| j.name.as_str()).collect::<Vec<_>>().join(", "),
                    space.name()
                ),
            }),
        }
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
