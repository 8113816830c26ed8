//! Can this graph be fine-tuned? Differentiates a squared error of its action to see.

use serde::Serialize;

use crate::learn::finetune::lost_by_export;
use crate::onnx::{BehaviourCloning, Graph, TrainStep};

/// Rows in the batch that is tried: a graph that mixes its rows up does not pass for one that works.
const BATCH: usize = 2;

/// Whether a policy can be fine-tuned.
#[derive(Debug, Clone, Default, Serialize)]
pub(super) struct Finetunable {
    /// It can, and these many tensors and numbers would be trained.
    pub(super) possible: bool,
    pub(super) tensors: usize,
    pub(super) parameters: usize,
    /// Why it cannot: the node and the reason.
    pub(super) reason: Option<String>,
    /// Parameters that the export folded, transposed away or tied.
    pub(super) lost: Vec<String>,
}

impl Finetunable {
    /// Tries it on output `action`.
    pub(super) fn of(graph: &Graph, action: &str) -> Self {
        let how = BehaviourCloning {
            batch: graph.fixed_batch().ok().flatten().unwrap_or(BATCH),
            outputs: vec![action.into()],
            ..BehaviourCloning::default()
        };
        let lost = lost_by_export(graph).unwrap_or_default();
        match TrainStep::behaviour_cloning(graph, &how) {
            Ok(step) => {
                let slices = step.parameters();
                let numbers = slices.iter().map(|s| s.dims.iter().product::<usize>());
                Self {
                    possible: true,
                    tensors: slices.len(),
                    parameters: numbers.sum(),
                    reason: None,
                    lost,
                }
            }
            Err(error) => Self { reason: Some(error.to_string()), lost, ..Self::default() },
        }
    }
}
