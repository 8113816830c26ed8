//! Checks a graph before any engine sees it: parse, don't validate.
//!
//! Engines may panic on a name nobody produces or never return from an absurd axis, so only
//! [`Verified`] graphs reach them, and only this module makes one.

use std::ops::Deref;

use super::{Builder, Graph, OnnxError};

/// What a graph may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// The largest file, in bytes.
    pub max_bytes: usize,
    /// The most nodes.
    pub max_nodes: usize,
    /// The most elements of one value, counted with a batch of 1.
    pub max_elements: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_bytes: 512 << 20, max_nodes: 20_000, max_elements: 128 << 20 }
    }
}

/// The operator sets we read.
const OPSETS: std::ops::RangeInclusive<i64> = 13..=23;

/// A graph that any engine can be given: every name resolved and unique, nodes in order of use,
/// known operators of a known opset, shapes and axes that fit, weights inside and whole.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified(Graph);

impl Verified {
    /// Decodes and checks an ONNX file with the default limits.
    ///
    /// # Errors
    /// When the file is not ONNX or breaks a rule of [`verify`].
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, OnnxError> {
        let limits = Limits::default();
        at_most("file size in bytes", bytes.len(), limits.max_bytes)?;
        verify(Graph::from_bytes(bytes)?, &limits)
    }

    /// The graph, free to be changed: it must be verified again before an engine runs it.
    pub fn into_graph(self) -> Graph {
        self.0
    }
}

impl Deref for Verified {
    type Target = Graph;
    fn deref(&self) -> &Graph {
        &self.0
    }
}

impl TryFrom<Graph> for Verified {
    type Error = OnnxError;
    fn try_from(graph: Graph) -> Result<Self, OnnxError> {
        verify(graph, &Limits::default())
    }
}

/// Checks a graph.
///
/// # Errors
/// The first rule that the graph breaks, with the place and what was expected.
pub fn verify(graph: Graph, limits: &Limits) -> Result<Verified, OnnxError> {
    at_most("nodes", graph.nodes().len(), limits.max_nodes)?;
    if !OPSETS.contains(&graph.opset()) {
        return Err(OnnxError::Opset {
            min: *OPSETS.start(),
            max: *OPSETS.end(),
            found: graph.opset(),
        });
    }
    refuse_exotic(&graph)?;
    if graph.outputs()?.is_empty() {
        return Err(OnnxError::invalid("graph", "at least one output", "none"));
    }
    Builder::with_opset(graph.opset()).with_limits(*limits).append(&graph, &[])?;
    Ok(Verified(graph))
}

/// Parts of the format that engines read and we do not check.
fn refuse_exotic(graph: &Graph) -> Result<(), OnnxError> {
    let model = &graph.model;
    let exotic = [
        ("functions", model.functions.len()),
        ("training graphs", model.training_info.len()),
        ("sparse initializers", graph.graph.sparse_initializer.len()),
        ("quantization annotations", graph.graph.quantization_annotation.len()),
    ];
    match exotic.iter().find(|(_, count)| *count > 0) {
        Some((what, count)) => Err(OnnxError::invalid("model", format!("no {what}"), count)),
        None => Ok(()),
    }
}

fn at_most(what: &str, found: usize, limit: usize) -> Result<(), OnnxError> {
    if found <= limit {
        Ok(())
    } else {
        Err(OnnxError::TooLarge { what: what.into(), limit, found })
    }
}
