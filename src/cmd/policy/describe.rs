//! From a foreign file's tensors and the user's words to a description.

use anyhow::{Context as _, Result, bail, ensure};
use clap::Args as ClapArgs;

use crate::config::RobotConfig;
use crate::joints::GoalSpace;
use crate::kinematics::Chain;
use crate::onnx::{Graph, ValueInfo};
use crate::policy::tensors::row_of;
use crate::policy::{
    ActionKind, Chunk, ChunkMode, ObservationTerm, PolicySpec, StateTensor, Tensors, VERSION,
};

/// What the file does not say itself.
#[derive(Debug, Clone, Default, ClapArgs)]
#[command(next_help_heading = "For --write-spec")]
pub struct Words {
    /// What the action means: `joint_position` or `joint_delta`
    #[arg(long, value_name = "KIND", value_parser = word::<ActionKind>, requires = "write_spec")]
    action: Option<ActionKind>,
    /// What the observation row is made of, in order: `joint_position`, `joint_velocity`,
    /// `sent_position`, `achieved_goal`, `desired_goal`
    #[arg(long, value_name = "TERM,...", value_delimiter = ',', value_parser = word::<ObservationTerm>,
          requires = "write_spec")]
    observation: Vec<ObservationTerm>,
    /// The goal space: `ee_position` or `none`
    #[arg(long, value_name = "SPACE", value_parser = goal_space, requires = "write_spec")]
    goal: Option<GoalSpace>,
    /// The joints observed and moved; by default as many as there are actions, base first
    #[arg(long, value_name = "NAME,...", value_delimiter = ',', requires = "write_spec")]
    joints: Vec<String>,
    /// Which tensor is what: `observation=NAME`, `achieved_goal=NAME`, `desired_goal=NAME`,
    /// `action=NAME`; may be given several times. Not needed for the usual names, nor where only one
    /// tensor is left
    #[arg(long, value_name = "WHAT=NAME", value_parser = pair, requires = "write_spec")]
    tensor: Vec<(String, String)>,
    /// A tensor kept from tick to tick, zero at first; may be given several times
    #[arg(long, value_name = "INPUT=OUTPUT", value_parser = pair, requires = "write_spec")]
    state: Vec<(String, String)>,
    /// What is done with action chunks: `replan` or `ensemble`
    #[arg(long, value_name = "MODE", value_parser = word::<ChunkMode>, requires = "write_spec")]
    chunk: Option<ChunkMode>,
    /// Actions of a chunk used before the policy is asked again; by default half of them
    #[arg(long, value_name = "N", requires = "write_spec")]
    execute: Option<usize>,
    /// How fast newer chunks lose weight in an ensemble
    #[arg(long, value_name = "M", default_value_t = 0.01)]
    decay: f32,
}

/// A value as the description spells it.
fn word<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, String> {
    serde_json::from_value(text.into()).map_err(|e| e.to_string())
}

fn goal_space(text: &str) -> Result<GoalSpace, String> {
    if text == "ee_position" { Ok(GoalSpace::EndEffectorPosition) } else { word(text) }
}

fn pair(text: &str) -> Result<(String, String), String> {
    let (a, b) = text.split_once('=').ok_or("expected two names with `=` between them")?;
    Ok((a.to_owned(), b.to_owned()))
}

impl Words {
    /// The description of `graph` for `robot`.
    ///
    /// # Errors
    /// A word is missing, or names a tensor or joint that is not there.
    pub(super) fn spec(&self, graph: &Graph, robot: &RobotConfig) -> Result<PolicySpec> {
        let action = self.action.context("what does the action mean? say it with --action")?;
        ensure!(
            !self.observation.is_empty(),
            "what does the policy see? say it with --observation"
        );
        let goal_space =
            self.goal.context("does it take a goal? say --goal ee_position or none")?;
        let (inputs, outputs) = (graph.inputs()?, graph.outputs()?);
        let tensors = self.tensors(goal_space, &inputs, &outputs)?;
        let output = named(&outputs, &tensors.action)?;
        let chunk = self.chunk(output)?;
        let width = row_of(output) / chunk.as_ref().map_or(1, |c| c.horizon.max(1));
        let state = self.state.iter().map(|(input, output)| {
            let dims = named(&inputs, input)?.dims_at(1);
            Ok(StateTensor { input: input.clone(), output: output.clone(), dims })
        });
        let spec = PolicySpec {
            version: VERSION,
            model: robot.model.clone(),
            joints: self.joints(robot, width)?,
            rate_hz: robot.control.rate_hz,
            observation: self.observation.clone(),
            goal_space,
            action,
            tensors,
            chunk,
            state: state.collect::<Result<_>>()?,
            provenance: [
                ("producer".into(), graph.producer().into()),
                ("max_delta".into(), robot.max_delta().into()),
            ]
            .into(),
        };
        Ok(spec)
    }

