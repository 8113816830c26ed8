//! A policy file that says where it comes from.

use std::collections::BTreeMap;

use anyhow::Result;
use serde::Serialize;

use super::arm;
use super::plan::Plan;
use super::row::Row;
use crate::config::RobotConfig;
use crate::joints::GoalSpace;
use crate::onnx::Graph;
use crate::policy::{METADATA_KEY, PolicySpec, Tensors, tensor};

/// The metadata key that holds the [`Provenance`] as JSON.
pub const KEY: &str = "regoal.training";

/// Where a policy comes from and what it reached.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Provenance {
    method: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    preset: Option<String>,
    env: String,
    seed: u64,
    steps: u64,
    env_steps: u64,
    episodes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    success_any: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success_last: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    success_held: Option<f64>,
    #[serde(rename = "return")]
    mean_return: f64,
    settings_sha256: String,
    engine: String,
    software: String,
}

impl Provenance {
    /// Of the policy that an evaluation looked at.
    pub fn new(plan: &Plan, row: &Row) -> Self {
        Self {
            method: plan.method.clone(),
            preset: plan.preset.clone(),
            env: plan.env.clone(),
            seed: plan.seeds.first().copied().unwrap_or(0),
            steps: row.steps,
            env_steps: row.env_steps,
            episodes: row.episodes,
            success_any: row.any,
            success_last: row.last,
            success_held: row.held,
            mean_return: row.mean_return,
            settings_sha256: plan.settings_hash(),
            engine: plan.engine.clone(),
            software: plan.software.clone(),
        }
    }
}

/// The policy's file: its provenance in the metadata and, for a robot, what the robot must know.
///
/// # Errors
/// The policy is none of this robot.
pub fn file(mut policy: Graph, from: &Provenance, robot: Option<&RobotConfig>) -> Result<Vec<u8>> {
    policy.set_metadata(KEY, &serde_json::to_string(from)?);
    if let Some(robot) = robot {
        let spec = spec(robot, &policy, from)?;
        spec.check(&policy)?;
        policy.set_metadata(METADATA_KEY, &spec.to_json());
    }
    Ok(policy.to_bytes())
}

/// What the robot must know.
fn spec(robot: &RobotConfig, policy: &Graph, from: &Provenance) -> Result<PolicySpec> {
    let inputs = policy.inputs()?;
    let takes = |name: &str| inputs.iter().any(|i| i.name == name).then(|| name.to_owned());
    let mut facts: BTreeMap<_, _> = serde_json::from_value(serde_json::to_value(from)?)?;
    facts.insert("max_delta".into(), robot.max_delta().into());
    let tensors = Tensors {
        achieved_goal: takes(tensor::ACHIEVED_GOAL),
        desired_goal: takes(tensor::DESIRED_GOAL),
        ..Tensors::default()
    };
    // What the environment `arm_reach` is about, whatever the robot's goals are now.
    Ok(arm::spec(robot, GoalSpace::EndEffectorPosition, tensors, facts))
}
