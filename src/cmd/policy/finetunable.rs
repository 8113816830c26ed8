//! Can this graph be fine-tuned? Differentiates a squared error of its action to see.

use serde::Serialize;

use crate::learn::gcbc::FROZEN;
use crate::onnx::{Builder, Graph, OnnxError, Tensor, grad};

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
        match trained(graph, action) {
            Ok((tensors, parameters)) if tensors > 0 => {
                Self { possible: true, tensors, parameters, ..Self::default() }
            }
            Ok(_) => Self {
                reason: Some(format!("`{action}` depends on no f32 tensor of the file")),
                ..Self::default()
            },
            Err(error) => Self { reason: Some(error.to_string()), ..Self::default() },
        }
    }
}

/// How many tensors and numbers the mean squared action depends on.
fn trained(graph: &Graph, action: &str) -> Result<(usize, usize), OnnxError> {
    let graph = graph.with_batch(BATCH);
    let mut b = Builder::with_opset(graph.opset());
    let outputs = b.append(&graph, &[])?;
    let named = graph.outputs()?;
    let place = named.iter().position(|o| o.name == action);
    let action = place.and_then(|i| outputs.get(i).copied()).ok_or_else(|| {
        let found: Vec<_> = named.iter().map(|o| o.name.as_str()).collect();
        OnnxError::invalid("policy", format!("an output `{action}`"), found.join(", "))
    })?;
    let square = b.mul(action, action);
    let loss = b.reduce_mean(square, &[], false);
    let stored = graph.parameters()?;
    // Exporters use scalars for limits and small constants.
    let trained = |name: &str, t: &Tensor| !name.starts_with(FROZEN) && !t.dims.is_empty();
    let weights: Vec<_> = stored.iter().filter(|(name, t)| trained(name, t)).collect();
    let values: Vec<_> = weights.iter().filter_map(|(name, _)| b.value(name)).collect();
    let gradients = grad::gradients(&mut b, loss, &values)?;
    let used = weights.iter().zip(&gradients).filter(|(_, g)| g.is_some());
    Ok(used.fold((0, 0), |(n, sum), ((_, t), _)| (n + 1, sum + t.data.len())))
}
