//! What a policy is for, written into its ONNX metadata.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::PolicyError;
use crate::config::RobotConfig;
use crate::onnx::{Dim, Graph, ValueInfo};

/// The metadata key that holds the [`PolicySpec`] as JSON.
pub const METADATA_KEY: &str = "regoal.policy";

/// Names of a policy's tensors.
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

/// One part of the observation row; each is one number per acting joint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ObservationTerm {
    /// Measured positions (rad).
    JointPosition,
    /// Measured velocities (rad/s).
    JointVelocity,
    /// The goal positions sent last (rad).
    SentPosition,
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

/// What goals are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GoalSpace {
    /// The tip's position in the base frame: x, y, z (m).
    EndEffectorPosition,
}

impl GoalSpace {
    /// Numbers in a goal.
    pub fn size(self) -> usize {
        match self {
            Self::EndEffectorPosition => 3,
        }
    }
}

/// What a policy is for and where it comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicySpec {
    /// Version of this description: 1.
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
        if spec.version != 1 {
            return Err(PolicyError::BadSpec(format!(
                "expected version 1, found {}",
                spec.version
            )));
        }
        spec.check_tensors(graph)?;
        Ok(spec)
    }

    /// The description as the text of its metadata entry.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Numbers in an observation row.
    pub fn observation_size(&self) -> usize {
        self.observation.len() * self.joints.len()
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
        match places {
            Some(places) if self.model == robot.model && same_rate => Ok(places),
            _ => Err(PolicyError::WrongRobot {
                policy: format!(
                    "{} at {} Hz with joints {}",
                    self.model,
                    self.rate_hz,
                    self.joints.join(", ")
                ),
                robot: format!(
                    "`{}`: {} at {} Hz with joints {}",
                    robot.name,
                    robot.model,
                    robot.control.rate_hz,
                    robot.joint.iter().map(|j| j.name.as_str()).collect::<Vec<_>>().join(", ")
                ),
            }),
        }
    }

    fn check_tensors(&self, graph: &Graph) -> Result<(), PolicyError> {
        let goal = self.goal_space.size();
        let inputs = [
            (tensor::OBSERVATION, self.observation_size()),
            (tensor::ACHIEVED_GOAL, goal),
            (tensor::DESIRED_GOAL, goal),
        ];
        let (found, expected): (Vec<_>, Vec<_>) = (
            graph.inputs()?.iter().map(row_of).collect(),
            inputs.iter().map(|(name, size)| ((*name).to_owned(), Some(*size))).collect(),
        );
        if found != expected {
            return Err(PolicyError::BadTensors {
                expected: format!("inputs {expected:?}"),
                found: format!("{found:?}"),
            });
        }
        let outputs: Vec<_> = graph.outputs()?.iter().map(row_of).collect();
        let action = vec![(tensor::ACTION.to_owned(), Some(self.joints.len()))];
        if outputs != action {
            return Err(PolicyError::BadTensors {
                expected: format!("outputs {action:?}"),
                found: format!("{outputs:?}"),
            });
        }
        Ok(())
    }
}

/// A tensor's name and the numbers in one of its rows, when it is `[N, fixed]`.
fn row_of(value: &ValueInfo) -> (String, Option<usize>) {
    let size = match value.dims.as_slice() {
        [_, Dim::Fixed(size)] => Some(*size),
        _ => None,
    };
    (value.name.clone(), size)
}
