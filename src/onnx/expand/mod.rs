//! Rewrites operators that have no gradient of their own as plain nodes that have one: recurrent
//! layers step by step, Einsum as a product, root mean square normalisation as its formula, the scale
//! and bias of batch normalisation.
//!
//! The rewritten graph computes the same. It is larger, so it is for training only: the exported
//! policy keeps its own nodes.

mod batch_norm;
mod cell;
mod einsum;
mod recurrent;

use std::collections::HashMap;

use super::builder::{Builder, Value};
use super::infer::Info;
use super::names::Names;
use super::proto::{NodeProto, TensorProto};
use super::{Dim, Graph, Limits, OnnxError};

/// The same function without GRU, LSTM, RNN and Einsum, and with scale and bias of batch
/// normalisation as nodes of their own. All other nodes, names and metadata stay as they are.
///
/// # Errors
/// When the shape of such a node's input is not fixed ([`Graph::with_batch`]), when it uses what
/// cannot be rewritten (sequences of different lengths, peepholes, more than two operands), when the result would have too many nodes, or when the graph breaks
/// a rule of [`verify`](super::verify).
pub fn expand(graph: &Graph) -> Result<Graph, OnnxError> {
    if !graph.nodes().iter().any(|node| is_rewritten(graph, node)) {
        return Ok(graph.clone());
    }
    let mut shapes = Builder::with_opset(graph.opset());
    shapes.append(graph, &[])?;
    let mut names = Names::of(&graph.graph);
    let mut result = graph.clone();
    result.graph.node.clear();
    for node in graph.nodes() {
        if is_rewritten(graph, node) {
            let infos = node.input.iter().map(|name| shapes.info(shapes.value(name)?));
            let call = Call { graph, node, infos: infos.map(Option::<&Info>::cloned).collect() };
            result.graph.node.extend(call.nodes(&mut names)?);
        } else {
            result.graph.node.push(node.clone());
        }
        let (limit, found) = (Limits::default().max_nodes, result.nodes().len());
        if found > limit {
            let what = format!("nodes up to the end of `{}`", node.label());
            return Err(OnnxError::TooLarge { what, limit, found });
        }
    }
    Ok(result)
}

/// Whether [`expand`] writes a node out.
pub(super) fn is_rewritten(graph: &Graph, node: &NodeProto) -> bool {
    let op = match node.op() {
        "GRU" | "LSTM" | "RNN" | "Einsum" => true,
        // Rewritten, its scale is a constant.
        "BatchNormalization" => {
            let scale = node.input.get(1);
            let makes_scale = |other: &NodeProto| scale.is_some_and(|s| other.output.contains(s));
            !graph.nodes().iter().any(|other| other.op() == "Constant" && makes_scale(other))
        }
        _ => false,
    };
    op && matches!(node.domain.as_deref(), None | Some("" | "ai.onnx"))
}

/// A node to be rewritten.
struct Call<'a> {
    graph: &'a Graph,
    node: &'a NodeProto,
    infos: Vec<Option<Info>>,
}

impl Call<'_> {
    /// The nodes to put in its place.
    fn nodes(&self, names: &mut Names) -> Result<Vec<NodeProto>, OnnxError> {
        let mut b = Builder::with_opset(self.graph.opset());
        let mut bound = HashMap::new();
        let mut inputs = Vec::new();
        for (index, (name, info)) in self.node.input.iter().zip(&self.infos).enumerate() {
            inputs.push(info.as_ref().map(|info| {
                let inner = format!("input_{index}");
                let value = b.input_of(&inner, info.clone());
                bound.insert(inner, name.clone());
                value
            }));
        }
        let outputs = match self.node.op() {
            "BatchNormalization" => vec![Some(self.batch_normalization(&mut b, &inputs)?)],
            "Einsum" => vec![Some(self.einsum(&mut b, &inputs)?)],
            _ => self.recurrent(&mut b, &inputs)?,
        };
        for (index, (name, value)) in self.node.output.iter().zip(outputs).enumerate() {
            if let Some(value) = value.filter(|_| !name.is_empty()) {
                let inner = format!("output_{index}");
                b.output(&inner, value);
                bound.insert(inner, name.clone());
            }
        }
        let body = b.finish()?.graph.node.into_iter();
        Ok(body.map(|node| names.rename(node, self.node.label(), &mut bound)).collect())
    }

    fn wrong(&self, expected: impl Into<String>, found: impl std::fmt::Display) -> OnnxError {
        let at = format!("node `{}` ({})", self.node.label(), self.node.op());
        OnnxError::invalid(at, expected, found)
    }

    fn input(&self, inputs: &[Option<Value>], index: usize) -> Result<Value, OnnxError> {
        let input = inputs.get(index).copied().flatten();
        input.ok_or_else(|| self.wrong(format!("an input {index}"), "none"))
    }

    /// The sizes of an input's axes, all of them fixed.
    fn sizes(&self, index: usize) -> Result<Vec<i64>, OnnxError> {
        let dims = self.infos.get(index).and_then(|info| info.as_ref()?.dims.as_ref());
        let fixed = |d: &Dim| if let Dim::Fixed(n) = d { Some(*n as i64) } else { None };
        let sizes = dims.and_then(|dims| dims.iter().map(fixed).collect());
        let expected = || format!("fixed sizes of input {index}, so a fixed batch");
        sizes.ok_or_else(|| self.wrong(expected(), format!("{dims:?}")))
    }

    /// The value of an input, if it is stored in the file.
    fn stored(&self, index: usize) -> Option<&TensorProto> {
        let name = self.node.input.get(index)?;
        let initializers = &self.graph.graph.initializer;
        let initializer = initializers.iter().find(|t| t.name.as_ref() == Some(name));
        initializer.or_else(|| {
            let made = |node: &&NodeProto| node.op() == "Constant" && node.output.contains(name);
            self.graph.nodes().iter().find(made)?.tensor("value")
        })
    }
}
