//! All that can be said of a policy file.

use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::finetunable::Finetunable;
use super::graph::GraphFacts;
use super::trial::{Trial, trial};
use crate::clock::Clock;
use crate::config::RobotConfig;
use crate::engine::Engine;
use crate::onnx::{Graph, OnnxError, Verified};
use crate::policy::{Policy, PolicyError, PolicySpec, id_of};

/// Runs per engine, and the longest time they may take together.
const RUNS: u64 = 200;
const LIMIT: Duration = Duration::from_secs(2);

/// All that can be said of a policy file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Facts {
    pub(super) id: String,
    pub(super) bytes: usize,
    /// The file passes the checks; else why not, and what to do.
    pub(super) verified: bool,
    pub(super) refusal: Option<Refusal>,
    /// None when the file cannot be read at all.
    pub(super) graph: Option<GraphFacts>,
    pub(super) trial: Option<Trial>,
    pub(super) finetunable: Option<Finetunable>,
    pub(super) spec: Option<PolicySpec>,
    /// Why there is no description.
    pub(super) no_spec: Option<String>,
    pub(super) robot: Option<Fit>,
}

/// Why a file is refused.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Refusal {
    pub(super) reason: String,
    pub(super) advice: &'static str,
}

/// Whether the policy is for a robot.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Fit {
    pub(super) name: String,
    pub(super) fits: bool,
    pub(super) reason: Option<String>,
}

impl Facts {
    /// Looks at a file and tries it.
    ///
    /// # Errors
    /// A verified graph that does not say its own inputs: a defect here.
    pub(super) fn of(
        file: &[u8],
        robot: Option<&RobotConfig>,
        engines: &[Engine],
        clock: &dyn Clock,
    ) -> Result<Self> {
        let mut facts = Self {
            id: id_of(file).to_string(),
            bytes: file.len(),
            verified: false,
            refusal: None,
            graph: Graph::from_bytes(file).ok().map(|graph| GraphFacts::of(&graph)),
            trial: None,
            finetunable: None,
            spec: None,
            no_spec: None,
            robot: None,
        };
        let graph = match Verified::from_bytes(file) {
            Ok(graph) => graph,
            Err(error) => {
                facts.refusal = Some(Refusal::of(&error));
                return Ok(facts);
            }
        };
        facts.verified = true;
        match PolicySpec::of(&graph) {
            Ok(spec) => facts.spec = Some(spec),
            Err(error) => facts.no_spec = Some(error.to_string()),
        }
        facts.trial = Some(trial(&graph, engines, clock, RUNS, LIMIT)?);
        let action = facts.spec.as_ref().map(|spec| spec.tensors.action.clone());
        let action = action.or_else(|| Some(graph.outputs().ok()?.first()?.name.clone()));
        facts.finetunable = action.map(|action| Finetunable::of(&graph, &action));
        facts.robot = robot.map(|robot| Fit::of(file, robot));
        Ok(facts)
    }
}

impl Fit {
    fn of(file: &[u8], robot: &RobotConfig) -> Self {
        let loaded = Policy::load(file, robot, &Engine::tract());
        // Which engine runs it is said elsewhere.
        let reason = match loaded {
            Ok(_) | Err(PolicyError::Engine(_)) => None,
            Err(error) => Some(error.to_string()),
        };
        Self { name: robot.name.clone(), fits: reason.is_none(), reason }
    }
}

impl Refusal {
    pub(super) fn of(error: &OnnxError) -> Self {
        let advice = match error {
            OnnxError::Decode(_) => "check that this is an ONNX file and whole, or export it again",
            OnnxError::Opset { .. } => {
                "export again with an opset in this range, such as torch.onnx.export(model, args, \
                 path, opset_version=18), or convert it with onnx.version_converter"
            }
            OnnxError::ExternalData { .. } => {
                "put the weights into the file: torch.onnx.export(..., external_data=False), or in \
                 Python onnx.save(onnx.load(path), path)"
            }
            OnnxError::UnknownOp { .. } => {
                "export only what computes the action: no sampling, no strings, no loops, no \
                 operators of other domains; replace what the node does by plain operators"
            }
            OnnxError::TooLarge { .. } => "export only what computes the action, in float32",
            OnnxError::Undefined { .. } | OnnxError::Duplicate { .. } => {
                "the exporter or a tool after it broke the file: onnx.checker.check_model(path) \
                 should say the same; export it again"
            }
            _ => {
                "export it again with torch.onnx.export(model, args, path, dynamo=True, \
                 optimize=False, external_data=False), all inputs and outputs float32 with a shape"
            }
        };
        Self { reason: error.to_string(), advice }
    }
}
