//! What stands in an ONNX file, whether or not it can be used.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cmd::printable;
use crate::onnx::{Dim, Graph, OnnxError, ValueInfo};

/// What stands in a file.
#[derive(Debug, Clone, Serialize)]
pub(super) struct GraphFacts {
    pub(super) producer: Option<String>,
    pub(super) opset: i64,
    pub(super) ir_version: i64,
    pub(super) inputs: Vec<TensorFacts>,
    pub(super) outputs: Vec<TensorFacts>,
    pub(super) nodes: usize,
    pub(super) ops: BTreeMap<String, usize>,
    /// Numbers in f32 initializers, and those tensors by name.
    pub(super) parameters: usize,
    pub(super) tensors: BTreeMap<String, Vec<usize>>,
}

/// An input or output.
#[derive(Debug, Clone, Serialize)]
pub(super) struct TensorFacts {
    pub(super) name: String,
    pub(super) element: String,
    /// The size of each axis; none for the batch.
    pub(super) dims: Vec<Option<usize>>,
}

impl GraphFacts {
    /// Tensors of types that are not known here are left out: the verification names them.
    pub(super) fn of(graph: &Graph) -> Self {
        let tensors = |list: Result<Vec<ValueInfo>, OnnxError>| {
            list.unwrap_or_default().iter().map(TensorFacts::of).collect()
        };
        let mut ops = BTreeMap::new();
        for node in graph.nodes() {
            *ops.entry(printable(node.op())).or_default() += 1;
        }
        let stored = graph.parameters().unwrap_or_default();
        Self {
            producer: graph.producer().map(|name| printable(&name)),
            opset: graph.opset(),
            ir_version: graph.ir_version(),
            inputs: tensors(graph.inputs()),
            outputs: tensors(graph.outputs()),
            nodes: graph.nodes().len(),
            ops,
            parameters: stored.values().map(|t| t.data.len()).sum(),
            tensors: stored.into_iter().map(|(name, t)| (printable(&name), t.dims)).collect(),
        }
    }
}

impl TensorFacts {
    fn of(info: &ValueInfo) -> Self {
        let dim = |d: &Dim| if let Dim::Fixed(n) = d { Some(*n) } else { None };
        Self {
            name: printable(&info.name),
            element: format!("{:?}", info.element).to_lowercase(),
            dims: info.dims.iter().map(dim).collect(),
        }
    }
}

impl std::fmt::Display for TensorFacts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let dim = |d: &Option<usize>| d.map_or("N".to_owned(), |n| n.to_string());
        let dims: Vec<_> = self.dims.iter().map(dim).collect();
        write!(f, "{} [{}] {}", self.name, dims.join(", "), self.element)
    }
}