    fn tensors(
        &self,
        goal_space: GoalSpace,
        inputs: &[ValueInfo],
        outputs: &[ValueInfo],
    ) -> Result<Tensors> {
        let usual = Tensors::default();
        let said = |what: &str| {
            self.tensor.iter().find(|(key, _)| key == what).map(|(_, name)| name.clone())
        };
        let known = ["observation", "achieved_goal", "desired_goal", "action"];
        if let Some((what, _)) = self.tensor.iter().find(|(key, _)| !known.contains(&key.as_str()))
        {
            bail!("--tensor {what}: expected one of {}", known.join(", "));
        }
        let goal = |what: &str, usual: Option<String>| {
            let there = usual.filter(|name| inputs.iter().any(|i| i.name == *name));
            said(what).or(there).filter(|_| goal_space != GoalSpace::None)
        };
        let achieved_goal = goal("achieved_goal", usual.achieved_goal);
        let desired_goal = goal("desired_goal", usual.desired_goal);
        let mut taken: Vec<&String> =
            [&achieved_goal, &desired_goal].into_iter().flatten().collect();
        taken.extend(self.state.iter().map(|(input, _)| input));
        let given: Vec<&String> = self.state.iter().map(|(_, output)| output).collect();
        let observation = said("observation")
            .map_or_else(|| left(inputs, &usual.observation, &taken, "observation"), Ok)?;
        let action =
            said("action").map_or_else(|| left(outputs, &usual.action, &given, "action"), Ok)?;
        Ok(Tensors { observation, achieved_goal, desired_goal, action })
    }

    /// A third axis is a chunk's.
    fn chunk(&self, action: &ValueInfo) -> Result<Option<Chunk>> {
        let horizon = match action.dims_at(1).as_slice() {
            [_, k, _] if *k > 1 || self.chunk.is_some() => *k,
            _ if self.chunk.is_some() || self.execute.is_some() => {
                bail!("--chunk: expected an action [N, k, a], found {:?}", action.dims)
            }
            _ => return Ok(None),
        };
        let mode = self.chunk.unwrap_or(ChunkMode::Replan);
        let (execute, decay) = match mode {
            ChunkMode::Replan => (self.execute.unwrap_or(horizon.div_ceil(2)), 0.0),
            ChunkMode::Ensemble => (1, self.decay),
        };
        Ok(Some(Chunk { horizon, mode, execute, decay }))
    }

    fn joints(&self, robot: &RobotConfig, width: usize) -> Result<Vec<String>> {
        if !self.joints.is_empty() {
            return Ok(self.joints.clone());
        }
        let arm = Chain::of(robot)?.joints();
        ensure!(
            width == arm || width == robot.joint.len(),
            "the policy moves {width} joints, the arm has {arm} and with its tool {}: name them with \
             --joints",
            robot.joint.len()
        );
        Ok(robot.joint.iter().take(width).map(|j| j.name.clone()).collect())
    }
}

fn named<'a>(list: &'a [ValueInfo], name: &str) -> Result<&'a ValueInfo> {
    list.iter().find(|info| info.name == name).with_context(|| {
        let found: Vec<_> = list.iter().map(|info| info.name.as_str()).collect();
        format!("expected a tensor `{name}`, found {}", found.join(", "))
    })
}

/// The tensor of the usual name, or the only one that nothing else is known of.
fn left(list: &[ValueInfo], usual: &str, taken: &[&String], what: &str) -> Result<String> {
    if list.iter().any(|info| info.name == usual) {
        return Ok(usual.to_owned());
    }
    let rest: Vec<_> = list.iter().map(|i| &i.name).filter(|name| !taken.contains(name)).collect();
    match rest.as_slice() {
        [one] => Ok((*one).clone()),
        several => {
            let names: Vec<_> = several.iter().map(|name| name.as_str()).collect();
            bail!("which tensor is the {what}? Say --tensor {what}=NAME: {}", names.join(", "))
        }
    }
}
